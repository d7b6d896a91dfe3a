/*
 * Refresh tokens, on which a session lives. Each is good once and brings the
 * next, and an access token for some minutes.
 *
 * A refresh token is the name of its family, the same for all of a session, and
 * a secret of its own. One whose family is known and whose secret is not the
 * newest was used before: it is in two hands, and the session ends. But two tabs of
 * a browser that share one may send it at the same moment: the second is only
 * refused, and finds the next one where the first put it.
 */
#include "handlers/user/session.h"
#include "handlers/user/user.h"

#include "shared/auth.h"
#include "shared/clock.h"

#define FAMILY_BYTES 18
#define FAMILY_LENGTH 24 /* of them in base64 */
#define SECRET_BYTES 24
#define SAME_MOMENT (10 * CLOCK_SECOND)

static handler_fn refresh_session;
static const struct field_table refresh_fields;

static const struct route routes[] = {
	{ "POST", "/session/refresh", refresh_session,
	    ROUTE_ANYONE | ROUTE_SECRET, .body = &refresh_fields },
};
const struct route_table refresh_routes = ROUTES(routes);

STMT(session_find,
    "SELECT s.id, s.user_id, a.role, s.token, s.previous, s.refreshed_by,"
    " s.last_used_at FROM session s JOIN account a ON a.id = s.user_id"
    " WHERE s.family = $1 AND s.expires_at > $2");

STMT(session_refresh,
    "UPDATE session SET token = $2, previous = $3, refreshed_by = $4,"
    " address = $5, agent = $6, last_used_at = $7, expires_at = $8"
    " WHERE id = $1");

struct refresh {
	const char *refresh_token;
	bool cookie; /* wanted so */
	bool came_by_cookie;
};

static const struct field_table refresh_fields = FIELDS(
	FIELD(struct refresh, refresh_token),
	FIELD(struct refresh, cookie));

/* Of the session; hashes of the tokens. */
struct known {
	const char *token, *previous, *refreshed_by;
	int64_t last_used_at;
};

const char *
refresh_token_family(struct arena *a, const char *token)
{
	return secret_hash(a, token, strnlen(token, FAMILY_LENGTH));
}

const char *
refresh_token_hash(struct arena *a, const char *token)
{
	return secret_hash(a, token, strlen(token));
}

/* Of the family that the text starts with. */
static const char *
next_token(struct arena *a, const char *family)
{
	return arena_printf(
	    a, "%.*s%s", FAMILY_LENGTH, family, random_text(a, SECRET_BYTES));
}

const char *
refresh_token_new(struct arena *a)
{
	return next_token(a, random_text(a, FAMILY_BYTES));
}

/* A token that came as a cookie proves nothing alone, and the next one goes
 * where it came from: no script is to get hold of it. */
static enum err
read_token(struct req *r, struct refresh *in)
{
	enum err err;

	if ((err = req_body(r, in)) || in->refresh_token != NULL)
		return err;
	in->refresh_token = auth_cookie(r, AUTH_COOKIE_REFRESH);
	in->cookie = in->came_by_cookie = true;
	if (*in->refresh_token == '\0')
		return req_fault(r, "#/refresh_token", "is required");
	return OK;
}

static enum err
find_session(struct req *r, const char *refresh_token, struct session *s,
    struct known *k)
{
	enum err err = db_get(r->db, &session_find,
	    DB_ARGS(DB_TEXT(refresh_token_family(r->arena, refresh_token)),
		DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(&s->id), DB_INT_TO(&s->user_id),
		DB_TEXT_TO(&s->role), DB_TEXT_TO(&k->token),
		DB_TEXT_TO(&k->previous), DB_TEXT_TO(&k->refreshed_by),
		DB_INT_TO(&k->last_used_at)));

	if (err != ERR_NOT_FOUND)
		return err;
	return req_fail(r, ERR_UNAUTHENTICATED, "Sign in again.");
}

static bool
is_previous(const struct known *k, const char *hash)
{
	return k->previous != NULL && strcmp(k->previous, hash) == 0;
}

/* The newest token, or the one before it in the same request: nginx repeats one
 * whose reply an instance that died still owed. */
static bool
is_good(const struct req *r, const struct known *k, const char *hash)
{
	const char *request = r->param[PARAM_REQUEST_ID];

	return strcmp(k->token, hash) == 0
	    || (is_previous(k, hash) && *request != '\0'
		&& strcmp(k->refreshed_by, request) == 0);
}

/* The end of the session is to last although the request fails. */
static enum err
refuse(struct req *r, const struct session *s, const struct known *k,
    const char *hash)
{
	int64_t ago = clock_ms() - k->last_used_at;
	enum err err;

	if (is_previous(k, hash) && ago >= 0 && ago < SAME_MOMENT)
		return req_fail_as(r, ERR_CONFLICT, "refreshed-already",
		    "This token was used a moment ago: go on with the one that "
		    "came of it.");
	if ((err = session_end(r->db, s->id, s->user_id))
	    || (err = db_commit(r->db)))
		return err;
	audit(r, "session ended", s->user_id, "a refresh token came twice");
	return req_fail(r, ERR_UNAUTHENTICATED, "Sign in again.");
}

static enum err
refresh_session(struct req *r)
{
	struct refresh in = { 0 };
	struct session s = { 0 };
	struct known known;
	const char *hash;
	int64_t now = clock_ms();
	enum err err;

	if ((err = read_token(r, &in))
	    || (err = find_session(r, in.refresh_token, &s, &known)))
		return err;
	if (in.came_by_cookie && (err = auth_csrf(r, s.id)))
		return err;
	hash = refresh_token_hash(r->arena, in.refresh_token);
	if (!is_good(r, &known, hash))
		return refuse(r, &s, &known, hash);
	s.refresh_token = next_token(r->arena, in.refresh_token);
	s.by_cookie = in.cookie;
	err = db_exec(r->db, &session_refresh,
	    DB_ARGS(DB_INT(s.id),
		DB_TEXT(refresh_token_hash(r->arena, s.refresh_token)),
		DB_TEXT(hash), DB_TEXT(r->param[PARAM_REQUEST_ID]),
		DB_TEXT(r->param[PARAM_REMOTE_ADDR]),
		DB_TEXT(session_agent(r)), DB_INT(now),
		DB_INT(session_expiry(now))));
	return err ? err : reply_tokens(r, 200, &s);
}
