#include "handlers/payment/payment.h"
#include "shared/clock.h"
#include "shared/migrate.h"
#include "shared/service.h"
#include "tests/loopback.h"

#define TEA                                                                    \
	"{\"product_id\":3,\"description\":\"Tea\",\"quantity\":2,\"price\":450}"
#define CUP                                                                    \
	"{\"product_id\":4,\"description\":\"Cup\",\"quantity\":1,\"price\":600}"
#define INVOICE_OF(user, lines)                                                \
	"{\"user_id\":" user ",\"currency\":\"EUR\",\"lines\":[" lines "]}"
#define INVOICE INVOICE_OF("7", TEA "," CUP)
#define RESERVED                                                               \
	"{\"user_id\":7,\"currency\":\"EUR\",\"reservation_id\":12,"           \
	"\"lines\":[" TEA "]}"

#define HOURS 336

static void
watch(struct t *t)
{
	int times = 0;

	while (run_job(t, "open invoices") == 0)
		assert_in_range(++times, 1, 9);
}

static void
test_invoice__is_created_with_its_location(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/invoices", INVOICE, AS_SERVICE);

	assert_status(&rep, 201);
	assert_non_null(strstr(rep.fields, "Location: /invoices/1\r\n"));
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
	rep = call(t, "GET", "/invoices/1", NULL, AS_USER(7));
	assert_status(&rep, 200);
	assert_string_equal(rep.body,
	    "{\"id\":1,\"number\":1,\"user_id\":7,\"status\":\"open\","
	    "\"currency\":\"EUR\",\"lines\":["
	    "{\"product_id\":3,\"description\":\"Tea\",\"quantity\":2,"
	    "\"price\":450,\"amount\":900},"
	    "{\"product_id\":4,\"description\":\"Cup\",\"quantity\":1,"
	    "\"price\":600,\"amount\":600}],"
	    "\"total\":1500,\"amount_paid\":0,\"amount_refunded\":0,"
	    "\"created_at\":\"2027-01-15T08:00:00.000Z\",\"paid_at\":null,"
	    "\"expires_at\":\"2027-01-29T08:00:00.000Z\",\"version\":1}");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_invoice__keeps_its_reservation(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);

	assert_status(&rep, 201);
	advance(t, CLOCK_MINUTE - 1);
	assert_int_not_equal(run_job(t, "open invoices"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
	advance(t, 1);
	assert_int_equal(run_job(t, "open invoices"), 0);
	peer(t, "PATCH /product/reservations/12", 200, "{}");
	run_job(t, "outbox");
	/* A day longer than the invoice can be paid. */
	assert_string_equal(
	    peer_got(t), "{\"expires_at\":\"2027-01-30T08:00:00.000Z\"}");
	/* Once. */
	assert_int_not_equal(run_job(t, "open invoices"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_invoice__only_what_stays_open_keeps_its_reservation(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	for (int i = 0; i < 3; i++) {
		rep = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);
		assert_status(&rep, 201);
	}
	rep = call(t, "POST", "/invoices", INVOICE, AS_SERVICE);
	assert_status(&rep, 201); /* it has none */
	rep = call(t, "POST", "/invoices/1/pay",
	    "{\"method\":\"sandbox\",\"token\":\"tok_ok\"}", AS_USER(7));
	assert_status(&rep, 200);
	rep = call(t, "POST", "/invoices/2/void", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	advance(t, CLOCK_MINUTE);
	rep = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);
	assert_status(&rep, 201); /* not yet */
	assert_int_equal(run_job(t, "open invoices"), 0);
	assert_int_not_equal(run_job(t, "open invoices"), 0);
	assert_int_equal(
	    sql_int(t,
		"SELECT group_concat(subject) = 'invoice 3' FROM outbox"
		" WHERE method = 'PATCH'"),
	    1);
	assert_int_equal(sql_int(t, "SELECT last FROM extension"), 4);
}

static void
test_invoice__many_keep_their_reservations(void **state)
{
	struct t *t = *state;

	sql_int(t,
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 501) INSERT INTO invoice (number, user_id, currency,"
	    " total, reservation_id, created_at, expires_at)"
	    " SELECT i, 7, 'EUR', 1, i, 0, 1900000000000 FROM n");
	assert_int_equal(run_job(t, "open invoices"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 500);
	watch(t);
	assert_int_equal(
	    sql_int(t, "SELECT count(DISTINCT path) FROM outbox"), 501);
}

static void
test_invoice__made_before_the_clock_was_set_back_keeps_its_reservation(
    void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);

	assert_status(&rep, 201);
	advance(t, -CLOCK_HOUR);
	assert_int_equal(run_job(t, "open invoices"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 1);
}

static void
test_invoice__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{}", "#/user_id" },
		{ "{}", "#/currency" },
		{ "{}", "#/lines" },
		{ INVOICE_OF("0", TEA), "#/user_id" },
		{ INVOICE_OF("7", ""), "#/lines" },
		{ "{\"currency\":\"eur\"}", "#/currency" },
		{ "{\"reservation_id\":0}", "#/reservation_id" },
		{ "{\"number\":5}", "#/number" },
		{ "{\"status\":\"paid\"}", "#/status" },
		{ INVOICE_OF("7", "{}"), "#/lines/0/product_id" },
		{ INVOICE_OF("7", TEA ",{}"), "#/lines/1/description" },
		{ INVOICE_OF("7", "{\"quantity\":0}"), "#/lines/0/quantity" },
		{ INVOICE_OF("7", "{\"price\":-1}"), "#/lines/0/price" },
		{ INVOICE_OF("7", "{\"amount\":9}"), "#/lines/0/amount" },
		{ INVOICE_OF("7", "{\"description\":\"\"}"),
		    "#/lines/0/description" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", "/invoices", cases[i].body, AS_SERVICE);

		assert_problem(&rep, 422, cases[i].pointer);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM invoice"), 0);
}

/* Else a void of it would give back what another invoice is for. */
static void
test_invoice__only_services_name_a_reservation(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/invoices", RESERVED, AS_ADMIN);

	assert_problem(&rep, 422, "#/reservation_id");
	rep = call(t, "POST", "/invoices", INVOICE_OF("7", TEA), AS_ADMIN);
	assert_status(&rep, 201);
}

static void
test_invoice__has_at_most_200_lines(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	struct buf b;

	for (int n = 200; n <= 201; n++) {
		buf_init(&b, &worker(t)->arena);
		buf_adds(&b, TEA);
		for (int i = 1; i < n; i++)
			buf_adds(&b, "," TEA);
		rep = call(t, "POST", "/invoices",
		    arena_printf(&worker(t)->arena,
			"{\"user_id\":7,\"currency\":\"EUR\",\"lines\":[%s]}",
			b.data),
		    AS_SERVICE);
		if (n > 200)
			assert_problem(&rep, 422, "#/lines");
		else
			assert_int_equal(int_at(&rep, "total"), 200 * 900);
	}
}

#define LINE(quantity, price)                                                  \
	"{\"product_id\":1,\"description\":\"x\",\"quantity\":" quantity       \
	",\"price\":" price "}"

static void
test_invoice__total_stays_exact(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ INVOICE_OF("7", LINE("1", "9007199254740991")), NULL },
		{ INVOICE_OF("7", LINE("1", "0")), NULL },
		{ INVOICE_OF("7",
		      LINE("1", "9007199254740991") "," LINE("1", "1")),
		    "#/lines/1" },
		{ INVOICE_OF("7", LINE("2", "4503599627370496")), "#/lines/0" },
		{ INVOICE_OF("7", LINE("1000000", "9007199254740991")),
		    "#/lines/0" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", "/invoices", cases[i].body, AS_SERVICE);

		if (cases[i].pointer != NULL)
			assert_problem(&rep, 422, cases[i].pointer);
		else
			assert_status(&rep, 201);
	}
}

static void
test_invoice__numbers_have_no_gaps(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/invoices", INVOICE, AS_ADMIN);

	/* Fails when its number is taken already. */
	assert_int_equal(
	    sqlite3_exec(worker(t)->db.handle,
		"CREATE TRIGGER refuse BEFORE INSERT ON invoice_line"
		" WHEN NEW.product_id = 4 BEGIN SELECT RAISE(ABORT, 'no'); END",
		NULL, NULL, NULL),
	    SQLITE_OK);
	rep = call(t, "POST", "/invoices", INVOICE, AS_ADMIN);
	assert_problem(&rep, 500, NULL);
	rep = call(t, "POST", "/invoices", INVOICE_OF("7", TEA), AS_ADMIN);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "number"), 2);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM invoice"), 2);
}

static void
test_invoice__same_key_makes_one(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/invoices", INVOICE, AS_SERVICE,
		{ [PARAM_IDEMPOTENCY_KEY] = "checkout-5" } };
	struct reply_seen first = call_with(t, &c), rep = call_with(t, &c);

	assert_status(&rep, 201);
	assert_string_equal(rep.body, first.body);
	assert_non_null(strstr(rep.fields, "Idempotent-Replayed: true\r\n"));
	assert_non_null(strstr(rep.fields, "Location: /invoices/1\r\n"));
	assert_int_equal(sql_int(t, "SELECT count(*) FROM invoice"), 1);
	assert_int_equal(sql_int(t, "SELECT last FROM invoice_number"), 1);
	c.body = RESERVED;
	rep = call_with(t, &c);
	assert_problem(&rep, 422, NULL);
	rep = call(t, "POST", "/invoices", INVOICE, AS_SERVICE);
	assert_int_equal(int_at(&rep, "number"), 2);
}

static void
test_invoice__who_may_do_what(void **state)
{
	static const struct {
		const char *method, *path, *body;
		struct as who;
		int status;
	} cases[] = {
		{ "POST", "/invoices", INVOICE, AS_NOBODY, 401 },
		{ "POST", "/invoices", INVOICE, AS_INTERNAL, 401 },
		{ "POST", "/invoices", INVOICE, AS_USER(7), 403 },
		{ "POST", "/invoices", INVOICE, AS_ADMIN, 201 },
		{ "GET", "/invoices/1", NULL, AS_NOBODY, 401 },
		{ "GET", "/invoices/1", NULL, AS_USER(7), 200 },
		{ "GET", "/invoices/1", NULL, AS_USER(8), 404 },
		{ "GET", "/invoices/1", NULL, AS_ADMIN, 200 },
		{ "GET", "/invoices/1", NULL, AS_SERVICE, 200 },
		{ "GET", "/invoices/99", NULL, AS_ADMIN, 404 },
		{ "GET", "/invoices", NULL, AS_NOBODY, 401 },
		{ "POST", "/invoices/1/void", NULL, AS_NOBODY, 401 },
		{ "POST", "/invoices/1/void", NULL, AS_USER(7), 403 },
		{ "POST", "/invoices/1/void", NULL, AS_SERVICE, 403 },
		{ "POST", "/invoices/99/void", NULL, AS_ADMIN, 404 },
		{ "POST", "/invoices/1/void", NULL, AS_ADMIN, 200 },
		{ "DELETE", "/invoices/1", NULL, AS_ADMIN, 405 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, cases[i].method, cases[i].path,
		    cases[i].body, cases[i].who);

		assert_status(&rep, cases[i].status);
	}
}

/* Invoices 1, 3 and 5 of user 7, 2 and 4 of user 8; 3 is void. */
static void
make_five(struct t *t)
{
	struct reply_seen rep;

	for (int i = 1; i <= 5; i++) {
		rep = call(t, "POST", "/invoices",
		    i % 2 != 0 ? INVOICE : INVOICE_OF("8", TEA), AS_SERVICE);
		assert_int_equal(int_at(&rep, "id"), i);
	}
	rep = call(t, "POST", "/invoices/3/void", NULL, AS_ADMIN);
	assert_status(&rep, 200);
}

static void
test_invoice__list_shows_what_concerns_the_caller(void **state)
{
	static const struct {
		const char *query;
		struct as who;
		int64_t ids[6];
	} cases[] = {
		{ "", AS_ADMIN, { 5, 4, 3, 2, 1 } },
		{ "", AS_SERVICE, { 5, 4, 3, 2, 1 } },
		{ "", AS_USER(7), { 5, 3, 1 } },
		{ "", AS_USER(9), { 0 } },
		{ "?user_id=7", AS_USER(7), { 5, 3, 1 } },
		{ "?user_id=8", AS_USER(7), { 0 } },
		{ "?user_id=8", AS_ADMIN, { 4, 2 } },
		{ "?status=void", AS_ADMIN, { 3 } },
		{ "?status=open", AS_ADMIN, { 5, 4, 2, 1 } },
		{ "?status=open", AS_USER(7), { 5, 1 } },
		{ "?status=void&user_id=8", AS_ADMIN, { 0 } },
		{ "?status=void&user_id=7", AS_SERVICE, { 3 } },
	};
	struct t *t = *state;

	make_five(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, "GET",
		    arena_printf(
			&worker(t)->arena, "/invoices%s", cases[i].query),
		    NULL, cases[i].who);
		size_t n = 0;

		assert_status(&rep, 200);
		for (; cases[i].ids[n] != 0; n++) {
			char path[32];

			snprintf(path, sizeof(path), "items/%zu/id", n);
			assert_int_equal(int_at(&rep, path), cases[i].ids[n]);
		}
		assert_int_equal(
		    json_object_array_length(member(&rep, "items")), n);
	}
}

static void
test_invoice__list_goes_on_where_its_page_ended(void **state)
{
	static const int64_t pages[][2] = { { 5, 4 }, { 3, 2 }, { 1, INT_NONE } };
	struct t *t = *state;
	const char *path = "/invoices?limit=2";

	make_five(t);
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		struct reply_seen rep = call(t, "GET", path, NULL, AS_ADMIN);

		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "items/0/id"), pages[i][0]);
		assert_int_equal(int_at(&rep, "items/1/id"), pages[i][1]);
		assert_int_equal(int_at(&rep, "items/0/lines/0/amount"), 900);
		if (text_at(&rep, "next_cursor") == NULL) {
			assert_int_equal(i, ARRAY_LEN(pages) - 1);
			break;
		}
		path = arena_printf(&worker(t)->arena,
		    "/invoices?limit=2&cursor=%s", text_at(&rep, "next_cursor"));
	}
}

static void
test_invoice__list_refuses_bad_queries(void **state)
{
	static const struct {
		const char *path, *pointer;
	} cases[] = {
		{ "/invoices?status=lost", "?status" },
		{ "/invoices?user_id=0", "?user_id" },
		{ "/invoices?user_id=x", "?user_id" },
		{ "/invoices?limit=201", "?limit" },
		{ "/invoices?cursor=x", "?cursor" },
		{ "/invoices?number=1", "?number" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "GET", cases[i].path, NULL, AS_ADMIN);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static void
test_invoice__void_releases_the_reservation_once(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);

	rep = call(t, "POST", "/invoices/1/void", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "status"), "void");
	assert_int_equal(int_at(&rep, "version"), 2);
	rep = call(t, "POST", "/invoices/1/void", NULL, AS_ADMIN);
	assert_problem(&rep, 409, NULL);
	assert_string_equal(
	    text_at(&rep, "type"), "urn:coster:problem:invoice-void");
	peer(t, "DELETE /product/reservations/12", 204, NULL);
	run_job(t, "outbox");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_invoice__conditional_requests(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/invoices", INVOICE, AS_ADMIN);

	rep = call_with(t,
	    &(struct call) { "GET", "/invoices/1", NULL, AS_USER(7),
		{ [PARAM_IF_NONE_MATCH] = "\"1\"" } });
	assert_status(&rep, 304);
	rep = call_with(t,
	    &(struct call) { "POST", "/invoices/1/void", NULL, AS_ADMIN,
		{ [PARAM_IF_MATCH] = "\"2\"" } });
	assert_problem(&rep, 412, NULL);
	rep = call_with(t,
	    &(struct call) { "POST", "/invoices/1/void", NULL, AS_ADMIN,
		{ [PARAM_IF_MATCH] = "\"1\"" } });
	assert_status(&rep, 200);
}

static void
test_invoice__is_void_when_its_time_is_over(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/invoices", RESERVED, AS_SERVICE);

	peer(t, "PATCH /product/reservations/12", 200, "{}");
	advance(t, HOURS * CLOCK_HOUR - 1);
	watch(t);
	run_job(t, "outbox");
	rep = call(t, "GET", "/invoices/1", NULL, AS_USER(7));
	assert_string_equal(text_at(&rep, "status"), "open");
	advance(t, 1);
	watch(t);
	rep = call(t, "GET", "/invoices/1", NULL, AS_USER(7));
	assert_string_equal(text_at(&rep, "status"), "void");
	assert_int_equal(int_at(&rep, "version"), 2);
	peer(t, "DELETE /product/reservations/12", 204, NULL);
	run_job(t, "outbox");
}

static void
test_invoice__does_not_expire_while_a_payment_is_open(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/invoices", INVOICE, AS_ADMIN);

	rep = call(t, "POST", "/invoices/1/pay",
	    "{\"method\":\"sandbox\",\"token\":\"tok_timeout_decline\"}",
	    AS_USER(7));
	assert_status(&rep, 202);
	advance(t, HOURS * CLOCK_HOUR);
	watch(t);
	rep = call(t, "GET", "/invoices/1", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "open");
	assert_int_equal(run_job(t, "settle attempts"), 0);
	watch(t);
	rep = call(t, "GET", "/invoices/1", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "void");
}

static void
test_invoice__does_not_expire_once_paid(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/invoices", INVOICE, AS_ADMIN);

	rep = call(t, "POST", "/invoices/1/pay",
	    "{\"method\":\"sandbox\",\"token\":\"tok_ok\"}", AS_USER(7));
	assert_status(&rep, 200);
	advance(t, HOURS * CLOCK_HOUR);
	watch(t);
	rep = call(t, "GET", "/invoices/1", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "paid");
}

/* The program that made them told of each at once. */
static void
test_invoice__step_3_tells_nothing_again(void **state)
{
	struct t *t = *state;
	struct db db;

	open_before_step(t, 3,
	    "INSERT INTO invoice (id, number, user_id, currency, total,"
	    " created_at, expires_at) VALUES (5, 1, 7, 'EUR', 1, 0, 9),"
	    " (6, 2, 7, 'EUR', 1, 0, 9)",
	    &db);
	assert_int_equal(migrate(&db, service.name, service.schema), OK);
	assert_int_equal(sql_int_in(&db, "SELECT last FROM extension"), 6);
	db_close(&db);
}

static void
test_invoice__step_4_keeps_what_there_is(void **state)
{
	static const char *const kept[] = {
		"SELECT * FROM invoice ORDER BY id",
		"SELECT * FROM invoice_line ORDER BY invoice_id, position",
		"SELECT * FROM attempt ORDER BY id",
		"SELECT * FROM refund ORDER BY id",
		NULL,
	};
	static const char *const bad[] = {
		"UPDATE invoice SET status = 'held'",
		"UPDATE attempt SET status = 'paid'",
		"UPDATE refund SET status = 'paid'",
		"UPDATE invoice_line SET quantity = 0",
		"UPDATE invoice_line SET price = -1",
	};
	struct t *t = *state;
	struct db db;

	assert_kept(t, 4,
	    "INSERT INTO invoice VALUES"
	    " (5, 1, 7, 'refunded', 'EUR', 20, 20, 20, 3, 4, 5, 6, 2),"
	    " (6, 2, 8, 'open', 'USD', 9, 0, 0, NULL, 4, NULL, 6, 1);"
	    "INSERT INTO invoice_line VALUES (6, 0, 11, 'Cup', 3, 3),"
	    " (5, 1, 12, 'Tea', 1, 12), (5, 0, 13, 'Hat', 2, 4);"
	    "INSERT INTO attempt VALUES"
	    " (3, 5, 'sandbox', 'a', 20, 'succeeded', 'x', 'r', 1, 2, 3, 4),"
	    " (4, 6, 'sandbox', 'b', 9, 'unknown', NULL, NULL, 0, 2, 3, NULL);"
	    "INSERT INTO refund VALUES"
	    " (9, 5, 3, 'sandbox', 'c', 20, 'succeeded', 'y', NULL, 1, 2, 3, 4)",
	    kept, &db);
	assert_refused(&db, SQLITE_CONSTRAINT_FOREIGNKEY,
	    "UPDATE invoice_line SET invoice_id = 7 WHERE product_id = 11");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_refused(&db, SQLITE_CONSTRAINT_CHECK, bad[i]);
	db_close(&db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_invoice__is_created_with_its_location),
		TEST(test_invoice__keeps_its_reservation),
		TEST(test_invoice__only_what_stays_open_keeps_its_reservation),
		TEST(test_invoice__many_keep_their_reservations),
		TEST(test_invoice__step_3_tells_nothing_again),
		TEST(test_invoice__step_4_keeps_what_there_is),
		TEST(
		    test_invoice__made_before_the_clock_was_set_back_keeps_its_reservation),
		TEST(test_invoice__bad_bodies_are_refused),
		TEST(test_invoice__only_services_name_a_reservation),
		TEST(test_invoice__has_at_most_200_lines),
		TEST(test_invoice__total_stays_exact),
		TEST(test_invoice__numbers_have_no_gaps),
		TEST(test_invoice__same_key_makes_one),
		TEST(test_invoice__who_may_do_what),
		TEST(test_invoice__list_shows_what_concerns_the_caller),
		TEST(test_invoice__list_goes_on_where_its_page_ended),
		TEST(test_invoice__list_refuses_bad_queries),
		TEST(test_invoice__void_releases_the_reservation_once),
		TEST(test_invoice__conditional_requests),
		TEST(test_invoice__is_void_when_its_time_is_over),
		TEST(test_invoice__does_not_expire_while_a_payment_is_open),
		TEST(test_invoice__does_not_expire_once_paid),
	};

	setenv("COSTER_GATEWAYS", "manual,sandbox", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
