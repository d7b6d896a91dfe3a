#include "shared/doctor.h"

#include <sysexits.h>

#include "shared/clock.h"

#define BREACH 1      /* the exit status */
#define LINES_MAX 100 /* of one check */

/* The first two are SQLite's own way to look at itself. */
static const struct check common_checks[] = {
	{ "the file is whole",
	    "SELECT replace(integrity_check, char(10), ' ')"
	    " FROM pragma_integrity_check"
	    " WHERE integrity_check <> 'ok'" },
	{ "what a row refers to is there",
	    "SELECT \"table\" || ' row ' || rowid FROM pragma_foreign_key_check" },
	{ "no message to another service was given up",
	    "SELECT id FROM outbox WHERE dead_at IS NOT NULL" },
	{ "messages to other services are sent within an hour",
	    "SELECT id FROM outbox WHERE dead_at IS NULL AND waits = 0"
	    " AND due_at < $1 - 3600000" },
	{ "one message of each subject goes first",
	    "SELECT subject FROM outbox WHERE dead_at IS NULL"
	    " GROUP BY subject HAVING sum(1 - waits) <> 1" },
	{ "no request runs for ten minutes",
	    "SELECT scope FROM idempotency WHERE status IS NULL"
	    " AND expires_at < $1 - 540000" },
};

/* How many breaches there are; -1 when the check itself fails. */
static int
examine(sqlite3 *h, const struct check *c)
{
	int breaches = 0, rc;
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(h, c->sql, -1, &s, NULL) != SQLITE_OK)
		goto failed;
	if (sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, clock_ms());
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		if (++breaches <= LINES_MAX)
			printf("BREACH  %s: not so of %s\n", c->what,
			    (const char *)sqlite3_column_text(s, 0));
	sqlite3_finalize(s);
	if (rc != SQLITE_DONE)
		goto failed;
	if (breaches > LINES_MAX)
		printf("BREACH  %s: %d more\n", c->what, breaches - LINES_MAX);
	else if (breaches == 0)
		printf("ok      %s\n", c->what);
	return breaches;
failed:
	printf("BREACH  %s: cannot be told: %s\n", c->what, sqlite3_errmsg(h));
	return -1;
}

static int
doctor(struct ctx *ctx, int argc, char **argv)
{
	static const struct check_table common = CHECKS(common_checks);
	const struct check_table *tables[]
	    = { &common, ctx->app->service->checks };
	int status = EX_OK;

	(void)argc, (void)argv;
	for (size_t t = 0; t < ARRAY_LEN(tables) && tables[t] != NULL; t++)
		for (size_t i = 0; i < tables[t]->count; i++)
			if (examine(ctx->db.handle, &tables[t]->list[i]) != 0)
				status = BREACH;
	return status;
}

static const struct command commands[] = {
	{ "doctor", "", "see whether all is so that must be so", doctor,
	    COMMAND_WITH_DATABASE },
};
const struct command_table doctor_commands = COMMANDS(commands);
