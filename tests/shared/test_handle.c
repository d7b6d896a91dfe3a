#include <unistd.h>

#include "tests/loopback.h"

#include "shared/clock.h"
#include "shared/req.h"

static handler_fn get_left, post_slow, ask_late;

static const struct route routes[] = {
	{ "GET", "/left", get_left, ROUTE_ANYONE },
	{ "POST", "/left", post_slow, ROUTE_ANYONE | ROUTE_SLOW },
	{ "POST", "/asked", get_left, ROUTE_SERVICE, .question = ask_late },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "-- step 1: nothing\n",
};

/* How many milliseconds the request has left. */
static enum err
get_left(struct req *r)
{
	struct buf *b = reply_json(r, 200);

	json_open(b, NULL, '{');
	json_int(b, "left", (r->ctx->deadline_us - clock_mono_us()) / 1000);
	json_close(b, '}');
	return OK;
}

static enum err
post_slow(struct req *r)
{
	return get_left(r);
}

/* The answer comes when the 50 ms of who asks are over. */
static enum err
ask_late(struct req *r)
{
	r->question = "/other";
	usleep(50 * 1000);
	return OK;
}

static struct reply_seen
ask(struct t *t, const char *method, struct as who, const char *deadline)
{
	return call_with(t,
	    &(struct call) { .method = method,
		.path = "/left",
		.who = who,
		.param = { [PARAM_DEADLINE_MS] = deadline } });
}

#define USUAL 25000

static void
test_handle__a_service_says_how_long_it_waits(void **state)
{
	static const struct {
		const char *said;
		int64_t most; /* 0: its time is over */
	} cases[] = {
		{ "3000", 3000 }, { "25000", USUAL }, { "25001", USUAL },
		{ "9007199254740991", USUAL }, { "0", 0 },
		/* what is no number says nothing */
		{ "", USUAL }, { "-1", USUAL }, { "1e3", USUAL }, { "x", USUAL },
		{ "99999999999999999999", USUAL },
	};
	static const char *const methods[] = { "GET", "POST" };
	struct t *t = *state;

	for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
		const char *said = cases[i / 2].said;
		int64_t most = cases[i / 2].most;
		struct reply_seen rep = ask(t, methods[i % 2], AS_SERVICE, said);

		if (most == 0) {
			assert_problem(&rep, 503, NULL);
			assert_non_null(strstr(rep.fields, "Retry-After: 1\r\n"));
			continue;
		}
		assert_status(&rep, 200);
		assert_in_range(int_at(&rep, "left"), most - 2000, most);
	}
}

/* That would be in vain: who asked is waiting yet, or asks again. */
static void
test_handle__what_has_its_answer_is_done(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	peer(t, "GET /other", 200, "{}");
	rep = call_with(t,
	    &(struct call) { .method = "POST",
		.path = "/asked",
		.who = AS_SERVICE,
		.param = { [PARAM_DEADLINE_MS] = "50" } });
	assert_status(&rep, 200);
	assert_true(int_at(&rep, "left") <= 0);
}

/* Who could shorten the time of calls could have a service taken for down. */
static void
test_handle__clients_have_no_say_in_it(void **state)
{
	static const struct as who[]
	    = { AS_NOBODY, AS_INTERNAL, AS_USER(7), AS_ADMIN };
	struct reply_seen rep;

	for (size_t i = 0; i < ARRAY_LEN(who); i++) {
		rep = ask(*state, "POST", who[i], "0");
		assert_status(&rep, 200);
		assert_true(int_at(&rep, "left") > USUAL - 2000);
	}
}

/* Of a route that has no table of them, too. */
static void
test_handle__no_query_parameter_is_overlooked(void **state)
{
	static const char *const methods[] = { "GET", "POST" };
	struct reply_seen rep;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		rep = call(*state, methods[i], "/left?limti=1", NULL, AS_NOBODY);
		assert_problem(&rep, 422, "?limti");
		rep = call(*state, methods[i], "/left?", NULL, AS_NOBODY);
		assert_status(&rep, 200);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handle__a_service_says_how_long_it_waits),
		TEST(test_handle__what_has_its_answer_is_done),
		TEST(test_handle__clients_have_no_say_in_it),
		TEST(test_handle__no_query_parameter_is_overlooked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
