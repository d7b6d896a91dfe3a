/*
 * The addresses that accounts had before. Mails to them are the person's still,
 * to be erased with the rest, until somebody else has proved to have the address.
 * Whoever claims one without proof sees no mail to it, and takes nothing away.
 */
#include "handlers/user/user.h"

#include "shared/json.h"

/* What was claimed only may be another's former one. */
STMT(former_put,
    "INSERT INTO former_address (email_key, user_id, verified)"
    " VALUES ($1, $2, $3) ON CONFLICT (email_key) DO NOTHING");

STMT(former_back,
    "DELETE FROM former_address WHERE email_key = $1 AND user_id = $2");

STMT(former_take,
    "DELETE FROM former_address WHERE email_key = (SELECT email_key"
    " FROM account WHERE id = $1) RETURNING email_key, user_id");

STMT(former_list,
    "SELECT email_key FROM former_address WHERE user_id = $1"
    " ORDER BY email_key");

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
	int64_t former;
	enum err err = db_get(db, &former_take, DB_ARGS(DB_INT(id)),
	    DB_INTO(DB_TEXT_TO(&key), DB_INT_TO(&former)));

	if (err || former == id)
		return err == ERR_NOT_FOUND ? OK : err;
	return notice_forget_mails(db, id, key);
}

enum err
address_left(struct db *db, int64_t id, const char *key, bool verified)
{
	return db_exec(db, &former_put,
	    DB_ARGS(DB_TEXT(key), DB_INT(id), DB_INT(verified)));
}

enum err
addresses_forget(struct db *db, int64_t id)
{
	struct db_rows q = db_query(db, &former_list, DB_ARGS(DB_INT(id)));
	enum err err;

	while (db_next(&q))
		db_fail(&q, notice_forget_mails(db, id, db_text(&q, 0)));
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
