#include "shared/db.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"

#define BUSY_TRIES 5000 /* about as many milliseconds */
#define RESTART_TRIES 140 /* 50 ms, while which no other can write */
#define CHECKPOINT_PAGES 1000 /* of 4 KiB in the write-ahead log */
#define RESTART_PAGES 4000    /* make the writers wait a moment from here on */

struct db_counts db_counts;

extern const struct stmt __start_coster_stmt[] __attribute__((weak));
extern const struct stmt __stop_coster_stmt[] __attribute__((weak));

STMT(stmt_begin, "BEGIN IMMEDIATE");
STMT(stmt_begin_read, "BEGIN");
STMT(stmt_commit, "COMMIT");
STMT(stmt_rollback, "ROLLBACK");
STMT(stmt_savepoint, "SAVEPOINT request");
STMT(stmt_release, "RELEASE request");
STMT(stmt_rollback_to, "ROLLBACK TO request");

static size_t
stmt_count(void)
{
	/* cppcheck-suppress comparePointers ; the linker joins them */
	return (size_t)(__stop_coster_stmt - __start_coster_stmt);
}

static enum err
failure(struct db *db, const char *sql)
{
	int code = sqlite3_extended_errcode(db->handle);

	switch (code) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
	case SQLITE_CONSTRAINT_FOREIGNKEY:
		return ERR_CONFLICT;
	}
	LOG(LOG_ERROR, "database", LOG_TEXT("reason", sqlite3_errmsg(db->handle)),
	    LOG_INT("code", code), LOG_TEXT("sql", sql));
	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_NOMEM:
		return ERR_UNAVAILABLE;
	}
	return ERR_INTERNAL;
}

/* Short waits: another writer is done within a turn, a few milliseconds. */
static int
wait_busy(void *db, int tries)
{
	struct db *d = db;

	d->waited = true;
	db_counts.waits++;
	if (tries >= d->busy_tries)
		return 0;
	usleep(tries < 100 ? 100 : 1000);
	return 1;
}

/* In the write-ahead log when it was last checkpointed. While there are writers
 * it seldom begins anew, and grows on behind what is in the database already. */
static _Atomic int checkpointed_pages;

static int
note_wal_pages(void *unused, sqlite3 *h, const char *schema, int pages)
{
	(void)unused, (void)h, (void)schema;
	db_counts.wal_pages = pages;
	if (pages < checkpointed_pages)
		checkpointed_pages = 0;
	return SQLITE_OK;
}

static bool
is_checkpoint_due(void)
{
	return db_counts.wal_pages - checkpointed_pages >= CHECKPOINT_PAGES;
}

/* SQLite asks no busy handler when two instances make the same new database. */
static enum err
use_wal(struct db *db)
{
	int rc, tries = 0;

	do
		rc = sqlite3_exec(
		    db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	while ((rc & 0xff) == SQLITE_BUSY && wait_busy(db, tries++));
	return rc == SQLITE_OK ? OK : ERR_UNAVAILABLE;
}

static enum err
set_up(struct db *db)
{
	static const struct {
		int id, value;
	} limits[] = {
		{ SQLITE_LIMIT_LENGTH, 8 * 1024 * 1024 },
		{ SQLITE_LIMIT_SQL_LENGTH, 64 * 1024 },
		{ SQLITE_LIMIT_ATTACHED, 0 },
		{ SQLITE_LIMIT_EXPR_DEPTH, 100 },
		{ SQLITE_LIMIT_COMPOUND_SELECT, 10 },
	};
	sqlite3 *h = db->handle;

	for (size_t i = 0; i < ARRAY_LEN(limits); i++)
		sqlite3_limit(h, limits[i].id, limits[i].value);
	sqlite3_busy_handler(h, wait_busy, db);
	sqlite3_extended_result_codes(h, 1);
	sqlite3_db_config(h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (use_wal(db)
	    || sqlite3_exec(h,
		"PRAGMA synchronous = FULL;"
		"PRAGMA foreign_keys = ON;"
		"PRAGMA trusted_schema = OFF;"
		"PRAGMA temp_store = MEMORY;"
		"PRAGMA wal_autocheckpoint = 0;"
		"PRAGMA journal_size_limit = 67108864",
		NULL, NULL, NULL)
		!= SQLITE_OK)
		return ERR_UNAVAILABLE;
	/* In KiB. A thread that is not the loop needs little. */
	if (sqlite3_exec(h,
		db->kind == DB_SINGLE ? "PRAGMA cache_size = -512"
				      : "PRAGMA cache_size = -1400",
		NULL, NULL, NULL)
	    != SQLITE_OK)
		return ERR_UNAVAILABLE;
	sqlite3_wal_hook(h, note_wal_pages, NULL);
	return OK;
}

static enum err
open_handle(struct db *db, const char *path)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
	    | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

	if (sqlite3_open_v2(path, &db->handle, flags, NULL) == SQLITE_OK
	    && set_up(db) == OK)
		return OK;
	LOG(LOG_ERROR, "cannot open the database", LOG_TEXT("path", path),
	    LOG_TEXT("reason", sqlite3_errmsg(db->handle)));
	sqlite3_close(db->handle);
	return ERR_UNAVAILABLE;
}

enum err
db_open(struct db *db, const char *path, enum db_kind kind)
{
	enum err err;

	*db = (struct db) { .kind = kind, .busy_tries = BUSY_TRIES };
	if ((err = open_handle(db, path)))
		return err;
	db->prepared = calloc(stmt_count() + 1, sizeof(*db->prepared));
	if (db->prepared == NULL)
		abort();
	return OK;
}

/* PostgreSQL's $1 is SQLite's ?1; its own $1 would only be a name. */
static char *
to_sqlite(const char *sql)
{
	char *text = strdup(sql);

	if (text == NULL)
		abort();
	for (char *p = text; (p = strchr(p, '$')) != NULL; p++)
		if (p[1] >= '1' && p[1] <= '9')
			*p = '?';
	return text;
}

static enum err
prepare(struct db *db, size_t i)
{
	char *text = to_sqlite(__start_coster_stmt[i].sql);
	int rc = sqlite3_prepare_v3(db->handle, text, -1,
	    SQLITE_PREPARE_PERSISTENT, &db->prepared[i], NULL);

	free(text);
	return rc == SQLITE_OK ? OK : failure(db, __start_coster_stmt[i].sql);
}

enum err
db_prepare(struct db *db)
{
	enum err err;

	for (size_t i = 0; i < stmt_count(); i++)
		if (db->prepared[i] == NULL && (err = prepare(db, i)))
			return err;
	return OK;
}

void
db_close(struct db *db)
{
	for (size_t i = 0; i < stmt_count(); i++)
		sqlite3_finalize(db->prepared[i]);
	free(db->prepared);
	sqlite3_close(db->handle);
	*db = (struct db) { 0 };
}

void
db_shrink(struct db *db)
{
	sqlite3_db_release_memory(db->handle);
}

static void
bind(sqlite3_stmt *s, int i, const struct db_arg *arg)
{
	switch (arg->type) {
	case DB_ARG_INT:
		if (arg->number == INT_NONE)
			sqlite3_bind_null(s, i);
		else
			sqlite3_bind_int64(s, i, arg->number);
		break;
	case DB_ARG_TEXT: /* a NULL pointer binds NULL */
		sqlite3_bind_text(s, i, arg->bytes, -1, SQLITE_STATIC);
		break;
	case DB_ARG_BLOB:
		sqlite3_bind_blob(s, i, arg->bytes, (int)arg->len, SQLITE_STATIC);
		break;
	}
}

struct db_rows
db_query(struct db *db, const struct stmt *stmt, struct db_args args)
{
	size_t at = (size_t)(stmt - __start_coster_stmt);
	struct db_rows q = { .db = db };

	assert(at < stmt_count());
	if (db->prepared[at] == NULL && (q.err = prepare(db, at)))
		return q;
	q.stmt = db->prepared[at];
	assert((int)args.count == sqlite3_bind_parameter_count(q.stmt));
	assert(!sqlite3_stmt_busy(q.stmt)); /* not used again while it runs */
	for (size_t i = 0; i < args.count; i++)
		bind(q.stmt, (int)i + 1, &args.list[i]);
	return q;
}

bool
db_next(struct db_rows *q)
{
	if (q->err)
		return false;
	switch (sqlite3_step(q->stmt)) {
	case SQLITE_ROW:
		return true;
	case SQLITE_DONE:
		return false;
	}
	q->err = failure(q->db, sqlite3_sql(q->stmt));
	if (q->err != ERR_CONFLICT)
		q->db->changed = -1; /* it may have done half of its rows */
	return false;
}

int64_t
db_int(const struct db_rows *q, int column)
{
	int64_t v = sqlite3_column_int64(q->stmt, column); /* of a NULL: 0 */

	if (v == 0 && sqlite3_column_type(q->stmt, column) == SQLITE_NULL)
		return INT_NONE;
	return v;
}

const char *
db_text(const struct db_rows *q, int column)
{
	return (const char *)sqlite3_column_text(q->stmt, column);
}

void
db_fail(struct db_rows *q, enum err err)
{
	if (err)
		q->err = err;
}

enum err
db_end(struct db_rows *q)
{
	if (q->stmt != NULL) {
		sqlite3_reset(q->stmt);
		sqlite3_clear_bindings(q->stmt);
	}
	return q->err;
}

enum err
db_exec(struct db *db, const struct stmt *stmt, struct db_args args)
{
	struct db_rows q = db_query(db, stmt, args);

	while (db_next(&q))
		;
	return db_end(&q);
}

enum err
db_insert(
    struct db *db, const struct stmt *stmt, struct db_args args, int64_t *id)
{
	enum err err = db_exec(db, stmt, args);

	if (err == OK)
		*id = sqlite3_last_insert_rowid(db->handle);
	return err;
}

int64_t
db_changes(const struct db *db)
{
	return sqlite3_changes64(db->handle);
}

static void
store(const struct db_rows *q, int column, const struct db_into *into)
{
	struct arena *a = q->db->arena;
	const void *p;
	size_t len;

	switch (into->type) {
	case DB_INTO_INT:
		*(int64_t *)into->to = db_int(q, column);
		break;
	case DB_INTO_TEXT:
		p = db_text(q, column);
		len = (size_t)sqlite3_column_bytes(q->stmt, column);
		*(const char **)into->to
		    = p != NULL ? arena_strndup(a, p, len) : NULL;
		break;
	case DB_INTO_BLOB:
		p = sqlite3_column_blob(q->stmt, column);
		len = (size_t)sqlite3_column_bytes(q->stmt, column);
		*(const void **)into->to
		    = p != NULL ? arena_strndup(a, p, len) : NULL;
		*into->len = len;
		break;
	}
}

enum err
db_get(struct db *db, const struct stmt *stmt, struct db_args args,
    struct db_intos into)
{
	struct db_rows q = db_query(db, stmt, args);
	bool found = db_next(&q);
	enum err err;

	if (found) {
		assert((int)into.count == sqlite3_column_count(q.stmt));
		for (size_t i = 0; i < into.count; i++)
			store(&q, (int)i, &into.list[i]);
		/* RETURNING has its effect when the statement is done. */
		while (db_next(&q))
			;
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

bool
db_in_transaction(const struct db *db)
{
	return db->kind == DB_GROUPED ? db->nested : db->open;
}

void
db_turn_start(struct db *db)
{
	assert(!db->open && !db->reading);
	db->reading = db_exec(db, &stmt_begin_read, DB_NO_ARGS) == OK;
}

/* A snapshot cannot become a write: whoever wrote meanwhile would be lost. */
static void
end_reading(struct db *db)
{
	if (db->reading && !sqlite3_get_autocommit(db->handle))
		(void)!db_exec(db, &stmt_commit, DB_NO_ARGS);
	db->reading = false;
}

/* SQLite takes another mode between transactions only. Not to be relaxed is never
 * wrong. */
static enum err
set_relaxed(struct db *db, bool relaxed)
{
	if (db->relaxed == relaxed)
		return OK;
	if (sqlite3_exec(db->handle,
		relaxed ? "PRAGMA synchronous = NORMAL"
			: "PRAGMA synchronous = FULL",
		NULL, NULL, NULL)
	    != SQLITE_OK)
		return relaxed ? OK : failure(db, "PRAGMA synchronous");
	db->relaxed = relaxed;
	return OK;
}

static enum err
begin(struct db *db, bool relaxed)
{
	enum err err;

	assert(!db_in_transaction(db));
	end_reading(db);
	/* Where the turn was rolled back, each statement would be committed alone. */
	if (db->open && sqlite3_get_autocommit(db->handle))
		db->broken = true;
	if (db->broken)
		return ERR_UNAVAILABLE;
	db->alone = !db->open;
	if (!db->open
	    && ((err = set_relaxed(db, relaxed))
		|| (err = db_exec(db, &stmt_begin, DB_NO_ARGS)))) {
		/* The others of the turn would each wait as long, one by one. */
		db->broken = db->kind == DB_GROUPED;
		return err;
	}
	db->open = true;
	if (db->kind == DB_SINGLE)
		return OK;
	if (db->careful && (err = db_exec(db, &stmt_savepoint, DB_NO_ARGS)))
		return err;
	db->changed = sqlite3_total_changes64(db->handle);
	db->nested = true;
	return OK;
}

enum err
db_begin(struct db *db)
{
	return begin(db, false);
}

enum err
db_begin_relaxed(struct db *db)
{
	assert(db->kind == DB_SINGLE);
	return begin(db, true);
}

/* Ends the transaction for good. */
static enum err
finish(struct db *db)
{
	bool notify = db->notify;
	enum err err;

	db->open = db->nested = db->notify = false;
	if ((err = db_exec(db, &stmt_commit, DB_NO_ARGS))) {
		db_counts.commits_failed++;
		if (!sqlite3_get_autocommit(db->handle))
			(void)!db_exec(db, &stmt_rollback, DB_NO_ARGS);
		return ERR_UNAVAILABLE;
	}
	db_counts.commits++;
	if (db->committed != NULL
	    && (notify || is_checkpoint_due()))
		db->committed();
	return OK;
}

enum err
db_commit(struct db *db)
{
	enum err err;

	assert(db_in_transaction(db));
	db_counts.writes++;
	if (db->kind == DB_SINGLE)
		return finish(db);
	db->nested = false;
	if (!db->careful)
		return OK;
	if ((err = db_exec(db, &stmt_release, DB_NO_ARGS)))
		db->broken = true;
	return err;
}

static void
roll_back_all(struct db *db)
{
	db->open = db->nested = db->notify = false;
	if (!sqlite3_get_autocommit(db->handle))
		(void)!db_exec(db, &stmt_rollback, DB_NO_ARGS);
}

/* A full or failing disk makes SQLite roll back everything by itself: what
 * earlier requests of the turn wrote is gone then too. */
void
db_rollback(struct db *db)
{
	assert(db_in_transaction(db));
	if (db->alone) {
		roll_back_all(db);
		return;
	}
	db->nested = false;
	if (sqlite3_total_changes64(db->handle) != db->changed)
		db->spoilt = true;
	if (sqlite3_get_autocommit(db->handle)
	    || (db->careful
		&& (db_exec(db, &stmt_rollback_to, DB_NO_ARGS)
		    || db_exec(db, &stmt_release, DB_NO_ARGS))))
		db->broken = true;
}

enum err
db_finish(struct db *db, enum err err)
{
	if (err == OK)
		return db_commit(db);
	db_rollback(db);
	return err;
}

bool
db_turn_undo(struct db *db)
{
	if (!db->spoilt || db->careful || db->broken)
		return false;
	roll_back_all(db);
	db->spoilt = false;
	db->careful = true;
	db_counts.turns_undone++;
	return true;
}

enum err
db_turn_end(struct db *db)
{
	bool broken = db->broken;

	assert(!db->spoilt || db->careful || broken);
	end_reading(db);
	db->careful = db->spoilt;
	db->waited = db->broken = db->spoilt = false;
	if (!db->open)
		return OK;
	if (!broken)
		return finish(db);
	roll_back_all(db);
	db_counts.commits_failed++;
	return ERR_UNAVAILABLE;
}

enum err
db_sync(struct db *db)
{
	sqlite3_file *wal;

	if (sqlite3_file_control(
		db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal)
		== SQLITE_OK
	    && wal->pMethods != NULL
	    && wal->pMethods->xSync(
		   wal, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY)
		== SQLITE_OK)
		return OK;
	db_counts.commits_failed++;
	LOG(LOG_ERROR, "cannot sync the write-ahead log",
	    LOG_TEXT("reason", strerror(errno)));
	return ERR_UNAVAILABLE;
}

void
db_notify(struct db *db)
{
	db->notify = true;
}

void
db_checkpoint(struct db *db)
{
	int pages = db_counts.wal_pages, all, done, rc;

	if (!is_checkpoint_due())
		return;
	rc = sqlite3_wal_checkpoint_v2(
	    db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &all, &done);
	/* Where somebody reads for long, a backup say, the rest cannot be moved and
	 * the log not begin anew, however long the writers are made to wait. */
	if (rc == SQLITE_OK && pages >= RESTART_PAGES
	    && all - done < CHECKPOINT_PAGES) {
		db->busy_tries = RESTART_TRIES;
		rc = sqlite3_wal_checkpoint_v2(db->handle, NULL,
		    SQLITE_CHECKPOINT_RESTART, NULL, NULL);
		db->busy_tries = BUSY_TRIES;
	}
	/* Busy: another instance is at it, or somebody reads or writes on. */
	if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY) {
		checkpointed_pages = pages;
	} else {
		db_counts.checkpoints_failed++;
		LOG(LOG_ERROR, "checkpoint failed",
		    LOG_TEXT("reason", sqlite3_errmsg(db->handle)));
	}
}

enum err
db_backup(struct db *db, const char *path)
{
	sqlite3_backup *copy;
	sqlite3 *to;
	int rc = SQLITE_ERROR;

	if (access(path, F_OK) == 0) {
		LOG(LOG_ERROR, "the backup's file exists", LOG_TEXT("path", path));
		return ERR_CONFLICT;
	}
	if (sqlite3_open(path, &to) == SQLITE_OK
	    && (copy = sqlite3_backup_init(to, "main", db->handle, "main"))) {
		/* All in one step: a consistent copy, and readers of a WAL
		 * hold up no writer. */
		rc = sqlite3_backup_step(copy, -1);
		sqlite3_backup_finish(copy);
	}
	if (rc != SQLITE_DONE)
		LOG(LOG_ERROR, "backup failed", LOG_TEXT("path", path),
		    LOG_TEXT("reason", sqlite3_errmsg(to)));
	sqlite3_close(to);
	if (rc == SQLITE_DONE)
		return OK;
	unlink(path); /* or half of it would pass for one, and stand in the way */
	return ERR_UNAVAILABLE;
}
