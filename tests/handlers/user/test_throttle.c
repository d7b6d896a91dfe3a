#include "tests/loopback.h"

#include <sodium.h>

#include "shared/clock.h"

#define GOOD "seven blue apples"
#define HOME "192.0.2.7"

/* Verifying is replaced: what counts here is whether it comes to it. */
static int verified;

int
crypto_pwhash_str_verify(const char str[crypto_pwhash_STRBYTES],
    const char *const passwd, unsigned long long passwdlen)
{
	(void)str, (void)passwdlen;
	verified++;
	return strcmp(passwd, GOOD) == 0 ? 0 : -1;
}

static struct reply_seen
attempt(struct t *t, const char *email, const char *password, const char *from)
{
	char body[300];
	struct call c = { "POST", "/session/", body, AS_NOBODY,
		{ [PARAM_REMOTE_ADDR] = from } };

	snprintf(body, sizeof(body), "{\"email\":\"%s\",\"password\":\"%s\"}",
	    email, password);
	return call_with(t, &c);
}

static int
sign_in(struct t *t, const char *from)
{
	return attempt(t, "ann@a.org", GOOD, from).status;
}

/* The seconds that it says to wait; 0 for an attempt that was let through. */
static int64_t
fail_in(struct t *t, const char *email, const char *from)
{
	struct reply_seen rep;
	const char *field;

	verified = 0;
	rep = attempt(t, email, "wrong password", from);
	assert_int_equal(verified, rep.status == 401);
	if (rep.status == 401)
		return 0;
	assert_problem(&rep, 429, NULL);
	field = strstr(rep.fields, "Retry-After: ");
	assert_non_null(field);
	return strtoll(field + strlen("Retry-After: "), NULL, 10);
}

static void
fail_times(struct t *t, int n, const char *email, const char *from)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(fail_in(t, email, from), 0);
}

/* n addresses of other networks try one account once each. */
static void
fail_from_everywhere(struct t *t, int n)
{
	for (int i = 0; i < n; i++) {
		char from[32];

		snprintf(from, sizeof(from), "198.51.%d.%d", 100 + i / 250,
		    i % 250);
		assert_int_equal(fail_in(t, "ann@a.org", from), 0);
	}
}

static void
add_ann(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/user/",
	    "{\"email\":\"Ann@a.org\",\"password\":\"" GOOD "\"}", AS_NOBODY);

	assert_status(&rep, 201);
}

static void
test_throttle__waits_double_after_ten_failures(void **state)
{
	static const int64_t waits[]
	    = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900 };
	static const char *const emails[] = { "ann@a.org", "nobody@a.org" };
	struct t *t = *state;

	add_ann(t);
	for (size_t e = 0; e < ARRAY_LEN(emails); e++) {
		fail_times(t, 10, emails[e], HOME);
		for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
			/* Asking again does not make it longer. */
			for (int again = 0; again < 3; again++)
				assert_int_equal(
				    fail_in(t, emails[e], HOME), waits[i]);
			advance(t, waits[i] * CLOCK_SECOND - 1);
			assert_int_equal(fail_in(t, emails[e], HOME), 1);
			advance(t, 1);
			assert_int_equal(fail_in(t, emails[e], HOME), 0);
		}
	}
}

static void
test_throttle__nobody_waits_for_a_clock_that_was_set_back(void **state)
{
	struct t *t = *state;

	add_ann(t);
	fail_times(t, 10, "ann@a.org", HOME);
	assert_int_equal(sign_in(t, HOME), 429);
	advance(t, -30 * CLOCK_DAY);
	assert_int_equal(sign_in(t, HOME), 201);
}

static void
test_throttle__the_right_password_waits_too_and_then_resets(void **state)
{
	struct t *t = *state;

	add_ann(t);
	fail_times(t, 10, "ANN@A.org", HOME);
	assert_int_equal(sign_in(t, HOME), 429);
	/* Another address may, and resets nothing for this one. */
	assert_int_equal(sign_in(t, "192.0.2.8"), 201);
	assert_int_equal(sign_in(t, HOME), 429);
	advance(t, CLOCK_SECOND);
	assert_int_equal(sign_in(t, HOME), 201);
	fail_times(t, 10, "ann@a.org", HOME);
	assert_int_equal(fail_in(t, "ann@a.org", HOME), 1);
}

static void
test_throttle__many_at_once_are_counted_before_they_are_verified(void **state)
{
	struct t *t = *state;

	add_ann(t);
	fail_times(t, 1, "ann@a.org", HOME);
	assert_int_equal(
	    sql_int(t, "SELECT count FROM throttle WHERE rule = 'pair'"), 1);
	assert_int_equal(sign_in(t, HOME), 201);
	assert_int_equal(
	    sql_int(t, "SELECT count FROM throttle WHERE rule = 'pair'"), 0);
	/* The failure stays counted, the success was taken back. */
	assert_int_equal(
	    sql_int(t, "SELECT count FROM throttle WHERE rule = 'network'"), 1);
	assert_int_equal(
	    sql_int(t, "SELECT count FROM throttle WHERE rule = 'account'"), 1);
}

static void
test_throttle__an_address_has_100_failures_over_all_accounts(void **state)
{
	struct t *t = *state;

	add_ann(t);
	for (int i = 0; i < 100; i++) {
		char email[32];

		snprintf(email, sizeof(email), "u%d@a.org", i);
		assert_int_equal(fail_in(t, email, HOME), 0);
		advance(t, CLOCK_SECOND);
	}
	assert_int_equal(fail_in(t, "other@a.org", HOME), 15 * 60 - 100);
	assert_int_equal(sign_in(t, HOME), 429);
	assert_int_equal(sign_in(t, "192.0.2.8"), 201);
	advance(t, 15 * CLOCK_MINUTE - 100 * CLOCK_SECOND);
	assert_int_equal(sign_in(t, HOME), 201);
}

static void
test_throttle__a_success_does_not_excuse_guesses_at_others(void **state)
{
	struct t *t = *state;

	add_ann(t);
	for (int i = 0; i < 100; i++) {
		char email[32];

		snprintf(email, sizeof(email), "u%d@a.org", i);
		assert_int_equal(sign_in(t, HOME), 201);
		assert_int_equal(fail_in(t, email, HOME), 0);
	}
	assert_int_not_equal(fail_in(t, "other@a.org", HOME), 0);
	/* But one's own account is at hand. */
	assert_int_equal(sign_in(t, HOME), 201);
}

static void
test_throttle__networks(void **state)
{
	static const struct {
		const char *one, *other;
		bool same;
	} cases[] = {
		{ "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true },
		{ "2001:db8:1:3::1", "2001:db8:1:4::1", false },
		{ "192.0.2.1", "192.0.2.2", false },
		{ "::ffff:192.0.2.3", "192.0.2.3", true },
		{ "::ffff:192.0.2.4", "::ffff:192.0.2.5", false },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		fail_times(t, 10, "ann@a.org", cases[i].one);
		assert_int_equal(
		    fail_in(t, "ann@a.org", cases[i].other), cases[i].same);
	}
}

static void
test_throttle__strangers_are_slowed_down_and_the_owner_is_not(void **state)
{
	struct t *t = *state;

	add_ann(t);
	assert_int_equal(sign_in(t, HOME), 201);
	fail_from_everywhere(t, 100);
	assert_int_equal(sign_in(t, HOME), 201);
	assert_int_equal(fail_in(t, "ann@a.org", "203.0.113.1"), 5);
	/* One of them each five seconds: an owner elsewhere has a chance. */
	advance(t, 5 * CLOCK_SECOND);
	assert_int_equal(sign_in(t, "203.0.113.2"), 201);
	assert_int_equal(sign_in(t, HOME), 201);
	/* Also known now. */
	assert_int_equal(sign_in(t, "203.0.113.2"), 201);
	advance(t, 15 * CLOCK_MINUTE);
	fail_times(t, 1, "ann@a.org", "203.0.113.1");
}

static void
test_throttle__an_address_is_known_for_90_days(void **state)
{
	struct t *t = *state;

	add_ann(t);
	assert_int_equal(sign_in(t, HOME), 201);
	advance(t, 90 * CLOCK_DAY - 1);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM throttle"), 1);
	advance(t, 1);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM throttle"), 0);
}

static void
test_throttle__failures_are_forgotten_after_a_day(void **state)
{
	struct t *t = *state;

	fail_times(t, 10, "ann@a.org", HOME);
	advance(t, CLOCK_DAY - 1);
	fail_times(t, 1, "ann@a.org", HOME);
	assert_int_equal(fail_in(t, "ann@a.org", HOME), 1);
	advance(t, 1);
	fail_times(t, 10, "ann@a.org", HOME);
	assert_int_equal(fail_in(t, "ann@a.org", HOME), 1);
	advance(t, CLOCK_DAY);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM throttle"), 0);
	assert_true(check_plans(t, "*throttle*") >= 4);
}

static void
test_throttle__no_address_is_stored_in_clear(void **state)
{
	struct t *t = *state;

	fail_times(t, 1, "ann@a.org", HOME);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM throttle WHERE rule || account"
		       " || network LIKE '%ann%'"),
	    0);
}

static void
test_throttle__current_passwords_are_not_guessed_either(void **state)
{
	static const char change[] = "{\"name\":\"A\",\"email\":\"eve@a.org\","
				     "\"current_password\":\"wrong password\"}";
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	for (int i = 0; i < 10; i++) {
		rep = call(t, "PATCH", "/user/1", change, AS_USER(1));
		assert_problem(&rep, 422, "#/current_password");
	}
	verified = 0;
	rep = call(t, "PATCH", "/user/1", change, AS_USER(1));
	assert_problem(&rep, 429, NULL);
	assert_int_equal(verified, 0);
	/* Without the password nothing is guessed. */
	rep = call(t, "PATCH", "/user/1", "{\"name\":\"A\"}", AS_USER(1));
	assert_status(&rep, 200);
	advance(t, CLOCK_SECOND);
	rep = call(t, "PATCH", "/user/1",
	    "{\"password\":\"nine green pears\","
	    "\"current_password\":\"" GOOD "\"}",
	    AS_USER(1));
	assert_status(&rep, 200);
	assert_int_equal(
	    sql_int(t, "SELECT count FROM throttle WHERE rule = 'pair'"), 0);
}

static void
test_throttle__deletion_forgets_it(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	fail_times(t, 10, "ann@a.org", HOME);
	assert_int_equal(sign_in(t, "192.0.2.8"), 201);
	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM throttle WHERE account <> ''"), 0);
}

static int
register_from(struct t *t, int n, const char *from, struct as who)
{
	char body[100];
	struct call c = { "POST", "/user", body, who,
		{ [PARAM_REMOTE_ADDR] = from } };

	snprintf(body, sizeof(body),
	    "{\"email\":\"u%d@a.org\",\"password\":\"" GOOD "\"}", n);
	return call_with(t, &c).status;
}

/* Each makes two mails. */
static void
test_throttle__a_network_registers_60_in_an_hour(void **state)
{
	struct t *t = *state;

	for (int n = 0; n < 60; n++)
		assert_int_equal(register_from(t, n, HOME, AS_NOBODY), 201);
	assert_int_equal(register_from(t, 60, HOME, AS_NOBODY), 429);
	assert_int_equal(register_from(t, 60, "192.0.2.8", AS_NOBODY), 201);
	assert_int_equal(register_from(t, 61, HOME, AS_INTERNAL), 201);
	assert_int_equal(register_from(t, 62, HOME, AS_ADMIN), 201);
	assert_int_equal(register_from(t, 63, HOME, AS_USER(62)), 429);
	advance(t, CLOCK_MINUTE);
	assert_int_equal(register_from(t, 63, HOME, AS_NOBODY), 201);
	assert_int_equal(register_from(t, 64, HOME, AS_NOBODY), 429);
	advance(t, CLOCK_HOUR);
	assert_int_equal(register_from(t, 64, HOME, AS_NOBODY), 201);
}

static int
move_from(struct t *t, int n, const char *from, struct as who)
{
	char body[100];
	struct call c = { "PATCH", "/user/1", body, who,
		{ [PARAM_REMOTE_ADDR] = from } };

	snprintf(body, sizeof(body),
	    "{\"email\":\"ann%d@a.org\",\"current_password\":\"" GOOD "\"}", n);
	return call_with(t, &c).status;
}

/* From wherever: with a few networks one could use up the mails of an hour. */
static void
test_throttle__an_account_moves_five_times_a_day(void **state)
{
	struct t *t = *state;
	char from[20];

	add_ann(t);
	for (int n = 0; n < 6; n++) {
		snprintf(from, sizeof(from), "192.0.2.%d", n);
		assert_int_equal(move_from(t, n, from, AS_USER(1)),
		    n < 5 ? 200 : 429);
	}
	assert_int_equal(move_from(t, 7, HOME, AS_ADMIN), 200);
	advance(t, CLOCK_DAY);
	assert_int_equal(move_from(t, 8, HOME, AS_USER(1)), 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_throttle__waits_double_after_ten_failures),
		TEST(test_throttle__nobody_waits_for_a_clock_that_was_set_back),
		TEST(test_throttle__the_right_password_waits_too_and_then_resets),
		TEST(test_throttle__many_at_once_are_counted_before_they_are_verified),
		TEST(test_throttle__an_address_has_100_failures_over_all_accounts),
		TEST(test_throttle__a_success_does_not_excuse_guesses_at_others),
		TEST(test_throttle__networks),
		TEST(test_throttle__strangers_are_slowed_down_and_the_owner_is_not),
		TEST(test_throttle__an_address_is_known_for_90_days),
		TEST(test_throttle__failures_are_forgotten_after_a_day),
		TEST(test_throttle__no_address_is_stored_in_clear),
		TEST(test_throttle__current_passwords_are_not_guessed_either),
		TEST(test_throttle__deletion_forgets_it),
		TEST(test_throttle__a_network_registers_60_in_an_hour),
		TEST(test_throttle__an_account_moves_five_times_a_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
