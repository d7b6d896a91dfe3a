#include "shared/route.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static enum err
nothing(struct req *r)
{
	(void)r;
	return OK;
}

static const struct route routes[] = {
	{ "GET", "/", nothing, ROUTE_ANYONE },
	{ "GET", "/log", nothing, ROUTE_INTERNAL },
	{ "POST", "/log", nothing, ROUTE_ANYONE },
	{ "POST", "/things/", nothing, ROUTE_ADMIN },
	{ "GET", "/things/{id}", nothing, ROUTE_ANYONE },
	{ "DELETE", "/things/{id}", nothing, ROUTE_ADMIN },
	{ "GET", "/things/{word}", nothing, ROUTE_ANYONE },
	{ "PATCH", "/user/{uid}/cart/{id}", nothing, ROUTE_SELF },
	{ "PUT", "/user/{word}/cart/last", nothing, ROUTE_ADMIN },
	{ "GET", "/a/b/c/d/e/f", nothing, ROUTE_ANYONE },
};
static const struct route more_routes[] = {
	{ "GET", "/more", nothing, ROUTE_SERVICE },
};

static const struct route_table table = ROUTES(routes),
				more = ROUTES(more_routes);
static const struct route_table *const tables[] = { &table, &more };

static struct router *router;
static struct arena arena;

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena);
	return router_new(&router, tables, ARRAY_LEN(tables));
}

static int
tear_down(void **state)
{
	(void)state;
	router_free(router);
	arena_release(&arena);
	return 0;
}

static void
test_route__paths(void **state)
{
	static const struct {
		const char *method, *path;
		enum err err;
		const char *pattern;
		int64_t uid, id;
		const char *word;
	} cases[] = {
		{ "GET", "/", OK, "/", 0, 0, NULL },
		{ "GET", "/log", OK, "/log", 0, 0, NULL },
		{ "GET", "/log/", OK, "/log", 0, 0, NULL },
		{ "HEAD", "/log", OK, "/log", 0, 0, NULL },
		{ "POST", "/things", OK, "/things/", 0, 0, NULL },
		{ "POST", "/things/", OK, "/things/", 0, 0, NULL },
		{ "GET", "/more", OK, "/more", 0, 0, NULL },
		{ "GET", "/things/7", OK, "/things/{id}", 0, 7, NULL },
		{ "GET", "/things/7/", OK, "/things/{id}", 0, 7, NULL },
		{ "GET", "/things/9007199254740991", OK, "/things/{id}", 0,
		    INT_MAX_EXACT, NULL },
		{ "DELETE", "/things/1", OK, "/things/{id}", 0, 1, NULL },
		/* no id, but a word */
		{ "GET", "/things/0", OK, "/things/{word}", 0, 0, "0" },
		{ "GET", "/things/07", OK, "/things/{word}", 0, 0, "07" },
		{ "GET", "/things/-7", OK, "/things/{word}", 0, 0, "-7" },
		{ "GET", "/things/9007199254740992", OK, "/things/{word}", 0, 0,
		    "9007199254740992" },
		{ "GET", "/things/aZ9_-/", OK, "/things/{word}", 0, 0, "aZ9_-" },
		{ "GET", "/things/a.b", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/things/a%20b", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/things/\xc3\xa9", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "PATCH", "/user/3/cart/9", OK, "/user/{uid}/cart/{id}", 3, 9,
		    NULL },
		{ "PATCH", "/user/0/cart/9", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "PATCH", "/user/3/cart/x", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		/* what a pattern that did not fit took is forgotten */
		{ "PUT", "/user/3/cart/last", OK, "/user/{word}/cart/last", 0, 0,
		    "3" },
		{ "GET", "/a/b/c/d/e/f", OK, "/a/b/c/d/e/f", 0, 0, NULL },
		{ "GET", "/a/b/c/d/e/f/g", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "log", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "//log", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/log//", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "//", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/things//7", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/LOG", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/logs", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/lo", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "GET", "/log/7", ERR_NOT_FOUND, NULL, 0, 0, NULL },
		{ "get", "/log", ERR_METHOD, NULL, 0, 0, NULL },
		{ "PUT", "/log", ERR_METHOD, NULL, 0, 0, NULL },
		{ "HEAD", "/user/3/cart/9", ERR_METHOD, NULL, 0, 0, NULL },
	};
	struct route_match m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum err err = router_find(
		    router, &arena, cases[i].method, cases[i].path, &m);

		if (err != cases[i].err)
			fail_msg("%s %s: %d", cases[i].method, cases[i].path, err);
		assert_int_equal(m.route != NULL, err == OK);
		if (err)
			continue;
		assert_string_equal(m.route->pattern, cases[i].pattern);
		assert_int_equal(m.uid, cases[i].uid);
		assert_int_equal(m.id, cases[i].id);
		if (cases[i].word == NULL)
			assert_null(m.word);
		else
			assert_string_equal(m.word, cases[i].word);
	}
}

static void
test_route__words_have_an_end(void **state)
{
	char path[160] = "/things/";
	struct route_match m;

	(void)state;
	memset(path + 8, 'w', 128);
	assert_int_equal(router_find(router, &arena, "GET", path, &m), OK);
	assert_int_equal(strlen(m.word), 128);
	path[8 + 128] = 'w';
	assert_int_equal(
	    router_find(router, &arena, "GET", path, &m), ERR_NOT_FOUND);
}

static void
test_route__other_methods_are_told_which_there_are(void **state)
{
	static const struct {
		const char *method, *path, *allow;
	} cases[] = {
		{ "PUT", "/log", "GET, HEAD, POST, OPTIONS" },
		{ "OPTIONS", "/log", "GET, HEAD, POST, OPTIONS" },
		{ "OPTIONS", "/things", "POST, OPTIONS" },
		{ "HEAD", "/things", "POST, OPTIONS" },
		{ "POST", "/things/x", "GET, HEAD, OPTIONS" },
		{ "TRACE", "/user/1/cart/1", "PATCH, OPTIONS" },
	};
	struct route_match m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(router_find(router, &arena, cases[i].method,
				     cases[i].path, &m),
		    ERR_METHOD);
		assert_string_equal(m.allow, cases[i].allow);
	}
}

static void
test_route__bad_routes_do_not_start(void **state)
{
	static const struct route cases[] = {
		{ "GET", "/x", nothing, 0 },
		{ "GET", "/x", nothing, ROUTE_SLOW | ROUTE_SECRET },
		{ "GET", "/x", NULL, ROUTE_ANYONE },
		{ "GET", "x", nothing, ROUTE_ANYONE },
		{ "GET", "", nothing, ROUTE_ANYONE },
		{ "GET", "/x//y", nothing, ROUTE_ANYONE },
		{ "GET", "/{name}", nothing, ROUTE_ANYONE },
		{ "GET", "/{id", nothing, ROUTE_ANYONE },
		{ "GET", "/{", nothing, ROUTE_ANYONE },
		{ "GET", "/{id}x", nothing, ROUTE_ANYONE },
		{ "GET", "/{}", nothing, ROUTE_ANYONE },
		{ "GET", "/1/2/3/4/5/6/7", nothing, ROUTE_ANYONE },
		{ "GET", "/x", nothing, ROUTE_ANYONE, .question = nothing },
		{ "POST", "/x", nothing, ROUTE_ANYONE | ROUTE_SLOW,
		    .question = nothing },
	};
	struct router *r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct route_table one = { &cases[i], 1 };
		const struct route_table *const list[] = { &table, &one };

		if (router_new(&r, list, 2) != ERR_INTERNAL)
			fail_msg("taken: %s", cases[i].pattern);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_route__paths),
		cmocka_unit_test(test_route__words_have_an_end),
		cmocka_unit_test(
		    test_route__other_methods_are_told_which_there_are),
		cmocka_unit_test(test_route__bad_routes_do_not_start),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
