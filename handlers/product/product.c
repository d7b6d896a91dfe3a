/*
 * One product: created, read, changed, and marked deleted. A deleted one is
 * 410 to customers and stays readable to administrators; its sku is free.
 */
#include "handlers/product/product.h"

#include "shared/clock.h"
#include "shared/fcgi.h"
#include "shared/json.h"
#include "shared/req.h"

static handler_fn post_product, get_product, change_product, delete_product;
static const struct field_table create_fields, change_fields;

static const struct route routes[] = {
	{ "POST", "/product", post_product, ROUTE_ADMIN,
	    .body = &create_fields },
	{ "GET", "/product/{id}", get_product, ROUTE_ANYONE | ROUTE_TAGGED },
	{ "PUT", "/product/{id}", change_product, ROUTE_ADMIN | ROUTE_TAGGED,
	    .body = &change_fields },
	{ "PATCH", "/product/{id}", change_product, ROUTE_ADMIN | ROUTE_TAGGED,
	    .body = &change_fields },
	{ "DELETE", "/product/{id}", delete_product,
	    ROUTE_ADMIN | ROUTE_EMPTY | ROUTE_TAGGED },
};
const struct route_table product_routes = ROUTES(routes);

STMT(product_insert,
    "INSERT INTO product (sku, name, description, price, currency, category,"
    " attributes, stock, created_at, updated_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)");

STMT(product_get, "SELECT " PRODUCT_COLUMNS " FROM product p WHERE p.id = $1");

STMT(product_load,
    "SELECT sku, name, description, price, currency, category, attributes,"
    " stock, deleted_at, version FROM product WHERE id = $1");

STMT(product_update,
    "UPDATE product SET sku = $2, name = $3, description = $4, price = $5,"
    " currency = $6, category = $7, attributes = $8, stock = $9,"
    " updated_at = $10, version = version + 1 WHERE id = $1");

STMT(product_delete,
    "UPDATE product SET deleted_at = $2, updated_at = $2, version = version + 1"
    " WHERE id = $1");

STMT(search_drop, "DELETE FROM product_search WHERE rowid = $1");

/* Not with a SELECT: for that FTS5 would write to its index at once, instead of
 * once for all of a turn. */
STMT(search_put,
    "INSERT INTO product_search (rowid, name, description, sku, category)"
    " VALUES ($1, $2, $3, $4, $5)");

struct product {
	const char *sku, *name, *description, *currency, *category;
	int64_t price, stock;
	struct json_object *attributes;
	const char *attributes_text;
	int64_t deleted_at, version;
};

#define PRODUCT_FIELDS(required)                                               \
	FIELD(struct product, sku, .flags = (required), .min = 1, .max = 64),  \
	FIELD(struct product, name, .flags = (required), .min = 1),            \
	FIELD(struct product, description, .format = FORMAT_PARAGRAPHS,        \
	    .max = 10000),                                                     \
	FIELD(struct product, price, .flags = (required),                      \
	    .max = 1000000000000),                                             \
	FIELD(struct product, currency, .flags = (required),                   \
	    .format = FORMAT_CURRENCY),                                        \
	FIELD(struct product, category, .flags = FIELD_NULLABLE, .min = 1,     \
	    .max = 100),                                                       \
	FIELD(struct product, attributes),                                     \
	FIELD(struct product, stock, .flags = FIELD_NULLABLE,                  \
	    .max = 1000000000)

static const struct field_table create_fields
    = FIELDS(PRODUCT_FIELDS(FIELD_REQUIRED));
static const struct field_table change_fields = FIELDS(PRODUCT_FIELDS(0));

void
put_product(struct buf *b, const struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, PRODUCT_ID));
	json_text(b, "sku", db_text(q, PRODUCT_SKU));
	json_text(b, "name", db_text(q, PRODUCT_NAME));
	json_text(b, "description", db_text(q, PRODUCT_DESCRIPTION));
	json_int(b, "price", db_int(q, PRODUCT_PRICE));
	json_text(b, "currency", db_text(q, PRODUCT_CURRENCY));
	json_text(b, "category", db_text(q, PRODUCT_CATEGORY));
	json_raw(b, "attributes", db_text(q, PRODUCT_ATTRIBUTES));
	json_int(b, "stock", db_int(q, PRODUCT_STOCK));
	json_int(b, "available", db_int(q, PRODUCT_AVAILABLE));
	json_time(b, "created_at", db_int(q, PRODUCT_CREATED_AT));
	json_time(b, "updated_at", db_int(q, PRODUCT_UPDATED_AT));
	json_time(b, "deleted_at", db_int(q, PRODUCT_DELETED_AT));
	json_int(b, "version", db_int(q, PRODUCT_VERSION));
	json_close(b, '}');
}

void
put_offer(struct buf *b, const struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, PRODUCT_ID));
	json_text(b, "name", db_text(q, PRODUCT_NAME));
	json_int(b, "price", db_int(q, PRODUCT_PRICE));
	json_text(b, "currency", db_text(q, PRODUCT_CURRENCY));
	json_int(b, "available", db_int(q, PRODUCT_AVAILABLE));
	json_close(b, '}');
}

static enum err
reply_product(struct req *r, int status, int64_t id)
{
	struct db_rows q = db_query(r->db, &product_get, DB_ARGS(DB_INT(id)));
	bool found = db_next(&q), hidden;
	enum err err;

	hidden = found && db_int(&q, PRODUCT_DELETED_AT) != INT_NONE
	    && r->caller.role != ROLE_ADMIN;
	if (found && !hidden) {
		put_product(reply_json(r, status), &q);
		reply_version(r, db_int(&q, PRODUCT_VERSION));
	}
	if ((err = db_end(&q)))
		return err;
	if (hidden)
		return req_fail(r, ERR_GONE, "This product is not sold any more.");
	return found ? OK : ERR_NOT_FOUND;
}

static enum err
load(struct req *r, struct product *p)
{
	enum err err = db_get(r->db, &product_load, DB_ARGS(DB_INT(r->id)),
	    DB_INTO(DB_TEXT_TO(&p->sku), DB_TEXT_TO(&p->name),
		DB_TEXT_TO(&p->description), DB_INT_TO(&p->price),
		DB_TEXT_TO(&p->currency), DB_TEXT_TO(&p->category),
		DB_TEXT_TO(&p->attributes_text), DB_INT_TO(&p->stock),
		DB_INT_TO(&p->deleted_at), DB_INT_TO(&p->version)));

	return err ? err : req_conditions(r, p->version);
}

static enum err
put_search(struct db *db, int64_t id, const struct product *p)
{
	return db_exec(db, &search_put,
	    DB_ARGS(DB_INT(id), DB_TEXT(p->name), DB_TEXT(p->description),
		DB_TEXT(p->sku), DB_TEXT(p->category)));
}

static enum err
drop_search(struct db *db, int64_t id)
{
	return db_exec(db, &search_drop, DB_ARGS(DB_INT(id)));
}

static const char *
attributes_text(const struct product *p)
{
	return p->attributes == NULL ? p->attributes_text
				     : json_tree_text(p->attributes);
}

static enum err
sku_conflict(struct req *r, enum err err, const char *sku)
{
	if (err != ERR_CONFLICT)
		return err;
	return req_fail_as(r, err, "sku-in-use",
	    "another product has the sku %s", sku);
}

static enum err
post_product(struct req *r)
{
	struct product p = { .description = "",
		.stock = INT_NONE,
		.attributes_text = "{}" };
	int64_t id, now = clock_ms();
	enum err err;

	if ((err = req_body(r, &p)))
		return err;
	err = db_insert(r->db, &product_insert,
	    DB_ARGS(DB_TEXT(p.sku), DB_TEXT(p.name), DB_TEXT(p.description),
		DB_INT(p.price), DB_TEXT(p.currency), DB_TEXT(p.category),
		DB_TEXT(attributes_text(&p)), DB_INT(p.stock), DB_INT(now)),
	    &id);
	if (err)
		return sku_conflict(r, err, p.sku);
	if ((err = put_search(r->db, id, &p))
	    || (err = reply_product(r, 201, id)))
		return err;
	reply_location(r, "/product", id);
	return OK;
}

static enum err
get_product(struct req *r)
{
	/* What an administrator sees may be hidden from all others. */
	if (r->caller.role != ROLE_ADMIN)
		r->reply.cache_control = "public, max-age=5";
	return reply_product(r, 200, r->id);
}

/* What comes of a patch is no more than a body may hold, which has an object
 * around it: many patches do not make what one could not. */
static enum err
merge_attributes(struct req *r, struct product *p)
{
	static const struct json_limits most = { .depth = JSON_DEPTH_MAX - 1,
		.values = JSON_VALUES_MAX - 1,
		.containers = JSON_CONTAINERS_MAX - 1 };
	struct json_object *merged;
	const char *text, *why;

	if (json_parse(r->arena, p->attributes_text, strlen(p->attributes_text),
		&merged, &why))
		return ERR_INTERNAL;
	json_merge(merged, p->attributes);
	p->attributes = merged;
	text = json_tree_text(merged);
	if (strlen(text) > FCGI_BODY_MAX
	    || !json_within(text, strlen(text), &most))
		return req_fault(r, "#/attributes",
		    "are too many or too long with those that are there");
	return OK;
}

/* PUT and PATCH alike change the members that are given; a merge patch also
 * merges attributes, the one member that has members. */
static enum err
change_product(struct req *r)
{
	struct product p = { 0 };
	enum err err;

	if ((err = load(r, &p)) || (err = req_body(r, &p)))
		return err;
	if (p.attributes != NULL && req_is_merge_patch(r)
	    && (err = merge_attributes(r, &p)))
		return err;
	err = db_exec(r->db, &product_update,
	    DB_ARGS(DB_INT(r->id), DB_TEXT(p.sku), DB_TEXT(p.name),
		DB_TEXT(p.description), DB_INT(p.price), DB_TEXT(p.currency),
		DB_TEXT(p.category), DB_TEXT(attributes_text(&p)),
		DB_INT(p.stock), DB_INT(clock_ms())));
	if (err)
		return sku_conflict(r, err, p.sku);
	if ((err = drop_search(r->db, r->id))
	    || (p.deleted_at == INT_NONE && (err = put_search(r->db, r->id, &p))))
		return err;
	return reply_product(r, 200, r->id);
}

static enum err
delete_product(struct req *r)
{
	struct product p = { 0 };
	enum err err;

	if ((err = load(r, &p)))
		return err;
	if (p.deleted_at == INT_NONE
	    && (err = db_exec(r->db, &product_delete,
		    DB_ARGS(DB_INT(r->id), DB_INT(clock_ms())))))
		return err;
	if ((err = drop_search(r->db, r->id)))
		return err;
	return reply_empty(r, 204);
}
