#include "tests/loopback.h"

#include "shared/clock.h"
#include "shared/jobs.h"
#include "shared/migrate.h"
#include "shared/service.h"
#include "tests/faults.h"

#define CART "/user/1/cart"
#define CHECKOUT CART "/checkout"
#define RESERVE "POST /product/reservations"
#define INVOICE "POST /invoices"
#define RELEASE "DELETE /product/reservations/5"

#define RESERVED "{\"id\":5,\"status\":\"held\"}"
#define INVOICE_7                                                              \
	"{\"id\":7,\"number\":1,\"status\":\"open\",\"lines\":[{\"amount\":"   \
	"900}],\"total\":2100,\"paid_at\":null,\"note\":\"a/b \\u00e9\"}"
#define KEY_REUSED                                                             \
	"{\"type\":\"urn:coster:problem:idempotency-key-reused\"}"
#define PROBLEM(type, more)                                                    \
	"{\"type\":\"urn:coster:problem:" type "\",\"status\":409" more "}"
#define PRICE_CHANGED                                                          \
	PROBLEM("price-changed",                                               \
	    ",\"lines\":[{\"product_id\":12,\"reason\":\"price-changed\","     \
	    "\"price\":1300,\"available\":null}]")
#define OUT_OF_STOCK                                                           \
	PROBLEM("out-of-stock",                                                \
	    ",\"lines\":[7,null,{\"product_id\":99},"                         \
	    "{\"product_id\":11,\"reason\":\"out-of-stock\","                  \
	    "\"price\":450,\"available\":1}]")

/* The cart of user 1: two of product 11, as item 1, and one of 12, as 2. */
static void
fill_cart(struct t *t)
{
	sql_int(t,
	    "INSERT INTO cart (user_id, version, last_item_id)"
	    " VALUES (1, 2, 2)");
	sql_int(t,
	    "INSERT INTO cart_item (user_id, id, product_id, quantity, name,"
	    " price, currency, available, seen_at, added_at) VALUES"
	    " (1, 1, 11, 2, 'Tea \"fine\"', 450, 'EUR', 10, 1800000000000, 0),"
	    " (1, 2, 12, 1, 'Cup', 1200, 'EUR', NULL, 1800000000000, 0)");
}

static struct reply_seen
check_out(struct t *t)
{
	return call(t, "POST", CHECKOUT, NULL, AS_USER(1));
}

static int64_t
in_state(struct t *t, const char *state)
{
	char sql[100];

	snprintf(sql, sizeof(sql),
	    "SELECT count(*) FROM checkout WHERE state = '%s'", state);
	return sql_int(t, sql);
}

static bool
is_frozen(struct t *t)
{
	return sql_int(t,
		   "SELECT count(*) FROM cart WHERE checkout_id IS NOT NULL")
	    == 1;
}

static int64_t
items(struct t *t)
{
	return sql_int(t, "SELECT count(*) FROM cart_item WHERE user_id = 1");
}

static void
assert_type(const struct reply_seen *rep, int status, const char *type)
{
	assert_problem(rep, status, NULL);
	assert_string_equal(text_at(rep, "type"), type);
}

static void
assert_is_invoice(const struct reply_seen *rep)
{
	assert_status(rep, 201);
	assert_non_null(strstr(rep->fields, "Location: /invoices/7\r\n"));
	assert_int_equal(int_at(rep, "id"), 7);
	assert_int_equal(int_at(rep, "total"), 2100);
	assert_int_equal(int_at(rep, "lines/0/amount"), 900);
	assert_string_equal(text_at(rep, "note"), "a/b \xc3\xa9");
}

/* The cart is as before, and nobody is charged. */
static void
assert_undone(struct t *t)
{
	assert_int_equal(in_state(t, "undone"), 1);
	assert_false(is_frozen(t));
	assert_int_equal(items(t), 2);
}

/* payment cannot be reached: the first try ends before the invoice. */
static void
get_stuck(struct t *t)
{
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 0, NULL);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: "));
	assert_int_equal(in_state(t, "invoice"), 1);
	assert_true(is_frozen(t));
}

static void
test_checkout__makes_an_invoice_of_the_cart(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_string_equal(peer_got(t),
	    "{\"user_id\":1,\"currency\":\"EUR\",\"lines\":["
	    "{\"product_id\":11,\"description\":\"Tea \\\"fine\\\"\","
	    "\"quantity\":2,\"price\":450},"
	    "{\"product_id\":12,\"description\":\"Cup\","
	    "\"quantity\":1,\"price\":1200}],\"reservation_id\":5}");
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "count"), 0);
	assert_int_equal(int_at(&rep, "version"), 3);
	assert_false(is_frozen(t));
	assert_int_equal(in_state(t, "done"), 1);
}

static void
test_checkout__reserves_at_the_price_that_was_seen(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 0, NULL);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	assert_string_equal(peer_got(t),
	    "{\"lines\":["
	    "{\"product_id\":11,\"quantity\":2,\"price\":450,"
	    "\"currency\":\"EUR\"},"
	    "{\"product_id\":12,\"quantity\":1,\"price\":1200,"
	    "\"currency\":\"EUR\"}],\"expires_in\":3600}");
}

static void
test_checkout__bodies_and_callers(void **state)
{
	static const struct {
		const char *path, *body;
		struct as who;
		int status;
		const char *pointer;
	} cases[] = {
		{ CHECKOUT, "{\"total\":1}", { ROLE_CUSTOMER, 1, false }, 422,
		    "#/total" },
		{ CHECKOUT, "[]", { ROLE_CUSTOMER, 1, false }, 422, "#" },
		{ CHECKOUT, "{", { ROLE_CUSTOMER, 1, false }, 400, NULL },
		{ CHECKOUT, "{}", { ROLE_CUSTOMER, 2, false }, 404, NULL },
		{ CHECKOUT, "{}", { ROLE_NOBODY, 0, false }, 401, NULL },
		{ CHECKOUT, "{}", { ROLE_SERVICE, 0, false }, 403, NULL },
		{ "/user/2/cart/checkout", "{}", { ROLE_CUSTOMER, 2, false },
		    409, NULL }, /* nothing in it */
	};
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = call(t, "POST", cases[i].path, cases[i].body,
		    cases[i].who);
		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM checkout"), 0);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = call(t, "POST", CHECKOUT, "{}", AS_ADMIN);
	assert_is_invoice(&rep);
}

static void
test_checkout__of_an_empty_cart_is_refused(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = check_out(t);

	assert_type(&rep, 409, "urn:coster:problem:cart-empty");
	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	rep = check_out(t); /* has been answered */
	assert_type(&rep, 409, "urn:coster:problem:cart-empty");
}

static void
test_checkout__of_a_cart_that_changed_is_refused(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	rep = call_with(t,
	    &(struct call) { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_IF_MATCH] = "\"1\"" } });
	assert_problem(&rep, 412, NULL);
	assert_false(is_frozen(t));
}

static void
test_checkout__with_one_key_is_done_once(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_IDEMPOTENCY_KEY] = "k1" } };
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 0, NULL);
	rep = call_with(t, &c);
	assert_problem(&rep, 503, NULL);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = call_with(t, &c);
	assert_is_invoice(&rep);
	rep = call_with(t, &c);
	assert_is_invoice(&rep);
	assert_non_null(strstr(rep.fields, "Idempotent-Replayed: true\r\n"));
}

static void
test_checkout__products_refusal_is_passed_on(void **state)
{
	static const struct {
		const char *answer, *type;
		int item;
	} cases[] = {
		{ PRICE_CHANGED, "urn:coster:problem:price-changed", 2 },
		{ OUT_OF_STOCK, "urn:coster:problem:out-of-stock", 1 },
	};
	struct t *t = *state;

	fill_cart(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		peer(t, RESERVE, 409, cases[i].answer);
		rep = check_out(t);
		assert_type(&rep, 409, cases[i].type);
		assert_int_equal(
		    int_at(&rep, "lines/0/item_id"), cases[i].item);
		assert_int_equal(
		    int_at(&rep, "lines/0/product_id"), 10 + cases[i].item);
		assert_int_equal(int_at(&rep, "lines/0/price"),
		    cases[i].item == 2 ? 1300 : 450);
		assert_int_equal(int_at(&rep, "lines/0/available"),
		    cases[i].item == 2 ? INT_NONE : 1);
		assert_false(is_frozen(t));
		assert_int_equal(items(t), 2);
	}
	assert_int_equal(in_state(t, "undone"), 2);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_checkout__the_new_price_is_shown_next(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 409, PRICE_CHANGED);
	rep = check_out(t);
	assert_problem(&rep, 409, NULL);
	peer(t, "GET /products/?ids=11,12&limit=2", 200,
	    "{\"items\":[{\"id\":11,\"name\":\"Tea\",\"price\":450,"
	    "\"currency\":\"EUR\",\"available\":9},{\"id\":12,\"name\":\"Cup\","
	    "\"price\":1300,\"currency\":\"EUR\",\"available\":null}]}");
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_int_equal(int_at(&rep, "items/1/price"), 1300);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_non_null(strstr(peer_got(t), "\"price\":1300"));
}

/* What may be otherwise a moment later. */
static const int passing[] = { 0, 401, 403, 408, 409, 425, 429, 500 };

static void
test_checkout__reserving_goes_on_with_the_same_key(void **state)
{
	struct t *t = *state;
	const char *key = NULL;
	struct reply_seen rep;

	fill_cart(t);
	for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
		peer(t, RESERVE, passing[i], "{}");
		rep = check_out(t);
		assert_problem(&rep, 503, NULL);
		assert_int_equal(in_state(t, "reserve"), 1);
		if (key != NULL)
			assert_string_equal(peer_key(t), key);
		key = peer_key(t);
	}
	assert_non_null(strstr(key, "-reserve"));
	assert_int_equal(
	    strlen(key) - strlen("-reserve"), 24); /* 18 random bytes */
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	assert_int_equal(in_state(t, "done"), 1);
}

static void
test_checkout__reserving_is_given_up_in_the_end(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 0, NULL);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	advance(t, 10 * CLOCK_MINUTE);
	peer(t, RESERVE, 0, NULL);
	assert_int_not_equal(run_job(t, "resume checkouts"), 0);
	advance(t, 1 + CLOCK_MINUTE);
	peer(t, INVOICE, 422, "{\"type\":\"about:blank\"}"); /* there is none */
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	assert_undone(t);
}

/* Who had it died with the invoice made and nothing recorded. */
static void
test_checkout__is_done_when_late_in_its_first_step(void **state)
{
	struct t *t = *state;
	const char *key;
	struct reply_seen rep;

	get_stuck(t);
	key = peer_key(t);
	sql_int(t, "UPDATE checkout SET state = 'reserve', reservation_id = NULL");
	advance(t, 11 * CLOCK_MINUTE + 1);
	peer(t, INVOICE, 422, KEY_REUSED);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 422, KEY_REUSED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_string_equal(peer_key(t), key);
}

/* An update, or a new COSTER_KEY, came between: the invoice is there and may be paid,
 * so nothing is given back. */
static void
test_checkout__is_not_undone_when_its_invoice_is_there(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	advance(t, CLOCK_MINUTE);
	peer(t, INVOICE, 422, KEY_REUSED);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	assert_int_equal(in_state(t, "invoice"), 1);
	assert_true(is_frozen(t));
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
}

/* What is damaged on disk is no order. */
static void
test_checkout__of_no_lines_goes_nowhere(void **state)
{
	struct t *t = *state;

	get_stuck(t);
	sql_int(t, "UPDATE checkout SET lines = '[]'");
	advance(t, CLOCK_MINUTE);
	assert_int_not_equal(run_job(t, "resume checkouts"), 0);
	assert_int_equal(in_state(t, "invoice"), 1);
}

/* It would be so for days, with the cart frozen. */
static void
test_checkout__is_given_up_when_its_key_is_anothers(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	advance(t, 11 * CLOCK_MINUTE + 1);
	peer(t, INVOICE, 422, KEY_REUSED); /* is there one? */
	peer(t, INVOICE, 422, KEY_REUSED);
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:checkout-expired");
	assert_undone(t);
	peer(t, RELEASE, 204, NULL);
	assert_int_equal(run_job(t, "outbox"), JOB_GATHER_MS);
}

static void
test_checkout__product_refusing_ends_it(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 422, "{}");
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:checkout-refused");
	assert_undone(t);
}

static void
test_checkout__payment_refusing_releases_the_goods(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 422, "{\"type\":\"about:blank\",\"status\":422}");
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:checkout-refused");
	assert_undone(t);
	peer(t, RELEASE, 204, NULL);
	assert_int_equal(run_job(t, "outbox"), JOB_GATHER_MS);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_checkout__job_ends_what_the_client_left(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	peer(t, INVOICE, 201, INVOICE_7);
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	assert_int_equal(in_state(t, "done"), 1);
	assert_false(is_frozen(t));
	assert_int_equal(items(t), 0);
	run_job(t, "resume checkouts"); /* calls nobody */
	rep = check_out(t); /* the client has it yet to see, once */
	assert_is_invoice(&rep);
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:cart-empty");
}

static void
test_checkout__client_ends_what_it_left(void **state)
{
	struct t *t = *state;
	const char *key;
	struct reply_seen rep;

	get_stuck(t);
	key = peer_key(t);
	assert_non_null(strstr(key, "-invoice"));
	for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
		peer(t, INVOICE, passing[i], "{}");
		rep = check_out(t);
		assert_problem(&rep, 503, NULL);
		assert_string_equal(peer_key(t), key);
	}
	peer(t, INVOICE, 201, "{\"number\":1}"); /* no id: no invoice */
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_string_equal(peer_key(t), key);
	assert_int_equal(in_state(t, "done"), 1);
}

static void
test_checkout__a_new_cart_gets_an_invoice_of_its_own(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	peer(t, INVOICE, 201, INVOICE_7);
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	advance(t, 1);
	sql_int(t,
	    "INSERT INTO cart_item (user_id, id, product_id, quantity, name,"
	    " price, currency, seen_at, added_at)"
	    " VALUES (1, 3, 13, 1, 'Hat', 1, 'EUR', 0, 0)");
	peer(t, RESERVE, 201, "{\"id\":6}");
	peer(t, INVOICE, 201, "{\"id\":8}");
	rep = check_out(t);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 8);
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:cart-empty");
}

/* Where a process can die, and what the client or the job finds: the cart is
 * frozen, and the lease of who died has run out. */
static void
test_checkout__is_carried_on_after_a_crash(void **state)
{
	static const char *const crashes[] = {
		/* Before reserving, or before its answer came. */
		"UPDATE checkout SET state = 'reserve', reservation_id = NULL,"
		" leased_until = 1800000000000",
		/* Before the invoice, or before its answer was recorded. */
		"UPDATE checkout SET state = 'invoice',"
		" leased_until = 1800000000000",
	};
	struct t *t = *state;
	struct reply_seen rep;

	for (int i = 0; i < 4; i++) {
		bool reserved = i & 1, by_job = i & 2;

		get_stuck(t);
		sql_int(t, crashes[reserved]);
		if (!reserved)
			peer(t, RESERVE, 201, RESERVED);
		peer(t, INVOICE, 201, INVOICE_7);
		if (by_job)
			assert_int_equal(run_job(t, "resume checkouts"), 0);
		rep = check_out(t);
		assert_is_invoice(&rep);
		assert_int_equal(items(t), 0);
		assert_int_equal(in_state(t, "done"), 1);
		sql_int(t, "DELETE FROM cart");
		sql_int(t, "DELETE FROM checkout");
	}
}

static void
test_checkout__is_one_takers_at_a_time(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	sql_int(t,
	    "UPDATE checkout SET leased_until = 1800000000001, holder = 'r1'");
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:checkout-in-progress");
	assert_non_null(strstr(rep.fields, "Retry-After: "));
	rep = call_with(t,
	    &(struct call) { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_REQUEST_ID] = "r2" } });
	assert_type(&rep, 409, "urn:coster:problem:checkout-in-progress");
	assert_int_not_equal(run_job(t, "resume checkouts"), 0);
	/* nginx repeats the request whose instance died. */
	peer(t, INVOICE, 201, INVOICE_7);
	rep = call_with(t,
	    &(struct call) { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_REQUEST_ID] = "r1" } });
	assert_is_invoice(&rep);
}

/* nginx repeats a request whose instance died with the reply: that is no checkout of
 * what came into the cart since. */
static void
test_checkout__that_is_done_is_answered_again(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_REQUEST_ID] = "r1" } };
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = call_with(t, &c);
	assert_is_invoice(&rep);
	rep = call_with(t, &c);
	assert_is_invoice(&rep);
	sql_int(t, "DELETE FROM cart");
	fill_cart(t);
	rep = call_with(t, &c);
	assert_is_invoice(&rep);
	assert_int_equal(items(t), 2);
	assert_int_equal(in_state(t, "done"), 1);
	c.param[PARAM_REQUEST_ID] = "r2";
	peer(t, RESERVE, 201, "{\"id\":6}");
	peer(t, INVOICE, 201, "{\"id\":8}");
	rep = call_with(t, &c);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 8);
	assert_int_equal(items(t), 0);
}

static void
test_checkout__that_the_job_ended_is_answered_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	sql_int(t, "UPDATE checkout SET holder = 'r1'");
	peer(t, INVOICE, 201, INVOICE_7);
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	sql_int(t, "DELETE FROM cart");
	fill_cart(t);
	rep = call_with(t,
	    &(struct call) { "POST", CHECKOUT, NULL, AS_USER(1),
		{ [PARAM_REQUEST_ID] = "r1" } });
	assert_is_invoice(&rep);
	assert_int_equal(items(t), 2);
	assert_int_equal(in_state(t, "done"), 1);
}

/* Given by a clock that was ahead. */
static void
test_checkout__a_lease_ends_when_the_clock_is_set_back(void **state)
{
	struct t *t = *state;

	get_stuck(t);
	sql_int(t, "UPDATE checkout SET leased_until = 1800000020001");
	peer(t, INVOICE, 201, INVOICE_7);
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	assert_int_equal(in_state(t, "done"), 1);
}

static void
test_checkout__who_lost_it_records_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	/* Another takes it up during the call: the trigger is that other. */
	fill_cart(t);
	sql_int(t,
	    "CREATE TRIGGER other AFTER INSERT ON checkout BEGIN"
	    " UPDATE checkout SET attempts = attempts + 1; END");
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	assert_int_equal(in_state(t, "reserve"), 1);
	assert_int_equal(sql_int(t, "SELECT reservation_id FROM checkout"),
	    INT_NONE);
	assert_true(is_frozen(t));
}

/* It is gone, with its user or by a restore, and its number is another's. */
static void
test_checkout__that_is_gone_records_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	sql_int(t,
	    "CREATE TRIGGER other AFTER INSERT ON checkout"
	    " WHEN NEW.user_id = 1 BEGIN"
	    " DELETE FROM checkout WHERE nr = NEW.nr;"
	    " INSERT INTO checkout (nr, id, user_id, state, lines, created_at,"
	    "  updated_at) VALUES (NEW.nr, 'x', 2, 'reserve', '[]', 0, 0); END");
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_problem(&rep, 503, NULL);
	assert_int_equal(sql_int(t,
			     "SELECT count(*) FROM checkout WHERE user_id = 2"
			     " AND state = 'reserve' AND invoice_id IS NULL"),
	    1);
}

static void
test_checkout__freezes_the_cart(void **state)
{
	static const struct {
		const char *method, *path, *body;
		struct as who;
	} changes[] = {
		{ "PUT", CART "/1", "{\"quantity\":9}",
		    { ROLE_CUSTOMER, 1, false } },
		{ "PATCH", CART "/1", "{}", { ROLE_ADMIN, 9, false } },
		{ "DELETE", CART "/1", NULL, { ROLE_CUSTOMER, 1, false } },
		{ "DELETE", CART, NULL, { ROLE_CUSTOMER, 1, false } },
		{ "DELETE", CART, NULL, { ROLE_SERVICE, 0, false } },
		{ "POST", CART, "{\"product_id\":11}",
		    { ROLE_CUSTOMER, 1, false } },
	};
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	peer(t, "GET /products/?ids=11&limit=1", 200,
	    "{\"items\":[{\"id\":11,\"name\":\"Tea\",\"price\":450,"
	    "\"currency\":\"EUR\",\"available\":9}]}");
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		rep = call(t, changes[i].method, changes[i].path,
		    changes[i].body, changes[i].who);
		assert_type(
		    &rep, 409, "urn:coster:problem:checkout-in-progress");
	}
	assert_int_equal(sql_int(t, "SELECT sum(quantity) FROM cart_item"), 3);
	rep = call(t, "GET", CART, NULL, AS_USER(1));
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "subtotal"), 2100);
	assert_int_equal(int_at(&rep, "version"), 2);
}

/* That it is done comes out again after a power cut, by its keys. That it is
 * undone might not: product may have more by then. */
static void
test_checkout__waits_for_the_disk_where_it_must(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	long syncs;

	fill_cart(t);
	peer(t, RESERVE, 409, PRICE_CHANGED); /* the log's header is synced */
	rep = check_out(t);
	syncs = fault_syncs;
	peer(t, RESERVE, 409, PRICE_CHANGED);
	rep = check_out(t);
	assert_status(&rep, 409);
	assert_int_equal(fault_syncs - syncs, 2); /* frozen, undone */
	syncs = fault_syncs;
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_int_equal(fault_syncs - syncs, 1); /* frozen */
}

/* No invoice for a cart that may not be frozen any more after a power cut. */
static void
test_checkout__calls_payment_when_the_cart_is_frozen_on_disk(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 201, RESERVED);
	fault_sync = true;
	rep = check_out(t);
	fault_sync = false;
	assert_problem(&rep, 503, NULL);
	assert_int_equal(in_state(t, "reserve"), 1);
	assert_true(is_frozen(t));
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
}

/* payment comes back after ten minutes: is there an invoice? */
static void
test_checkout__is_undone_when_late_without_invoice(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	advance(t, 10 * CLOCK_MINUTE + 1);
	rep = check_out(t); /* asks nobody: a call may be on its way */
	assert_problem(&rep, 503, NULL);
	advance(t, CLOCK_MINUTE);
	for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
		peer(t, INVOICE, passing[i], "{}");
		assert_int_not_equal(run_job(t, "resume checkouts"), 0);
		assert_string_equal(peer_got(t), "{}");
		assert_int_equal(in_state(t, "invoice"), 1);
	}
	peer(t, INVOICE, 422, "{\"type\":\"about:blank\"}");
	assert_int_equal(run_job(t, "resume checkouts"), 0);
	assert_undone(t);
	peer(t, RELEASE, 204, NULL);
	assert_int_equal(run_job(t, "outbox"), JOB_GATHER_MS);
}

static void
test_checkout__is_done_when_late_with_invoice(void **state)
{
	struct t *t = *state;
	const char *key;
	struct reply_seen rep;

	get_stuck(t);
	key = peer_key(t);
	advance(t, 11 * CLOCK_MINUTE + 1);
	peer(t, INVOICE, 422, KEY_REUSED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	assert_string_equal(peer_key(t), key);
}

static void
test_checkout__client_hears_that_it_was_too_late(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	advance(t, 11 * CLOCK_MINUTE + 1);
	peer(t, INVOICE, 422, "{}");
	rep = check_out(t);
	assert_type(&rep, 409, "urn:coster:problem:checkout-expired");
	assert_undone(t);
	peer(t, RESERVE, 201, RESERVED); /* the next try is a new one */
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
}

static void
test_checkout__job_takes_the_one_that_waits_longest(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	get_stuck(t);
	advance(t, 1);
	sql_int(t, "INSERT INTO cart (user_id, version) VALUES (2, 1)");
	sql_int(t,
	    "INSERT INTO cart_item SELECT 2, id, product_id, quantity, name,"
	    " price, currency, available, seen_at, added_at, version"
	    " FROM cart_item");
	peer(t, RESERVE, 0, NULL);
	rep = call(t, "POST", "/user/2/cart/checkout", NULL, AS_USER(2));
	assert_problem(&rep, 503, NULL);
	advance(t, 1);
	peer(t, INVOICE, 0, NULL);
	assert_int_not_equal(run_job(t, "resume checkouts"), 0);
	peer(t, RESERVE, 0, NULL);
	assert_int_not_equal(run_job(t, "resume checkouts"), 0);
}

static void
test_checkout__is_kept_for_a_day(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_cart(t);
	peer(t, RESERVE, 409, PRICE_CHANGED);
	rep = check_out(t);
	peer(t, RESERVE, 201, RESERVED);
	peer(t, INVOICE, 201, INVOICE_7);
	rep = check_out(t);
	assert_is_invoice(&rep);
	sql_int(t,
	    "INSERT INTO checkout (id, user_id, state, lines, created_at,"
	    " updated_at) VALUES ('x', 3, 'invoice', '[]', 0, 0)");
	advance(t, CLOCK_DAY);
	run_job(t, "prune checkouts");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM checkout"), 3);
	advance(t, 1);
	run_job(t, "prune checkouts");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM checkout"), 1);
	assert_int_equal(in_state(t, "invoice"), 1);
}

static void
test_checkout__steps_3_and_4_keep_what_there_is(void **state)
{
	static const char *const kept[] = {
		"SELECT id, user_id, state, lines, reservation_id, invoice_id,"
		" invoice, problem, attempts, holder, leased_until,"
		" answered_at, created_at, updated_at"
		" FROM checkout ORDER BY created_at",
		"SELECT * FROM cart ORDER BY user_id",
		"SELECT * FROM cart_item ORDER BY user_id, id",
		NULL,
	};
	struct t *t = *state;
	struct db db;

	assert_kept(t, 3,
	    "INSERT INTO checkout VALUES"
	    " ('b', 1, 'done', '[1]', 5, 7, '{}', NULL, 2, 'r', 3, 4, 10, 11),"
	    " ('a', 2, 'invoice', '[2]', 6, NULL, NULL, NULL, 1, NULL, 9,"
	    "  NULL, 12, 13);"
	    "INSERT INTO cart VALUES (1, 8, 3, NULL), (2, 5, 1, 'a');"
	    "INSERT INTO cart_item VALUES"
	    " (1, 3, 11, 2, 'Tea', 450, 'EUR', 10, 20, 19, 4),"
	    " (2, 1, 12, 1, 'Cup', 1200, 'EUR', NULL, 22, 21, 1)",
	    kept, &db);
	/* Still with a cart of its own. */
	assert_refused(&db, SQLITE_CONSTRAINT_FOREIGNKEY,
	    "UPDATE cart_item SET user_id = 3");
	assert_refused(&db, SQLITE_CONSTRAINT_CHECK,
	    "UPDATE checkout SET state = 'open'");
	db_close(&db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_checkout__makes_an_invoice_of_the_cart),
		TEST(test_checkout__reserves_at_the_price_that_was_seen),
		TEST(test_checkout__bodies_and_callers),
		TEST(test_checkout__of_an_empty_cart_is_refused),
		TEST(test_checkout__of_a_cart_that_changed_is_refused),
		TEST(test_checkout__with_one_key_is_done_once),
		TEST(test_checkout__products_refusal_is_passed_on),
		TEST(test_checkout__the_new_price_is_shown_next),
		TEST(test_checkout__reserving_goes_on_with_the_same_key),
		TEST(test_checkout__reserving_is_given_up_in_the_end),
		TEST(test_checkout__is_done_when_late_in_its_first_step),
		TEST(test_checkout__is_not_undone_when_its_invoice_is_there),
		TEST(test_checkout__of_no_lines_goes_nowhere),
		TEST(test_checkout__is_given_up_when_its_key_is_anothers),
		TEST(test_checkout__product_refusing_ends_it),
		TEST(test_checkout__payment_refusing_releases_the_goods),
		TEST(test_checkout__job_ends_what_the_client_left),
		TEST(test_checkout__client_ends_what_it_left),
		TEST(test_checkout__a_new_cart_gets_an_invoice_of_its_own),
		TEST(test_checkout__is_carried_on_after_a_crash),
		TEST(test_checkout__is_one_takers_at_a_time),
		TEST(test_checkout__that_is_done_is_answered_again),
		TEST(test_checkout__that_the_job_ended_is_answered_again),
		TEST(test_checkout__a_lease_ends_when_the_clock_is_set_back),
		TEST(test_checkout__who_lost_it_records_nothing),
		TEST(test_checkout__that_is_gone_records_nothing),
		TEST(test_checkout__freezes_the_cart),
		TEST(test_checkout__is_undone_when_late_without_invoice),
		TEST(test_checkout__is_done_when_late_with_invoice),
		TEST(test_checkout__client_hears_that_it_was_too_late),
		TEST(test_checkout__job_takes_the_one_that_waits_longest),
		TEST(test_checkout__waits_for_the_disk_where_it_must),
		TEST(
		    test_checkout__calls_payment_when_the_cart_is_frozen_on_disk),
		TEST(test_checkout__is_kept_for_a_day),
		TEST(test_checkout__steps_3_and_4_keep_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
