/*
 * The payment service: invoices, and their payment through gateways.
 */
#include "handlers/payment/payment.h"
#include "shared/embed.h"
#include "shared/outbox.h"
#include "shared/service.h"

EMBED(payment_schema, "handlers/payment/schema.sql");

struct payment_settings payment_settings;

static const struct setting settings[] = {
	SETTING(struct payment_settings, invoice_hours, "COSTER_INVOICE_HOURS",
	    "336", "until an unpaid invoice is void", .min = 1, .max = 8784),
	SETTING(struct payment_settings, gateways, "COSTER_GATEWAYS", "manual",
	    "ways to pay, with commas between: manual, sandbox"),
};

static const struct route_table *const routes[] = {
	&invoice_routes,
	&status_routes,
	&payment_routes,
	&refund_routes,
};

static const struct job jobs[] = {
	{ "settle attempts", transfer_settle, JOB_TIMED },
	{ "open invoices", invoice_watch, JOB_TIMED },
	OUTBOX_JOB,
};

static enum err
start(const struct app *app)
{
	(void)app;
	return gateway_offer(payment_settings.gateways);
}

const struct service service = {
	.name = "payment",
	.summary = "invoices and their payment",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = payment_schema,
	.settings = { settings, ARRAY_LEN(settings), &payment_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &payment_checks,
	.questions = &payment_questions,
	.keep_ids = payment_keep_ids,
	.start = start,
};
