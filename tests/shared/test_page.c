#include "shared/page.h"

#include "tests/loopback.h"

STMT(item_put, "INSERT INTO item (name) VALUES ($1)");
STMT(item_by_id, "SELECT id, name FROM item WHERE id > $1 ORDER BY id LIMIT $2");
STMT(item_by_name,
    "SELECT id, name FROM item WHERE (name, id) > ($1, $2)"
    " ORDER BY name, id LIMIT $3");

static handler_fn get_items, get_names;
static const struct field_table query_fields;

static const struct route routes[] = {
	{ "GET", "/items", get_items, ROUTE_ANYONE, .query = &query_fields },
	{ "GET", "/names", get_names, ROUTE_ANYONE, .query = &query_fields },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "-- step 1: items\n"
		  "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"
		  " STRICT;",
};

struct query {
	struct page page;
	const char *q;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page), FIELD(struct query, q));

static enum err
list(struct req *r, struct page *page, struct db_rows *q, bool by_name)
{
	struct buf *b = page_open(r);

	while (db_next(q)
	    && page_take(
		r, page, db_int(q, 0), by_name ? db_text(q, 1) : NULL)) {
		json_open(b, NULL, '{');
		json_int(b, "id", db_int(q, 0));
		json_text(b, "name", db_text(q, 1));
		json_close(b, '}');
	}
	page_close(r, page);
	return db_end(q);
}

static enum err
get_items(struct req *r)
{
	struct query in = { .page = PAGE_INIT };
	struct db_rows q;
	enum err err;

	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	q = db_query(r->db, &item_by_id,
	    DB_ARGS(DB_INT(in.page.after_id), DB_INT(in.page.limit + 1)));
	return list(r, &in.page, &q, false);
}

static enum err
get_names(struct req *r)
{
	struct query in = { .page = { .limit = 50, .order = "name" } };
	const char *key;
	struct db_rows q;
	enum err err;

	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	key = in.page.after_key != NULL ? in.page.after_key : "";
	q = db_query(r->db, &item_by_name,
	    DB_ARGS(DB_TEXT(key), DB_INT(in.page.after_id),
		DB_INT(in.page.limit + 1)));
	return list(r, &in.page, &q, true);
}

static void
put_items(struct t *t, const char *const *names, size_t count)
{
	struct db *db = &worker(t)->db;

	assert_int_equal(db_begin(db), OK);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(
		    db_exec(db, &item_put, DB_ARGS(DB_TEXT(names[i]))), OK);
	assert_int_equal(db_commit(db), OK);
}

static struct reply_seen
get(struct t *t, const char *path)
{
	struct reply_seen rep = call(t, "GET", path, NULL, AS_NOBODY);

	assert_status(&rep, 200);
	return rep;
}

static void
test_page__limits(void **state)
{
	static const struct {
		const char *query;
		int status;
		size_t items;
		bool more;
	} cases[] = {
		{ "", 200, 50, true },
		{ "?limit=1", 200, 1, true },
		{ "?limit=59", 200, 59, true },
		{ "?limit=60", 200, 60, false },
		{ "?limit=61", 200, 60, false },
		{ "?limit=200", 200, 60, false },
		{ "?limit=0", 422, 0, false },
		{ "?limit=201", 422, 0, false },
		{ "?limit=-1", 422, 0, false },
		{ "?limit=", 422, 0, false },
	};
	const char *names[60];
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		names[i] = "n";
	put_items(t, names, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char path[64];
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/items%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		if (cases[i].status == 422) {
			assert_problem(&rep, 422, "?limit");
			continue;
		}
		assert_status(&rep, 200);
		assert_int_equal(json_object_array_length(member(&rep, "items")),
		    cases[i].items);
		assert_int_equal(
		    text_at(&rep, "next_cursor") != NULL, cases[i].more);
		assert_int_equal(
		    strstr(rep.fields, "Link: ") != NULL, cases[i].more);
	}
}

static void
test_page__an_empty_list_is_one(void **state)
{
	struct reply_seen rep = get(*state, "/items");

	assert_string_equal(rep.body, "{\"items\":[],\"next_cursor\":null}");
	assert_null(strstr(rep.fields, "Link: "));
}

/* Whatever the rows are sorted by, each comes once and in its order. */
static void
test_page__walks_over_odd_keys(void **state)
{
	static const char *const names[] = { "b", "", "a:b", ":", "::1:", "a", "a",
		"a", "id:7:", "\xc3\xa9t\xc3\xa9", "\xf0\x9f\x8d\xb5",
		"\xe6\x97\xa5\xe6\x9c\xac", "z\"\\\n<>&?=%41+ ", "-", "a b" };
	struct t *t = *state;
	size_t seen = 0;
	const char *cursor = "", *last = "";
	int64_t last_id = 0;

	put_items(t, names, ARRAY_LEN(names));
	while (cursor != NULL) {
		char path[500];
		struct reply_seen rep;
		const char *name;
		int64_t id;

		snprintf(path, sizeof(path), "/names?limit=1%s%s",
		    *cursor != '\0' ? "&cursor=" : "", cursor);
		rep = get(t, path);
		name = text_at(&rep, "items/0/name");
		id = int_at(&rep, "items/0/id");
		assert_string_equal(name, names[id - 1]);
		assert_true(strcmp(name, last) > 0
		    || (strcmp(name, last) == 0 && id > last_id));
		last = name;
		last_id = id;
		seen++;
		assert_true(seen <= ARRAY_LEN(names));
		cursor = text_at(&rep, "next_cursor");
	}
	assert_int_equal(seen, ARRAY_LEN(names));
}

/* The path in <> of a Link field, for the next call. */
static bool
next_link(const struct reply_seen *rep, char *path, size_t size)
{
	const char *link = strstr(rep->fields, "Link: <"), *end;

	if (link == NULL)
		return false;
	link += strlen("Link: <");
	end = strchr(link, '>');
	assert_int_equal(strncmp(end, ">; rel=\"next\"\r\n", 15), 0);
	snprintf(path, size, "%.*s", (int)(end - link), link);
	return true;
}

static void
test_page__link_leads_to_the_next_page(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	struct t *t = *state;
	char path[500] = "/items?q=x%20%26&limit=2";
	struct reply_seen rep;
	int64_t id = 0;
	int pages = 0;

	put_items(t, names, ARRAY_LEN(names));
	do {
		rep = get(t, path);
		pages++;
		for (size_t i = 0;
		     i < json_object_array_length(member(&rep, "items")); i++)
			assert_int_equal(
			    json_object_get_int64(json_object_object_get(
				json_object_array_get_idx(
				    member(&rep, "items"), i),
				"id")),
			    ++id);
		if (strstr(rep.fields, "Link: ") != NULL)
			assert_non_null(strstr(
			    rep.fields, "</items?q=x%20%26&limit=2&cursor="));
	} while (next_link(&rep, path, sizeof(path)));
	assert_int_equal(id, 5);
	assert_int_equal(pages, 3);
}

static void
test_page__link_stays_a_uri(void **state)
{
	static const struct {
		const char *query, *want;
	} cases[] = {
		{ "limit=1", "</items?limit=1&cursor=" },
		{ "&limit=1&&", "</items?limit=1&cursor=" },
		{ "limit=1&q=a>;rel=\"x\"", "&q=a%3E;rel=%22x%22&cursor=" },
		{ "q=\xc3\xa9&limit=1", "</items?q=%C3%A9&limit=1&cursor=" },
		{ "limit=1&q={|}^`\\", "&q=%7B%7C%7D%5E%60%5C&cursor=" },
		{ "limit=1&q=a%3e/?:@!$'()*,", "&q=a%3e/?:@!$'()*,&cursor=" },
	};
	static const char *const names[] = { "a", "b", "c" };
	struct t *t = *state;

	put_items(t, names, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char path[500];
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/items?%s", cases[i].query);
		rep = get(t, path);
		if (strstr(rep.fields, cases[i].want) == NULL)
			fail_msg("%s: %s", cases[i].query, rep.fields);
		assert_true(next_link(&rep, path, sizeof(path)));
		rep = get(t, path);
		assert_int_equal(int_at(&rep, "items/0/id"), 2);
	}
}

static void
test_page__link_has_the_prefix(void **state)
{
	static const char *const names[] = { "a", "b" };
	struct call c = { .method = "GET", .path = "/items?limit=1" };
	struct reply_seen rep;

	put_items(*state, names, ARRAY_LEN(names));
	c.param[PARAM_SCRIPT_NAME] = "/shop";
	rep = call_with(*state, &c);
	assert_non_null(strstr(rep.fields, "Link: </shop/items?limit=1&cursor="));
}

static void
test_page__bad_cursors_are_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len; /* 0: strlen */
		int status;
	} cases[] = {
		{ "name:1:", 0, 200 },
		{ "name:0:x", 0, 200 },
		{ "name:1:a:b", 0, 200 },
		{ "", 0, 422 },
		{ "name", 0, 422 },
		{ "name:1", 0, 422 },
		{ "name:", 0, 422 },
		{ "name::x", 0, 422 },
		{ "name:x:", 0, 422 },
		{ "name:-1:", 0, 422 },
		{ "name:01:", 0, 422 },
		{ "name:9007199254740992:", 0, 422 },
		{ "name: 1:", 0, 422 },
		{ "id:1:", 0, 422 },
		{ "nam:1:", 0, 422 },
		{ "names:1:", 0, 422 },
		{ ":1:", 0, 422 },
		{ "name:1:\xff", 0, 422 },
		{ "name:1:\0x", 9, 422 },
	};
	static const char *const raw[] = { "*", "bmFtZToxOg==", "a", "%C3%A9" };
	struct t *t = *state;
	struct arena a;
	struct reply_seen rep;

	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len
		    = cases[i].len ? cases[i].len : strlen(cases[i].text);

		rep = call(t, "GET",
		    arena_printf(&a, "/names?cursor=%s",
			base64url_encode(&a, cases[i].text, len)),
		    NULL, AS_NOBODY);
		assert_status(&rep, cases[i].status);
		if (cases[i].status == 422)
			assert_problem(&rep, 422, "?cursor");
	}
	for (size_t i = 0; i < ARRAY_LEN(raw); i++) {
		rep = call(t, "GET", arena_printf(&a, "/names?cursor=%s", raw[i]),
		    NULL, AS_NOBODY);
		assert_problem(&rep, 422, "?cursor");
	}
	arena_release(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_page__limits),
		TEST(test_page__an_empty_list_is_one),
		TEST(test_page__walks_over_odd_keys),
		TEST(test_page__link_leads_to_the_next_page),
		TEST(test_page__link_stays_a_uri),
		TEST(test_page__link_has_the_prefix),
		TEST(test_page__bad_cursors_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
