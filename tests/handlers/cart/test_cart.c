#include "tests/loopback.h"

#include "shared/clock.h"

#define CART "/user/1/cart/"
#define ASKED_1 "GET /products/?ids=1&limit=1"
#define ASKED_2 "GET /products/?ids=2&limit=1"
#define ASKED_BOTH "GET /products/?ids=1,2&limit=2"

#define PRODUCT(id, name, price, currency, available)                          \
	"{\"id\":" #id ",\"sku\":\"S" #id "\",\"name\":\"" name                \
	"\",\"price\":" #price ",\"currency\":\"" currency                     \
	"\",\"available\":" #available "}"
#define PRODUCTS(list) "{\"items\":[" list "],\"next_cursor\":null}"
#define TEA PRODUCT(1, "Tea", 450, "EUR", 10)
#define CUP PRODUCT(2, "Cup", 1200, "EUR", null)

/* Puts a product in the cart of user 1. */
static struct reply_seen
add(struct t *t, const char *asked, const char *product, const char *body)
{
	peer(t, asked, 200, product);
	return call(t, "POST", CART, body, AS_USER(1));
}

static void
add_both(struct t *t)
{
	struct reply_seen rep = add(t, ASKED_1, PRODUCTS(TEA),
	    "{\"product_id\":1,\"quantity\":2}");

	assert_status(&rep, 201);
	rep = add(t, ASKED_2, PRODUCTS(CUP), "{\"product_id\":2}");
	assert_status(&rep, 201);
}

static void
assert_type(const struct reply_seen *rep, const char *type)
{
	assert_string_equal(text_at(rep, "type"), type);
}

static void
test_cart__a_product_is_put_in(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = add(t, ASKED_1, PRODUCTS(TEA),
	    "{\"product_id\":1,\"quantity\":2}");

	assert_status(&rep, 201);
	assert_non_null(strstr(rep.fields, "Location: /user/1/cart/1\r\n"));
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
	assert_int_equal(int_at(&rep, "id"), 1);
	assert_int_equal(int_at(&rep, "product_id"), 1);
	assert_int_equal(int_at(&rep, "quantity"), 2);
	assert_string_equal(text_at(&rep, "name"), "Tea");
	assert_int_equal(int_at(&rep, "price"), 450);
	assert_string_equal(text_at(&rep, "currency"), "EUR");
	assert_int_equal(int_at(&rep, "line_total"), 900);
	assert_int_equal(int_at(&rep, "available"), 10);
	assert_string_equal(
	    text_at(&rep, "added_at"), "2027-01-15T08:00:00.000Z");
	rep = call(t, "GET", "/user/1/cart/1", NULL, AS_USER(1));
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "line_total"), 900);
}

static void
test_cart__is_empty_at_first(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "GET", CART, NULL, AS_USER(1));

	assert_status(&rep, 200);
	assert_string_equal(rep.body,
	    "{\"items\":[],\"count\":0,\"subtotal\":0,\"currency\":null,"
	    "\"version\":0}");
	assert_non_null(strstr(rep.fields, "ETag: \"0\"\r\n"));
	rep = call(t, "DELETE", CART, NULL, AS_USER(1));
	assert_status(&rep, 204);
}

static void
test_cart__lists_items_with_their_sum(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	rep = call(t, "GET", "/user/1/cart", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/id"), 1);
	assert_int_equal(int_at(&rep, "items/1/id"), 2);
	assert_null(member(&rep, "items/1/available"));
	assert_int_equal(int_at(&rep, "count"), 2);
	assert_int_equal(int_at(&rep, "subtotal"), 2100);
	assert_string_equal(text_at(&rep, "currency"), "EUR");
	assert_int_equal(int_at(&rep, "version"), 2);
}

static void
test_cart__the_product_again_adds_to_its_item(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	rep = add(t, ASKED_1, PRODUCTS(PRODUCT(1, "Fine tea", 500, "EUR", 9)),
	    "{\"product_id\":1,\"quantity\":3}");
	assert_status(&rep, 200);
	assert_non_null(strstr(rep.fields, "Location: /user/1/cart/1\r\n"));
	assert_int_equal(int_at(&rep, "quantity"), 5);
	assert_int_equal(int_at(&rep, "price"), 500);
	assert_string_equal(text_at(&rep, "name"), "Fine tea");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart_item"), 2);
	rep = add(t, ASKED_1, PRODUCTS(TEA),
	    "{\"product_id\":1,\"quantity\":994}");
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "quantity"), 999);
	rep = add(t, ASKED_1, PRODUCTS(TEA), "{\"product_id\":1}");
	assert_problem(&rep, 422, "#/quantity");
	assert_int_equal(
	    sql_int(t, "SELECT quantity FROM cart_item WHERE id = 1"), 999);
}

static void
test_cart__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *method, *path, *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "POST", CART, "{}", 422, "#/product_id" },
		{ "POST", CART, "{\"product_id\":0}", 422, "#/product_id" },
		{ "POST", CART, "{\"product_id\":\"1\"}", 422, "#/product_id" },
		{ "POST", CART, "{\"product_id\":1,\"quantity\":0}", 422,
		    "#/quantity" },
		{ "POST", CART, "{\"product_id\":1,\"quantity\":1000}", 422,
		    "#/quantity" },
		{ "POST", CART, "{\"product_id\":1,\"price\":1}", 422,
		    "#/price" },
		{ "POST", CART, "{\"product_id\":1,\"id\":1}", 422, "#/id" },
		{ "POST", CART, "[]", 422, "#" },
		{ "POST", CART, "{", 400, NULL },
		{ "POST", CART, NULL, 415, NULL },
		{ "PUT", CART "1", "{\"quantity\":0}", 422, "#/quantity" },
		{ "PUT", CART "1", "{\"quantity\":1000}", 422, "#/quantity" },
		{ "PUT", CART "1", "{\"quantity\":1.5}", 422, "#/quantity" },
		{ "PUT", CART "1", "{\"quantity\":null}", 422, "#/quantity" },
		{ "PATCH", CART "1", "{\"product_id\":2}", 422,
		    "#/product_id" },
	};
	struct t *t = *state;

	add_both(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, cases[i].method, cases[i].path,
		    cases[i].body, AS_USER(1));

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
	assert_int_equal(
	    sql_int(t, "SELECT quantity FROM cart_item WHERE id = 1"), 2);
	assert_int_equal(sql_int(t, "SELECT version FROM cart"), 2);
}

static void
test_cart__takes_only_what_product_sells(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = add(t, ASKED_1, PRODUCTS(""), "{\"product_id\":1}");

	assert_problem(&rep, 422, "#/product_id");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart_item"), 0);
}

static void
test_cart__adding_needs_product(void **state)
{
	static const struct {
		int status;
		const char *body;
	} answers[] = {
		{ 0, NULL },
		{ 500, "{}" },
		{ 200, NULL },
		{ 200, "{\"items\":1}" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct reply_seen rep;

		peer(t, ASKED_1, answers[i].status, answers[i].body);
		rep = call(t, "POST", CART, "{\"product_id\":1}", AS_USER(1));
		assert_problem(&rep, 503, NULL);
		assert_non_null(strstr(rep.fields, "Retry-After: "));
	}
}

static void
test_cart__has_one_currency(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	rep = add(t, "GET /products/?ids=3&limit=1",
	    PRODUCTS(PRODUCT(3, "Mug", 10, "USD", 1)), "{\"product_id\":3}");
	assert_problem(&rep, 409, NULL);
	assert_type(&rep, "urn:coster:problem:currency-mismatch");
	rep = call(t, "DELETE", CART, NULL, AS_USER(1));
	rep = add(t, "GET /products/?ids=3&limit=1",
	    PRODUCTS(PRODUCT(3, "Mug", 10, "USD", 1)), "{\"product_id\":3}");
	assert_status(&rep, 201);
}

static void
test_cart__holds_a_hundred_products(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	sql_int(t,
	    "WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 99) INSERT INTO cart_item (user_id, id, product_id,"
	    " quantity, name, price, currency, seen_at, added_at)"
	    " SELECT 1, i, i, 1, 'x', 1, 'EUR', 1800000000000, 0 FROM n");
	sql_int(t, "UPDATE cart SET last_item_id = 99");
	rep = add(t, "GET /products/?ids=100&limit=1",
	    PRODUCTS(PRODUCT(100, "Hat", 1, "EUR", 1)), "{\"product_id\":100}");
	assert_status(&rep, 201);
	rep = add(t, "GET /products/?ids=101&limit=1",
	    PRODUCTS(PRODUCT(101, "Cap", 1, "EUR", 1)), "{\"product_id\":101}");
	assert_problem(&rep, 409, NULL);
	assert_type(&rep, "urn:coster:problem:cart-full");
	rep = add(t, ASKED_1, PRODUCTS(TEA), "{\"product_id\":1}");
	assert_status(&rep, 200);
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 100);
}

static int
setup_with_10_days(void **state)
{
	setenv("COSTER_CART_KEEP_DAYS", "10", 1);
	return loopback_setup(state);
}

static int
teardown_with_10_days(void **state)
{
	unsetenv("COSTER_CART_KEEP_DAYS");
	return loopback_teardown(state);
}

static void
test_cart__that_nobody_looks_at_is_emptied(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	int64_t version;

	add_both(t);
	advance(t, 10 * CLOCK_DAY);
	assert_int_equal(run_job(t, "prune carts"), CLOCK_HOUR);
	peer(t, ASKED_BOTH, 200, PRODUCTS(TEA "," CUP));
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 2);
	version = sql_int(t, "SELECT version FROM cart");
	advance(t, 10 * CLOCK_DAY);
	assert_int_equal(run_job(t, "prune carts"), CLOCK_HOUR);
	sql_int(t,
	    "INSERT INTO checkout (id, user_id, state, lines, created_at,"
	    " updated_at) VALUES ('x', 1, 'invoice', '[]', 0, 0)");
	sql_int(t, "UPDATE cart SET checkout_id = 'x'");
	advance(t, 1);
	assert_int_equal(run_job(t, "prune carts"), CLOCK_HOUR); /* frozen */
	sql_int(t, "UPDATE cart SET checkout_id = NULL");
	assert_int_equal(run_job(t, "prune carts"), 0);
	assert_int_equal(run_job(t, "prune carts"), CLOCK_HOUR);
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 0);
	assert_int_equal(sql_int(t, "SELECT version FROM cart"), version + 1);
}

static void
test_cart__are_emptied_some_at_a_time(void **state)
{
	struct t *t = *state;

	sql_int(t,
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 150) INSERT INTO cart (user_id, version)"
	    " SELECT i, 1 FROM n");
	sql_int(t,
	    "INSERT INTO cart_item (user_id, id, product_id, quantity, name,"
	    " price, currency, seen_at, added_at)"
	    " SELECT user_id, 1, 1, 1, 'x', 1, 'EUR', 1, 1 FROM cart");
	assert_int_equal(run_job(t, "prune carts"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart_item"), 50);
	assert_int_equal(run_job(t, "prune carts"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart_item"), 0);
	assert_int_equal(run_job(t, "prune carts"), CLOCK_HOUR);
}

static void
test_cart__subtotal_stays_exact(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = add(t, ASKED_1,
	    PRODUCTS(PRODUCT(1, "Isle", 9007199254740991, "EUR", null)),
	    "{\"product_id\":1}");

	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "line_total"), INT_MAX_EXACT);
	rep = add(t, ASKED_2, PRODUCTS(PRODUCT(2, "Pin", 1, "EUR", null)),
	    "{\"product_id\":2}");
	assert_problem(&rep, 422, "#/quantity");
	rep = call(t, "PUT", CART "1", "{\"quantity\":2}", AS_USER(1));
	assert_problem(&rep, 422, "#/quantity");
	rep = call(t, "PUT", CART "1", "{\"quantity\":999}", AS_USER(1));
	assert_problem(&rep, 422, "#/quantity");
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "subtotal"), INT_MAX_EXACT);
}

static void
test_cart__that_became_too_dear_can_be_made_less(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	sql_int(t, "UPDATE cart_item SET price = 9007199254740991");
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_null(member(&rep, "subtotal"));
	assert_null(member(&rep, "items/0/line_total"));
	rep = call(t, "PUT", CART "1", "{\"quantity\":3}", AS_USER(1));
	assert_problem(&rep, 422, "#/quantity");
	rep = call(t, "PUT", CART "1", "{\"quantity\":1}", AS_USER(1));
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "line_total"), INT_MAX_EXACT);
}

static void
test_cart__quantity_changes(void **state)
{
	static const char *const methods[] = { "PUT", "PATCH" };
	struct t *t = *state;

	add_both(t);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		struct reply_seen rep = call(t, methods[i], CART "1",
		    i == 0 ? "{\"quantity\":999}" : "{\"quantity\":1}",
		    AS_USER(1));

		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "quantity"), i == 0 ? 999 : 1);
		assert_int_equal(
		    sql_int(t, "SELECT version FROM cart"), 3 + (int)i);
	}
	assert_int_equal(
	    sql_int(t, "SELECT version FROM cart_item WHERE id = 1"), 3);
	assert_int_equal(
	    sql_int(t, "SELECT quantity FROM cart_item WHERE id = 2"), 1);
}

static void
test_cart__ids_are_never_used_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	rep = call(t, "DELETE", CART "2", NULL, AS_USER(1));
	assert_status(&rep, 204);
	rep = call(t, "GET", CART "2", NULL, AS_USER(1));
	assert_problem(&rep, 404, NULL);
	rep = call(t, "DELETE", CART "2", NULL, AS_USER(1));
	assert_problem(&rep, 404, NULL);
	rep = add(t, ASKED_2, PRODUCTS(CUP), "{\"product_id\":2}");
	assert_int_equal(int_at(&rep, "id"), 3);
	rep = call(t, "DELETE", CART, NULL, AS_USER(1));
	assert_status(&rep, 204);
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 0);
	rep = add(t, ASKED_1, PRODUCTS(TEA), "{\"product_id\":1}");
	assert_int_equal(int_at(&rep, "id"), 4);
}

static void
test_cart__is_its_users_alone(void **state)
{
	static const struct {
		const char *method, *path, *body;
		struct as who;
		int status;
	} cases[] = {
		{ "GET", CART, NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		{ "POST", CART, "{}", { ROLE_CUSTOMER, 2, false }, 404 },
		{ "DELETE", CART, NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		{ "GET", CART "1", NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		{ "PUT", CART "1", "{}", { ROLE_CUSTOMER, 2, false }, 404 },
		{ "DELETE", CART "1", NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		/* Another's item by its number in one's own cart. */
		{ "GET", "/user/2/cart/1", NULL, { ROLE_CUSTOMER, 2, false },
		    404 },
		{ "PUT", "/user/2/cart/1", "{\"quantity\":7}",
		    { ROLE_CUSTOMER, 2, false }, 404 },
		{ "DELETE", "/user/2/cart/1", NULL, { ROLE_CUSTOMER, 2, false },
		    404 },
		{ "GET", CART, NULL, { ROLE_NOBODY, 0, false }, 401 },
		{ "POST", CART, "{}", { ROLE_NOBODY, 0, false }, 401 },
		{ "DELETE", CART, NULL, { ROLE_NOBODY, 0, false }, 401 },
		{ "POST", CART, "{}", { ROLE_SERVICE, 0, false }, 403 },
		{ "GET", CART "1", NULL, { ROLE_SERVICE, 0, false }, 403 },
	};
	struct t *t = *state;

	add_both(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, cases[i].method, cases[i].path,
		    cases[i].body, cases[i].who);

		assert_problem(&rep, cases[i].status, NULL);
	}
	assert_int_equal(
	    sql_int(t, "SELECT sum(quantity) FROM cart_item"), 3);
}

static void
test_cart__another_has_items_of_the_same_number(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	peer(t, ASKED_1, 200, PRODUCTS(TEA));
	rep = call(t, "POST", "/user/2/cart", "{\"product_id\":1}", AS_USER(2));
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 1);
	rep = call(
	    t, "PUT", "/user/2/cart/1", "{\"quantity\":7}", AS_USER(2));
	assert_status(&rep, 200);
	rep = call(t, "DELETE", "/user/2/cart/1", NULL, AS_USER(2));
	assert_status(&rep, 204);
	rep = call(t, "DELETE", "/user/2/cart", NULL, AS_USER(2));
	assert_status(&rep, 204);
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 2);
	assert_int_equal(int_at(&rep, "items/0/quantity"), 2);
	assert_int_equal(int_at(&rep, "version"), 2);
}

static void
test_cart__is_forgotten_with_its_user(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	sql_int(t,
	    "INSERT INTO checkout (id, user_id, state, lines, created_at,"
	    " updated_at) VALUES ('a', 1, 'done', '[]', 0, 0),"
	    " ('b', 2, 'done', '[]', 0, 0)");
	rep = call(t, "DELETE", CART, NULL, AS_SERVICE);
	assert_status(&rep, 204);
	rep = call(t, "DELETE", CART, NULL, AS_SERVICE);
	assert_status(&rep, 204);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart_item"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM cart"), 0);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM checkout WHERE user_id = 1"), 0);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM checkout WHERE user_id = 2"), 1);
}

static void
test_cart__conditional_requests(void **state)
{
	static const struct {
		const char *method, *path, *body;
		enum param param;
		const char *tag;
		int status;
	} cases[] = {
		{ "GET", CART, NULL, PARAM_IF_NONE_MATCH, "\"2\"", 304 },
		{ "GET", CART, NULL, PARAM_IF_NONE_MATCH, "\"1\"", 200 },
		{ "GET", CART "1", NULL, PARAM_IF_NONE_MATCH, "\"1\"", 304 },
		{ "PUT", CART "1", "{}", PARAM_IF_MATCH, "\"2\"", 412 },
		{ "DELETE", CART "1", NULL, PARAM_IF_MATCH, "\"2\"", 412 },
		{ "DELETE", CART, NULL, PARAM_IF_MATCH, "\"1\"", 412 },
		{ "PUT", CART "1", "{}", PARAM_IF_MATCH, "\"1\"", 200 },
		{ "GET", CART "1", NULL, PARAM_IF_NONE_MATCH, "\"1\"", 200 },
		{ "GET", CART, NULL, PARAM_IF_NONE_MATCH, "\"2\"", 200 },
		{ "DELETE", CART, NULL, PARAM_IF_MATCH, "\"3\"", 204 },
	};
	struct t *t = *state;

	add_both(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c = { cases[i].method, cases[i].path, cases[i].body,
			AS_USER(1), { NULL } };
		struct reply_seen rep;

		c.param[cases[i].param] = cases[i].tag;
		rep = call_with(t, &c);
		assert_status(&rep, cases[i].status);
	}
}

static void
test_cart__adding_with_one_key_adds_once(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", CART, "{\"product_id\":1}", AS_USER(1),
		{ [PARAM_IDEMPOTENCY_KEY] = "k1" } };
	struct reply_seen rep;

	peer(t, ASKED_1, 200, PRODUCTS(TEA));
	rep = call_with(t, &c);
	assert_status(&rep, 201);
	rep = call_with(t, &c);
	assert_status(&rep, 201);
	assert_non_null(strstr(rep.fields, "Idempotent-Replayed: true\r\n"));
	assert_int_equal(sql_int(t, "SELECT quantity FROM cart_item"), 1);
}

static void
test_cart__asks_product_anew_only_when_old(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	advance(t, 9999);
	rep = call(t, "GET", CART, NULL, AS_USER(1)); /* asks nobody */
	assert_status(&rep, 200);
	advance(t, 1);
	peer(t, ASKED_BOTH, 200,
	    PRODUCTS(PRODUCT(2, "Cup", 1300, "EUR", 4) "," TEA));
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/price"), 450);
	assert_int_equal(int_at(&rep, "items/1/price"), 1300);
	assert_int_equal(int_at(&rep, "items/1/available"), 4);
	assert_int_equal(int_at(&rep, "subtotal"), 2200);
	assert_int_equal(int_at(&rep, "version"), 3);
	rep = call(t, "GET", CART "2", NULL, AS_USER(1));
	assert_non_null(strstr(rep.fields, "ETag: \"2\"\r\n"));
	rep = call(t, "GET", CART "1", NULL, AS_USER(1));
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
}

static void
test_cart__asks_product_anew_when_the_clock_was_set_back(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	advance(t, -CLOCK_DAY);
	peer(t, ASKED_BOTH, 200,
	    PRODUCTS(PRODUCT(2, "Cup", 1300, "EUR", 4) "," TEA));
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "items/1/price"), 1300);
	rep = call(t, "GET", CART, NULL, AS_USER(1)); /* asks nobody */
	assert_status(&rep, 200);
}

static void
test_cart__what_product_says_again_is_no_new_version(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	advance(t, 10000);
	peer(t, ASKED_1, 200, PRODUCTS(TEA));
	rep = call(t, "GET", CART "1", NULL, AS_USER(1));
	assert_status(&rep, 200);
	peer(t, ASKED_BOTH, 200, PRODUCTS(TEA "," CUP));
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "version"), 2);
}

/* Whoever else looks sees that, and who adds for the customer keeps to it. */
static void
test_cart__price_is_what_its_customer_saw(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_both(t);
	advance(t, 10000);
	rep = call(t, "GET", CART, NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/price"), 450);
	assert_int_equal(int_at(&rep, "items/0/available"), 10);
	peer(t, ASKED_1, 200, PRODUCTS(PRODUCT(1, "Fine tea", 900, "EUR", 3)));
	rep = call(t, "POST", CART, "{\"product_id\":1}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "price"), 450);
	assert_int_equal(int_at(&rep, "available"), 3);
	peer(t, ASKED_BOTH, 200,
	    PRODUCTS(PRODUCT(1, "Fine tea", 900, "EUR", 3) "," CUP));
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "items/0/price"), 900);
	assert_int_equal(int_at(&rep, "items/0/quantity"), 3);
}

static void
test_cart__is_read_without_product(void **state)
{
	static const struct {
		int status;
		const char *body;
	} answers[] = { { 0, NULL }, { 500, NULL }, { 200, "[]" } };
	struct t *t = *state;

	add_both(t);
	advance(t, 60000);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct reply_seen rep;

		peer(t, ASKED_BOTH, answers[i].status, answers[i].body);
		rep = call(t, "GET", CART, NULL, AS_USER(1));
		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "subtotal"), 2100);
		assert_int_equal(int_at(&rep, "items/0/available"), 10);
	}
}

static void
test_cart__a_product_that_is_gone_keeps_its_item(void **state)
{
	/* Deleted; or sold in another currency, which is as good as gone. */
	static const char *const answers[] = {
		PRODUCTS(CUP),
		PRODUCTS(CUP "," PRODUCT(1, "Tea", 9, "USD", 10)),
	};
	struct t *t = *state;

	add_both(t);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct reply_seen rep;

		advance(t, 10000);
		peer(t, ASKED_BOTH, 200, answers[i]);
		rep = call(t, "GET", CART, NULL, AS_USER(1));
		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "items/0/available"), 0);
		assert_int_equal(int_at(&rep, "items/0/price"), 450);
		assert_string_equal(text_at(&rep, "items/0/name"), "Tea");
		assert_int_equal(int_at(&rep, "version"), 3);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cart__a_product_is_put_in),
		TEST(test_cart__is_empty_at_first),
		TEST(test_cart__lists_items_with_their_sum),
		TEST(test_cart__the_product_again_adds_to_its_item),
		TEST(test_cart__bad_bodies_are_refused),
		TEST(test_cart__takes_only_what_product_sells),
		TEST(test_cart__adding_needs_product),
		TEST(test_cart__has_one_currency),
		TEST(test_cart__holds_a_hundred_products),
		cmocka_unit_test_setup_teardown(
		    test_cart__that_nobody_looks_at_is_emptied,
		    setup_with_10_days, teardown_with_10_days),
		TEST(test_cart__are_emptied_some_at_a_time),
		TEST(test_cart__subtotal_stays_exact),
		TEST(test_cart__that_became_too_dear_can_be_made_less),
		TEST(test_cart__quantity_changes),
		TEST(test_cart__ids_are_never_used_again),
		TEST(test_cart__is_its_users_alone),
		TEST(test_cart__another_has_items_of_the_same_number),
		TEST(test_cart__is_forgotten_with_its_user),
		TEST(test_cart__conditional_requests),
		TEST(test_cart__adding_with_one_key_adds_once),
		TEST(test_cart__asks_product_anew_only_when_old),
		TEST(test_cart__asks_product_anew_when_the_clock_was_set_back),
		TEST(test_cart__what_product_says_again_is_no_new_version),
		TEST(test_cart__price_is_what_its_customer_saw),
		TEST(test_cart__is_read_without_product),
		TEST(test_cart__a_product_that_is_gone_keeps_its_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
