/*
 * A checkout that somebody has taken up: what checkout.c, which carries it from
 * state to state, and steps.c, which makes its calls, both know of it.
 */
#ifndef COSTER_CHECKOUT_H
#define COSTER_CHECKOUT_H

#include "shared/app.h"
#include "shared/clock.h"

/* One that is not through by then is undone. */
#define CHECKOUT_GIVE_UP (10 * CLOCK_MINUTE)

enum state { RESERVE, INVOICE, DONE, UNDONE, STATE__COUNT };

/* An item of the frozen cart. */
struct line {
	int64_t item_id, product_id, quantity, price;
	const char *name, *currency;
};

struct checkout {
	const char *id, *invoice;
	enum state state;
	int64_t nr, user_id, reservation_id, invoice_id, attempts, created_at;
	struct line *lines;
	size_t line_count;
	const char *trace; /* of the request that runs it, or NULL */
	bool answers;	   /* that request's client is told how it ends */
	/* Why it is undone: type, words, and more members, for the client. */
	const char *problem, *detail, *members;
};

/* The steps. Each calls another service, may be taken again after a failure,
 * and notes what was made. ERR_CONFLICT, with the problem noted, when it is
 * refused for good; ERR_UNAVAILABLE when it is to be taken again. */
MUST_USE enum err step_reserve(struct ctx *ctx, struct checkout *c);
MUST_USE enum err step_invoice(struct ctx *ctx, struct checkout *c);

#endif
