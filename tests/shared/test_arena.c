#include "shared/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/err.h"

static void
test_arena__memory_is_aligned_and_apart(void **state)
{
	static const size_t sizes[]
	    = { 0, 1, 7, 8, 15, 16, 17, 31, 33, 1000, 16384, 16385, 100000, 3 };
	unsigned char *p[ARRAY_LEN(sizes)];
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		p[i] = arena_alloc(&a, sizes[i]);
		assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
		memset(p[i], (int)i + 1, sizes[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(p[i][k], i + 1);
	arena_release(&a);
}

static void
test_arena__growing_keeps_what_was_there(void **state)
{
	struct arena a;
	char *p, *moved;

	(void)state;
	arena_init(&a);
	p = arena_grow(&a, NULL, 0, 10);
	memcpy(p, "123456789", 10);
	p = arena_grow(&a, p, 10, 200);
	assert_string_equal(p, "123456789");
	memset(p + 10, 'x', 190);
	arena_alloc(&a, 1); /* in the way of growing in place */
	moved = arena_grow(&a, p, 200, 50000);
	assert_ptr_not_equal(moved, p);
	assert_string_equal(moved, "123456789");
	assert_int_equal(moved[199], 'x');
	memset(moved, 'y', 50000);
	assert_int_equal(p[199], 'x');
	arena_release(&a);
}

static void
test_arena__zalloc_clears_used_memory(void **state)
{
	struct arena a;
	char *p;

	(void)state;
	arena_init(&a);
	memset(arena_alloc(&a, 1000), 0xff, 1000);
	arena_reset(&a);
	p = arena_zalloc(&a, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(p[i], 0);
	arena_release(&a);
}

struct note {
	int *list, *count, number;
};

static void
write_down(void *p)
{
	struct note *n = p;

	n->list[(*n->count)++] = n->number;
}

static void
test_arena__reset_runs_clean_ups_once_newest_first(void **state)
{
	int list[4] = { 0 }, count = 0;
	struct arena a;

	(void)state;
	arena_init(&a);
	for (int i = 1; i <= 3; i++) {
		struct note *n = arena_alloc(&a, sizeof(*n));

		*n = (struct note) { list, &count, i };
		arena_defer(&a, write_down, n, 100);
	}
	assert_true(a.used >= 300);
	arena_reset(&a);
	arena_reset(&a);
	arena_release(&a);
	assert_int_equal(count, 3);
	assert_int_equal(list[0], 3);
	assert_int_equal(list[1], 2);
	assert_int_equal(list[2], 1);
}

static void
test_arena__reset_forgets_what_was_used(void **state)
{
	struct arena a;
	char *first;

	(void)state;
	arena_init(&a);
	first = arena_alloc(&a, 16);
	arena_alloc(&a, 100000);
	assert_true(a.used >= 100016);
	arena_reset(&a);
	assert_int_equal(a.used, 0);
#ifndef ARENA_MALLOC
	assert_ptr_equal(arena_alloc(&a, 16), first);
#else
	(void)first;
#endif
	arena_release(&a);
}

static void
test_arena__texts(void **state)
{
	char all[3000];
	struct arena a;
	char *p;

	(void)state;
	arena_init(&a);
	p = arena_strndup(&a, "a\0b!", 3);
	assert_memory_equal(p, "a\0b", 4);
	assert_string_equal(arena_strdup(&a, ""), "");
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
	memset(all, 'z', sizeof(all) - 1);
	all[sizeof(all) - 1] = '\0';
	p = arena_printf(&a, "%s%s", all, all);
	assert_int_equal(strlen(p), 2 * (sizeof(all) - 1));
	arena_release(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena__memory_is_aligned_and_apart),
		cmocka_unit_test(test_arena__growing_keeps_what_was_there),
		cmocka_unit_test(test_arena__zalloc_clears_used_memory),
		cmocka_unit_test(test_arena__reset_runs_clean_ups_once_newest_first),
		cmocka_unit_test(test_arena__reset_forgets_what_was_used),
		cmocka_unit_test(test_arena__texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
