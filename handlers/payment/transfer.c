/*
 * Transfers, attempts and refunds alike: what the gateway said of one, and the
 * job that asks it again. See payment.h.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define ASK_FIRST (2 * CLOCK_SECOND) /* then ever more slowly */
#define ASK_CEILING CLOCK_HOUR
#define SETTLE_EVERY (2 * CLOCK_SECOND)

/* What was sent may still be on its way when a gateway is asked the first
 * times: only from this time on is NOT_FOUND believed. */
#define ASKED_ENOUGH 3

#define LIVE "status IN ('started', 'unknown')"

/* $3: no longer ago than an Idempotency-Key counts. */
#define AGAIN(table)                                                           \
	{                                                                      \
		"SELECT id, amount, gateway, key, status FROM " table          \
		" WHERE invoice_id = $1 AND origin = $2 AND created_at > $3"   \
		" AND status <> 'declined' ORDER BY id LIMIT 1"                \
	}
#define DUE(table)                                                             \
	{                                                                      \
		"SELECT id, invoice_id, amount, gateway, key, asked, due_at"   \
		" FROM " table " WHERE " LIVE " AND due_at ="                  \
		" (SELECT min(due_at) FROM " table " WHERE " LIVE ") LIMIT 1"  \
	}
/* What a clock put off that has been set back since. */
#define RECALL(table)                                                          \
	{                                                                      \
		"UPDATE " table " SET due_at = $1 WHERE " LIVE                 \
		" AND due_at > $2"                                             \
	}
#define CLAIM(table)                                                           \
	{                                                                      \
		"UPDATE " table " SET asked = asked + 1, due_at = $3"          \
		" WHERE id = $1 AND key = $4 AND asked = $2 AND " LIVE         \
	}
#define MARK(table)                                                            \
	{                                                                      \
		"UPDATE " table " SET status = $2,"                            \
		" reference = coalesce($3, reference), due_at = $4,"           \
		" ended_at = $5 WHERE id = $1 AND key = $6 AND (" LIVE         \
		" OR (status = 'declined' AND $2 = 'succeeded'))"              \
	}
/* A restore may have given the id to another. */
#define KNOWN(table)                                                           \
	{                                                                      \
		"SELECT id FROM " table " WHERE id = $1 AND key = $2"          \
	}

STMT_ARRAY(again[])
    = { [ATTEMPT] = AGAIN("attempt"), [REFUND] = AGAIN("refund") };
STMT_ARRAY(due[]) = { [ATTEMPT] = DUE("attempt"), [REFUND] = DUE("refund") };
STMT_ARRAY(recall[])
    = { [ATTEMPT] = RECALL("attempt"), [REFUND] = RECALL("refund") };
STMT_ARRAY(claim[])
    = { [ATTEMPT] = CLAIM("attempt"), [REFUND] = CLAIM("refund") };
STMT_ARRAY(mark[]) = { [ATTEMPT] = MARK("attempt"), [REFUND] = MARK("refund") };
STMT_ARRAY(known[])
    = { [ATTEMPT] = KNOWN("attempt"), [REFUND] = KNOWN("refund") };

static const struct {
	const char *name;
	enum err (*succeeded)(struct db *db, const struct transfer *t);
} kinds[] = {
	[ATTEMPT] = { "attempt", invoice_paid },
	[REFUND] = { "refund", invoice_refunded },
};
_Static_assert(ARRAY_LEN(again) == TRANSFER__COUNT
	&& ARRAY_LEN(due) == TRANSFER__COUNT
	&& ARRAY_LEN(recall) == TRANSFER__COUNT
	&& ARRAY_LEN(claim) == TRANSFER__COUNT
	&& ARRAY_LEN(mark) == TRANSFER__COUNT
	&& ARRAY_LEN(known) == TRANSFER__COUNT
	&& ARRAY_LEN(kinds) == TRANSFER__COUNT,
    "every kind of transfer has all of it");

static const char *const statuses[] = {
	[SUCCEEDED] = "succeeded",
	[DECLINED] = "declined",
	[UNKNOWN] = "unknown",
	[NOT_FOUND] = "declined",
};
_Static_assert(ARRAY_LEN(statuses) == OUTCOME__COUNT, "every outcome is one");

const char *
transfer_origin(struct req *r)
{
	const char *key = r->param[PARAM_IDEMPOTENCY_KEY],
		   *request = r->param[PARAM_REQUEST_ID];

	if (*key != '\0')
		return arena_printf(
		    r->arena, "%lld %s", (long long)r->caller.uid, key);
	return *request != '\0' ? request : NULL;
}

enum err
transfer_again(struct req *r, struct transfer *t)
{
	const char *status;
	enum err err;

	err = db_get(r->db, &again[t->kind],
	    DB_ARGS(DB_INT(t->invoice_id), DB_TEXT(transfer_origin(r)),
		DB_INT(clock_ms() - CLOCK_DAY)),
	    DB_INTO(DB_INT_TO(&t->id), DB_INT_TO(&t->amount),
		DB_TEXT_TO(&t->gateway), DB_TEXT_TO(&t->key),
		DB_TEXT_TO(&status)));
	if (err)
		return err;
	t->answer.outcome = NOT_FOUND;
	for (enum outcome o = SUCCEEDED; o < NOT_FOUND; o++)
		if (strcmp(statuses[o], status) == 0)
			t->answer.outcome = o;
	return OK;
}

/* What has its answer already is well. What is not there has moved money that nothing
 * here tells of. */
static enum err
check_known(struct db *db, const struct transfer *t)
{
	int64_t id;
	enum err err = db_get(db, &known[t->kind],
	    DB_ARGS(DB_INT(t->id), DB_TEXT(t->key)), DB_INTO(DB_INT_TO(&id)));

	if (err != ERR_NOT_FOUND)
		return err;
	LOG(LOG_ERROR, "a transfer was restored away while it was on its way",
	    LOG_TEXT("kind", kinds[t->kind].name), LOG_TEXT("key", t->key),
	    LOG_INT("invoice", t->invoice_id), LOG_INT("amount", t->amount),
	    LOG_TEXT("do", "look for the key at the gateway"));
	return ERR_INTERNAL;
}

/* Whoever brings the answer, and however often: it has its effect once. */
static enum err
record(struct db *db, const struct transfer *t, int64_t due_at)
{
	enum outcome outcome = t->answer.outcome;
	int64_t ended_at = outcome == UNKNOWN ? INT_NONE : clock_ms();
	enum err err;

	err = db_exec(db, &mark[t->kind],
	    DB_ARGS(DB_INT(t->id), DB_TEXT(statuses[outcome]),
		DB_TEXT(t->answer.reference), DB_INT(due_at),
		DB_INT(ended_at), DB_TEXT(t->key)));
	if (err)
		return err;
	if (db_changes(db) == 0)
		return check_known(db, t);
	LOG(LOG_AUDIT, kinds[t->kind].name, LOG_INT("id", t->id),
	    LOG_INT("invoice", t->invoice_id),
	    LOG_TEXT("status", statuses[outcome]));
	return outcome == SUCCEEDED ? kinds[t->kind].succeeded(db, t) : OK;
}

enum err
transfer_finish(struct req *r, const struct transfer *t)
{
	enum err err;

	if ((err = db_begin(r->db))
	    || (err = record(r->db, t, clock_ms() + ASK_FIRST)))
		return err;
	switch (t->answer.outcome) {
	case SUCCEEDED:
		return reply_invoice(r, 200, t->invoice_id);
	case UNKNOWN:
		if ((err = reply_invoice(r, 202, t->invoice_id)))
			return err;
		reply_field(r, "Retry-After", "%d", (int)(ASK_FIRST / 1000));
		return OK;
	default:
		/* Committed here: what ends in an error is rolled back. */
		err = db_commit(r->db);
		return err ? err : ERR_DECLINED;
	}
}

static int64_t
backoff(int64_t asked)
{
	int64_t wait = ASK_FIRST << (asked < 16 ? asked : 16);

	return wait < ASK_CEILING ? wait : ASK_CEILING;
}

/* One that is due, with its next time put off before the gateway is asked: the
 * other instance leaves it alone, and a death here costs only time. */
static enum err
take(struct db *db, struct transfer *t, int64_t *asked, int64_t *due_at)
{
	int64_t now = clock_ms();
	enum err err;

	err = db_get(db, &due[t->kind], DB_NO_ARGS,
	    DB_INTO(DB_INT_TO(&t->id), DB_INT_TO(&t->invoice_id),
		DB_INT_TO(&t->amount), DB_TEXT_TO(&t->gateway),
		DB_TEXT_TO(&t->key), DB_INT_TO(asked), DB_INT_TO(due_at)));
	if (!err && job_wait(*due_at, ASK_CEILING) > 0)
		err = ERR_NOT_FOUND;
	if (err || (err = db_begin(db)))
		return err;
	*due_at = now + backoff(*asked);
	err = db_exec(db, &recall[t->kind],
	    DB_ARGS(DB_INT(now), DB_INT(now + ASK_CEILING)));
	if (!err)
		err = db_exec(db, &claim[t->kind],
		    DB_ARGS(DB_INT(t->id), DB_INT(*asked), DB_INT(*due_at),
			DB_TEXT(t->key)));
	if (!err && db_changes(db) == 0)
		err = ERR_CONFLICT;
	++*asked;
	return db_finish(db, err);
}

static struct answer
ask(struct ctx *ctx, const struct transfer *t, int64_t asked)
{
	static const struct answer silence = { UNKNOWN, NULL };
	const struct gateway *g = gateway_find(t->gateway);
	struct answer answer;

	if (g == NULL) {
		LOG(LOG_ERROR, "no such gateway", LOG_TEXT("name", t->gateway));
		return silence;
	}
	answer = t->kind == REFUND ? g->ask_refund(ctx, t->key)
				   : g->ask(ctx, t->key);
	if (answer.outcome == NOT_FOUND && asked < ASKED_ENOUGH)
		return silence;
	return answer;
}

static enum err
settle(struct ctx *ctx, enum transfer_kind kind)
{
	struct transfer t = { .kind = kind };
	struct db *db = &ctx->db;
	int64_t asked, due_at;
	enum err err;

	if ((err = take(db, &t, &asked, &due_at)))
		return err;
	t.answer = ask(ctx, &t, asked);
	CRASH_POINT("after-ask");
	if ((err = db_begin(db)))
		return err;
	return db_finish(db, record(db, &t, due_at));
}

int64_t
transfer_settle(struct ctx *ctx)
{
	for (enum transfer_kind kind = 0; kind < TRANSFER__COUNT; kind++)
		if (settle(ctx, kind) == OK)
			return 0;
	return SETTLE_EVERY;
}
