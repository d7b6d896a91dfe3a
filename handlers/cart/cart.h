/* What the files of the cart service share. */
#ifndef COSTER_CART_H
#define COSTER_CART_H

#include <json-c/json.h>

#include "shared/app.h"
#include "shared/req.h"

extern const struct route_table cart_routes, checkout_routes;
extern const struct check_table cart_checks, cart_questions;
extern const char cart_keep_ids[];

/* Carries on, or undoes, a checkout that nobody is at. */
int64_t checkout_resume(struct ctx *ctx);
/* Forgets the checkouts that ended a day ago. */
int64_t checkout_prune(struct ctx *ctx);
/* Empties the carts that nobody looks at any more. */
int64_t cart_prune(struct ctx *ctx);

#define CART_FRESH_MAX 3600 /* seconds */

struct cart_settings {
	int64_t fresh_seconds, keep_days;
};
extern struct cart_settings cart_settings;

#define CART_ITEMS_MAX 100

struct cart {
	int64_t version;
	const char *checkout_id; /* what has frozen it, or NULL */
};

/* Version 0 for a user who has never had one. */
MUST_USE enum err cart_load(struct db *db, int64_t uid, struct cart *cart);

/* Gives the cart its next version. */
MUST_USE enum err cart_touch(struct db *db, int64_t uid);

/* Says that the cart is being checked out; returns ERR_CONFLICT. */
MUST_USE enum err cart_frozen(struct req *r);

/* Before a client's change: the next version, or ERR_CONFLICT while the cart is
 * frozen. *was is the cart before. */
MUST_USE enum err cart_change(struct req *r, struct cart *was);

/* A product as the catalog has it; name NULL and price INT_NONE when it is not
 * known any more. */
struct offer {
	int64_t product_id, seen_at, price;
	int64_t available; /* INT_NONE: not counted */
	const char *name, *currency;
};

/* What product is to be asked, and what it answered: ERR_NOT_FOUND for what it
 * does not sell, ERR_UNAVAILABLE. */
void offer_question(struct req *r, int64_t product_id);
MUST_USE enum err offer_take(
    const struct req *r, int64_t product_id, struct offer *o);

/* Keeps an offer with the product's item, its price only if that is shown to the
 * customer now; *news: it says something new. */
MUST_USE enum err offer_keep(struct req *r, const struct offer *o, bool *news);

/* Before an item, or with INT_NONE all of the cart, is shown to its customer: asks
 * product about it when what is known is old, for which it may have to wait
 * (ERR_DEFER). What is known will do when product does not answer. */
MUST_USE enum err offer_refresh(struct req *r, int64_t item);

#endif
