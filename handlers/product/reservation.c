/*
 * Reservations: stock set aside for a checkout, all of its lines or none.
 *
 *     held --commit--> committed     the goods are sold
 *     held --delete, expiry--> released
 *     released --commit--> committed (paid too late)
 *
 * What is committed but not there any more is recorded as the shortfall: it is
 * paid, and stock is never negative. Always: reserved of a product is the sum
 * of its held lines.
 */
#include "handlers/product/product.h"

#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/outbox.h"
#include "shared/req.h"

#define HOLD (15 * CLOCK_MINUTE)
#define HOLD_MAX_SECONDS (60 * 24 * 3600)
#define EXPIRE_EVERY (5 * CLOCK_SECOND)
#define LINES_MAX 200

/* After a start, so long are those kept that were held before it: what was paid for
 * while product was away stands in payment's outbox until then. */
#define GRACE (OUTBOX_PAUSE_MAX + CLOCK_MINUTE)

static handler_fn post_reservation, get_reservation, extend_reservation,
    commit_reservation, delete_reservation;
static const struct field_table hold_fields, extension_fields;

static const struct route routes[] = {
	{ "POST", "/product/reservations", post_reservation, ROUTE_SERVICE,
	    .body = &hold_fields },
	{ "GET", "/product/reservations/{id}", get_reservation, ROUTE_SERVICE },
	{ "PATCH", "/product/reservations/{id}", extend_reservation,
	    ROUTE_SERVICE, .body = &extension_fields },
	{ "POST", "/product/reservations/{id}/commit", commit_reservation,
	    ROUTE_SERVICE },
	{ "DELETE", "/product/reservations/{id}", delete_reservation,
	    ROUTE_SERVICE | ROUTE_EMPTY },
};
const struct route_table reservation_routes = ROUTES(routes);

STMT(reservation_insert,
    "INSERT INTO reservation (status, expires_at, created_at)"
    " VALUES ('held', $1, $2)");

STMT(line_insert,
    "INSERT INTO reservation_line (reservation_id, product_id, quantity)"
    " VALUES ($1, $2, $3)"
    " ON CONFLICT (reservation_id, product_id)"
    " DO UPDATE SET quantity = reservation_line.quantity + excluded.quantity");

STMT(stock_hold,
    "UPDATE product SET reserved = reserved + $2, version = version + 1"
    " WHERE id = $1 AND deleted_at IS NULL"
    " AND (stock IS NULL OR stock - reserved >= $2)");

/* What is free counts what the reservation at hand took already. */
STMT(offer_get,
    "SELECT price, currency, " PRODUCT_FREE
    " + coalesce((SELECT quantity FROM reservation_line l"
    "  WHERE l.reservation_id = $2 AND l.product_id = p.id), 0)"
    " FROM product p WHERE p.id = $1 AND p.deleted_at IS NULL");

STMT(reservation_get,
    "SELECT status, expires_at, created_at, shortfall FROM reservation"
    " WHERE id = $1");

STMT(line_list,
    "SELECT product_id, quantity FROM reservation_line"
    " WHERE reservation_id = $1 ORDER BY product_id");

STMT(reservation_extend,
    "UPDATE reservation SET expires_at = $2 WHERE id = $1");

STMT(reservation_end,
    "UPDATE reservation SET status = $2, shortfall = $3 WHERE id = $1");

STMT(stock_release,
    "UPDATE product SET reserved = reserved - $2, version = version + 1"
    " WHERE id = $1");

/* Sold out of what was held, of which there is less if an administrator has
 * lowered the stock. */
STMT(stock_sell,
    "UPDATE product SET reserved = reserved - $2,"
    " stock = CASE WHEN stock < $2 THEN 0 ELSE stock - $2 END,"
    " version = version + 1 WHERE id = $1");
STMT(stock_get, "SELECT stock FROM product WHERE id = $1");

/* Sold although no longer held: as much as is free. */
STMT(stock_sell_late,
    "UPDATE product AS p SET stock = stock"
    " - CASE WHEN " PRODUCT_FREE " < $2 THEN " PRODUCT_FREE " ELSE $2 END,"
    " version = version + 1 WHERE id = $1");
STMT(free_get, "SELECT " PRODUCT_FREE " FROM product p WHERE p.id = $1");

#define EXPIRED                                                                \
	"SELECT id FROM reservation WHERE status = 'held' AND expires_at <= $1" \
	" AND created_at >= $2 ORDER BY expires_at"
STMT(expired_any, EXPIRED " LIMIT 1");
STMT(expired_list, EXPIRED " LIMIT 100");

struct line {
	int64_t product_id, quantity, price;
	const char *currency;
};

static const struct field_table line_fields = FIELDS(
	FIELD(struct line, product_id, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct line, quantity, .flags = FIELD_REQUIRED, .min = 1,
	    .max = 1000000),
	FIELD(struct line, price),
	FIELD(struct line, currency, .format = FORMAT_CURRENCY));

static const struct line line_default = { .price = INT_NONE };

struct hold {
	struct field_list lines;
	int64_t expires_in; /* seconds */
};

static const struct field_table hold_fields = FIELDS(
	FIELD(struct hold, lines, .flags = FIELD_REQUIRED, .min = 1,
	    .max = LINES_MAX, FIELD_ITEMS(struct line, line_fields),
	    .item_default = &line_default),
	FIELD(struct hold, expires_in, .min = 1, .max = HOLD_MAX_SECONDS));

struct extension {
	int64_t expires_at;
};

static const struct field_table extension_fields = FIELDS(
	FIELD(struct extension, expires_at, .flags = FIELD_REQUIRED,
	    .format = FORMAT_TIME));

struct reservation {
	const char *status;
	int64_t expires_at, created_at, shortfall;
};

static enum err
load(struct db *db, int64_t id, struct reservation *v)
{
	return db_get(db, &reservation_get, DB_ARGS(DB_INT(id)),
	    DB_INTO(DB_TEXT_TO(&v->status), DB_INT_TO(&v->expires_at),
		DB_INT_TO(&v->created_at), DB_INT_TO(&v->shortfall)));
}

static bool
is(const struct reservation *v, const char *status)
{
	return strcmp(v->status, status) == 0;
}

static enum err
reply_reservation(struct req *r, int status, int64_t id)
{
	struct reservation v;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = load(r->db, id, &v)))
		return err;
	b = reply_json(r, status);
	json_open(b, NULL, '{');
	json_int(b, "id", id);
	json_text(b, "status", v.status);
	json_time(b, "expires_at", v.expires_at);
	json_time(b, "created_at", v.created_at);
	json_int(b, "shortfall", v.shortfall);
	json_open(b, "lines", '[');
	q = db_query(r->db, &line_list, DB_ARGS(DB_INT(id)));
	while (db_next(&q)) {
		json_open(b, NULL, '{');
		json_int(b, "product_id", db_int(&q, 0));
		json_int(b, "quantity", db_int(&q, 1));
		json_close(b, '}');
	}
	json_close(b, ']');
	json_close(b, '}');
	return db_end(&q);
}

/* What is wrong with a set of lines, named line by line. */
struct refusal {
	struct buf lines;
	const char *type;
};

static void
refuse(struct refusal *f, const char *type, const struct line *line,
    int64_t price, int64_t available)
{
	struct buf *b = &f->lines;

	/* That a price changed is said first: it changes what is wanted. */
	if (f->type == NULL || strcmp(type, "price-changed") == 0)
		f->type = type;
	json_open(b, NULL, '{');
	json_int(b, "product_id", line->product_id);
	json_text(b, "reason", type);
	json_int(b, "price", price);
	json_int(b, "available", available);
	json_close(b, '}');
}

/* Is it what the customer has seen? A price that fell is as good. */
static bool
is_as_seen(const struct line *line, int64_t price, const char *currency)
{
	return (line->price == INT_NONE || price <= line->price)
	    && (line->currency == NULL || strcmp(currency, line->currency) == 0);
}

static enum err
hold_line(struct req *r, int64_t id, const struct line *line, struct refusal *f)
{
	int64_t price = INT_NONE, available = INT_NONE;
	const char *currency = NULL;
	enum err err;

	err = db_get(r->db, &offer_get,
	    DB_ARGS(DB_INT(line->product_id), DB_INT(id)),
	    DB_INTO(DB_INT_TO(&price), DB_TEXT_TO(&currency),
		DB_INT_TO(&available)));
	if (err == ERR_NOT_FOUND) {
		refuse(f, "out-of-stock", line, INT_NONE, 0);
		return OK;
	}
	if (err)
		return err;
	if (!is_as_seen(line, price, currency)) {
		refuse(f, "price-changed", line, price, available);
		return OK;
	}
	err = db_exec(r->db, &stock_hold,
	    DB_ARGS(DB_INT(line->product_id), DB_INT(line->quantity)));
	if (err)
		return err;
	if (db_changes(r->db) == 0) {
		refuse(f, "out-of-stock", line, price, available);
		return OK;
	}
	return db_exec(r->db, &line_insert,
	    DB_ARGS(DB_INT(id), DB_INT(line->product_id),
		DB_INT(line->quantity)));
}

static enum err
post_reservation(struct req *r)
{
	struct hold in = { .expires_in = HOLD / 1000 };
	struct refusal f = { .type = NULL };
	const struct line *lines;
	int64_t id, now = clock_ms();
	enum err err;

	if ((err = req_body(r, &in)))
		return err;
	err = db_insert(r->db, &reservation_insert,
	    DB_ARGS(DB_INT(now + in.expires_in * 1000), DB_INT(now)),
	    &id);
	if (err)
		return err;
	buf_init(&f.lines, r->arena);
	json_open(&f.lines, "lines", '[');
	lines = in.lines.items;
	for (size_t i = 0; i < in.lines.count; i++)
		if ((err = hold_line(r, id, &lines[i], &f)))
			return err;
	if (f.type != NULL) {
		json_close(&f.lines, ']');
		r->problem_members = f.lines.data;
		return req_fail_as(r, ERR_CONFLICT, f.type,
		    "these products cannot be had as wanted; see lines");
	}
	if ((err = reply_reservation(r, 201, id)))
		return err;
	reply_location(r, "/product/reservations", id);
	return OK;
}

static enum err
get_reservation(struct req *r)
{
	return reply_reservation(r, 200, r->id);
}

static enum err
extend_reservation(struct req *r)
{
	struct extension in;
	struct reservation v;
	enum err err;

	if ((err = load(r->db, r->id, &v)) || (err = req_body(r, &in)))
		return err;
	if (!is(&v, "held"))
		return req_fail(r, ERR_GONE, "it is %s already", v.status);
	err = db_exec(r->db, &reservation_extend,
	    DB_ARGS(DB_INT(r->id), DB_INT(in.expires_at)));
	return err ? err : reply_reservation(r, 200, r->id);
}

static enum err
end(struct db *db, int64_t id, const char *status, int64_t shortfall)
{
	return db_exec(db, &reservation_end,
	    DB_ARGS(DB_INT(id), DB_TEXT(status), DB_INT(shortfall)));
}

/* Runs a statement over each line of a reservation. */
static enum err
for_lines(struct db *db, int64_t id, const struct stmt *stmt)
{
	struct db_rows q = db_query(db, &line_list, DB_ARGS(DB_INT(id)));

	while (db_next(&q))
		db_fail(&q,
		    db_exec(db, stmt,
			DB_ARGS(DB_INT(db_int(&q, 0)), DB_INT(db_int(&q, 1)))));
	return db_end(&q);
}

/* How many pieces of a reservation are more than a statement says there are. */
static enum err
count_missing(struct db *db, int64_t id, const struct stmt *stmt,
    int64_t *missing)
{
	struct db_rows q = db_query(db, &line_list, DB_ARGS(DB_INT(id)));
	enum err err;
	int64_t have;

	*missing = 0;
	while (db_next(&q)) {
		err = db_get(db, stmt, DB_ARGS(DB_INT(db_int(&q, 0))),
		    DB_INTO(DB_INT_TO(&have)));
		if (err)
			db_fail(&q, err);
		else if (have != INT_NONE && have < db_int(&q, 1))
			*missing += db_int(&q, 1) - have;
	}
	return db_end(&q);
}

/* Committing twice is committing once. */
static enum err
commit_reservation(struct req *r)
{
	struct reservation v;
	int64_t missing;
	bool held;
	enum err err;

	if ((err = load(r->db, r->id, &v)))
		return err;
	if (is(&v, "committed"))
		return reply_reservation(r, 200, r->id);
	held = is(&v, "held");
	if ((err = count_missing(r->db, r->id, held ? &stock_get : &free_get,
		 &missing))
	    || (err = for_lines(r->db, r->id,
		    held ? &stock_sell : &stock_sell_late)))
		return err;
	CRASH_POINT("while-selling");
	if ((err = end(r->db, r->id, "committed", missing)))
		return err;
	if (missing > 0)
		LOG(LOG_WARN, "sold more than there is",
		    LOG_INT("reservation", r->id),
		    LOG_INT("missing", missing));
	return reply_reservation(r, 200, r->id);
}

static enum err
release(struct db *db, int64_t id)
{
	enum err err = for_lines(db, id, &stock_release);

	return err ? err : end(db, id, "released", 0);
}

static enum err
delete_reservation(struct req *r)
{
	struct reservation v;
	enum err err;

	if ((err = load(r->db, r->id, &v)))
		return err;
	if (is(&v, "committed"))
		return req_fail(r, ERR_CONFLICT, "it is committed already");
	if (is(&v, "held") && (err = release(r->db, r->id)))
		return err;
	return reply_empty(r, 204);
}

static enum err
release_expired(struct db *db, int64_t now, int64_t since)
{
	struct db_rows q = db_query(
	    db, &expired_list, DB_ARGS(DB_INT(now), DB_INT(since)));

	while (db_next(&q))
		db_fail(&q, release(db, db_int(&q, 0)));
	return db_end(&q);
}

int64_t
reservation_expire(struct ctx *ctx)
{
	const struct app *app = ctx->app;
	bool young = clock_mono_us() - app->started_us < GRACE * 1000;
	int64_t now = clock_ms(), since = young ? app->started_at : 0, id;
	struct db *db = &ctx->db;
	enum err err;

	/* A look needs no lock; nothing to do is the usual case. */
	err = db_get(db, &expired_any, DB_ARGS(DB_INT(now), DB_INT(since)),
	    DB_INTO(DB_INT_TO(&id)));
	if (err || db_begin(db))
		return EXPIRE_EVERY;
	err = release_expired(db, now, since);
	CRASH_POINT("before-expiry");
	return db_finish(db, err) ? EXPIRE_EVERY : 0;
}

/* The oldest are looked at, and of them those go that ended before $1. The
 * newest stays, so that no id is given twice. */
#define ENDED_BEFORE                                                           \
	"(SELECT id FROM (SELECT id, expires_at FROM reservation"              \
	"  WHERE status <> 'held' ORDER BY id LIMIT 500) AS oldest"            \
	" WHERE expires_at < $1 AND id < (SELECT max(id) FROM reservation))"

STMT_ARRAY(drops[]) = {
	{ "DELETE FROM reservation_line WHERE reservation_id IN " ENDED_BEFORE },
	{ "DELETE FROM reservation WHERE id IN " ENDED_BEFORE },
};

int64_t
reservation_prune(struct ctx *ctx)
{
	int64_t keep = product_settings.reservation_keep_days * CLOCK_DAY;

	return job_drop(&ctx->db, drops, ARRAY_LEN(drops),
	    DB_ARGS(DB_INT(clock_ms() - keep)), CLOCK_HOUR);
}
