#include "tests/loopback.h"

#include "shared/auth.h"

static enum err
who(struct req *r)
{
	struct buf *b = reply_json(r, 200);

	json_open(b, NULL, '{');
	json_text(b, "role", role_name(r->caller.role));
	json_int(b, "uid", r->caller.uid);
	json_boolean(b, "internal", r->caller.internal);
	json_close(b, '}');
	return OK;
}

static const struct route routes[] = {
	{ "GET", "/anyone", who, ROUTE_ANYONE },
	{ "GET", "/self/{uid}", who, ROUTE_SELF },
	{ "GET", "/self-admin/{uid}", who, ROUTE_SELF | ROUTE_ADMIN },
	{ "GET", "/user", who, ROUTE_USER },
	{ "GET", "/admin", who, ROUTE_ADMIN },
	{ "GET", "/service", who, ROUTE_SERVICE },
	{ "GET", "/internal", who, ROUTE_INTERNAL },
	{ "POST", "/anyone", who, ROUTE_ANYONE },
	{ "POST", "/user", who, ROUTE_USER },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "",
};

static void
test_auth__each_rule_for_each_caller(void **state)
{
	enum { NOBODY, INTERNAL, OTHER, OWNER, ADMIN, SERVICE };
	const struct as callers[] = { AS_NOBODY, AS_INTERNAL, AS_USER(2),
		AS_USER(7), AS_ADMIN, AS_SERVICE };
	static const struct {
		const char *path;
		int status[6];
	} cases[] = {
		{ "/anyone", { 200, 200, 200, 200, 200, 200 } },
		{ "/self/7", { 401, 401, 404, 200, 404, 403 } },
		{ "/self-admin/7", { 401, 401, 404, 200, 200, 403 } },
		{ "/user", { 401, 401, 200, 200, 200, 403 } },
		{ "/admin", { 401, 401, 403, 403, 200, 403 } },
		{ "/service", { 401, 401, 403, 403, 403, 200 } },
		{ "/internal", { 401, 200, 403, 403, 403, 403 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t c = 0; c < ARRAY_LEN(callers); c++) {
			struct reply_seen rep = call(
			    *state, "GET", cases[i].path, NULL, callers[c]);

			if (rep.status != cases[i].status[c])
				print_error("%s as %zu\n", cases[i].path, c);
			assert_status(&rep, cases[i].status[c]);
		}
}

static void
test_auth__nothing_passes_without_nginx_s_key(void **state)
{
	static const char *const keys[] = { "", "0123456789abcdef",
		"0123456789abcdef0123456789abcdeX",
		"0123456789abcdef0123456789abcdef0" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct call c = { "GET", "/anyone", NULL, AS_SERVICE,
			{ [PARAM_KEY] = keys[i] } };
		struct reply_seen rep = call_with(*state, &c);

		assert_problem(&rep, 403, NULL);
	}
}

static void
test_auth__a_bad_token_is_401_even_where_none_is_needed(void **state)
{
	static const char *const bad[] = { "Bearer", "Bearer ", "Bearer a.b.c",
		"bearer x" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct call c = { "GET", "/anyone", NULL, AS_NOBODY,
			{ [PARAM_AUTHORIZATION] = bad[i] } };
		struct reply_seen rep = call_with(*state, &c);

		assert_problem(&rep, 401, NULL);
		assert_non_null(strstr(rep.fields,
		    "WWW-Authenticate: Bearer realm=\"coster\", "
		    "error=\"invalid_token\"\r\n"));
	}
}

/* nginx may want a password of its own. */
static void
test_auth__another_scheme_is_somebody_else_s(void **state)
{
	static const char *const others[] = { "Basic YTpi", "Token t",
		"BearerX", "Bearer:x" };
	struct call c = { "GET", "/anyone", NULL, AS_NOBODY, { NULL } };

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		struct reply_seen rep;

		c.path = "/anyone";
		c.param[PARAM_AUTHORIZATION] = others[i];
		rep = call_with(*state, &c);
		assert_status(&rep, 200);
		c.path = "/user";
		rep = call_with(*state, &c);
		assert_problem(&rep, 401, NULL);
	}
}

static void
test_auth__a_token_ends_with_its_time(void **state)
{
	struct reply_seen rep = call(*state, "GET", "/user", NULL, AS_USER(7));
	struct call c = { "GET", "/user", NULL, AS_NOBODY, { NULL } };

	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "uid"), 7);
	assert_string_equal(text_at(&rep, "role"), "customer");
	c.param[PARAM_AUTHORIZATION] = bearer_of(*state, AS_USER(7));
	rep = call_with(*state, &c);
	assert_status(&rep, 200);
	advance(*state, 900 * 1000 - 1);
	rep = call_with(*state, &c);
	assert_status(&rep, 200);
	advance(*state, 1);
	rep = call_with(*state, &c);
	assert_problem(&rep, 401, NULL);
}

static void
test_auth__trust_is_what_nginx_says(void **state)
{
	struct call c = { "GET", "/service", NULL, AS_NOBODY,
		{ [PARAM_PEER] = "Service" } };
	struct reply_seen rep = call_with(*state, &c);

	assert_problem(&rep, 401, NULL);
	c.path = "/internal";
	c.param[PARAM_NETWORK] = "internal ";
	rep = call_with(*state, &c);
	assert_problem(&rep, 401, NULL);
}

/* The cookie of user 7, behind others, and what its session's csrf_token is. */
static const char *
cookie_of_7(struct t *t)
{
	return arena_printf(test_arena(t), "a=b;x" AUTH_COOKIE "=c; " AUTH_COOKIE
		"=%s; d=e", bearer_of(t, AS_USER(7)) + strlen("Bearer "));
}

static const char *
csrf_of_7(struct t *t)
{
	struct req r;

	req_init(&r, worker(t));
	return arena_strdup(test_arena(t), auth_csrf_token(&r, 0));
}

static void
test_auth__a_cookie_is_as_good_as_a_header_for_reading(void **state)
{
	struct t *t = *state;
	struct call c = { "GET", "/user", NULL, AS_NOBODY, { NULL } };
	struct reply_seen rep;

	c.param[PARAM_COOKIE] = cookie_of_7(t);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "uid"), 7);
	c.param[PARAM_AUTHORIZATION] = bearer_of(t, AS_USER(8));
	rep = call_with(t, &c);
	assert_int_equal(int_at(&rep, "uid"), 8);
	c.param[PARAM_AUTHORIZATION] = NULL;
	advance(t, 900 * 1000);
	rep = call_with(t, &c);
	assert_problem(&rep, 401, NULL);
	c.path = "/anyone";
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "uid"), 0);
}

static void
test_auth__a_cookie_changes_nothing_without_its_csrf_token(void **state)
{
	struct t *t = *state;
	const char *good = csrf_of_7(t);
	const struct {
		const char *path, *csrf, *origin;
		int status, uid;
	} cases[] = {
		{ "/user", good, NULL, 200, 7 },
		{ "/user", good, "https://shop.example", 200, 7 },
		{ "/user", good, "https://shop.example.org", 403, 0 },
		{ "/user", good, "https://shop.exampl", 403, 0 },
		{ "/user", good, "null", 403, 0 },
		{ "/user", good + 1, NULL, 403, 0 },
		{ "/user", NULL, NULL, 403, 0 },
		{ "/anyone", good, NULL, 200, 7 },
		{ "/anyone", good, "null", 200, 0 },
		{ "/anyone", NULL, NULL, 200, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c = { "POST", cases[i].path, "{}", AS_NOBODY,
			{ [PARAM_COOKIE] = cookie_of_7(t),
			    [PARAM_CSRF_TOKEN] = cases[i].csrf,
			    [PARAM_ORIGIN] = cases[i].origin } };
		struct reply_seen rep = call_with(t, &c);

		assert_status(&rep, cases[i].status);
		if (cases[i].status == 200)
			assert_int_equal(int_at(&rep, "uid"), cases[i].uid);
		else
			assert_string_equal(text_at(&rep, "type"),
			    "urn:coster:problem:csrf");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_auth__each_rule_for_each_caller),
		TEST(test_auth__nothing_passes_without_nginx_s_key),
		TEST(test_auth__a_bad_token_is_401_even_where_none_is_needed),
		TEST(test_auth__another_scheme_is_somebody_else_s),
		TEST(test_auth__a_token_ends_with_its_time),
		TEST(test_auth__trust_is_what_nginx_says),
		TEST(test_auth__a_cookie_is_as_good_as_a_header_for_reading),
		TEST(test_auth__a_cookie_changes_nothing_without_its_csrf_token),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
