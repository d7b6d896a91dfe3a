/* What must be so of the queue of mails, and what an operator watches of it. */
#include "handlers/email/email.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "a mail that is sent has a time, and no other",
	    "SELECT id FROM mail WHERE (status = 'sent')"
	    " <> (sent_at IS NOT NULL)" },
	{ "what is queued can be sent",
	    "SELECT id FROM mail WHERE status = 'queued' AND (subject IS NULL"
	    " OR text IS NULL OR (recipient IS NULL AND user_id IS NULL))" },
	{ "the text of what is over is forgotten",
	    "SELECT id FROM mail WHERE status <> 'queued'"
	    " AND (text IS NOT NULL OR html IS NOT NULL)" },
	{ "a mail that failed says why",
	    "SELECT id FROM mail WHERE status = 'failed'"
	    " AND last_error IS NULL" },
	{ "no two mails have the same Message-ID",
	    "SELECT min(id) FROM mail GROUP BY key HAVING count(*) > 1" },
	{ "mails are tried within an hour of when they are due",
	    "SELECT id FROM mail WHERE status = 'queued'"
	    " AND due_at < $1 - 3600000" },
};
const struct check_table email_checks = CHECKS(checks);

/* Twice what a failed one is: by that the index by age is found. */
STMT(mail_gauges,
    "SELECT count(*), ($1 - coalesce(min(created_at), $1)) / 1000,"
    " (SELECT count(*) FROM mail WHERE status = 'failed'"
    "  AND status <> 'queued' AND created_at > $1 - 86400000"
    "  AND last_error <> 'erased')"
    " FROM mail WHERE status = 'queued'");

static const struct gauge gauges[] = {
	{ "coster_mail_waiting", "Mails that wait to be sent." },
	{ "coster_mail_oldest_age_seconds",
	    "How long the oldest of them has waited." },
	{ "coster_mail_failed",
	    "Mails of the last day that were given up." },
};
const struct gauge_table email_gauges
    = { &mail_gauges, gauges, ARRAY_LEN(gauges) };

#define MAIL_COLUMNS                                                           \
	"id, key, user_id, recipient, checked, subject, text, html, status,"   \
	" attempts, due_at, last_error, created_at, sent_at, version"

/* Mails that were accepted since the backup are sent, and what was sent or erased since
 * stays so. */
const char email_keep_ids[]
    = "INSERT OR REPLACE INTO mail (" MAIL_COLUMNS ") SELECT " MAIL_COLUMNS
      " FROM old.mail AS o"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.mail)"
      " OR EXISTS (SELECT 1 FROM main.mail WHERE id = o.id AND key = o.key"
      "  AND version < o.version)";
