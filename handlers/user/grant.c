/*
 * What a session gives its client: an access token, which proves for some
 * minutes who is asking, and a refresh token for the next one.
 *
 * A browser may have both as cookies, which its scripts cannot read. They go
 * along with requests that other sites make it send, too, so a token of a
 * cookie counts for a change only beside the csrf_token, which other sites
 * cannot read either (shared/auth.c).
 */
#include "handlers/user/session.h"
#include "handlers/user/user.h"

#include "shared/auth.h"
#include "shared/clock.h"
#include "shared/json.h"

#define NONCE_BYTES 9

/* The prefix __Host- demands Secure and the path /, and forbids a domain. */
static void
put_cookie(struct req *r, const char *name, const char *value, int64_t seconds)
{
	reply_field(r, "Set-Cookie",
	    "%s=%s; Path=/; Max-Age=%lld; Secure; HttpOnly; SameSite=Strict",
	    name, value, (long long)seconds);
}

static const char *
access_token(struct req *r, const struct session *s)
{
	struct token_claims claims = { .sub = s->user_id,
		.role = role_from_name(s->role),
		.iat = clock_ms() / 1000 };

	claims.exp = claims.iat + user_settings.token_seconds;
	snprintf(claims.jti, sizeof(claims.jti), "%lld.%s", (long long)s->id,
	    random_text(r->arena, NONCE_BYTES));
	return token_issue(r->arena, &user_signer,
	    r->ctx->app->settings.public_url, &claims);
}

enum err
reply_tokens(struct req *r, int status, const struct session *s)
{
	const char *token = access_token(r, s);
	struct buf *b = reply_json(r, status);

	json_open(b, NULL, '{');
	if (s->by_cookie) {
		put_cookie(r, AUTH_COOKIE, token, user_settings.token_seconds);
		put_cookie(r, AUTH_COOKIE_REFRESH, s->refresh_token,
		    user_settings.session_days * CLOCK_DAY / CLOCK_SECOND);
		json_text(b, "csrf_token", auth_csrf_token(r, s->id));
	} else {
		json_text(b, "token", token);
		json_text(b, "token_type", "Bearer");
		json_text(b, "refresh_token", s->refresh_token);
	}
	json_int(b, "expires_in", user_settings.token_seconds);
	json_int(b, "user_id", s->user_id);
	json_close(b, '}');
	return OK;
}

void
reply_no_cookies(struct req *r)
{
	put_cookie(r, AUTH_COOKIE, "", 0);
	put_cookie(r, AUTH_COOKIE_REFRESH, "", 0);
}
