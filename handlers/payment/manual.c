/*
 * The manual gateway: an administrator has seen a bank transfer arrive, or has
 * made one, and records it. The token is what the statement of account says.
 */
#include "handlers/payment/gateway.h"

static struct answer
charge(struct ctx *ctx, const struct charge *c)
{
	(void)ctx;
	return (struct answer) { SUCCEEDED, c->token };
}

static struct answer
refund(struct ctx *ctx, const struct refund *f)
{
	(void)ctx, (void)f;
	return (struct answer) { SUCCEEDED, NULL };
}

/* What was recorded has happened, even if the process died while it wrote. */
static struct answer
ask(struct ctx *ctx, const char *key)
{
	(void)ctx, (void)key;
	return (struct answer) { SUCCEEDED, NULL };
}

const struct gateway manual_gateway = {
	.name = "manual",
	.who = GATEWAY_ADMIN,
	.charge = charge,
	.ask = ask,
	.refund = refund,
	.ask_refund = ask,
};
