#include "shared/config.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct shop {
	const char *name, *page;
	int64_t workers, shift;
};

static struct shop shop;

static const struct setting table[] = {
	SETTING(struct shop, name, "TEST_NAME", "corner", "what it is called"),
	SETTING(struct shop, page, "TEST_PAGE", "", "a page",
	    .url = true),
	SETTING(struct shop, workers, "TEST_WORKERS", "4", "how many", .min = 1,
	    .max = 64),
	SETTING(struct shop, shift, "TEST_SHIFT", "-2", "hours", .min = -12,
	    .max = 12),
};
static const struct settings settings = { table, ARRAY_LEN(table), &shop };

static int
set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		unsetenv(table[i].name);
	shop = (struct shop) { 0 };
	return 0;
}

static void
test_config__unset_and_empty_are_the_default(void **state)
{
	char why[100];

	(void)state;
	setenv("TEST_WORKERS", "", 1);
	assert_int_equal(config_load(&settings, why, sizeof(why)), OK);
	assert_string_equal(shop.name, "corner");
	assert_int_equal(shop.workers, 4);
	assert_int_equal(shop.shift, -2);
}

static void
test_config__what_is_set_wins(void **state)
{
	char why[100];

	(void)state;
	setenv("TEST_NAME", "a b = c", 1);
	setenv("TEST_WORKERS", "64", 1);
	setenv("TEST_SHIFT", "-12", 1);
	assert_int_equal(config_load(&settings, why, sizeof(why)), OK);
	assert_string_equal(shop.name, "a b = c");
	assert_int_equal(shop.workers, 64);
	assert_int_equal(shop.shift, -12);
}

static void
test_config__bad_integers_are_named(void **state)
{
	static const char *const cases[] = { "0", "65", "-1", "x", "4x", "4 ",
		"0x10", "1e1", "4.0", "9223372036854775808",
		"-9223372036854775809", "99999999999999999999999999999999999999999"
					"99999999999999999999999999" };
	char why[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		shop.workers = 7;
		why[0] = '\0';
		setenv("TEST_WORKERS", cases[i], 1);
		assert_int_equal(
		    config_load(&settings, why, sizeof(why)), ERR_INVALID);
		assert_int_equal(shop.workers, 7);
		assert_non_null(strstr(why, "TEST_WORKERS="));
		assert_non_null(strstr(why, "from 1 to 64"));
	}
	assert_int_equal(
	    config_load(&settings, why, 12), ERR_INVALID); /* cut, not burst */
	assert_string_equal(why, "TEST_WORKER");
}

static void
test_config__urls_are_of_the_web(void **state)
{
	static const struct {
		const char *url;
		enum err want;
	} cases[] = {
		{ "https://shop.example", OK },
		{ "http://localhost:8080/shop/", OK },
		{ "https://[2001:db8::443]", OK },
		{ "foo", ERR_INVALID },
		{ "httpx://shop.example", ERR_INVALID },
		{ "ftp://shop.example", ERR_INVALID },
		{ "https:shop.example", ERR_INVALID },
		{ "https://", ERR_INVALID },
		{ "https:///verify", ERR_INVALID },
		{ "https://:8080", ERR_INVALID },
		{ "https://a b", ERR_INVALID },
		{ "https://shop.example/\n", ERR_INVALID },
		{ " https://shop.example", ERR_INVALID },
	};
	char why[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		setenv("TEST_PAGE", cases[i].url, 1);
		why[0] = '\0';
		if (config_load(&settings, why, sizeof(why)) != cases[i].want
		    || (strstr(why, "TEST_PAGE=") != NULL)
			!= (cases[i].want != OK))
			fail_msg("%s: %s", cases[i].url, why);
	}
}

static void
test_config__help_shows_names_and_defaults(void **state)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	config_help(&settings, out);
	fclose(out);
	assert_non_null(strstr(text, "TEST_NAME"));
	assert_non_null(strstr(text, "what it is called [corner]\n"));
	assert_non_null(strstr(text, "hours [-2]\n"));
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    test_config__unset_and_empty_are_the_default, set_up),
		cmocka_unit_test_setup(test_config__what_is_set_wins, set_up),
		cmocka_unit_test_setup(
		    test_config__bad_integers_are_named, set_up),
		cmocka_unit_test_setup(test_config__urls_are_of_the_web, set_up),
		cmocka_unit_test_setup(
		    test_config__help_shows_names_and_defaults, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
