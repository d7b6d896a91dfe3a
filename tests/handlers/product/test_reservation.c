#include "tests/loopback.h"

#include "shared/clock.h"

#define RESERVATIONS "/product/reservations"
#define HOLD (15 * CLOCK_MINUTE)
#define EXPIRE_EVERY (5 * CLOCK_SECOND)
#define GRACE (6 * CLOCK_MINUTE) /* longer than an outbox pauses */

/* What must be true after whatever happened. */
static void
check_stock(struct t *t)
{
	assert_int_equal(
	    sql_int(t,
		"SELECT count(*) FROM product p WHERE stock < 0 OR reserved <>"
		" (SELECT coalesce(sum(quantity), 0) FROM reservation_line l"
		"  JOIN reservation v ON v.id = l.reservation_id"
		"  WHERE v.status = 'held' AND l.product_id = p.id)"),
	    0);
}

/* Products 1 to 4: ten, two, not counted, and a deleted one. */
static int
setup(void **state)
{
	static const char *const products[] = {
		"{\"sku\":\"1\",\"name\":\"Tea\",\"price\":450,"
		"\"currency\":\"EUR\",\"stock\":10}",
		"{\"sku\":\"2\",\"name\":\"Cup\",\"price\":900,"
		"\"currency\":\"EUR\",\"stock\":2}",
		"{\"sku\":\"3\",\"name\":\"Recipe\",\"price\":0,"
		"\"currency\":\"EUR\",\"stock\":null}",
		"{\"sku\":\"4\",\"name\":\"Old\",\"price\":1,"
		"\"currency\":\"EUR\",\"stock\":5}",
	};
	struct reply_seen rep;

	if (loopback_setup(state))
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(products); i++) {
		rep = call(*state, "POST", "/product", products[i], AS_ADMIN);
		assert_status(&rep, 201);
	}
	rep = call(*state, "DELETE", "/product/4", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	return 0;
}

static int
teardown(void **state)
{
	check_stock(*state);
	return loopback_teardown(state);
}

static struct reply_seen
reserve(struct t *t, const char *lines)
{
	char body[500];
	struct reply_seen rep;

	snprintf(body, sizeof(body), "{\"lines\":[%s]}", lines);
	rep = call(t, "POST", RESERVATIONS, body, AS_SERVICE);
	check_stock(t);
	return rep;
}

static void
reserve_ok(struct t *t, const char *lines)
{
	struct reply_seen rep = reserve(t, lines);

	assert_status(&rep, 201);
}

/* On reservation 1: "POST", "/commit" and so on. */
static struct reply_seen
change(struct t *t, const char *method, const char *what, const char *body)
{
	char path[100];
	struct reply_seen rep;

	snprintf(path, sizeof(path), RESERVATIONS "/1%s", what);
	rep = call(t, method, path, body, AS_SERVICE);
	check_stock(t);
	return rep;
}

static int64_t
stock_of(struct t *t, int product)
{
	char sql[80];

	snprintf(sql, sizeof(sql), "SELECT stock FROM product WHERE id = %d",
	    product);
	return sql_int(t, sql);
}

static int64_t
available_of(struct t *t, int product)
{
	char path[40];
	struct reply_seen rep;

	snprintf(path, sizeof(path), "/product/%d", product);
	rep = call(t, "GET", path, NULL, AS_ADMIN);
	assert_status(&rep, 200);
	return int_at(&rep, "available");
}

static void
set_stock(struct t *t, const char *stock)
{
	char body[60];
	struct reply_seen rep;

	snprintf(body, sizeof(body), "{\"stock\":%s}", stock);
	rep = call(t, "PATCH", "/product/1", body, AS_ADMIN);
	assert_status(&rep, 200);
}

static void
test_reservation__holds_all_lines(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = reserve(t,
	    "{\"product_id\":2,\"quantity\":2},{\"product_id\":1,\"quantity\":3},"
	    "{\"product_id\":3,\"quantity\":1000}");

	assert_status(&rep, 201);
	assert_non_null(
	    strstr(rep.fields, "Location: /product/reservations/1\r\n"));
	assert_string_equal(rep.body,
	    "{\"id\":1,\"status\":\"held\","
	    "\"expires_at\":\"2027-01-15T08:15:00.000Z\","
	    "\"created_at\":\"2027-01-15T08:00:00.000Z\",\"shortfall\":0,"
	    "\"lines\":[{\"product_id\":1,\"quantity\":3},"
	    "{\"product_id\":2,\"quantity\":2},"
	    "{\"product_id\":3,\"quantity\":1000}]}");
	assert_int_equal(available_of(t, 1), 7);
	assert_int_equal(available_of(t, 2), 0);
	assert_int_equal(available_of(t, 3), INT_NONE);
	assert_int_equal(stock_of(t, 1), 10);
	rep = change(t, "GET", "", NULL);
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "status"), "held");
}

static void
test_reservation__of_one_product_twice_is_the_sum(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = reserve(t,
	    "{\"product_id\":1,\"quantity\":4},{\"product_id\":1,\"quantity\":6}");

	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "lines/0/quantity"), 10);
	assert_null(member(&rep, "lines/1"));
	assert_int_equal(available_of(t, 1), 0);
}

static void
test_reservation__refuses_all_when_one_line_fails(void **state)
{
	static const struct {
		const char *lines, *type;
		int64_t product_id;
		const char *reason;
		int64_t price, available;
	} cases[] = {
		{ "{\"product_id\":2,\"quantity\":3}", "out-of-stock", 2,
		    "out-of-stock", 900, 2 },
		{ "{\"product_id\":1,\"quantity\":5},"
		  "{\"product_id\":1,\"quantity\":6}",
		    "out-of-stock", 1, "out-of-stock", 450, 10 },
		{ "{\"product_id\":1,\"quantity\":1},"
		  "{\"product_id\":4,\"quantity\":1}",
		    "out-of-stock", 4, "out-of-stock", INT_NONE, 0 },
		{ "{\"product_id\":1,\"quantity\":1},"
		  "{\"product_id\":99,\"quantity\":1}",
		    "out-of-stock", 99, "out-of-stock", INT_NONE, 0 },
		{ "{\"product_id\":1,\"quantity\":1,\"price\":449,"
		  "\"currency\":\"EUR\"}",
		    "price-changed", 1, "price-changed", 450, 10 },
		{ "{\"product_id\":1,\"quantity\":1,\"price\":449}",
		    "price-changed", 1, "price-changed", 450, 10 },
		{ "{\"product_id\":1,\"quantity\":1,\"price\":0}",
		    "price-changed", 1, "price-changed", 450, 10 },
		{ "{\"product_id\":1,\"quantity\":1,\"price\":9999,"
		  "\"currency\":\"USD\"}",
		    "price-changed", 1, "price-changed", 450, 10 },
		{ "{\"product_id\":3,\"quantity\":1,\"currency\":\"USD\"}",
		    "price-changed", 3, "price-changed", 0, INT_NONE },
		/* Of both, the price is told first. */
		{ "{\"product_id\":2,\"quantity\":3},"
		  "{\"product_id\":1,\"quantity\":1,\"price\":1}",
		    "price-changed", 2, "out-of-stock", 900, 2 },
		{ "{\"product_id\":1,\"quantity\":1,\"price\":1},"
		  "{\"product_id\":2,\"quantity\":3}",
		    "price-changed", 1, "price-changed", 450, 10 },
	};
	struct t *t = *state;
	char type[80];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = reserve(t, cases[i].lines);

		assert_problem(&rep, 409, NULL);
		snprintf(type, sizeof(type), "urn:coster:problem:%s",
		    cases[i].type);
		assert_string_equal(text_at(&rep, "type"), type);
		assert_int_equal(
		    int_at(&rep, "lines/0/product_id"), cases[i].product_id);
		assert_string_equal(
		    text_at(&rep, "lines/0/reason"), cases[i].reason);
		assert_int_equal(int_at(&rep, "lines/0/price"), cases[i].price);
		assert_int_equal(
		    int_at(&rep, "lines/0/available"), cases[i].available);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reservation"), 0);
	assert_int_equal(sql_int(t, "SELECT sum(reserved) FROM product"), 0);
}

static void
test_reservation__names_every_line_that_fails(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = reserve(t,
	    "{\"product_id\":1,\"quantity\":11},{\"product_id\":3,\"quantity\":1},"
	    "{\"product_id\":2,\"quantity\":3}");

	assert_problem(&rep, 409, NULL);
	assert_int_equal(json_object_array_length(member(&rep, "lines")), 2);
	assert_int_equal(int_at(&rep, "lines/1/product_id"), 2);
}

static void
test_reservation__takes_the_price_seen_or_a_lower_one(void **state)
{
	static const char *const lines[] = {
		"{\"product_id\":1,\"quantity\":1}",
		"{\"product_id\":1,\"quantity\":1,\"currency\":\"EUR\"}",
		"{\"product_id\":1,\"quantity\":1,\"price\":450}",
		"{\"product_id\":1,\"quantity\":1,\"price\":450,"
		"\"currency\":\"EUR\"}",
		"{\"product_id\":1,\"quantity\":1,\"price\":451,"
		"\"currency\":\"EUR\"}",
		"{\"product_id\":3,\"quantity\":1,\"price\":0,"
		"\"currency\":\"EUR\"}",
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		reserve_ok(t, lines[i]);
	assert_int_equal(available_of(t, 1), 5);
}

static void
test_reservation__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{}", "#/lines" },
		{ "{\"lines\":[]}", "#/lines" },
		{ "{\"lines\":{}}", "#/lines" },
		{ "{\"lines\":[7]}", "#/lines/0" },
		{ "{\"lines\":[{}]}", "#/lines/0/product_id" },
		{ "{\"lines\":[{}]}", "#/lines/0/quantity" },
		{ "{\"lines\":[{\"quantity\":0}]}", "#/lines/0/quantity" },
		{ "{\"lines\":[{\"quantity\":1000001}]}", "#/lines/0/quantity" },
		{ "{\"lines\":[{\"product_id\":0}]}", "#/lines/0/product_id" },
		{ "{\"lines\":[{\"price\":-1}]}", "#/lines/0/price" },
		{ "{\"lines\":[{\"currency\":\"\"}]}", "#/lines/0/currency" },
		{ "{\"lines\":[{\"name\":\"\"}]}", "#/lines/0/name" },
		{ "{\"expires_in\":0}", "#/expires_in" },
		{ "{\"expires_in\":5184001}", "#/expires_in" },
		{ "{\"user_id\":1}", "#/user_id" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", RESERVATIONS, cases[i].body, AS_SERVICE);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static int
setup_with_50_days(void **state)
{
	setenv("COSTER_RESERVATION_KEEP_DAYS", "50", 1);
	return setup(state);
}

static int
teardown_with_50_days(void **state)
{
	unsetenv("COSTER_RESERVATION_KEEP_DAYS");
	return teardown(state);
}

/* Counted from when they would have expired. One that is held stays, and the
 * newest, whose id would be given again. */
static void
test_reservation__that_ended_is_dropped_in_the_end(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	for (int i = 0; i < 4; i++)
		reserve_ok(t, "{\"product_id\":1,\"quantity\":1}");
	rep = change(t, "POST", "/commit", NULL);
	assert_status(&rep, 200);
	sql_int(t, "UPDATE reservation SET expires_at = 9e15 WHERE id = 2");
	advance(t, 15 * CLOCK_MINUTE);
	run_job(t, "expire reservations");
	advance(t, 50 * CLOCK_DAY);
	assert_int_equal(run_job(t, "prune reservations"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reservation"), 4);
	advance(t, 1);
	assert_int_equal(run_job(t, "prune reservations"), 0);
	assert_int_equal(run_job(t, "prune reservations"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reservation"), 2);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM reservation_line"), 2);
	assert_int_equal(sql_int(t, "SELECT min(id) FROM reservation"), 2);
	assert_int_equal(sql_int(t, "SELECT max(id) FROM reservation"), 4);
}

static void
test_reservation__are_dropped_some_at_a_time(void **state)
{
	struct t *t = *state;

	sql_int(t,
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 601) INSERT INTO reservation (id, status, expires_at,"
	    " created_at) SELECT i, 'released', 1, 1 FROM n");
	assert_int_equal(run_job(t, "prune reservations"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reservation"), 101);
	assert_int_equal(run_job(t, "prune reservations"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reservation"), 1);
	assert_int_equal(run_job(t, "prune reservations"), CLOCK_HOUR);
}

static void
test_reservation__is_for_services_only(void **state)
{
	static const struct {
		const char *method, *path, *body;
	} cases[] = {
		{ "POST", RESERVATIONS, "{}" },
		{ "GET", RESERVATIONS "/1", NULL },
		{ "PATCH", RESERVATIONS "/1", "{}" },
		{ "POST", RESERVATIONS "/1/commit", "{}" },
		{ "DELETE", RESERVATIONS "/1", NULL },
	};
	struct t *t = *state;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":1}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, cases[i].method, cases[i].path,
		    cases[i].body, AS_INTERNAL);

		assert_problem(&rep, 401, NULL);
		rep = call(t, cases[i].method, cases[i].path, cases[i].body,
		    AS_USER(1));
		assert_problem(&rep, 403, NULL);
		rep = call(t, cases[i].method, cases[i].path, cases[i].body,
		    AS_ADMIN);
		assert_problem(&rep, 403, NULL);
	}
	assert_int_equal(available_of(t, 1), 9);
}

static void
test_reservation__unknown_ones_are_not_found(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = change(t, "GET", "", NULL);

	assert_problem(&rep, 404, NULL);
	rep = change(t, "PATCH", "", "{\"expires_at\":\"2027-01-16\"}");
	assert_problem(&rep, 404, NULL);
	rep = change(t, "POST", "/commit", "{}");
	assert_problem(&rep, 404, NULL);
	rep = change(t, "DELETE", "", NULL);
	assert_problem(&rep, 404, NULL);
}

static void
test_reservation__a_key_makes_it_once(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", RESERVATIONS,
		"{\"lines\":[{\"product_id\":1,\"quantity\":6}]}", AS_SERVICE,
		{ [PARAM_IDEMPOTENCY_KEY] = "checkout-1" } };

	for (int i = 0; i < 2; i++) {
		struct reply_seen rep = call_with(t, &c);

		assert_status(&rep, 201);
		assert_int_equal(int_at(&rep, "id"), 1);
	}
	assert_int_equal(available_of(t, 1), 4);
}

static void
test_reservation__commit_sells_once(void **state)
{
	struct t *t = *state;

	reserve_ok(t,
	    "{\"product_id\":1,\"quantity\":3},{\"product_id\":3,\"quantity\":5}");
	reserve_ok(t, "{\"product_id\":1,\"quantity\":1}");
	for (int i = 0; i < 2; i++) {
		struct reply_seen rep = change(t, "POST", "/commit", "{}");

		assert_status(&rep, 200);
		assert_string_equal(text_at(&rep, "status"), "committed");
		assert_int_equal(int_at(&rep, "shortfall"), 0);
		assert_int_equal(stock_of(t, 1), 7);
		assert_int_equal(available_of(t, 1), 6);
		assert_int_equal(stock_of(t, 3), INT_NONE);
	}
}

static void
test_reservation__delete_releases_once(void **state)
{
	struct t *t = *state;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	reserve_ok(t, "{\"product_id\":1,\"quantity\":1}");
	for (int i = 0; i < 2; i++) {
		struct reply_seen rep = change(t, "DELETE", "", NULL);

		assert_status(&rep, 204);
		assert_int_equal(stock_of(t, 1), 10);
		assert_int_equal(available_of(t, 1), 9);
	}
}

static void
test_reservation__a_committed_one_stays(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	rep = change(t, "POST", "/commit", "{}");
	assert_status(&rep, 200);
	rep = change(t, "DELETE", "", NULL);
	assert_problem(&rep, 409, NULL);
	rep = change(t, "PATCH", "", "{\"expires_at\":\"2027-01-16\"}");
	assert_problem(&rep, 410, NULL);
	assert_int_equal(stock_of(t, 1), 7);
}

static void
test_reservation__expires(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	rep = call(t, "POST", RESERVATIONS,
	    "{\"lines\":[{\"product_id\":1,\"quantity\":2}],\"expires_in\":1200}",
	    AS_SERVICE);
	assert_status(&rep, 201);
	advance(t, HOLD - 1);
	assert_int_equal(run_job(t, "expire reservations"), EXPIRE_EVERY);
	assert_int_equal(available_of(t, 1), 5);
	advance(t, 1);
	assert_int_equal(run_job(t, "expire reservations"), 0);
	check_stock(t);
	assert_int_equal(available_of(t, 1), 8);
	assert_int_equal(run_job(t, "expire reservations"), EXPIRE_EVERY);
	rep = change(t, "GET", "", NULL);
	assert_string_equal(text_at(&rep, "status"), "released");
	rep = change(t, "DELETE", "", NULL);
	assert_status(&rep, 204);
	/* Extending comes too late, and trying again will not help. */
	rep = change(t, "PATCH", "", "{\"expires_at\":\"2027-01-16\"}");
	assert_problem(&rep, 410, NULL);
}

/* It may be paid for while product is away: payment's outbox tells it after the
 * start, be it minutes later. One that is held after the start is not. */
static void
test_reservation__one_from_before_a_start_waits_for_its_payment(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	advance(t, HOLD);
	app_of(t)->started_at = clock_ms();
	app_of(t)->started_us = clock_mono_us();
	rep = call(t, "POST", RESERVATIONS,
	    "{\"lines\":[{\"product_id\":1,\"quantity\":2}],\"expires_in\":1}",
	    AS_SERVICE);
	assert_status(&rep, 201);
	advance(t, CLOCK_SECOND);
	assert_int_equal(run_job(t, "expire reservations"), 0);
	assert_int_equal(available_of(t, 1), 7);
	/* However the clock is set meanwhile. */
	advance(t, CLOCK_DAY);
	assert_int_equal(run_job(t, "expire reservations"), EXPIRE_EVERY);
	assert_int_equal(available_of(t, 1), 7);
	advance(t, -CLOCK_DAY);
	app_of(t)->started_us -= GRACE * 1000;
	assert_int_equal(run_job(t, "expire reservations"), 0);
	assert_int_equal(available_of(t, 1), 10);
	check_stock(t);
}

static void
test_reservation__many_expire_in_turn(void **state)
{
	struct t *t = *state;

	for (int i = 0; i < 250; i++)
		reserve_ok(t, "{\"product_id\":3,\"quantity\":1}");
	advance(t, HOLD);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(run_job(t, "expire reservations"), 0);
		check_stock(t);
	}
	assert_int_equal(run_job(t, "expire reservations"), EXPIRE_EVERY);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM reservation WHERE status = 'held'"),
	    0);
}

static void
test_reservation__is_extended(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	rep = change(t, "PATCH", "", "{\"expires_at\":\"2027-01-16T08:00:00Z\"}");
	assert_status(&rep, 200);
	assert_string_equal(
	    text_at(&rep, "expires_at"), "2027-01-16T08:00:00.000Z");
	advance(t, CLOCK_DAY - 1);
	assert_int_equal(run_job(t, "expire reservations"), EXPIRE_EVERY);
	assert_int_equal(available_of(t, 1), 7);
	advance(t, 1);
	assert_int_equal(run_job(t, "expire reservations"), 0);
	assert_int_equal(available_of(t, 1), 10);
}

/* payment's outbox may send both again. */
static void
test_reservation__is_extended_once_although_sold_since(void **state)
{
	struct t *t = *state;
	struct call c = { .method = "PATCH",
		.path = RESERVATIONS "/1",
		.body = "{\"expires_at\":\"2027-01-16T08:00:00Z\"}",
		.who = AS_SERVICE,
		.param = { [PARAM_IDEMPOTENCY_KEY] = "k" } };
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	rep = change(t, "POST", "/commit", "{}");
	assert_status(&rep, 200);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
}

static void
test_reservation__bad_extensions_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{}", "#/expires_at" },
		{ "{\"expires_at\":1}", "#/expires_at" },
		{ "{\"expires_at\":\"soon\"}", "#/expires_at" },
		{ "{\"expires_at\":null}", "#/expires_at" },
		{ "{\"status\":\"committed\"}", "#/status" },
	};
	struct t *t = *state;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = change(t, "PATCH", "", cases[i].body);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

/* Reservation 1 of eight pieces is paid after it expired. */
static void
test_reservation__a_late_commit_takes_what_is_left(void **state)
{
	static const struct {
		const char *meanwhile; /* reserved by another */
		const char *stock;     /* set by an administrator */
		int64_t shortfall, left;
	} cases[] = {
		{ NULL, "10", 0, 2 },
		{ NULL, "8", 0, 0 },
		{ NULL, "7", 1, 0 },
		{ NULL, "0", 8, 0 },
		{ NULL, "null", 0, INT_NONE },
		{ "{\"product_id\":1,\"quantity\":2}", "10", 0, 2 },
		{ "{\"product_id\":1,\"quantity\":5}", "10", 3, 5 },
		{ "{\"product_id\":1,\"quantity\":5}", "3", 8, 3 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;
		char path[60];
		int64_t id;

		set_stock(t, "10");
		rep = reserve(t, "{\"product_id\":1,\"quantity\":8}");
		assert_status(&rep, 201);
		id = int_at(&rep, "id");
		advance(t, HOLD);
		assert_int_equal(run_job(t, "expire reservations"), 0);
		if (cases[i].meanwhile != NULL)
			reserve_ok(t, cases[i].meanwhile);
		set_stock(t, cases[i].stock);
		snprintf(path, sizeof(path), RESERVATIONS "/%d/commit", (int)id);
		for (int twice = 0; twice < 2; twice++) {
			rep = call(t, "POST", path, "{}", AS_SERVICE);
			assert_status(&rep, 200);
			assert_int_equal(
			    int_at(&rep, "shortfall"), cases[i].shortfall);
			assert_int_equal(stock_of(t, 1), cases[i].left);
			check_stock(t);
		}
		advance(t, HOLD);
		run_job(t, "expire reservations");
	}
}

/* Two hold three each of ten, of which an administrator then finds only four. */
static void
test_reservation__stock_lowered_below_what_is_held(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	set_stock(t, "4");
	assert_int_equal(available_of(t, 1), 0);
	rep = reserve(t, "{\"product_id\":1,\"quantity\":1}");
	assert_problem(&rep, 409, NULL);
	assert_int_equal(int_at(&rep, "lines/0/available"), 0);
	rep = change(t, "POST", "/commit", "{}");
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "shortfall"), 0);
	assert_int_equal(stock_of(t, 1), 1);
	rep = call(t, "POST", RESERVATIONS "/2/commit", "{}", AS_SERVICE);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "shortfall"), 2);
	assert_int_equal(stock_of(t, 1), 0);
}

static void
test_reservation__stock_starts_or_stops_being_counted(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	set_stock(t, "null");
	reserve_ok(t, "{\"product_id\":1,\"quantity\":20}");
	set_stock(t, "30");
	assert_int_equal(available_of(t, 1), 7);
	rep = change(t, "POST", "/commit", "{}");
	assert_status(&rep, 200);
	assert_int_equal(stock_of(t, 1), 27);
	assert_int_equal(available_of(t, 1), 7);
}

static void
test_reservation__of_a_product_deleted_meanwhile_is_kept(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	reserve_ok(t, "{\"product_id\":1,\"quantity\":3}");
	reserve_ok(t, "{\"product_id\":1,\"quantity\":2}");
	rep = call(t, "DELETE", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	rep = change(t, "POST", "/commit", "{}");
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "shortfall"), 0);
	rep = call(t, "DELETE", RESERVATIONS "/2", NULL, AS_SERVICE);
	assert_status(&rep, 204);
	assert_int_equal(stock_of(t, 1), 7);
}

static void
test_reservation__step_3_keeps_what_there_is(void **state)
{
	static const char *const kept[] = {
		"SELECT * FROM reservation ORDER BY id",
		"SELECT * FROM reservation_line"
		" ORDER BY reservation_id, product_id",
		NULL,
	};
	struct t *t = *state;
	struct db db;

	assert_kept(t, 3,
	    "INSERT INTO product (id, sku, name, description, price, currency,"
	    " attributes, created_at, updated_at) VALUES"
	    " (1, 'a', 'Tea', '', 1, 'EUR', '{}', 0, 0),"
	    " (2, 'b', 'Cup', '', 1, 'EUR', '{}', 0, 0);"
	    "INSERT INTO reservation VALUES (5, 'committed', 8, 7, 2),"
	    " (3, 'held', 9, 6, 0), (8, 'released', 5, 4, 0);"
	    "INSERT INTO reservation_line VALUES (5, 2, 1), (5, 1, 4),"
	    " (3, 1, 9)",
	    kept, &db);
	assert_refused(&db, SQLITE_CONSTRAINT_FOREIGNKEY,
	    "DELETE FROM reservation WHERE id = 3");
	assert_refused(&db, SQLITE_CONSTRAINT_FOREIGNKEY,
	    "DELETE FROM product WHERE id = 2");
	assert_refused(&db, SQLITE_CONSTRAINT_CHECK,
	    "UPDATE reservation SET status = 'open'");
	assert_refused(&db, SQLITE_CONSTRAINT_CHECK,
	    "UPDATE reservation_line SET quantity = 0");
	db_close(&db);
}

#define TEST_STOCK(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_STOCK(test_reservation__step_3_keeps_what_there_is),
		TEST_STOCK(test_reservation__holds_all_lines),
		TEST_STOCK(test_reservation__of_one_product_twice_is_the_sum),
		TEST_STOCK(test_reservation__refuses_all_when_one_line_fails),
		TEST_STOCK(test_reservation__names_every_line_that_fails),
		TEST_STOCK(
		    test_reservation__takes_the_price_seen_or_a_lower_one),
		TEST_STOCK(test_reservation__bad_bodies_are_refused),
		cmocka_unit_test_setup_teardown(
		    test_reservation__that_ended_is_dropped_in_the_end,
		    setup_with_50_days, teardown_with_50_days),
		TEST_STOCK(test_reservation__are_dropped_some_at_a_time),
		TEST_STOCK(test_reservation__is_for_services_only),
		TEST_STOCK(test_reservation__unknown_ones_are_not_found),
		TEST_STOCK(test_reservation__a_key_makes_it_once),
		TEST_STOCK(test_reservation__commit_sells_once),
		TEST_STOCK(test_reservation__delete_releases_once),
		TEST_STOCK(test_reservation__a_committed_one_stays),
		TEST_STOCK(test_reservation__expires),
		TEST_STOCK(test_reservation__one_from_before_a_start_waits_for_its_payment),
		TEST_STOCK(test_reservation__many_expire_in_turn),
		TEST_STOCK(test_reservation__is_extended),
		TEST_STOCK(
		    test_reservation__is_extended_once_although_sold_since),
		TEST_STOCK(test_reservation__bad_extensions_are_refused),
		TEST_STOCK(test_reservation__a_late_commit_takes_what_is_left),
		TEST_STOCK(test_reservation__stock_lowered_below_what_is_held),
		TEST_STOCK(
		    test_reservation__stock_starts_or_stops_being_counted),
		TEST_STOCK(
		    test_reservation__of_a_product_deleted_meanwhile_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
