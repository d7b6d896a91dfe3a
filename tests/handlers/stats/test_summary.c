#include "tests/loopback.h"

static void
post(struct t *t, const char *action, const char *at)
{
	char body[100];
	struct reply_seen rep;

	snprintf(body, sizeof(body), "{\"action\":\"%s\",\"at\":\"%s\"}", action,
	    at);
	rep = call(t, "POST", "/log", body, AS_NOBODY);
	assert_status(&rep, 201);
}

static void
post_some(struct t *t)
{
	post(t, "view", "2027-01-15T07:59:59.999Z");
	post(t, "buy", "2027-01-14T23:59:59.999Z");
	post(t, "view", "2027-01-14T00:00:00.000Z");
	post(t, "view", "2027-01-14T00:59:59.999Z");
	post(t, "pay", "2027-01-01T12:30:00.000Z");
	post(t, "view", "2026-12-16T08:00:00.000Z");
	post(t, "old", "2026-12-16T07:59:59.999Z");
}

static void
test_summary__counts(void **state)
{
	static const struct {
		const char *query, *items;
	} cases[] = {
		{ "",
		    "{\"group\":\"2026-12-16T00:00:00.000Z\",\"count\":1},"
		    "{\"group\":\"2027-01-01T00:00:00.000Z\",\"count\":1},"
		    "{\"group\":\"2027-01-14T00:00:00.000Z\",\"count\":3},"
		    "{\"group\":\"2027-01-15T00:00:00.000Z\",\"count\":1}" },
		{ "?group_by=day&from=2027-01-14T00:30:00Z",
		    "{\"group\":\"2027-01-14T00:00:00.000Z\",\"count\":2},"
		    "{\"group\":\"2027-01-15T00:00:00.000Z\",\"count\":1}" },
		{ "?group_by=hour&from=2027-01-14&to=2027-01-14T23:59:59.999Z",
		    "{\"group\":\"2027-01-14T00:00:00.000Z\",\"count\":2}" },
		{ "?group_by=hour&from=2027-01-14&to=2027-01-15",
		    "{\"group\":\"2027-01-14T00:00:00.000Z\",\"count\":2},"
		    "{\"group\":\"2027-01-14T23:00:00.000Z\",\"count\":1}" },
		{ "?group_by=action",
		    "{\"group\":\"buy\",\"count\":1},"
		    "{\"group\":\"pay\",\"count\":1},"
		    "{\"group\":\"view\",\"count\":4}" },
		{ "?group_by=action&to=2026-12-16T08:00:00Z",
		    "{\"group\":\"old\",\"count\":1}" },
		{ "?from=2027-01-14&to=2027-01-14", "" },
		{ "?group_by=action&from=2000-01-01&to=2001-01-01", "" },
		{ "?from=0001-01-01&to=2026-12-16T08:00:00Z",
		    "{\"group\":\"2026-12-16T00:00:00.000Z\",\"count\":1}" },
	};
	struct t *t = *state;
	char path[100], want[300];

	post_some(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/log/summary%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_ADMIN);
		assert_status(&rep, 200);
		snprintf(want, sizeof(want), "{\"items\":[%s]}", cases[i].items);
		assert_string_equal(rep.body, want);
	}
}

static void
test_summary__of_nothing_is_empty(void **state)
{
	static const char *const groups[] = { "hour", "day", "action" };
	struct t *t = *state;
	char path[100];

	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/log/summary?group_by=%s",
		    groups[i]);
		rep = call(t, "GET", path, NULL, AS_SERVICE);
		assert_status(&rep, 200);
		assert_string_equal(rep.body, "{\"items\":[]}");
	}
}

static void
test_summary__bad_queries_are_refused(void **state)
{
	static const struct {
		const char *query;
		int status;
		const char *pointer;
	} cases[] = {
		{ "group_by=week", 422, "?group_by" },
		{ "group_by=", 422, "?group_by" },
		{ "from=now", 422, "?from" },
		{ "from=2027-01-02&to=2027-01-01", 422, "?to" },
		{ "from=2028-01-01", 422, "?to" },
		{ "user_id=1", 422, "?user_id" },
		{ "group_by=hour&from=2025-01-01&to=2026-02-05", 200, NULL },
		{ "group_by=hour&from=2025-01-01&to=2026-02-05T00:00:00.001Z",
		    422, "?from" },
		{ "group_by=day&from=2000-01-01", 200, NULL },
		{ "group_by=action&from=2000-01-01", 200, NULL },
	};
	struct t *t = *state;
	char path[100];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/log/summary?%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_INTERNAL);
		if (cases[i].status == 200)
			assert_status(&rep, 200);
		else
			assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
}

static void
test_summary__only_readers_read(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "GET", "/log/summary", NULL, AS_NOBODY);

	assert_problem(&rep, 401, NULL);
	rep = call(t, "GET", "/log/summary", NULL, AS_USER(1));
	assert_problem(&rep, 403, NULL);
}

static void
test_summary__of_many_actions_is_whole(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	struct json_object *items;

	sql_int(t,
	    "INSERT INTO entry (at, action, data)"
	    " WITH RECURSIVE n (i) AS (SELECT 10000 UNION ALL SELECT i + 1"
	    " FROM n WHERE i < 12999)"
	    " SELECT 1799999999999, 'action.' || i, '{}' FROM n");
	rep = call(t, "GET", "/log/summary?group_by=action", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	items = member(&rep, "items");
	assert_int_equal(json_object_array_length(items), 3000);
	assert_string_equal(text_at(&rep, "items/0/group"), "action.10000");
	assert_string_equal(text_at(&rep, "items/2999/group"), "action.12999");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_summary__counts),
		TEST(test_summary__of_nothing_is_empty),
		TEST(test_summary__bad_queries_are_refused),
		TEST(test_summary__only_readers_read),
		TEST(test_summary__of_many_actions_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
