/* What must be so of carts and their checkouts. */
#include "handlers/cart/cart.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "a cart is frozen by a checkout that runs",
	    "SELECT user_id FROM cart WHERE checkout_id IS NOT NULL"
	    " AND checkout_id NOT IN (SELECT id FROM checkout"
	    "  WHERE state NOT IN ('done', 'undone'))" },
	{ "a checkout that runs has frozen its cart",
	    "SELECT id FROM checkout WHERE state NOT IN ('done', 'undone')"
	    " AND id NOT IN (SELECT checkout_id FROM cart"
	    "  WHERE checkout_id IS NOT NULL AND user_id = checkout.user_id)" },
	{ "a checkout comes to its end within an hour",
	    "SELECT id FROM checkout WHERE state NOT IN ('done', 'undone')"
	    " AND created_at < $1 - 3600000" },
	{ "a checkout that is done has an invoice",
	    "SELECT id FROM checkout WHERE state = 'done'"
	    " AND (invoice_id IS NULL OR reservation_id IS NULL)" },
	{ "no two checkouts have the same invoice or reservation",
	    "SELECT invoice_id FROM checkout WHERE invoice_id IS NOT NULL"
	    " GROUP BY invoice_id HAVING count(*) > 1"
	    " UNION SELECT reservation_id FROM checkout"
	    " WHERE reservation_id IS NOT NULL"
	    " GROUP BY reservation_id HAVING count(*) > 1" },
	{ "a cart is in one currency",
	    "SELECT user_id FROM cart_item GROUP BY user_id"
	    " HAVING count(DISTINCT currency) > 1" },
	{ "no item has a number that is yet to be given",
	    "SELECT cart.user_id FROM cart JOIN cart_item"
	    " ON cart_item.user_id = cart.user_id"
	    " WHERE cart_item.id > cart.last_item_id" },
};
const struct check_table cart_checks = CHECKS(checks);

static const struct check questions[] = {
	{ "payment knows the invoice of a checkout",
	    "SELECT id, '/invoices/' || invoice_id, 'user_id', user_id"
	    " FROM checkout WHERE state = 'done' AND invoice_id IS NOT NULL"
	    " ORDER BY updated_at DESC LIMIT 1000" },
	{ "user knows whose a cart is",
	    "SELECT user_id, '/user/' || user_id, 'id', user_id FROM cart"
	    " WHERE user_id IN (SELECT user_id FROM cart_item)"
	    " ORDER BY user_id DESC LIMIT 1000" },
};
const struct check_table cart_questions = CHECKS(questions);

/* Items and versions beyond all that were given; with no item, of carts that were made
 * since. */
const char cart_keep_ids[]
    = "INSERT INTO cart (user_id, version, last_item_id)"
      " SELECT user_id, version + 1, last_item_id FROM old.cart WHERE true"
      " ON CONFLICT (user_id) DO UPDATE SET"
      " version = max(version, excluded.version),"
      " last_item_id = max(last_item_id, excluded.last_item_id);"
      "UPDATE cart_item SET version = o.version + 1 FROM old.cart_item o"
      " WHERE o.user_id = cart_item.user_id AND o.id = cart_item.id"
      " AND o.version > cart_item.version";
