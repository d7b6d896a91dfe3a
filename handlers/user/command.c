/*
 * What an administrator does on the host: coster-user COMMAND. Addresses and
 * passwords are held to the same rules as in requests.
 */
#include "handlers/user/password.h"
#include "handlers/user/user.h"

#include <sysexits.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/text.h"

STMT(admin_put,
    "INSERT INTO account"
    " (email, email_key, role, password, created_at, updated_at)"
    " VALUES ($1, $2, 'admin', $3, $4, $4)"
    " ON CONFLICT (email_key) DO UPDATE SET role = excluded.role,"
    " password = excluded.password, disabled_at = NULL,"
    " updated_at = excluded.updated_at,"
    " version = account.version + 1 RETURNING id, version");

STMT(account_list,
    "SELECT id, role, email, coalesce(name, '-'), CASE"
    " WHEN disabled_at IS NOT NULL THEN 'disabled'"
    " WHEN verified_at IS NOT NULL THEN 'verified' ELSE '-' END"
    " FROM account WHERE deleted_at IS NULL ORDER BY id");

STMT(account_find, "SELECT id FROM account WHERE email_key = $1");

/* $2 when, or NULL. */
STMT(disabled_set,
    "UPDATE account SET disabled_at = $2, updated_at = $3,"
    " version = version + 1 WHERE id = $1");

STMT(role_set,
    "UPDATE account SET role = $2, updated_at = $3, version = version + 1"
    " WHERE id = $1");

struct arguments {
	const char *email, *password, *role; /* NULL for what is not given */
};

static const char *const roles[] = { "customer", "admin", NULL };

static const struct field argument_fields[] = {
	EMAIL_FIELD(struct arguments),
	PASSWORD_FIELD(struct arguments),
	FIELD(struct arguments, role, .choices = roles),
};

static int
complain(const char *what, const char *fault)
{
	fprintf(stderr, "coster-user: %s %s\n", what, fault);
	return EX_DATAERR;
}

static int
check(struct arena *a, const struct arguments *given)
{
	struct arguments in;
	struct json_object *root;
	struct faults faults;
	const char *why;
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '{');
	json_text(&b, "email", given->email);
	if (given->password != NULL)
		json_text(&b, "password", given->password);
	if (given->role != NULL)
		json_text(&b, "role", given->role);
	json_close(&b, '}');
	if (json_parse(a, b.data, b.len, &root, &why))
		return complain("an argument is not good:", why);
	faults_init(&faults, a);
	field_read_object(&faults, root, argument_fields,
	    ARRAY_LEN(argument_fields), &in);
	if (faults.count > 0)
		return complain(
		    faults.first->pointer + strlen("#/"), faults.first->detail);
	return EX_OK;
}

/* The account that has the address. */
static int
find(struct ctx *ctx, const char *email, int64_t *id)
{
	switch (db_get(&ctx->db, &account_find,
	    DB_ARGS(DB_TEXT(text_lower(&ctx->arena, email))),
	    DB_INTO(DB_INT_TO(id)))) {
	case OK:
		return EX_OK;
	case ERR_NOT_FOUND:
		fprintf(stderr, "coster-user: no account has this address\n");
		return EX_NOUSER;
	default:
		return EX_IOERR;
	}
}

struct admin {
	const char *email, *hash;
	int64_t id, version;
};

static enum err
put_admin(struct db *db, struct admin *a)
{
	const char *key = text_lower(db->arena, a->email);
	enum err err = db_get(db, &admin_put,
	    DB_ARGS(DB_TEXT(a->email), DB_TEXT(key), DB_TEXT(a->hash),
		DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(&a->id), DB_INT_TO(&a->version)));

	if (err || (err = address_proved(db, a->id)))
		return err;
	return sessions_end(db, a->id);
}

int
command_add_admin(struct ctx *ctx, int argc, char **argv)
{
	struct arguments in = { .email = argv[0],
		.password = secret_line(&ctx->arena, "password") };
	struct admin a = { .email = argv[0] };
	const char *fault;
	int status;

	(void)argc;
	if ((status = check(&ctx->arena, &in)))
		return status;
	if ((fault = password_fault(&ctx->arena, in.password, in.email)) != NULL)
		return complain("password", fault);
	if (password_hash(&ctx->arena, in.password, &a.hash))
		return EX_OSERR;
	if (db_begin(&ctx->db)
	    || db_finish(&ctx->db, put_admin(&ctx->db, &a)))
		return EX_IOERR;
	LOG(LOG_AUDIT, "made administrator by command", LOG_INT("user", a.id));
	printf(a.version == 1
		? "user %lld made, an administrator\n"
		: "user %lld is an administrator now, with this password; its "
		  "sessions are ended\n",
	    (long long)a.id);
	return EX_OK;
}

int
command_list(struct ctx *ctx, int argc, char **argv)
{
	struct db_rows q = db_query(&ctx->db, &account_list, DB_NO_ARGS);

	(void)argc, (void)argv;
	while (db_next(&q))
		printf("%lld\t%s\t%s\t%s\t%s\n", (long long)db_int(&q, 0),
		    db_text(&q, 1), db_text(&q, 2), db_text(&q, 3),
		    db_text(&q, 4));
	return db_end(&q) ? EX_IOERR : EX_OK;
}

/* A change of the account that an address names. */
struct change {
	enum err (*make)(struct db *db, int64_t id, const struct arguments *in);
	const char *event; /* for the log */
	const char *told;  /* what the account is now */
	bool lags; /* what was given out before is good until it expires */
};

static int
change(struct ctx *ctx, const struct arguments *in, const struct change *c)
{
	int64_t id;
	int status;

	if ((status = check(&ctx->arena, in))
	    || (status = find(ctx, in->email, &id)))
		return status;
	if (db_begin(&ctx->db)
	    || db_finish(&ctx->db, c->make(&ctx->db, id, in)))
		return EX_IOERR;
	LOG(LOG_AUDIT, c->event, LOG_INT("user", id),
	    { .key = in->role != NULL ? "role" : NULL, .text = in->role });
	printf("user %lld %s%s", (long long)id, c->told,
	    in->role != NULL ? in->role : "");
	if (c->lags)
		printf("; other services take tokens given out before for up to "
		       "%lld seconds",
		    (long long)user_settings.token_seconds);
	putchar('\n');
	return EX_OK;
}

static enum err
set_role(struct db *db, int64_t id, const struct arguments *in)
{
	return db_exec(db, &role_set,
	    DB_ARGS(DB_INT(id), DB_TEXT(in->role), DB_INT(clock_ms())));
}

int
command_set_role(struct ctx *ctx, int argc, char **argv)
{
	static const struct change c = { set_role, "role changed by command",
		"is ", true };

	(void)argc;
	return change(ctx,
	    &(struct arguments) { .email = argv[0], .role = argv[1] }, &c);
}

static enum err
revoke(struct db *db, int64_t id, const struct arguments *in)
{
	(void)in;
	return sessions_end(db, id);
}

int
command_revoke_sessions(struct ctx *ctx, int argc, char **argv)
{
	static const struct change c = { revoke, "sessions ended by command",
		"is signed out", true };

	(void)argc;
	return change(ctx, &(struct arguments) { .email = argv[0] }, &c);
}

static enum err
disable(struct db *db, int64_t id, const struct arguments *in)
{
	int64_t now = clock_ms();
	enum err err;

	(void)in;
	if ((err = db_exec(db, &disabled_set,
		 DB_ARGS(DB_INT(id), DB_INT(now), DB_INT(now))))
	    || (err = sessions_end(db, id)))
		return err;
	return proofs_drop(db, id);
}

int
command_disable(struct ctx *ctx, int argc, char **argv)
{
	static const struct change c = { disable, "account disabled by command",
		"is disabled", true };

	(void)argc;
	return change(ctx, &(struct arguments) { .email = argv[0] }, &c);
}

static enum err
enable(struct db *db, int64_t id, const struct arguments *in)
{
	(void)in;
	return db_exec(db, &disabled_set,
	    DB_ARGS(DB_INT(id), DB_INT(INT_NONE), DB_INT(clock_ms())));
}

int
command_enable(struct ctx *ctx, int argc, char **argv)
{
	static const struct change c = { enable, "account enabled by command",
		"can sign in again", false };

	(void)argc;
	return change(ctx, &(struct arguments) { .email = argv[0] }, &c);
}
