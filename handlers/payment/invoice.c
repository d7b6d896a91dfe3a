/*
 * Invoices: made once, with the number that follows the last one, and shown to
 * whom they concern.
 */
#include "handlers/payment/payment.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/page.h"

#define LINES_MAX 200

static handler_fn post_invoice, get_invoices, get_invoice;
static const struct field_table order_fields, query_fields;

static const struct route routes[] = {
	{ "POST", "/invoices", post_invoice, ROUTE_SERVICE | ROUTE_ADMIN,
	    .body = &order_fields },
	{ "GET", "/invoices", get_invoices, ROUTE_USER | ROUTE_SERVICE,
	    .query = &query_fields },
	{ "GET", "/invoices/{id}", get_invoice,
	    ROUTE_USER | ROUTE_SERVICE | ROUTE_TAGGED },
};
const struct route_table invoice_routes = ROUTES(routes);

/* A row, and not max(number) + 1: its lock keeps the order everywhere. Not
 * RETURNING, which SQLite makes into a table of its own. */
STMT(number_next, "UPDATE invoice_number SET last = last + 1");

STMT(invoice_insert,
    "INSERT INTO invoice (number, user_id, currency, total, reservation_id,"
    " created_at, expires_at)"
    " VALUES ((SELECT last FROM invoice_number), $1, $2, $3, $4, $5, $6)");

STMT(line_insert,
    "INSERT INTO invoice_line"
    " (invoice_id, position, product_id, description, quantity, price)"
    " VALUES ($1, $2, $3, $4, $5, $6)");

STMT(line_list,
    "SELECT product_id, description, quantity, price FROM invoice_line"
    " WHERE invoice_id = $1 ORDER BY position");

#define COLUMNS                                                                \
	"id, number, user_id, status, currency, total, amount_paid,"           \
	" amount_refunded, created_at, paid_at, expires_at, version"
enum column {
	ID,
	NUMBER,
	USER_ID,
	STATUS,
	CURRENCY,
	TOTAL,
	AMOUNT_PAID,
	AMOUNT_REFUNDED,
	CREATED_AT,
	PAID_AT,
	EXPIRES_AT,
	VERSION,
};

/* $2: whose it must be, NULL for anybody's. */
STMT(invoice_show,
    "SELECT " COLUMNS " FROM invoice"
    " WHERE id = $1 AND ($2 IS NULL OR user_id = $2)");

STMT(invoice_get,
    "SELECT id, number, user_id, total, amount_paid, amount_refunded,"
    " reservation_id, expires_at, version, status, currency FROM invoice"
    " WHERE id = $1 AND ($2 IS NULL OR user_id = $2)");

/* $1 limit; $2 the id of the row before; $3 whose; $4 the user and $5 the
 * status asked for. */
#define LIST(which)                                                            \
	{                                                                      \
		"SELECT " COLUMNS " FROM invoice WHERE id < $2 AND " which     \
		" AND ($4 IS NULL OR user_id = $4)"                            \
		" AND ($5 IS NULL OR status = $5) ORDER BY id DESC LIMIT $1"   \
	}
enum source { ALL, OF_USER, OF_STATUS, SOURCE__COUNT };

STMT_ARRAY(lists[SOURCE__COUNT]) = {
	[ALL] = LIST("$3 IS NULL"),
	[OF_USER] = LIST("user_id = $3"),
	[OF_STATUS] = LIST("$3 IS NULL AND status = $5"),
};

struct line {
	int64_t product_id, quantity, price;
	const char *description;
};

static const struct field_table line_fields = FIELDS(
	FIELD(struct line, product_id, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct line, description, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct line, quantity, .flags = FIELD_REQUIRED, .min = 1,
	    .max = 1000000),
	FIELD(struct line, price, .flags = FIELD_REQUIRED));

struct order {
	int64_t user_id, reservation_id;
	const char *currency;
	struct field_list lines;
};

static const struct field_table order_fields = FIELDS(
	FIELD(struct order, user_id, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct order, reservation_id, .flags = FIELD_NULLABLE, .min = 1),
	FIELD(struct order, currency, .flags = FIELD_REQUIRED,
	    .format = FORMAT_CURRENCY),
	FIELD(struct order, lines, .flags = FIELD_REQUIRED, .min = 1,
	    .max = LINES_MAX, FIELD_ITEMS(struct line, line_fields)));

static const char *const statuses[]
    = { "open", "paid", "void", "refunded", NULL };

struct query {
	struct page page;
	int64_t user_id;
	const char *status;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page),
	FIELD(struct query, user_id, .min = 1),
	FIELD(struct query, status, .choices = statuses));

static enum err
put_lines(struct buf *b, struct db *db, int64_t id)
{
	struct db_rows q = db_query(db, &line_list, DB_ARGS(DB_INT(id)));

	json_open(b, "lines", '[');
	while (db_next(&q)) {
		json_open(b, NULL, '{');
		json_int(b, "product_id", db_int(&q, 0));
		json_text(b, "description", db_text(&q, 1));
		json_int(b, "quantity", db_int(&q, 2));
		json_int(b, "price", db_int(&q, 3));
		json_int(b, "amount", db_int(&q, 2) * db_int(&q, 3));
		json_close(b, '}');
	}
	json_close(b, ']');
	return db_end(&q);
}

static void
put_invoice(struct buf *b, struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, ID));
	json_int(b, "number", db_int(q, NUMBER));
	json_int(b, "user_id", db_int(q, USER_ID));
	json_text(b, "status", db_text(q, STATUS));
	json_text(b, "currency", db_text(q, CURRENCY));
	db_fail(q, put_lines(b, q->db, db_int(q, ID)));
	json_int(b, "total", db_int(q, TOTAL));
	json_int(b, "amount_paid", db_int(q, AMOUNT_PAID));
	json_int(b, "amount_refunded", db_int(q, AMOUNT_REFUNDED));
	json_time(b, "created_at", db_int(q, CREATED_AT));
	json_time(b, "paid_at", db_int(q, PAID_AT));
	json_time(b, "expires_at", db_int(q, EXPIRES_AT));
	json_int(b, "version", db_int(q, VERSION));
	json_close(b, '}');
}

/* Whose invoices the caller may see: their own, or anybody's. */
static int64_t
owner(const struct req *r)
{
	return r->caller.role == ROLE_CUSTOMER ? r->caller.uid : INT_NONE;
}

enum err
reply_invoice(struct req *r, int status, int64_t id)
{
	struct db_rows q = db_query(
	    r->db, &invoice_show, DB_ARGS(DB_INT(id), DB_INT(owner(r))));
	bool found = db_next(&q);
	enum err err;

	if (found) {
		put_invoice(reply_json(r, status), &q);
		reply_version(r, db_int(&q, VERSION));
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

enum err
invoice_load(struct db *db, int64_t id, int64_t user_id, struct invoice *v)
{
	return db_get(db, &invoice_get, DB_ARGS(DB_INT(id), DB_INT(user_id)),
	    DB_INTO(DB_INT_TO(&v->id), DB_INT_TO(&v->number),
		DB_INT_TO(&v->user_id), DB_INT_TO(&v->total),
		DB_INT_TO(&v->amount_paid), DB_INT_TO(&v->amount_refunded),
		DB_INT_TO(&v->reservation_id), DB_INT_TO(&v->expires_at),
		DB_INT_TO(&v->version), DB_TEXT_TO(&v->status),
		DB_TEXT_TO(&v->currency)));
}

enum err
invoice_find(struct req *r, struct invoice *v)
{
	return invoice_load(r->db, r->id, owner(r), v);
}

enum err
invoice_expect(struct req *r, const struct invoice *v, const char *status)
{
	enum err err = req_conditions(r, v->version);

	if (err || strcmp(v->status, status) == 0)
		return err;
	return req_fail_as(r, ERR_CONFLICT,
	    arena_printf(r->arena, "invoice-%s", v->status),
	    "this invoice is %s", v->status);
}

static enum err
add_up(struct req *r, const struct field_list *list, int64_t *total)
{
	const struct line *lines = list->items;
	int64_t amount;

	*total = 0;
	for (size_t i = 0; i < list->count; i++)
		if (__builtin_mul_overflow(
			lines[i].quantity, lines[i].price, &amount)
		    || __builtin_add_overflow(*total, amount, total)
		    || *total > INT_MAX_EXACT)
			return req_fault(r,
			    arena_printf(r->arena, "#/lines/%zu", i),
			    "makes the total too large");
	return OK;
}

static enum err
insert(struct db *db, const struct order *in, struct invoice *v)
{
	const struct line *line = in->lines.items;
	enum err err;

	if ((err = db_exec(db, &number_next, DB_NO_ARGS)))
		return err;
	err = db_insert(db, &invoice_insert,
	    DB_ARGS(DB_INT(in->user_id), DB_TEXT(in->currency),
		DB_INT(v->total), DB_INT(v->reservation_id),
		DB_INT(clock_ms()), DB_INT(v->expires_at)),
	    &v->id);
	for (size_t i = 0; !err && i < in->lines.count; i++, line++)
		err = db_exec(db, &line_insert,
		    DB_ARGS(DB_INT(v->id), DB_INT((int64_t)i),
			DB_INT(line->product_id), DB_TEXT(line->description),
			DB_INT(line->quantity), DB_INT(line->price)));
	return err;
}

static enum err
post_invoice(struct req *r)
{
	struct order in = { .reservation_id = INT_NONE };
	struct invoice v;
	enum err err;

	if ((err = req_body(r, &in))
	    || (err = add_up(r, &in.lines, &v.total)))
		return err;
	/* Whoever has it gives the goods of another's back with a void. */
	if (in.reservation_id != INT_NONE && r->caller.role != ROLE_SERVICE)
		return req_fault(
		    r, "#/reservation_id", "is given by other services alone");
	v.reservation_id = in.reservation_id;
	v.expires_at = clock_ms() + payment_settings.invoice_hours * CLOCK_HOUR;
	if ((err = insert(r->db, &in, &v))
	    || (err = reply_invoice(r, 201, v.id)))
		return err;
	reply_location(r, "/invoices", v.id);
	return OK;
}

/* The newest first. A customer who asks for somebody else's finds none. */
static enum err
get_invoices(struct req *r)
{
	struct query in = { .page = PAGE_INIT, .user_id = INT_NONE };
	int64_t user_id = owner(r);
	enum source source;
	struct db_rows q;
	enum err err;
	struct buf *b;

	in.page.order = "newest";
	in.page.after_id = INT_MAX_EXACT;
	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	if (user_id == INT_NONE)
		user_id = in.user_id;
	source = user_id != INT_NONE ? OF_USER
	    : in.status != NULL	     ? OF_STATUS
				     : ALL;
	q = db_query(r->db, &lists[source],
	    DB_ARGS(DB_INT(in.page.limit + 1), DB_INT(in.page.after_id),
		DB_INT(user_id), DB_INT(in.user_id), DB_TEXT(in.status)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, ID), NULL))
		put_invoice(b, &q);
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	return OK;
}

static enum err
get_invoice(struct req *r)
{
	return reply_invoice(r, 200, r->id);
}
