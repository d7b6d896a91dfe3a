/*
 * The addresses that accounts had before. Mails to them are the person's still,
 * to be exported and erased with the rest, until somebody else has the address.
 */
#include "handlers/user/user.h"

#include "shared/json.h"

STMT(former_put,
    "INSERT INTO former_address (email_key, user_id) VALUES ($1, $2)");

STMT(former_take,
    "DELETE FROM former_address WHERE email_key = $1 RETURNING user_id");

STMT(former_list,
    "SELECT email_key FROM former_address WHERE user_id = $1"
    " ORDER BY email_key");

STMT(former_drop, "DELETE FROM former_address WHERE user_id = $1");

/* The mails of then are not the new owner's to see. */
enum err
address_take(struct db *db, int64_t id, const char *key)
{
	int64_t former;
	enum err err = db_get(db, &former_take, DB_ARGS(DB_TEXT(key)),
	    DB_INTO(DB_INT_TO(&former)));

	if (err || former == id)
		return err == ERR_NOT_FOUND ? OK : err;
	return notice_forget_mails(db, id, key);
}

enum err
address_leave(struct db *db, int64_t id, const char *key)
{
	return db_exec(db, &former_put, DB_ARGS(DB_TEXT(key), DB_INT(id)));
}

enum err
addresses_forget(struct db *db, int64_t id)
{
	struct db_rows q = db_query(db, &former_list, DB_ARGS(DB_INT(id)));
	enum err err = OK, ended;

	while (!err && db_next(&q))
		err = notice_forget_mails(db, id, db_text(&q, 0));
	ended = db_end(&q);
	if (err || ended)
		return err ? err : ended;
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
