#include "shared/auth.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/seen.h"

enum err
auth_origin(struct req *r)
{
	const char *key = r->ctx->app->key, *given = r->param[PARAM_KEY];
	size_t len = strlen(key);

	if (strlen(given) == len && sodium_memcmp(key, given, len) == 0)
		return OK;
	LOG(LOG_WARN, "a request without COSTER_KEY is refused",
	    LOG_TEXT("do", "include nginx-key.conf in nginx and reload it"));
	return req_fail(r, ERR_FORBIDDEN, "This did not come through nginx.");
}

const char *
auth_bearer(const struct req *r)
{
	static const char scheme[] = "Bearer";
	const char *authorization = r->param[PARAM_AUTHORIZATION];
	size_t len = sizeof(scheme) - 1;

	if (strncasecmp(authorization, scheme, len) != 0
	    || (authorization[len] != ' ' && authorization[len] != '\0'))
		return NULL;
	return authorization + len + strspn(authorization + len, " ");
}

const char *
auth_cookie(const struct req *r, const char *name)
{
	const char *p = r->param[PARAM_COOKIE];
	size_t len = strlen(name);

	while (*(p += strspn(p, "; ")) != '\0') {
		size_t n = strcspn(p, ";");

		if (n > len && p[len] == '=' && strncmp(p, name, len) == 0)
			return arena_strndup(
			    r->arena, p + len + 1, n - len - 1);
		p += n;
	}
	return "";
}

const char *
auth_csrf_token(const struct req *r, int64_t session)
{
	static const unsigned char purpose[] = "csrf";
	const char *secret = r->ctx->app->key;
	unsigned char key[32], hash[32];
	char id[24];

	snprintf(id, sizeof(id), "%lld", (long long)session);
	crypto_generichash(key, sizeof(key), purpose, sizeof(purpose) - 1,
	    (const unsigned char *)secret,
	    strnlen(secret, crypto_generichash_KEYBYTES_MAX));
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)id,
	    strlen(id), key, sizeof(key));
	return base64url_encode(r->arena, hash, sizeof(hash));
}

/* RFC 6454 section 7: browsers send the origin of the page that asks. */
static bool
is_own_origin(const struct req *r)
{
	const char *origin = r->param[PARAM_ORIGIN];
	const char *url = r->ctx->app->settings.public_url;
	const char *host = strstr(url, "://");
	size_t len = strlen(url);

	if (host != NULL)
		len = (size_t)(host - url) + 3 + strcspn(host + 3, "/");
	return *origin == '\0'
	    || (strlen(origin) == len && strncasecmp(origin, url, len) == 0);
}

static bool
is_own_page(const struct req *r, int64_t session)
{
	const char *want = auth_csrf_token(r, session),
		   *given = r->param[PARAM_CSRF_TOKEN];

	return strlen(given) == strlen(want)
	    && sodium_memcmp(given, want, strlen(want)) == 0
	    && is_own_origin(r);
}

enum err
auth_csrf(struct req *r, int64_t session)
{
	if (is_own_page(r, session))
		return OK;
	return req_fail_as(r, ERR_FORBIDDEN, "csrf",
	    "Send the csrf_token of the session as X-CSRF-Token, from the "
	    "shop's own pages.");
}

/* Fills in the caller, if the token is good. */
static bool
read_token(struct req *r, const char *token)
{
	const struct app *app = r->ctx->app;
	struct token_claims claims;
	const char *why;

	if (seen_verify(app->seen, r->arena, &app->keys,
		app->settings.public_url, token, clock_ms() / 1000, &claims,
		&why)) {
		LOG(LOG_DEBUG, "token refused", LOG_TEXT("reason", why),
		    LOG_TEXT("request", r->param[PARAM_TRACE]));
		return false;
	}
	r->caller.role = claims.role;
	r->caller.uid = claims.sub;
	r->caller.session = strtoll(claims.jti, NULL, 10);
	return true;
}

static enum err
by_header(struct req *r, const char *token)
{
	const unsigned sign_in = ROUTE_ANYONE | ROUTE_SECRET;

	/* Signing in is what one does about a token that is over. */
	if (read_token(r, token)
	    || (r->route->flags & sign_in) == sign_in)
		return OK;
	return req_fail(r, ERR_UNAUTHENTICATED,
	    "The token is not good, or not any more: sign in again.");
}

static enum err
by_cookie(struct req *r)
{
	const char *token = auth_cookie(r, AUTH_COOKIE);
	struct caller nobody = r->caller;

	if (*token == '\0' || !read_token(r, token)
	    || strcmp(r->route->method, "GET") == 0
	    || is_own_page(r, r->caller.session))
		return OK;
	if (!(r->route->flags & ROUTE_ANYONE))
		return auth_csrf(r, r->caller.session);
	r->caller = nobody;
	return OK;
}

enum err
auth_caller(struct req *r)
{
	const char *token = auth_bearer(r);

	r->caller.internal = strcmp(r->param[PARAM_NETWORK], "internal") == 0;
	if (strcmp(r->param[PARAM_PEER], "service") == 0) {
		r->caller.role = ROLE_SERVICE;
		return OK;
	}
	return token != NULL ? by_header(r, token) : by_cookie(r);
}

enum err
auth_route(struct req *r)
{
	const struct caller *c = &r->caller;
	unsigned flags = r->route->flags;
	bool user = c->role == ROLE_CUSTOMER || c->role == ROLE_ADMIN;

	if ((flags & ROUTE_ANYONE)
	    || ((flags & ROUTE_INTERNAL) && c->internal)
	    || ((flags & ROUTE_SERVICE) && c->role == ROLE_SERVICE)
	    || ((flags & ROUTE_ADMIN) && c->role == ROLE_ADMIN)
	    || ((flags & ROUTE_USER) && user)
	    || ((flags & ROUTE_SELF) && user && c->uid == r->uid))
		return OK;
	if (c->role == ROLE_NOBODY)
		return ERR_UNAUTHENTICATED;
	return (flags & ROUTE_SELF) && user ? ERR_NOT_FOUND : ERR_FORBIDDEN;
}
