#include "tests/loopback.h"

/* Six entries: two at one time, one out of order; ids 1 to 6. */
#define SIX                                                                    \
	"[{\"action\":\"view\",\"user_id\":1,\"at\":\"2027-01-10T00:00:00Z\"}," \
	"{\"action\":\"buy\",\"user_id\":2,\"at\":\"2027-01-12T00:00:00Z\"},"  \
	"{\"action\":\"view\",\"user_id\":2,\"at\":\"2027-01-11T00:00:00Z\"}," \
	"{\"action\":\"view\",\"at\":\"2027-01-12T00:00:00Z\"},"               \
	"{\"action\":\"buy\",\"user_id\":1,\"at\":\"2027-01-13T00:00:00Z\"},"  \
	"{\"action\":\"view\",\"user_id\":1,\"at\":\"2027-01-14T00:00:00Z\"}]"

static void
post_six(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/log", SIX, AS_SERVICE);

	assert_status(&rep, 201);
}

/* The ids of a list's items, "1 3 2"; added to what is there. */
static void
add_ids(const struct reply_seen *rep, char *out, size_t size)
{
	struct json_object *items = member(rep, "items");

	assert_non_null(items);
	for (size_t i = 0; i < json_object_array_length(items); i++) {
		struct json_object *id = json_object_object_get(
		    json_object_array_get_idx(items, i), "id");
		size_t len = strlen(out);

		snprintf(out + len, size - len, "%s%d", len > 0 ? " " : "",
		    json_object_get_int(id));
	}
}

static void
test_list__filters_and_orders(void **state)
{
	static const struct {
		const char *query, *ids;
	} cases[] = {
		{ "", "1 3 2 4 5 6" },
		{ "?user_id=1", "1 5 6" },
		{ "?user_id=9", "" },
		{ "?action=view", "1 3 4 6" },
		{ "?user_id=1&action=view", "1 6" },
		{ "?from=2027-01-12", "2 4 5 6" },
		{ "?from=2027-01-12T00:00:00.001Z", "5 6" },
		{ "?to=2027-01-12", "1 3" },
		{ "?from=2027-01-11&to=2027-01-13", "3 2 4" },
		{ "?from=2027-01-11&to=2027-01-14&user_id=2", "3 2" },
		{ "?from=2027-01-12&action=buy", "2 5" },
		{ "?from=2027-01-12&to=2027-01-12", "" },
		{ "?from=1900-01-01&to=9999-12-31&limit=2", "1 3" },
	};
	struct t *t = *state;
	char path[100];

	post_six(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;
		char ids[100] = "";

		snprintf(path, sizeof(path), "/log%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_INTERNAL);
		assert_status(&rep, 200);
		add_ids(&rep, ids, sizeof(ids));
		assert_string_equal(ids, cases[i].ids);
	}
}

static void
test_list__pages_join_without_gap(void **state)
{
	static const struct {
		const char *query, *ids;
	} cases[] = {
		{ "limit=1", "1 3 2 4 5 6" },
		{ "limit=4", "1 3 2 4 5 6" },
		{ "limit=2&action=view", "1 3 4 6" },
		{ "limit=1&user_id=1&from=2027-01-11", "5 6" },
	};
	struct t *t = *state;
	char path[300];

	post_six(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *cursor = NULL;
		char ids[100] = "";
		int pages = 0;

		do {
			struct reply_seen rep;

			snprintf(path, sizeof(path), "/log?%s%s%s",
			    cases[i].query, cursor != NULL ? "&cursor=" : "",
			    cursor != NULL ? cursor : "");
			rep = call(t, "GET", path, NULL, AS_ADMIN);
			assert_status(&rep, 200);
			add_ids(&rep, ids, sizeof(ids));
			cursor = text_at(&rep, "next_cursor");
			assert_true((cursor == NULL)
			    == (strstr(rep.fields, "Link: <") == NULL));
		} while (cursor != NULL && ++pages < 10);
		assert_string_equal(ids, cases[i].ids);
	}
}

static void
test_list__a_cursor_does_not_lead_out_of_the_period(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	char path[300], ids[100] = "";

	post_six(t);
	rep = call(t, "GET", "/log?limit=1", NULL, AS_ADMIN);
	snprintf(path, sizeof(path), "/log?from=2027-01-12&to=2027-01-13&cursor=%s",
	    text_at(&rep, "next_cursor"));
	rep = call(t, "GET", path, NULL, AS_ADMIN);
	assert_status(&rep, 200);
	add_ids(&rep, ids, sizeof(ids));
	assert_string_equal(ids, "2 4");
}

static void
test_list__bad_queries_are_refused(void **state)
{
	static const struct {
		const char *query, *pointer;
	} cases[] = {
		{ "from=yesterday", "?from" },
		{ "to=2027-13-01", "?to" },
		{ "user_id=0", "?user_id" },
		{ "user_id=me", "?user_id" },
		{ "action=A", "?action" },
		{ "action=", "?action" },
		{ "limit=0", "?limit" },
		{ "limit=201", "?limit" },
		{ "sort=at", "?sort" },
		{ "from=2027-01-01&from=2027-01-02", "?from" },
		{ "cursor=x", "?cursor" },
		{ "cursor=aWQ6MTo", "?cursor" },	/* id:1: */
		{ "cursor=YXQ6MTphYmM", "?cursor" },	/* at:1:abc */
		{ "cursor=YXQ6MTo", "?cursor" },	/* at:1: */
	};
	struct t *t = *state;
	char path[100];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/log?%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_ADMIN);
		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static void
test_list__only_readers_read(void **state)
{
	static const struct {
		struct as who;
		int status;
	} cases[] = {
		{ { ROLE_NOBODY, 0, false }, 401 },
		{ { ROLE_CUSTOMER, 1, false }, 403 },
		{ { ROLE_NOBODY, 0, true }, 200 },
		{ { ROLE_SERVICE, 0, false }, 200 },
		{ { ROLE_ADMIN, 9, false }, 200 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "GET", "/log?user_id=1", NULL, cases[i].who);

		assert_status(&rep, cases[i].status);
	}
}

static struct reply_seen
get_as(struct t *t, const char *path, const char *accept)
{
	return call_with(t,
	    &(struct call) { "GET", path, NULL, AS_ADMIN,
		{ [PARAM_ACCEPT] = accept } });
}

static void
test_list__accept_chooses_the_type(void **state)
{
	static const struct {
		const char *accept, *type;
	} cases[] = {
		{ "", "application/json" },
		{ "*/*", "application/json" },
		{ "application/*", "application/json" },
		{ "application/json", "application/json" },
		{ "text/html, */*;q=0.8", "application/json" },
		{ "application/x-ndjson", "application/x-ndjson" },
		{ "application/x-ndjson, application/json;q=0.5",
		    "application/x-ndjson" },
		{ "application/json;q=0, */*", "application/x-ndjson" },
		{ "text/csv", "text/csv; charset=utf-8" },
		{ "Text/CSV;header=present", "text/csv; charset=utf-8" },
		{ "text/*", "text/csv; charset=utf-8" },
		{ "text/*;q=0.9,application/json; q=0.8",
		    "text/csv; charset=utf-8" },
		{ "text/csv;q=0.1, application/json;q=0.2", "application/json" },
		{ "text/html", NULL },
		{ "text/csv;q=0", NULL },
		{ "application/jsonp", NULL },
		{ "*/*;q=0.0", NULL },
	};
	struct t *t = *state;
	char field[100];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = get_as(t, "/log", cases[i].accept);

		if (cases[i].type == NULL) {
			assert_problem(&rep, 406, NULL);
			continue;
		}
		assert_status(&rep, 200);
		snprintf(field, sizeof(field), "Content-Type: %s\r\n",
		    cases[i].type);
		if (strstr(rep.fields, field) == NULL)
			fail_msg("Accept: %s gives %s", cases[i].accept,
			    rep.fields);
	}
}

static void
test_list__csv_is_text_for_spreadsheets(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/log",
	    "[{\"action\":\"plain\",\"user_id\":7},"
	    "{\"action\":\"-1\",\"data\":{\"a\":\"x\",\"b\":\"\\\"\\n\"}}]",
	    AS_SERVICE);

	assert_status(&rep, 201);
	rep = get_as(t, "/log", "text/csv");
	assert_status(&rep, 200);
	assert_string_equal(rep.body,
	    "id,at,user_id,action,data\r\n"
	    "1,2027-01-15T08:00:00.000Z,7,plain,{}\r\n"
	    "2,2027-01-15T08:00:00.000Z,,'-1,"
	    "\"{\"\"a\"\":\"\"x\"\",\"\"b\"\":\"\"\\\"\"\\n\"\"}\"\r\n");
}

static void
test_list__streams_obey_the_query(void **state)
{
	static const struct {
		const char *path;
		int lines;
	} cases[] = {
		{ "/log", 6 },
		{ "/log?user_id=1", 3 },
		{ "/log?action=buy&from=2027-01-13", 1 },
		{ "/log?limit=2", 2 },
		{ "/log?to=2000-01-01", 0 },
	};
	struct t *t = *state;
	struct reply_seen rep;

	post_six(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int lines = 0;

		rep = get_as(t, cases[i].path, "application/x-ndjson");
		assert_status(&rep, 200);
		for (const char *p = rep.body; *p != '\0';
		     p = strchr(p, '\n') + 1) {
			assert_memory_equal(p, "{\"id\":", 6);
			lines++;
		}
		assert_int_equal(lines, cases[i].lines);
	}
	rep = get_as(t, "/log?x=1", "text/csv");
	assert_problem(&rep, 422, "?x");
}

/* More than one piece of a streamed reply holds. */
static void
fill_with(struct t *t, int rows)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
	    "INSERT INTO entry (at, action, data)"
	    " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < %d) SELECT i, 'a', '{\"text\":\"%s\"}' FROM n",
	    rows, "twenty or so characters");
	sql_int(t, sql);
}

static void
test_list__long_streams_are_whole(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	int n = 0;

	fill_with(t, 3000);
	rep = get_as(t, "/log", "application/x-ndjson");
	assert_status(&rep, 200);
	assert_null(strstr(rep.fields, "Content-Length"));
	for (const char *p = rep.body; *p != '\0'; p = strchr(p, '\n') + 1) {
		char want[30];

		snprintf(want, sizeof(want), "{\"id\":%d,\"at\":", ++n);
		assert_memory_equal(p, want, strlen(want));
	}
	assert_int_equal(n, 3000);
	rep = call_with(t,
	    &(struct call) { "HEAD", "/log", NULL, AS_ADMIN,
		{ [PARAM_ACCEPT] = "text/csv" } });
	assert_status(&rep, 200);
	assert_string_equal(rep.body, "");
}

static void
test_list__reads_along_an_index(void **state)
{
	struct t *t = *state;

	assert_int_equal(check_plans(t, "SELECT*FROM entry WHERE*LIMIT $1"), 3);
	assert_int_equal(check_plans(t, "UPDATE entry*"), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_list__filters_and_orders),
		TEST(test_list__pages_join_without_gap),
		TEST(test_list__a_cursor_does_not_lead_out_of_the_period),
		TEST(test_list__bad_queries_are_refused),
		TEST(test_list__only_readers_read),
		TEST(test_list__accept_chooses_the_type),
		TEST(test_list__csv_is_text_for_spreadsheets),
		TEST(test_list__streams_obey_the_query),
		TEST(test_list__long_streams_are_whole),
		TEST(test_list__reads_along_an_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
