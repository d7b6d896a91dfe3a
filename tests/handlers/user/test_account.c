#include "tests/loopback.h"

#include <dlfcn.h>
#include <fnmatch.h>
#include <sodium.h>

#define ANN                                                                    \
	"{\"email\":\"Ann+shop@Example.org\",\"password\":\"seven blue apples\"," \
	"\"name\":\"Ann\"}"
#define BOB "{\"email\":\"bob@example.org\",\"password\":\"seven red apples\"}"
#define SIGN_IN(email, password)                                               \
	"{\"email\":\"" email "\",\"password\":\"" password "\"}"

/* What another request does while a password is being hashed, by a connection
 * of its own: it would find the database locked if the hash held it. */
static const char *meanwhile;

int
crypto_pwhash_str(char out[crypto_pwhash_STRBYTES], const char *const passwd,
    unsigned long long passwdlen, unsigned long long opslimit, size_t memlimit)
{
	int (*real)(char *, const char *, unsigned long long,
	    unsigned long long, size_t)
	    = dlsym(RTLD_NEXT, "crypto_pwhash_str");
	sqlite3 *h;

	if (meanwhile != NULL) {
		assert_int_equal(
		    sqlite3_open(getenv("COSTER_DB"), &h), SQLITE_OK);
		assert_int_equal(
		    sqlite3_exec(h, meanwhile, NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(h);
		meanwhile = NULL;
	}
	return real(out, passwd, passwdlen, opslimit, memlimit);
}

static void
add_ann_and_bob(struct t *t)
{
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	assert_status(&rep, 201);
	rep = call(t, "POST", "/user/", BOB, AS_NOBODY);
	assert_status(&rep, 201);
}

static int
sign_in(struct t *t, const char *body)
{
	return call(t, "POST", "/session/", body, AS_NOBODY).status;
}

static void
test_account__is_registered_with_its_location(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 1);
	assert_string_equal(text_at(&rep, "email"), "Ann+shop@Example.org");
	assert_string_equal(text_at(&rep, "name"), "Ann");
	assert_string_equal(text_at(&rep, "role"), "customer");
	assert_int_equal(int_at(&rep, "version"), 1);
	assert_string_equal(
	    text_at(&rep, "created_at"), "2027-01-15T08:00:00.000Z");
	assert_null(strstr(rep.body, "password"));
	assert_non_null(strstr(rep.fields, "Location: /user/1\r\n"));
	assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
	assert_int_equal(sql_int(t,
			     "SELECT password LIKE"
			     " '$argon2id$v=19$m=19456,t=2,p=1$%' FROM account"),
	    1);
	rep = call(t, "POST", "/user", BOB, AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 2);
	assert_null(member(&rep, "name"));
}

static void
test_account__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *pointer;
	} cases[] = {
		{ "{}", 422, "#/email" },
		{ "{}", 422, "#/password" },
		{ "{\"email\":\"ann\"}", 422, "#/email" },
		{ "{\"email\":\"ann@\"}", 422, "#/email" },
		{ "{\"email\":\"ann@a.org\\nBcc: x@b.org\"}", 422, "#/email" },
		{ "{\"email\":null}", 422, "#/email" },
		{ "{\"email\":7}", 422, "#/email" },
		{ "{\"password\":null}", 422, "#/password" },
		{ "{\"password\":12345678}", 422, "#/password" },
		{ SIGN_IN("ann@a.org", "Password123"), 422, "#/password" },
		{ "{\"name\":\"\"}", 422, "#/name" },
		{ "{\"name\":\"a\\r\\nb\"}", 422, "#/name" },
		{ "{\"role\":\"admin\"}", 422, "#/role" },
		{ "{\"id\":7}", 422, "#/id" },
		{ "{\"current_password\":\"x\"}", 422, "#/current_password" },
		{ SIGN_IN("ann@a.org", "Ann@A.org"), 422, "#/password" },
		{ "[]", 422, "#" },
		{ "{", 400, NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "POST", "/user/", cases[i].body, AS_NOBODY);

		assert_problem(&rep, cases[i].status, cases[i].pointer);
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM account"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_account__passwords_have_8_to_128_characters_of_any_script(void **state)
{
	static const struct {
		const char *character;
		int count, status;
	} cases[] = {
		{ "x", 7, 422 },
		{ "x", 8, 201 },
		{ " ", 8, 201 },
		{ "\xc3\xa9", 7, 422 },
		{ "\xe2\x82\xac", 8, 201 },
		{ "\xf0\x9f\x8d\x8e", 128, 201 },
		{ "\xf0\x9f\x8d\x8e", 129, 422 },
		{ "x", 128, 201 },
		{ "x", 129, 422 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;
		char body[1024];
		int n = snprintf(body, sizeof(body),
		    "{\"email\":\"u%zu@example.org\",\"password\":\"", i);

		for (int c = 0; c < cases[i].count; c++)
			n += snprintf(body + n, sizeof(body) - (size_t)n, "%s",
			    cases[i].character);
		snprintf(body + n, sizeof(body) - (size_t)n, "\"}");
		rep = call(t, "POST", "/user/", body, AS_NOBODY);
		assert_status(&rep, cases[i].status);
		if (cases[i].status == 201)
			assert_int_equal(sign_in(t, body), 201);
		else
			assert_problem(&rep, 422, "#/password");
	}
}

static void
test_account__address_is_used_once_in_any_case(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann_and_bob(t);
	rep = call(t, "POST", "/user/",
	    SIGN_IN("ANN+shop@example.ORG", "something else"), AS_NOBODY);
	assert_problem(&rep, 409, NULL);
	assert_string_equal(
	    text_at(&rep, "type"), "urn:coster:problem:email-in-use");
	rep = call(t, "PATCH", "/user/2",
	    "{\"email\":\"ann+SHOP@example.org\","
	    "\"current_password\":\"seven red apples\"}",
	    AS_USER(2));
	assert_problem(&rep, 409, NULL);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM account"), 2);
	/* One's own address in other letters is no other one. */
	rep = call(t, "PATCH", "/user/2", "{\"email\":\"Bob@example.org\"}",
	    AS_USER(2));
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "email"), "Bob@example.org");
}

/* The messages that wait must be these, in this order; those of one line wait
 * for those of no other. */
static void
check_outbox(struct t *t, const char *const *want, size_t count)
{
	sqlite3_stmt *s;

	assert_int_equal(
	    sqlite3_prepare_v2(worker(t)->db.handle,
		"SELECT subject || ': ' || method || ' ' || path || ' '"
		" || coalesce(body, '') FROM outbox ORDER BY id",
		-1, &s, NULL),
	    SQLITE_OK);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(sqlite3_step(s), SQLITE_ROW);
		if (fnmatch(want[i], (const char *)sqlite3_column_text(s, 0), 0)
		    != 0)
			fail_msg("expected %s, got %s", want[i],
			    sqlite3_column_text(s, 0));
	}
	assert_int_equal(sqlite3_step(s), SQLITE_DONE);
	sqlite3_finalize(s);
}

static void
test_account__registration_is_told_to_mail_and_statistics(void **state)
{
	static const char *const want[] = {
		"user 1, welcome: POST /send_email/ "
		"{\"user_id\":1,\"template\":\"welcome\","
		"\"vars\":{\"name\":\"Ann\"}}",
		"user 1, stats: POST /log "
		"{\"user_id\":1,\"action\":\"user.registered\"}",
		"user 1, verification: POST /send_email/ "
		"{\"user_id\":1,\"template\":\"verification\",\"vars\":{\"link\":"
		"\"https://shop.example/verify#*\"}}",
		"user 2, welcome: *\"name\":\"bob@example.org\"*",
		"user 2, stats: *",
		"user 2, verification: *",
	};
	struct t *t = *state;

	add_ann_and_bob(t);
	check_outbox(t, want, ARRAY_LEN(want));
}

/* Who registers chooses the name, and anybody's address. */
static void
test_account__a_welcome_leads_nowhere_else(void **state)
{
	static const struct {
		const char *name, *greeted;
	} cases[] = {
		{ "Dr. J. R. Ann", "Dr. J. R. Ann" },
		{ "won 500 at evil.example", "x@a.org" },
		{ "https://evil", "x@a.org" },
		{ "evil/ann", "x@a.org" },
		{ "ann@evil", "x@a.org" },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, "POST", "/user/",
		    arena_printf(test_arena(t),
			"{\"email\":\"x@a.org\",\"password\":\"blue birds\","
			"\"name\":\"%s\"}",
			cases[i].name),
		    AS_NOBODY);

		assert_status(&rep, 201);
		assert_int_equal(
		    sql_int(t,
			arena_printf(test_arena(t),
			    "SELECT count(*) FROM outbox WHERE body LIKE"
			    " '%%\"name\":\"%s\"%%'",
			    cases[i].greeted)),
		    1);
		sql_int(t, "DELETE FROM outbox");
		sql_int(t, "UPDATE account SET email = NULL, email_key = NULL");
	}
}

static void
test_account__registering_twice_with_one_key_is_once(void **state)
{
	static const enum param params[]
	    = { PARAM_IDEMPOTENCY_KEY, PARAM_REQUEST_ID };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(params); i++) {
		struct call c = { "POST", "/user/", i == 0 ? ANN : BOB,
			AS_NOBODY, { NULL } };
		struct reply_seen first, again;

		c.param[params[i]] = "the-same";
		first = call_with(t, &c);
		again = call_with(t, &c);
		assert_status(&again, 201);
		assert_string_equal(again.body, first.body);
		assert_int_equal(sql_int(t, "SELECT count(*) FROM account"),
		    (int64_t)i + 1);
		assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"),
		    3 * ((int64_t)i + 1));
	}
}

static void
test_account__is_seen_and_changed_by_whom_it_concerns(void **state)
{
	static const struct {
		const char *method, *path, *body;
		struct as who;
		int status;
	} cases[] = {
		{ "GET", "/user/1", NULL, { ROLE_CUSTOMER, 1, false }, 200 },
		{ "GET", "/user/1", NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		{ "GET", "/user/1", NULL, { ROLE_NOBODY, 0, false }, 401 },
		{ "GET", "/user/1", NULL, { ROLE_NOBODY, 0, true }, 401 },
		{ "GET", "/user/1", NULL, { ROLE_ADMIN, 999, false }, 200 },
		{ "GET", "/user/1", NULL, { ROLE_SERVICE, 0, false }, 200 },
		{ "GET", "/user/3", NULL, { ROLE_ADMIN, 999, false }, 404 },
		{ "GET", "/user/3", NULL, { ROLE_SERVICE, 0, false }, 404 },
		{ "PATCH", "/user/1", "{}", { ROLE_CUSTOMER, 2, false }, 404 },
		{ "PATCH", "/user/1", "{}", { ROLE_NOBODY, 0, false }, 401 },
		{ "PATCH", "/user/1", "{}", { ROLE_SERVICE, 0, false }, 403 },
		{ "PATCH", "/user/3", "{}", { ROLE_ADMIN, 999, false }, 404 },
		{ "DELETE", "/user/1", NULL, { ROLE_CUSTOMER, 2, false }, 404 },
		{ "DELETE", "/user/1", NULL, { ROLE_NOBODY, 0, false }, 401 },
		{ "DELETE", "/user/1", NULL, { ROLE_SERVICE, 0, false }, 403 },
		{ "DELETE", "/user/3", NULL, { ROLE_ADMIN, 999, false }, 404 },
		{ "GET", "/user", NULL, { ROLE_CUSTOMER, 1, false }, 403 },
		{ "GET", "/user", NULL, { ROLE_NOBODY, 0, false }, 401 },
		{ "GET", "/user", NULL, { ROLE_ADMIN, 999, false }, 200 },
		{ "GET", "/user", NULL, { ROLE_SERVICE, 0, false }, 200 },
		{ "PUT", "/user", "{}", { ROLE_ADMIN, 999, false }, 405 },
		{ "POST", "/user/1", "{}", { ROLE_ADMIN, 999, false }, 405 },
	};
	struct t *t = *state;

	add_ann_and_bob(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(t, cases[i].method, cases[i].path,
		    cases[i].body, cases[i].who);

		assert_status(&rep, cases[i].status);
	}
	assert_int_equal(sql_int(t, "SELECT sum(version) FROM account"), 2);
}

static void
test_account__is_found_by_its_address(void **state)
{
	static const struct {
		const char *path;
		int64_t id; /* INT_NONE: nobody */
	} cases[] = {
		{ "/user/?email=ann%2Bshop%40EXAMPLE.org", 1 },
		{ "/user?email=bob@example.org", 2 },
		{ "/user/?email=ann@example.org", INT_NONE },
		{ "/user/?email=ann+shop@example.org", 0 }, /* a blank */
	};
	struct t *t = *state;

	add_ann_and_bob(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "GET", cases[i].path, NULL, AS_SERVICE);

		if (cases[i].id == 0) {
			assert_problem(&rep, 422, "?email");
			continue;
		}
		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "items/0/id"), cases[i].id);
		assert_null(member(&rep, "items/1"));
		assert_null(member(&rep, "next_cursor"));
	}
}

static void
test_account__list_comes_in_pages_without_deleted_ones(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;
	char path[200];

	add_ann_and_bob(t);
	rep = call(t, "POST", "/user/", SIGN_IN("cy@a.org", "blue bird"),
	    AS_NOBODY);
	rep = call(t, "DELETE", "/user/2", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	rep = call(t, "GET", "/user/?limit=1", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "items/0/id"), 1);
	assert_null(member(&rep, "items/1"));
	snprintf(path, sizeof(path), "/user/?limit=1&cursor=%s",
	    text_at(&rep, "next_cursor"));
	rep = call(t, "GET", path, NULL, AS_ADMIN);
	assert_int_equal(int_at(&rep, "items/0/id"), 3);
	assert_null(member(&rep, "next_cursor"));
	rep = call(t, "GET", "/user/?limit=0", NULL, AS_ADMIN);
	assert_problem(&rep, 422, "?limit");
	rep = call(t, "GET", "/user/?name=Ann", NULL, AS_ADMIN);
	assert_problem(&rep, 422, "?name");
	assert_int_equal(check_plans(t, "SELECT*FROM account WHERE*LIMIT*"), 3);
}

static void
test_account__change_keeps_what_is_not_given(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann_and_bob(t);
	advance(t, 1000);
	rep = call(t, "PATCH", "/user/1", "{\"name\":\"Anna\"}", AS_USER(1));
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "name"), "Anna");
	assert_string_equal(text_at(&rep, "email"), "Ann+shop@Example.org");
	assert_int_equal(int_at(&rep, "version"), 2);
	assert_string_equal(
	    text_at(&rep, "updated_at"), "2027-01-15T08:00:01.000Z");
	assert_string_equal(
	    text_at(&rep, "created_at"), "2027-01-15T08:00:00.000Z");
	assert_non_null(strstr(rep.fields, "ETag: \"2\"\r\n"));
	rep = call(t, "PUT", "/user/1",
	    "{\"email\":\"anna@example.org\",\"name\":null}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_null(member(&rep, "name"));
	assert_int_equal(
	    sign_in(t, SIGN_IN("anna@example.org", "seven blue apples")), 201);
	assert_int_equal(
	    sign_in(t, SIGN_IN("ann+shop@example.org", "seven blue apples")),
	    401);
}

static void
test_account__bad_changes_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{\"role\":\"admin\"}", "#/role" },
		{ "{\"id\":7}", "#/id" },
		{ "{\"version\":7}", "#/version" },
		{ "{\"email\":null}", "#/email" },
		{ "{\"email\":\"ann\"}", "#/email" },
		{ "{\"email\":\"eve@example.org\"}", "#/current_password" },
		{ "{\"email\":\"eve@example.org\","
		  "\"current_password\":\"wrong\"}",
		    "#/current_password" },
		{ "{\"verified_at\":null}", "#/verified_at" },
		{ "{\"password\":null}", "#/password" },
		{ "{\"password\":\"1234567\"}", "#/password" },
		{ "{\"password\":\"blue bird\"}", "#/current_password" },
		{ "{\"password\":\"blue bird\",\"current_password\":null}",
		    "#/current_password" },
		{ "{\"password\":\"blue bird\",\"current_password\":\"wrong\"}",
		    "#/current_password" },
		{ "{\"password\":\"ann+shop@example.org\","
		  "\"current_password\":\"seven blue apples\"}",
		    "#/password" },
		{ "{\"email\":\"eve@example.org\","
		  "\"password\":\"Eve@Example.org\","
		  "\"current_password\":\"seven blue apples\"}",
		    "#/password" },
	};
	struct t *t = *state;

	add_ann_and_bob(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = call(t, "PATCH", "/user/1", cases[i].body, AS_USER(1));

		assert_problem(&rep, 422, cases[i].pointer);
	}
	assert_int_equal(
	    sql_int(t, "SELECT version FROM account WHERE id = 1"), 1);
	assert_int_equal(
	    sign_in(t, SIGN_IN("ann+shop@example.org", "seven blue apples")),
	    201);
}

#define LIVE_SESSIONS(user)                                                    \
	"SELECT count(*) FROM session WHERE user_id = " user                   \
	" AND expires_at > 1800000000000"

static void
test_account__new_password_ends_all_sessions(void **state)
{
	static const struct {
		const char *body;
		struct as who;
	} changes[] = {
		{ "{\"current_password\":\"seven blue apples\","
		  "\"password\":\"eight green pears\"}",
		    { ROLE_CUSTOMER, 1, false } },
		{ "{\"password\":\"seven blue apples\"}",
		    { ROLE_ADMIN, 999, false } },
	};
	static const char *const bodies[] = {
		SIGN_IN("ann+shop@example.org", "seven blue apples"),
		SIGN_IN("ann+shop@example.org", "eight green pears"),
	};
	struct t *t = *state;
	struct reply_seen rep;

	add_ann_and_bob(t);
	assert_int_equal(
	    sign_in(t, SIGN_IN("bob@example.org", "seven red apples")), 201);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		assert_int_equal(sign_in(t, bodies[i]), 201);
		assert_int_equal(sql_int(t, LIVE_SESSIONS("1")), 1);
		rep = call(
		    t, "PATCH", "/user/1", changes[i].body, changes[i].who);
		assert_status(&rep, 200);
		assert_int_equal(int_at(&rep, "version"), (int64_t)i + 2);
		assert_int_equal(sql_int(t, LIVE_SESSIONS("1")), 0);
		assert_int_equal(sql_int(t, LIVE_SESSIONS("2")), 1);
		assert_int_equal(sign_in(t, bodies[i]), 401);
	}
	assert_int_equal(sign_in(t, bodies[0]), 201);
}

static void
test_account__administrator_needs_own_password_to_change_it(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	rep = call(t, "PATCH", "/user/1", "{\"password\":\"blue bird\"}",
	    ((struct as) { ROLE_ADMIN, 1, false }));
	assert_problem(&rep, 422, "#/current_password");
}

static void
test_account__change_during_a_hash_is_not_lost(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	add_ann_and_bob(t);
	meanwhile = "UPDATE account SET name = 'Zoe', version = version + 1"
		    " WHERE id = 1";
	rep = call(t, "PATCH", "/user/1",
	    "{\"password\":\"blue bird\",\"name\":\"Anna\"}", AS_ADMIN);
	assert_problem(&rep, 409, NULL);
	assert_int_equal(
	    sql_int(t, "SELECT name = 'Zoe' FROM account WHERE id = 1"), 1);
	assert_int_equal(
	    sign_in(t, SIGN_IN("ann+shop@example.org", "seven blue apples")),
	    201);
}

static void
test_account__conditional_requests(void **state)
{
	static const struct {
		const char *method, *body;
		enum param param;
		const char *tag;
		int status;
	} cases[] = {
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"1\"", 304 },
		{ "GET", NULL, PARAM_IF_NONE_MATCH, "\"2\"", 200 },
		{ "PATCH", "{}", PARAM_IF_MATCH, "\"2\"", 412 },
		{ "PATCH", "{\"password\":\"blue bird\"}", PARAM_IF_MATCH,
		    "\"2\"", 412 },
		{ "DELETE", NULL, PARAM_IF_MATCH, "\"2\"", 412 },
		{ "PATCH", "{\"password\":\"blue bird\"}", PARAM_IF_MATCH,
		    "\"1\"", 200 },
		{ "PATCH", "{}", PARAM_IF_MATCH, "\"1\"", 412 },
		{ "DELETE", NULL, PARAM_IF_MATCH, "W/\"2\"", 204 },
	};
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c = { cases[i].method, "/user/1", cases[i].body,
			AS_ADMIN, { NULL } };

		c.param[cases[i].param] = cases[i].tag;
		rep = call_with(t, &c);
		assert_status(&rep, cases[i].status);
	}
}

static void
test_account__deletion_leaves_nothing_of_the_person(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	assert_int_equal(sign_in(t, ANN), 422); /* name is not for here */
	assert_int_equal(
	    sign_in(t, SIGN_IN("ann+shop@example.org", "seven blue apples")),
	    201);
	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	rep = call(t, "GET", "/user/1", NULL, AS_USER(1));
	assert_problem(&rep, 404, NULL);
	rep = call(t, "DELETE", "/user/1", NULL, AS_ADMIN);
	assert_problem(&rep, 404, NULL);
	assert_int_equal(
	    sign_in(t, SIGN_IN("ann+shop@example.org", "seven blue apples")),
	    401);
	assert_int_equal(
	    sql_int(t,
		"SELECT count(*) FROM account WHERE coalesce(email,"
		" email_key, name, password) IS NULL AND deleted_at > 0"),
	    1);
	assert_int_equal(sql_int(t, LIVE_SESSIONS("1")), 0);
	assert_int_equal(
	    sql_int(t,
		"SELECT count(*) FROM session WHERE coalesce(address, agent)"
		" IS NULL"),
	    1);
	rep = call(t, "POST", "/user/", ANN, AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(int_at(&rep, "id"), 2);
}

static void
test_account__deletion_is_told_to_all_who_know_the_user(void **state)
{
	static const char *const want[] = {
		"user 1, stats: POST /log *",
		"user 1, cart: DELETE /user/1/cart/ ",
		"user 1, stats: DELETE /log[?]user_id=1 ",
		"user 1, email: DELETE "
		"/send_email/[?]to=ann%2Bshop%40example.org "
		"{\"before\":\"2027-01-15T08:01:00.000Z\"}",
	};
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", ANN, AS_NOBODY);

	rep = call(t, "DELETE", "/user/1", NULL, AS_USER(1));
	assert_status(&rep, 204);
	check_outbox(t, want, ARRAY_LEN(want));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_account__is_registered_with_its_location),
		TEST(test_account__bad_bodies_are_refused),
		TEST(test_account__passwords_have_8_to_128_characters_of_any_script),
		TEST(test_account__address_is_used_once_in_any_case),
		TEST(test_account__registration_is_told_to_mail_and_statistics),
		TEST(test_account__a_welcome_leads_nowhere_else),
		TEST(test_account__registering_twice_with_one_key_is_once),
		TEST(test_account__is_seen_and_changed_by_whom_it_concerns),
		TEST(test_account__is_found_by_its_address),
		TEST(test_account__list_comes_in_pages_without_deleted_ones),
		TEST(test_account__change_keeps_what_is_not_given),
		TEST(test_account__bad_changes_are_refused),
		TEST(test_account__new_password_ends_all_sessions),
		TEST(test_account__administrator_needs_own_password_to_change_it),
		TEST(test_account__change_during_a_hash_is_not_lost),
		TEST(test_account__conditional_requests),
		TEST(test_account__deletion_leaves_nothing_of_the_person),
		TEST(test_account__deletion_is_told_to_all_who_know_the_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
