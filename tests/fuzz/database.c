#include "tests/fuzz/database.h"

#include <dlfcn.h>

#include "shared/log.h"

static bool savepoints;

/* Transactions become savepoints of one that is never ended. */
static const struct {
	const char *sql, *instead;
} replaced[] = {
	{ "BEGIN IMMEDIATE", "SAVEPOINT fuzz" },
	{ "COMMIT", "RELEASE fuzz" },
	{ "ROLLBACK", "ROLLBACK TO fuzz" },
};

int
sqlite3_prepare_v3(sqlite3 *db, const char *sql, int len, unsigned flags,
    sqlite3_stmt **stmt, const char **tail)
{
	static int (*real)(sqlite3 *, const char *, int, unsigned,
	    sqlite3_stmt **, const char **);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
	for (size_t i = 0; savepoints && i < ARRAY_LEN(replaced); i++)
		if (strcmp(sql, replaced[i].sql) == 0)
			return real(
			    db, replaced[i].instead, -1, flags, stmt, tail);
	return real(db, sql, len, flags, stmt, tail);
}

static void
run(const char *sql)
{
	assert(sqlite3_exec(fuzz_ctx->db.handle, sql, NULL, NULL, NULL)
	    == SQLITE_OK);
}

static void *test;

static void
stop(void)
{
	loopback_teardown(&test);
}

struct t *
database_start(void)
{
	assert(loopback_setup(&test) == 0);
	log_init("fuzz", "1", LOG_ERROR + 1);
	atexit(stop);
	savepoints = true;
	fuzz_ctx = worker(test);
	run("BEGIN IMMEDIATE");
	return test;
}

void
database_begin(void)
{
	run("SAVEPOINT input");
}

void
database_end(void)
{
	run("ROLLBACK TO input");
	run("RELEASE input");
	peers_forget(test);
}

void
database_request(struct req *r)
{
	fuzz_request(r);
	r->param[PARAM_KEY] = fuzz_ctx->app->key;
	r->param[PARAM_REMOTE_ADDR] = "192.0.2.1";
}
