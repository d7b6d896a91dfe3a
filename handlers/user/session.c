/*
 * Sessions. One begins with address and password and lives on its refresh
 * tokens; each is good once and brings the next, and an access token for some
 * minutes.
 *
 * A refresh token is the name of its family, the same for all of a session, and
 * a secret of its own. One whose family is known and whose secret is not the
 * newest was used before: it is in two hands, and the session ends.
 */
#include "handlers/user/password.h"
#include "handlers/user/user.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/page.h"
#include "shared/text.h"

#define FAMILY_BYTES 18
#define FAMILY_LENGTH 24 /* of them in base64 */
#define SECRET_BYTES 24
#define NONCE_BYTES 9
#define AGENT_MAX 200
#define PRUNE_EVERY (10 * CLOCK_MINUTE)

static handler_fn post_session, get_sessions, delete_session, delete_session_id,
    refresh_session, get_keys;

static const struct route routes[] = {
	{ "POST", "/session", post_session,
	    ROUTE_ANYONE | ROUTE_SLOW | ROUTE_SECRET },
	{ "GET", "/session", get_sessions, ROUTE_USER },
	{ "DELETE", "/session", delete_session, ROUTE_USER },
	{ "DELETE", "/session/{id}", delete_session_id, ROUTE_USER },
	{ "POST", "/session/refresh", refresh_session,
	    ROUTE_ANYONE | ROUTE_SECRET },
	{ "GET", "/.well-known/jwks.json", get_keys, ROUTE_ANYONE },
};
const struct route_table session_routes = ROUTES(routes);

STMT(credentials_get,
    "SELECT id, role, password FROM account WHERE email_key = $1");

STMT(password_renew,
    "UPDATE account SET password = $1 WHERE id = $2 AND password = $3");

/* Only while the account has the password that was verified. */
STMT(session_insert,
    "INSERT INTO session (family, token, address, agent, created_at,"
    " last_used_at, expires_at, user_id)"
    " SELECT $1, $2, $3, $4, $5, $5, $6, id FROM account"
    " WHERE id = $7 AND password = $8 RETURNING id");

STMT(session_find,
    "SELECT s.id, s.user_id, a.role, s.token, s.previous, s.refreshed_by"
    " FROM session s JOIN account a ON a.id = s.user_id"
    " WHERE s.family = $1 AND s.expires_at > $2");

STMT(session_refresh,
    "UPDATE session SET token = $2, previous = $3, refreshed_by = $4,"
    " address = $5, agent = $6, last_used_at = $7, expires_at = $8"
    " WHERE id = $1");

STMT(session_list,
    "SELECT id, created_at, last_used_at, address, agent FROM session"
    " WHERE user_id = $1 AND expires_at > $2 AND id > $3 ORDER BY id LIMIT $4");

STMT(session_end,
    "UPDATE session SET expires_at = $3, address = NULL, agent = NULL"
    " WHERE id = $1 AND user_id = $2 AND expires_at > $3");

/* Those that have expired already, too: to forget where they were from. */
STMT(session_end_all,
    "UPDATE session SET expires_at = $2, address = NULL, agent = NULL"
    " WHERE user_id = $1");

/* The newest stays, or its id would be given again. */
STMT(session_drop,
    "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE"
    " expires_at <= $1 AND id < (SELECT max(id) FROM session) LIMIT 500)");

struct credentials {
	const char *email, *password;
};

static const struct field credentials_fields[] = {
	EMAIL_FIELD(struct credentials, .flags = FIELD_REQUIRED),
	FIELD(struct credentials, password, .flags = FIELD_REQUIRED),
};

struct refresh {
	const char *refresh_token;
};

static const struct field refresh_fields[] = {
	FIELD(struct refresh, refresh_token, .flags = FIELD_REQUIRED),
};

struct list {
	struct page page;
};

static const struct field list_fields[] = { PAGE_FIELDS(struct list, page) };

struct session {
	int64_t id, user_id;
	const char *role;
	const char *token, *previous, *refreshed_by;
};

static void
audit(const struct req *r, const char *event, int64_t user_id)
{
	LOG(LOG_AUDIT, event, LOG_INT("user", user_id),
	    LOG_TEXT("request", r->param[PARAM_TRACE]));
}

/* Enough of a hash for what is random already. */
static const char *
hash_of(struct arena *a, const char *text, size_t len)
{
	unsigned char hash[crypto_generichash_BYTES];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, len,
	    NULL, 0);
	return base64url_encode(a, hash, sizeof(hash));
}

static const char *
family_hash(struct arena *a, const char *token)
{
	return hash_of(a, token, strnlen(token, FAMILY_LENGTH));
}

static const char *
token_hash(struct arena *a, const char *token)
{
	return hash_of(a, token, strlen(token));
}

/* A token of the family that the text starts with. */
static const char *
new_token(struct arena *a, const char *family)
{
	return arena_printf(
	    a, "%.*s%s", FAMILY_LENGTH, family, random_text(a, SECRET_BYTES));
}

static int64_t
expiry(int64_t now)
{
	return now + user_settings.session_days * CLOCK_DAY;
}

/* What a client calls itself, fit to be stored and shown. */
static const char *
agent_of(const struct req *r)
{
	const char *agent = r->param[PARAM_USER_AGENT];
	char *out = arena_strndup(r->arena, agent, strnlen(agent, AGENT_MAX));

	for (char *p = out; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return out;
}

static enum err
reply_tokens(struct req *r, int status, const struct session *s,
    const char *refresh_token)
{
	struct token_claims claims = { .sub = s->user_id,
		.role = role_from_name(s->role),
		.iat = clock_ms() / 1000 };
	struct buf *b = reply_json(r, status);

	claims.exp = claims.iat + user_settings.token_seconds;
	snprintf(claims.jti, sizeof(claims.jti), "%lld.%s", (long long)s->id,
	    random_text(r->arena, NONCE_BYTES));
	json_open(b, NULL, '{');
	json_text(b, "token",
	    token_issue(r->arena, &user_signer,
		r->ctx->app->settings.public_url, &claims));
	json_text(b, "token_type", "Bearer");
	json_int(b, "expires_in", user_settings.token_seconds);
	json_text(b, "refresh_token", refresh_token);
	json_int(b, "user_id", s->user_id);
	json_close(b, '}');
	return OK;
}

/* One answer to all who are not let in. */
static enum err
refuse(struct req *r, int64_t user_id)
{
	audit(r, "sign-in refused", user_id);
	return req_fail(r, ERR_UNAUTHENTICATED,
	    "The e-mail address or the password is wrong.");
}

static enum err
begin_session(struct req *r, struct session *s, const char *hash)
{
	int64_t now = clock_ms();

	return db_get(r->db, &session_insert,
	    DB_ARGS(DB_TEXT(family_hash(r->arena, s->token)),
		DB_TEXT(token_hash(r->arena, s->token)),
		DB_TEXT(r->param[PARAM_REMOTE_ADDR]), DB_TEXT(agent_of(r)),
		DB_INT(now), DB_INT(expiry(now)), DB_INT(s->user_id),
		DB_TEXT(hash)),
	    DB_INTO(DB_INT_TO(&s->id)));
}

static enum err
post_session(struct req *r)
{
	struct credentials in = { 0 };
	struct session s = { 0 };
	const char *stored = NULL, *hash;
	enum err err;

	if ((err = REQ_BODY(r, credentials_fields, &in)))
		return err;
	err = db_get(r->db, &credentials_get,
	    DB_ARGS(DB_TEXT(text_lower(r->arena, in.email))),
	    DB_INTO(DB_INT_TO(&s.user_id), DB_TEXT_TO(&s.role),
		DB_TEXT_TO(&stored)));
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = password_verify(stored, in.password);
	if (err == ERR_UNAUTHENTICATED)
		return refuse(r, s.user_id);
	hash = stored;
	if (!err && password_is_stale(stored))
		err = password_hash(r->arena, in.password, &hash);
	if (err || (err = db_begin(r->db)))
		return err;
	if (hash != stored
	    && (err = db_exec(r->db, &password_renew,
		    DB_ARGS(DB_TEXT(hash), DB_INT(s.user_id), DB_TEXT(stored)))))
		return err;
	s.token = new_token(r->arena, random_text(r->arena, FAMILY_BYTES));
	if ((err = begin_session(r, &s, hash)))
		return err == ERR_NOT_FOUND ? refuse(r, s.user_id) : err;
	audit(r, "signed in", s.user_id);
	return reply_tokens(r, 201, &s, s.token);
}

static enum err
get_sessions(struct req *r)
{
	struct list in = { .page = PAGE_INIT };
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = REQ_QUERY(r, list_fields, &in))
	    || (err = page_start(r, &in.page)))
		return err;
	q = db_query(r->db, &session_list,
	    DB_ARGS(DB_INT(r->caller.uid), DB_INT(clock_ms()),
		DB_INT(in.page.after_id), DB_INT(in.page.limit + 1)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, 0), NULL)) {
		json_open(b, NULL, '{');
		json_int(b, "id", db_int(&q, 0));
		json_time(b, "created_at", db_int(&q, 1));
		json_time(b, "last_used_at", db_int(&q, 2));
		json_text(b, "address", db_text(&q, 3));
		json_text(b, "agent", db_text(&q, 4));
		json_boolean(b, "current", db_int(&q, 0) == r->caller.session);
		json_close(b, '}');
	}
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	return OK;
}

static enum err
end_session(struct req *r, int64_t id, int64_t user_id)
{
	return db_exec(r->db, &session_end,
	    DB_ARGS(DB_INT(id), DB_INT(user_id), DB_INT(clock_ms())));
}

/* Signing out twice is signing out once. */
static enum err
delete_session(struct req *r)
{
	enum err err = end_session(r, r->caller.session, r->caller.uid);

	return err ? err : reply_empty(r, 204);
}

static enum err
delete_session_id(struct req *r)
{
	enum err err = end_session(r, r->id, r->caller.uid);

	if (err)
		return err;
	return db_changes(r->db) > 0 ? reply_empty(r, 204) : ERR_NOT_FOUND;
}

static enum err
find_session(struct req *r, const char *refresh_token, struct session *s)
{
	enum err err = db_get(r->db, &session_find,
	    DB_ARGS(DB_TEXT(family_hash(r->arena, refresh_token)),
		DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(&s->id), DB_INT_TO(&s->user_id),
		DB_TEXT_TO(&s->role), DB_TEXT_TO(&s->token),
		DB_TEXT_TO(&s->previous), DB_TEXT_TO(&s->refreshed_by)));

	if (err != ERR_NOT_FOUND)
		return err;
	return req_fail(r, ERR_UNAUTHENTICATED, "Sign in again.");
}

/* The newest token, or the one before it in the same request: nginx repeats one
 * whose reply an instance that died still owed. */
static bool
is_good(const struct req *r, const struct session *s, const char *hash)
{
	const char *request = r->param[PARAM_REQUEST_ID];

	if (strcmp(s->token, hash) == 0)
		return true;
	return s->previous != NULL && strcmp(s->previous, hash) == 0
	    && *request != '\0' && strcmp(s->refreshed_by, request) == 0;
}

/* The end of the session is to last although the request fails. */
static enum err
end_family(struct req *r, const struct session *s)
{
	enum err err;

	if ((err = end_session(r, s->id, s->user_id))
	    || (err = db_commit(r->db)))
		return err;
	audit(r, "session ended: a refresh token came twice", s->user_id);
	return req_fail(r, ERR_UNAUTHENTICATED, "Sign in again.");
}

static enum err
refresh_session(struct req *r)
{
	struct refresh in = { 0 };
	struct session s;
	const char *hash, *token;
	int64_t now = clock_ms();
	enum err err;

	if ((err = REQ_BODY(r, refresh_fields, &in))
	    || (err = find_session(r, in.refresh_token, &s)))
		return err;
	hash = token_hash(r->arena, in.refresh_token);
	if (!is_good(r, &s, hash))
		return end_family(r, &s);
	token = new_token(r->arena, in.refresh_token);
	err = db_exec(r->db, &session_refresh,
	    DB_ARGS(DB_INT(s.id), DB_TEXT(token_hash(r->arena, token)),
		DB_TEXT(hash), DB_TEXT(r->param[PARAM_REQUEST_ID]),
		DB_TEXT(r->param[PARAM_REMOTE_ADDR]), DB_TEXT(agent_of(r)),
		DB_INT(now), DB_INT(expiry(now))));
	return err ? err : reply_tokens(r, 200, &s, token);
}

static enum err
get_keys(struct req *r)
{
	buf_adds(reply_json(r, 200), token_jwks(r->arena, &r->ctx->app->keys));
	r->reply.cache_control = "public, max-age=300";
	return OK;
}

enum err
sessions_end(struct db *db, int64_t user_id)
{
	return db_exec(db, &session_end_all,
	    DB_ARGS(DB_INT(user_id), DB_INT(clock_ms())));
}

int64_t
session_prune(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t dropped;

	if (db_begin(db))
		return PRUNE_EVERY;
	if (db_exec(db, &session_drop, DB_ARGS(DB_INT(clock_ms())))) {
		db_rollback(db);
		return PRUNE_EVERY;
	}
	dropped = db_changes(db);
	return db_commit(db) == OK && dropped > 0 ? 0 : PRUNE_EVERY;
}
