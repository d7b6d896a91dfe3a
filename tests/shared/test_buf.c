#include "shared/buf.h"

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
test_buf__is_a_string_from_the_start(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	assert_string_equal(b.data, "");
	buf_clear(&b);
	assert_string_equal(b.data, "");
	buf_add(&b, "", 0);
	assert_int_equal(b.len, 0);
	buf_adds(&b, "a");
	buf_addc(&b, '-');
	buf_addf(&b, "%03d", 7);
	assert_string_equal(b.data, "a-007");
	assert_int_equal(b.len, 5);
}

static void
test_buf__holds_any_bytes(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	for (int i = 0; i < 256; i++)
		buf_addc(&b, (char)i);
	assert_int_equal(b.len, 256);
	for (int i = 0; i < 256; i++)
		assert_int_equal((unsigned char)b.data[i], i);
	assert_int_equal(b.data[256], '\0');
}

static void
test_buf__grows_beside_another(void **state)
{
	struct buf b, c;

	(void)state;
	buf_init(&b, &arena);
	buf_init(&c, &arena);
	for (int i = 0; i < 20000; i++) {
		buf_addc(&b, 'b');
		buf_adds(&c, "cc");
	}
	assert_int_equal(b.len, 20000);
	assert_int_equal(c.len, 40000);
	assert_int_equal(strspn(b.data, "b"), 20000);
	assert_int_equal(strspn(c.data, "c"), 40000);
}

static void
test_buf__reserved_room_is_not_moved(void **state)
{
	struct buf b;
	char *at;

	(void)state;
	buf_init(&b, &arena);
	buf_adds(&b, "head");
	buf_reserve(&b, 5000);
	at = b.data;
	arena_alloc(&arena, 1);
	for (int i = 0; i < 5000; i++)
		buf_addc(&b, 'x');
	assert_ptr_equal(b.data, at);
	assert_int_equal(b.len, 5004);
	buf_clear(&b);
	assert_ptr_equal(b.data, at);
	assert_string_equal(b.data, "");
}

static void
test_buf__integers(void **state)
{
	static const struct {
		int64_t v;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 7, "7" },
		{ -1, "-1" },
		{ 10, "10" },
		{ -100, "-100" },
		{ INT64_MAX, "9223372036854775807" },
		{ INT64_MIN, "-9223372036854775808" },
	};
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		buf_clear(&b);
		buf_addint(&b, cases[i].v);
		assert_string_equal(b.data, cases[i].text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__is_a_string_from_the_start),
		cmocka_unit_test(test_buf__holds_any_bytes),
		cmocka_unit_test(test_buf__grows_beside_another),
		cmocka_unit_test(test_buf__reserved_room_is_not_moved),
		cmocka_unit_test(test_buf__integers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
