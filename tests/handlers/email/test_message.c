#include "handlers/email/email.h"
#include "shared/clock.h"
#include "tests/loopback.h"

#define MAIL "{\"to\":\"ann@shop.example\",\"subject\":\"Hi\",\"text\":\"Hello\"}"
#define TO(address) "{\"to\":\"" address "\",\"subject\":\"a\",\"text\":\"b\"}"
#define WELCOME(address)                                                       \
	"{\"to\":\"" address "\",\"template\":\"welcome\",\"vars\":{\"name\":\"A\"}}"
#define FOUND "{\"items\":[{\"id\":7}],\"next_cursor\":null}"
#define NONE "{\"items\":[],\"next_cursor\":null}"

static void
test_message__is_accepted_with_its_location(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	peer(t, "GET /user/[?]email=ann%40shop.example", 200, FOUND);
	rep = call(t, "POST", "/send_email/", MAIL, AS_SERVICE);
	assert_status(&rep, 202);
	assert_non_null(strstr(rep.fields, "Location: /send_email/1\r\n"));
	assert_string_equal(rep.body,
	    "{\"id\":1,\"to\":\"ann@shop.example\",\"subject\":\"Hi\","
	    "\"status\":\"queued\",\"attempts\":0,\"last_error\":null,"
	    "\"created_at\":\"2027-01-15T08:00:00.000Z\",\"sent_at\":null}");
	rep = call(t, "GET", "/send_email/1", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "subject"), "Hi");
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
	rep = call(t, "GET", "/send_email/2", NULL, AS_ADMIN);
	assert_problem(&rep, 404, NULL);
}

static void
test_message__address_must_be_of_a_user(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	peer(t, "GET /user/[?]email=a%2Bb%26c%40shop.example", 200, NONE);
	rep = call(t, "POST", "/send_email/", TO("a+b&c@shop.example"),
	    AS_SERVICE);
	assert_problem(&rep, 422, "#/to");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail_count"), 0);
	/* An administrator writes to anybody. */
	rep = call(t, "POST", "/send_email/", MAIL, AS_ADMIN);
	assert_status(&rep, 202);
	assert_int_equal(sql_int(t, "SELECT checked FROM mail"), 1);
}

static void
test_message__waits_while_user_cannot_be_reached(void **state)
{
	static const struct {
		int status;
		const char *body;
	} cases[] = { { 0, NULL }, { 500, "{}" }, { 403, "{}" }, { 429, "{}" },
		{ 200, "{}" }, { 200, "[]" }, { 200, NULL } };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		peer(t, "GET /user/*", cases[i].status, cases[i].body);
		rep = call(t, "POST", "/send_email/", MAIL, AS_SERVICE);
		assert_status(&rep, 202);
		peer(t, "GET /user/7", cases[i].status, cases[i].body);
		rep = call(t, "POST", "/send_email/",
		    "{\"user_id\":7,\"subject\":\"a\",\"text\":\"b\"}", AS_SERVICE);
		assert_status(&rep, 202);
		assert_null(text_at(&rep, "to"));
	}
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM mail WHERE checked = 0"), 14);
}

static void
test_message__user_id_stands_for_the_address(void **state)
{
	static const char body[]
	    = "{\"user_id\":7,\"subject\":\"a\",\"text\":\"b\"}";
	struct t *t = *state;
	struct reply_seen rep;

	peer(t, "GET /user/7", 200, "{\"id\":7,\"email\":\"ann@shop.example\"}");
	rep = call(t, "POST", "/send_email/", body, AS_SERVICE);
	assert_status(&rep, 202);
	assert_string_equal(text_at(&rep, "to"), "ann@shop.example");
	peer(t, "GET /user/7", 404, "{}");
	rep = call(t, "POST", "/send_email/", body, AS_SERVICE);
	assert_problem(&rep, 410, NULL);
	peer(t, "GET /user/7", 404, "{}");
	rep = call(t, "POST", "/send_email/", body, AS_ADMIN);
	assert_problem(&rep, 422, "#/user_id");
}

static void
test_message__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "{}", 422, "#/to" },
		{ "{}", 422, "#/subject" },
		{ "{}", 422, "#/text" },
		{ TO("ann"), 422, "#/to" },
		{ TO("ann@shop.example\\r\\nBcc: b@c.example"), 422, "#/to" },
		{ TO("Ann <ann@shop.example>"), 422, "#/to" },
		{ "{\"to\":null}", 422, "#/to" },
		{ "{\"user_id\":0}", 422, "#/user_id" },
		{ "{\"user_id\":\"7\"}", 422, "#/user_id" },
		{ "{\"to\":\"a@b\",\"user_id\":7,\"subject\":\"a\",\"text\":\"b\"}",
		    422, "#/user_id" },
		{ "{\"to\":\"a@b\",\"subject\":\"\",\"text\":\"b\"}", 422,
		    "#/subject" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\\nBcc: b\",\"text\":\"b\"}",
		    422, "#/subject" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\\rb\",\"text\":\"b\"}", 422,
		    "#/subject" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\",\"text\":\"\"}", 422,
		    "#/text" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\",\"text\":\"\\u0007\"}", 422,
		    "#/text" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\",\"html\":\"b\"}", 422,
		    "#/text" },
		{ "{\"to\":\"a@b\",\"subject\":\"a\",\"text\":\"b\",\"vars\":{}}",
		    422, "#/vars" },
		{ "{\"to\":\"a@b\",\"template\":\"welcome\",\"vars\":"
		  "{\"name\":\"a\"},\"subject\":\"b\"}",
		    422, "#/subject" },
		{ "{\"to\":\"a@b\",\"template\":\"welcome\",\"text\":\"b\"}",
		    422, "#/text" },
		{ "{\"to\":\"a@b\",\"template\":\"welcome\",\"html\":\"b\"}",
		    422, "#/html" },
		{ "{\"cc\":\"a@b\"}", 422, "#/cc" },
		{ "{\"id\":1}", 422, "#/id" },
		{ "[]", 422, "#" },
		{ "{", 400, NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/send_email/", cases[i].body, AS_SERVICE);

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
}

static void
test_message__templates_are_filled_in(void **state)
{
#define TEMPLATE(name, vars)                                                   \
	"{\"to\":\"a@b\",\"template\":\"" name "\",\"vars\":" vars "}"
#define RECEIPT(total, currency)                                               \
	TEMPLATE("receipt", "{\"number\":\"2027-1\",\"total\":" total          \
			    ",\"currency\":\"" currency "\"}")
	static const struct {
		const char *body, *finds;
	} cases[] = {
		{ TEMPLATE("welcome", "{\"name\":\"Ann & <b>\"}"),
		    "text LIKE 'Hello Ann & <b>,%'"
		    " AND html LIKE '<p>Hello Ann &amp; &lt;b&gt;,</p>%'"
		    " AND subject = 'Welcome'" },
		{ TEMPLATE("welcome", "{\"name\":\"{{name}}\"}"),
		    "text LIKE 'Hello {{name}},%'" },
		{ TEMPLATE("welcome", "{\"name\":\"\"}"),
		    "text LIKE 'Hello customer,%'" },
		{ TEMPLATE("welcome", "{\"name\":null}"),
		    "text LIKE 'Hello customer,%'" },
		{ RECEIPT("1205", "EUR"),
		    "subject = 'Receipt for invoice 2027-1'"
		    " AND text LIKE '%received 12.05 EUR for%'"
		    " AND html LIKE '%<b>12.05 EUR</b>%'" },
		{ RECEIPT("7", "USD"), "text LIKE '% 0.07 USD %'" },
		{ RECEIPT("0", "USD"), "text LIKE '% 0.00 USD %'" },
		{ RECEIPT("1205", "JPY"), "text LIKE '% 1205 JPY %'" },
		{ RECEIPT("1205", "KWD"), "text LIKE '% 1.205 KWD %'" },
		{ RECEIPT("1205", "CLF"), "text LIKE '% 0.1205 CLF %'" },
		{ TEMPLATE("receipt",
		      "{\"number\":42,\"total\":1,\"currency\":\"EUR\"}"),
		    "subject = 'Receipt for invoice 42'" },
		{ TEMPLATE("verification",
		      "{\"link\":\"https://shop.example/v?a=1&b='\"}"),
		    "text LIKE '%:\n\nhttps://shop.example/v?a=1&b=''\n%'"
		    " AND html LIKE '%href=\"https://shop.example/v?a=1&amp;"
		    "b=&#39;\"%'" },
		{ TEMPLATE("password_reset", "{\"link\":\"http://localhost/r\"}"),
		    "text LIKE '%\nhttp://localhost/r\n%'"
		    " AND html LIKE '%href=\"http://localhost/r\"%'" },
		{ TEMPLATE("password_changed", "{}"),
		    "subject = 'Your password was changed'" },
		{ TEMPLATE("address_changed", "{}"),
		    "subject = 'Your address was changed'" },
	};
	struct t *t = *state;
	char sql[400];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/send_email/", cases[i].body, AS_ADMIN);

		assert_status(&rep, 202);
		snprintf(sql, sizeof(sql),
		    "SELECT count(*) FROM mail WHERE id = %zu AND %s", i + 1,
		    cases[i].finds);
		if (sql_int(t, sql) != 1)
			fail_msg("not so: %s", cases[i].finds);
	}
}

static void
test_message__bad_variables_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{\"to\":\"a@b\",\"template\":\"welcom\",\"vars\":{}}",
		    "#/template" },
		{ "{\"to\":\"a@b\",\"template\":\"welcome\"}", "#/vars/name" },
		{ TEMPLATE("welcome", "{}"), "#/vars/name" },
		{ TEMPLATE("welcome", "[]"), "#/vars" },
		{ TEMPLATE("welcome", "{\"name\":true}"), "#/vars/name" },
		{ TEMPLATE("welcome", "{\"name\":1.5}"), "#/vars/name" },
		{ TEMPLATE("welcome", "{\"name\":\"a\\nb\"}"), "#/vars/name" },
		{ TEMPLATE("welcome", "{\"name\":\"a\",\"age\":1}"),
		    "#/vars/age" },
		{ TEMPLATE("welcome", "{\"name\":\"a\",\"a/b\":\"1\"}"),
		    "#/vars/a~1b" },
		{ TEMPLATE("receipt", "{\"total\":1,\"currency\":\"EUR\"}"),
		    "#/vars/number" },
		{ RECEIPT("-1", "EUR"), "#/vars/total" },
		{ RECEIPT("\"1\"", "EUR"), "#/vars/total" },
		{ RECEIPT("1", "eur"), "#/vars/currency" },
		{ TEMPLATE("verification", "{\"link\":\"javascript:a\"}"),
		    "#/vars/link" },
		{ TEMPLATE("verification", "{\"link\":\"\"}"), "#/vars/link" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/send_email/", cases[i].body, AS_ADMIN);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static void
test_message__only_services_and_administrators(void **state)
{
	static const struct {
		const char *method, *path;
		struct as who;
		int status;
	} cases[] = {
		{ "POST", "/send_email/", { ROLE_NOBODY, 0, true }, 401 },
		{ "POST", "/send_email/", { ROLE_CUSTOMER, 1, false }, 403 },
		{ "GET", "/send_email/", { ROLE_NOBODY, 0, true }, 401 },
		{ "GET", "/send_email/", { ROLE_CUSTOMER, 1, false }, 403 },
		{ "GET", "/send_email/1", { ROLE_NOBODY, 0, false }, 401 },
		{ "GET", "/send_email/1", { ROLE_CUSTOMER, 1, false }, 403 },
		{ "DELETE", "/send_email/?to=a@b", { ROLE_NOBODY, 0, false },
		    401 },
		{ "DELETE", "/send_email/?to=a@b", { ROLE_CUSTOMER, 1, false },
		    403 },
		{ "DELETE", "/send_email/?to=a@b", { ROLE_ADMIN, 1, false },
		    403 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, cases[i].method, cases[i].path, MAIL, cases[i].who);

		assert_problem(&rep, cases[i].status, NULL);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 0);
}

static void
test_message__a_recipient_gets_so_many_an_hour(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	email_settings.per_recipient = 2;
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_status(&rep, 202);
	advance(t, 10 * CLOCK_MINUTE);
	rep = call(t, "POST", "/send_email/", TO("ANN@B"), AS_ADMIN);
	assert_status(&rep, 202);
	rep = call(t, "POST", "/send_email/", TO("Ann@b"), AS_ADMIN);
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 3000\r\n"));
	rep = call(t, "POST", "/send_email/", TO("bob@b"), AS_ADMIN);
	assert_status(&rep, 202);
	/* Erasing does not open the hour anew. */
	rep = call(t, "DELETE", "/send_email/?to=ann@b", NULL, AS_SERVICE);
	assert_status(&rep, 204);
	advance(t, 50 * CLOCK_MINUTE - 1);
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 1\r\n"));
	advance(t, 1);
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_status(&rep, 202);
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_problem(&rep, 429, NULL);
}

/* Anybody can have welcomes sent, by registering; a receipt finds room still. */
static void
test_message__half_an_hour_s_are_kept_for_what_cannot_wait(void **state)
{
	static const struct {
		const char *body;
		int status;
	} cases[] = {
		{ TO("ann@b"), 202 },
		{ TO("bob@b"), 202 },
		{ WELCOME("ann@b"), 202 }, /* their half is not taken by others */
		{ WELCOME("bob@b"), 202 },
		{ WELCOME("cem@b"), 202 },
		{ WELCOME("eve@b"), 429 },
		{ TO("cem@b"), 202 },
		{ TO("eve@b"), 429 },
	};
	struct t *t = *state;

	email_settings.per_hour = 6;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", "/send_email/", cases[i].body, AS_ADMIN);

		assert_status(&rep, cases[i].status);
	}
}

static void
test_message__an_hour_takes_so_many(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	email_settings.per_hour = 2;
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_status(&rep, 202);
	rep = call(t, "POST", "/send_email/", TO("bob@b"), AS_ADMIN);
	assert_status(&rep, 202);
	rep = call(t, "POST", "/send_email/", TO("cem@b"), AS_ADMIN);
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 3600\r\n"));
	assert_string_equal(
	    text_at(&rep, "type"), "urn:coster:problem:mail-cap");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 2);
	advance(t, CLOCK_HOUR);
	rep = call(t, "POST", "/send_email/", TO("cem@b"), AS_ADMIN);
	assert_status(&rep, 202);
}

static void
test_message__a_user_who_is_not_looked_up_has_the_cap_too(void **state)
{
	static const char body[]
	    = "{\"user_id\":7,\"subject\":\"a\",\"text\":\"b\"}";
	struct t *t = *state;
	struct reply_seen rep;

	email_settings.per_recipient = 1;
	peer(t, "GET /user/7", 0, NULL);
	rep = call(t, "POST", "/send_email/", body, AS_SERVICE);
	assert_status(&rep, 202);
	peer(t, "GET /user/7", 0, NULL);
	rep = call(t, "POST", "/send_email/", body, AS_SERVICE);
	assert_problem(&rep, 429, NULL);
}

static void
test_message__the_same_key_is_one_mail(void **state)
{
	struct call c = { "POST", "/send_email/", MAIL, AS_SERVICE, { NULL } };
	struct t *t = *state;
	struct reply_seen first, second;

	c.param[PARAM_IDEMPOTENCY_KEY] = "k1";
	peer(t, "GET /user/*", 200, FOUND);
	first = call_with(t, &c);
	assert_status(&first, 202);
	second = call_with(t, &c); /* and user is not asked again */
	assert_status(&second, 202);
	assert_string_equal(first.body, second.body);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 1);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail_count"), 1);
	c.body = TO("bob@b");
	second = call_with(t, &c);
	assert_problem(&second, 422, NULL);
}

/* Five mails: 1 to 5, of which 2 is sent, 3 and 5 are to bob. */
static void
fill_queue(struct t *t)
{
	for (int i = 1; i <= 5; i++) {
		struct reply_seen rep = call(t, "POST", "/send_email/",
		    i == 3 || i == 5 ? TO("Bob@b.example") : TO("ann@b.example"),
		    AS_ADMIN);

		assert_status(&rep, 202);
	}
	assert_int_equal(sql_int(t,
	    "UPDATE mail SET status = 'sent' WHERE id = 2 RETURNING id"), 2);
}

static void
test_message__lists_are_filtered_and_paged(void **state)
{
	static const struct {
		const char *query;
		int64_t first, count;
	} cases[] = {
		{ "", 1, 5 },
		{ "?limit=2", 1, 2 },
		{ "?status=sent", 2, 1 },
		{ "?status=queued", 1, 4 },
		{ "?status=failed", INT_NONE, 0 },
		{ "?to=bob@B.example", 3, 2 },
		{ "?to=bob%40b.example&status=queued", 3, 2 },
		{ "?to=bob@b.example&status=sent", INT_NONE, 0 },
		{ "?to=eve@b.example", INT_NONE, 0 },
	};
	struct t *t = *state;
	struct reply_seen rep;

	fill_queue(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char path[100];

		snprintf(path, sizeof(path), "/send_email/%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_SERVICE);
		assert_status(&rep, 200);
		assert_int_equal(
		    json_object_array_length(member(&rep, "items")),
		    cases[i].count);
		assert_int_equal(int_at(&rep, "items/0/id"), cases[i].first);
	}
	rep = call(t, "GET", "/send_email/?to=bob@b.example&limit=1", NULL,
	    AS_ADMIN);
	assert_int_equal(int_at(&rep, "items/0/id"), 3);
	rep = call(t, "GET",
	    arena_printf(&worker(t)->arena,
		"/send_email/?to=bob@b.example&limit=1&cursor=%s",
		text_at(&rep, "next_cursor")),
	    NULL, AS_ADMIN);
	assert_int_equal(int_at(&rep, "items/0/id"), 5);
	assert_null(text_at(&rep, "next_cursor"));
}

static void
test_message__bad_queries_are_refused(void **state)
{
	static const struct {
		const char *method, *path, *pointer;
	} cases[] = {
		{ "GET", "/send_email/?status=lost", "?status" },
		{ "GET", "/send_email/?to=bob", "?to" },
		{ "GET", "/send_email/?limit=0", "?limit" },
		{ "GET", "/send_email/?cursor=x", "?cursor" },
		{ "GET", "/send_email/?sort=id", "?sort" },
		{ "DELETE", "/send_email/", "?to" },
		{ "DELETE", "/send_email/?to=bob", "?to" },
		{ "DELETE", "/send_email/?to=a@b&all=1", "?all" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, cases[i].method, cases[i].path, NULL, AS_SERVICE);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static void
test_message__erasure_forgets_the_person(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_queue(t);
	rep = call(
	    t, "DELETE", "/send_email/?to=ANN%40b.example", NULL, AS_SERVICE);
	assert_status(&rep, 204);
	/* What was queued is not sent; what was sent is a bare record. */
	rep = call(t, "GET", "/send_email/1", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "failed");
	assert_string_equal(text_at(&rep, "last_error"), "erased");
	assert_null(text_at(&rep, "to"));
	assert_null(text_at(&rep, "subject"));
	assert_non_null(strstr(rep.fields, "ETag: \"2\"\r\n"));
	rep = call(t, "GET", "/send_email/2", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "sent");
	assert_null(text_at(&rep, "to"));
	assert_null(text_at(&rep, "last_error"));
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM mail WHERE text IS NULL"), 3);
	rep = call(t, "GET", "/send_email/3", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "queued");
	assert_string_equal(text_at(&rep, "to"), "Bob@b.example");
	/* Of what is newer, somebody else is the recipient. */
	rep = call(t, "DELETE", "/send_email/?to=Bob@b.example",
	    "{\"before\":\"2027-01-15T08:00:00.000Z\"}", AS_SERVICE);
	assert_status(&rep, 204);
	rep = call(t, "GET", "/send_email/3", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "status"), "queued");
	rep = call(t, "DELETE", "/send_email/?to=Bob@b.example",
	    "{\"before\":\"2027-01-15T08:00:00.001Z\"}", AS_SERVICE);
	assert_status(&rep, 204);
	rep = call(t, "GET", "/send_email/3", NULL, AS_ADMIN);
	assert_string_equal(text_at(&rep, "last_error"), "erased");
	rep = call(t, "DELETE", "/send_email/?to=eve@b",
	    "{\"before\":\"soon\"}", AS_SERVICE);
	assert_problem(&rep, 422, "#/before");
	/* Nobody is there to forget: the same. */
	rep = call(t, "DELETE", "/send_email/?to=eve@b", NULL, AS_SERVICE);
	assert_status(&rep, 204);
}

static void
test_message__old_ones_go_but_no_id_comes_back(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	fill_queue(t); /* 1, 3, 4, 5 queued, 2 sent */
	sql_int(t, "UPDATE mail SET status = 'failed' WHERE id IN (4, 5)");
	advance(t, 90 * CLOCK_DAY);
	assert_int_equal(run_job(t, "prune mail"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 5);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail_count"), 0);
	advance(t, 1);
	assert_int_equal(run_job(t, "prune mail"), 0);
	assert_int_equal(run_job(t, "prune mail"), CLOCK_HOUR);
	/* The queued ones and the newest are left. */
	assert_int_equal(sql_int(t,
	    "SELECT count(*) FROM mail WHERE id IN (1, 3, 5)"), 3);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail"), 3);
	rep = call(t, "POST", "/send_email/", TO("ann@b"), AS_ADMIN);
	assert_int_equal(int_at(&rep, "id"), 6);
}

static void
test_message__step_4_keeps_what_there_is(void **state)
{
	static const char *const kept[]
	    = { "SELECT * FROM mail ORDER BY id", NULL };
	struct t *t = *state;
	struct db db;

	assert_kept(t, 4,
	    "INSERT INTO mail VALUES"
	    " (4, 'k', 7, 'a@b.example', 1, 's', 't', 'h', 'queued', 2, 3,"
	    "  'busy', 5, NULL, 6),"
	    " (9, 'l', NULL, NULL, 0, NULL, NULL, NULL, 'failed', 1, 2, NULL,"
	    "  3, NULL, 4),"
	    " (2, 'm', NULL, 'c@d.example', 1, 's', NULL, NULL, 'sent', 1, 2,"
	    "  NULL, 3, 4, 5)",
	    kept, &db);
	assert_refused(&db, SQLITE_CONSTRAINT_CHECK,
	    "UPDATE mail SET status = 'open'");
	db_close(&db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_message__is_accepted_with_its_location),
		TEST(test_message__address_must_be_of_a_user),
		TEST(test_message__waits_while_user_cannot_be_reached),
		TEST(test_message__user_id_stands_for_the_address),
		TEST(test_message__bad_bodies_are_refused),
		TEST(test_message__templates_are_filled_in),
		TEST(test_message__bad_variables_are_refused),
		TEST(test_message__only_services_and_administrators),
		TEST(test_message__a_recipient_gets_so_many_an_hour),
		TEST(test_message__half_an_hour_s_are_kept_for_what_cannot_wait),
		TEST(test_message__an_hour_takes_so_many),
		TEST(test_message__a_user_who_is_not_looked_up_has_the_cap_too),
		TEST(test_message__the_same_key_is_one_mail),
		TEST(test_message__lists_are_filtered_and_paged),
		TEST(test_message__bad_queries_are_refused),
		TEST(test_message__erasure_forgets_the_person),
		TEST(test_message__old_ones_go_but_no_id_comes_back),
		TEST(test_message__step_4_keeps_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
