/*
 * The catalog: lists of products, filtered, sorted, searched and paged. Each
 * order has its own statement over its own index, with and without a category;
 * a search starts from its matches instead. A service that asks by ids gets
 * offers: a hundred whole products can be more than it may read.
 */
#include "handlers/product/product.h"

#include "shared/json.h"
#include "shared/page.h"
#include "shared/text.h"

#define WORDS_MAX 12 /* in a search */

static handler_fn get_products;
static const struct field_table query_fields;

static const struct route routes[] = {
	{ "GET", "/products", get_products, ROUTE_ANYONE,
	    .query = &query_fields },
};
const struct route_table catalog_routes = ROUTES(routes);

enum order { BY_ID, BY_NAME, BY_PRICE, BY_PRICE_DOWN, NEWEST, ORDER__COUNT };
enum source { ALL, CATEGORY, SEARCH, IDS, OFFERS, SOURCE__COUNT };

/* $1 limit; $2, $3 the id and key of the row before; $4, $5 prices; $6 in
 * stock only; $7 the search or the ids; $8 category. */
#define LIST(columns, from, which, behind, order)                              \
	{                                                                      \
		"SELECT " columns " FROM " from                                \
		" WHERE p.deleted_at IS NULL AND " which " AND " behind        \
		" AND ($4 IS NULL OR p.price >= $4)"                           \
		" AND ($5 IS NULL OR p.price <= $5)"                           \
		" AND ($6 = 0 OR p.stock IS NULL OR p.stock > p.reserved)"     \
		" ORDER BY " order " LIMIT $1"                                 \
	}
#define ORDERS(columns, from, id, which)                                       \
	{                                                                      \
		[BY_ID] = LIST(columns, from, which, id " > $2", id),          \
		[BY_NAME] = LIST(columns, from, which,                         \
		    "(p.name, p.id) > ($3, $2)", "p.name, p.id"),              \
		[BY_PRICE] = LIST(columns, from, which,                        \
		    "(p.price, p.id) > ($3, $2)", "p.price, p.id"),            \
		[BY_PRICE_DOWN] = LIST(columns, from, which,                   \
		    "(p.price, p.id) < ($3, $2)", "p.price DESC, p.id DESC"),  \
		[NEWEST] = LIST(columns, from, which, id " < $2", id " DESC"), \
	}
/* json_each is SQLite's alone, as FTS5 is. */
#define BY_IDS                                                                 \
	"p.id IN (SELECT value FROM json_each($7))"                            \
	" AND ($8 IS NULL OR p.category = $8)"

STMT_ARRAY(lists[SOURCE__COUNT][ORDER__COUNT]) = {
	[ALL] = ORDERS(PRODUCT_COLUMNS, "product p", "p.id",
	    "$7 IS NULL AND $8 IS NULL"),
	[CATEGORY] = ORDERS(PRODUCT_COLUMNS, "product p", "p.id",
	    "$7 IS NULL AND p.category = $8"),
	[SEARCH] = ORDERS(PRODUCT_COLUMNS,
	    "product_search s JOIN product p ON p.id = s.rowid", "s.rowid",
	    "product_search MATCH $7 AND ($8 IS NULL OR p.category = $8)"),
	[IDS] = ORDERS(PRODUCT_COLUMNS, "product p", "p.id", BY_IDS),
	[OFFERS] = ORDERS(OFFER_COLUMNS, "product p", "p.id", BY_IDS),
};

/* What a cursor calls the order, which column is its key, and a place before
 * the first row. */
static const struct {
	const char *name;
	int key; /* column, or -1: the id alone */
	int64_t first_id;
	struct db_arg first_key;
} orders[] = {
	[BY_ID] = { "id", -1, 0, DB_INT(0) },
	[BY_NAME] = { "name", PRODUCT_NAME, 0, DB_TEXT("") },
	[BY_PRICE] = { "price", PRODUCT_PRICE, 0, DB_INT(-1) },
	[BY_PRICE_DOWN] = { "-price", PRODUCT_PRICE, INT_MAX_EXACT,
	    DB_INT(INT_MAX_EXACT) },
	[NEWEST] = { "newest", -1, INT_MAX_EXACT, DB_INT(0) },
};
_Static_assert(ARRAY_LEN(orders) == ORDER__COUNT, "every order is described");

static const char *const order_names[]
    = { "id", "name", "price", "-price", "newest", NULL };

struct query {
	struct page page;
	const char *q, *category, *ids, *sort;
	int64_t min_price, max_price;
	bool in_stock;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page),
	FIELD(struct query, q, .min = 1),
	FIELD(struct query, category, .min = 1, .max = 100),
	FIELD(struct query, ids, .min = 1, .max = 4000),
	FIELD(struct query, sort, .choices = order_names),
	FIELD(struct query, min_price),
	FIELD(struct query, max_price),
	FIELD(struct query, in_stock));

/* May it be a word? Of ASCII those are that have a letter or digit; of others
 * FTS5 knows. */
static bool
is_word(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')
		    || c >= 0x80)
			return true;
	}
	return false;
}

/* Every word, as the start of one: FTS5's own operators mean nothing here. With
 * an AND between, a sign that is no word would find nothing, and all with it;
 * side by side, all must be found too, and FTS5 leaves out what is none. Each
 * costs as much as there are products that have it. */
static const char *
match_text(struct req *r, const char *q)
{
	size_t words = 0;
	struct buf b;

	buf_init(&b, r->arena);
	while (*(q += strspn(q, " \"*")) != '\0') {
		size_t len = strcspn(q, " \"*");

		if (is_word(q, len))
			buf_addf(&b, "%s\"%.*s\"*", words++ > 0 ? " " : "",
			    (int)len, q);
		q += len;
	}
	if (words == 0)
		(void)!req_fault(r, "?q", "has no word in it");
	else if (words > WORDS_MAX)
		(void)!req_fault(r, "?q", "has more than %d words", WORDS_MAX);
	return words > 0 && words <= WORDS_MAX ? b.data : NULL;
}

static const char *
ids_json(struct req *r, const char *ids)
{
	struct buf b;

	buf_init(&b, r->arena);
	json_open(&b, NULL, '[');
	for (;;) {
		size_t len = strcspn(ids, ",");
		int64_t id;

		if (!text_to_int(ids, len, &id))
			return NULL;
		json_int(&b, NULL, id);
		if (ids[len] == '\0')
			break;
		ids += len + 1;
	}
	json_close(&b, ']');
	return b.data;
}

static enum err
find_source(struct req *r, const struct query *in, enum source *source,
    const char **what)
{
	*source = in->category != NULL ? CATEGORY : ALL;
	*what = NULL;
	if (in->q != NULL && in->ids != NULL)
		return req_fault(r, "?ids", "cannot be combined with q");
	if (in->q != NULL) {
		*source = SEARCH;
		*what = match_text(r, in->q);
		if (*what == NULL)
			return ERR_INVALID;
	}
	if (in->ids != NULL) {
		*source = r->caller.role == ROLE_SERVICE ? OFFERS : IDS;
		*what = ids_json(r, in->ids);
		if (*what == NULL)
			return req_fault(
			    r, "?ids", "must be ids with commas between");
	}
	return OK;
}

static enum order
find_order(const char *sort)
{
	enum order order = BY_ID;

	while (sort != NULL && strcmp(orders[order].name, sort) != 0)
		order++;
	return order;
}

/* The cursor's key as the statement wants it: a number where it sorts by one. */
static enum err
find_start(struct req *r, const struct page *page, enum order order,
    struct db_arg *key)
{
	const char *text = page->after_key;
	int64_t v;

	*key = orders[order].first_key;
	if (text == NULL)
		return OK;
	if (orders[order].key != PRODUCT_PRICE)
		*key = (struct db_arg)DB_TEXT(text);
	else if (text_to_int(text, strlen(text), &v))
		*key = (struct db_arg)DB_INT(v);
	else
		return req_fault(r, "?cursor", "is not a cursor of this list");
	return OK;
}

/* Such a list reads all that it leaves out. */
static bool
is_filtered(const struct query *in)
{
	return in->q != NULL || in->min_price != INT_NONE
	    || in->max_price != INT_NONE || in->in_stock;
}

static enum err
get_products(struct req *r)
{
	struct query in = { .page = PAGE_INIT,
		.min_price = INT_NONE,
		.max_price = INT_NONE };
	enum source source;
	enum order order;
	const char *what;
	struct db_arg key;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = req_query(r, &in))
	    || (is_filtered(&in) && (err = req_may_wait(r))))
		return err;
	order = find_order(in.sort);
	in.page.order = orders[order].name;
	in.page.after_id = orders[order].first_id;
	if ((err = page_start(r, &in.page))
	    || (err = find_start(r, &in.page, order, &key))
	    || (err = find_source(r, &in, &source, &what)))
		return err;
	q = db_query(r->db, &lists[source][order],
	    DB_ARGS(DB_INT(in.page.limit + 1), DB_INT(in.page.after_id), key,
		DB_INT(in.min_price), DB_INT(in.max_price), DB_INT(in.in_stock),
		DB_TEXT(what), DB_TEXT(in.category)));
	b = page_open(r);
	while (db_next(&q)
	    && page_take(r, &in.page, db_int(&q, PRODUCT_ID),
		orders[order].key >= 0 ? db_text(&q, orders[order].key) : NULL))
		(source == OFFERS ? put_offer : put_product)(b, &q);
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	r->reply.cache_control = "public, max-age=5";
	return OK;
}
