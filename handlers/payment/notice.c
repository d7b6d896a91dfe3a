/*
 * What the other services are told of an invoice, by the outbox. Product must
 * hear of one invoice in order; mail and statistics hold nothing up.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/outbox.h"

#define OPEN_AFTER CLOCK_MINUTE /* cart has the goods reserved for an hour */

/* Those that product has not heard of yet, the oldest first. */
#define EXTENSION(columns, limit)                                              \
	"SELECT " columns " FROM invoice"                                      \
	" WHERE id > (SELECT last FROM extension) ORDER BY id LIMIT " limit

STMT(extension_next, EXTENSION("created_at", "1"));
STMT(extension_due,
    EXTENSION("id, created_at, status, reservation_id, expires_at", "500"));
STMT(extension_keep, "UPDATE extension SET last = $1 WHERE last < $1");

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

/* What becomes of an attempt may be known only after the invoice's time. When it is
 * void product is told so: its own clock is for a payment that is gone. */
static enum err
tell_open(struct db *db, const struct invoice *v)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_time(&b, "expires_at", v->expires_at + CLOCK_DAY);
	json_close(&b, '}');
	return tell_product(db, v, "PATCH", "", b.data);
}

/* A negative age is of a clock that was set back. */
static bool
is_young(int64_t created_at)
{
	int64_t age = clock_ms() - created_at;

	return age >= 0 && age < OPEN_AFTER;
}

static enum err
tell_all_open(struct db *db)
{
	struct db_rows q = db_query(db, &extension_due, DB_NO_ARGS);
	int64_t last = 0;
	enum err err;

	while (db_next(&q) && !is_young(db_int(&q, 1))) {
		struct invoice v = { .id = db_int(&q, 0),
			.reservation_id = db_int(&q, 3),
			.expires_at = db_int(&q, 4) };

		if (strcmp(db_text(&q, 2), "open") == 0)
			db_fail(&q, tell_open(db, &v));
		last = v.id;
	}
	if ((err = db_end(&q)))
		return err;
	return db_exec(db, &extension_keep, DB_ARGS(DB_INT(last)));
}

/* The goods are kept as long as the invoice can be paid. Most are paid at once.
 * After a power cut it is told again. */
bool
notice_open(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t created_at;
	enum err err;

	/* A look needs no lock; nothing to do is the usual case. */
	err = db_get(db, &extension_next, DB_NO_ARGS,
	    DB_INTO(DB_INT_TO(&created_at)));
	if (err || is_young(created_at) || db_begin_relaxed(db))
		return false;
	return db_finish(db, tell_all_open(db)) == OK;
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
