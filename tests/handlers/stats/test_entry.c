#include "tests/loopback.h"

#include "shared/clock.h"

#define BATCH_MAX 1000
#define DATA_MAX 8192
#define READ_AT_ONCE 20 /* as handlers/user/export.c does */

static void
test_entry__is_created_with_its_location(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/log",
	    "{\"action\":\"product.viewed\",\"data\":{\"product_id\":7,"
	    "\"price\":4.50,\"path\":\"/a\"}}",
	    AS_NOBODY);

	assert_status(&rep, 201);
	assert_string_equal(rep.body,
	    "{\"id\":1,\"at\":\"2027-01-15T08:00:00.000Z\",\"user_id\":null,"
	    "\"action\":\"product.viewed\",\"data\":{\"product_id\":7,"
	    "\"price\":4.50,\"path\":\"/a\"}}");
	assert_non_null(strstr(rep.fields, "Location: /log/1\r\n"));
	rep = call(t, "GET", "/log/1", NULL, AS_SERVICE);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "data/product_id"), 7);
	assert_string_equal(text_at(&rep, "action"), "product.viewed");
	assert_null(member(&rep, "user_id"));
	rep = call(t, "GET", "/log/2", NULL, AS_SERVICE);
	assert_problem(&rep, 404, NULL);
}

static void
test_entry__has_defaults(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/log/", "{\"action\":\"a\"}", AS_USER(5));

	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "user_id"), 5);
	assert_string_equal(text_at(&rep, "at"), "2027-01-15T08:00:00.000Z");
	assert_int_equal(json_object_object_length(member(&rep, "data")), 0);
}

static void
test_entry__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "{}", 422, "#/action" },
		{ "{\"action\":\"\"}", 422, "#/action" },
		{ "{\"action\":\"Paid\"}", 422, "#/action" },
		{ "{\"action\":\"a b\"}", 422, "#/action" },
		{ "{\"action\":7}", 422, "#/action" },
		{ "{\"action\":\"a\",\"id\":1}", 422, "#/id" },
		{ "{\"action\":\"a\",\"ip\":\"::1\"}", 422, "#/ip" },
		{ "{\"action\":\"a\",\"user_id\":0}", 422, "#/user_id" },
		{ "{\"action\":\"a\",\"user_id\":\"1\"}", 422, "#/user_id" },
		{ "{\"action\":\"a\",\"user_id\":null}", 422, "#/user_id" },
		{ "{\"action\":\"a\",\"data\":[]}", 422, "#/data" },
		{ "{\"action\":\"a\",\"data\":\"{}\"}", 422, "#/data" },
		{ "{\"action\":\"a\",\"at\":1}", 422, "#/at" },
		{ "{\"action\":\"a\",\"at\":\"yesterday\"}", 422, "#/at" },
		{ "{\"action\":\"a\",\"at\":\"2027-01-16T08:00:00.001Z\"}", 422,
		    "#/at" },
		{ "{\"action\":\"a\",\"at\":\"1969-12-31T23:59:59.999Z\"}", 422,
		    "#/at" },
		{ "7", 422, "#" },
		{ "null", 422, "#" },
		{ "[]", 422, "#" },
		{ "[{\"action\":\"a\"},7]", 422, "#/1" },
		{ "[[]]", 422, "#/0" },
		{ "[{\"action\":\"a\"},{\"action\":\"B\"}]", 422, "#/1/action" },
		{ "[{\"action\":\"a\"},{}]", 422, "#/1/action" },
		{ "[{\"action\":\"a\",\"x~\":1}]", 422, "#/0/x~0" },
		{ "[{\"action\":\"a\",\"at\":\"2030-01-01\"}]", 422, "#/0/at" },
		{ "[{\"action\":\"a\",\"data\":1}]", 422, "#/0/data" },
		{ "{", 400, NULL },
		{ "", 400, NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/log", cases[i].body, AS_SERVICE);

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"), 0);
}

static void
test_entry__times_are_taken_to_their_bounds(void **state)
{
	static const char *const times[] = {
		"1970-01-01T00:00:00.000Z",
		"2027-01-15T08:00:00.000Z",
		"2027-01-16T08:00:00.000Z",
	};
	struct t *t = *state;
	char body[100];

	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		struct reply_seen rep;

		snprintf(body, sizeof(body), "{\"action\":\"a\",\"at\":\"%s\"}",
		    times[i]);
		rep = call(t, "POST", "/log", body, AS_NOBODY);
		assert_status(&rep, 201);
		assert_string_equal(text_at(&rep, "at"), times[i]);
	}
}

static void
test_entry__who_may_name_whom(void **state)
{
	static const struct {
		struct as who;
		int64_t named; /* 0: nobody */
		int status;
		int64_t user_id;
	} cases[] = {
		{ { ROLE_NOBODY, 0, false }, 0, 201, INT_NONE },
		{ { ROLE_NOBODY, 0, false }, 7, 422, 0 },
		{ { ROLE_NOBODY, 0, true }, 0, 201, INT_NONE },
		{ { ROLE_NOBODY, 0, true }, 7, 201, 7 },
		{ { ROLE_SERVICE, 0, false }, 0, 201, INT_NONE },
		{ { ROLE_SERVICE, 0, false }, 7, 201, 7 },
		{ { ROLE_CUSTOMER, 7, false }, 0, 201, 7 },
		{ { ROLE_CUSTOMER, 7, false }, 7, 201, 7 },
		{ { ROLE_CUSTOMER, 7, false }, 8, 422, 0 },
		{ { ROLE_CUSTOMER, 7, true }, 8, 422, 0 },
		{ { ROLE_ADMIN, 9, false }, 0, 201, 9 },
		{ { ROLE_ADMIN, 9, false }, 8, 201, 8 },
	};
	static const struct {
		const char *before, *after, *pointer;
	} forms[] = { { "", "", "#/user_id" },
		{ "[{\"action\":\"b\"},", "]", "#/1/user_id" } };
	struct t *t = *state;
	char body[100], named[40];

	for (size_t i = 0; i < ARRAY_LEN(cases) * ARRAY_LEN(forms); i++) {
		size_t c = i / ARRAY_LEN(forms), f = i % ARRAY_LEN(forms);
		struct reply_seen rep;

		snprintf(named, sizeof(named), ",\"user_id\":%d",
		    (int)cases[c].named);
		snprintf(body, sizeof(body), "%s{\"action\":\"a\"%s}%s",
		    forms[f].before, cases[c].named != 0 ? named : "",
		    forms[f].after);
		rep = call(t, "POST", "/log", body, cases[c].who);
		if (cases[c].status == 201) {
			assert_status(&rep, 201);
			assert_int_equal(
			    sql_int(t,
				"SELECT user_id FROM entry ORDER BY id DESC"),
			    cases[c].user_id);
		} else {
			assert_problem(&rep, 422, forms[f].pointer);
		}
	}
}

static struct reply_seen
post_data_of(struct t *t, size_t size)
{
	char body[DATA_MAX + 100], *p = body;

	p += snprintf(p, 50, "{\"action\":\"a\",\"data\":{\"k\":\"");
	memset(p, 'x', size - strlen("{\"k\":\"\"}"));
	p += size - strlen("{\"k\":\"\"}");
	snprintf(p, 10, "\"}}");
	return call(t, "POST", "/log", body, AS_NOBODY);
}

static void
test_entry__data_is_8_kib_at_most(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post_data_of(t, DATA_MAX);

	assert_status(&rep, 201);
	assert_int_equal(sql_int(t, "SELECT length(data) FROM entry"), DATA_MAX);
	rep = post_data_of(t, DATA_MAX + 1);
	assert_problem(&rep, 422, "#/data");
}

/* Data of so many objects inside each other, and beside the innermost a list of
 * so many pieces. */
static const char *
data_with(struct arena *a, int depth, const char *piece, int times)
{
	struct buf b;

	buf_init(&b, a);
	for (int i = 1; i < depth; i++)
		buf_adds(&b, "{\"a\":");
	buf_adds(&b, "{");
	for (int i = 0; i < times; i++)
		buf_addf(&b, "%s%s", i == 0 ? "\"l\":[" : ",", piece);
	buf_adds(&b, times > 0 ? "]}" : "}");
	for (int i = 1; i < depth; i++)
		buf_adds(&b, "}");
	return b.data;
}

/* So many entries of it and a good one before them, as a list. */
static const char *
batch_with(struct arena *a, const char *data, int times)
{
	struct buf b;

	buf_init(&b, a);
	buf_adds(&b, "[{\"action\":\"first\"}");
	for (int i = 0; i < times; i++)
		buf_addf(&b, ",{\"action\":\"a\",\"user_id\":7,\"data\":%s}",
		    data);
	buf_adds(&b, "]");
	return b.data;
}

/* What is taken can be read by the page: call() fails for a reply that is not
 * JSON as other services take it. */
static void
test_entry__data_fits_what_a_service_reads(void **state)
{
	static const struct {
		int depth;
		const char *piece;
		int times;
		bool taken;
	} cases[] = {
		{ 13, "", 0, true },
		{ 14, "", 0, false },
		{ 12, "1", 1, true },
		{ 13, "1", 1, false },
		{ 1, "{}", 201, true },
		{ 1, "{}", 202, false },
		{ 1, "1", 3269, true },
		{ 1, "1", 3270, false },
	};
	struct t *t = *state;
	struct reply_seen rep;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *data = data_with(test_arena(t), cases[i].depth,
		    cases[i].piece, cases[i].times);

		rep = call(t, "POST", "/log",
		    arena_printf(test_arena(t),
			"{\"action\":\"a\",\"data\":%s}", data),
		    AS_NOBODY);
		if (!cases[i].taken) {
			assert_problem(&rep, 422, "#/data");
			rep = call(t, "POST", "/log",
			    batch_with(test_arena(t), data, 1), AS_SERVICE);
			assert_problem(&rep, 422, "#/1/data");
			continue;
		}
		assert_status(&rep, 201);
		sql_int(t, "DELETE FROM entry");
		rep = call(t, "POST", "/log",
		    batch_with(test_arena(t), data, READ_AT_ONCE), AS_SERVICE);
		assert_status(&rep, 201);
		rep = call(t, "GET", "/log?limit=20&user_id=7", NULL,
		    AS_SERVICE);
		assert_status(&rep, 200);
		assert_int_equal(
		    json_object_array_length(member(&rep, "items")),
		    READ_AT_ONCE);
	}
}

/* It was stored when more was taken. */
static void
test_entry__data_of_before_can_be_read(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(
	    t, "POST", "/log", "{\"action\":\"a\"}", AS_NOBODY);

	assert_status(&rep, 201);
	sql_int(t,
	    arena_printf(test_arena(t), "UPDATE entry SET data = '%s'",
		data_with(test_arena(t), 14, "", 0)));
	rep = call(t, "GET", "/log/1", NULL, AS_SERVICE);
	assert_status(&rep, 200);
	assert_non_null(member(&rep, "data/a/a/a/a/a/a/a/a/a/a/a/a/a"));
}

static char *
batch_of(struct arena *a, int n)
{
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '[');
	for (int i = 0; i < n; i++) {
		json_open(&b, NULL, '{');
		json_text(&b, "action", "a");
		json_int(&b, "user_id", i + 1);
		json_open(&b, "data", '{');
		json_close(&b, '}');
		json_close(&b, '}');
	}
	json_close(&b, ']');
	return b.data;
}

static void
test_entry__many_are_taken_at_once(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/log", "{\"action\":\"first\"}", AS_NOBODY);
	struct arena a;

	arena_init(&a);
	rep = call(t, "POST", "/log", batch_of(&a, BATCH_MAX), AS_SERVICE);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "count"), BATCH_MAX);
	assert_int_equal(int_at(&rep, "first_id"), 2);
	assert_int_equal(int_at(&rep, "last_id"), BATCH_MAX + 1);
	assert_non_null(strstr(rep.fields, "Location: /log/2\r\n"));
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM entry WHERE user_id = id - 1"),
	    BATCH_MAX);
	rep = call(t, "POST", "/log", batch_of(&a, BATCH_MAX + 1), AS_SERVICE);
	assert_problem(&rep, 422, "#");
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM entry"), BATCH_MAX + 1);
	arena_release(&a);
}

static void
test_entry__a_key_makes_it_once(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/log", "{\"action\":\"a\"}", AS_SERVICE,
		{ [PARAM_IDEMPOTENCY_KEY] = "k" } };
	struct reply_seen rep = call_with(t, &c);

	assert_status(&rep, 201);
	rep = call_with(t, &c);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 1);
	assert_non_null(strstr(rep.fields, "Idempotent-Replayed: true\r\n"));
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"), 1);
	c.body = "{\"action\":\"b\"}";
	rep = call_with(t, &c);
	assert_problem(&rep, 422, NULL);
}

/* Anybody may be one, and the disk is all services'. */
static void
test_entry__a_stranger_sends_little_at_once(void **state)
{
	static const struct {
		struct as who;
		int status;
	} cases[] = {
		{ { ROLE_NOBODY, 0, false }, 413 },
		{ { ROLE_CUSTOMER, 7, false }, 413 },
		{ { ROLE_CUSTOMER, 7, true }, 413 },
		{ { ROLE_NOBODY, 0, true }, 201 },
		{ { ROLE_ADMIN, 9, false }, 201 },
		{ { ROLE_SERVICE, 0, false }, 201 },
	};
	struct t *t = *state;
	char body[16 * 1024 + 2];
	struct reply_seen rep;

	snprintf(body, sizeof(body), "%*s", 16 * 1024, "{\"action\":\"a\"}");
	rep = call(t, "POST", "/log", body, AS_NOBODY);
	assert_status(&rep, 201);
	snprintf(body, sizeof(body), "%*s", 16 * 1024 + 1, "{\"action\":\"a\"}");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = call(t, "POST", "/log", body, cases[i].who);
		assert_status(&rep, cases[i].status);
	}
}

/* By a token that is good yet, or a message that was late. */
static void
test_entry__who_is_forgotten_stays_so(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(
	    t, "DELETE", "/log?user_id=7", NULL, AS_SERVICE);

	assert_status(&rep, 204);
	rep = call(t, "POST", "/log",
	    "{\"action\":\"a\",\"data\":{\"email\":\"eve@a.org\"}}", AS_USER(7));
	assert_status(&rep, 201);
	rep = call(t, "POST", "/log",
	    "{\"action\":\"a\",\"user_id\":8,\"data\":{\"n\":1}}", AS_SERVICE);
	assert_status(&rep, 201);
	assert_int_not_equal(run_job(t, "prune entries"), CLOCK_HOUR);
	assert_int_equal(run_job(t, "prune entries"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"
				    " WHERE user_id IS NULL AND data = '{}'"),
	    1);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"
				    " WHERE user_id = 8 AND data <> '{}'"),
	    1);
	advance(t, 365 * CLOCK_DAY);
	while (run_job(t, "prune entries") < CLOCK_HOUR)
		;
	assert_int_equal(sql_int(t, "SELECT count(*) FROM forgotten"), 0);
}

static void
test_entry__only_readers_read_and_services_forget(void **state)
{
	static const struct {
		const char *method, *path;
		struct as who;
		int status;
	} cases[] = {
		{ "GET", "/log/1", { ROLE_NOBODY, 0, false }, 401 },
		{ "GET", "/log/1", { ROLE_CUSTOMER, 7, false }, 403 },
		{ "GET", "/log/1", { ROLE_NOBODY, 0, true }, 200 },
		{ "GET", "/log/1", { ROLE_SERVICE, 0, false }, 200 },
		{ "GET", "/log/1", { ROLE_ADMIN, 9, false }, 200 },
		{ "DELETE", "/log?user_id=7", { ROLE_NOBODY, 0, true }, 401 },
		{ "DELETE", "/log?user_id=7", { ROLE_CUSTOMER, 7, false }, 403 },
		{ "DELETE", "/log?user_id=7", { ROLE_ADMIN, 9, false }, 403 },
	};
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/log", "{\"action\":\"a\"}", AS_USER(7));

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = call(
		    t, cases[i].method, cases[i].path, NULL, cases[i].who);
		assert_status(&rep, cases[i].status);
	}
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM entry WHERE user_id = 7"), 1);
}

static void
test_entry__a_person_is_forgotten(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	struct arena a;

	arena_init(&a);
	/* More than one transaction takes. */
	for (int i = 0; i < 2; i++) {
		rep = call(t, "POST", "/log", batch_of(&a, 700), AS_SERVICE);
		assert_status(&rep, 201);
	}
	sql_int(t, "UPDATE entry SET user_id = 7, data = '{\"mail\":\"x\"}'"
		   " WHERE id <= 1200");
	rep = call(t, "DELETE", "/log?user_id=7", NULL, AS_SERVICE);
	assert_status(&rep, 204);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"
				    " WHERE user_id IS NULL AND data = '{}'"),
	    1200);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM entry WHERE user_id = id - 700"),
	    200);
	rep = call(t, "DELETE", "/log?user_id=7", NULL, AS_SERVICE);
	assert_status(&rep, 204);
	arena_release(&a);
}

static void
test_entry__nobody_is_forgotten_by_accident(void **state)
{
	static const struct {
		const char *path, *pointer;
	} cases[] = {
		{ "/log", "?user_id" },
		{ "/log?user_id=", "?user_id" },
		{ "/log?user_id=0", "?user_id" },
		{ "/log?user_id=7&action=a", "?action" },
	};
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "POST", "/log", "{\"action\":\"a\"}", AS_USER(7));

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = call(t, "DELETE", cases[i].path, NULL, AS_SERVICE);
		assert_problem(&rep, 422, cases[i].pointer);
	}
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM entry WHERE user_id = 7"), 1);
}

static int
setup_with_30_days(void **state)
{
	setenv("COSTER_LOG_KEEP_DAYS", "30", 1);
	return loopback_setup(state);
}

static int
teardown_with_30_days(void **state)
{
	unsetenv("COSTER_LOG_KEEP_DAYS");
	return loopback_teardown(state);
}

static void
test_entry__old_ones_are_pruned(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	struct arena a;

	arena_init(&a);
	rep = call(t, "POST", "/log", batch_of(&a, 600), AS_SERVICE);
	assert_status(&rep, 201);
	advance(t, 30 * CLOCK_DAY);
	rep = call(t, "POST", "/log", "{\"action\":\"young\"}", AS_SERVICE);
	assert_status(&rep, 201);
	assert_int_equal(run_job(t, "prune entries"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"), 601);
	advance(t, 1);
	for (int i = 0; i < 2; i++)
		assert_in_range(run_job(t, "prune entries"), 1, 1000);
	assert_int_equal(run_job(t, "prune entries"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"), 1);
	arena_release(&a);
}

static void
test_entry__ids_are_not_given_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/log",
	    "[{\"action\":\"a\"},{\"action\":\"b\",\"at\":\"2020-01-01\"}]",
	    AS_SERVICE);

	advance(t, 31 * CLOCK_DAY);
	while (run_job(t, "prune entries") < CLOCK_HOUR)
		;
	rep = call(t, "POST", "/log", "{\"action\":\"c\"}", AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 3);
}

static void
test_entry__all_are_kept_by_default(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/log",
	    "[{\"action\":\"a\",\"at\":\"1999-01-01\"},{\"action\":\"b\"}]",
	    AS_SERVICE);

	assert_status(&rep, 201);
	assert_int_equal(run_job(t, "prune entries"), CLOCK_HOUR);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM entry"), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_entry__is_created_with_its_location),
		TEST(test_entry__has_defaults),
		TEST(test_entry__bad_bodies_are_refused),
		TEST(test_entry__times_are_taken_to_their_bounds),
		TEST(test_entry__who_may_name_whom),
		TEST(test_entry__data_is_8_kib_at_most),
		TEST(test_entry__data_fits_what_a_service_reads),
		TEST(test_entry__data_of_before_can_be_read),
		TEST(test_entry__many_are_taken_at_once),
		TEST(test_entry__a_key_makes_it_once),
		TEST(test_entry__a_stranger_sends_little_at_once),
		TEST(test_entry__who_is_forgotten_stays_so),
		TEST(test_entry__only_readers_read_and_services_forget),
		TEST(test_entry__a_person_is_forgotten),
		TEST(test_entry__nobody_is_forgotten_by_accident),
		cmocka_unit_test_setup_teardown(test_entry__old_ones_are_pruned,
		    setup_with_30_days, teardown_with_30_days),
		cmocka_unit_test_setup_teardown(
		    test_entry__ids_are_not_given_again, setup_with_30_days,
		    teardown_with_30_days),
		TEST(test_entry__all_are_kept_by_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
