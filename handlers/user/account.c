/*
 * Accounts: registered, read, changed and deleted.
 *
 * An address is verified by a link that is mailed to it (proof.c). To change
 * the address or the password takes the current password: who has found a
 * token is not to take the account over.
 */
#include "handlers/user/password.h"
#include "handlers/user/throttle.h"
#include "handlers/user/user.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/page.h"
#include "shared/text.h"

static handler_fn post_user, get_users, get_user, change_user, delete_user;
static const struct field_table create_fields, query_fields, change_fields;

static const struct route routes[] = {
	{ "POST", "/user", post_user, ROUTE_ANYONE | ROUTE_SLOW,
	    .body = &create_fields },
	{ "GET", "/user", get_users, ROUTE_ADMIN | ROUTE_SERVICE,
	    .query = &query_fields },
	{ "GET", "/user/{uid}", get_user,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SERVICE | ROUTE_TAGGED },
	{ "PUT", "/user/{uid}", change_user,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED, .body = &change_fields },
	{ "PATCH", "/user/{uid}", change_user,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED, .body = &change_fields },
	{ "DELETE", "/user/{uid}", delete_user,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_EMPTY | ROUTE_TAGGED },
};
const struct route_table account_routes = ROUTES(routes);

/* The columns that put_account() expects, in its order. */
#define COLUMNS                                                                \
	"id, email, name, role, verified_at, created_at, updated_at, version"
enum column {
	ID,
	EMAIL,
	NAME,
	ROLE,
	VERIFIED_AT,
	CREATED_AT,
	UPDATED_AT,
	VERSION,
};

STMT(account_insert,
    "INSERT INTO account"
    " (email, email_key, name, role, password, created_at, updated_at)"
    " VALUES ($1, $2, $3, 'customer', $4, $5, $5)");

STMT(account_get,
    "SELECT " COLUMNS " FROM account WHERE id = $1 AND deleted_at IS NULL");

/* $1 the id before, $2 limit, $3 address. A service may mean an address that the
 * account had before: its owner is still to be told some things there. */
enum source { ALL, BY_EMAIL, BY_ANY_EMAIL, SOURCE__COUNT };
STMT_ARRAY(lists[SOURCE__COUNT]) = {
	[ALL] = { "SELECT " COLUMNS " FROM account WHERE deleted_at IS NULL"
		  " AND id > $1 AND $3 IS NULL ORDER BY id LIMIT $2" },
	[BY_EMAIL] = { "SELECT " COLUMNS " FROM account WHERE email_key = $3"
		       " AND id > $1 ORDER BY id LIMIT $2" },
	[BY_ANY_EMAIL] = { "SELECT " COLUMNS " FROM account WHERE id ="
			   " coalesce((SELECT id FROM account"
			   "  WHERE email_key = $3), (SELECT user_id"
			   "  FROM former_address WHERE email_key = $3))"
			   " AND id > $1 ORDER BY id LIMIT $2" },
};

STMT(account_load,
    "SELECT email, name, password, verified_at IS NOT NULL, version"
    " FROM account WHERE id = $1 AND deleted_at IS NULL");

STMT(account_update,
    "UPDATE account SET email = $3, email_key = $4, name = $5, password = $6,"
    " verified_at = CASE WHEN email_key = $4 THEN verified_at END,"
    " updated_at = $7, version = version + 1"
    " WHERE id = $1 AND version = $2 AND deleted_at IS NULL");

STMT(account_delete,
    "UPDATE account SET email = NULL, email_key = NULL, name = NULL,"
    " password = NULL, verified_at = NULL, updated_at = $2, deleted_at = $2,"
    " version = version + 1 WHERE id = $1");

struct account {
	const char *email, *name;
	const char *password, *current_password; /* as given; NULL else */
	const char *hash;
	int64_t verified, version;
	const char *key; /* the address in lower case, as it was */
	bool moved;	 /* to another one */
};

static const struct field_table create_fields = FIELDS(
	EMAIL_FIELD(struct account, .flags = FIELD_REQUIRED),
	PASSWORD_FIELD(struct account, .flags = FIELD_REQUIRED),
	FIELD(struct account, name, .flags = FIELD_NULLABLE, .min = 1));

static const struct field_table change_fields = FIELDS(
	EMAIL_FIELD(struct account),
	PASSWORD_FIELD(struct account),
	FIELD(struct account, name, .flags = FIELD_NULLABLE, .min = 1),
	FIELD(struct account, current_password));

struct query {
	struct page page;
	const char *email;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page),
	EMAIL_FIELD(struct query));

static void
put_account(struct buf *b, const char *key, const struct db_rows *q)
{
	json_open(b, key, '{');
	json_int(b, "id", db_int(q, ID));
	json_text(b, "email", db_text(q, EMAIL));
	json_text(b, "name", db_text(q, NAME));
	json_text(b, "role", db_text(q, ROLE));
	json_time(b, "verified_at", db_int(q, VERIFIED_AT));
	json_time(b, "created_at", db_int(q, CREATED_AT));
	json_time(b, "updated_at", db_int(q, UPDATED_AT));
	json_int(b, "version", db_int(q, VERSION));
	json_close(b, '}');
}

enum err
account_put(struct req *r, struct buf *b, const char *key, int64_t id,
    int64_t *version)
{
	struct db_rows q = db_query(r->db, &account_get, DB_ARGS(DB_INT(id)));
	bool found = db_next(&q);
	enum err err;

	if (found) {
		put_account(b, key, &q);
		*version = db_int(&q, VERSION);
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

static enum err
reply_account(struct req *r, int status, int64_t id)
{
	int64_t version;
	enum err err
	    = account_put(r, reply_json(r, status), NULL, id, &version);

	if (err == OK)
		reply_version(r, version);
	return err;
}

static enum err
load(struct req *r, struct account *a)
{
	enum err err = db_get(r->db, &account_load, DB_ARGS(DB_INT(r->uid)),
	    DB_INTO(DB_TEXT_TO(&a->email), DB_TEXT_TO(&a->name),
		DB_TEXT_TO(&a->hash), DB_INT_TO(&a->verified),
		DB_INT_TO(&a->version)));

	if (err)
		return err;
	a->key = text_lower(r->arena, a->email);
	return req_conditions(r, a->version);
}

enum err
password_check(struct req *r, const char *password, const char *email)
{
	const char *fault = password_fault(r->arena, password, email);

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

static enum err
post_user(struct req *r)
{
	struct account a = { 0 };
	int64_t id;
	enum err err;

	if ((err = req_body(r, &a))
	    || (err = password_check(r, a.password, a.email))
	    || (err = password_hash(r->arena, a.password, &a.hash))
	    || (err = db_begin(r->db)) || (err = throttle_register(r)))
		return err;
	a.key = text_lower(r->arena, a.email);
	err = db_insert(r->db, &account_insert,
	    DB_ARGS(DB_TEXT(a.email), DB_TEXT(a.key), DB_TEXT(a.name),
		DB_TEXT(a.hash), DB_INT(clock_ms())),
	    &id);
	if (err)
		return email_conflict(r, err);
	if ((err = notice_registered(r->db, id, a.email, a.name))
	    || (err = proof_send(r->ctx, PROOF_VERIFICATION, id))
	    || (err = reply_account(r, 201, id)))
		return err;
	audit(r, "registered", id, NULL);
	reply_location(r, "/user", id);
	return OK;
}

static enum err
get_users(struct req *r)
{
	struct query in = { .page = PAGE_INIT };
	enum source source = ALL;
	const char *key = NULL;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	if (in.email != NULL) {
		key = text_lower(r->arena, in.email);
		source = r->caller.role == ROLE_SERVICE ? BY_ANY_EMAIL
							: BY_EMAIL;
	}
	q = db_query(r->db, &lists[source],
	    DB_ARGS(DB_INT(in.page.after_id), DB_INT(in.page.limit + 1),
		DB_TEXT(key)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, ID), NULL))
		put_account(b, NULL, &q);
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

static enum err
verify_current(struct req *r, const struct account *a)
{
	enum err err;

	if ((err = throttle_sign_in(r, a->key)))
		return err;
	err = password_verify(a->hash, a->current_password);
	if (err != ERR_UNAUTHENTICATED)
		return err;
	audit(r, "change refused", r->uid, "wrong password");
	return req_fault(r, "#/current_password", "is wrong");
}

/* What a change of the password or the address takes: hashes, on a worker. */
static enum err
check_secrets(struct req *r, struct account *a)
{
	bool self = r->caller.uid == r->uid;
	enum err err;

	if (a->password != NULL
	    && (err = password_check(r, a->password, a->email)))
		return err;
	if (self && a->current_password == NULL)
		return req_fault(r, "#/current_password", "is required");
	if (!self && a->password == NULL)
		return OK;
	if ((err = req_may_wait(r)))
		return err;
	/* Nothing is written yet, and no writer is to wait for a hash. */
	db_rollback(r->db);
	if ((self && (err = verify_current(r, a)))
	    || (a->password != NULL
		&& (err = password_hash(r->arena, a->password, &a->hash)))
	    || (err = db_begin(r->db)))
		return err;
	return self ? throttle_succeeded(r, a->key) : OK;
}

/* Links that were mailed to the old address are worth nothing from now on. Its
 * owner is told, and with that also of a new password. */
static enum err
move(struct req *r, const struct account *a)
{
	bool self = r->caller.uid == r->uid;
	enum err err;

	if ((err = address_claimed(
		 r->db, r->uid, text_lower(r->arena, a->email)))
	    || (err = address_left(r->db, r->uid, a->key, a->verified))
	    || (err = throttle_forget(r, a->key))
	    || (self && (err = throttle_mail_from(r)))
	    || (self && (err = throttle_move(r)))
	    || (self && (err = throttle_trust(r, a->email)))
	    || (err = proofs_drop(r->db, r->uid)))
		return err;
	audit(r, "address changed", r->uid, NULL);
	if ((err = notice_address_changed(r->db, r->uid, a->key)))
		return err;
	return proof_send(r->ctx, PROOF_VERIFICATION, r->uid);
}

static enum err
end_sessions(struct req *r, const struct account *a)
{
	enum err err;

	if ((err = sessions_end(r->db, r->uid))
	    || (err = proofs_drop(r->db, r->uid)))
		return err;
	audit(r, "password changed", r->uid, NULL);
	if (a->moved)
		return OK;
	if (r->caller.uid == r->uid && (err = throttle_mail_from(r)))
		return err;
	return notice_password_changed(r->db, r->uid);
}

/* PUT and PATCH alike change the members that are given. */
static enum err
change_user(struct req *r)
{
	struct account a = { 0 };
	const char *key;
	enum err err;

	if ((err = load(r, &a)) || (err = req_body(r, &a)))
		return err;
	key = text_lower(r->arena, a.email);
	a.moved = strcmp(key, a.key) != 0;
	if ((a.password != NULL || a.moved) && (err = check_secrets(r, &a)))
		return err;
	err = db_exec(r->db, &account_update,
	    DB_ARGS(DB_INT(r->uid), DB_INT(a.version), DB_TEXT(a.email),
		DB_TEXT(key), DB_TEXT(a.name), DB_TEXT(a.hash),
		DB_INT(clock_ms())));
	if (err)
		return email_conflict(r, err);
	if (db_changes(r->db) == 0)
		return req_fail(r, ERR_CONFLICT,
		    "it was changed at the same time; try again");
	if ((a.password != NULL && (err = end_sessions(r, &a)))
	    || (a.moved && (err = move(r, &a))))
		return err;
	return reply_account(r, 200, r->uid);
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
	    || (err = proofs_drop(r->db, r->uid))
	    || (err = throttle_forget(r, a.key))
	    || (err = notice_deleted(r->db, r->uid))
	    || (err = addresses_forget(r->db, r->uid, a.key, a.verified)))
		return err;
	audit(r, "account deleted", r->uid, NULL);
	return reply_empty(r, 204);
}
