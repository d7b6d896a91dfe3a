/*
 * What becomes of an invoice: paid, refunded, void by an administrator or by
 * time. Which status may follow which is in payment.h.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/log.h"

#define WATCH_EVERY (5 * CLOCK_SECOND)

static handler_fn void_invoice;

static const struct route routes[] = {
	{ "POST", "/invoices/{id}/void", void_invoice,
	    ROUTE_ADMIN | ROUTE_TAGGED },
};
const struct route_table status_routes = ROUTES(routes);

STMT(invoice_void,
    "UPDATE invoice SET status = 'void', version = version + 1"
    " WHERE id = $1 AND status = 'open'");

STMT(invoice_pay,
    "UPDATE invoice SET status = 'paid', amount_paid = total, paid_at = $2,"
    " version = version + 1 WHERE id = $1 AND status IN ('open', 'void')");

STMT(invoice_refund,
    "UPDATE invoice SET amount_refunded = amount_refunded + $2,"
    " status = CASE WHEN amount_refunded + $2 = amount_paid THEN 'refunded'"
    " ELSE status END, version = version + 1"
    " WHERE id = $1 AND amount_refunded + $2 <= amount_paid");

/* A payment that is not known yet may still succeed. */
STMT(expired_next,
    "SELECT id FROM invoice i WHERE status = 'open' AND expires_at <= $1"
    " AND NOT EXISTS (SELECT 1 FROM attempt WHERE invoice_id = i.id"
    "  AND status IN ('started', 'unknown')) ORDER BY expires_at LIMIT 1");

static enum err
make_void(struct db *db, const struct invoice *v)
{
	enum err err = db_exec(db, &invoice_void, DB_ARGS(DB_INT(v->id)));

	return err ? err : notice_void(db, v);
}

static enum err
void_invoice(struct req *r)
{
	struct invoice v;
	enum err err;

	if ((err = invoice_find(r, &v)) || (err = invoice_expect(r, &v, "open"))
	    || (err = make_void(r->db, &v)))
		return err;
	LOG(LOG_AUDIT, "invoice void", LOG_INT("invoice", v.id),
	    LOG_INT("by", r->caller.uid));
	return reply_invoice(r, 200, v.id);
}

enum err
invoice_paid(struct db *db, const struct transfer *t)
{
	struct invoice v;
	enum err err;

	if ((err = invoice_load(db, t->invoice_id, INT_NONE, &v))
	    || (err = db_exec(db, &invoice_pay,
		    DB_ARGS(DB_INT(v.id), DB_INT(clock_ms())))))
		return err;
	if (db_changes(db) == 0) {
		LOG(LOG_ERROR, "invoice paid twice",
		    LOG_INT("invoice", v.id), LOG_INT("attempt", t->id),
		    LOG_TEXT("do", "give the money of this attempt back"));
		return OK;
	}
	if (strcmp(v.status, "void") == 0)
		LOG(LOG_WARN, "invoice paid after it was void",
		    LOG_INT("invoice", v.id), LOG_INT("attempt", t->id));
	return notice_paid(db, &v);
}

enum err
invoice_refunded(struct db *db, const struct transfer *t)
{
	enum err err = db_exec(db, &invoice_refund,
	    DB_ARGS(DB_INT(t->invoice_id), DB_INT(t->amount)));

	if (!err && db_changes(db) == 0)
		LOG(LOG_ERROR, "more refunded than was paid",
		    LOG_INT("invoice", t->invoice_id),
		    LOG_INT("refund", t->id));
	return err;
}

static enum err
expire_one(struct db *db)
{
	struct invoice v;
	int64_t id;
	enum err err;

	if ((err = db_get(db, &expired_next, DB_ARGS(DB_INT(clock_ms())),
		 DB_INTO(DB_INT_TO(&id))))
	    || (err = invoice_load(db, id, INT_NONE, &v))
	    || (err = make_void(db, &v)))
		return err;
	LOG(LOG_AUDIT, "invoice expired", LOG_INT("invoice", id));
	return OK;
}

static bool
expire(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t id;
	enum err err;

	/* A look needs no lock; nothing to do is the usual case. */
	err = db_get(db, &expired_next, DB_ARGS(DB_INT(clock_ms())),
	    DB_INTO(DB_INT_TO(&id)));
	if (err || db_begin(db))
		return false;
	err = expire_one(db);
	CRASH_POINT("before-expiry");
	return db_finish(db, err) == OK;
}

int64_t
invoice_watch(struct ctx *ctx)
{
	bool told = notice_open(ctx), expired = expire(ctx);

	return told || expired ? 0 : WATCH_EVERY;
}
