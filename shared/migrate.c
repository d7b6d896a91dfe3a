#include "shared/migrate.h"

#include "shared/clock.h"
#include "shared/embed.h"
#include "shared/log.h"

EMBED(coster_shared_schema, "shared/schema.sql");

static const char create_table[]
    = "CREATE TABLE IF NOT EXISTS migration ("
      " component TEXT NOT NULL,"     /* whose schema */
      " step INTEGER NOT NULL,"	      /* its number there */
      " applied_at INTEGER NOT NULL," /* when */
      " PRIMARY KEY (component, step)) STRICT";

static enum err
run(struct db *db, const char *sql)
{
	char *why = NULL;

	if (sqlite3_exec(db->handle, sql, NULL, NULL, &why) == SQLITE_OK)
		return OK;
	LOG(LOG_ERROR, "migration failed", LOG_TEXT("reason", why));
	sqlite3_free(why);
	return ERR_UNAVAILABLE;
}

/* The start of step n's text, or NULL. */
static const char *
find_step(const char *schema, int n)
{
	char mark[32];

	snprintf(mark, sizeof(mark), "\n-- step %d:", n);
	if (strncmp(schema, mark + 1, strlen(mark + 1)) == 0)
		return schema;
	return strstr(schema, mark);
}

int
migrate_steps(const char *schema)
{
	int n = 0;

	while (find_step(schema, n + 1) != NULL)
		n++;
	return n;
}

int
migrate_step(struct db *db, const char *component)
{
	sqlite3_stmt *s;
	int step = 0;

	if (sqlite3_prepare_v2(db->handle,
		"SELECT max(step) FROM migration WHERE component = $1", -1, &s,
		NULL)
	    != SQLITE_OK)
		return 0; /* no such table: a new database */
	sqlite3_bind_text(s, 1, component, -1, SQLITE_STATIC);
	if (sqlite3_step(s) == SQLITE_ROW)
		step = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	return step;
}

/* Of another service, and of this one not yet. One that is of both, as programs
 * before this check made it, still serves both. */
static enum err
refuse_other(struct db *db, const char *service)
{
	sqlite3_stmt *s;
	enum err err = OK;

	if (migrate_step(db, service) > 0)
		return OK;
	if (sqlite3_prepare_v2(db->handle,
		"SELECT component FROM migration WHERE component <> 'shared'", -1,
		&s, NULL)
	    != SQLITE_OK)
		return ERR_UNAVAILABLE;
	if (sqlite3_step(s) == SQLITE_ROW) {
		LOG(LOG_ERROR, "the database is another service's",
		    LOG_TEXT("path", sqlite3_db_filename(db->handle, "main")),
		    LOG_TEXT("component",
			(const char *)sqlite3_column_text(s, 0)),
		    LOG_TEXT("do", "give each service a COSTER_DB of its own"));
		err = ERR_CONFLICT;
	}
	sqlite3_finalize(s);
	return err;
}

static enum err
apply(struct db *db, const char *component, const char *schema, int n)
{
	const char *from = find_step(schema, n), *to = find_step(schema, n + 1);
	size_t len = to != NULL ? (size_t)(to - from) : strlen(from);
	char *sql = NULL, *record = NULL;
	enum err err = ERR_INTERNAL;

	sql = sqlite3_mprintf("%.*s", (int)len, from);
	record = sqlite3_mprintf("INSERT INTO migration VALUES (%Q, %d, %lld)",
	    component, n, (long long)clock_ms());
	if (sql == NULL || record == NULL)
		abort();
	if ((err = run(db, sql)) || (err = run(db, record)))
		LOG(LOG_ERROR, "migration step failed",
		    LOG_TEXT("component", component), LOG_INT("step", n));
	sqlite3_free(sql);
	sqlite3_free(record);
	return err;
}

static enum err
apply_all(struct db *db, const char *component, const char *schema,
    const char *service)
{
	int have, want = migrate_steps(schema);
	enum err err;

	if ((err = run(db, "BEGIN IMMEDIATE")))
		return err;
	if ((err = run(db, create_table)) || (err = refuse_other(db, service)))
		goto undo;
	have = migrate_step(db, component);
	if (have > want) {
		LOG(LOG_ERROR, "the database is newer than this program",
		    LOG_TEXT("component", component), LOG_INT("database", have),
		    LOG_INT("program", want),
		    LOG_TEXT("do", "install the newer version again, or "
				   "restore a backup made before it"));
		err = ERR_CONFLICT;
		goto undo;
	}
	for (int n = have + 1; n <= want; n++)
		if ((err = apply(db, component, schema, n)))
			goto undo;
	return run(db, "COMMIT");
undo:
	(void)!run(db, "ROLLBACK");
	return err;
}

/* A step may also change the text of the schema itself, as SQLite's documentation of
 * ALTER TABLE has it for a CHECK; nothing else may. */
static enum err
bring_up(struct db *db, const char *component, const char *schema,
    const char *service)
{
	enum err err;

	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
	err = apply_all(db, component, schema, service);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return err;
}

enum err
migrate(struct db *db, const char *component, const char *schema)
{
	return bring_up(db, component, schema, component);
}

enum err
migrate_service(struct db *db, const struct service *svc)
{
	enum err err = bring_up(db, "shared", coster_shared_schema, svc->name);

	return err ? err : migrate(db, svc->name, svc->schema);
}
