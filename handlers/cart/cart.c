/*
 * The cart of a user: items, each a product and how many of it are wanted.
 * While the cart is being checked out it can only be read.
 */
#include "handlers/cart/cart.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/req.h"

#define QUANTITY_MAX 999

static handler_fn put_question, post_item, get_cart, delete_cart, get_item,
    change_item, delete_item;
static const struct field_table add_fields, change_fields;

static const struct route routes[] = {
	{ "POST", "/user/{uid}/cart", post_item,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED, .question = put_question,
	    .body = &add_fields },
	{ "GET", "/user/{uid}/cart", get_cart,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SERVICE | ROUTE_TAGGED },
	{ "DELETE", "/user/{uid}/cart", delete_cart,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SERVICE | ROUTE_EMPTY
		| ROUTE_TAGGED },
	{ "GET", "/user/{uid}/cart/{id}", get_item,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED },
	{ "PUT", "/user/{uid}/cart/{id}", change_item,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED, .body = &change_fields },
	{ "PATCH", "/user/{uid}/cart/{id}", change_item,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_TAGGED, .body = &change_fields },
	{ "DELETE", "/user/{uid}/cart/{id}", delete_item,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_EMPTY | ROUTE_TAGGED },
};
const struct route_table cart_routes = ROUTES(routes);

STMT(cart_get, "SELECT version, checkout_id FROM cart WHERE user_id = $1");

STMT(cart_put,
    "INSERT INTO cart (user_id, version) VALUES ($1, 1)"
    " ON CONFLICT (user_id) DO UPDATE SET version = cart.version + 1");

STMT(cart_empty, "DELETE FROM cart_item WHERE user_id = $1");
STMT(cart_forget, "DELETE FROM cart WHERE user_id = $1");
STMT(checkout_forget, "DELETE FROM checkout WHERE user_id = $1");

STMT(cart_next_id,
    "UPDATE cart SET last_item_id = last_item_id + 1 WHERE user_id = $1");
STMT(cart_last_id, "SELECT last_item_id FROM cart WHERE user_id = $1");

STMT(cart_count, "SELECT count(*) FROM cart_item WHERE user_id = $1");

/* A currency of the cart that is not this one. */
STMT(cart_other_currency,
    "SELECT currency FROM cart_item WHERE user_id = $1 AND currency <> $2"
    " LIMIT 1");

#define ITEM_COLUMNS                                                           \
	"id, product_id, quantity, name, price, currency, available, "         \
	"added_at, version"
enum item_column {
	ITEM_ID,
	ITEM_PRODUCT_ID,
	ITEM_QUANTITY,
	ITEM_NAME,
	ITEM_PRICE,
	ITEM_CURRENCY,
	ITEM_AVAILABLE,
	ITEM_ADDED_AT,
	ITEM_VERSION,
};

STMT(item_list,
    "SELECT " ITEM_COLUMNS " FROM cart_item WHERE user_id = $1 ORDER BY id");

STMT(item_get,
    "SELECT " ITEM_COLUMNS " FROM cart_item WHERE user_id = $1 AND id = $2");

STMT(item_load,
    "SELECT quantity, version FROM cart_item WHERE user_id = $1 AND id = $2");

STMT(item_of_product,
    "SELECT id, quantity FROM cart_item WHERE user_id = $1"
    " AND product_id = $2");

STMT(item_insert,
    "INSERT INTO cart_item (user_id, id, product_id, quantity, name, price,"
    " currency, available, seen_at, added_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");

STMT(item_update,
    "UPDATE cart_item SET quantity = $3, version = version + 1"
    " WHERE user_id = $1 AND id = $2");

/* Carts of which nothing was shown or added since. */
STMT(cart_dead,
    "SELECT user_id FROM cart_item i WHERE seen_at < $1"
    " AND id = (SELECT min(id) FROM cart_item WHERE user_id = i.user_id)"
    " AND NOT EXISTS (SELECT 1 FROM cart_item WHERE user_id = i.user_id"
    "  AND (seen_at >= $1 OR added_at >= $1))"
    " AND NOT EXISTS (SELECT 1 FROM cart WHERE user_id = i.user_id"
    "  AND checkout_id IS NOT NULL) ORDER BY seen_at LIMIT 100");

STMT(item_delete, "DELETE FROM cart_item WHERE user_id = $1 AND id = $2");

struct wanted {
	int64_t product_id, quantity;
};

#define QUANTITY_FIELD                                                         \
	FIELD(struct wanted, quantity, .min = 1, .max = QUANTITY_MAX)

static const struct field_table add_fields = FIELDS(
	FIELD(struct wanted, product_id, .flags = FIELD_REQUIRED, .min = 1),
	QUANTITY_FIELD);
static const struct field_table change_fields = FIELDS(QUANTITY_FIELD);

enum err
cart_load(struct db *db, int64_t uid, struct cart *cart)
{
	enum err err = db_get(db, &cart_get, DB_ARGS(DB_INT(uid)),
	    DB_INTO(DB_INT_TO(&cart->version), DB_TEXT_TO(&cart->checkout_id)));

	if (err == ERR_NOT_FOUND) {
		*cart = (struct cart) { 0 };
		return OK;
	}
	return err;
}

enum err
cart_touch(struct db *db, int64_t uid)
{
	return db_exec(db, &cart_put, DB_ARGS(DB_INT(uid)));
}

enum err
cart_frozen(struct req *r)
{
	r->retry_after = 1;
	return req_fail_as(r, ERR_CONFLICT, "checkout-in-progress",
	    "this cart is being checked out");
}

enum err
cart_change(struct req *r, struct cart *was)
{
	enum err err;

	if ((err = cart_load(r->db, r->uid, was)))
		return err;
	if (was->checkout_id != NULL)
		return cart_frozen(r);
	return cart_touch(r->db, r->uid);
}

/* The sum and so many at a price more; INT_NONE for what is beyond the integers
 * of JSON. */
static int64_t
add_total(int64_t sum, int64_t price, int64_t quantity)
{
	int64_t total;

	if (sum == INT_NONE || __builtin_mul_overflow(price, quantity, &total)
	    || __builtin_add_overflow(sum, total, &total)
	    || total > INT_MAX_EXACT)
		return INT_NONE;
	return total;
}

static int64_t
add_row(int64_t sum, const struct db_rows *q)
{
	return add_total(sum, db_int(q, ITEM_PRICE), db_int(q, ITEM_QUANTITY));
}

/* A cart must stay one whose subtotal can be written down. */
static enum err
check_subtotal(struct req *r)
{
	struct db_rows q = db_query(r->db, &item_list, DB_ARGS(DB_INT(r->uid)));
	int64_t sum = 0;
	enum err err;

	while (db_next(&q))
		sum = add_row(sum, &q);
	if ((err = db_end(&q)))
		return err;
	if (sum == INT_NONE)
		return req_fault(
		    r, "#/quantity", "makes the cart worth too much");
	return OK;
}

static void
put_item(struct buf *b, const struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, ITEM_ID));
	json_int(b, "product_id", db_int(q, ITEM_PRODUCT_ID));
	json_int(b, "quantity", db_int(q, ITEM_QUANTITY));
	json_text(b, "name", db_text(q, ITEM_NAME));
	json_int(b, "price", db_int(q, ITEM_PRICE));
	json_text(b, "currency", db_text(q, ITEM_CURRENCY));
	json_int(b, "line_total", add_row(0, q));
	json_int(b, "available", db_int(q, ITEM_AVAILABLE));
	json_time(b, "added_at", db_int(q, ITEM_ADDED_AT));
	json_close(b, '}');
}

static enum err
reply_item(struct req *r, int status, int64_t id)
{
	struct db_rows q
	    = db_query(r->db, &item_get, DB_ARGS(DB_INT(r->uid), DB_INT(id)));
	bool found = db_next(&q);
	enum err err;

	if (found) {
		put_item(reply_json(r, status), &q);
		reply_version(r, db_int(&q, ITEM_VERSION));
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

static enum err
check_currency(struct req *r, const char *currency)
{
	const char *other;
	enum err err;

	err = db_get(r->db, &cart_other_currency,
	    DB_ARGS(DB_INT(r->uid), DB_TEXT(currency)),
	    DB_INTO(DB_TEXT_TO(&other)));
	if (err)
		return err == ERR_NOT_FOUND ? OK : err;
	return req_fail_as(r, ERR_CONFLICT, "currency-mismatch",
	    "the cart is in %s, this product is sold in %s", other, currency);
}

static enum err
insert_item(struct req *r, const struct offer *o, int64_t quantity, int64_t *id)
{
	int64_t count;
	enum err err;

	if ((err = db_get(r->db, &cart_count, DB_ARGS(DB_INT(r->uid)),
		 DB_INTO(DB_INT_TO(&count)))))
		return err;
	if (count >= CART_ITEMS_MAX)
		return req_fail_as(r, ERR_CONFLICT, "cart-full",
		    "a cart holds at most %d products", CART_ITEMS_MAX);
	if ((err = db_exec(r->db, &cart_next_id, DB_ARGS(DB_INT(r->uid))))
	    || (err = db_get(r->db, &cart_last_id, DB_ARGS(DB_INT(r->uid)),
		    DB_INTO(DB_INT_TO(id)))))
		return err;
	return db_exec(r->db, &item_insert,
	    DB_ARGS(DB_INT(r->uid), DB_INT(*id), DB_INT(o->product_id),
		DB_INT(quantity), DB_TEXT(o->name), DB_INT(o->price),
		DB_TEXT(o->currency), DB_INT(o->available), DB_INT(o->seen_at),
		DB_INT(clock_ms())));
}

static enum err
add_to_item(struct req *r, const struct offer *o, int64_t quantity, int64_t id)
{
	bool news;
	enum err err;

	if (quantity > QUANTITY_MAX)
		return req_fault(
		    r, "#/quantity", "makes more than %d of it", QUANTITY_MAX);
	if ((err = offer_keep(r, o, &news)))
		return err;
	return db_exec(r->db, &item_update,
	    DB_ARGS(DB_INT(r->uid), DB_INT(id), DB_INT(quantity)));
}

/* Answers the id of the product's item, and 201 for one that is new. */
static enum err
add_offer(struct req *r, const struct offer *o, int64_t quantity, int64_t *id,
    int *status)
{
	int64_t had;
	enum err err;

	err = db_get(r->db, &item_of_product,
	    DB_ARGS(DB_INT(r->uid), DB_INT(o->product_id)),
	    DB_INTO(DB_INT_TO(id), DB_INT_TO(&had)));
	*status = err == ERR_NOT_FOUND ? 201 : 200;
	if (err == ERR_NOT_FOUND)
		err = insert_item(r, o, quantity, id);
	else if (!err)
		err = add_to_item(r, o, had + quantity, *id);
	return err ? err : check_subtotal(r);
}

static enum err
put_question(struct req *r)
{
	struct wanted wanted;
	enum err err;

	if ((err = req_body(r, &wanted)))
		return err;
	offer_question(r, wanted.product_id);
	return OK;
}

static enum err
post_item(struct req *r)
{
	struct wanted wanted = { .quantity = 1 };
	struct offer offer;
	struct cart was;
	int64_t id;
	int status;
	enum err err;

	if ((err = req_body(r, &wanted)))
		return err;
	err = offer_take(r, wanted.product_id, &offer);
	if (err == ERR_NOT_FOUND)
		return req_fault(r, "#/product_id", "is no product for sale");
	if (err)
		return req_fail(r, err, "the catalog cannot be asked just now");
	if ((err = cart_change(r, &was))
	    || (err = req_conditions(r, was.version))
	    || (err = check_currency(r, offer.currency))
	    || (err = add_offer(r, &offer, wanted.quantity, &id, &status))
	    || (err = reply_item(r, status, id)))
		return err;
	reply_location(r,
	    arena_printf(r->arena, "/user/%lld/cart", (long long)r->uid), id);
	return OK;
}

static enum err
get_cart(struct req *r)
{
	int64_t count = 0, subtotal = 0;
	const char *currency = NULL;
	struct cart cart;
	struct db_rows q;
	struct buf *b;
	enum err err;

	/* The version first: with lines that are newer it does no harm. */
	if ((err = offer_refresh(r, INT_NONE))
	    || (err = cart_load(r->db, r->uid, &cart)))
		return err;
	b = reply_json(r, 200);
	json_open(b, NULL, '{');
	json_open(b, "items", '[');
	q = db_query(r->db, &item_list, DB_ARGS(DB_INT(r->uid)));
	for (; db_next(&q); count++) {
		put_item(b, &q);
		subtotal = add_row(subtotal, &q);
		currency = arena_strdup(r->arena, db_text(&q, ITEM_CURRENCY));
	}
	if ((err = db_end(&q)))
		return err;
	json_close(b, ']');
	json_int(b, "count", count);
	json_int(b, "subtotal", subtotal);
	json_text(b, "currency", currency);
	json_int(b, "version", cart.version);
	json_close(b, '}');
	reply_version(r, cart.version);
	return OK;
}

/* When a user is deleted, nothing that names them stays. */
static enum err
forget(struct req *r)
{
	enum err err = db_exec(r->db, &cart_forget, DB_ARGS(DB_INT(r->uid)));

	return err ? err
		   : db_exec(r->db, &checkout_forget, DB_ARGS(DB_INT(r->uid)));
}

static enum err
delete_cart(struct req *r)
{
	struct cart was;
	enum err err;

	if ((err = cart_change(r, &was))
	    || (err = req_conditions(r, was.version))
	    || (err = db_exec(r->db, &cart_empty, DB_ARGS(DB_INT(r->uid)))))
		return err;
	if (r->caller.role == ROLE_SERVICE && (err = forget(r)))
		return err;
	return reply_empty(r, 204);
}

static enum err
get_item(struct req *r)
{
	enum err err = offer_refresh(r, r->id);

	return err ? err : reply_item(r, 200, r->id);
}

/* An item that may be changed. */
static enum err
load_item(struct req *r, struct wanted *wanted)
{
	struct cart was;
	int64_t version;
	enum err err;

	err = db_get(r->db, &item_load, DB_ARGS(DB_INT(r->uid), DB_INT(r->id)),
	    DB_INTO(DB_INT_TO(&wanted->quantity), DB_INT_TO(&version)));
	if (err || (err = req_conditions(r, version)))
		return err;
	return cart_change(r, &was);
}

/* PUT and PATCH alike change the members that are given. */
static enum err
change_item(struct req *r)
{
	struct wanted wanted;
	int64_t had;
	enum err err;

	if ((err = load_item(r, &wanted)))
		return err;
	had = wanted.quantity;
	if ((err = req_body(r, &wanted)))
		return err;
	err = db_exec(r->db, &item_update,
	    DB_ARGS(DB_INT(r->uid), DB_INT(r->id), DB_INT(wanted.quantity)));
	/* What is too dear, since prices rose, can be made less. */
	if (!err && wanted.quantity > had)
		err = check_subtotal(r);
	if (err)
		return err;
	return reply_item(r, 200, r->id);
}

static enum err
delete_item(struct req *r)
{
	struct wanted wanted;
	enum err err;

	if ((err = load_item(r, &wanted)))
		return err;
	err = db_exec(
	    r->db, &item_delete, DB_ARGS(DB_INT(r->uid), DB_INT(r->id)));
	return err ? err : reply_empty(r, 204);
}

static enum err
empty_dead(struct db *db, int64_t *count)
{
	int64_t before = clock_ms() - cart_settings.keep_days * CLOCK_DAY;
	struct db_rows q = db_query(db, &cart_dead, DB_ARGS(DB_INT(before)));
	int64_t dead[100];
	enum err err;

	*count = 0;
	while (*count < (int64_t)ARRAY_LEN(dead) && db_next(&q))
		dead[(*count)++] = db_int(&q, 0);
	err = db_end(&q);
	for (int64_t i = 0; err == OK && i < *count; i++)
		if ((err = db_exec(db, &cart_empty, DB_ARGS(DB_INT(dead[i]))))
		    == OK)
			err = cart_touch(db, dead[i]);
	return err;
}

int64_t
cart_prune(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t emptied;

	if (db_begin(db) || db_finish(db, empty_dead(db, &emptied)))
		return CLOCK_HOUR;
	return emptied > 0 ? 0 : CLOCK_HOUR;
}
