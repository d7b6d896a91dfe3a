/*
 * Giving money back, all or a part, through the gateway that took it.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/log.h"
#include "shared/token.h"

static handler_fn refund;
static const struct field_table request_fields;

static const struct route routes[] = {
	{ "POST", "/invoices/{id}/refund", refund,
	    ROUTE_ADMIN | ROUTE_SLOW | ROUTE_MAYBE_BODY | ROUTE_TAGGED,
	    .body = &request_fields },
};
const struct route_table refund_routes = ROUTES(routes);

/* Of what the attempt that paid has taken. */
STMT(refund_insert,
    "INSERT INTO refund (invoice_id, attempt_id, gateway, key, amount, origin,"
    " due_at, created_at)"
    " SELECT invoice_id, id, gateway, $2, $3, $4, $5, $6 FROM attempt"
    " WHERE invoice_id = $1 AND status = 'succeeded' ORDER BY id LIMIT 1"
    " RETURNING id, gateway");

STMT(charge_get,
    "SELECT a.key, a.reference FROM refund f"
    " JOIN attempt a ON a.id = f.attempt_id WHERE f.id = $1");

struct request {
	int64_t amount;
};

static const struct field_table request_fields = FIELDS(
	FIELD(struct request, amount, .min = 1));

/* All that is left, when no amount is given. */
static enum err
find_amount(struct req *r, const struct invoice *v, int64_t *amount)
{
	int64_t left = v->amount_paid - v->amount_refunded;

	if (*amount == INT_NONE)
		*amount = left;
	if (left == 0)
		return req_fail_as(r, ERR_CONFLICT, "nothing-to-refund",
		    "nothing was paid for this invoice");
	if (*amount > left)
		return req_fault(r, "#/amount", "is more than the %lld left",
		    (long long)left);
	return OK;
}

static enum err
open_refund(struct req *r, const struct invoice *v, int64_t amount,
    struct transfer *t)
{
	int64_t now = clock_ms();
	enum err err;

	if ((err = invoice_expect(r, v, "paid"))
	    || (err = find_amount(r, v, &amount)))
		return err;
	t->amount = amount;
	t->key = random_text(r->arena, 18);
	t->answer.outcome = NOT_FOUND;
	err = db_get(r->db, &refund_insert,
	    DB_ARGS(DB_INT(v->id), DB_TEXT(t->key), DB_INT(amount),
		DB_TEXT(transfer_origin(r)), DB_INT(now + TRANSFER_ALONE),
		DB_INT(now)),
	    DB_INTO(DB_INT_TO(&t->id), DB_TEXT_TO(&t->gateway)));
	if (err == ERR_CONFLICT)
		return req_fail_as(r, err, "refund-in-progress",
		    "an earlier refund of this invoice is not decided yet");
	if (!err)
		LOG(LOG_AUDIT, "refund ordered", LOG_INT("refund", t->id),
		    LOG_INT("invoice", v->id), LOG_INT("by", r->caller.uid));
	return err;
}

/* Through the gateway that took the money, offered or not. */
static enum err
give_back(struct req *r, const char *currency, struct transfer *t)
{
	struct refund f = { .key = t->key,
		.amount = t->amount,
		.currency = currency };
	const struct gateway *g = gateway_find(t->gateway);
	enum err err;

	if (g == NULL)
		return ERR_INTERNAL;
	err = db_get(r->db, &charge_get, DB_ARGS(DB_INT(t->id)),
	    DB_INTO(DB_TEXT_TO(&f.charge_key),
		DB_TEXT_TO(&f.charge_reference)));
	if (err)
		return err;
	CRASH_POINT("before-refund");
	t->answer = g->refund(r->ctx, &f);
	CRASH_POINT("after-refund");
	return OK;
}

static enum err
refund(struct req *r)
{
	struct transfer t = { .kind = REFUND, .invoice_id = r->id };
	struct request in = { .amount = INT_NONE };
	struct invoice v;
	enum err err;

	if ((err = req_body(r, &in)) || (err = db_begin(r->db))
	    || (err = invoice_find(r, &v)))
		return err;
	err = transfer_again(r, &t);
	if (err == ERR_NOT_FOUND)
		err = open_refund(r, &v, in.amount, &t);
	if (err || (err = db_commit(r->db)))
		return err;
	if (t.answer.outcome == NOT_FOUND
	    && (err = give_back(r, v.currency, &t)))
		return err;
	if ((err = transfer_finish(r, &t)) == ERR_DECLINED)
		return req_fail_as(r, ERR_CONFLICT, "refund-declined",
		    "the gateway refused to give the money back");
	return err;
}
