/*
 * Gateways: who moves the money.
 *
 * A gateway is told to charge or to refund once for each key, outside any
 * transaction and after the key is on disk. Told again with a key it has seen,
 * it does nothing and gives the first outcome. It answers within half a minute
 * or the outcome is UNKNOWN: then it is asked about the key until it knows.
 */
#ifndef COSTER_GATEWAY_H
#define COSTER_GATEWAY_H

#include "shared/app.h"

enum outcome {
	SUCCEEDED,
	DECLINED,
	UNKNOWN,   /* no answer */
	NOT_FOUND, /* only when asked: it never heard of the key */
	OUTCOME__COUNT
};

struct answer {
	enum outcome outcome;
	const char *reference; /* its words for the transfer, or NULL; arena */
};

struct charge {
	const char *key;
	int64_t amount;
	const char *currency;
	const char *token; /* what the customer pays with, or NULL */
};

struct refund {
	const char *key;
	int64_t amount;
	const char *currency;
	const char *charge_key, *charge_reference;
};

struct gateway {
	const char *name;
	enum { GATEWAY_OWNER, GATEWAY_ADMIN } who; /* may pay by it */
	struct answer (*charge)(struct ctx *ctx, const struct charge *c);
	struct answer (*ask)(struct ctx *ctx, const char *key);
	struct answer (*refund)(struct ctx *ctx, const struct refund *f);
	struct answer (*ask_refund)(struct ctx *ctx, const char *key);
};

extern const struct gateway manual_gateway, sandbox_gateway;

/* Offers the gateways of a list of names with commas between. ERR_INVALID when
 * there is none of such a name; the log says which. */
MUST_USE enum err gateway_offer(const char *names);

/* One that is offered, or NULL. */
const struct gateway *gateway_offered(const char *name);

/* Any, also one that is no longer offered but has answers to give, or NULL. */
const struct gateway *gateway_find(const char *name);

#endif
