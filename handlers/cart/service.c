/*
 * The cart service: what customers mean to buy, and its checkout.
 */
#include "handlers/cart/cart.h"
#include "shared/embed.h"
#include "shared/outbox.h"
#include "shared/service.h"

EMBED(cart_schema, "handlers/cart/schema.sql");

struct cart_settings cart_settings;

static const struct setting settings[] = {
	SETTING(struct cart_settings, fresh_seconds,
	    "COSTER_CART_FRESH_SECONDS", "10",
	    "how long a cart shows prices before product is asked again",
	    .max = CART_FRESH_MAX),
	SETTING(struct cart_settings, keep_days, "COSTER_CART_KEEP_DAYS", "90",
	    "days after which a cart that nobody looks at is emptied",
	    .min = 1, .max = 36500),
};

static const struct route_table *const routes[] = {
	&cart_routes,
	&checkout_routes,
};

static const struct job jobs[] = {
	OUTBOX_JOB,
	{ "resume checkouts", checkout_resume, JOB_TIMED },
	{ "prune checkouts", checkout_prune, JOB_TIMED },
	{ "prune carts", cart_prune, JOB_TIMED },
};

const struct service service = {
	.name = "cart",
	.summary = "customers' carts and their checkout",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = cart_schema,
	.settings = { settings, ARRAY_LEN(settings), &cart_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &cart_checks,
	.questions = &cart_questions,
	.keep_ids = cart_keep_ids,
};
