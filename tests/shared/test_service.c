/* What stops a program from starting, and with which status. */
#include "tests/loopback.h"

#include <sysexits.h>
#include <unistd.h>

#include "shared/service.h"

static const struct route good[] = { { "GET", "/x", NULL, ROUTE_ANYONE } };
static const struct route_table table = ROUTES(good);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.schema = "\n-- step 1: one\nCREATE TABLE one (x INTEGER) STRICT;"
		  "\n-- step 2: two\nCREATE TABLE two (x INTEGER) STRICT;",
};

static int
start(const struct service *svc)
{
	struct app app;
	int status = app_configure(&app, svc);

	if (status == EX_OK)
		status = app_open(&app);
	app_close(&app);
	return status;
}

static void
test_service__starts_and_starts_again(void **state)
{
	(void)state;
	assert_int_equal(start(&service), EX_OK);
	assert_int_equal(start(&service), EX_OK);
}

static void
test_service__bad_settings(void **state)
{
	static const struct {
		const char *name, *value;
		int status;
	} cases[] = {
		{ "COSTER_WORKERS", "0", EX_CONFIG },
		{ "COSTER_WORKERS", "four", EX_CONFIG },
		{ "COSTER_QUEUE", "-1", EX_CONFIG },
		{ "COSTER_LOG_LEVEL", "loud", EX_CONFIG },
		{ "COSTER_PUBLIC_URL", "shop.example", EX_CONFIG },
		{ "COSTER_KEY_FILE", "/nonexistent", EX_NOINPUT },
		{ "COSTER_KEY_FILE", "/dev/null", EX_NOINPUT },
		{ "COSTER_JWKS_FILE", "/nonexistent", EX_NOINPUT },
		{ "COSTER_JWKS_FILE", "/etc/passwd", EX_NOINPUT },
		{ "COSTER_DB", "/nonexistent/test.db", EX_IOERR },
		{ "COSTER_DB", "/dev/null", EX_IOERR },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *old = getenv(cases[i].name);

		old = old != NULL ? strdup(old) : NULL;
		setenv(cases[i].name, cases[i].value, 1);
		if (start(&service) != cases[i].status)
			fail_msg("%s=%s", cases[i].name, cases[i].value);
		if (old != NULL)
			setenv(cases[i].name, old, 1);
		else
			unsetenv(cases[i].name);
		free(old);
	}
}

static void
test_service__a_newer_database_is_refused(void **state)
{
	struct service older = service;

	(void)state;
	older.schema = "\n-- step 1: one\nCREATE TABLE one (x INTEGER) STRICT;";
	assert_int_equal(start(&older), EX_DATAERR);
	assert_int_equal(start(&service), EX_OK);
}

static void
test_service__a_route_without_a_function_does_not_start(void **state)
{
	struct service broken = service;

	(void)state;
	broken.routes = tables;
	broken.route_count = 1;
	assert_int_equal(start(&broken), EX_SOFTWARE);
}

static int
run_words(int argc, const char *const *words)
{
	return service_main(argc, (char **)(uintptr_t)words, &service);
}

static void
test_service__command_lines(void **state)
{
	static const char *const unknown[] = { "coster-test", "frobnicate", NULL };
	static const char *const few[] = { "coster-test", "backup", NULL };
	static const char *const serve[] = { "coster-test", NULL };
	static const char *const version[] = { "coster-test", "--version", NULL };
	int input = dup(0);

	(void)state;
	assert_int_equal(run_words(2, unknown), EX_USAGE);
	assert_int_equal(run_words(2, few), EX_USAGE);
	assert_int_equal(run_words(2, version), EX_OK);
	assert_non_null(freopen("/dev/null", "r", stdin));
	assert_int_equal(run_words(1, serve), EX_OSFILE);
	dup2(input, 0);
	close(input);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_service__starts_and_starts_again),
		TEST(test_service__bad_settings),
		TEST(test_service__a_newer_database_is_refused),
		TEST(test_service__a_route_without_a_function_does_not_start),
		TEST(test_service__command_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
