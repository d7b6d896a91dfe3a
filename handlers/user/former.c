/*
 * The addresses that accounts had before. The mails to them of that time are the
 * person's still, to be erased with the rest, until somebody else has proved to
 * have the address. Whoever claims one without proof sees no mail to it, and takes
 * nothing away.
 */
#include "handlers/user/user.h"

#include "shared/clock.h"
#include "shared/json.h"

/* What was claimed only may be another's former one. */
STMT(former_put,
    "INSERT INTO former_address (email_key, user_id, verified, left_at)"
    " VALUES ($1, $2, $3, $4) ON CONFLICT (email_key) DO NOTHING");

STMT(former_back,
    "DELETE FROM former_address WHERE email_key = $1 AND user_id = $2");

STMT(former_take,
    "DELETE FROM former_address WHERE email_key = (SELECT email_key"
    " FROM account WHERE id = $1) RETURNING email_key, user_id, left_at");

STMT(former_list,
    "SELECT email_key FROM former_address WHERE user_id = $1"
    " ORDER BY email_key");

/* All mails to what nobody has now, and those of then to what somebody has. */
STMT(former_until,
    "SELECT email_key, CASE WHEN EXISTS (SELECT 1 FROM account"
    " WHERE email_key = f.email_key) THEN left_at END"
    " FROM former_address AS f WHERE user_id = $1");

STMT(former_owner, "SELECT user_id FROM former_address WHERE email_key = $1");

STMT(former_drop, "DELETE FROM former_address WHERE user_id = $1");

enum err
address_claimed(struct db *db, int64_t id, const char *key)
{
	return db_exec(db, &former_back, DB_ARGS(DB_TEXT(key), DB_INT(id)));
}

/* The mails of before are not the new owner's to see. */
enum err
address_proved(struct db *db, int64_t id)
{
	const char *key;
	int64_t former, left_at;
	enum err err = db_get(db, &former_take, DB_ARGS(DB_INT(id)),
	    DB_INTO(DB_TEXT_TO(&key), DB_INT_TO(&former),
		DB_INT_TO(&left_at)));

	if (err || former == id)
		return err == ERR_NOT_FOUND ? OK : err;
	return notice_forget_mails(db, id, key, left_at);
}

enum err
address_left(struct db *db, int64_t id, const char *key, bool verified)
{
	return db_exec(db, &former_put,
	    DB_ARGS(DB_TEXT(key), DB_INT(id), DB_INT(verified),
		DB_INT(clock_ms())));
}

static enum err
forget_last(struct db *db, int64_t id, const char *key, bool verified)
{
	int64_t former;
	enum err err = db_get(db, &former_owner, DB_ARGS(DB_TEXT(key)),
	    DB_INTO(DB_INT_TO(&former)));

	if (err && err != ERR_NOT_FOUND)
		return err;
	return err == OK && !verified
	    ? OK /* what it only claimed is another's still */
	    : notice_forget_mails(db, id, key, INT_NONE);
}

enum err
addresses_forget(struct db *db, int64_t id, const char *key, bool verified)
{
	struct db_rows q;
	enum err err;

	if ((err = forget_last(db, id, key, verified)))
		return err;
	q = db_query(db, &former_until, DB_ARGS(DB_INT(id)));
	while (db_next(&q))
		db_fail(&q,
		    notice_forget_mails(
			db, id, db_text(&q, 0), db_int(&q, 1)));
	if ((err = db_end(&q)))
		return err;
	return db_exec(db, &former_drop, DB_ARGS(DB_INT(id)));
}

enum err
addresses_put(struct db *db, struct buf *b, const char *key, int64_t id)
{
	struct db_rows q = db_query(db, &former_list, DB_ARGS(DB_INT(id)));

	json_open(b, key, '[');
	while (db_next(&q))
		json_text(b, NULL, db_text(&q, 0));
	json_close(b, ']');
	return db_end(&q);
}
