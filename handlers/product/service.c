/*
 * The product service: the catalog, its stock, and reservations of it.
 */
#include "handlers/product/product.h"
#include "shared/embed.h"
#include "shared/service.h"

EMBED(product_schema, "handlers/product/schema.sql");

static const struct route_table *const routes[] = {
	&reservation_routes,
	&product_routes,
	&catalog_routes,
};

static const struct job jobs[] = {
	{ "expire reservations", reservation_expire, JOB_TIMED },
};

const struct service service = {
	.name = "product",
	.summary = "the product catalog, stock and reservations",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = product_schema,
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &product_checks,
	.keep_ids = product_keep_ids,
};
