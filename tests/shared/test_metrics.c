/* Health and metrics of an instance. */
#include "shared/metrics.h"

#include "tests/loopback.h"

#include "shared/clock.h"
#include "shared/outbox.h"
#include "shared/req.h"

static enum err
get_thing(struct req *r)
{
	return reply_empty(r, 204);
}

static const struct route routes[] = {
	{ "GET", "/thing/{id}", get_thing, ROUTE_ANYONE },
	{ "POST", "/thing", get_thing, ROUTE_ANYONE },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.schema = "",
	.routes = tables,
	.route_count = 1,
};

static int
setup(void **state)
{
	int rc = loopback_setup(state);

	metrics_open(&service);
	return rc;
}

static int
teardown(void **state)
{
	metrics_close();
	return loopback_teardown(state);
}

/* As if a request had been answered that began so long ago. */
static void
answered(struct t *t, const struct route *route, int status, int64_t us)
{
	struct req r;

	req_init(&r, worker(t));
	r.route = route;
	r.reply.status = status;
	r.started_us = clock_mono_us() - us;
	metrics_request(&r);
}

static const char *
page(struct t *t)
{
	struct reply_seen rep = call(t, "GET", "/_metrics", NULL, AS_INTERNAL);

	assert_status(&rep, 200);
	return rep.body;
}

#define assert_line(page, line)                                                \
	do {                                                                   \
		if (strstr((page), "\n" line "\n") == NULL)                    \
			fail_msg("no %s in\n%s", line, (page));                \
	} while (0)

static void
test_metrics__are_for_the_internal_network_and_services(void **state)
{
	static const struct {
		struct as who;
		int status;
	} cases[] = {
		{ { ROLE_NOBODY, 0, false }, 401 },
		{ { ROLE_CUSTOMER, 1, false }, 403 },
		{ { ROLE_ADMIN, 999, false }, 403 },
		{ { ROLE_NOBODY, 0, true }, 200 },
		{ { ROLE_SERVICE, 0, false }, 200 },
	};
	static const char *const paths[] = { "/_health", "/_metrics" };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t j = 0; j < ARRAY_LEN(paths); j++) {
			struct reply_seen rep
			    = call(*state, "GET", paths[j], NULL, cases[i].who);

			assert_status(&rep, cases[i].status);
		}
}

static void
test_metrics__health_says_what_runs(void **state)
{
	struct reply_seen rep
	    = call(*state, "GET", "/_health", NULL, AS_INTERNAL);

	assert_string_equal(text_at(&rep, "status"), "ok");
	assert_string_equal(text_at(&rep, "service"), "test");
	assert_string_equal(text_at(&rep, "version"), COSTER_VERSION);
	assert_int_equal(int_at(&rep, "outbox"), 0);
}

static void
test_metrics__requests_are_counted_by_route_and_status(void **state)
{
	char status[128];
	const char *p;

	answered(*state, &routes[0], 200, 0);
	answered(*state, &routes[0], 200, 0);
	answered(*state, &routes[0], 404, 0);
	answered(*state, &routes[1], 503, 0);
	answered(*state, NULL, 404, 0);
	p = page(*state);
#define REQUESTS(method, route, status)                                        \
	"coster_requests_total{method=\"" method "\",route=\"" route           \
	"\",status=\"" status "\"} "
	assert_line(p, REQUESTS("GET", "/thing/{id}", "200") "2");
	assert_line(p, REQUESTS("GET", "/thing/{id}", "404") "1");
	assert_line(p, REQUESTS("POST", "/thing", "503") "1");
	assert_line(p, REQUESTS("-", "-", "404") "1");
	assert_null(strstr(p, REQUESTS("POST", "/thing", "200")));
	metrics_status(status, sizeof(status));
	assert_string_equal(status,
	    "serving; 5 requests since start, 1 of them "
	    "failed, 0 in hand");
}

static void
test_metrics__latency_adds_up(void **state)
{
	const char *p;

	answered(*state, &routes[0], 200, 3000);
	answered(*state, &routes[0], 200, 60 * 1000000);
	p = page(*state);
#define LATENCY(what, more)                                                    \
	"coster_request_duration_seconds_" what                                \
	"{method=\"GET\",route=\"/thing/{id}\"" more "} "
	assert_line(p, LATENCY("bucket", ",le=\"0.0025\"") "0");
	assert_line(p, LATENCY("bucket", ",le=\"5\"") "1");
	assert_line(p, LATENCY("bucket", ",le=\"+Inf\"") "2");
	assert_line(p, LATENCY("count", "") "2");
	assert_non_null(strstr(p, LATENCY("sum", "") "60."));
}

static void
test_metrics__the_outbox_is_measured(void **state)
{
	struct db *db = &worker(*state)->db;
	const char *p;

	assert_int_equal(db_begin(db), OK);
	assert_int_equal(
	    outbox_put(db,
		&(struct outbox_message) {
		    .subject = "thing 1", .method = "POST", .path = "/log" }),
	    OK);
	assert_int_equal(db_commit(db), OK);
	advance(*state, 90 * CLOCK_SECOND);
	p = page(*state);
	assert_line(p, "coster_outbox_waiting 1");
	assert_line(p, "coster_outbox_oldest_age_seconds 90");
	assert_line(p, "coster_outbox_dead 0");
}

static void
test_metrics__both_formats(void **state)
{
	struct call c
	    = { .method = "GET", .path = "/_metrics", .who = AS_INTERNAL };
	struct reply_seen rep = call_with(*state, &c);

	assert_non_null(strstr(rep.fields, "text/plain; version=0.0.4"));
	assert_line(rep.body, "# TYPE coster_commits_total counter");
	assert_null(strstr(rep.body, "# EOF"));

	c.param[PARAM_ACCEPT]
	    = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
	rep = call_with(*state, &c);
	assert_non_null(strstr(rep.fields, "application/openmetrics-text"));
	assert_line(rep.body, "# TYPE coster_commits counter");
	assert_string_equal(
	    rep.body + strlen(rep.body) - strlen("\n# EOF\n"), "\n# EOF\n");
}

#define METRICS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		METRICS_TEST(
		    test_metrics__are_for_the_internal_network_and_services),
		METRICS_TEST(test_metrics__health_says_what_runs),
		METRICS_TEST(
		    test_metrics__requests_are_counted_by_route_and_status),
		METRICS_TEST(test_metrics__latency_adds_up),
		METRICS_TEST(test_metrics__the_outbox_is_measured),
		METRICS_TEST(test_metrics__both_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
