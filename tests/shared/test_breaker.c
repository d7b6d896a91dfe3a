#include "shared/breaker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

static struct breaker *b;
static struct breaker *made[16]; /* they live as long as the process */

static int
set_up(void **state)
{
	static size_t count;

	(void)state;
	b = made[count++] = breaker_new(2);
	return 0;
}

static enum err
enter(const char *peer, int64_t now, struct breaker_pass *pass)
{
	const char *why;

	return breaker_enter(b, peer, now, pass, &why);
}

/* A call that ends so, or is refused. */
static enum err
call(const char *peer, int64_t now, enum breaker_verdict verdict)
{
	struct breaker_pass pass;
	enum err err = enter(peer, now, &pass);

	if (!err)
		breaker_leave(b, &pass, now, verdict);
	return err;
}

static void
break_it(const char *peer, int64_t now)
{
	for (int i = 0; i < BREAKER_FAILURES; i++)
		assert_int_equal(call(peer, now, BREAKER_BAD), OK);
}

static void
test_breaker__a_peer_is_the_first_segment(void **state)
{
	static const char *const cases[][2] = {
		{ "/product/7/x", "product" },
		{ "/products/?ids=1", "products" },
		{ "/log?user_id=1", "log" },
		{ "/invoices", "invoices" },
		{ "/", "" },
		{ "log", "log" },
	};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(
		    breaker_peer(&a, cases[i][0]), cases[i][1]);
	arena_release(&a);
}

static void
test_breaker__failures_in_a_row_open_it(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		for (int n = 1; n < BREAKER_FAILURES; n++)
			assert_int_equal(call("a", 0, BREAKER_BAD), OK);
		assert_int_equal(call("a", 0, BREAKER_GOOD), OK);
	}
	assert_int_equal(breaker_pause(b, "a", 0), 0);
	break_it("a", 0);
	assert_int_equal(call("a", 0, BREAKER_GOOD), ERR_UNAVAILABLE);
	assert_int_equal(breaker_pause(b, "a", 0), BREAKER_PAUSE_FIRST);
	/* nobody else is left alone for it */
	assert_int_equal(call("b", 0, BREAKER_GOOD), OK);
	assert_int_equal(breaker_pause(b, "b", 0), 0);
}

static void
test_breaker__what_says_nothing_counts_for_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(call("a", 0, BREAKER_UNKNOWN), OK);
	for (int n = 1; n < BREAKER_FAILURES; n++)
		assert_int_equal(call("a", 0, BREAKER_BAD), OK);
	assert_int_equal(call("a", 0, BREAKER_UNKNOWN), OK);
	assert_int_equal(call("a", 0, BREAKER_BAD), OK);
	assert_int_equal(call("a", 0, BREAKER_BAD), ERR_UNAVAILABLE);
}

static void
test_breaker__pauses_double_to_a_ceiling(void **state)
{
	int64_t pause = BREAKER_PAUSE_FIRST, now = 0;

	(void)state;
	break_it("a", now);
	for (int i = 0; i < 12; i++) {
		assert_int_equal(breaker_pause(b, "a", now), pause);
		assert_int_equal(
		    call("a", now + pause - 1, BREAKER_GOOD), ERR_UNAVAILABLE);
		now += pause;
		assert_int_equal(breaker_pause(b, "a", now), 0);
		assert_int_equal(call("a", now, BREAKER_BAD), OK);
		pause *= 2;
		if (pause > BREAKER_PAUSE_MOST)
			pause = BREAKER_PAUSE_MOST;
	}
	assert_int_equal(pause, BREAKER_PAUSE_MOST);
	/* one success ends it, and the next time begins anew */
	now += pause;
	assert_int_equal(call("a", now, BREAKER_GOOD), OK);
	break_it("a", now);
	assert_int_equal(breaker_pause(b, "a", now), BREAKER_PAUSE_FIRST);
}

static void
test_breaker__one_at_a_time_finds_out(void **state)
{
	struct breaker_pass probe;

	(void)state;
	break_it("a", 0);
	assert_int_equal(enter("a", 1000, &probe), OK);
	assert_true(probe.probe);
	assert_int_equal(call("a", 1000, BREAKER_GOOD), ERR_UNAVAILABLE);
	assert_true(breaker_pause(b, "a", 1000) > 0);
	/* an answer that says nothing leaves it to the next */
	breaker_leave(b, &probe, 1000, BREAKER_UNKNOWN);
	assert_int_equal(enter("a", 1000, &probe), OK);
	assert_true(probe.probe);
	breaker_leave(b, &probe, 1000, BREAKER_GOOD);
	assert_int_equal(enter("a", 1000, &probe), OK);
	assert_false(probe.probe);
	breaker_leave(b, &probe, 1000, BREAKER_GOOD);
}

static void
test_breaker__late_failures_prolong_nothing(void **state)
{
	struct breaker_pass late;

	(void)state;
	assert_int_equal(enter("a", 0, &late), OK);
	break_it("a", 0);
	breaker_leave(b, &late, 900, BREAKER_BAD);
	assert_int_equal(breaker_pause(b, "a", 900), BREAKER_PAUSE_FIRST - 900);
}

static int64_t
mono_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static void
test_breaker__more_callers_are_turned_away(void **state)
{
	struct breaker_pass first, second, third;
	int64_t start;
	const char *why;

	(void)state;
	assert_int_equal(enter("a", 0, &first), OK);
	assert_int_equal(enter("a", 0, &second), OK);
	start = mono_ms();
	assert_int_equal(
	    breaker_enter(b, "a", 0, &third, &why), ERR_UNAVAILABLE);
	assert_true(mono_ms() - start >= BREAKER_PATIENCE_MS);
	assert_string_equal(why, "too many wait for it");
	/* it is no failure of the peer, and no other peer's matter */
	assert_int_equal(call("b", 0, BREAKER_GOOD), OK);
	breaker_leave(b, &first, 0, BREAKER_GOOD);
	assert_int_equal(enter("a", 0, &third), OK);
	breaker_leave(b, &second, 0, BREAKER_GOOD);
	breaker_leave(b, &third, 0, BREAKER_GOOD);
}

static void *
come_and_go(void *inside)
{
	for (int i = 0; i < 2000; i++) {
		struct breaker_pass pass;

		if (enter("a", 0, &pass))
			return b; /* refused */
		if (++*(_Atomic int *)inside > 2)
			return b; /* too many */
		--*(_Atomic int *)inside;
		breaker_leave(b, &pass, 0, BREAKER_GOOD);
	}
	return NULL;
}

static void
test_breaker__quick_callers_take_turns(void **state)
{
	pthread_t threads[8];
	_Atomic int inside = 0;
	void *fault;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_create(&threads[i], NULL, come_and_go, &inside);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		pthread_join(threads[i], &fault);
		assert_null(fault);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    test_breaker__a_peer_is_the_first_segment, set_up),
		cmocka_unit_test_setup(
		    test_breaker__failures_in_a_row_open_it, set_up),
		cmocka_unit_test_setup(
		    test_breaker__what_says_nothing_counts_for_nothing, set_up),
		cmocka_unit_test_setup(
		    test_breaker__pauses_double_to_a_ceiling, set_up),
		cmocka_unit_test_setup(
		    test_breaker__one_at_a_time_finds_out, set_up),
		cmocka_unit_test_setup(
		    test_breaker__late_failures_prolong_nothing, set_up),
		cmocka_unit_test_setup(
		    test_breaker__more_callers_are_turned_away, set_up),
		cmocka_unit_test_setup(
		    test_breaker__quick_callers_take_turns, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
