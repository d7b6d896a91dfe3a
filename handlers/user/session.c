/*
 * Sessions: begun with address and password, listed, and ended. What a session
 * gives its client is in grant.c, how it goes on in refresh.c.
 */
#include "handlers/user/session.h"
#include "handlers/user/password.h"
#include "handlers/user/throttle.h"
#include "handlers/user/user.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/page.h"
#include "shared/text.h"

#define AGENT_MAX 200
#define SESSIONS_MAX 100 /* of an account; a script may sign in for each call */

static handler_fn post_session, get_sessions, delete_session, delete_session_id;
static const struct field_table credentials_fields, list_fields;

static const struct route routes[] = {
	{ "POST", "/session", post_session,
	    ROUTE_ANYONE | ROUTE_SLOW | ROUTE_SECRET,
	    .body = &credentials_fields },
	{ "GET", "/session", get_sessions, ROUTE_USER, .query = &list_fields },
	{ "DELETE", "/session", delete_session, ROUTE_USER | ROUTE_EMPTY },
	{ "DELETE", "/session/{id}", delete_session_id,
	    ROUTE_USER | ROUTE_EMPTY },
};
const struct route_table session_routes = ROUTES(routes);

STMT(credentials_get,
    "SELECT id, role, password, disabled_at FROM account"
    " WHERE email_key = $1");

STMT(password_renew,
    "UPDATE account SET password = $1 WHERE id = $2 AND password = $3");

/* Only while the account has the password that was verified, and is in use. */
STMT(session_insert,
    "INSERT INTO session (family, token, address, agent, created_at,"
    " last_used_at, expires_at, user_id)"
    " SELECT $1, $2, $3, $4, $5, $5, $6, id FROM account"
    " WHERE id = $7 AND password = $8 AND disabled_at IS NULL RETURNING id");

/* Not with the rights that the account had before. */
STMT(session_alive,
    "SELECT s.id FROM session s JOIN account a ON a.id = s.user_id"
    " WHERE s.id = $1 AND s.user_id = $2 AND s.expires_at > $3"
    " AND a.role = $4");

STMT(session_list,
    "SELECT id, created_at, last_used_at, address, agent FROM session"
    " WHERE user_id = $1 AND expires_at > $2 AND id > $3 ORDER BY id LIMIT $4");
enum column { ID, CREATED_AT, LAST_USED_AT, ADDRESS, AGENT };

/* To end one says no time: a clock that is set back would open it again. */
#define ENDED "expires_at = 0, address = NULL, agent = NULL"

STMT(session_end_one,
    "UPDATE session SET " ENDED
    " WHERE id = $1 AND user_id = $2 AND expires_at > $3");

/* Those that have expired already, too: to forget where they were from. */
STMT(session_end_all, "UPDATE session SET " ENDED " WHERE user_id = $1");

/* All but the newest $3. */
STMT(session_end_old,
    "UPDATE session SET " ENDED " WHERE user_id = $1 AND expires_at > $2"
    " AND id <= (SELECT id FROM session WHERE user_id = $1"
    "  AND expires_at > $2 ORDER BY id DESC LIMIT 1 OFFSET $3)");

struct credentials {
	const char *email, *password;
	bool cookie;
};

static const struct field_table credentials_fields = FIELDS(
	EMAIL_FIELD(struct credentials, .flags = FIELD_REQUIRED),
	FIELD(struct credentials, password, .flags = FIELD_REQUIRED),
	FIELD(struct credentials, cookie));

struct list {
	struct page page;
};

static const struct field_table list_fields
    = FIELDS(PAGE_FIELDS(struct list, page));

void
audit(const struct req *r, const char *event, int64_t user_id,
    const char *reason)
{
	LOG(LOG_AUDIT, event, LOG_INT("user", user_id),
	    LOG_INT("by", r->caller.uid),
	    LOG_TEXT("address", r->param[PARAM_REMOTE_ADDR]),
	    LOG_TEXT("request", r->param[PARAM_TRACE]),
	    { .key = reason != NULL ? "reason" : NULL, .text = reason });
}

const char *
secret_hash(struct arena *a, const char *text, size_t len)
{
	unsigned char hash[crypto_generichash_BYTES];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, len,
	    NULL, 0);
	return base64url_encode(a, hash, sizeof(hash));
}

int64_t
session_expiry(int64_t now)
{
	return now + user_settings.session_days * CLOCK_DAY;
}

const char *
session_agent(const struct req *r)
{
	const char *agent = r->param[PARAM_USER_AGENT];
	char *out = arena_strndup(r->arena, agent, strnlen(agent, AGENT_MAX));

	for (char *p = out; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return out;
}

/* A token that names no session ends with its time alone. */
enum err
session_check(struct req *r)
{
	const struct caller *c = &r->caller;
	int64_t id;
	enum err err;

	if (c->session == 0 || (r->route->flags & ROUTE_ANYONE))
		return OK;
	err = db_get(r->db, &session_alive,
	    DB_ARGS(DB_INT(c->session), DB_INT(c->uid), DB_INT(clock_ms()),
		DB_TEXT(role_name(c->role))),
	    DB_INTO(DB_INT_TO(&id)));
	if (err != ERR_NOT_FOUND)
		return err;
	return req_fail(r, ERR_UNAUTHENTICATED,
	    "This session is over, or has other rights now: refresh it, or sign "
	    "in again.");
}

/* Who signs in, and what is known of the account with that address. */
struct candidate {
	const char *email, *password;
	const char *hash; /* NULL for nobody */
	int64_t disabled_at;
	struct session session;
};

static enum err
find_account(struct req *r, struct candidate *c)
{
	enum err err = db_get(r->db, &credentials_get,
	    DB_ARGS(DB_TEXT(text_lower(r->arena, c->email))),
	    DB_INTO(DB_INT_TO(&c->session.user_id),
		DB_TEXT_TO(&c->session.role), DB_TEXT_TO(&c->hash),
		DB_INT_TO(&c->disabled_at)));

	return err == ERR_NOT_FOUND ? OK : err;
}

/* One answer to all who are not let in; the log knows more. */
static enum err
refuse(struct req *r, const struct candidate *c)
{
	audit(r, "sign-in refused", c->session.user_id,
	    c->hash == NULL		     ? "unknown address"
		: c->disabled_at != INT_NONE ? "disabled account"
					     : "wrong password");
	return req_fail(r, ERR_UNAUTHENTICATED,
	    "The e-mail address or the password is wrong.");
}

/* Takes as long for nobody as for somebody. */
static enum err
verify(struct req *r, struct candidate *c)
{
	enum err err;

	if ((err = throttle_sign_in(r, c->email)))
		return err;
	err = password_verify(c->hash, c->password);
	return err == ERR_UNAUTHENTICATED ? refuse(r, c) : err;
}

/* Makes a stale hash anew. */
static enum err
renew(struct req *r, struct candidate *c)
{
	const char *stale = c->hash;
	enum err err;

	if (!password_is_stale(stale))
		return db_begin(r->db);
	if ((err = password_hash(r->arena, c->password, &c->hash))
	    || (err = db_begin(r->db)))
		return err;
	return db_exec(r->db, &password_renew,
	    DB_ARGS(DB_TEXT(c->hash), DB_INT(c->session.user_id),
		DB_TEXT(stale)));
}

static enum err
begin_session(struct req *r, struct candidate *c)
{
	struct session *s = &c->session;
	int64_t now = clock_ms();
	enum err err;

	s->refresh_token = refresh_token_new(r->arena);
	err = db_get(r->db, &session_insert,
	    DB_ARGS(DB_TEXT(refresh_token_family(r->arena, s->refresh_token)),
		DB_TEXT(refresh_token_hash(r->arena, s->refresh_token)),
		DB_TEXT(r->param[PARAM_REMOTE_ADDR]),
		DB_TEXT(session_agent(r)), DB_INT(now),
		DB_INT(session_expiry(now)), DB_INT(s->user_id),
		DB_TEXT(c->hash)),
	    DB_INTO(DB_INT_TO(&s->id)));
	if (err)
		return err == ERR_NOT_FOUND ? refuse(r, c) : err;
	return db_exec(r->db, &session_end_old,
	    DB_ARGS(DB_INT(s->user_id), DB_INT(now), DB_INT(SESSIONS_MAX)));
}

static enum err
post_session(struct req *r)
{
	struct credentials in = { 0 };
	struct candidate c = { .disabled_at = INT_NONE };
	enum err err;

	if ((err = req_body(r, &in)))
		return err;
	c.email = in.email;
	c.password = in.password;
	c.session.by_cookie = in.cookie;
	if ((err = find_account(r, &c)) || (err = verify(r, &c))
	    || (err = renew(r, &c)) || (err = begin_session(r, &c))
	    || (err = throttle_succeeded(r, c.email))
	    || (err = reply_tokens(r, 201, &c.session)))
		return err;
	audit(r, "signed in", c.session.user_id, NULL);
	reply_location(r, "/session", c.session.id);
	return OK;
}

static void
put_session(struct buf *b, const struct db_rows *q)
{
	json_int(b, "id", db_int(q, ID));
	json_time(b, "created_at", db_int(q, CREATED_AT));
	json_time(b, "last_used_at", db_int(q, LAST_USED_AT));
	json_text(b, "address", db_text(q, ADDRESS));
	json_text(b, "agent", db_text(q, AGENT));
}

static enum err
get_sessions(struct req *r)
{
	struct list in = { .page = PAGE_INIT };
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	q = db_query(r->db, &session_list,
	    DB_ARGS(DB_INT(r->caller.uid), DB_INT(clock_ms()),
		DB_INT(in.page.after_id), DB_INT(in.page.limit + 1)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, ID), NULL)) {
		json_open(b, NULL, '{');
		put_session(b, &q);
		json_boolean(b, "current", db_int(&q, ID) == r->caller.session);
		json_close(b, '}');
	}
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	return OK;
}

enum err
sessions_put(struct db *db, struct buf *b, const char *key, int64_t user_id)
{
	struct db_rows q = db_query(db, &session_list,
	    DB_ARGS(DB_INT(user_id), DB_INT(clock_ms()), DB_INT(0),
		DB_INT(INT_MAX_EXACT)));

	json_open(b, key, '[');
	while (db_next(&q)) {
		json_open(b, NULL, '{');
		put_session(b, &q);
		json_close(b, '}');
	}
	json_close(b, ']');
	return db_end(&q);
}

enum err
session_end(struct db *db, int64_t id, int64_t user_id)
{
	return db_exec(db, &session_end_one,
	    DB_ARGS(DB_INT(id), DB_INT(user_id), DB_INT(clock_ms())));
}

enum err
sessions_end(struct db *db, int64_t user_id)
{
	return db_exec(db, &session_end_all, DB_ARGS(DB_INT(user_id)));
}

static enum err
delete_session(struct req *r)
{
	enum err err = session_end(r->db, r->caller.session, r->caller.uid);

	if (err)
		return err;
	audit(r, "signed out", r->caller.uid, NULL);
	(void)reply_empty(r, 204);
	reply_no_cookies(r);
	return OK;
}

static enum err
delete_session_id(struct req *r)
{
	enum err err = session_end(r->db, r->id, r->caller.uid);

	if (err)
		return err;
	if (db_changes(r->db) == 0)
		return ERR_NOT_FOUND;
	audit(r, "session ended", r->caller.uid, NULL);
	return reply_empty(r, 204);
}
