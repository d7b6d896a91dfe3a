/*
 * Checkout: a saga that makes an invoice of a cart, over product and payment.
 *
 *     reserve --> invoice --> done       the cart is emptied
 *        |           |
 *        +-----------+------> undone     the cart is as before
 *
 * The cart is frozen before the first call and until the end, and that is on
 * disk before an invoice is asked for; a reservation for a cart that was not
 * expires. Each call has an Idempotency-Key of the checkout's own, so whoever
 * takes it up after a failure calls again and finds the reservation and the
 * invoice that are made already. That is the client's next try, or a job in
 * either instance; a lease lets one at it at a time, and a taker whose lease was
 * lost records nothing (attempts has gone on). Where it stopped, and that it is
 * done, a power cut may undo: it comes to the same end again. That it is undone
 * stays so.
 *
 * One that is not through after ten minutes, and has no invoice, is undone, well
 * before product lets the reservation expire.
 */
#include "handlers/cart/cart.h"
#include "handlers/cart/checkout.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/outbox.h"
#include "shared/req.h"

#define LEASE (20 * CLOCK_SECOND) /* longer than the calls of one in time take */
#define RESUME_EVERY (5 * CLOCK_SECOND)
#define KEEP CLOCK_DAY

static handler_fn post_checkout;
static const struct field_table no_fields; /* {} */

static const struct route routes[] = {
	{ "POST", "/user/{uid}/cart/checkout", post_checkout,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SLOW | ROUTE_BEGUN
		| ROUTE_MAYBE_BODY | ROUTE_TAGGED,
	    .body = &no_fields },
};
const struct route_table checkout_routes = ROUTES(routes);

typedef enum err step_fn(struct ctx *ctx, struct checkout *c); /* checkout.h */
/* What belongs to a state, done in the transaction that enters it. */
typedef enum err enter_fn(struct db *db, const struct checkout *c);

static enter_fn empty_cart, give_back;

static const struct {
	const char *name;
	step_fn *step; /* NULL at the end */
	enum state next, refused;
	enter_fn *enter;
} states[] = {
	[RESERVE] = { "reserve", step_reserve, INVOICE, UNDONE },
	[INVOICE] = { "invoice", step_invoice, DONE, UNDONE },
	[DONE] = { "done", .enter = empty_cart },
	[UNDONE] = { "undone", .enter = give_back },
};
_Static_assert(ARRAY_LEN(states) == STATE__COUNT, "every state is described");

#define RUNNING "state IN ('reserve', 'invoice')"
/* No lease runs, whatever clock it was given by: none goes beyond one from now. */
#define FREE(now, lease)                                                       \
	"(leased_until > " now " AND leased_until <= " lease ") IS NOT TRUE"
#define CHECKOUT_COLUMNS                                                       \
	"nr, id, user_id, state, lines, reservation_id, invoice_id, invoice, " \
	"attempts, created_at"

STMT(item_list,
    "SELECT id, product_id, name, quantity, price, currency FROM cart_item"
    " WHERE user_id = $1 ORDER BY id");

STMT(checkout_insert,
    "INSERT INTO checkout (id, user_id, state, lines, holder, leased_until,"
    " created_at, updated_at) VALUES ($1, $2, 'reserve', $3, $4, $5, $6, $6)");

STMT(cart_freeze, "UPDATE cart SET checkout_id = $2 WHERE user_id = $1");

/* When the row is gone, its number may be another checkout's. */
#define SAME "nr = $1 AND id = $2"

/* Only the newest of a user can be running. */
STMT(checkout_newest, "SELECT max(nr) FROM checkout WHERE user_id = $1");

STMT(checkout_take,
    "UPDATE checkout SET attempts = attempts + 1,"
    " holder = coalesce($2, holder), leased_until = $3"
    " WHERE nr = $1 AND " RUNNING
    " AND (" FREE("$4", "$3") " OR holder = $2)"
    " RETURNING " CHECKOUT_COLUMNS);

/* Done for the request $2, which nginx repeats; or, with $3 = 1, which says that the
 * cart is empty, for one that has not had its answer. */
STMT(checkout_done,
    "SELECT " CHECKOUT_COLUMNS " FROM checkout WHERE nr = $1"
    " AND state = 'done'"
    " AND (holder = $2 OR ($3 = 1 AND answered_at IS NULL))");

STMT(checkout_record,
    "UPDATE checkout SET state = $4, reservation_id = $5, invoice_id = $6,"
    " invoice = $7, problem = $8, leased_until = NULL, answered_at = $9,"
    " updated_at = $10 WHERE " SAME " AND attempts = $3 AND " RUNNING);

STMT(checkout_answered, "UPDATE checkout SET answered_at = $3 WHERE " SAME);

STMT(checkout_due,
    "SELECT nr FROM checkout WHERE " RUNNING
    " AND " FREE("$1", "$2")
    " ORDER BY updated_at LIMIT 1");

STMT(checkout_drop,
    "DELETE FROM checkout WHERE nr IN (SELECT nr FROM checkout"
    " ORDER BY nr LIMIT 500) AND state IN ('done', 'undone')"
    " AND updated_at < $1");

STMT(cart_thaw,
    "UPDATE cart SET checkout_id = NULL, version = version + $3"
    " WHERE user_id = $1 AND checkout_id = $2");

/* By its key. Of several at once SQLite makes a table first, since what they belong
 * to is watched over (REFERENCES). */
STMT(item_sold, "DELETE FROM cart_item WHERE user_id = $1 AND id = $2");

/* Prices may have changed: the next reader asks product. It stays to be seen
 * when the cart was last looked at. */
STMT(cart_unseen,
    "UPDATE cart_item SET seen_at = seen_at - $2 WHERE user_id = $1");

static enum err
read_lines(struct db *db, struct checkout *c, const char *text)
{
	struct json_object *lines, *line;
	const char *why;

	if (json_parse(db->arena, text, strlen(text), &lines, &why)
	    || !json_object_is_type(lines, json_type_array)
	    || (c->line_count = json_object_array_length(lines)) == 0)
		return ERR_INTERNAL;
	c->lines = arena_alloc(db->arena, c->line_count * sizeof(*c->lines));
	for (size_t i = 0; i < c->line_count; i++) {
		line = json_object_array_get_idx(lines, i);
		c->lines[i] = (struct line) {
			.item_id = json_member_int(line, "item_id"),
			.product_id = json_member_int(line, "product_id"),
			.name = json_member_text(line, "name"),
			.quantity = json_member_int(line, "quantity"),
			.price = json_member_int(line, "price"),
			.currency = json_member_text(line, "currency"),
		};
	}
	return OK;
}

static const char *
write_lines(struct arena *a, const struct checkout *c)
{
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '[');
	for (size_t i = 0; i < c->line_count; i++) {
		const struct line *line = &c->lines[i];

		json_open(&b, NULL, '{');
		json_int(&b, "item_id", line->item_id);
		json_int(&b, "product_id", line->product_id);
		json_text(&b, "name", line->name);
		json_int(&b, "quantity", line->quantity);
		json_int(&b, "price", line->price);
		json_text(&b, "currency", line->currency);
		json_close(&b, '}');
	}
	json_close(&b, ']');
	return b.data;
}

/* One checkout that a statement answers. */
static enum err
load(struct db *db, const struct stmt *stmt, struct db_args args,
    struct checkout *c)
{
	const char *state, *lines;
	enum err err;

	*c = (struct checkout) { 0 };
	err = db_get(db, stmt, args,
	    DB_INTO(DB_INT_TO(&c->nr), DB_TEXT_TO(&c->id),
		DB_INT_TO(&c->user_id), DB_TEXT_TO(&state),
		DB_TEXT_TO(&lines),
		DB_INT_TO(&c->reservation_id), DB_INT_TO(&c->invoice_id),
		DB_TEXT_TO(&c->invoice), DB_INT_TO(&c->attempts),
		DB_INT_TO(&c->created_at)));
	if (err)
		return err;
	while (strcmp(states[c->state].name, state) != 0)
		c->state++;
	return read_lines(db, c, lines);
}

static enum err
take(struct db *db, int64_t nr, const char *holder, struct checkout *c)
{
	int64_t now = clock_ms();

	return load(db, &checkout_take,
	    DB_ARGS(DB_INT(nr), DB_TEXT(holder), DB_INT(now + LEASE),
		DB_INT(now)),
	    c);
}

static enum err
thaw(struct db *db, const struct checkout *c, bool changed)
{
	return db_exec(db, &cart_thaw,
	    DB_ARGS(DB_INT(c->user_id), DB_TEXT(c->id), DB_INT(changed)));
}

/* Of all there is in it: nothing came in while it was frozen. */
static enum err
empty_cart(struct db *db, const struct checkout *c)
{
	enum err err = thaw(db, c, true);

	for (size_t i = 0; err == OK && i < c->line_count; i++)
		err = db_exec(db, &item_sold,
		    DB_ARGS(DB_INT(c->user_id), DB_INT(c->lines[i].item_id)));
	return err;
}

static enum err
give_back(struct db *db, const struct checkout *c)
{
	enum err err;

	if ((err = thaw(db, c, false))
	    || (err = db_exec(db, &cart_unseen,
		    DB_ARGS(DB_INT(c->user_id),
			DB_INT(CART_FRESH_MAX * CLOCK_SECOND)))))
		return err;
	if (c->reservation_id <= 0)
		return OK;
	return outbox_put(db,
	    &(struct outbox_message) {
		.subject = arena_printf(db->arena, "checkout %s", c->id),
		.method = "DELETE",
		.path = arena_printf(db->arena, "/product/reservations/%lld",
		    (long long)c->reservation_id) });
}

/* Records where the checkout stands, which anybody may take up at once then; the
 * transaction stays open. */
static enum err
record(struct ctx *ctx, const struct checkout *c)
{
	enter_fn *enter = states[c->state].enter;
	struct db *db = &ctx->db;
	int64_t now = clock_ms();
	enum err err;

	err = c->state == UNDONE ? db_begin(db) : db_begin_relaxed(db);
	if (err)
		return err; /* the lease runs out */
	err = db_exec(db, &checkout_record,
	    DB_ARGS(DB_INT(c->nr), DB_TEXT(c->id), DB_INT(c->attempts),
		DB_TEXT(states[c->state].name), DB_INT(c->reservation_id),
		DB_INT(c->invoice_id), DB_TEXT(c->invoice), DB_TEXT(c->problem),
		DB_INT(c->answers && c->state == DONE ? now : INT_NONE),
		DB_INT(now)));
	if (!err && db_changes(db) == 0)
		err = ERR_UNAVAILABLE; /* another has taken it up */
	if (!err && enter != NULL)
		err = enter(db, c);
	if (err)
		db_rollback(db);
	return err;
}

/* Takes one step after the other. OK at the end, with the transaction that
 * records it open: the reply can go with it. */
static enum err
run(struct ctx *ctx, struct checkout *c)
{
	enum err err;

	if (states[c->state].step == NULL)
		return OK; /* it came to its end before */
	do {
		err = states[c->state].step(ctx, c);
		if (err && err != ERR_CONFLICT) {
			if (record(ctx, c) == OK)
				(void)!db_commit(&ctx->db);
			return err;
		}
		c->state = err ? states[c->state].refused
			       : states[c->state].next;
		CRASH_POINT("after-step");
	} while (states[c->state].step != NULL);
	return record(ctx, c);
}

/* The items as they are now. */
static enum err
snapshot(struct req *r, struct checkout *c)
{
	struct db_rows q = db_query(r->db, &item_list, DB_ARGS(DB_INT(r->uid)));

	c->lines = arena_alloc(r->arena, CART_ITEMS_MAX * sizeof(*c->lines));
	while (c->line_count < CART_ITEMS_MAX && db_next(&q))
		c->lines[c->line_count++] = (struct line) {
			.item_id = db_int(&q, 0),
			.product_id = db_int(&q, 1),
			.name = arena_strdup(r->arena, db_text(&q, 2)),
			.quantity = db_int(&q, 3),
			.price = db_int(&q, 4),
			.currency = arena_strdup(r->arena, db_text(&q, 5)),
		};
	return db_end(&q);
}

/* REQUEST_ID: nginx's repetition of a request whose instance died takes over
 * what that held, or finds what came of it. */
static const char *
holder(const struct req *r)
{
	const char *id = r->param[PARAM_REQUEST_ID];

	return *id != '\0' ? id : NULL;
}

static enum err
freeze(struct req *r, struct checkout *c)
{
	int64_t now = clock_ms();
	enum err err;

	c->id = random_text(r->arena, 18);
	c->created_at = now;
	err = db_insert(r->db, &checkout_insert,
	    DB_ARGS(DB_TEXT(c->id), DB_INT(r->uid),
		DB_TEXT(write_lines(r->arena, c)), DB_TEXT(holder(r)),
		DB_INT(now + LEASE), DB_INT(now)),
	    &c->nr);
	if (err)
		return err;
	return db_exec(r->db, &cart_freeze,
	    DB_ARGS(DB_INT(r->uid), DB_TEXT(c->id)));
}

/* A new checkout, unless the last one, that is at its end, is what is asked for. */
static enum err
start(struct req *r, const struct cart *cart, int64_t last, struct checkout *c)
{
	struct checkout new = { .user_id = r->uid,
		.state = RESERVE,
		.reservation_id = INT_NONE,
		.invoice_id = INT_NONE,
		.attempts = 1 };
	bool empty;
	enum err err;

	if ((err = snapshot(r, &new)))
		return err;
	empty = new.line_count == 0;
	err = load(r->db, &checkout_done,
	    DB_ARGS(DB_INT(last), DB_TEXT(holder(r)), DB_INT(empty)), c);
	if (err != ERR_NOT_FOUND)
		return err;
	if (empty)
		return req_fail_as(
		    r, ERR_CONFLICT, "cart-empty", "the cart is empty");
	if ((err = req_conditions(r, cart->version)))
		return err;
	*c = new;
	return freeze(r, c);
}

/* The checkout that this request is to run; ends the transaction at hand. */
static enum err
begin(struct req *r, struct checkout *c)
{
	struct cart cart;
	int64_t newest;
	enum err err;

	if ((err = cart_load(r->db, r->uid, &cart))
	    || (err = db_get(r->db, &checkout_newest, DB_ARGS(DB_INT(r->uid)),
		    DB_INTO(DB_INT_TO(&newest)))))
		return err;
	if (cart.checkout_id == NULL)
		err = start(r, &cart, newest, c);
	else if ((err = take(r->db, newest, holder(r), c)) == ERR_NOT_FOUND)
		err = cart_frozen(r);
	if (err)
		return err;
	c->trace = r->param[PARAM_TRACE];
	c->answers = true;
	return db_commit(r->db);
}

static enum err
reply_invoice(struct req *r, const struct checkout *c)
{
	enum err err;

	/* Else it came to its end just now, which records that it is answered. */
	if (!db_in_transaction(r->db)
	    && ((err = db_begin(r->db))
		|| (err = db_exec(r->db, &checkout_answered,
			DB_ARGS(DB_INT(c->nr), DB_TEXT(c->id),
			    DB_INT(clock_ms()))))))
		return err;
	json_raw(reply_json(r, 201), NULL, c->invoice);
	reply_location(r, "/invoices", c->invoice_id);
	return OK;
}

static enum err
post_checkout(struct req *r)
{
	struct checkout c;
	enum err err;

	if ((err = req_body(r, NULL)) || (err = begin(r, &c)))
		return err;
	CRASH_POINT("after-freeze");
	if ((err = run(r->ctx, &c))) {
		r->retry_after = 2;
		return req_fail(r, err,
		    "the checkout is not through yet: ask again");
	}
	if (c.state == DONE)
		return reply_invoice(r, &c);
	if ((err = db_commit(r->db)))
		return err;
	CRASH_POINT("after-undo");
	r->problem_members = c.members;
	return req_fail_as(r, ERR_CONFLICT, c.problem, "%s", c.detail);
}

/* A look costs no lock; nothing to do is the usual case. */
int64_t
checkout_resume(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	struct checkout c;
	int64_t now = clock_ms(), nr;
	enum err err;

	err = db_get(db, &checkout_due,
	    DB_ARGS(DB_INT(now), DB_INT(now + LEASE)),
	    DB_INTO(DB_INT_TO(&nr)));
	if (err || db_begin(db))
		return RESUME_EVERY;
	if ((err = take(db, nr, NULL, &c))) {
		db_rollback(db);
		return RESUME_EVERY;
	}
	if (db_commit(db) || run(ctx, &c) || db_commit(db))
		return RESUME_EVERY;
	LOG(LOG_INFO, "checkout resumed", LOG_TEXT("checkout", c.id),
	    LOG_TEXT("state", states[c.state].name));
	return 0;
}

int64_t
checkout_prune(struct ctx *ctx)
{
	return job_drop(&ctx->db, &checkout_drop, 1,
	    DB_ARGS(DB_INT(clock_ms() - KEEP)), CLOCK_HOUR);
}
