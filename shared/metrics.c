#include "shared/metrics.h"

#include <inttypes.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/req.h"
#include "shared/service.h"

static handler_fn get_health, get_metrics;

static const char *const types[] = {
	"text/plain; version=0.0.4; charset=utf-8",
	"application/openmetrics-text; version=1.0.0; charset=utf-8",
	NULL,
};

static const struct route routes[] = {
	{ "GET", "/_health", get_health, ROUTE_INTERNAL | ROUTE_SERVICE },
	{ "GET", "/_metrics", get_metrics, ROUTE_INTERNAL | ROUTE_SERVICE,
	    .types = types },
};

const struct route_table metrics_routes = ROUTES(routes);

STMT(outbox_depth,
    "SELECT count(*), min(created_at) FROM outbox WHERE dead_at IS NULL");
STMT(outbox_given_up, "SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL");

#define STATUS_MIN 100
#define STATUS_MAX 599

/* Upper bounds of the buckets. */
static const int64_t bounds_us[] = { 250, 500, 1000, 2500, 5000, 10000, 25000,
	50000, 100000, 250000, 500000, 1000000, 2500000, 5000000 };

struct series {
	const struct route *route; /* NULL for what fits none */
	_Atomic uint64_t status[STATUS_MAX - STATUS_MIN + 1];
	_Atomic uint64_t bucket[ARRAY_LEN(bounds_us) + 1]; /* not cumulative */
	_Atomic uint64_t sum_us;
};

struct metrics metrics;

static const struct service *service_of;
static struct series *series; /* in the order of the tables; the first: none */
static size_t series_count;

static void
add_table(const struct route_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		series[series_count++].route = &table->list[i];
}

void
metrics_open(const struct service *svc)
{
	const struct route_table *table;
	size_t most = 1;

	metrics_close();
	for (size_t t = 0; (table = service_table(svc, t)) != NULL; t++)
		most += table->count;
	if ((series = calloc(most, sizeof(*series))) == NULL)
		abort();
	series_count = 1;
	for (size_t t = 0; (table = service_table(svc, t)) != NULL; t++)
		add_table(table);
	service_of = svc;
}

void
metrics_close(void)
{
	free(series);
	series = NULL;
	series_count = 0;
	metrics = (struct metrics) { 0 };
}

static size_t
place(const struct route *route)
{
	const struct route_table *table;
	size_t first = 1;

	for (size_t t = 0; (table = service_table(service_of, t)); t++) {
		if (route >= table->list && route < table->list + table->count)
			return first + (size_t)(route - table->list);
		first += table->count;
	}
	return 0;
}

void
metrics_request(const struct req *r)
{
	int64_t us = clock_mono_us() - r->started_us;
	int status = r->reply.status;
	struct series *s;
	size_t i = 0;

	if (series == NULL)
		return; /* the loopback of the tests */
	s = &series[place(r->route)];
	while (i < ARRAY_LEN(bounds_us) && us > bounds_us[i])
		i++;
	s->bucket[i]++;
	s->sum_us += (uint64_t)us;
	if (status >= STATUS_MIN && status <= STATUS_MAX)
		s->status[status - STATUS_MIN]++;
	metrics.requests++;
	metrics.failed += status >= 500 || r->reply.lost;
}

void
metrics_status(char *text, size_t size)
{
	snprintf(text, size,
	    "serving; %" PRIu64 " requests since start, %" PRIu64
	    " of them failed, %" PRId64 " in hand",
	    metrics.requests, metrics.failed, metrics.in_flight);
}

static enum err
get_health(struct req *r)
{
	int64_t waiting, oldest;
	struct buf *b;
	enum err err;

	/* That the database can be read is what there is to know. */
	err = db_get(r->db, &outbox_depth, DB_NO_ARGS,
	    DB_INTO(DB_INT_TO(&waiting), DB_INT_TO(&oldest)));
	if (err)
		return err;
	b = reply_json(r, 200);
	json_open(b, NULL, '{');
	json_text(b, "status", "ok");
	json_text(b, "service", r->ctx->app->service->name);
	json_text(b, "instance", r->ctx->app->settings.instance);
	json_text(b, "version", COSTER_VERSION);
	json_time(b, "started_at", r->ctx->app->started_at);
	json_int(b, "outbox", waiting);
	json_close(b, '}');
	return OK;
}

/* OpenMetrics 1.0, or Prometheus' older text, in which a counter is called what
 * its sample is called. */
struct page {
	struct buf *b;
	bool open;
};

static void
put_head(struct page *p, const char *name, const char *type, const char *help)
{
	bool suffix = !p->open && strcmp(type, "counter") == 0;
	const char *total = suffix ? "_total" : "";

	buf_addf(p->b, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, total, help,
	    name, total, type);
}

/* Places of the first n buckets are counted up to. */
static uint64_t
count_to(const struct series *s, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += s->bucket[i];
	return sum;
}

static const char *
labels(struct arena *a, const struct series *s)
{
	return arena_printf(a, "method=\"%s\",route=\"%s\"",
	    s->route != NULL ? s->route->method : "-",
	    s->route != NULL ? s->route->pattern : "-");
}

static void
put_requests(struct page *p)
{
	put_head(p, "coster_requests", "counter",
	    "Requests answered, by route and status.");
	for (size_t i = 0; i < series_count; i++)
		for (size_t j = 0; j < ARRAY_LEN(series[i].status); j++)
			if (series[i].status[j] > 0)
				buf_addf(p->b,
				    "coster_requests_total{%s,status=\"%zu\"} "
				    "%" PRIu64 "\n",
				    labels(p->b->arena, &series[i]),
				    j + STATUS_MIN, series[i].status[j]);
}

static void
put_latency(struct page *p, const struct series *s)
{
	const char *name = "coster_request_duration_seconds",
		   *who = labels(p->b->arena, s);
	uint64_t all = count_to(s, ARRAY_LEN(s->bucket));

	if (all == 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(bounds_us); i++)
		buf_addf(p->b, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name,
		    who, (double)bounds_us[i] / 1e6, count_to(s, i + 1));
	buf_addf(p->b,
	    "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n"
	    "%s_sum{%s} %.6f\n%s_count{%s} %" PRIu64 "\n",
	    name, who, all, name, who, (double)s->sum_us / 1e6, name, who, all);
}

struct single {
	const char *name, *type, *help;
	double value;
};

static void
put_singles(struct page *p, const struct single *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool counter = strcmp(list[i].type, "counter") == 0;

		put_head(p, list[i].name, list[i].type, list[i].help);
		buf_addf(p->b, "%s%s %.15g\n", list[i].name,
		    counter ? "_total" : "", list[i].value);
	}
}

static void
put_process(struct page *p, const struct app *app)
{
	const struct app_settings *s = &app->settings;
	const struct single list[] = {
		{ "coster_in_flight", "gauge", "Requests in hand.",
		    (double)metrics.in_flight },
		{ "coster_pool_busy", "gauge",
		    "Requests that a worker runs or asks for, or that wait for one.",
		    (double)metrics.pool_busy },
		{ "coster_pool_limit", "gauge",
		    "How many may: workers and places in the queue.",
		    (double)(s->workers + s->queue) },
		{ "coster_pool_refused", "counter",
		    "Requests refused because the queue had no place, or none for the body.",
		    (double)metrics.refused },
		{ "coster_writes", "counter",
		    "Transactions of requests and jobs.",
		    (double)db_counts.writes },
		{ "coster_commits", "counter",
		    "Commits to disk; writes by commits is the size of a "
		    "group.",
		    (double)db_counts.commits },
		{ "coster_commits_failed", "counter", "Commits that failed.",
		    (double)db_counts.commits_failed },
		{ "coster_turns_undone", "counter",
		    "Groups done again because a request failed half done.",
		    (double)db_counts.turns_undone },
		{ "coster_checkpoints_failed", "counter",
		    "Checkpoints that failed.",
		    (double)db_counts.checkpoints_failed },
		{ "coster_wal_pages", "gauge",
		    "Pages of 4 KiB in the write-ahead log.",
		    (double)db_counts.wal_pages },
		{ "process_start_time_seconds", "gauge",
		    "When the instance started, in seconds since 1970.",
		    (double)app->started_at / 1e3 },
	};

	put_singles(p, list, ARRAY_LEN(list));
}

static enum err
put_outbox(struct page *p, struct db *db)
{
	int64_t waiting, oldest, dead;
	enum err err;

	if ((err = db_get(db, &outbox_depth, DB_NO_ARGS,
		 DB_INTO(DB_INT_TO(&waiting), DB_INT_TO(&oldest))))
	    || (err = db_get(db, &outbox_given_up, DB_NO_ARGS,
		    DB_INTO(DB_INT_TO(&dead)))))
		return err;
	if (oldest == INT_NONE)
		oldest = clock_ms();
	put_singles(p,
	    (const struct single[]) {
		{ "coster_outbox_waiting", "gauge",
		    "Messages to other services that wait.", (double)waiting },
		{ "coster_outbox_oldest_age_seconds", "gauge",
		    "How long the oldest of them has waited.",
		    (double)(clock_ms() - oldest) / 1e3 },
		{ "coster_outbox_dead", "gauge", "Messages given up.",
		    (double)dead },
	    },
	    3);
	return OK;
}

static enum err
put_gauges(struct page *p, struct db *db, const struct gauge_table *t)
{
	struct db_rows q = db_query(db, t->stmt, DB_ARGS(DB_INT(clock_ms())));

	if (db_next(&q))
		for (size_t i = 0; i < t->count; i++)
			put_singles(p,
			    &(struct single) { t->list[i].name, "gauge",
				t->list[i].help, (double)db_int(&q, (int)i) },
			    1);
	return db_end(&q);
}

static enum err
get_metrics(struct req *r)
{
	const struct service *svc = r->ctx->app->service;
	bool open = r->type == 1;
	struct page p = { reply_type(r, 200, types[r->type]), open };
	enum err err;

	put_head(&p, "coster_build_info", "gauge", "What runs: always 1.");
	buf_addf(p.b, "coster_build_info{service=\"%s\",version=\"%s\"} 1\n",
	    svc->name, COSTER_VERSION);
	put_requests(&p);
	put_head(&p, "coster_request_duration_seconds", "histogram",
	    "From reading a request to its reply.");
	for (size_t i = 0; i < series_count; i++)
		put_latency(&p, &series[i]);
	put_process(&p, r->ctx->app);
	if ((err = put_outbox(&p, r->db))
	    || (svc->gauges != NULL
		&& (err = put_gauges(&p, r->db, svc->gauges))))
		return err;
	if (open)
		buf_adds(p.b, "# EOF\n");
	return OK;
}
