#include "shared/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "shared/err.h"

static void
test_clock__reads_rfc_3339(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} cases[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2027-01-15T08:00:00.000Z", 1800000000000 },
		{ "1969-12-31T23:59:59.999Z", -1 },
		{ "2024-02-29", 1709164800000 },
		{ "2024-02-29T00:00:00Z", 1709164800000 },
		{ "2000-02-29T00:00:00Z", 951782400000 },
		{ "1900-02-28T23:59:59Z", -2203891201000 },
		{ "2025-03-01t00:00:00z", 1740787200000 },
		{ "2025-03-01 00:00:00Z", 1740787200000 },
		/* offsets */
		{ "2026-01-31T12:00:00+02:00", 1769853600000 },
		{ "2026-01-31T04:30:00-05:30", 1769853600000 },
		{ "2026-01-31T10:00:00-00:00", 1769853600000 },
		{ "2025-01-01T00:00:00+01:00", 1735686000000 },
		{ "2026-02-01T09:59:00+23:59", 1769853600000 },
		/* fractions: what is beyond a millisecond is cut off */
		{ "2026-01-31T10:00:00.1Z", 1769853600100 },
		{ "2026-01-31T10:00:00.12Z", 1769853600120 },
		{ "2026-01-31T10:00:00.1239999999999Z", 1769853600123 },
		{ "2026-01-31T12:00:00.5+02:00", 1769853600500 },
		/* a leap second is the first of the next minute */
		{ "2016-12-31T23:59:60Z", 1483228800000 },
		{ "0000-01-01T00:00:00Z", -62167219200000 },
		{ "9999-12-31T23:59:59.999Z", 253402300799999 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t ms = INT64_MIN;

		if (!clock_parse(cases[i].text, &ms) || ms != cases[i].ms)
			fail_msg("%s: %lld", cases[i].text, (long long)ms);
	}
}

static void
test_clock__refuses_what_is_no_time(void **state)
{
	static const char *const cases[] = {
		"",
		"now",
		"2026",
		"2026-01",
		"2026-1-1",
		"2026-00-10",
		"2026-13-10",
		"2026-01-00",
		"2026-01-32",
		"2026-04-31",
		"2025-02-29",
		"1900-02-29",
		"2100-02-29",
		"2024-02-30",
		"+2026-01-01",
		"12026-01-01",
		"2026-01-01T",
		"2026-01-01Z",
		"2026-01-01T10:00Z",
		"2026-01-01T10:00:00",
		"2026-01-01T24:00:00Z",
		"2026-01-01T10:60:00Z",
		"2026-01-01T10:00:61Z",
		"2026-01-01T10:00:00.Z",
		"2026-01-01T10:00:00,5Z",
		"2026-01-01T10:00:00+0200",
		"2026-01-01T10:00:00+02",
		"2026-01-01T10:00:00+24:00",
		"2026-01-01T10:00:00+02:60",
		"2026-01-01T10:00:00ZZ",
		"2026-01-01T10:00:00Z ",
		" 2026-01-01T10:00:00Z",
		"2026-01-01_10:00:00Z",
		"2026-01-01T-1:00:00Z",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t ms = 7;

		if (clock_parse(cases[i], &ms) || ms != 7)
			fail_msg("taken: %s", cases[i]);
	}
}

static void
test_clock__text_is_read_back(void **state)
{
	/* every fifth day and some odd milliseconds, over all years */
	const int64_t step = 5 * CLOCK_DAY + 7 * CLOCK_HOUR + 61007;
	char text[CLOCK_TEXT_SIZE];

	(void)state;
	for (int64_t ms = -62167219200000; ms <= 253402300799999; ms += step) {
		int64_t back = 0;

		clock_text(ms, text);
		assert_int_equal(strlen(text), CLOCK_TEXT_SIZE - 1);
		assert_true(clock_parse(text, &back));
		assert_int_equal(back, ms);
	}
}

static void
test_clock__text_is_clamped(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{ INT64_MIN, "0000-01-01T00:00:00.000Z" },
		{ -62167219200001, "0000-01-01T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ -1000, "1969-12-31T23:59:59.000Z" },
		{ 1709164800007, "2024-02-29T00:00:00.007Z" },
		{ 253402300800000, "9999-12-31T23:59:59.999Z" },
		{ INT64_MAX, "9999-12-31T23:59:59.999Z" },
	};
	char text[CLOCK_TEXT_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		clock_text(cases[i].ms, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void
test_clock__stands_still_when_frozen(void **state)
{
	int64_t before;

	(void)state;
	clock_freeze(12345);
	assert_int_equal(clock_ms(), 12345);
	assert_int_equal(clock_ms(), 12345);
	clock_freeze(0);
	assert_true(clock_ms() > 1700000000000);
	before = clock_mono_us();
	assert_true(clock_mono_us() >= before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock__reads_rfc_3339),
		cmocka_unit_test(test_clock__refuses_what_is_no_time),
		cmocka_unit_test(test_clock__text_is_read_back),
		cmocka_unit_test(test_clock__text_is_clamped),
		cmocka_unit_test(test_clock__stands_still_when_frozen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
