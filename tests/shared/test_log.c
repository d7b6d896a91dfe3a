#include "shared/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "shared/err.h"

#define HEAD(level)                                                            \
	"at=2027-01-15T08:00:00.000Z level=" level                             \
	" service=shop instance=2 event="

/* What goes to standard error lands here. */
static FILE *caught;
static int real_stderr;
static char text[64 * 1024];

static int
set_up(void **state)
{
	(void)state;
	clock_freeze(1800000000000);
	log_init("shop", "2", LOG_INFO);
	caught = tmpfile();
	fflush(stderr);
	real_stderr = dup(STDERR_FILENO);
	return dup2(fileno(caught), STDERR_FILENO) < 0;
}

static int
tear_down(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	fclose(caught);
	clock_freeze(0);
	return 0;
}

/* What was written since the last look. */
static const char *
seen(void)
{
	ssize_t n = pread(fileno(caught), text, sizeof(text) - 1, 0);

	text[n] = '\0';
	assert_int_equal(ftruncate(fileno(caught), 0), 0);
	lseek(STDERR_FILENO, 0, SEEK_SET);
	return text;
}

static void
test_log__a_line_an_event(void **state)
{
	(void)state;
	LOG(LOG_INFO, "sold");
	assert_string_equal(seen(), HEAD("info") "sold\n");
	LOG(LOG_AUDIT, "price changed", LOG_INT("product", 7),
	    LOG_INT("by", -1), LOG_TEXT("sku", "TEA"));
	assert_string_equal(seen(),
	    HEAD("audit") "\"price changed\" product=7 by=-1 sku=TEA\n");
	LOG(LOG_WARN, "w");
	LOG(LOG_ERROR, "e", LOG_INT("n", INT64_MIN));
	assert_string_equal(seen(),
	    HEAD("warn") "w\n" HEAD("error") "e n=-9223372036854775808\n");
}

static void
test_log__values_are_quoted_where_they_need_it(void **state)
{
	static const struct {
		const char *value, *want;
	} cases[] = {
		{ "plain", "plain" },
		{ "/a/b?c:d,e", "/a/b?c:d,e" },
		{ "\xc3\xa9", "\xc3\xa9" },
		{ "", "\"\"" },
		{ "two words", "\"two words\"" },
		{ "a=b", "\"a=b\"" },
		{ "say \"hi\"", "\"say \\\"hi\\\"\"" },
		{ "\"", "\"\\\"\"" },
		{ "back\\slash", "\"back\\\\slash\"" },
		{ "\\", "\"\\\\\"" },
		{ "a\nb", "\"a\\x0ab\"" },
		{ "a\r\n", "\"a\\x0d\\x0a\"" },
		{ "tab\t", "\"tab\\x09\"" },
		{ "\x1b[31m", "\"\\x1b[31m\"" },
		{ "\x7f", "\"\\x7f\"" },
		{ "\x01", "\"\\x01\"" },
	};
	char want[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		LOG(LOG_INFO, "e", LOG_TEXT("k", cases[i].value));
		snprintf(want, sizeof(want), HEAD("info") "e k=%s\n",
		    cases[i].want);
		assert_string_equal(seen(), want);
	}
}

static void
test_log__no_line_is_forged(void **state)
{
	static const char evil[] = "x\nat=2027-01-15T08:00:00.000Z level=error "
				   "service=shop instance=2 event=sold";
	const char *s;

	(void)state;
	LOG(LOG_INFO, evil, LOG_TEXT("k", evil), LOG_TEXT("after", "1"));
	s = seen();
	assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
	assert_non_null(strstr(s, "x\\x0aat=2027"));
	assert_non_null(strstr(s, " after=1\n"));
}

static void
test_log__a_line_has_an_end(void **state)
{
	char value[5000];
	const char *s;

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	LOG(LOG_INFO, "e", LOG_TEXT("k", value), LOG_TEXT("after", value));
	LOG(LOG_INFO, "next");
	s = seen();
	assert_int_equal(strcspn(s, "\n"),
	    strlen(HEAD("info") "e k= after=") + (size_t)2 * 500);
	assert_string_equal(strchr(s, '\n') + 1, HEAD("info") "next\n");
	/* What does not fit is left out as a whole. */
	memset(value, '\n', sizeof(value) - 1);
	LOG(LOG_INFO, "e", LOG_TEXT("k", value), LOG_TEXT("after", "x"));
	assert_string_equal(seen(), HEAD("info") "e after=x\n");
	/* No character is cut in two. */
	for (size_t n = 0; n + 2 < sizeof(value); n += 2)
		memcpy(value + n + 1, "\xc3\xa9", 2);
	value[0] = 'x';
	LOG(LOG_INFO, "e", LOG_TEXT("k", value));
	assert_int_equal(
	    strlen(seen()), strlen(HEAD("info") "e k=\n") + (size_t)499);
}

static void
test_log__lesser_levels_are_left_out(void **state)
{
	(void)state;
	LOG(LOG_DEBUG, "d");
	assert_string_equal(seen(), "");
	log_init("shop", "2", LOG_ERROR);
	LOG(LOG_INFO, "i");
	LOG(LOG_WARN, "w");
	LOG(LOG_ERROR, "e");
	assert_string_equal(seen(), HEAD("error") "e\n");
}

static void *
hold(void *unused)
{
	const char *s;
	int lines = 0;

	(void)unused;
	log_hold();
	LOG(LOG_INFO, "one");
	LOG(LOG_AUDIT, "two");
	assert_string_equal(seen(), "");
	log_flush();
	assert_string_equal(seen(), HEAD("info") "one\n" HEAD("audit") "two\n");
	log_flush();
	assert_string_equal(seen(), "");
	LOG(LOG_INFO, "one");
	LOG(LOG_WARN, "two");
	assert_string_equal(seen(), HEAD("info") "one\n" HEAD("warn") "two\n");
	/* a page full goes out, whole lines */
	do
		LOG(LOG_INFO, "fill", LOG_INT("line", lines++));
	while (*(s = seen()) == '\0' && lines < 1000);
	assert_true(lines > 50 && lines < 1000);
	assert_int_equal(s[strlen(s) - 1], '\n');
	log_flush();
	assert_non_null(strstr(seen(), "event=fill"));
	return NULL;
}

static void
test_log__held_lines_go_out_together(void **state)
{
	pthread_t thread;

	(void)state;
	/* a thread of its own: holding has no end */
	assert_int_equal(pthread_create(&thread, NULL, hold, NULL), 0);
	pthread_join(thread, NULL);
	LOG(LOG_INFO, "here");
	assert_string_equal(seen(), HEAD("info") "here\n");
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		LOG_TEST(test_log__a_line_an_event),
		LOG_TEST(test_log__values_are_quoted_where_they_need_it),
		LOG_TEST(test_log__no_line_is_forged),
		LOG_TEST(test_log__a_line_has_an_end),
		LOG_TEST(test_log__lesser_levels_are_left_out),
		LOG_TEST(test_log__held_lines_go_out_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
