#include "tests/loopback.h"

#define ANN                                                                    \
	"{\"email\":\"Ann@a.org\",\"password\":\"seven blue apples\"}"
#define EMPTY "{\"items\":[],\"next_cursor\":null}"
#define CART "{\"items\":[{\"id\":1}],\"count\":1}"

static void
add_ann(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	assert_status(&rep, 201);
	rep = call(t, "POST", "/session/", ANN, AS_NOBODY);
	assert_status(&rep, 201);
}

/* A link that was mailed to her address came back. */
static void
verify(struct t *t)
{
	sql_int(t, "UPDATE account SET verified_at = 1 WHERE id = 1");
}

/* She has another address; the old one is free. */
static void
move(struct t *t, const char *email)
{
	struct reply_seen rep = call(t, "PATCH", "/user/1",
	    arena_printf(test_arena(t),
		"{\"email\":\"%s\","
		"\"current_password\":\"seven blue apples\"}",
		email),
	    AS_USER(1));

	assert_status(&rep, 200);
}

static void
test_export__has_what_every_service_holds(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	verify(t);
	move(t, "zoe+1@a.org");
	verify(t);
	peer(t, "GET /user/1/cart/", 200, CART);
	peer(t, "GET /send_email/[?]*&to=zoe%2B1%40a.org", 200,
	    "{\"items\":[{\"id\":5}],\"next_cursor\":\"five\"}");
	peer(t, "GET /send_email/[?]*&to=ann%40a.org", 200,
	    "{\"items\":[{\"id\":3,\"created_at\":\"2027-01-15T08:00:59.999Z\"},"
	    /* Of who has the address now: */
	    "{\"id\":4,\"created_at\":\"2027-01-15T08:01:00.000Z\"}],"
	    "\"next_cursor\":null}");
	peer(t, "GET /invoices[?]*&user_id=1", 200,
	    "{\"items\":[{\"id\":8},{\"id\":9}],\"next_cursor\":null}");
	peer(t, "GET /log[?]*&user_id=1", 200, EMPTY);
	peer(t, "GET /send_email/[?]*&to=zoe%2B1%40a.org&cursor=five", 200,
	    "{\"items\":[{\"id\":6}],\"next_cursor\":null}");
	rep = call(t, "GET", "/user/1/export", NULL, AS_USER(1));
	assert_status(&rep, 200);
	assert_non_null(strstr(rep.fields,
	    "Content-Disposition: attachment; filename=\"user-1.json\"\r\n"));
	assert_string_equal(text_at(&rep, "account/email"), "zoe+1@a.org");
	assert_string_equal(text_at(&rep, "former_addresses/0"), "ann@a.org");
	assert_int_equal(int_at(&rep, "sessions/0/id"), 1);
	assert_string_equal(text_at(&rep, "sessions/0/address"), "192.0.2.1");
	assert_string_equal(text_at(&rep, "networks/0/network"), "192.0.2.1");
	assert_int_equal(int_at(&rep, "cart/items/0/id"), 1);
	assert_int_equal(int_at(&rep, "mails/0/id"), 5);
	assert_int_equal(int_at(&rep, "mails/1/id"), 6);
	assert_int_equal(int_at(&rep, "mails/2/id"), 3);
	assert_null(member(&rep, "mails/3"));
	assert_int_equal(int_at(&rep, "invoices/1/id"), 9);
	assert_int_equal(json_object_array_length(member(&rep, "log")), 0);
	assert_null(strstr(rep.body, "argon2"));
}

/* Anybody can claim any address, and leave it again. */
static void
test_export__has_no_mail_to_what_is_only_claimed(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	move(t, "zoe@a.org");
	peer(t, "GET /user/1/cart/", 200, CART);
	peer(t, "GET /invoices[?]*&user_id=1", 200, EMPTY);
	peer(t, "GET /log[?]*&user_id=1", 200, EMPTY);
	rep = call(t, "GET", "/user/1/export", NULL, AS_USER(1));
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "former_addresses/0"), "ann@a.org");
	assert_int_equal(json_object_array_length(member(&rep, "mails")), 0);
}

static void
test_export__is_for_whom_it_concerns(void **state)
{
	static const struct {
		struct as who;
		const char *path;
		int status;
	} cases[] = {
		{ { ROLE_CUSTOMER, 2, false }, "/user/1/export", 404 },
		{ { ROLE_NOBODY, 0, false }, "/user/1/export", 401 },
		{ { ROLE_SERVICE, 0, false }, "/user/1/export", 403 },
		{ { ROLE_ADMIN, 999, false }, "/user/2/export", 404 },
	};
	struct t *t = *state;

	add_ann(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "GET", cases[i].path, NULL, cases[i].who);

		assert_status(&rep, cases[i].status);
	}
}

static void
test_export__is_whole_or_not_at_all(void **state)
{
	static const char *const requests[] = { "GET /user/1/cart/",
		"GET /send_email/*", "GET /invoices*", "GET /log*" };
	static const int bad[] = { 0, 500, 403 };
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	verify(t);
	for (size_t down = 0; down < ARRAY_LEN(requests); down++)
		for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
			for (size_t i = 0; i < down; i++)
				peer(t, requests[i], 200, EMPTY);
			peer(t, requests[down], bad[b], NULL);
			rep = call(
			    t, "GET", "/user/1/export", NULL, AS_ADMIN);
			assert_problem(&rep, 503, NULL);
			assert_null(strstr(rep.fields, "Disposition"));
		}
}

static int
mails_to_forget(struct t *t, const char *like)
{
	return (int)sql_int(t,
	    arena_printf(test_arena(t),
		"SELECT count(*) FROM outbox WHERE method = 'DELETE'"
		" AND path LIKE '/send_email/?to=%s'",
		like));
}

static void
test_export__former_addresses_are_forgotten_with_the_account(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann(t);
	move(t, "bea@a.org");
	move(t, "cleo@a.org");
	move(t, "bea@a.org"); /* again; it is none of the former any more */
	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	assert_int_equal(mails_to_forget(t, "ann%%40a.org"), 1);
	assert_int_equal(mails_to_forget(t, "bea%%40a.org"), 1);
	assert_int_equal(mails_to_forget(t, "cleo%%40a.org"), 1);
	assert_int_equal(mails_to_forget(t, "%%"), 3);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM former_address"), 0);
	/* Nothing else of her is left to be sent. */
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM outbox WHERE body LIKE '%@%'"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_export__has_what_every_service_holds),
		TEST(test_export__has_no_mail_to_what_is_only_claimed),
		TEST(test_export__is_for_whom_it_concerns),
		TEST(test_export__is_whole_or_not_at_all),
		TEST(test_export__former_addresses_are_forgotten_with_the_account),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
