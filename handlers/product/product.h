/* What the files of the product service share. */
#ifndef COSTER_PRODUCT_H
#define COSTER_PRODUCT_H

#include "shared/app.h"

extern const struct route_table product_routes, catalog_routes,
    reservation_routes;
extern const struct check_table product_checks;
extern const char product_keep_ids[];

int64_t reservation_expire(struct ctx *ctx);
int64_t reservation_prune(struct ctx *ctx); /* of those that ended long ago */

struct product_settings {
	int64_t reservation_keep_days;
};
extern struct product_settings product_settings;

/* What can be sold or reserved, NULL for what is not counted. An administrator
 * may have lowered the stock below what is reserved. */
#define PRODUCT_FREE                                                           \
	"CASE WHEN p.stock < p.reserved THEN 0 ELSE p.stock - p.reserved END"

/* The columns that put_offer() expects, and put_product(). */
#define OFFER_COLUMNS "p.id, p.name, p.price, p.currency, " PRODUCT_FREE
#define PRODUCT_COLUMNS                                                        \
	OFFER_COLUMNS ", p.sku, p.description, p.category, p.attributes, "     \
		      "p.stock, p.created_at, p.updated_at, p.deleted_at, "    \
		      "p.version"
enum product_column {
	PRODUCT_ID,
	PRODUCT_NAME,
	PRODUCT_PRICE,
	PRODUCT_CURRENCY,
	PRODUCT_AVAILABLE,
	PRODUCT_SKU,
	PRODUCT_DESCRIPTION,
	PRODUCT_CATEGORY,
	PRODUCT_ATTRIBUTES,
	PRODUCT_STOCK,
	PRODUCT_CREATED_AT,
	PRODUCT_UPDATED_AT,
	PRODUCT_DELETED_AT,
	PRODUCT_VERSION,
};

struct buf;

/* The row as a JSON object: all of it, or what a cart needs. */
void put_product(struct buf *b, const struct db_rows *q);
void put_offer(struct buf *b, const struct db_rows *q);

#endif
