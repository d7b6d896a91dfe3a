/*
 * The database of a service: one connection a thread, its statements prepared
 * once, and one commit a turn.
 *
 * A statement is data: STMT(name, "SQL") at the top of a file registers it.
 * The loop's connection prepares all of the program's statements when it is
 * opened, so that one the schema does not know stops the service from
 * starting; others prepare what they come to use. Parameters are $1, $2 …; SQL
 * keeps to what PostgreSQL understands too.
 *
 *     STMT(item_delete, "DELETE FROM item WHERE user_id = $1 AND id = $2");
 *     STMT(item_get, "SELECT quantity, name FROM item WHERE id = $1");
 *
 *     err = db_exec(db, &item_delete, DB_ARGS(DB_INT(uid), DB_INT(id)));
 *     err = db_get(db, &item_get, DB_ARGS(DB_INT(id)),
 *         DB_INTO(DB_INT_TO(&quantity), DB_TEXT_TO(&name)));
 *
 * Writes stand between db_begin() and db_commit(). On an ordinary connection
 * that is a transaction. On the connection of a loop (DB_GROUPED) the first
 * db_begin() of a turn opens one for all of the turn, and db_turn_end() commits it
 * with one fsync. Replies wait until then. After a failure of db_turn_end()
 * nothing of the turn may be acknowledged, and whether it is on disk is not known.
 *
 * A savepoint for each request of a turn would be a quarter of what a small write
 * costs, and few requests change something before they fail. When one does, the
 * turn is undone (db_turn_undo) and done again, this time with savepoints; and so
 * are those that follow, until one passes without such a failure.
 */
#ifndef COSTER_DB_H
#define COSTER_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"

struct stmt {
	const char *sql;
};

/* STMT(item_get, "SELECT …"), or STMT_ARRAY(item_list[2]) = { … } */
#define STMT(name, ...) STMT_ARRAY(name) = { __VA_ARGS__ }
#define STMT_ARRAY(name)                                                       \
	static const struct stmt name                                          \
	    __attribute__((section("coster_stmt"), aligned(sizeof(void *))))

struct db_arg {
	enum { DB_ARG_INT, DB_ARG_TEXT, DB_ARG_BLOB } type;
	int64_t number;
	const void *bytes;
	size_t len;
};

struct db_args {
	const struct db_arg *list;
	size_t count;
};

/* INT_NONE and a NULL text are SQL's NULL. All are borrowed for the call. */
#define DB_INT(v) { .type = DB_ARG_INT, .number = (v) }
#define DB_TEXT(s) { .type = DB_ARG_TEXT, .bytes = (s) }
#define DB_BLOB(p, n) { .type = DB_ARG_BLOB, .bytes = (p), .len = (n) }
#define DB_ARGS(...)                                                           \
	((struct db_args) { (const struct db_arg[]) { __VA_ARGS__ },           \
	    sizeof((const struct db_arg[]) { __VA_ARGS__ })                    \
		/ sizeof(struct db_arg) })
#define DB_NO_ARGS ((struct db_args) { NULL, 0 })

struct db_into {
	enum { DB_INTO_INT, DB_INTO_TEXT, DB_INTO_BLOB } type;
	void *to;
	size_t *len; /* of a blob */
};

struct db_intos {
	const struct db_into *list;
	size_t count;
};

/* SQL's NULL becomes INT_NONE or NULL. Texts and blobs: arena. */
#define DB_INT_TO(p) { .type = DB_INTO_INT, .to = (int64_t *) { (p) } }
#define DB_TEXT_TO(p) { .type = DB_INTO_TEXT, .to = (const char **) { (p) } }
#define DB_BLOB_TO(p, n)                                                       \
	{ .type = DB_INTO_BLOB, .to = (const void **) { (p) }, .len = (n) }
#define DB_INTO(...)                                                           \
	((struct db_intos) { (const struct db_into[]) { __VA_ARGS__ },         \
	    sizeof((const struct db_into[]) { __VA_ARGS__ })                   \
		/ sizeof(struct db_into) })

/* What happened on all connections of this process. */
struct db_counts {
	_Atomic uint64_t commits, commits_failed, writes, checkpoints_failed;
	_Atomic uint64_t waits; /* naps until another writer was done */
	_Atomic uint64_t turns_undone;
	_Atomic int wal_pages; /* in the write-ahead log after a commit */
};
extern struct db_counts db_counts;

enum db_kind { DB_SINGLE, DB_GROUPED };

struct db {
	sqlite3 *handle;
	sqlite3_stmt **prepared; /* beside the program's statements */
	struct arena *arena;	 /* where results go; set by the owner */
	enum db_kind kind;
	bool open;     /* a transaction that writes is */
	bool reading;  /* a turn's readers share a snapshot */
	bool nested;   /* a part of a turn is */
	bool alone;    /* that part has opened the transaction */
	bool careful;  /* each part has a savepoint */
	bool spoilt;   /* a part failed when it had changed something */
	bool broken;   /* the turn's transaction is lost, or could not begin */
	int64_t changed; /* rows, before the part at hand; -1: what failed may have */
	bool notify;   /* committed() is due */
	bool waited;   /* for another writer, in this turn */
	int busy_tries; /* how often it does, at most */
	bool relaxed;  /* the handle's commits do not wait for the disk */
	void (*committed)(void); /* also called when a checkpoint is due */
};

/* Opens, and for the first time makes, the file at path. ERR_UNAVAILABLE when
 * that cannot be done; the log says why. Until db_close() *db stays where it is:
 * SQLite knows it. */
MUST_USE enum err db_open(struct db *db, const char *path, enum db_kind kind);
void db_close(struct db *db);

/* Prepares all statements of the program at once. ERR_INTERNAL when one does
 * not fit the schema; the log names it. */
MUST_USE enum err db_prepare(struct db *db);

/* Gives the page cache's memory back, which fills again with what is read. Not
 * while a statement runs. */
void db_shrink(struct db *db);

/* db_begin() waits a while for other writers, then is ERR_UNAVAILABLE. */
MUST_USE enum err db_begin(struct db *db);
MUST_USE enum err db_commit(struct db *db);
void db_rollback(struct db *db);

/* Of a DB_SINGLE connection: the commit does not wait for the disk. A power cut,
 * though not the end of the process, may undo it, until db_sync() or a later
 * commit of any connection has waited. For what is then seen to be undone and
 * does no harm when it is done again. */
MUST_USE enum err db_begin_relaxed(struct db *db);

/* The end of what is open: a commit if err is OK, else a rollback; err, or why there
 * was no commit. */
MUST_USE enum err db_finish(struct db *db, enum err err);

/* What relaxed transactions of this connection have committed is on disk then;
 * there must be some. ERR_UNAVAILABLE when it may not be, and the log says why:
 * the kernel tells so once, and the next time may be OK although it is not. */
MUST_USE enum err db_sync(struct db *db);

/* Begins a turn of several requests: those that only read share a snapshot,
 * which spares each of them four system calls. */
void db_turn_start(struct db *db);

/* True when a request of the turn has failed half done: all of the turn is undone
 * now, and is to be done again before its end. */
bool db_turn_undo(struct db *db);

/* Ends the turn of a DB_GROUPED connection; OK when it wrote nothing. */
MUST_USE enum err db_turn_end(struct db *db);

/* Is there a db_begin() without its end? */
bool db_in_transaction(const struct db *db);

/* Calls db->committed once what is being written is committed. */
void db_notify(struct db *db);

/* ERR_CONFLICT for a row that is there already, ERR_UNAVAILABLE for a full or
 * failing disk. */
MUST_USE enum err db_exec(
    struct db *db, const struct stmt *stmt, struct db_args args);

/* db_exec() of an INSERT of one row into a table with an id, and which id that is:
 * quicker than RETURNING. */
MUST_USE enum err db_insert(struct db *db, const struct stmt *stmt,
    struct db_args args, int64_t *id);

/* Rows that the last db_exec() changed. */
int64_t db_changes(const struct db *db);

/* The one row that a query gives; ERR_NOT_FOUND when there is none. */
MUST_USE enum err db_get(struct db *db, const struct stmt *stmt,
    struct db_args args, struct db_intos into);

/* Row by row. What db_text() gives lives until the next db_next().
 *
 *     struct db_rows q = db_query(db, &item_list, DB_ARGS(DB_INT(uid)));
 *     while (db_next(&q))
 *         json_int(b, NULL, db_int(&q, 0));
 *     if ((err = db_end(&q)))
 *         return err;
 */
struct db_rows {
	struct db *db;
	sqlite3_stmt *stmt; /* NULL once it failed to start */
	enum err err;
};

struct db_rows db_query(
    struct db *db, const struct stmt *stmt, struct db_args args);
bool db_next(struct db_rows *q);
int64_t db_int(const struct db_rows *q, int column);	  /* INT_NONE */
const char *db_text(const struct db_rows *q, int column); /* NULL */
/* Ends the rows, with err if that is one: it is what db_end() answers. */
void db_fail(struct db_rows *q, enum err err);
MUST_USE enum err db_end(struct db_rows *q);

/* Moves what the write-ahead log holds into the database, when that is due; a
 * failure is counted and logged. For a thread of its own, with its own
 * connection: inside a commit a failed fsync would reach nobody. */
void db_checkpoint(struct db *db);

/* Copies a live database to the file at path, which must not exist: all of it, or
 * there is no file. */
MUST_USE enum err db_backup(struct db *db, const char *path);

#endif
