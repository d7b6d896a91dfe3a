/*
 * Proofs of an address: links that were mailed to it. One verifies it, another
 * lets who has forgotten the password choose a new one.
 *
 * A link carries 32 random bytes behind a #, so that no server on its way sees
 * them; the page it opens sends them here. It is good once and for an hour (a day, if
 * it only verifies: its mail may have to wait), or until the next one is made.
 */
#include "handlers/user/password.h"
#include "handlers/user/throttle.h"
#include "handlers/user/user.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/text.h"

#define TOKEN_BYTES 32
#define POLL (10 * CLOCK_SECOND) /* for what a dead instance left behind */

static handler_fn post_verification, verify, post_reset, reset_password;
static const struct field_table verify_fields, request_fields, reset_fields;

static const struct route routes[] = {
	{ "POST", "/user/{uid}/verification", post_verification,
	    ROUTE_SELF | ROUTE_ADMIN },
	{ "POST", "/user/verification", verify, ROUTE_ANYONE | ROUTE_EMPTY,
	    .body = &verify_fields },
	{ "POST", "/password_reset", post_reset, ROUTE_ANYONE,
	    .body = &request_fields },
	{ "POST", "/password_reset/{word}", reset_password,
	    ROUTE_ANYONE | ROUTE_SLOW | ROUTE_EMPTY, .body = &reset_fields },
};
const struct route_table proof_routes = ROUTES(routes);

static const struct kind {
	const char *name; /* in the database */
	const char *const *url, *page;
	int64_t good_for;
} kinds[] = {
	[PROOF_VERIFICATION] = { "verification", &user_settings.verify_url,
	    "/verify", CLOCK_DAY },
	[PROOF_RESET] = { "password_reset", &user_settings.reset_url,
	    "/reset", CLOCK_HOUR },
};
_Static_assert(ARRAY_LEN(kinds) == PROOF__COUNT, "every proof has a kind");

STMT(proof_put,
    "INSERT INTO proof (user_id, kind, token, expires_at)"
    " VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, kind) DO UPDATE SET"
    " token = excluded.token, expires_at = excluded.expires_at");

STMT(proof_find,
    "SELECT a.email FROM proof p JOIN account a ON a.id = p.user_id"
    " WHERE p.token = $1 AND p.kind = $2 AND p.expires_at > $3");

STMT(proof_take,
    "DELETE FROM proof WHERE token = $1 AND kind = $2 AND expires_at > $3"
    " RETURNING user_id");

STMT(proof_drop, "DELETE FROM proof WHERE user_id = $1");

STMT(address_get,
    "SELECT email, verified_at FROM account"
    " WHERE id = $1 AND deleted_at IS NULL");

STMT(account_verify,
    "UPDATE account SET verified_at = $2, updated_at = $2,"
    " version = version + 1 WHERE id = $1");

/* The link came by mail, and so proves the address as well. */
STMT(account_reset,
    "UPDATE account SET password = $2, verified_at = coalesce(verified_at, $3),"
    " updated_at = $3, version = version + 1 WHERE id = $1");

STMT(reset_put,
    "INSERT INTO reset_request (email_key) VALUES ($1)"
    " ON CONFLICT (email_key) DO NOTHING");

STMT(reset_any, "SELECT count(*) FROM (SELECT 1 FROM reset_request LIMIT 1) q");

STMT(reset_next,
    "DELETE FROM reset_request"
    " WHERE email_key = (SELECT email_key FROM reset_request LIMIT 1)"
    " RETURNING email_key");

STMT(reset_find,
    "SELECT id FROM account WHERE email_key = $1 AND disabled_at IS NULL");

struct input {
	const char *token, *email, *password;
};

static const struct field_table verify_fields = FIELDS(
	FIELD(struct input, token, .flags = FIELD_REQUIRED));

static const struct field_table request_fields = FIELDS(
	EMAIL_FIELD(struct input, .flags = FIELD_REQUIRED));

static const struct field_table reset_fields = FIELDS(
	PASSWORD_FIELD(struct input, .flags = FIELD_REQUIRED));

static const char *
hash_of(struct arena *a, const char *token)
{
	return secret_hash(a, token, strlen(token));
}

enum err
proof_send(struct ctx *ctx, enum proof which, int64_t user_id)
{
	const struct kind *kind = &kinds[which];
	const char *token = random_text(&ctx->arena, TOKEN_BYTES), *link;
	enum err err = db_exec(&ctx->db, &proof_put,
	    DB_ARGS(DB_INT(user_id), DB_TEXT(kind->name),
		DB_TEXT(hash_of(&ctx->arena, token)),
		DB_INT(clock_ms() + kind->good_for)));

	if (err)
		return err;
	if (**kind->url != '\0')
		link = arena_printf(&ctx->arena, "%s#%s", *kind->url, token);
	else
		link = arena_printf(&ctx->arena, "%s%s#%s",
		    ctx->app->settings.public_url, kind->page, token);
	return notice_link(&ctx->db, user_id, which, link);
}

enum err
proofs_drop(struct db *db, int64_t user_id)
{
	return db_exec(db, &proof_drop, DB_ARGS(DB_INT(user_id)));
}

/* Uses a link up. */
static enum err
take(struct req *r, enum proof kind, const char *token, int64_t *user_id)
{
	return db_get(r->db, &proof_take,
	    DB_ARGS(DB_TEXT(hash_of(r->arena, token)),
		DB_TEXT(kinds[kind].name), DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(user_id)));
}

static enum err
reply_accepted(struct req *r, enum proof which)
{
	struct buf *b = reply_json(r, 202);

	json_open(b, NULL, '{');
	json_int(b, "expires_in", kinds[which].good_for / CLOCK_SECOND);
	json_close(b, '}');
	return OK;
}

static enum err
post_verification(struct req *r)
{
	const char *email;
	int64_t verified_at;
	enum err err;

	if ((err = db_get(r->db, &address_get, DB_ARGS(DB_INT(r->uid)),
		 DB_INTO(DB_TEXT_TO(&email), DB_INT_TO(&verified_at)))))
		return err;
	if (verified_at != INT_NONE)
		return req_fail_as(r, ERR_CONFLICT, "already-verified",
		    "this address is verified already");
	if ((err = throttle_mail_from(r)) || (err = throttle_mail_to(r, email))
	    || (err = proof_send(r->ctx, PROOF_VERIFICATION, r->uid)))
		return err;
	return reply_accepted(r, PROOF_VERIFICATION);
}

static enum err
verify(struct req *r)
{
	struct input in = { 0 };
	int64_t id;
	enum err err;

	if ((err = req_body(r, &in)))
		return err;
	err = take(r, PROOF_VERIFICATION, in.token, &id);
	if (err == ERR_NOT_FOUND)
		return req_fault(
		    r, "#/token", "is not good, or not any more");
	if (err
	    || (err = db_exec(r->db, &account_verify,
		    DB_ARGS(DB_INT(id), DB_INT(clock_ms()))))
	    || (err = address_proved(r->db, id)))
		return err;
	audit(r, "address verified", id, NULL);
	return reply_empty(r, 204);
}

/* One answer, and the same work, whoever has the address; beyond the limit of
 * an address the newest link stays the one that is good. */
static enum err
post_reset(struct req *r)
{
	struct input in = { 0 };
	enum err err;

	if ((err = req_body(r, &in))
	    || (err = throttle_mail_from(r)))
		return err;
	err = throttle_mail_to(r, in.email);
	if (err == ERR_TOO_MANY)
		return reply_accepted(r, PROOF_RESET);
	if (err
	    || (err = db_exec(r->db, &reset_put,
		    DB_ARGS(DB_TEXT(text_lower(r->arena, in.email))))))
		return err;
	db_notify(r->db);
	return reply_accepted(r, PROOF_RESET);
}

static enum err
answer_request(struct ctx *ctx)
{
	const char *key;
	int64_t id;
	enum err err;

	if ((err = db_get(&ctx->db, &reset_next, DB_NO_ARGS,
		 DB_INTO(DB_TEXT_TO(&key)))))
		return err;
	err = db_get(&ctx->db, &reset_find, DB_ARGS(DB_TEXT(key)),
	    DB_INTO(DB_INT_TO(&id)));
	if (err)
		return err == ERR_NOT_FOUND ? OK : err;
	return proof_send(ctx, PROOF_RESET, id);
}

int64_t
reset_run(struct ctx *ctx)
{
	int64_t any;

	/* A look costs no lock when there is nothing to do. */
	if (db_get(&ctx->db, &reset_any, DB_NO_ARGS, DB_INTO(DB_INT_TO(&any)))
	    || any == 0 || db_begin(&ctx->db))
		return POLL;
	return db_finish(&ctx->db, answer_request(ctx)) ? POLL : 0;
}

static enum err
not_good(struct req *r, enum err err)
{
	if (err != ERR_NOT_FOUND)
		return err;
	return req_fail(r, err,
	    "This link is not good, or not any more; ask for another.");
}

static enum err
reset_password(struct req *r)
{
	struct input in = { 0 };
	const char *hash;
	int64_t id;
	enum err err;

	if ((err = req_body(r, &in)))
		return err;
	err = db_get(r->db, &proof_find,
	    DB_ARGS(DB_TEXT(hash_of(r->arena, r->word)),
		DB_TEXT(kinds[PROOF_RESET].name), DB_INT(clock_ms())),
	    DB_INTO(DB_TEXT_TO(&in.email)));
	if (err)
		return not_good(r, err);
	if ((err = password_check(r, in.password, in.email))
	    || (err = password_hash(r->arena, in.password, &hash))
	    || (err = db_begin(r->db)))
		return err;
	if ((err = take(r, PROOF_RESET, r->word, &id)))
		return not_good(r, err);
	if ((err = db_exec(r->db, &account_reset,
		 DB_ARGS(DB_INT(id), DB_TEXT(hash), DB_INT(clock_ms()))))
	    || (err = address_proved(r->db, id))
	    || (err = sessions_end(r->db, id))
	    || (err = throttle_trust(r, in.email))
	    || (err = notice_password_changed(r->db, id)))
		return err;
	audit(r, "password reset", id, NULL);
	return reply_empty(r, 204);
}
