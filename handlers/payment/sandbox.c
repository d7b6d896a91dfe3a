/*
 * The sandbox gateway: moves no money, and does on demand what real gateways
 * do at the worst moment. It keeps a record of its own, as they do, in
 * transactions of its own; they go to disk with the transfer's outcome. A token
 * says what becomes of a charge and of its refunds; one it does not know is
 * declined.
 */
#include "handlers/payment/gateway.h"

struct fate {
	enum outcome outcome; /* NOT_FOUND: it is lost on the way */
	enum { HEARD, UNHEARD } answer;
};

static const struct token {
	const char *name;
	struct fate charge, refund;
} tokens[] = {
	{ "tok_ok", { SUCCEEDED, HEARD }, { SUCCEEDED, HEARD } },
	{ "tok_decline", { DECLINED, HEARD }, { DECLINED, HEARD } },
	{ "tok_timeout", { SUCCEEDED, UNHEARD }, { SUCCEEDED, HEARD } },
	{ "tok_timeout_decline", { DECLINED, UNHEARD }, { DECLINED, HEARD } },
	{ "tok_lost", { NOT_FOUND, UNHEARD }, { DECLINED, HEARD } },
	{ "tok_refund_decline", { SUCCEEDED, HEARD }, { DECLINED, HEARD } },
	{ "tok_refund_timeout", { SUCCEEDED, HEARD }, { SUCCEEDED, UNHEARD } },
	{ "tok_refund_lost", { SUCCEEDED, HEARD }, { NOT_FOUND, UNHEARD } },
};

static const struct token unknown_token
    = { "", { DECLINED, HEARD }, { DECLINED, HEARD } };

static const struct answer silence = { UNKNOWN, NULL };

STMT(sandbox_insert,
    "INSERT INTO sandbox_charge"
    " (key, token, refund_of, amount, currency, succeeded)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (key) DO NOTHING");

STMT(sandbox_get,
    "SELECT id, token, succeeded FROM sandbox_charge WHERE key = $1");

struct entry {
	const char *key, *token, *refund_of, *currency;
	int64_t amount;
};

static const struct token *
find_token(const char *name)
{
	for (size_t i = 0; name != NULL && i < ARRAY_LEN(tokens); i++)
		if (strcmp(tokens[i].name, name) == 0)
			return &tokens[i];
	return &unknown_token;
}

static struct answer
look_up(struct db *db, const char *key, const char **token)
{
	int64_t id, succeeded;
	enum err err;

	err = db_get(db, &sandbox_get, DB_ARGS(DB_TEXT(key)),
	    DB_INTO(DB_INT_TO(&id), DB_TEXT_TO(token), DB_INT_TO(&succeeded)));
	if (err == ERR_NOT_FOUND)
		return (struct answer) { NOT_FOUND, NULL };
	if (err)
		return silence;
	return (struct answer) { succeeded ? SUCCEEDED : DECLINED,
		arena_printf(db->arena, "sandbox %lld", (long long)id) };
}

/* The first with a key decides; who tells again gets its outcome. */
static struct answer
act(struct db *db, const struct entry *e, const struct fate *fate)
{
	struct answer answer;
	const char *token;
	enum err err;

	if (fate->outcome == NOT_FOUND || db_begin_relaxed(db))
		return silence;
	err = db_exec(db, &sandbox_insert,
	    DB_ARGS(DB_TEXT(e->key), DB_TEXT(e->token), DB_TEXT(e->refund_of),
		DB_INT(e->amount), DB_TEXT(e->currency),
		DB_INT(fate->outcome == SUCCEEDED)));
	if (err) {
		db_rollback(db);
		return silence;
	}
	answer = look_up(db, e->key, &token);
	if (db_commit(db) || fate->answer == UNHEARD)
		return silence;
	return answer;
}

static struct answer
charge(struct ctx *ctx, const struct charge *c)
{
	const struct token *token = find_token(c->token);
	struct entry e = { .key = c->key,
		.token = token->name,
		.currency = c->currency,
		.amount = c->amount };

	return act(&ctx->db, &e, &token->charge);
}

static struct answer
refund(struct ctx *ctx, const struct refund *f)
{
	struct entry e = { .key = f->key,
		.refund_of = f->charge_key,
		.currency = f->currency,
		.amount = f->amount };

	switch (look_up(&ctx->db, f->charge_key, &e.token).outcome) {
	case SUCCEEDED:
		return act(&ctx->db, &e, &find_token(e.token)->refund);
	case UNKNOWN:
		return silence;
	default:
		return (struct answer) { DECLINED, NULL };
	}
}

static struct answer
ask(struct ctx *ctx, const char *key)
{
	const char *token;

	return look_up(&ctx->db, key, &token);
}

const struct gateway sandbox_gateway = {
	.name = "sandbox",
	.who = GATEWAY_OWNER,
	.charge = charge,
	.ask = ask,
	.refund = refund,
	.ask_refund = ask,
};
