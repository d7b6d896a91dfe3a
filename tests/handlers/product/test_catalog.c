#include "tests/loopback.h"

static void
post(struct t *t, const char *members)
{
	char body[2000];
	struct reply_seen rep;

	snprintf(body, sizeof(body), "{%s,\"currency\":\"EUR\"}", members);
	rep = call(t, "POST", "/product", body, AS_ADMIN);
	assert_status(&rep, 201);
}

/* Six products; 4 is all reserved, 6 is deleted. */
static void
post_six(struct t *t)
{
	struct reply_seen rep;

	post(t, "\"sku\":\"TEA-G\",\"name\":\"Green tea\",\"price\":450,"
		"\"category\":\"drinks\",\"stock\":10");
	post(t, "\"sku\":\"2\",\"name\":\"Black tea\",\"price\":450,"
		"\"category\":\"drinks\",\"stock\":0");
	post(t, "\"sku\":\"3\",\"name\":\"Tea pot\",\"price\":1999,"
		"\"category\":\"kitchen\",\"stock\":null");
	post(t, "\"sku\":\"4\",\"name\":\"Coffee\",\"price\":700,"
		"\"category\":\"drinks\",\"stock\":3");
	post(t, "\"sku\":\"5\",\"name\":\"Äpfel – rot\",\"price\":100,"
		"\"description\":\"Keep it cool\",\"stock\":1");
	post(t, "\"sku\":\"6\",\"name\":\"Old tea\",\"price\":1,\"category\":\"drinks\"");
	rep = call(t, "POST", "/product/reservations",
	    "{\"lines\":[{\"product_id\":4,\"quantity\":3}]}", AS_SERVICE);
	assert_status(&rep, 201);
	rep = call(t, "DELETE", "/product/6", NULL, AS_ADMIN);
	assert_status(&rep, 204);
}

/* Adds the ids of a list's items to what is there: "1,3,2". */
static void
add_ids(const struct reply_seen *rep, char *out, size_t size)
{
	struct json_object *items = member(rep, "items");

	assert_non_null(items);
	for (size_t i = 0; i < json_object_array_length(items); i++) {
		struct json_object *id = json_object_object_get(
		    json_object_array_get_idx(items, i), "id");
		size_t len = strlen(out);

		snprintf(out + len, size - len, "%s%d", len > 0 ? "," : "",
		    json_object_get_int(id));
	}
}

static void
test_catalog__filters(void **state)
{
	static const struct {
		const char *query, *ids;
	} cases[] = {
		{ "", "1,2,3,4,5" },
		{ "?category=drinks", "1,2,4" },
		{ "?category=drink", "" },
		{ "?min_price=450", "1,2,3,4" },
		{ "?max_price=450", "1,2,5" },
		{ "?min_price=450&max_price=700", "1,2,4" },
		{ "?min_price=701&max_price=700", "" },
		{ "?in_stock=true", "1,3,5" },
		{ "?in_stock=false", "1,2,3,4,5" },
		{ "?in_stock=true&category=drinks", "1" },
		{ "?sort=id", "1,2,3,4,5" },
		{ "?sort=name", "2,4,1,3,5" },
		{ "?sort=price", "5,1,2,4,3" },
		{ "?sort=-price", "3,4,2,1,5" },
		{ "?sort=newest", "5,4,3,2,1" },
		{ "?sort=-price&category=drinks", "4,2,1" },
		{ "?sort=price&min_price=200&limit=2", "1,2" },
		{ "?ids=3,1", "1,3" },
		{ "?ids=1,1,1", "1" },
		{ "?ids=6,99,0", "" },
		{ "?ids=1,2,3&category=drinks", "1,2" },
		{ "?ids=1,2,3&sort=-price", "3,2,1" },
		{ "?ids=1,2,3,4,5&in_stock=true&max_price=450", "1,5" },
	};
	struct t *t = *state;
	char path[200];

	post_six(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;
		char ids[100] = "";

		snprintf(path, sizeof(path), "/products/%s", cases[i].query);
		/* Administrators find no deleted ones here either. */
		rep = call(t, "GET", path, NULL,
		    i % 2 == 0 ? AS_NOBODY : AS_ADMIN);
		assert_status(&rep, 200);
		add_ids(&rep, ids, sizeof(ids));
		if (strcmp(ids, cases[i].ids) != 0)
			fail_msg("%s gives %s", path, ids);
	}
}

static void
test_catalog__finds_words(void **state)
{
	static const struct {
		const char *q, *ids;
	} cases[] = {
		{ "tea", "1,2,3" },
		{ "te", "1,2,3" },
		{ "ea", "" },
		{ "TEA", "1,2,3" },
		{ "tea+green", "1" },
		{ "GREEN+TEA", "1" },
		{ "g+t", "1" },
		{ "TEA-G", "1" },
		{ "drinks", "1,2,4" },
		{ "cool", "5" },
		{ "apfel", "5" },
		{ "%C3%84pf", "5" },
		{ "tea+%26+pot", "3" },
		/* Signs beside words, each of another kind, and alone. */
		{ "%C3%84pfel+%E2%80%93+rot", "5" },	  /* a dash */
		{ "tea+%F0%9F%8E%81", "1,2,3" },	  /* a present */
		{ "%F0%9F%8E%81+tea+%F0%9F%8E%81+pot", "3" },
		{ "%E2%9D%A4%EF%B8%8F+tea", "1,2,3" },	  /* a red heart */
		{ "tea+%E3%80%82", "1,2,3" },		  /* a full stop */
		{ "tea+%EF%BC%81+%C3%97+pot", "3" },	  /* !, times */
		{ "%E2%84%A2+%E2%84%A2+tea", "1,2,3" },	  /* trademark */
		{ "%E2%80%93", "" },
		{ "%F0%9F%8E%81+%F0%9F%8E%81", "" },
		/* What looks like a sign and is a number, of no product. */
		{ "tea+%C2%BD", "" },
		{ "old", "" },
		{ "tea&min_price=500", "3" },
		{ "tea&category=drinks", "1,2" },
		{ "tea&sort=-price", "3,2,1" },
		{ "tea&sort=name", "2,1,3" },
		{ "tea&in_stock=true", "1,3" },
		/* FTS5's operators are words or nothing. */
		{ "tea+OR+coffee", "" },
		{ "tea+NOT+pot", "" },
		{ "NEAR(tea+pot)", "" },
		{ "name:tea", "" },
		{ "tea*", "1,2,3" },
		{ "*tea", "1,2,3" },
		{ "^tea", "1,2,3" },
		{ "-tea", "1,2,3" },
		{ "+tea+", "1,2,3" },
		{ "(tea)", "1,2,3" },
		{ "%22tea+pot", "3" },
		{ "tea%22+OR+%22pot", "" },
		{ "{name+sku}:tea", "" },
		{ "tea';--", "1,2,3" },
		{ "tea+pot)", "3" },
	};
	struct t *t = *state;
	char path[200];

	post_six(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;
		char ids[100] = "";

		snprintf(path, sizeof(path), "/products?q=%s", cases[i].q);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		assert_status(&rep, 200);
		add_ids(&rep, ids, sizeof(ids));
		if (strcmp(ids, cases[i].ids) != 0)
			fail_msg("%s gives %s", path, ids);
	}
}

static void
assert_found(struct t *t, const char *q, const char *want)
{
	char path[100], ids[100] = "";
	struct reply_seen rep;

	snprintf(path, sizeof(path), "/products?q=%s", q);
	rep = call(t, "GET", path, NULL, AS_NOBODY);
	assert_status(&rep, 200);
	add_ids(&rep, ids, sizeof(ids));
	assert_string_equal(ids, want);
}

/* A search may read a whole catalog, and so may a list that leaves much out. */
static void
test_catalog__only_what_is_soon_read_stays_on_the_loop(void **state)
{
	static const struct {
		const char *path;
		bool deferred;
	} cases[] = {
		{ "/products", false },
		{ "/products?sort=-price&category=tea", false },
		{ "/products?ids=1,2", false },
		{ "/products?q=tea", true },
		{ "/products?sort=name&min_price=1", true },
		{ "/products?max_price=1", true },
		{ "/products?in_stock=true", true },
		{ "/products?in_stock=false", false },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "GET", cases[i].path, NULL, AS_NOBODY);

		assert_status(&rep, 200);
		if (was_deferred(t) != cases[i].deferred)
			fail_msg("%s", cases[i].path);
	}
}

static void
test_catalog__finds_what_a_product_is_now(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	post_six(t);
	rep = call(t, "PATCH", "/product/1",
	    "{\"name\":\"Matcha\",\"sku\":\"M\",\"category\":null}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_found(t, "matcha", "1");
	assert_found(t, "green", "");
	assert_found(t, "drinks", "2,4");
	rep = call(t, "PATCH", "/product/1", "{\"price\":1}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_found(t, "matcha", "1");
	rep = call(t, "DELETE", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	assert_found(t, "matcha", "");
	/* A deleted one that is changed stays out. */
	rep = call(t, "PATCH", "/product/1", "{\"name\":\"Matcha\"}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_found(t, "matcha", "");
}

static void
test_catalog__bad_queries_are_refused(void **state)
{
	static const struct {
		const char *query, *pointer;
	} cases[] = {
		{ "limit=0", "?limit" },
		{ "limit=201", "?limit" },
		{ "limit=-1", "?limit" },
		{ "limit=ten", "?limit" },
		{ "sort=size", "?sort" },
		{ "sort=", "?sort" },
		{ "sort=name&sort=name", "?sort" },
		{ "color=red", "?color" },
		{ "page=2", "?page" },
		{ "q=", "?q" },
		{ "q=a&q=b", "?q" },
		{ "q=%22*", "?q" },
		{ "q=%26+-", "?q" },
		{ "q=a+b+c+d+e+f+g+h+i+j+k+l+m", "?q" },
		{ "q=a&ids=1", "?ids" },
		{ "ids=", "?ids" },
		{ "ids=1,,2", "?ids" },
		{ "ids=1,", "?ids" },
		{ "ids=a", "?ids" },
		{ "ids=-1", "?ids" },
		{ "ids=1%2C+2", "?ids" },
		{ "ids=1]", "?ids" },
		{ "category=", "?category" },
		{ "min_price=-1", "?min_price" },
		{ "min_price=1.5", "?min_price" },
		{ "max_price=", "?max_price" },
		{ "in_stock=1", "?in_stock" },
		{ "cursor=", "?cursor" },
		{ "cursor=!", "?cursor" },
		{ "cursor=aWQ", "?cursor" },			/* id */
		{ "cursor=aWQ6MQ", "?cursor" },			/* id:1 */
		{ "cursor=aWQ6LTE6", "?cursor" },		/* id:-1: */
		{ "cursor=bmFtZToxOmE", "?cursor" },		/* name:1:a */
		{ "sort=price&cursor=cHJpY2U6MTphYmM", "?cursor" },
		{ "sort=price&cursor=cHJpY2U6MTo", "?cursor" }, /* price:1: */
	};
	struct t *t = *state;
	char path[100];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/products?%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static const char *const orders[] = { "id", "name", "price", "-price", "newest" };

/* Thirty products, alike in name, price or both; every seventh deleted. */
static void
post_many(struct t *t)
{
	static const char *const names[]
	    = { "Tea", "Tea: green", "tea", "Ö", "T", "Tea" };
	char members[1200], longest[801] = "";

	for (int i = 0; i < 200; i++)
		memcpy(longest + (size_t)i * 4, "\U0001F375", 5);
	for (int i = 1; i <= 30; i++) {
		char path[30];

		snprintf(members, sizeof(members),
		    "\"sku\":\"%d\",\"name\":\"%s\",\"price\":%d,"
		    "\"category\":%s",
		    i, i % 10 == 0 ? longest : names[i % 6], i % 4 * 100,
		    i % 3 == 0 ? "\"b\"" : "\"a\"");
		post(t, members);
		snprintf(path, sizeof(path), "/product/%d", i);
		if (i % 7 == 0)
			(void)call(t, "DELETE", path, NULL, AS_ADMIN);
	}
}

/* The ids that SQL says there are, in the order that it says. */
static void
expect_ids(struct t *t, const char *where, const char *order, char *out,
    size_t size)
{
	char *sql = sqlite3_mprintf(
	    "SELECT group_concat(id, ',') FROM (SELECT id FROM product"
	    " WHERE deleted_at IS NULL AND %s ORDER BY %s)",
	    where, order);
	sqlite3_stmt *s;

	assert_int_equal(sqlite3_prepare_v2(
			     worker(t)->db.handle, sql, -1, &s, NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	snprintf(out, size, "%s", (const char *)sqlite3_column_text(s, 0));
	sqlite3_finalize(s);
	sqlite3_free(sql);
}

/* Follows the Link of each page to the last one. */
static void
walk(struct t *t, const char *first, char *ids, size_t size)
{
	char path[3000];
	struct reply_seen rep;
	const char *link;

	snprintf(path, sizeof(path), "%s", first);
	for (int pages = 0; pages < 40; pages++) {
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		assert_status(&rep, 200);
		add_ids(&rep, ids, size);
		link = strstr(rep.fields, "\r\nLink: <");
		assert_true((link == NULL)
		    == (text_at(&rep, "next_cursor") == NULL));
		if (link == NULL)
			return;
		link += strlen("\r\nLink: <");
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(link, ">"),
		    link);
		assert_memory_equal(strchr(link, '>'), ">; rel=\"next\"\r\n", 15);
	}
	fail_msg("%s does not end", first);
}

static void
test_catalog__pages_have_every_row_once(void **state)
{
	static const char *const by[] = { "id", "name, id", "price, id",
		"price DESC, id DESC", "id DESC" };
	static const struct {
		const char *query, *where;
	} sources[] = {
		{ "", "1" },
		{ "&category=a", "category = 'a'" },
		{ "&q=tea", "name LIKE 'tea%'" },
		{ "&ids=1,2,3,4,5,6,8,12,16,20,24,28,30", "id IN"
		    " (1,2,3,4,5,6,8,12,16,20,24,28,30)" },
		{ "&min_price=100&max_price=200", "price IN (100, 200)" },
	};
	static const int limits[] = { 1, 2, 5, 26, 200 };
	struct t *t = *state;
	char want[300], path[200];

	post_many(t);
	for (size_t o = 0; o < ARRAY_LEN(orders); o++)
		for (size_t s = 0; s < ARRAY_LEN(sources); s++) {
			expect_ids(
			    t, sources[s].where, by[o], want, sizeof(want));
			for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
				char ids[300] = "";

				snprintf(path, sizeof(path),
				    "/products/?sort=%s&limit=%d%s", orders[o],
				    limits[l], sources[s].query);
				walk(t, path, ids, sizeof(ids));
				if (strcmp(ids, want) != 0)
					fail_msg("%s gives %s, not %s", path,
					    ids, want);
			}
		}
}

static void
test_catalog__a_cursor_is_of_one_order(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	char path[3000], cursor[2000];

	post_many(t);
	for (size_t a = 0; a < ARRAY_LEN(orders); a++) {
		snprintf(path, sizeof(path), "/products?limit=1&sort=%s",
		    orders[a]);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		snprintf(cursor, sizeof(cursor), "%s",
		    text_at(&rep, "next_cursor"));
		for (size_t b = 0; b < ARRAY_LEN(orders); b++) {
			snprintf(path, sizeof(path),
			    "/products?sort=%s&cursor=%s", orders[b], cursor);
			rep = call(t, "GET", path, NULL, AS_NOBODY);
			if (a == b)
				assert_status(&rep, 200);
			else
				assert_problem(&rep, 422, "?cursor");
		}
	}
}

static void
test_catalog__pages_are_50_rows_unless_asked(void **state)
{
	static const struct {
		const char *query;
		size_t rows;
	} cases[] = {
		{ "", 50 },
		{ "?limit=1", 1 },
		{ "?limit=200", 200 },
		{ "?limit=200&sort=newest", 200 },
	};
	struct t *t = *state;
	char path[100];

	sql_int(t,
	    "INSERT INTO product (sku, name, description, price, currency,"
	    " attributes, created_at, updated_at)"
	    " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 201) SELECT i, i, '', 1, 'EUR', '{}', 0, 0 FROM n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/products%s", cases[i].query);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		assert_status(&rep, 200);
		assert_int_equal(
		    json_object_array_length(member(&rep, "items")),
		    cases[i].rows);
		assert_non_null(text_at(&rep, "next_cursor"));
	}
}

static void
test_catalog__the_link_keeps_the_query_and_prefix(void **state)
{
	struct t *t = *state;
	struct call c = { "GET", "/products/?limit=1&category=drinks&cursor=aWQ6MTo",
		NULL, AS_NOBODY, { [PARAM_SCRIPT_NAME] = "/shop" } };
	struct reply_seen rep;

	post_six(t);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/id"), 2);
	assert_non_null(strstr(rep.fields,
	    "Link: </shop/products/?limit=1&category=drinks&cursor=aWQ6Mjo>;"
	    " rel=\"next\"\r\n"));
}

static void
test_catalog__lists_read_along_an_index(void **state)
{
	struct t *t = *state;

	assert_int_equal(check_plans(t,
			     "SELECT p.id*FROM product p WHERE*$7 IS NULL*"),
	    2 * ARRAY_LEN(orders));
}

static int
count_thousand(void *thousands)
{
	++*(int *)thousands;
	return 0;
}

static void
test_catalog__lists_pass_over_nothing_that_is_deleted(void **state)
{
	struct t *t = *state;
	sqlite3 *db = worker(t)->db.handle;
	char path[64];
	int thousands;

	post_six(t);
	sql_int(t,
	    "WITH RECURSIVE n (i) AS (SELECT 7 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 5000) INSERT INTO product (id, sku, name, description,"
	    " price, currency, category, attributes, created_at, updated_at,"
	    " deleted_at) SELECT i, i, 'x', '', 1, 'EUR', 'drinks', '{}', 1, 1, 1"
	    " FROM n");
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct reply_seen rep;

		snprintf(path, sizeof(path), "/products?min_price=0&sort=%s",
		    orders[i]);
		thousands = 0;
		sqlite3_progress_handler(db, 1000, count_thousand, &thousands);
		rep = call(t, "GET", path, NULL, AS_NOBODY);
		sqlite3_progress_handler(db, 0, NULL, NULL);
		assert_status(&rep, 200);
		assert_true(was_deferred(t)); /* to the connection at hand */
		assert_in_range(thousands, 0, 2);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_catalog__filters),
		TEST(test_catalog__finds_words),
		TEST(test_catalog__only_what_is_soon_read_stays_on_the_loop),
		TEST(test_catalog__finds_what_a_product_is_now),
		TEST(test_catalog__bad_queries_are_refused),
		TEST(test_catalog__pages_have_every_row_once),
		TEST(test_catalog__a_cursor_is_of_one_order),
		TEST(test_catalog__pages_are_50_rows_unless_asked),
		TEST(test_catalog__the_link_keeps_the_query_and_prefix),
		TEST(test_catalog__lists_read_along_an_index),
		TEST(test_catalog__lists_pass_over_nothing_that_is_deleted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
