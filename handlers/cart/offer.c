/*
 * What product says of what is in a cart.
 *
 * It is kept with each item, so a cart can be read while product is down, and
 * the price is the one that the customer has seen. A customer who reads what is
 * older than COSTER_CART_FRESH_SECONDS asks product anew, once for all that is
 * shown. Whoever else reads it sees what the customer saw. A product that is gone,
 * or is sold in another currency now, keeps its item, with none available.
 */
#include "handlers/cart/cart.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/req.h"

#define GLANCE_MS 1000 /* that a reader waits for product */

/* Of the item $2, or of all. */
#define SHOWN "user_id = $1 AND ($2 IS NULL OR id = $2)"

STMT(oldest_get, "SELECT min(seen_at) FROM cart_item WHERE " SHOWN);

STMT(product_list, "SELECT product_id, currency FROM cart_item WHERE " SHOWN);

/* Changes an item only if there is news; NULL: none of this. */
STMT(offer_put,
    "UPDATE cart_item SET name = COALESCE($3, name),"
    " price = COALESCE($4, price), available = $5, version = version + 1"
    " WHERE user_id = $1 AND product_id = $2"
    " AND (name <> COALESCE($3, name) OR price <> COALESCE($4, price)"
    " OR available IS DISTINCT FROM $5)");

STMT(offer_seen,
    "UPDATE cart_item SET seen_at = $3 WHERE user_id = $1 AND product_id = $2"
    " AND seen_at <> $3");

/* A price that rose is charged to nobody who has not seen it. */
static bool
is_shown_to_customer(const struct req *r)
{
	return r->caller.uid == r->uid
	    && strcmp(r->param[PARAM_METHOD], "HEAD") != 0;
}

/* What product is asked, and its answer. */
struct inquiry {
	int64_t product[CART_ITEMS_MAX];
	size_t count;
	const char *currency; /* that the cart is in */
	int64_t asked_at;
	struct json_object *found;
};

static void
put_question(struct req *r, const struct inquiry *in)
{
	struct buf path;

	buf_init(&path, r->arena);
	buf_adds(&path, "/products/?ids=");
	for (size_t i = 0; i < in->count; i++)
		buf_addf(&path, "%s%lld", i > 0 ? "," : "",
		    (long long)in->product[i]);
	buf_addf(&path, "&limit=%zu", in->count);
	r->question = path.data;
}

static enum err
take_answer(
    const struct req *r, const struct peer_answer *answer, struct inquiry *in)
{
	if (answer->err)
		return answer->err;
	in->asked_at = answer->asked_at;
	if (answer->reply.status == 200
	    && json_object_object_get_ex(answer->reply.body, "items", &in->found)
	    && json_object_is_type(in->found, json_type_array))
		return OK;
	LOG(LOG_WARN, "product gives no list",
	    LOG_INT("status", answer->reply.status),
	    LOG_TEXT("request", r->param[PARAM_TRACE]));
	return ERR_UNAVAILABLE;
}

static bool
find(const struct inquiry *in, int64_t product_id, struct offer *o)
{
	for (size_t i = 0; i < json_object_array_length(in->found); i++) {
		struct json_object *p = json_object_array_get_idx(in->found, i);

		if (json_member_int(p, "id") != product_id)
			continue;
		*o = (struct offer) { .product_id = product_id,
			.seen_at = in->asked_at,
			.name = json_member_text(p, "name"),
			.price = json_member_int(p, "price"),
			.currency = json_member_text(p, "currency"),
			.available = json_member_int(p, "available") };
		return o->name != NULL && o->price >= 0 && o->currency != NULL;
	}
	return false;
}

void
offer_question(struct req *r, int64_t product_id)
{
	put_question(
	    r, &(struct inquiry) { .product = { product_id }, .count = 1 });
}

enum err
offer_take(const struct req *r, int64_t product_id, struct offer *o)
{
	struct inquiry in = { .count = 0 };
	enum err err = take_answer(r, r->answer, &in);

	if (err)
		return err;
	return find(&in, product_id, o) ? OK : ERR_NOT_FOUND;
}

enum err
offer_keep(struct req *r, const struct offer *o, bool *news)
{
	bool shown = is_shown_to_customer(r);
	int64_t price = shown ? o->price : INT_NONE;
	enum err err = db_exec(r->db, &offer_put,
	    DB_ARGS(DB_INT(r->uid), DB_INT(o->product_id), DB_TEXT(o->name),
		DB_INT(price), DB_INT(o->available)));

	*news = !err && db_changes(r->db) > 0;
	if (err || !shown) /* the customer's next look asks again */
		return err;
	return db_exec(r->db, &offer_seen,
	    DB_ARGS(DB_INT(r->uid), DB_INT(o->product_id), DB_INT(o->seen_at)));
}

static enum err
keep_all(struct req *r, const struct inquiry *in)
{
	bool news, any = false;
	struct offer o;
	enum err err;

	for (size_t i = 0; i < in->count; i++) {
		if (!find(in, in->product[i], &o)
		    || strcmp(o.currency, in->currency) != 0)
			o = (struct offer) { .product_id = in->product[i],
				.seen_at = in->asked_at,
				.price = INT_NONE,
				.available = 0 };
		if ((err = offer_keep(r, &o, &news)))
			return err;
		any = any || news;
	}
	return any ? cart_touch(r->db, r->uid) : OK;
}

/* A cart can be read although nothing can be written. */
static void
keep_if_possible(struct req *r, const struct inquiry *in)
{
	if (db_begin(r->db) == OK)
		(void)!db_finish(r->db, keep_all(r, in));
}

static enum err
list_products(struct req *r, int64_t item, struct inquiry *in)
{
	struct db_rows q = db_query(
	    r->db, &product_list, DB_ARGS(DB_INT(r->uid), DB_INT(item)));

	while (in->count < CART_ITEMS_MAX && db_next(&q)) {
		in->product[in->count++] = db_int(&q, 0);
		in->currency = arena_strdup(r->arena, db_text(&q, 1));
	}
	return db_end(&q);
}

enum err
offer_refresh(struct req *r, int64_t item)
{
	int64_t fresh = cart_settings.fresh_seconds * CLOCK_SECOND, oldest, age;
	struct inquiry in = { .count = 0 };
	struct peer_answer answer;
	enum err err;

	if (!is_shown_to_customer(r))
		return OK;
	err = db_get(r->db, &oldest_get,
	    DB_ARGS(DB_INT(r->uid), DB_INT(item)), DB_INTO(DB_INT_TO(&oldest)));
	if (err || oldest == INT_NONE)
		return err;
	age = clock_ms() - oldest; /* negative: the clock has been set back since */
	if (age >= 0 && age < fresh)
		return OK;
	if ((err = req_may_wait(r)) || (err = list_products(r, item, &in)))
		return err;
	if (in.count == 0)
		return OK;
	put_question(r, &in);
	req_ask(r, GLANCE_MS, &answer);
	if (take_answer(r, &answer, &in) == OK)
		keep_if_possible(r, &in);
	return OK;
}
