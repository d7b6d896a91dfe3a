/*
 * Accounts: registered, read, changed and deleted. What other services have to
 * hear of it goes through the outbox, so that none of them needs to be up.
 */
#include "handlers/user/password.h"
#include "handlers/user/user.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/outbox.h"
#include "shared/page.h"
#include "shared/text.h"

static handler_fn post_user, get_users, get_user, change_user, delete_user;

static const struct route routes[] = {
	{ "POST", "/user", post_user, ROUTE_ANYONE | ROUTE_SLOW },
	{ "GET", "/user", get_users, ROUTE_ADMIN | ROUTE_SERVICE },
	{ "GET", "/user/{uid}", get_user,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SERVICE },
	{ "PUT", "/user/{uid}", change_user, ROUTE_SELF | ROUTE_ADMIN },
	{ "PATCH", "/user/{uid}", change_user, ROUTE_SELF | ROUTE_ADMIN },
	{ "DELETE", "/user/{uid}", delete_user, ROUTE_SELF | ROUTE_ADMIN },
};
const struct route_table account_routes = ROUTES(routes);

/* The columns that put_account() expects, in its order. */
#define COLUMNS "id, email, name, role, created_at, updated_at, version"
enum column { ID, EMAIL, NAME, ROLE, CREATED_AT, UPDATED_AT, VERSION };

STMT(account_insert,
    "INSERT INTO account"
    " (email, email_key, name, role, password, created_at, updated_at)"
    " VALUES ($1, $2, $3, 'customer', $4, $5, $5) RETURNING id");

STMT(account_get,
    "SELECT " COLUMNS " FROM account WHERE id = $1 AND deleted_at IS NULL");

/* $1 the id before, $2 limit, $3 address. */
enum source { ALL, BY_EMAIL, SOURCE__COUNT };
STMT_ARRAY(lists[SOURCE__COUNT]) = {
	[ALL] = { "SELECT " COLUMNS " FROM account WHERE deleted_at IS NULL"
		  " AND id > $1 AND $3 IS NULL ORDER BY id LIMIT $2" },
	[BY_EMAIL] = { "SELECT " COLUMNS " FROM account WHERE email_key = $3"
		       " AND id > $1 ORDER BY id LIMIT $2" },
};

STMT(account_load,
    "SELECT email, name, password, version FROM account"
    " WHERE id = $1 AND deleted_at IS NULL");

STMT(account_update,
    "UPDATE account SET email = $3, email_key = $4, name = $5, password = $6,"
    " updated_at = $7, version = version + 1"
    " WHERE id = $1 AND version = $2 AND deleted_at IS NULL");

STMT(account_delete,
    "UPDATE account SET email = NULL, email_key = NULL, name = NULL,"
    " password = NULL, updated_at = $2, deleted_at = $2, version = version + 1"
    " WHERE id = $1");

struct account {
	const char *email, *name;
	const char *password, *current_password; /* as given; NULL else */
	const char *hash;
	int64_t version;
};

static const struct field create_fields[] = {
	EMAIL_FIELD(struct account, .flags = FIELD_REQUIRED),
	PASSWORD_FIELD(struct account, .flags = FIELD_REQUIRED),
	FIELD(struct account, name, .flags = FIELD_NULLABLE, .min = 1),
};

static const struct field change_fields[] = {
	EMAIL_FIELD(struct account),
	PASSWORD_FIELD(struct account),
	FIELD(struct account, name, .flags = FIELD_NULLABLE, .min = 1),
	FIELD(struct account, current_password),
};

struct query {
	struct page page;
	const char *email;
};

static const struct field query_fields[] = {
	PAGE_FIELDS(struct query, page),
	EMAIL_FIELD(struct query),
};

static void
put_account(struct buf *b, const struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, ID));
	json_text(b, "email", db_text(q, EMAIL));
	json_text(b, "name", db_text(q, NAME));
	json_text(b, "role", db_text(q, ROLE));
	json_time(b, "created_at", db_int(q, CREATED_AT));
	json_time(b, "updated_at", db_int(q, UPDATED_AT));
	json_int(b, "version", db_int(q, VERSION));
	json_close(b, '}');
}

static enum err
reply_account(struct req *r, int status, int64_t id)
{
	struct db_rows q = db_query(r->db, &account_get, DB_ARGS(DB_INT(id)));
	bool found = db_next(&q);
	enum err err;

	if (found) {
		put_account(reply_json(r, status), &q);
		reply_version(r, db_int(&q, VERSION));
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

static enum err
load(struct req *r, struct account *a)
{
	enum err err = db_get(r->db, &account_load, DB_ARGS(DB_INT(r->uid)),
	    DB_INTO(DB_TEXT_TO(&a->email), DB_TEXT_TO(&a->name),
		DB_TEXT_TO(&a->hash), DB_INT_TO(&a->version)));

	return err ? err : req_if_match(r, a->version);
}

static enum err
check_password(struct req *r, const struct account *a)
{
	const char *fault = password_fault(a->password, a->email);

	return fault == NULL ? OK : req_fault(r, "#/password", "%s", fault);
}

static enum err
email_conflict(struct req *r, enum err err)
{
	if (err != ERR_CONFLICT)
		return err;
	return req_fail_as(r, err, "email-in-use",
	    "another account has this e-mail address");
}

static void
audit(const struct req *r, const char *event)
{
	LOG(LOG_AUDIT, event, LOG_INT("user", r->uid),
	    LOG_INT("by", r->caller.uid),
	    LOG_TEXT("request", r->param[PARAM_TRACE]));
}

/* Sends a message about a user. Those for one service stay in order, and wait
 * for no other service. */
static enum err
tell(struct req *r, int64_t id, const char *receiver, struct outbox_message m)
{
	m.subject
	    = arena_printf(r->arena, "user %lld, %s", (long long)id, receiver);
	return outbox_put(r->db, &m);
}

static enum err
welcome(struct req *r, int64_t id, const struct account *a)
{
	struct buf b;

	buf_init(&b, r->arena);
	json_open(&b, NULL, '{');
	json_text(&b, "to", a->email);
	json_text(&b, "template", "welcome");
	json_open(&b, "vars", '{');
	json_text(&b, "name", a->name != NULL ? a->name : a->email);
	json_close(&b, '}');
	json_close(&b, '}');
	return tell(r, id, "email",
	    (struct outbox_message) {
		.method = "POST", .path = "/send_email/", .body = b.data });
}

static enum err
record(struct req *r, int64_t id)
{
	struct buf b;

	buf_init(&b, r->arena);
	json_open(&b, NULL, '{');
	json_int(&b, "user_id", id);
	json_text(&b, "action", "user.registered");
	json_close(&b, '}');
	return tell(r, id, "stats",
	    (struct outbox_message) {
		.method = "POST", .path = "/log", .body = b.data });
}

static enum err
post_user(struct req *r)
{
	struct account a = { 0 };
	int64_t id;
	enum err err;

	if ((err = REQ_BODY(r, create_fields, &a))
	    || (err = check_password(r, &a))
	    || (err = password_hash(r->arena, a.password, &a.hash))
	    || (err = db_begin(r->db)))
		return err;
	err = db_get(r->db, &account_insert,
	    DB_ARGS(DB_TEXT(a.email), DB_TEXT(text_lower(r->arena, a.email)),
		DB_TEXT(a.name), DB_TEXT(a.hash), DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(&id)));
	if (err)
		return email_conflict(r, err);
	if ((err = welcome(r, id, &a)) || (err = record(r, id))
	    || (err = reply_account(r, 201, id)))
		return err;
	reply_location(r, "/user/%lld", (long long)id);
	return OK;
}

static enum err
get_users(struct req *r)
{
	struct query in = { .page = PAGE_INIT };
	const char *key = NULL;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = REQ_QUERY(r, query_fields, &in))
	    || (err = page_start(r, &in.page)))
		return err;
	if (in.email != NULL)
		key = text_lower(r->arena, in.email);
	q = db_query(r->db, &lists[key != NULL ? BY_EMAIL : ALL],
	    DB_ARGS(DB_INT(in.page.after_id), DB_INT(in.page.limit + 1),
		DB_TEXT(key)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, ID), NULL))
		put_account(b, &q);
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	return OK;
}

static enum err
get_user(struct req *r)
{
	return reply_account(r, 200, r->uid);
}

/* Makes the hash of the new password, on a worker; and ends all sessions. */
static enum err
change_password(struct req *r, struct account *a)
{
	bool self = r->caller.uid == r->uid;
	enum err err;

	if ((err = check_password(r, a)))
		return err;
	if (self && a->current_password == NULL)
		return req_fault(r, "#/current_password", "is required");
	if ((err = req_may_wait(r)))
		return err;
	/* Nothing is written yet, and no writer is to wait for a hash. */
	db_rollback(r->db);
	if (self) {
		err = password_verify(a->hash, a->current_password);
		if (err == ERR_UNAUTHENTICATED) {
			audit(r, "password change refused");
			return req_fault(r, "#/current_password", "is wrong");
		}
		if (err)
			return err;
	}
	if ((err = password_hash(r->arena, a->password, &a->hash))
	    || (err = db_begin(r->db)))
		return err;
	return sessions_end(r->db, r->uid);
}

/* PUT and PATCH alike change the members that are given. */
static enum err
change_user(struct req *r)
{
	struct account a = { 0 };
	enum err err;

	if ((err = load(r, &a)) || (err = REQ_BODY(r, change_fields, &a)))
		return err;
	if (a.password != NULL && (err = change_password(r, &a)))
		return err;
	err = db_exec(r->db, &account_update,
	    DB_ARGS(DB_INT(r->uid), DB_INT(a.version), DB_TEXT(a.email),
		DB_TEXT(text_lower(r->arena, a.email)), DB_TEXT(a.name),
		DB_TEXT(a.hash), DB_INT(clock_ms())));
	if (err)
		return email_conflict(r, err);
	if (db_changes(r->db) == 0)
		return req_fail(r, ERR_CONFLICT,
		    "it was changed at the same time; try again");
	if (a.password != NULL)
		audit(r, "password changed");
	return reply_account(r, 200, r->uid);
}

/* All who know something of the user are to forget it. */
static enum err
forget(struct req *r, const char *email)
{
	long long id = r->uid;
	const struct {
		const char *receiver, *path;
	} messages[] = {
		{ "cart", arena_printf(r->arena, "/user/%lld/cart/", id) },
		{ "email",
		    arena_printf(r->arena, "/send_email/?to=%s",
			text_percent_encode(r->arena, email)) },
		{ "stats", arena_printf(r->arena, "/log?user_id=%lld", id) },
	};
	enum err err;

	for (size_t i = 0; i < ARRAY_LEN(messages); i++)
		if ((err = tell(r, r->uid, messages[i].receiver,
			 (struct outbox_message) { .method = "DELETE",
			     .path = messages[i].path })))
			return err;
	return OK;
}

static enum err
delete_user(struct req *r)
{
	struct account a = { 0 };
	enum err err;

	if ((err = load(r, &a))
	    || (err = db_exec(r->db, &account_delete,
		    DB_ARGS(DB_INT(r->uid), DB_INT(clock_ms()))))
	    || (err = sessions_end(r->db, r->uid))
	    || (err = forget(r, a.email)))
		return err;
	audit(r, "account deleted");
	return reply_empty(r, 204);
}
