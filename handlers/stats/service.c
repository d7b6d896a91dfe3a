/*
 * The stats service: the record of what users do, and counts of it.
 */
#include "handlers/stats/stats.h"
#include "shared/embed.h"
#include "shared/service.h"

EMBED(stats_schema, "handlers/stats/schema.sql");

struct stats_settings stats_settings;

static const struct setting settings[] = {
	SETTING(struct stats_settings, keep_days, "COSTER_LOG_KEEP_DAYS", "0",
	    "days that entries are kept; 0: for ever", .max = 36500),
};

static const struct route_table *const routes[] = {
	&entry_routes,
	&list_routes,
	&summary_routes,
};

static const struct job jobs[] = {
	{ "prune entries", entry_prune, JOB_TIMED },
};

const struct service service = {
	.name = "stats",
	.summary = "the record of user actions",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = stats_schema,
	.settings = { settings, ARRAY_LEN(settings), &stats_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &stats_checks,
	.keep_ids = stats_keep_ids,
};
