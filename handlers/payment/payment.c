/*
 * Paying an invoice: an attempt is recorded, the gateway told to charge, and
 * its answer recorded.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/log.h"
#include "shared/token.h"

static handler_fn pay;
static const struct field_table payment_fields;

static const struct route routes[] = {
	{ "POST", "/invoices/{id}/pay", pay,
	    ROUTE_USER | ROUTE_SLOW | ROUTE_TAGGED, .body = &payment_fields },
};
const struct route_table payment_routes = ROUTES(routes);

STMT(attempt_insert,
    "INSERT INTO attempt"
    " (invoice_id, gateway, key, amount, origin, due_at, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)");

/* Of one invoice and in an hour: who tries cards out is no customer. */
#define DECLINED_MAX 20

STMT(declined_before,
    "SELECT created_at FROM attempt WHERE invoice_id = $1"
    " AND status = 'declined' ORDER BY id DESC LIMIT 1 OFFSET $2");

struct payment {
	const char *method, *token;
};

static const struct field_table payment_fields = FIELDS(
	FIELD(struct payment, method, .flags = FIELD_REQUIRED),
	FIELD(struct payment, token, .flags = FIELD_NULLABLE, .min = 1));

static enum err
find_method(struct req *r, const char *name, const struct gateway **g)
{
	*g = gateway_offered(name);
	if (*g == NULL)
		return req_fault(r, "#/method", "is no way to pay here");
	if ((*g)->who == GATEWAY_ADMIN && r->caller.role != ROLE_ADMIN)
		return req_fail(r, ERR_FORBIDDEN,
		    "Only an administrator records payments of this kind.");
	return OK;
}

static enum err
check_declined(struct req *r, int64_t now)
{
	int64_t before, wait;
	enum err err = db_get(r->db, &declined_before,
	    DB_ARGS(DB_INT(r->id), DB_INT(DECLINED_MAX - 1)),
	    DB_INTO(DB_INT_TO(&before)));

	if (err)
		return err == ERR_NOT_FOUND ? OK : err;
	wait = before + CLOCK_HOUR - now;
	if (wait <= 0 || wait > CLOCK_HOUR) /* the clock has been set back */
		return OK;
	r->retry_after = (wait + CLOCK_SECOND - 1) / CLOCK_SECOND;
	return req_fail(r, ERR_TOO_MANY,
	    "too many payments of this invoice were declined: try again later");
}

static enum err
open_attempt(struct req *r, const struct invoice *v, const struct gateway *g,
    struct transfer *t)
{
	int64_t now = clock_ms();
	enum err err;

	if ((err = invoice_expect(r, v, "open"))
	    || (g->who != GATEWAY_ADMIN && (err = check_declined(r, now))))
		return err;
	t->amount = v->total;
	t->gateway = g->name;
	t->key = random_text(r->arena, 18);
	t->answer.outcome = NOT_FOUND;
	err = db_insert(r->db, &attempt_insert,
	    DB_ARGS(DB_INT(v->id), DB_TEXT(t->gateway), DB_TEXT(t->key),
		DB_INT(t->amount), DB_TEXT(transfer_origin(r)),
		DB_INT(now + TRANSFER_ALONE), DB_INT(now)),
	    &t->id);
	if (err == ERR_CONFLICT)
		return req_fail_as(r, err, "payment-in-progress",
		    "an earlier payment of this invoice is not decided yet");
	if (!err)
		LOG(LOG_AUDIT, "payment ordered", LOG_INT("attempt", t->id),
		    LOG_INT("invoice", v->id), LOG_INT("by", r->caller.uid));
	return err;
}

/* By the attempt's own gateway, whatever a repeated request names. */
static enum err
charge(struct req *r, const struct charge *c, struct transfer *t)
{
	const struct gateway *g = gateway_find(t->gateway);

	if (g == NULL)
		return ERR_INTERNAL;
	CRASH_POINT("before-charge");
	t->answer = g->charge(r->ctx, c);
	CRASH_POINT("after-charge");
	return OK;
}

static enum err
pay(struct req *r)
{
	struct transfer t = { .kind = ATTEMPT, .invoice_id = r->id };
	struct payment in = { .token = NULL };
	const struct gateway *g;
	struct invoice v;
	struct charge c;
	enum err err;

	if ((err = req_body(r, &in)) || (err = db_begin(r->db))
	    || (err = invoice_find(r, &v))
	    || (err = find_method(r, in.method, &g)))
		return err;
	err = transfer_again(r, &t);
	if (err == ERR_NOT_FOUND)
		err = open_attempt(r, &v, g, &t);
	if (err || (err = db_commit(r->db)))
		return err;
	c = (struct charge) { .key = t.key,
		.amount = t.amount,
		.currency = v.currency,
		.token = in.token };
	if (t.answer.outcome == NOT_FOUND && (err = charge(r, &c, &t)))
		return err;
	return transfer_finish(r, &t);
}
