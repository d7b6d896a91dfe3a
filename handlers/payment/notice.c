/*
 * What the other services are told of an invoice, by the outbox. Product must
 * hear of one invoice in order; mail and statistics hold nothing up.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/outbox.h"

/* Messages with the same about stay in order. */
static enum err
tell(struct db *db, const struct invoice *v, const char *about,
    struct outbox_message m)
{
	m.subject = arena_printf(
	    db->arena, "invoice %lld%s", (long long)v->id, about);
	return outbox_put(db, &m);
}

static enum err
tell_product(struct db *db, const struct invoice *v, const char *method,
    const char *action, const char *body)
{
	if (v->reservation_id == INT_NONE)
		return OK;
	return tell(db, v, "",
	    (struct outbox_message) { .method = method,
		.path = arena_printf(db->arena, "/product/reservations/%lld%s",
		    (long long)v->reservation_id, action),
		.body = body });
}

/* The goods are kept as long as the invoice can be paid. */
enum err
notice_made(struct db *db, const struct invoice *v)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_time(&b, "expires_at", v->expires_at);
	json_close(&b, '}');
	return tell_product(db, v, "PATCH", "", b.data);
}

enum err
notice_void(struct db *db, const struct invoice *v)
{
	return tell_product(db, v, "DELETE", "", NULL);
}

static enum err
tell_email(struct db *db, const struct invoice *v)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_int(&b, "user_id", v->user_id);
	json_text(&b, "template", "receipt");
	json_open(&b, "vars", '{');
	json_int(&b, "number", v->number);
	json_int(&b, "total", v->total);
	json_text(&b, "currency", v->currency);
	json_close(&b, '}');
	json_close(&b, '}');
	return tell(db, v, " mail",
	    (struct outbox_message) {
		.method = "POST", .path = "/send_email/", .body = b.data });
}

static enum err
tell_stats(struct db *db, const struct invoice *v)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_time(&b, "at", clock_ms());
	json_int(&b, "user_id", v->user_id);
	json_text(&b, "action", "invoice.paid");
	json_open(&b, "data", '{');
	json_int(&b, "invoice_id", v->id);
	json_int(&b, "total", v->total);
	json_text(&b, "currency", v->currency);
	json_close(&b, '}');
	json_close(&b, '}');
	return tell(db, v, " log",
	    (struct outbox_message) {
		.method = "POST", .path = "/log", .body = b.data });
}

enum err
notice_paid(struct db *db, const struct invoice *v)
{
	enum err err;

	if ((err = tell_product(db, v, "POST", "/commit", "{}"))
	    || (err = tell_email(db, v)))
		return err;
	return tell_stats(db, v);
}
