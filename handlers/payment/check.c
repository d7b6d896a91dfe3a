/* What must be so of invoices and the money moved for them. */
#include "handlers/payment/payment.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "invoices are numbered without gaps",
	    "SELECT 'invoice_number: ' || last FROM invoice_number WHERE last"
	    " <> (SELECT count(*) FROM invoice) OR last"
	    " <> (SELECT coalesce(max(number), 0) FROM invoice)" },
	{ "a total is the sum of its lines",
	    "SELECT id FROM invoice WHERE total <> coalesce((SELECT"
	    " sum(quantity * price) FROM invoice_line"
	    " WHERE invoice_id = invoice.id), -1)" },
	{ "a paid invoice has one payment that succeeded",
	    "SELECT id FROM invoice WHERE status IN ('paid', 'refunded')"
	    " AND (SELECT count(*) FROM attempt WHERE invoice_id = invoice.id"
	    "  AND status = 'succeeded') <> 1" },
	{ "one that is not paid has none",
	    "SELECT id FROM invoice WHERE status IN ('open', 'void') AND EXISTS"
	    " (SELECT 1 FROM attempt WHERE invoice_id = invoice.id"
	    "  AND status = 'succeeded')" },
	{ "what was paid is the total, and has a time",
	    "SELECT id FROM invoice WHERE CASE status"
	    " WHEN 'open' THEN amount_paid <> 0 OR paid_at IS NOT NULL"
	    " WHEN 'void' THEN amount_paid <> 0 OR paid_at IS NOT NULL"
	    " ELSE amount_paid <> total OR paid_at IS NULL END" },
	{ "payments are of the whole total",
	    "SELECT attempt.id FROM attempt JOIN invoice"
	    " ON invoice.id = attempt.invoice_id"
	    " WHERE attempt.amount <> invoice.total" },
	{ "what was refunded is the sum of its refunds",
	    "SELECT id FROM invoice WHERE amount_refunded <> coalesce((SELECT"
	    " sum(amount) FROM refund WHERE invoice_id = invoice.id"
	    " AND status = 'succeeded'), 0)" },
	{ "refunded is what all was given back of",
	    "SELECT id FROM invoice WHERE (status = 'refunded')"
	    " <> (amount_paid > 0 AND amount_refunded = amount_paid)" },
	{ "a payment that is not known is asked about",
	    "SELECT id FROM attempt WHERE status IN ('started', 'unknown')"
	    " AND due_at < $1 - 600000" },
	{ "a refund that is not known is asked about",
	    "SELECT id FROM refund WHERE status IN ('started', 'unknown')"
	    " AND due_at < $1 - 600000" },
	{ "what is not paid at once is kept within ten minutes",
	    "SELECT id FROM invoice WHERE status = 'open'"
	    " AND id > (SELECT last FROM extension)"
	    " AND created_at < $1 - 600000" },
	{ "what expires is void within ten minutes",
	    "SELECT id FROM invoice WHERE status = 'open'"
	    " AND expires_at < $1 - 600000 AND NOT EXISTS (SELECT 1 FROM attempt"
	    "  WHERE invoice_id = invoice.id"
	    "  AND status IN ('started', 'unknown'))" },
};
const struct check_table payment_checks = CHECKS(checks);

/* Of a month, where product knows of it already. */
#define OF_RESERVATION(member, value)                                          \
	"SELECT id, '/product/reservations/' || reservation_id, " member       \
	", " value " FROM invoice WHERE reservation_id IS NOT NULL"            \
	" AND created_at > $1 - 2592000000 AND NOT EXISTS (SELECT 1"           \
	"  FROM outbox WHERE subject = 'invoice ' || invoice.id)"
#define NEWEST " ORDER BY id DESC LIMIT 1000"

static const struct check questions[] = {
	{ "product has sold, or keeps, what an invoice is for",
	    OF_RESERVATION("'status'",
		"CASE status WHEN 'open' THEN 'held|committed'"
		" ELSE 'committed' END")
	    " AND status <> 'void'" NEWEST },
	{ "what was paid for was there, or something is paid back",
	    OF_RESERVATION("'shortfall'", "'0'")
	    " AND status = 'paid' AND amount_refunded = 0" NEWEST },
};
const struct check_table payment_questions = CHECKS(questions);

/* What a gateway was told, and what came of it. */
#define KEEP_TRANSFERS(table, columns)                                         \
	"INSERT INTO " table " (" columns ") SELECT " columns                  \
	" FROM old." table " WHERE true ORDER BY id"                           \
	" ON CONFLICT (id) DO UPDATE SET status = excluded.status,"            \
	" reference = excluded.reference, asked = excluded.asked,"             \
	" due_at = excluded.due_at, ended_at = excluded.ended_at;"
#define TRANSFER_COLUMNS                                                       \
	"id, invoice_id, gateway, key, amount, status, reference, origin,"     \
	" asked, due_at, created_at, ended_at"

/* Not its id: that of a message that is sent is given again. */
#define MESSAGE_COLUMNS                                                        \
	"subject, method, path, body, key, attempts, due_at, leased_until,"    \
	" dead_at, last_error, created_at, receiver, waits"

/* Money that was moved since the backup stays moved, and what has ended stays ended:
 * a customer was told, and product. Invoices that were made since and are open expire
 * now, which gives their goods back; so each number is given once. */
const char payment_keep_ids[]
    = "INSERT INTO invoice (id, number, user_id, status, currency, total,"
      " amount_paid, amount_refunded, reservation_id, created_at, paid_at,"
      " expires_at, version)"
      " SELECT id, number, user_id, status, currency, total, amount_paid,"
      " amount_refunded, reservation_id, created_at, paid_at,"
      " CASE status WHEN 'open' THEN created_at ELSE expires_at END,"
      " version + 1 FROM old.invoice"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.invoice);"
      "INSERT INTO invoice_line SELECT * FROM old.invoice_line"
      " WHERE invoice_id > (SELECT coalesce(max(invoice_id), 0)"
      "  FROM main.invoice_line);"
      "UPDATE invoice_number SET last = (SELECT coalesce(max(number), 0)"
      " FROM main.invoice);"
      "UPDATE invoice SET status = o.status, amount_paid = o.amount_paid,"
      " amount_refunded = o.amount_refunded, paid_at = o.paid_at,"
      " version = o.version + 1 FROM old.invoice AS o"
      " WHERE o.id = invoice.id AND o.status <> 'open'"
      " AND o.version > invoice.version;"
      KEEP_TRANSFERS("attempt", TRANSFER_COLUMNS)
      KEEP_TRANSFERS("refund", TRANSFER_COLUMNS ", attempt_id")
      "INSERT INTO sandbox_charge SELECT * FROM old.sandbox_charge"
      " WHERE true ON CONFLICT DO NOTHING;"
      "UPDATE extension SET last = max(last, (SELECT last FROM old.extension));"
      "INSERT INTO outbox (" MESSAGE_COLUMNS ")"
      " SELECT " MESSAGE_COLUMNS " FROM old.outbox"
      " WHERE key NOT IN (SELECT key FROM main.outbox) ORDER BY id";
