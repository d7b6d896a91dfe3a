/*
 * Caps: how many mails an hour may be asked for, in total and to one
 * recipient. The hour slides, and is counted in the database, so the instances
 * share it and a restart or an erasure does not open it anew. Of a recipient
 * only a hash is kept.
 */
#include "handlers/email/email.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/req.h"
#include "shared/text.h"

/* The mail that must leave the hour before there is room for another. Of all, by
 * its id: they have no gaps, and a cap may be too large to count up to. */
STMT(cap_total,
    "SELECT at FROM mail_count"
    " WHERE id <= (SELECT max(id) FROM mail_count) - $1"
    " ORDER BY id DESC LIMIT 1");

STMT(cap_waiting,
    "SELECT at FROM mail_count WHERE can_wait = 1 AND at > $1"
    " ORDER BY at DESC LIMIT 1 OFFSET $2");

STMT(cap_recipient,
    "SELECT at FROM mail_count WHERE at > $1 AND who = $3 ORDER BY at DESC"
    " LIMIT 1 OFFSET $2");

STMT(cap_count,
    "INSERT INTO mail_count (who, at, can_wait) VALUES ($1, $2, $3)");

STMT(cap_forget, "DELETE FROM mail_count WHERE at <= $1");

static const char *
hash(struct arena *a, const char *who)
{
	const char *text = text_lower(a, who);
	unsigned char h[16];

	crypto_generichash(h, sizeof(h), (const unsigned char *)text,
	    strlen(text), NULL, 0);
	return base64url_encode(a, h, sizeof(h));
}

/* What a statement above answered: room, or when there will be some. */
static enum err
judge(struct req *r, enum err err, int64_t at, const char *what)
{
	int64_t wait = at + CLOCK_HOUR - clock_ms();

	/* Longer than that: the clock has been set back since. */
	if (err == ERR_NOT_FOUND || (!err && (wait <= 0 || wait > CLOCK_HOUR)))
		return OK;
	if (err)
		return err;
	r->retry_after = (wait + 999) / 1000;
	return req_fail_as(r, ERR_TOO_MANY, "mail-cap",
	    "as many mails as an hour may have were asked for %s", what);
}

enum err
cap_take(struct req *r, const char *who, bool can_wait)
{
	int64_t most = email_settings.per_hour, half = (most + 1) / 2;
	int64_t now = clock_ms(), since = now - CLOCK_HOUR, at = 0;
	const char *hashed = hash(r->arena, who);
	enum err err;

	err = db_get(r->db, &cap_total,
	    DB_ARGS(DB_INT(most - 1)), DB_INTO(DB_INT_TO(&at)));
	if ((err = judge(r, err, at, "already")))
		return err;
	if (can_wait) {
		err = db_get(r->db, &cap_waiting,
		    DB_ARGS(DB_INT(since), DB_INT(half - 1)),
		    DB_INTO(DB_INT_TO(&at)));
		if ((err = judge(r, err, at, "that can wait")))
			return err;
	}
	err = db_get(r->db, &cap_recipient,
	    DB_ARGS(DB_INT(since), DB_INT(email_settings.per_recipient - 1),
		DB_TEXT(hashed)),
	    DB_INTO(DB_INT_TO(&at)));
	if ((err = judge(r, err, at, "to this recipient")))
		return err;
	return db_exec(r->db, &cap_count,
	    DB_ARGS(DB_TEXT(hashed), DB_INT(now), DB_INT(can_wait)));
}

enum err
cap_prune(struct db *db)
{
	return db_exec(
	    db, &cap_forget, DB_ARGS(DB_INT(clock_ms() - CLOCK_HOUR)));
}
