#include "tests/loopback.h"

#include "shared/clock.h"

#define OLD "seven blue apples"
#define NEW "nine green pears"
#define ANN "{\"email\":\"Ann@a.org\",\"password\":\"" OLD "\"}"
#define SIGN_IN(password)                                                      \
	"{\"email\":\"ann@a.org\",\"password\":\"" password "\"}"

static const char *
token_in(struct t *t, const char *body, const char *before)
{
	const char *at = strstr(body, before);

	assert_non_null(at);
	at += strlen(before);
	assert_int_equal(strcspn(at, "\""), 43); /* 32 bytes in base64 */
	return arena_strndup(test_arena(t), at, strcspn(at, "\""));
}

/* Takes all messages away; the token of the newest link that begins so. */
static const char *
mailed(struct t *t, const char *link)
{
	sqlite3 *h = worker(t)->db.handle;
	const char *token = NULL;
	sqlite3_stmt *s;

	assert_int_equal(sqlite3_prepare_v2(h,
			     "SELECT body FROM outbox WHERE path ="
			     " '/send_email/' AND body IS NOT NULL ORDER BY id",
			     -1, &s, NULL),
	    SQLITE_OK);
	while (sqlite3_step(s) == SQLITE_ROW) {
		const char *body = (const char *)sqlite3_column_text(s, 0);

		if (strstr(body, link) != NULL)
			token = token_in(t, body, link);
	}
	sqlite3_finalize(s);
	assert_int_equal(
	    sqlite3_exec(h, "DELETE FROM outbox", NULL, NULL, NULL), SQLITE_OK);
	return token;
}

#define VERIFY "https://shop.example/verify#"
#define RESET "https://shop.example/reset#"

/* Registers; the token of the link that comes along. */
static const char *
register_ann(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);
	const char *token = mailed(t, VERIFY);

	assert_status(&rep, 201);
	assert_non_null(token);
	return token;
}

static struct reply_seen
verify(struct t *t, const char *token)
{
	return call(t, "POST", "/user/verification",
	    arena_printf(test_arena(t), "{\"token\":\"%s\"}", token), AS_NOBODY);
}

static const char *
verified_at(struct t *t)
{
	struct reply_seen rep = call(t, "GET", "/user/1", NULL, AS_USER(1));

	assert_status(&rep, 200);
	return text_at(&rep, "verified_at");
}

static struct reply_seen
ask_reset(struct t *t, const char *email)
{
	return call(t, "POST", "/password_reset/",
	    arena_printf(test_arena(t), "{\"email\":\"%s\"}", email), AS_NOBODY);
}

/* The token that came for Ann, or NULL. */
static const char *
reset_token(struct t *t)
{
	while (run_job(t, "password resets") == 0)
		;
	return mailed(t, RESET);
}

static struct reply_seen
reset(struct t *t, const char *token, const char *password)
{
	return call(t, "POST",
	    arena_printf(test_arena(t), "/password_reset/%s", token),
	    arena_printf(test_arena(t), "{\"password\":\"%s\"}", password),
	    AS_NOBODY);
}

static int
sign_in(struct t *t, const char *body)
{
	return call(t, "POST", "/session/", body, AS_NOBODY).status;
}

static void
test_proof__an_address_is_verified_by_its_link_once(void **state)
{
	struct t *t = *state;
	const char *token = register_ann(t);
	struct reply_seen rep;

	assert_null(verified_at(t));
	advance(t, 1000);
	rep = verify(t, token);
	assert_status(&rep, 204);
	assert_string_equal(verified_at(t), "2027-01-15T08:00:01.000Z");
	assert_int_equal(sql_int(t, "SELECT version FROM account"), 2);
	rep = verify(t, token);
	assert_problem(&rep, 422, "#/token");
	rep = call(t, "POST", "/user/1/verification", NULL, AS_USER(1));
	assert_problem(&rep, 409, NULL);
}

static void
test_proof__a_newer_link_takes_the_place_of_an_older_one(void **state)
{
	struct t *t = *state;
	const char *first = register_ann(t), *second;
	struct reply_seen rep;

	rep = call(t, "POST", "/user/1/verification", NULL, AS_USER(1));
	assert_status(&rep, 202);
	assert_int_equal(int_at(&rep, "expires_in"), 86400);
	assert_null(strstr(rep.body, "token"));
	second = mailed(t, VERIFY);
	assert_string_not_equal(first, second);
	rep = verify(t, first);
	assert_problem(&rep, 422, "#/token");
	rep = verify(t, second);
	assert_status(&rep, 204);
}

static void
test_proof__a_new_address_has_a_day(void **state)
{
	struct t *t = *state;
	const char *token = register_ann(t);
	struct reply_seen rep;

	advance(t, CLOCK_DAY);
	rep = verify(t, token);
	assert_problem(&rep, 422, "#/token");
	rep = call(t, "POST", "/user/1/verification", NULL, AS_USER(1));
	assert_status(&rep, 202);
	token = mailed(t, VERIFY);
	advance(t, CLOCK_DAY - 1);
	run_job(t, "prune");
	rep = verify(t, token);
	assert_status(&rep, 204);
}

static void
test_proof__a_new_password_has_an_hour(void **state)
{
	struct t *t = *state;
	const char *late;
	struct reply_seen rep;

	register_ann(t);
	rep = ask_reset(t, "ann@a.org");
	late = reset_token(t);
	advance(t, CLOCK_HOUR);
	rep = reset(t, late, NEW);
	assert_problem(&rep, 404, NULL);
	run_job(t, "prune");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM proof"
				    " WHERE kind = 'password_reset'"),
	    0);
	rep = ask_reset(t, "ann@a.org");
	late = reset_token(t);
	advance(t, CLOCK_HOUR - 1);
	run_job(t, "prune");
	rep = reset(t, late, NEW);
	assert_status(&rep, 204);
}

static void
test_proof__one_kind_of_link_is_not_the_other(void **state)
{
	struct t *t = *state;
	const char *token = register_ann(t), *other;
	struct reply_seen rep = ask_reset(t, "ann@a.org");

	other = reset_token(t);
	rep = reset(t, token, NEW);
	assert_problem(&rep, 404, NULL);
	rep = verify(t, other);
	assert_problem(&rep, 422, "#/token");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM proof"), 2);
}

static void
test_proof__only_hashes_are_stored(void **state)
{
	struct t *t = *state;
	const char *token = register_ann(t);

	assert_int_equal(
	    sql_int(t,
		arena_printf(test_arena(t),
		    "SELECT count(*) FROM proof WHERE token = '%s'", token)),
	    0);
	assert_int_equal(sql_int(t, "SELECT length(token) FROM proof"), 43);
}

static void
test_proof__a_changed_address_is_to_be_verified_anew(void **state)
{
	struct t *t = *state;
	const char *first = register_ann(t), *lost, *token;
	struct reply_seen rep = verify(t, first);

	assert_status(&rep, 204);
	rep = ask_reset(t, "ann@a.org");
	lost = reset_token(t);
	/* In other letters it is the same one. */
	rep = call(
	    t, "PATCH", "/user/1", "{\"email\":\"ANN@a.org\"}", AS_USER(1));
	assert_status(&rep, 200);
	assert_non_null(text_at(&rep, "verified_at"));
	assert_null(mailed(t, VERIFY));
	rep = call(t, "PATCH", "/user/1",
	    "{\"email\":\"zoe@a.org\",\"current_password\":\"" OLD "\"}",
	    AS_USER(1));
	assert_status(&rep, 200);
	assert_null(text_at(&rep, "verified_at"));
	token = mailed(t, VERIFY);
	assert_non_null(token);
	/* What went to the old address is good for nothing. */
	rep = reset(t, lost, NEW);
	assert_problem(&rep, 404, NULL);
	rep = verify(t, token);
	assert_status(&rep, 204);
	assert_non_null(verified_at(t));
}

static void
test_proof__whom_it_concerns_asks_for_a_link(void **state)
{
	static const struct {
		struct as who;
		const char *path;
		int status;
	} cases[] = {
		{ { ROLE_CUSTOMER, 1, false }, "/user/1/verification", 202 },
		{ { ROLE_ADMIN, 999, false }, "/user/1/verification/", 202 },
		{ { ROLE_CUSTOMER, 2, false }, "/user/1/verification", 404 },
		{ { ROLE_NOBODY, 0, false }, "/user/1/verification", 401 },
		{ { ROLE_SERVICE, 0, false }, "/user/1/verification", 403 },
		{ { ROLE_ADMIN, 999, false }, "/user/2/verification", 404 },
	};
	struct t *t = *state;

	register_ann(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", cases[i].path, NULL, cases[i].who);

		assert_status(&rep, cases[i].status);
	}
}

static void
test_proof__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *path, *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "/user/verification", "{}", 422, "#/token" },
		{ "/user/verification", "{\"token\":\"\"}", 422, "#/token" },
		{ "/user/verification", "{\"token\":7}", 422, "#/token" },
		{ "/user/verification", "{\"email\":\"a@b.c\"}", 422, "#/email" },
		{ "/password_reset", "{}", 422, "#/email" },
		{ "/password_reset", "{\"email\":\"ann\"}", 422, "#/email" },
		{ "/password_reset", "{", 400, NULL },
		{ "/password_reset/abc", "{}", 422, "#/password" },
		{ "/password_reset/abc", "{\"password\":\"short\"}", 422,
		    "#/password" },
		{ "/password_reset/abc", "{\"password\":\"" NEW "\"}", 404,
		    NULL },
		{ "/password_reset/a.b", "{\"password\":\"" NEW "\"}", 404,
		    NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", cases[i].path, cases[i].body, AS_NOBODY);

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
}

#define LIVE                                                                   \
	"SELECT count(*) FROM session WHERE expires_at > 1800000000000"

static void
test_proof__a_forgotten_password_is_made_anew(void **state)
{
	struct t *t = *state;
	const char *token;
	struct reply_seen rep;

	register_ann(t);
	assert_int_equal(sign_in(t, SIGN_IN(OLD)), 201);
	rep = ask_reset(t, "ANN@a.org");
	assert_status(&rep, 202);
	assert_int_equal(int_at(&rep, "expires_in"), 3600);
	/* Until the link is used nothing has changed. */
	token = reset_token(t);
	assert_non_null(token);
	assert_int_equal(sql_int(t, LIVE), 1);
	/* A password that will not do leaves the link as it is. */
	rep = reset(t, token, "password123");
	assert_problem(&rep, 422, "#/password");
	rep = reset(t, token, "ann@A.org");
	assert_problem(&rep, 422, "#/password");
	rep = reset(t, token, NEW);
	assert_status(&rep, 204);
	assert_int_equal(sql_int(t, LIVE), 0);
	assert_int_equal(sign_in(t, SIGN_IN(OLD)), 401);
	assert_int_equal(sign_in(t, SIGN_IN(NEW)), 201);
	/* The mail came to the address. */
	assert_non_null(verified_at(t));
	rep = reset(t, token, OLD);
	assert_problem(&rep, 404, NULL);
}

static void
test_proof__nobody_can_tell_who_has_an_account(void **state)
{
	struct t *t = *state;
	struct reply_seen known, unknown;

	register_ann(t);
	known = ask_reset(t, "ann@a.org");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reset_request"), 1);
	unknown = ask_reset(t, "eve@a.org");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reset_request"), 2);
	assert_status(&unknown, 202);
	assert_string_equal(known.body, unknown.body);
	assert_string_equal(known.fields, unknown.fields);
	/* Nothing of it is done before the reply. */
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
	assert_non_null(reset_token(t));
	assert_int_equal(sql_int(t, "SELECT count(*) FROM reset_request"), 0);
}

static void
test_proof__a_reset_ends_the_wait_of_who_forgot_the_password(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	register_ann(t);
	for (int i = 0; i < 11; i++)
		rep = call(t, "POST", "/session/", SIGN_IN("wrong password"),
		    AS_NOBODY);
	assert_problem(&rep, 429, NULL);
	rep = ask_reset(t, "ann@a.org");
	rep = reset(t, reset_token(t), NEW);
	assert_status(&rep, 204);
	assert_int_equal(sign_in(t, SIGN_IN(NEW)), 201);
}

static void
test_proof__a_new_password_makes_the_link_for_one_worthless(void **state)
{
	struct t *t = *state;
	const char *token;
	struct reply_seen rep;

	register_ann(t);
	rep = ask_reset(t, "ann@a.org");
	token = reset_token(t);
	rep = call(t, "PATCH", "/user/1",
	    "{\"password\":\"" NEW "\",\"current_password\":\"" OLD "\"}",
	    AS_USER(1));
	assert_status(&rep, 200);
	rep = reset(t, token, "ten yellow plums");
	assert_problem(&rep, 404, NULL);
}

static void
test_proof__deleted_accounts_have_no_links(void **state)
{
	struct t *t = *state;
	const char *token = register_ann(t);
	struct reply_seen rep = ask_reset(t, "ann@a.org");

	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	assert_null(reset_token(t));
	rep = verify(t, token);
	assert_problem(&rep, 422, "#/token");
	rep = call(t, "POST", "/user/1/verification", NULL, AS_USER(1));
	assert_problem(&rep, 404, NULL);
}

static void
test_proof__mails_are_limited(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	const char *token = NULL;

	register_ann(t);
	for (int i = 0; i < 5; i++) {
		rep = ask_reset(t, "ann@a.org");
		assert_status(&rep, 202);
		token = reset_token(t);
		assert_non_null(token);
	}
	/* The answer is the same, the last link stays good. */
	rep = ask_reset(t, "ann@a.org");
	assert_status(&rep, 202);
	assert_null(reset_token(t));
	rep = call(t, "POST", "/user/1/verification", NULL, AS_USER(1));
	assert_problem(&rep, 429, NULL);
	for (int i = 6; i < 20; i++) {
		rep = ask_reset(t, "eve@a.org");
		assert_status(&rep, 202);
	}
	rep = ask_reset(t, "zoe@a.org");
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 3600\r\n"));
	/* So are those that tell of a new password: they use up the shop's too. */
	rep = call(t, "PATCH", "/user/1",
	    "{\"password\":\"" NEW "\",\"current_password\":\"" OLD "\"}",
	    AS_USER(1));
	assert_problem(&rep, 429, NULL);
	rep = reset(t, token, NEW);
	assert_status(&rep, 204);
	advance(t, CLOCK_HOUR);
	rep = ask_reset(t, "ann@a.org");
	assert_non_null(reset_token(t));
}

static int
setup_with_page(void **state)
{
	int rc;

	setenv("COSTER_RESET_URL", "https://www.example/new?x=1", 1);
	rc = loopback_setup(state);
	unsetenv("COSTER_RESET_URL");
	return rc;
}

static void
test_proof__a_link_leads_to_the_page_that_is_set(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	register_ann(t);
	rep = ask_reset(t, "ann@a.org");
	assert_status(&rep, 202);
	while (run_job(t, "password resets") == 0)
		;
	assert_non_null(mailed(t, "https://www.example/new?x=1#"));
}

static int
mails_to_forget(struct t *t)
{
	return (int)sql_int(t,
	    "SELECT count(*) FROM outbox WHERE method = 'DELETE'"
	    " AND path = '/send_email/?to=ann%40a.org'"
	    " AND body = '{\"before\":\"2027-01-15T08:01:00.000Z\"}'");
}

/* Else who only claims it would see the mails to it, and take them away. */
static void
test_proof__an_address_is_its_former_owners_until_it_is_proved(void **state)
{
	struct t *t = *state;
	const char *first = register_ann(t), *second;
	struct reply_seen rep = verify(t, first);

	assert_status(&rep, 204);
	rep = call(t, "PATCH", "/user/1",
	    "{\"email\":\"zoe@a.org\",\"current_password\":\"" OLD "\"}",
	    AS_USER(1));
	assert_status(&rep, 200);
	second = register_ann(t); /* user 2 */
	assert_int_equal(sql_int(t,
			     "SELECT verified FROM former_address"
			     " WHERE email_key = 'ann@a.org' AND user_id = 1"),
	    1);
	rep = call(t, "PATCH", "/user/2",
	    "{\"email\":\"bob@a.org\",\"current_password\":\"" OLD "\"}",
	    AS_USER(2));
	assert_status(&rep, 200);
	rep = verify(t, second);
	assert_problem(&rep, 422, "#/token");
	assert_int_equal(sql_int(t,
			     "SELECT count(*) FROM former_address"
			     " WHERE user_id = 1"),
	    1);
	/* Deleted, it takes nothing away either. */
	second = register_ann(t); /* user 3 */
	rep = call(t, "DELETE", "/user/3", NULL, AS_USER(3));
	assert_status(&rep, 204);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox WHERE path"
				    " LIKE '/send_email/%' AND method = 'DELETE'"),
	    0);
	second = register_ann(t); /* user 4 */
	assert_int_equal(mails_to_forget(t), 0);
	advance(t, CLOCK_HOUR); /* her own mails of then stay */
	rep = verify(t, second);
	assert_status(&rep, 204);
	assert_int_equal(mails_to_forget(t), 1);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM former_address"), 0);
}

/* Who has it now keeps the mails of now. */
static void
test_proof__a_former_owner_who_goes_takes_the_mails_of_then(void **state)
{
	struct t *t = *state;
	const char *first = register_ann(t);
	struct reply_seen rep = verify(t, first);

	rep = call(t, "PATCH", "/user/1",
	    "{\"email\":\"zoe@a.org\",\"current_password\":\"" OLD "\"}",
	    AS_USER(1));
	assert_status(&rep, 200);
	advance(t, CLOCK_HOUR);
	(void)!register_ann(t);
	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	assert_int_equal(mails_to_forget(t), 1);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox WHERE path"
				    " LIKE '/send_email/%' AND method = 'DELETE'"),
	    2);
}

/* By a link for a new password, too. */
static void
test_proof__a_new_password_proves_the_address(void **state)
{
	struct t *t = *state;
	const char *token;
	struct reply_seen rep;

	(void)!register_ann(t);
	sql_int(t, "INSERT INTO account (id, role, created_at, updated_at)"
		   " VALUES (9, 'customer', 1, 1)");
	sql_int(t, "INSERT INTO former_address (email_key, user_id, verified,"
		   " left_at) VALUES ('ann@a.org', 9, 1, 1800000000000)");
	rep = call(t, "POST", "/password_reset",
	    "{\"email\":\"ann@a.org\"}", AS_NOBODY);
	assert_status(&rep, 202);
	assert_int_equal(run_job(t, "password resets"), 0);
	token = mailed(t, RESET);
	rep = call(t, "POST",
	    arena_printf(test_arena(t), "/password_reset/%s", token),
	    "{\"password\":\"" NEW "\"}", AS_NOBODY);
	assert_status(&rep, 204);
	assert_int_equal(mails_to_forget(t), 1);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM former_address"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proof__an_address_is_verified_by_its_link_once),
		TEST(test_proof__a_newer_link_takes_the_place_of_an_older_one),
		TEST(test_proof__a_new_address_has_a_day),
		TEST(test_proof__a_new_password_has_an_hour),
		TEST(test_proof__one_kind_of_link_is_not_the_other),
		TEST(test_proof__only_hashes_are_stored),
		TEST(test_proof__a_changed_address_is_to_be_verified_anew),
		TEST(test_proof__whom_it_concerns_asks_for_a_link),
		TEST(test_proof__bad_bodies_are_refused),
		TEST(test_proof__a_forgotten_password_is_made_anew),
		TEST(test_proof__nobody_can_tell_who_has_an_account),
		TEST(test_proof__a_reset_ends_the_wait_of_who_forgot_the_password),
		TEST(test_proof__a_new_password_makes_the_link_for_one_worthless),
		TEST(test_proof__deleted_accounts_have_no_links),
		TEST(test_proof__mails_are_limited),
		cmocka_unit_test_setup_teardown(
		    test_proof__a_link_leads_to_the_page_that_is_set,
		    setup_with_page, loopback_teardown),
		TEST(test_proof__an_address_is_its_former_owners_until_it_is_proved),
		TEST(test_proof__a_former_owner_who_goes_takes_the_mails_of_then),
		TEST(test_proof__a_new_password_proves_the_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
