#include "shared/file.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct arena arena;
static char dir[32];

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena);
	snprintf(dir, sizeof(dir), "/tmp/coster-test.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(arena_printf(&arena, "%s/f", dir));
	arena_release(&arena);
	return rmdir(dir); /* nothing else was left behind */
}

static const char *
path(const char *name)
{
	return arena_printf(&arena, "%s/%s", dir, name);
}

static void
test_file__is_read_as_it_was_written(void **state)
{
	static const char bytes[] = "a\0b\n\xff";
	struct stat st;
	size_t len = 0;
	char *text;

	(void)state;
	assert_int_equal(file_write(path("f"), bytes, 5, 0600), OK);
	text = file_read(&arena, path("f"), &len);
	assert_int_equal(len, 5);
	assert_memory_equal(text, bytes, 6);
	assert_int_equal(stat(path("f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
test_file__empty_is_not_missing(void **state)
{
	size_t len = 7;

	(void)state;
	assert_int_equal(file_write(path("f"), "", 0, 0600), OK);
	assert_string_equal(file_read(&arena, path("f"), &len), "");
	assert_int_equal(len, 0);
	assert_null(file_read(&arena, path("g"), &len));
}

static void
test_file__only_small_files_are_read(void **state)
{
	char *big = arena_zalloc(&arena, FILE_SIZE_MAX + 1);
	size_t len = 0;

	(void)state;
	assert_int_equal(file_write(path("f"), big, FILE_SIZE_MAX, 0600), OK);
	assert_non_null(file_read(&arena, path("f"), &len));
	assert_int_equal(len, FILE_SIZE_MAX);
	unlink(path("f"));
	assert_int_equal(file_write(path("f"), big, FILE_SIZE_MAX + 1, 0600), OK);
	assert_null(file_read(&arena, path("f"), &len));
	assert_null(file_read(&arena, dir, &len));
}

static void
test_file__one_that_exists_is_kept(void **state)
{
	size_t len;

	(void)state;
	assert_int_equal(file_write(path("f"), "old", 3, 0600), OK);
	assert_int_equal(file_write(path("f"), "new", 3, 0600), ERR_CONFLICT);
	assert_string_equal(file_read(&arena, path("f"), &len), "old");
	assert_int_equal(
	    file_write(path("none/f"), "x", 1, 0600), ERR_UNAVAILABLE);
}

static void
test_file__is_replaced_at_once(void **state)
{
	struct stat st;
	size_t len;

	(void)state;
	assert_int_equal(file_replace(&arena, path("f"), "one", 3, 0644), OK);
	assert_int_equal(file_replace(&arena, path("f"), "two!", 4, 0640), OK);
	assert_string_equal(file_read(&arena, path("f"), &len), "two!");
	assert_int_equal(stat(path("f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(
	    file_replace(&arena, path("none/f"), "x", 1, 0600), ERR_UNAVAILABLE);
	/* a folder is not replaced, and no temporary file stays */
	unlink(path("f"));
	assert_int_equal(mkdir(path("f"), 0700), 0);
	assert_int_equal(
	    file_replace(&arena, path("f"), "x", 1, 0600), ERR_UNAVAILABLE);
	assert_int_equal(rmdir(path("f")), 0);
}

static void
test_file__half_written_is_taken_away(void **state)
{
	const struct rlimit small = { 100, RLIM_INFINITY };
	struct rlimit before;

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	assert_int_equal(file_write(path("f"), arena_zalloc(&arena, 200), 200,
			     0600),
	    ERR_UNAVAILABLE);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(access(path("f"), F_OK), -1);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(test_file__is_read_as_it_was_written),
		FILE_TEST(test_file__empty_is_not_missing),
		FILE_TEST(test_file__only_small_files_are_read),
		FILE_TEST(test_file__one_that_exists_is_kept),
		FILE_TEST(test_file__is_replaced_at_once),
		FILE_TEST(test_file__half_written_is_taken_away),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
