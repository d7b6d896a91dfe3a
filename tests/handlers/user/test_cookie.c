#include "tests/loopback.h"

#include "shared/auth.h"
#include "shared/clock.h"

#define ANN "{\"email\":\"ann@a.org\",\"password\":\"seven blue apples\"}"
#define WITH_COOKIE                                                            \
	"{\"email\":\"ann@a.org\",\"password\":\"seven blue apples\","         \
	"\"cookie\":true}"

/* What a browser holds. */
struct jar {
	const char *token, *refresh, *csrf;
};

/* The value that a reply sets a cookie to, whose other parts must be right. */
static const char *
cookie_of(struct t *t, const struct reply_seen *rep, const char *name,
    int64_t max_age)
{
	const char *rest = arena_printf(test_arena(t),
		       "; Path=/; Max-Age=%lld; Secure; HttpOnly; "
		       "SameSite=Strict\r\n",
		       (long long)max_age),
		   *at = strstr(rep->fields,
		       arena_printf(test_arena(t), "Set-Cookie: %s=", name));
	size_t len;

	assert_non_null(at);
	at = strchr(at, '=') + 1;
	len = strcspn(at, ";");
	assert_int_equal(strncmp(at + len, rest, strlen(rest)), 0);
	return arena_strndup(test_arena(t), at, len);
}

static struct jar
fill_jar(struct t *t, const struct reply_seen *rep)
{
	struct jar jar = { cookie_of(t, rep, AUTH_COOKIE, 900),
		cookie_of(t, rep, AUTH_COOKIE_REFRESH, 30 * 24 * 3600),
		text_at(rep, "csrf_token") };

	assert_non_null(jar.csrf);
	assert_null(member(rep, "token"));
	assert_null(member(rep, "refresh_token"));
	assert_null(strstr(rep->body, jar.token));
	assert_null(strstr(rep->body, jar.refresh));
	return jar;
}

static struct jar
sign_in(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	rep = call(t, "POST", "/session/", WITH_COOKIE, AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "expires_in"), 900);
	assert_int_equal(int_at(&rep, "user_id"), 1);
	return fill_jar(t, &rep);
}

static struct reply_seen
browse(struct t *t, const struct jar *jar, const char *method, const char *path,
    const char *body, const char *csrf, const char *origin)
{
	const char *cookies = arena_printf(test_arena(t),
	    "theme=dark; " AUTH_COOKIE "=%s; " AUTH_COOKIE_REFRESH "=%s",
	    jar->token, jar->refresh);
	struct call c = { method, path, body, AS_NOBODY,
		{ [PARAM_COOKIE] = cookies,
		    [PARAM_CSRF_TOKEN] = csrf,
		    [PARAM_ORIGIN] = origin } };

	return call_with(t, &c);
}

static void
test_cookie__tokens_come_as_cookies_when_asked_for(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t);
	struct reply_seen rep = browse(t, &jar, "GET", "/user/1", NULL, "", "");

	assert_status(&rep, 200);
	rep = browse(t, &jar, "HEAD", "/user/1", NULL, "", "");
	assert_status(&rep, 200);
	rep = call(t, "POST", "/session/", ANN, AS_NOBODY);
	assert_null(strstr(rep.fields, "Set-Cookie"));
	assert_null(member(&rep, "csrf_token"));
	assert_non_null(text_at(&rep, "refresh_token"));
}

static void
test_cookie__changes_come_from_the_shop_s_own_pages(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t), other = sign_in(t);
	const struct {
		const char *csrf, *origin;
		int status;
	} cases[] = {
		{ jar.csrf, "", 200 },
		{ jar.csrf, "https://shop.example", 200 },
		{ jar.csrf, "HTTPS://SHOP.example", 200 },
		{ jar.csrf, "https://shop.example:8443", 403 },
		{ jar.csrf, "https://shop.example.evil.example", 403 },
		{ jar.csrf, "http://shop.example", 403 },
		{ jar.csrf, "https://evil.example", 403 },
		{ jar.csrf, "null", 403 },
		{ "", "", 403 },
		{ "", "https://shop.example", 403 },
		{ "x", "", 403 },
		{ other.csrf, "", 403 },
		{ jar.token, "", 403 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = browse(t, &jar, "PATCH", "/user/1",
		    "{\"name\":\"A\"}", cases[i].csrf, cases[i].origin);

		assert_status(&rep, cases[i].status);
		if (cases[i].status == 200)
			continue;
		assert_problem(&rep, 403, NULL);
		assert_string_equal(
		    text_at(&rep, "type"), "urn:coster:problem:csrf");
	}
	assert_int_equal(sql_int(t, "SELECT version FROM account"), 4);
}

static void
test_cookie__what_anyone_may_do_needs_no_csrf_token(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t);
	struct reply_seen rep
	    = browse(t, &jar, "POST", "/session/", ANN, "", "");

	assert_status(&rep, 201);
	jar.token = "not.a.token";
	rep = browse(t, &jar, "POST", "/session/", ANN, "", "");
	assert_status(&rep, 201);
	rep = browse(t, &jar, "GET", "/.well-known/jwks.json", NULL, "", "");
	assert_status(&rep, 200);
	/* Where somebody is needed, a bad cookie is nobody. */
	rep = browse(t, &jar, "GET", "/user/1", NULL, "", "");
	assert_problem(&rep, 401, NULL);
}

static void
test_cookie__the_header_wins(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t);
	struct call c = { "PATCH", "/user/1", "{\"name\":\"A\"}", AS_USER(1),
		{ [PARAM_COOKIE] = AUTH_COOKIE "=x" } };
	struct reply_seen rep = call_with(t, &c);

	/* No other site can send it, so it needs no more. */
	assert_status(&rep, 200);
	c.param[PARAM_AUTHORIZATION] = "Bearer x";
	c.param[PARAM_COOKIE] = arena_printf(
	    test_arena(t), AUTH_COOKIE "=%s", jar.token);
	c.param[PARAM_CSRF_TOKEN] = jar.csrf;
	rep = call_with(t, &c);
	assert_problem(&rep, 401, NULL);
}

static void
test_cookie__refresh_goes_from_cookie_to_cookie(void **state)
{
	struct t *t = *state;
	struct jar old = sign_in(t), new;
	struct reply_seen rep;

	advance(t, 900 * CLOCK_SECOND);
	rep = browse(t, &old, "GET", "/user/1", NULL, "", "");
	assert_problem(&rep, 401, NULL);
	/* No script gets the tokens by asking for them. */
	rep = browse(t, &old, "POST", "/session/refresh",
	    "{\"cookie\":false}", old.csrf, "");
	assert_status(&rep, 200);
	new = fill_jar(t, &rep);
	assert_string_not_equal(new.refresh, old.refresh);
	assert_string_equal(new.csrf, old.csrf);
	rep = browse(t, &new, "GET", "/user/1", NULL, "", "");
	assert_status(&rep, 200);
	/* Used again, it ends the session. */
	advance(t, 10 * CLOCK_SECOND);
	rep = browse(
	    t, &old, "POST", "/session/refresh", "{}", old.csrf, "");
	assert_problem(&rep, 401, NULL);
	rep = browse(t, &new, "GET", "/user/1", NULL, "", "");
	assert_problem(&rep, 401, NULL);
}

static void
test_cookie__refresh_from_elsewhere_does_and_ends_nothing(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t);
	struct reply_seen rep;

	for (int i = 0; i < 2; i++) {
		rep = browse(
		    t, &jar, "POST", "/session/refresh", "{}", "", "");
		assert_problem(&rep, 403, NULL);
		rep = browse(t, &jar, "POST", "/session/refresh", "{}",
		    jar.csrf, "https://evil.example");
		assert_problem(&rep, 403, NULL);
	}
	rep = browse(
	    t, &jar, "POST", "/session/refresh", "{}", jar.csrf, "");
	assert_status(&rep, 200);
}

static void
test_cookie__a_refresh_token_in_the_body_is_enough(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	struct jar jar;

	sign_in(t);
	rep = call(t, "POST", "/session/", ANN, AS_NOBODY);
	rep = call(t, "POST", "/session/refresh",
	    arena_printf(test_arena(t),
		"{\"refresh_token\":\"%s\",\"cookie\":true}",
		text_at(&rep, "refresh_token")),
	    AS_NOBODY);
	assert_status(&rep, 200);
	jar = fill_jar(t, &rep);
	rep = browse(t, &jar, "DELETE", "/session/", NULL, jar.csrf, "");
	assert_status(&rep, 204);
}

static void
test_cookie__signing_out_clears_them(void **state)
{
	struct t *t = *state;
	struct jar jar = sign_in(t);
	struct reply_seen rep
	    = browse(t, &jar, "DELETE", "/session/", NULL, "", "");

	assert_problem(&rep, 403, NULL);
	rep = browse(t, &jar, "DELETE", "/session/", NULL, jar.csrf, "");
	assert_status(&rep, 204);
	assert_string_equal(cookie_of(t, &rep, AUTH_COOKIE, 0), "");
	assert_string_equal(cookie_of(t, &rep, AUTH_COOKIE_REFRESH, 0), "");
	rep = browse(t, &jar, "GET", "/user/1", NULL, "", "");
	assert_problem(&rep, 401, NULL);
	rep = browse(
	    t, &jar, "POST", "/session/refresh", "{}", jar.csrf, "");
	assert_problem(&rep, 401, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cookie__tokens_come_as_cookies_when_asked_for),
		TEST(test_cookie__changes_come_from_the_shop_s_own_pages),
		TEST(test_cookie__what_anyone_may_do_needs_no_csrf_token),
		TEST(test_cookie__the_header_wins),
		TEST(test_cookie__refresh_goes_from_cookie_to_cookie),
		TEST(test_cookie__refresh_from_elsewhere_does_and_ends_nothing),
		TEST(test_cookie__a_refresh_token_in_the_body_is_enough),
		TEST(test_cookie__signing_out_clears_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
