/* What must be so of the catalog and its stock. */
#include "handlers/product/product.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "what is reserved of a product is what is held",
	    "SELECT id FROM product LEFT JOIN (SELECT l.product_id,"
	    " sum(l.quantity) AS quantity FROM reservation_line l"
	    " JOIN reservation r ON r.id = l.reservation_id"
	    " WHERE r.status = 'held' GROUP BY l.product_id) AS held"
	    " ON held.product_id = product.id"
	    " WHERE product.reserved <> coalesce(held.quantity, 0)" },
	{ "stock is never below zero",
	    "SELECT id FROM product WHERE stock < 0 OR reserved < 0" },
	{ "a reservation has lines",
	    "SELECT id FROM reservation WHERE NOT EXISTS (SELECT 1"
	    " FROM reservation_line WHERE reservation_id = reservation.id)" },
	{ "no more is missing of a reservation than it has",
	    "SELECT id FROM reservation WHERE shortfall < 0 OR shortfall >"
	    " (SELECT sum(quantity) FROM reservation_line"
	    "  WHERE reservation_id = reservation.id)"
	    " OR (shortfall > 0 AND status <> 'committed')" },
	{ "what expires is released within ten minutes",
	    "SELECT id FROM reservation WHERE status = 'held'"
	    " AND expires_at < $1 - 600000" },
	{ "all that is sold can be searched for",
	    "SELECT id FROM product WHERE deleted_at IS NULL"
	    " AND id NOT IN (SELECT rowid FROM product_search)" },
	{ "nothing else can",
	    "SELECT rowid FROM product_search WHERE rowid NOT IN"
	    " (SELECT id FROM product WHERE deleted_at IS NULL)" },
};
const struct check_table product_checks = CHECKS(checks);

/* Rows that are over, with ids beyond all that were given; and versions. */
const char product_keep_ids[]
    = "INSERT INTO product (id, sku, name, description, price, currency,"
      " attributes, created_at, updated_at, deleted_at)"
      " SELECT id + 1, '', '', '', 0, 'XXX', '{}', updated_at, updated_at,"
      " updated_at FROM old.product"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.product)"
      " ORDER BY id DESC LIMIT 1;"
      "UPDATE product SET version = o.version + 1 FROM old.product o"
      " WHERE o.id = product.id AND o.version > product.version;"
      "INSERT INTO reservation (id, status, expires_at, created_at)"
      " SELECT id + 1, 'released', expires_at, created_at FROM old.reservation"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.reservation)"
      " ORDER BY id DESC LIMIT 1;"
      "INSERT INTO reservation_line SELECT max(id),"
      " (SELECT max(id) FROM main.product), 1 FROM main.reservation"
      " HAVING max(id) NOT IN (SELECT reservation_id"
      "  FROM main.reservation_line)";
