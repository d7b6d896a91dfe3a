#include "tests/loopback.h"

#include <dlfcn.h>
#include <sodium.h>

#include "handlers/user/user.h"
#include "shared/clock.h"

#define ANN "{\"email\":\"ann@a.org\",\"password\":\"seven blue apples\"}"
#define BOB "{\"email\":\"bob@a.org\",\"password\":\"seven red apples\"}"

/* How often a password was verified, whether the last hash was as costly as a
 * new one, and what another request does meanwhile: it would find the database
 * locked if the hash held it. */
static int verified;
static bool costly;
static const char *meanwhile;

static void
run_sql(const char *sql)
{
	sqlite3 *h;

	assert_int_equal(sqlite3_open(getenv("COSTER_DB"), &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
}

int
crypto_pwhash_str_verify(const char str[crypto_pwhash_STRBYTES],
    const char *const passwd, unsigned long long passwdlen)
{
	int (*real)(const char *, const char *, unsigned long long)
	    = dlsym(RTLD_NEXT, "crypto_pwhash_str_verify");

	verified++;
	costly = crypto_pwhash_str_needs_rehash(str, 2, 19 * 1024 * 1024) == 0;
	if (meanwhile != NULL)
		run_sql(meanwhile);
	meanwhile = NULL;
	return real(str, passwd, passwdlen);
}

static struct reply_seen
sign_in(struct t *t, const char *body)
{
	struct reply_seen rep = call(t, "POST", "/session/", body, AS_NOBODY);

	assert_status(&rep, 201);
	return rep;
}

static struct reply_seen
register_and_sign_in(struct t *t, const char *body)
{
	struct reply_seen rep = call(t, "POST", "/user/", body, AS_NOBODY);

	assert_status(&rep, 201);
	return sign_in(t, body);
}

static struct reply_seen
refresh_as(struct t *t, const char *refresh_token, const char *request_id)
{
	char body[300];
	struct call c = { "POST", "/session/refresh", body, AS_NOBODY,
		{ [PARAM_REQUEST_ID] = request_id } };

	snprintf(body, sizeof(body), "{\"refresh_token\":\"%s\"}", refresh_token);
	return call_with(t, &c);
}

static struct reply_seen
refresh(struct t *t, const struct reply_seen *session)
{
	return refresh_as(t, text_at(session, "refresh_token"), "");
}

/* A request with the token of a session. */
static struct reply_seen
call_in(struct t *t, const struct reply_seen *session, const char *method,
    const char *path)
{
	char bearer[1000];
	struct call c = { method, path, NULL, AS_NOBODY,
		{ [PARAM_AUTHORIZATION] = bearer } };

	snprintf(bearer, sizeof(bearer), "Bearer %s", text_at(session, "token"));
	return call_with(t, &c);
}

static void
check_token(struct t *t, const struct reply_seen *rep, int64_t session)
{
	struct app *app = app_of(t);
	struct token_claims claims;
	struct arena a;
	const char *why;
	char *end;

	arena_init(&a);
	assert_int_equal(
	    token_verify(&a, &app->keys, "https://shop.example",
		text_at(rep, "token"), clock_ms() / 1000, &claims, &why),
	    OK);
	assert_int_equal(claims.sub, int_at(rep, "user_id"));
	assert_int_equal(claims.iat, clock_ms() / 1000);
	assert_int_equal(claims.exp, claims.iat + 900);
	assert_int_equal(strtoll(claims.jti, &end, 10), session);
	assert_int_equal(*end, '.');
	assert_true(strlen(end) > 10);
	arena_release(&a);
}

static void
test_session__sign_in_gives_tokens(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = register_and_sign_in(t, ANN), again;

	assert_int_equal(int_at(&rep, "user_id"), 1);
	assert_int_equal(int_at(&rep, "expires_in"), 900);
	assert_string_equal(text_at(&rep, "token_type"), "Bearer");
	assert_non_null(
	    strstr(rep.fields, "Cache-Control: private, no-store\r\n"));
	check_token(t, &rep, 1);
	again = call_in(t, &rep, "GET", "/user/1");
	assert_status(&again, 200);
	again = call(t, "POST", "/session",
	    "{\"email\":\"ANN@A.org\",\"password\":\"seven blue apples\"}",
	    AS_NOBODY);
	assert_status(&again, 201);
	check_token(t, &again, 2);
	assert_string_not_equal(
	    text_at(&again, "refresh_token"), text_at(&rep, "refresh_token"));
}

static void
test_session__all_who_are_refused_hear_the_same(void **state)
{
	static const char *const bodies[] = {
		"{\"email\":\"ann@a.org\",\"password\":\"seven blue pears\"}",
		"{\"email\":\"ann@a.org\",\"password\":\"\"}",
		"{\"email\":\"eve@a.org\",\"password\":\"seven blue apples\"}",
		BOB,
	};
	struct t *t = *state;
	struct reply_seen rep = register_and_sign_in(t, ANN), first;

	rep = call(t, "POST", "/user/", BOB, AS_NOBODY);
	rep = call(t, "DELETE", "/user/2", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	first = call(t, "POST", "/session/", bodies[0], AS_NOBODY);
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		verified = 0;
		costly = false;
		rep = call(t, "POST", "/session/", bodies[i], AS_NOBODY);
		assert_problem(&rep, 401, NULL);
		assert_string_equal(rep.body, first.body);
		assert_string_equal(rep.fields, first.fields);
		assert_int_equal(verified, 1);
		assert_true(costly);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM session"), 1);
}

static void
test_session__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *path, *body, *pointer;
	} cases[] = {
		{ "/session/", "{}", "#/email" },
		{ "/session/", "{}", "#/password" },
		{ "/session/", "{\"email\":\"ann\"}", "#/email" },
		{ "/session/", "{\"password\":7}", "#/password" },
		{ "/session/", "{\"role\":\"admin\"}", "#/role" },
		{ "/session/refresh", "{}", "#/refresh_token" },
		{ "/session/refresh", "{\"refresh_token\":null}",
		    "#/refresh_token" },
		{ "/session/refresh", "{\"token\":\"x\"}", "#/token" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", cases[i].path, cases[i].body, AS_NOBODY);

		assert_problem(&rep, 422, cases[i].pointer);
	}
}

static void
test_session__secrets_are_not_stored(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/session/", ANN, AS_NOBODY,
		{ [PARAM_IDEMPOTENCY_KEY] = "k", [PARAM_REQUEST_ID] = "r" } };
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);
	char sql[300];

	rep = call_with(t, &c);
	assert_status(&rep, 201);
	rep = call_with(t, &c);
	assert_status(&rep, 201);
	check_token(t, &rep, 2);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 0);
	snprintf(sql, sizeof(sql),
	    "SELECT count(*) FROM session WHERE family || token || previous"
	    " LIKE '%%' || substr('%s', 1, 10) || '%%'",
	    text_at(&rep, "refresh_token"));
	assert_int_equal(sql_int(t, sql), 0);
}

static void
test_session__refresh_tokens_are_good_once(void **state)
{
	struct t *t = *state;
	struct reply_seen first = register_and_sign_in(t, ANN), other, second,
			  third, rep;

	other = sign_in(t, ANN);
	advance(t, 1000);
	second = refresh(t, &first);
	assert_status(&second, 200);
	check_token(t, &second, 1);
	third = refresh(t, &second);
	assert_status(&third, 200);
	/* Used again, even the oldest ends the session for all who are in it. */
	rep = refresh(t, &first);
	assert_problem(&rep, 401, NULL);
	rep = refresh(t, &third);
	assert_problem(&rep, 401, NULL);
	rep = refresh(t, &other);
	assert_status(&rep, 200);
}

static void
test_session__refresh_that_nginx_repeats_is_no_reuse(void **state)
{
	struct t *t = *state;
	struct reply_seen first = register_and_sign_in(t, ANN), second, rep;
	const char *token = text_at(&first, "refresh_token");

	rep = refresh_as(t, token, "one");
	assert_status(&rep, 200);
	second = refresh_as(t, token, "one");
	assert_status(&second, 200);
	rep = refresh_as(t, text_at(&second, "refresh_token"), "two");
	assert_status(&rep, 200);
	second = refresh_as(t, token, "one");
	assert_problem(&second, 401, NULL);
	rep = refresh(t, &rep);
	assert_problem(&rep, 401, NULL);
}

static void
test_session__refresh_without_a_request_id_is_never_repeated(void **state)
{
	struct t *t = *state;
	struct reply_seen first = register_and_sign_in(t, ANN), rep;

	rep = refresh(t, &first);
	assert_status(&rep, 200);
	advance(t, 10 * CLOCK_SECOND);
	rep = refresh(t, &first);
	assert_problem(&rep, 401, NULL);
}

/* Two tabs of a browser, or a reply that was lost. */
static void
test_session__a_second_refresh_at_the_same_moment_ends_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen first = register_and_sign_in(t, ANN), second, rep;

	second = refresh(t, &first);
	assert_status(&second, 200);
	advance(t, 10 * CLOCK_SECOND - 1);
	rep = refresh(t, &first);
	assert_problem(&rep, 409, NULL);
	assert_string_equal(
	    text_at(&rep, "type"), "urn:coster:problem:refreshed-already");
	assert_int_equal(call_in(t, &second, "GET", "/user/1").status, 200);
	advance(t, 1);
	rep = refresh(t, &first);
	assert_problem(&rep, 401, NULL);
	assert_int_equal(call_in(t, &second, "GET", "/user/1").status, 401);
}

/* The clock was ahead when they ended. */
static void
test_session__ended_ones_stay_so_when_the_clock_is_set_back(void **state)
{
	struct t *t = *state;
	struct reply_seen one, two, rep;

	advance(t, CLOCK_DAY);
	one = register_and_sign_in(t, ANN);
	two = sign_in(t, ANN);
	assert_int_equal(call_in(t, &one, "DELETE", "/session/").status, 204);
	assert_int_equal(call_in(t, &two, "DELETE", "/user/1").status, 204);
	advance(t, -CLOCK_DAY);
	rep = refresh(t, &one);
	assert_problem(&rep, 401, NULL);
	rep = refresh(t, &two);
	assert_problem(&rep, 401, NULL);
}

static void
test_session__the_oldest_end_when_there_are_too_many(void **state)
{
	struct t *t = *state;
	struct reply_seen first = register_and_sign_in(t, ANN), rep;

	run_sql("INSERT INTO session (user_id, family, token, created_at,"
		" last_used_at, expires_at) WITH RECURSIVE n(i) AS (SELECT 1"
		" UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT 1, i, 'x',"
		" 0, 0, 9e12 FROM n");
	assert_int_equal(call_in(t, &first, "GET", "/user/1").status, 200);
	rep = sign_in(t, ANN);
	assert_int_equal(call_in(t, &first, "GET", "/user/1").status, 401);
	assert_int_equal(call_in(t, &rep, "GET", "/user/1").status, 200);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM session WHERE expires_at > 0"), 100);
}

static void
test_session__a_token_does_not_outlive_a_role(void **state)
{
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	run_sql("UPDATE account SET role = 'admin'");
	session = refresh(t, &session);
	assert_int_equal(call_in(t, &session, "GET", "/user/").status, 200);
	run_sql("UPDATE account SET role = 'customer'");
	rep = call_in(t, &session, "GET", "/user/");
	assert_problem(&rep, 401, NULL);
	session = refresh(t, &session);
	assert_int_equal(call_in(t, &session, "GET", "/user/").status, 403);
	assert_int_equal(call_in(t, &session, "GET", "/user/1").status, 200);
}

static void
test_session__made_up_refresh_tokens_end_nothing(void **state)
{
	static const char *const tokens[] = { "", "x", "1",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		rep = refresh_as(t, tokens[i], "");
		assert_problem(&rep, 401, NULL);
	}
	rep = refresh(t, &session);
	assert_status(&rep, 200);
}

static void
test_session__refresh_brings_the_role_of_now(void **state)
{
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	rep = call_in(t, &session, "GET", "/user/");
	assert_problem(&rep, 403, NULL);
	run_sql("UPDATE account SET role = 'admin'");
	session = refresh(t, &session);
	rep = call_in(t, &session, "GET", "/user/");
	assert_status(&rep, 200);
}

static void
test_session__ends_when_it_is_not_used_for_30_days(void **state)
{
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	for (int i = 0; i < 3; i++) {
		advance(t, 30 * CLOCK_DAY - 1);
		session = refresh(t, &session);
		assert_status(&session, 200);
	}
	advance(t, 30 * CLOCK_DAY);
	rep = refresh(t, &session);
	assert_problem(&rep, 401, NULL);
}

static void
test_session__signing_out_ends_this_one(void **state)
{
	struct t *t = *state;
	struct reply_seen one = register_and_sign_in(t, ANN), two, rep;

	two = sign_in(t, ANN);
	rep = call_in(t, &two, "DELETE", "/session/");
	assert_status(&rep, 204);
	assert_int_equal(call_in(t, &one, "GET", "/user/1").status, 200);
	/* Its token is worth nothing here, although its time is not over. */
	assert_int_equal(call_in(t, &two, "GET", "/user/1").status, 401);
	assert_int_equal(call_in(t, &two, "DELETE", "/session/").status, 401);
	rep = refresh(t, &two);
	assert_problem(&rep, 401, NULL);
	rep = refresh(t, &one);
	assert_status(&rep, 200);
	rep = call(t, "DELETE", "/session/", NULL, AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	rep = call(t, "DELETE", "/session/", NULL, AS_SERVICE);
	assert_problem(&rep, 403, NULL);
}

static void
test_session__signing_out_that_nginx_repeats_is_done_already(void **state)
{
	static const char *const paths[]
	    = { "/session/", "/session/2", "/user/1" };
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct call c = { "DELETE", paths[i], NULL, AS_NOBODY,
			{ [PARAM_REQUEST_ID] = paths[i] } };

		c.param[PARAM_AUTHORIZATION] = arena_printf(test_arena(t),
		    "Bearer %s", text_at(&session, "token"));
		for (int again = 0; again < 2; again++) {
			rep = call_with(t, &c);
			assert_status(&rep, 204);
		}
		c.param[PARAM_REQUEST_ID] = "another";
		rep = call_with(t, &c);
		assert_problem(&rep, 401, NULL);
		if (i + 1 < ARRAY_LEN(paths))
			session = sign_in(t, ANN);
	}
}

static void
test_session__list_has_ones_own(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/session/", ANN, AS_NOBODY,
		{ [PARAM_USER_AGENT] = "Br\xf6wser/1\x01",
		    [PARAM_REMOTE_ADDR] = "2001:db8::7" } };
	struct reply_seen rep = register_and_sign_in(t, ANN), session;
	char path[200];

	register_and_sign_in(t, BOB);
	advance(t, 1000);
	session = call_with(t, &c);
	advance(t, 1000);
	rep = call_in(t, &session, "GET", "/session/?limit=1");
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/id"), 1);
	assert_false(json_object_get_boolean(member(&rep, "items/0/current")));
	snprintf(path, sizeof(path), "/session/?cursor=%s",
	    text_at(&rep, "next_cursor"));
	rep = call_in(t, &session, "GET", path);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/id"), 3);
	assert_true(json_object_get_boolean(member(&rep, "items/0/current")));
	assert_string_equal(text_at(&rep, "items/0/address"), "2001:db8::7");
	assert_string_equal(text_at(&rep, "items/0/agent"), "Br?wser/1?");
	assert_string_equal(text_at(&rep, "items/0/last_used_at"),
	    "2027-01-15T08:00:01.000Z");
	assert_null(member(&rep, "items/1"));
	session = refresh(t, &session);
	rep = call_in(t, &session, "GET", path);
	assert_string_equal(text_at(&rep, "items/0/created_at"),
	    "2027-01-15T08:00:01.000Z");
	assert_string_equal(text_at(&rep, "items/0/last_used_at"),
	    "2027-01-15T08:00:02.000Z");
	rep = call(t, "GET", "/session/", NULL, AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	assert_int_equal(check_plans(t, "SELECT*FROM session*"), 3);
}

static void
test_session__others_cannot_end_it(void **state)
{
	struct t *t = *state;
	struct reply_seen session = register_and_sign_in(t, ANN), rep;

	rep = call(t, "DELETE", "/session/1", NULL, AS_USER(2));
	assert_problem(&rep, 404, NULL);
	rep = call(t, "DELETE", "/session/1", NULL, AS_ADMIN);
	assert_problem(&rep, 404, NULL);
	rep = call(t, "DELETE", "/session/1", NULL, AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	session = refresh(t, &session);
	assert_status(&session, 200);
	rep = call(t, "DELETE", "/session/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	rep = call(t, "DELETE", "/session/1", NULL, AS_USER(1));
	assert_problem(&rep, 404, NULL);
	rep = call(t, "GET", "/session/", NULL, AS_USER(1));
	assert_null(member(&rep, "items/0"));
	rep = refresh(t, &session);
	assert_problem(&rep, 401, NULL);
}

static void
test_session__ended_ones_are_pruned_and_no_id_comes_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = register_and_sign_in(t, ANN);

	for (int i = 0; i < 3; i++)
		sign_in(t, ANN);
	rep = call(t, "DELETE", "/session/4", NULL, AS_USER(1));
	assert_status(&rep, 204);
	rep = call(t, "DELETE", "/session/2", NULL, AS_USER(1));
	assert_status(&rep, 204);
	assert_int_equal(run_job(t, "prune"), 0);
	assert_true(run_job(t, "prune") >= CLOCK_MINUTE);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM session"), 3);
	rep = sign_in(t, ANN);
	check_token(t, &rep, 5);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM session"), 3);
	advance(t, 31 * CLOCK_DAY);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM session"), 1);
}

static void
test_session__sign_in_renews_a_stale_hash(void **state)
{
	struct t *t = *state;
	char hash[crypto_pwhash_STRBYTES], sql[300];
	struct reply_seen rep = register_and_sign_in(t, ANN);

	assert_int_equal(
	    crypto_pwhash_str(hash, "seven blue apples", 17, 1, 8192), 0);
	snprintf(sql, sizeof(sql), "UPDATE account SET password = '%s'", hash);
	run_sql(sql);
	rep = call(t, "POST", "/session/",
	    "{\"email\":\"ann@a.org\",\"password\":\"wrong\"}", AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	assert_int_equal(
	    sql_int(t, "SELECT password LIKE '%m=8,t=1,%' FROM account"), 1);
	rep = sign_in(t, ANN);
	assert_int_equal(
	    sql_int(t, "SELECT password LIKE '%m=19456,t=2,%' FROM account"), 1);
	assert_int_equal(sql_int(t, "SELECT version FROM account"), 1);
	sign_in(t, ANN);
	assert_true(costly);
}

static void
test_session__password_changed_while_it_is_verified_lets_nobody_in(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	meanwhile = "UPDATE account SET password = 'another'";
	rep = call(t, "POST", "/session/", ANN, AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM session"), 0);
}

static void
test_session__keys_are_public(void **state)
{
	struct t *t = *state;
	struct reply_seen rep
	    = call(t, "GET", "/.well-known/jwks.json", NULL, AS_NOBODY);

	assert_status(&rep, 200);
	assert_non_null(
	    strstr(rep.fields, "Cache-Control: public, max-age=300\r\n"));
	assert_string_equal(text_at(&rep, "keys/0/kid"), user_signer.kid);
	assert_string_equal(text_at(&rep, "keys/0/kty"), "OKP");
	assert_string_equal(text_at(&rep, "keys/0/crv"), "Ed25519");
	assert_non_null(text_at(&rep, "keys/0/x"));
	assert_null(member(&rep, "keys/0/d"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_session__sign_in_gives_tokens),
		TEST(test_session__all_who_are_refused_hear_the_same),
		TEST(test_session__bad_bodies_are_refused),
		TEST(test_session__secrets_are_not_stored),
		TEST(test_session__refresh_tokens_are_good_once),
		TEST(test_session__refresh_that_nginx_repeats_is_no_reuse),
		TEST(test_session__refresh_without_a_request_id_is_never_repeated),
		TEST(test_session__a_second_refresh_at_the_same_moment_ends_nothing),
		TEST(test_session__ended_ones_stay_so_when_the_clock_is_set_back),
		TEST(test_session__the_oldest_end_when_there_are_too_many),
		TEST(test_session__a_token_does_not_outlive_a_role),
		TEST(test_session__made_up_refresh_tokens_end_nothing),
		TEST(test_session__refresh_brings_the_role_of_now),
		TEST(test_session__ends_when_it_is_not_used_for_30_days),
		TEST(test_session__signing_out_ends_this_one),
		TEST(test_session__signing_out_that_nginx_repeats_is_done_already),
		TEST(test_session__list_has_ones_own),
		TEST(test_session__others_cannot_end_it),
		TEST(test_session__ended_ones_are_pruned_and_no_id_comes_again),
		TEST(test_session__sign_in_renews_a_stale_hash),
		TEST(test_session__password_changed_while_it_is_verified_lets_nobody_in),
		TEST(test_session__keys_are_public),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
