#include "tests/loopback.h"

#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/user/user.h"
#include "shared/service.h"

#define SIGN_IN(email, password)                                               \
	"{\"email\":\"" email "\",\"password\":\"" password "\"}"

/* Runs a command with a line on its standard input; what it prints. */
static char printed[1000];

static int
run(struct t *t, const char *name, const char *input, const char *arguments[2])
{
	FILE *in = stdin, *out = stdout;
	int status;

	memset(printed, 0, sizeof(printed));
	stdin = fmemopen((char *)(uintptr_t)input, strlen(input), "r");
	stdout = fmemopen(printed, sizeof(printed), "w");
	status = run_command(t, name, arguments[0], arguments[1], NULL);
	fclose(stdin);
	fclose(stdout);
	stdin = in;
	stdout = out;
	return status;
}

#define RUN(name, input, ...)                                                  \
	run(t, name, input, (const char *[2]) { __VA_ARGS__ })

static void
test_command__add_admin_makes_an_administrator(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	assert_int_equal(RUN("add-admin", "seven blue apples\nmore\n",
			     "Root@example.org"),
	    EX_OK);
	assert_string_equal(printed, "user 1 made, an administrator\n");
	rep = call(t, "POST", "/session/",
	    SIGN_IN("root@example.org", "seven blue apples"), AS_NOBODY);
	assert_status(&rep, 201);
	rep = call(t, "GET", "/user/1", NULL, AS_USER(1));
	assert_string_equal(text_at(&rep, "role"), "admin");
	assert_string_equal(text_at(&rep, "email"), "Root@example.org");
	assert_int_equal(sql_int(t, "SELECT count(*) FROM outbox"), 0);
}

static void
test_command__add_admin_promotes_who_is_there(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/",
	    SIGN_IN("Ann@example.org", "seven blue apples"), AS_NOBODY);

	rep = call(t, "POST", "/session/",
	    SIGN_IN("ann@example.org", "seven blue apples"), AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(
	    RUN("add-admin", "eight green pears", "ann@example.org"), EX_OK);
	assert_non_null(strstr(printed, "user 1 is an administrator now"));
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM session WHERE expires_at >"
		       " 1800000000000"),
	    0);
	rep = call(t, "POST", "/session/",
	    SIGN_IN("ann@example.org", "seven blue apples"), AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	rep = call(t, "POST", "/session/",
	    SIGN_IN("ann@example.org", "eight green pears"), AS_NOBODY);
	assert_status(&rep, 201);
	rep = call(t, "GET", "/user/1", NULL, AS_USER(1));
	assert_string_equal(text_at(&rep, "role"), "admin");
	assert_string_equal(text_at(&rep, "email"), "Ann@example.org");
	assert_int_equal(int_at(&rep, "version"), 2);
}

/* Whose address it was before has nothing of it any more. */
static void
test_command__add_admin_takes_an_address_over(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/",
	    SIGN_IN("boss@a.org", "seven blue apples"), AS_NOBODY);

	rep = call(t, "PATCH", "/user/1", "{\"email\":\"me@a.org\"}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(
	    RUN("add-admin", "eight green pears", "Boss@a.org"), EX_OK);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM former_address"), 0);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM outbox WHERE method = 'DELETE'"
		       " AND path = '/send_email/?to=boss%40a.org'"),
	    1);
	rep = call(t, "PATCH", "/user/2", "{\"email\":\"b@a.org\"}", AS_ADMIN);
	assert_status(&rep, 200);
}

static void
test_command__bad_arguments_change_nothing(void **state)
{
	static const struct {
		const char *name, *input, *arguments[2];
		int status;
	} cases[] = {
		{ "add-admin", "blue bird\n", { "ann" }, EX_DATAERR },
		{ "add-admin", "blue bird\n", { "ann@a.org\"" }, EX_DATAERR },
		{ "add-admin", "blue bird\n", { "\xff@a.org" }, EX_DATAERR },
		{ "add-admin", "1234567\n", { "ann@a.org" }, EX_DATAERR },
		{ "add-admin", "\nblue bird\n", { "ann@a.org" }, EX_DATAERR },
		{ "add-admin", "", { "ann@a.org" }, EX_DATAERR },
		{ "add-admin", "ANN@a.org\n", { "ann@a.org" }, EX_DATAERR },
		{ "add-admin", "passw0rd\n", { "ann@a.org" }, EX_DATAERR },
		{ "set-role", "", { "ann@a.org", "admin" }, EX_NOUSER },
		{ "set-role", "", { "bob@a.org", "service" }, EX_DATAERR },
		{ "set-role", "", { "bob", "admin" }, EX_DATAERR },
		{ "revoke-sessions", "", { "ann@a.org" }, EX_NOUSER },
		{ "revoke-sessions", "", { "@" }, EX_DATAERR },
		{ "disable", "", { "ann@a.org" }, EX_NOUSER },
		{ "disable", "", { "bob" }, EX_DATAERR },
		{ "enable", "", { "ann@a.org" }, EX_NOUSER },
	};
	struct t *t = *state;
	struct reply_seen rep = call(
	    t, "POST", "/user/", SIGN_IN("bob@a.org", "blue bird"), AS_NOBODY);

	assert_status(&rep, 201);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(RUN(cases[i].name, cases[i].input,
				     cases[i].arguments[0],
				     cases[i].arguments[1]),
		    cases[i].status);
		assert_string_equal(printed, "");
	}
	assert_int_equal(sql_int(t, "SELECT count(*) FROM account"), 1);
	assert_int_equal(sql_int(t, "SELECT version FROM account"), 1);
}

static void
test_command__set_role_and_list(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/",
	    "{\"email\":\"Ann@a.org\",\"password\":\"blue bird\","
	    "\"name\":\"Ann\"}",
	    AS_NOBODY);

	rep = call(t, "POST", "/user/", SIGN_IN("bob@a.org", "blue bird"),
	    AS_NOBODY);
	rep = call(t, "POST", "/user/", SIGN_IN("cy@a.org", "blue bird"),
	    AS_NOBODY);
	rep = call(t, "DELETE", "/user/3", NULL, AS_ADMIN);
	assert_status(&rep, 204);
	assert_int_equal(RUN("set-role", "", "ann@A.org", "admin"), EX_OK);
	assert_int_equal(RUN("disable", "", "bob@a.org"), EX_OK);
	assert_int_equal(RUN("list", ""), EX_OK);
	assert_string_equal(printed, "1\tadmin\tAnn@a.org\tAnn\t-\n"
				     "2\tcustomer\tbob@a.org\t-\tdisabled\n");
	assert_int_equal(RUN("set-role", "", "ann@a.org", "customer"), EX_OK);
	assert_int_equal(RUN("list", ""), EX_OK);
	assert_non_null(strstr(printed, "1\tcustomer\tAnn@a.org\tAnn\t-\n"));
	rep = call(t, "GET", "/user/1", NULL, AS_ADMIN);
	assert_int_equal(int_at(&rep, "version"), 3);
}

static void
test_command__revoke_sessions_signs_one_out(void **state)
{
	static const char *const bodies[]
	    = { SIGN_IN("ann@a.org", "blue bird"), SIGN_IN("bob@a.org", "blue bird") };
	struct t *t = *state;
	char refresh[2][200];

	for (int i = 0; i < 2; i++) {
		struct reply_seen rep
		    = call(t, "POST", "/user/", bodies[i], AS_NOBODY);

		rep = call(t, "POST", "/session/", bodies[i], AS_NOBODY);
		snprintf(refresh[i], sizeof(refresh[i]),
		    "{\"refresh_token\":\"%s\"}", text_at(&rep, "refresh_token"));
	}
	assert_int_equal(RUN("revoke-sessions", "", "ann@a.org"), EX_OK);
	assert_int_equal(
	    call(t, "POST", "/session/refresh", refresh[0], AS_NOBODY).status,
	    401);
	assert_int_equal(
	    call(t, "POST", "/session/refresh", refresh[1], AS_NOBODY).status,
	    200);
}

static void
test_command__disabled_accounts_are_signed_out_and_stay_so(void **state)
{
	static const char body[] = SIGN_IN("ann@a.org", "blue bird");
	struct t *t = *state;
	struct reply_seen rep = call(t, "POST", "/user/", body, AS_NOBODY);
	char refresh[200], wrong[1000];

	rep = call(t, "POST", "/session/", body, AS_NOBODY);
	snprintf(refresh, sizeof(refresh), "{\"refresh_token\":\"%s\"}",
	    text_at(&rep, "refresh_token"));
	rep = call(t, "POST", "/session/",
	    SIGN_IN("ann@a.org", "green bird"), AS_NOBODY);
	snprintf(wrong, sizeof(wrong), "%s", rep.body);
	assert_int_equal(RUN("disable", "", "Ann@a.org"), EX_OK);
	assert_int_equal(
	    call(t, "POST", "/session/refresh", refresh, AS_NOBODY).status, 401);
	/* Nobody can tell by the answer. */
	rep = call(t, "POST", "/session/", body, AS_NOBODY);
	assert_problem(&rep, 401, NULL);
	assert_string_equal(rep.body, wrong);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM proof"), 0);
	assert_int_equal(RUN("enable", "", "ann@a.org"), EX_OK);
	rep = call(t, "POST", "/session/", body, AS_NOBODY);
	assert_status(&rep, 201);
	assert_int_equal(RUN("disable", "", "ann@a.org"), EX_OK);
	/* Made an administrator, it is to be one. */
	assert_int_equal(RUN("add-admin", "blue bird\n", "ann@a.org"), EX_OK);
	rep = call(t, "POST", "/session/", body, AS_NOBODY);
	assert_status(&rep, 201);
}

static void
test_command__keygen_makes_what_the_service_starts_with(void **state)
{
	struct t *t = *state;
	char dir[] = "/tmp/coster-keys.XXXXXX", private[64], public[64];
	struct app app = { .service = &service };
	struct stat st;

	assert_non_null(mkdtemp(dir));
	snprintf(private, sizeof(private), "%s/signing.jwk", dir);
	snprintf(public, sizeof(public), "%s/jwks.json", dir);
	assert_int_equal(RUN("keygen", "", dir), EX_OK);
	assert_non_null(strstr(printed, private));
	assert_non_null(strstr(printed, public));
	assert_non_null(strstr(printed, "Changing the signing key"));
	assert_int_equal(stat(private, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(token_load_keys(&app.keys, public), OK);
	user_settings.signing_key_file = private;
	assert_int_equal(service.start(&app), OK);
	/* A key is never written over. */
	assert_int_equal(RUN("keygen", "", dir), EX_CANTCREAT);
	assert_int_equal(service.start(&app), OK);
	unlink(private);
	unlink(public);
	rmdir(dir);
}

static void
test_command__retire_keys_leaves_the_key_that_signs(void **state)
{
	struct t *t = *state;
	char dir[] = "/tmp/coster-keys.XXXXXX", private[64], public[64],
	     other[64];
	struct token_keys keys;
	struct token_signer signer;

	assert_non_null(mkdtemp(dir));
	snprintf(private, sizeof(private), "%s/signing.jwk", dir);
	snprintf(public, sizeof(public), "%s/jwks.json", dir);
	snprintf(other, sizeof(other), "%s/other.jwk", dir);
	assert_int_equal(RUN("retire-keys", "", dir), EX_NOINPUT);
	for (int i = 0; i < 3; i++) {
		unlink(private);
		assert_int_equal(RUN("keygen", "", dir), EX_OK);
	}
	assert_int_equal(token_load_keys(&keys, public), OK);
	assert_int_equal(keys.count, 3);
	assert_int_equal(RUN("retire-keys", "", dir), EX_OK);
	assert_non_null(strstr(printed, "lost 2"));
	assert_int_equal(token_load_keys(&keys, public), OK);
	assert_int_equal(token_load_signer(&signer, private), OK);
	assert_int_equal(keys.count, 1);
	assert_string_equal(keys.key[0].kid, signer.kid);
	/* A set that lacks the key that signs is left alone. */
	unlink(private);
	assert_int_equal(RUN("keygen", "", dir), EX_OK);
	rename(private, other);
	unlink(public);
	assert_int_equal(RUN("keygen", "", dir), EX_OK);
	rename(other, private);
	assert_int_equal(RUN("retire-keys", "", dir), EX_DATAERR);
	assert_int_equal(token_load_keys(&keys, public), OK);
	unlink(private);
	unlink(public);
	rmdir(dir);
}

static void
test_command__service_does_not_start_with_a_wrong_key(void **state)
{
	struct t *t = *state;
	struct app app = *app_of(t);

	assert_int_equal(service.start(&app), OK);
	app.keys.key[0].public[0] ^= 1;
	assert_int_equal(service.start(&app), ERR_NOT_FOUND);
	app.keys.count = 0;
	assert_int_equal(service.start(&app), ERR_NOT_FOUND);
	user_settings.signing_key_file = "/nonexistent";
	assert_int_equal(service.start(app_of(t)), ERR_NOT_FOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_command__add_admin_makes_an_administrator),
		TEST(test_command__add_admin_promotes_who_is_there),
		TEST(test_command__add_admin_takes_an_address_over),
		TEST(test_command__bad_arguments_change_nothing),
		TEST(test_command__set_role_and_list),
		TEST(test_command__revoke_sessions_signs_one_out),
		TEST(test_command__disabled_accounts_are_signed_out_and_stay_so),
		TEST(test_command__keygen_makes_what_the_service_starts_with),
		TEST(test_command__retire_keys_leaves_the_key_that_signs),
		TEST(test_command__service_does_not_start_with_a_wrong_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
