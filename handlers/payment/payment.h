/*
 * What the files of the payment service share, and the statuses there are:
 *
 *     invoice    open     -> paid       a payment succeeded
 *                open     -> void       by an administrator, or by time
 *                void     -> paid       a payment succeeded after all
 *                paid     -> refunded   all of it was given back
 *
 *     attempt,   started  -> succeeded, declined, unknown
 *     refund     unknown  -> succeeded, declined
 *                declined -> succeeded  what was said to be lost was late
 *
 * An attempt to pay and a refund are transfers: a row committed as started,
 * then a call to a gateway, then its outcome. No transfer is told to a gateway
 * under two keys, and an invoice has at most one live one (started, unknown)
 * of each kind. What stays live, because the gateway did not answer or the
 * process died, a job asks about until it is known.
 */
#ifndef COSTER_PAYMENT_H
#define COSTER_PAYMENT_H

#include "handlers/payment/gateway.h"
#include "shared/clock.h"
#include "shared/req.h"

extern const struct route_table invoice_routes, status_routes, payment_routes,
    refund_routes;
extern const struct check_table payment_checks, payment_questions;
extern const char payment_keep_ids[];

struct payment_settings {
	int64_t invoice_hours; /* until an open invoice becomes void */
	const char *gateways;
};
extern struct payment_settings payment_settings;

struct invoice {
	int64_t id, number, user_id, total, amount_paid, amount_refunded,
	    reservation_id, expires_at, version;
	const char *status, *currency;
};

/* The invoice with this id; user_id, unless it is INT_NONE, must be whose. */
MUST_USE enum err invoice_load(
    struct db *db, int64_t id, int64_t user_id, struct invoice *v);

/* The one that the path names, if it is the caller's to see. */
MUST_USE enum err invoice_find(struct req *r, struct invoice *v);

/* ERR_PRECONDITION unless it is as If-Match says, ERR_CONFLICT of type
 * invoice-<status> unless it has this status. */
MUST_USE enum err invoice_expect(
    struct req *r, const struct invoice *v, const char *status);

/* Replies with it, if it is the caller's to see. */
MUST_USE enum err reply_invoice(struct req *r, int status, int64_t id);

/* The job that watches open invoices: has their goods kept, and makes void what
 * nobody paid in time. */
int64_t invoice_watch(struct ctx *ctx);

struct transfer {
	enum transfer_kind { ATTEMPT, REFUND, TRANSFER__COUNT } kind;
	int64_t id, invoice_id, amount;
	const char *gateway, *key;
	struct answer answer; /* NOT_FOUND until the gateway is told */
};

/* From when on no process can be at a started one any more. */
#define TRANSFER_ALONE (1 * CLOCK_MINUTE)

/* What tells that a request is the same again: its Idempotency-Key, or else
 * its REQUEST_ID, which nginx repeats when an instance dies. NULL for neither;
 * arena. */
const char *transfer_origin(struct req *r);

/* The transfer of t->kind that the request began when it came before, unless
 * it was declined. ERR_NOT_FOUND for a new one. */
MUST_USE enum err transfer_again(struct req *r, struct transfer *t);

/* Records the answer and replies: 200 or 202 and the invoice, ERR_DECLINED. */
MUST_USE enum err transfer_finish(struct req *r, const struct transfer *t);

/* The job that asks about live transfers. */
int64_t transfer_settle(struct ctx *ctx);

/* What a transfer that succeeded does to its invoice, in its transaction. When
 * the invoice has no room for it, the log says so, and a human must look. */
MUST_USE enum err invoice_paid(struct db *db, const struct transfer *t);
MUST_USE enum err invoice_refunded(struct db *db, const struct transfer *t);

/* What other services are told of an invoice; messages, in its transaction. */
MUST_USE enum err notice_void(struct db *db, const struct invoice *v);
MUST_USE enum err notice_paid(struct db *db, const struct invoice *v);

/* What invoice_watch() does for those that are not paid at once; whether there
 * was one. */
bool notice_open(struct ctx *ctx);

#endif
