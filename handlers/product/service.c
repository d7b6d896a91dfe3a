/*
 * The product service: the catalog, its stock, and reservations of it.
 */
#include "handlers/product/product.h"
#include "shared/embed.h"
#include "shared/service.h"

EMBED(product_schema, "handlers/product/schema.sql");

struct product_settings product_settings;

/* An invoice may be paid late, and its reservation be committed then. */
static const struct setting settings[] = {
	SETTING(struct product_settings, reservation_keep_days,
	    "COSTER_RESERVATION_KEEP_DAYS", "400",
	    "days that reservations are kept; more than an invoice is open",
	    .min = 31, .max = 36500),
};

static const struct route_table *const routes[] = {
	&reservation_routes,
	&product_routes,
	&catalog_routes,
};

static const struct job jobs[] = {
	{ "expire reservations", reservation_expire, JOB_TIMED },
	{ "prune reservations", reservation_prune, JOB_TIMED },
};

const struct service service = {
	.name = "product",
	.summary = "the product catalog, stock and reservations",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = product_schema,
	.settings = { settings, ARRAY_LEN(settings), &product_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &product_checks,
	.keep_ids = product_keep_ids,
};
