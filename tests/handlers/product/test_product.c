#include "tests/loopback.h"

#define TEA                                                                    \
	"{\"sku\":\"TEA\",\"name\":\"Tea\",\"price\":450,\"currency\":\"EUR\"," \
	"\"stock\":10}"

static void
test_product__is_created_with_its_location(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 1);
	assert_string_equal(text_at(&rep, "sku"), "TEA");
	assert_int_equal(int_at(&rep, "available"), 10);
	assert_string_equal(
	    text_at(&rep, "created_at"), "2027-01-15T08:00:00.000Z");
	assert_non_null(strstr(rep.fields, "Location: /product/1\r\n"));
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
	rep = call(t, "GET", "/product/1", NULL, AS_NOBODY);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "price"), 450);
}

static void
test_product__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "{}", 422, "#/sku" },
		{ "{}", 422, "#/currency" },
		{ "[]", 422, "#" },
		{ "{\"sku\":1}", 422, "#/sku" },
		{ "{\"price\":-1}", 422, "#/price" },
		{ "{\"price\":1.5}", 422, "#/price" },
		{ "{\"price\":\"1\"}", 422, "#/price" },
		{ "{\"currency\":\"eur\"}", 422, "#/currency" },
		{ "{\"stock\":-1}", 422, "#/stock" },
		{ "{\"attributes\":[]}", 422, "#/attributes" },
		{ "{\"name\":\"a\\nb\"}", 422, "#/name" },
		{ "{\"color\":\"red\"}", 422, "#/color" },
		{ "{\"id\":7}", 422, "#/id" },
		{ "{", 400, NULL },
		{ "{\"sku\":\"a\",\"sku\":\"b\"}", 400, NULL },
		{ "", 400, NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/product/", cases[i].body, AS_ADMIN);

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM product"), 0);
}

static void
test_product__only_an_administrator_changes_it(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_NOBODY);

	assert_problem(&rep, 401, NULL);
	assert_non_null(strstr(rep.fields, "WWW-Authenticate: Bearer"));
	rep = call(t, "POST", "/product/", TEA, AS_USER(1));
	assert_problem(&rep, 403, NULL);
	rep = call(t, "POST", "/product/", TEA, AS_SERVICE);
	assert_problem(&rep, 403, NULL);
}

static void
test_product__sku_is_used_once_until_deleted(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	rep = call(t, "POST", "/product/", TEA, AS_ADMIN);
	assert_problem(&rep, 409, NULL);
	assert_string_equal(
	    text_at(&rep, "type"), "urn:coster:problem:sku-in-use");
	rep = call(t, "DELETE", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	rep = call(t, "POST", "/product/", TEA, AS_ADMIN);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 2);
}

static void
test_product__change_keeps_what_is_not_given(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	rep = call(t, "PATCH", "/product/1",
	    "{\"price\":500,\"stock\":null,\"attributes\":{\"leaf\":true}}",
	    AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "price"), 500);
	assert_string_equal(text_at(&rep, "name"), "Tea");
	assert_null(member(&rep, "stock"));
	assert_non_null(member(&rep, "attributes/leaf"));
	assert_int_equal(int_at(&rep, "version"), 2);
	rep = call(t, "PUT", "/product/1", "{\"name\":\"Green tea\"}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "price"), 500);
	assert_non_null(member(&rep, "attributes/leaf"));
}

static struct reply_seen
patch_as(struct t *t, const char *type, const char *body)
{
	return call_with(t,
	    &(struct call) { "PATCH", "/product/1", body, AS_ADMIN,
		{ [PARAM_CONTENT_TYPE] = type } });
}

#define MERGE "application/merge-patch+json"

static void
test_product__a_merge_patch_merges_attributes(void **state)
{
	static const struct {
		const char *type, *attributes;
	} cases[] = {
		{ MERGE, "{\"size\":{\"w\":5,\"h\":2}}" },
		{ "application/json", "{\"color\":null,\"size\":{\"w\":5}}" },
	};
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = patch_as(t, "application/json",
		    "{\"attributes\":"
		    "{\"color\":\"red\",\"size\":{\"w\":1,\"h\":2}}}");
		assert_status(&rep, 200);
		rep = patch_as(t, cases[i].type,
		    "{\"attributes\":{\"color\":null,\"size\":{\"w\":5}}}");
		assert_status(&rep, 200);
		assert_string_equal(json_tree_text(member(&rep, "attributes")),
		    cases[i].attributes);
	}
	rep = patch_as(t, MERGE, "{\"stock\":null}");
	assert_status(&rep, 200);
	assert_null(member(&rep, "stock"));
	assert_non_null(member(&rep, "attributes/size"));
	rep = patch_as(t, MERGE, "{\"attributes\":null}");
	assert_problem(&rep, 422, "#/attributes");
}

/* A body with one attribute: a piece so many times, between left and right. */
static const char *
one_attribute(struct t *t, const char *name, const char *left,
    const char *piece, int times, const char *right)
{
	struct buf b;

	buf_init(&b, test_arena(t));
	buf_addf(&b, "{\"attributes\":{\"%s\":%s", name, left);
	for (int i = 0; i < times; i++)
		buf_adds(&b, piece);
	buf_addf(&b, "%s}}", right);
	return b.data;
}

/* Each of these may be there, but not twice over. */
static void
test_product__many_patches_do_not_make_what_one_may_not(void **state)
{
	static const struct {
		const char *left, *piece;
		int times;
		const char *right;
	} cases[] = {
		{ "[", "{},", 3000, "1]" },
		{ "[", "1,", 40000, "1]" },
		{ "\"", "0123456789", 60000, "\"" },
	};
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rep = call(t, "PATCH", "/product/1", "{\"attributes\":{}}",
		    AS_ADMIN);
		for (int name = 'a'; name <= 'c'; name++) {
			rep = patch_as(t, MERGE,
			    one_attribute(t, (char[]) { (char)name, '\0' },
				cases[i].left, cases[i].piece, cases[i].times,
				cases[i].right));
			if (name == 'a')
				assert_status(&rep, 200);
			else
				assert_problem(&rep, 422, "#/attributes");
		}
		assert_int_equal(sql_int(t, "SELECT count(*) FROM product,"
					    " json_each(attributes)"),
		    1);
	}
}

static void
test_product__deleted_is_gone_but_for_administrators(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	rep = call(t, "DELETE", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	rep = call(t, "DELETE", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	rep = call(t, "GET", "/product/1", NULL, AS_NOBODY);
	assert_problem(&rep, 410, NULL);
	rep = call(t, "GET", "/product/1", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_non_null(text_at(&rep, "deleted_at"));
	rep = call(t, "GET", "/product/2", NULL, AS_NOBODY);
	assert_problem(&rep, 404, NULL);
}

static void
test_product__conditional_requests(void **state)
{
	static const struct {
		const char *method, *body;
		enum param param;
		const char *tag;
		int status;
	} cases[] = {
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"1\"", 304 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "W/\"1\"", 304 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"7\", \"1\"", 304 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "*", 304 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"2\"", 200 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"11\"", 200 },
		{ "HEAD", NULL, PARAM_IF_NONE_MATCH, "\"1\"", 304 },
		{ "PATCH", "{}", PARAM_IF_MATCH, "\"9\"", 412 },
		{ "DELETE", NULL, PARAM_IF_MATCH, "\"9\"", 412 },
		{ "PATCH", "{}", PARAM_IF_MATCH, "W/\"1\"", 200 },
	};
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c = { cases[i].method, "/product/1", cases[i].body,
			AS_ADMIN, { NULL } };

		c.param[cases[i].param] = cases[i].tag;
		rep = call_with(t, &c);
		assert_status(&rep, cases[i].status);
		if (cases[i].status == 304)
			assert_string_equal(rep.body, "");
	}
}

static void
test_product__head_options_and_other_methods(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/product/", TEA, AS_ADMIN);

	rep = call(t, "HEAD", "/product/1", NULL, AS_NOBODY);
	assert_status(&rep, 200);
	assert_string_equal(rep.body, "");
	assert_null(strstr(rep.fields, "Content-Length: 0\r\n"));
	rep = call(t, "OPTIONS", "/product/1", NULL, AS_NOBODY);
	assert_status(&rep, 204);
	rep = call(t, "POST", "/product/1", "{}", AS_ADMIN);
	assert_problem(&rep, 405, NULL);
	assert_non_null(strstr(
	    rep.fields, "Allow: GET, HEAD, PUT, PATCH, DELETE, OPTIONS\r\n"));
	rep = call(t, "GET", "/product/0", NULL, AS_NOBODY);
	assert_problem(&rep, 404, NULL);
	rep = call(t, "GET", "/product/9007199254740992", NULL, AS_NOBODY);
	assert_problem(&rep, 404, NULL);
	rep = call(t, "GET", "/product/01", NULL, AS_NOBODY);
	assert_problem(&rep, 404, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_product__is_created_with_its_location),
		TEST(test_product__bad_bodies_are_refused),
		TEST(test_product__only_an_administrator_changes_it),
		TEST(test_product__sku_is_used_once_until_deleted),
		TEST(test_product__change_keeps_what_is_not_given),
		TEST(test_product__a_merge_patch_merges_attributes),
		TEST(test_product__many_patches_do_not_make_what_one_may_not),
		TEST(test_product__deleted_is_gone_but_for_administrators),
		TEST(test_product__conditional_requests),
		TEST(test_product__head_options_and_other_methods),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
