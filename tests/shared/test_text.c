#include "shared/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "shared/err.h"

static struct arena arena;

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static void
test_text__length_counts_characters(void **state)
{
	static const struct {
		const char *s;
		int64_t length; /* -1: not UTF-8 */
	} cases[] = {
		{ "", 0 },
		{ "abc", 3 },
		{ "\x7f", 1 },
		{ "\xc2\x80", 1 },	       /* U+0080, the first of two bytes */
		{ "\xdf\xbf", 1 },	       /* U+07FF, the last */
		{ "\xe0\xa0\x80", 1 },	       /* U+0800 */
		{ "\xed\x9f\xbf", 1 },	       /* U+D7FF, before the surrogates */
		{ "\xee\x80\x80", 1 },	       /* U+E000, behind them */
		{ "\xef\xbf\xbf", 1 },	       /* U+FFFF */
		{ "\xf0\x90\x80\x80", 1 },     /* U+10000 */
		{ "\xf4\x8f\xbf\xbf", 1 },     /* U+10FFFF, the last there is */
		{ "a\xc3\xa9\xf0\x9f\x8d\xb5z", 4 },
		{ "\x80", -1 },		       /* continues nothing */
		{ "\xbf", -1 },
		{ "a\x80", -1 },
		{ "\xc2", -1 },		       /* cut off */
		{ "\xe2\x82", -1 },
		{ "\xf0\x9f\x8d", -1 },
		{ "\xc2z", -1 },
		{ "\xe2\x82z", -1 },
		{ "\xf0\x9f\x8dz", -1 },
		{ "\xc0\x80", -1 },	       /* longer than need be */
		{ "\xc1\xbf", -1 },
		{ "\xe0\x9f\xbf", -1 },
		{ "\xf0\x8f\xbf\xbf", -1 },
		{ "\xed\xa0\x80", -1 },	       /* surrogates */
		{ "\xed\xbf\xbf", -1 },
		{ "\xf4\x90\x80\x80", -1 },    /* beyond U+10FFFF */
		{ "\xf5\x80\x80\x80", -1 },
		{ "\xf8\x88\x80\x80\x80", -1 },
		{ "\xfe", -1 },
		{ "\xff", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		/* a copy of its own, so that reading on is seen */
		size_t len = strlen(cases[i].s);
		char *s = malloc(len + 1);

		memcpy(s, cases[i].s, len);
		if (text_length(s, len) != cases[i].length)
			fail_msg("case %zu: %lld", i,
			    (long long)text_length(s, len));
		free(s);
	}
	assert_int_equal(text_length("a\0b", 3), 3);
}

static void
test_text__percent_decoding(void **state)
{
	static const struct {
		const char *s, *want; /* NULL: refused */
	} cases[] = {
		{ "", "" },
		{ "abc", "abc" },
		{ "a+b", "a b" },
		{ "a%2Bb", "a+b" },
		{ "a%2bb", "a+b" },
		{ "%41%5a%7e", "AZ~" },
		{ "%25", "%" },
		{ "%2525", "%25" },
		{ "%C3%A9", "\xc3\xa9" },
		{ "\xc3\xa9", "\xc3\xa9" },
		{ "%c3\xa9", "\xc3\xa9" },
		{ "%", NULL },
		{ "%4", NULL },
		{ "a%", NULL },
		{ "%4g", NULL },
		{ "%g4", NULL },
		{ "%%41", NULL },
		{ "% 41", NULL },
		{ "%+1", NULL },
		{ "%-1", NULL },
		{ "%00", NULL },
		{ "a%00b", NULL },
		{ "%C3", NULL },
		{ "%C3%28", NULL },
		{ "%ED%A0%80", NULL },
		{ "%FF", NULL },
		{ "\xff", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *s = text_percent_decode(
		    &arena, cases[i].s, strlen(cases[i].s));

		if (cases[i].want == NULL)
			assert_null(s);
		else
			assert_string_equal(s, cases[i].want);
	}
	/* only so far: what follows is not looked at */
	assert_string_equal(text_percent_decode(&arena, "%41%42", 3), "A");
	assert_null(text_percent_decode(&arena, "%41%42", 5));
}

static void
test_text__percent_encoding_is_decoded_again(void **state)
{
	char all[256];

	(void)state;
	assert_string_equal(text_percent_encode(&arena, ""), "");
	assert_string_equal(text_percent_encode(&arena, "aZ09-._~"), "aZ09-._~");
	assert_string_equal(text_percent_encode(&arena, "a b&c=d/e?f#g%h+i@j"),
	    "a%20b%26c%3Dd%2Fe%3Ff%23g%25h%2Bi%40j");
	assert_string_equal(
	    text_percent_encode(&arena, "\xc3\xa9[`{^"), "%C3%A9%5B%60%7B%5E");
	for (int i = 1; i < 128; i++)
		all[i - 1] = (char)i;
	all[127] = '\0';
	assert_string_equal(text_percent_decode(&arena,
				text_percent_encode(&arena, all),
				strlen(text_percent_encode(&arena, all))),
	    all);
}

static void
test_text__whole_numbers(void **state)
{
	static const struct {
		const char *s;
		int64_t v; /* -1: refused */
	} cases[] = {
		{ "0", 0 },
		{ "7", 7 },
		{ "10", 10 },
		{ "9007199254740991", INT_MAX_EXACT },
		{ "9007199254740992", -1 },
		{ "9999999999999999", -1 },
		{ "10000000000000000", -1 },
		{ "18446744073709551617", -1 },
		{ "", -1 },
		{ "00", -1 },
		{ "01", -1 },
		{ "-1", -1 },
		{ "+1", -1 },
		{ " 1", -1 },
		{ "1 ", -1 },
		{ "1.0", -1 },
		{ "1e1", -1 },
		{ "0x1", -1 },
		{ "a", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t v = -1;
		bool good = text_to_int(cases[i].s, strlen(cases[i].s), &v);

		if (good != (cases[i].v >= 0) || (good && v != cases[i].v))
			fail_msg("%s: %lld", cases[i].s, (long long)v);
	}
}

static void
test_text__lower_case_leaves_all_but_ascii(void **state)
{
	(void)state;
	assert_string_equal(
	    text_lower(&arena, "AZaz@[`{09\xc3\x84"), "azaz@[`{09\xc3\x84");
	assert_string_equal(text_lower(&arena, ""), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text__length_counts_characters),
		cmocka_unit_test(test_text__percent_decoding),
		cmocka_unit_test(test_text__percent_encoding_is_decoded_again),
		cmocka_unit_test(test_text__whole_numbers),
		cmocka_unit_test(test_text__lower_case_leaves_all_but_ascii),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
