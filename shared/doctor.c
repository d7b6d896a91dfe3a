#include "shared/doctor.h"

#include <sysexits.h>

#include "shared/client.h"
#include "shared/clock.h"

#define BREACH 1      /* the exit status */
#define LINES_MAX 100 /* of one check */

/* SQLite's own way to look at itself. */
static const struct check file_checks[] = {
	{ "the file is whole",
	    "SELECT replace(integrity_check, char(10), ' ')"
	    " FROM pragma_integrity_check"
	    " WHERE integrity_check <> 'ok'" },
	{ "what a row refers to is there",
	    "SELECT \"table\" || coalesce(' row ' || rowid, '')"
	    " FROM pragma_foreign_key_check" },
};

static const struct check common_checks[] = {
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

/* The columns of a question. */
enum column { WHERE, PATH, MEMBER, VALUE };

/* Nobody there to ask is no breach: the database may be on another host than it
 * was made on. */
enum verdict { GOOD, BAD, UNKNOWN };

typedef enum verdict judge_fn(struct ctx *ctx, sqlite3_stmt *row);

static const char *
text(sqlite3_stmt *row, int column)
{
	return (const char *)sqlite3_column_text(row, column);
}

static enum verdict
is_breach(struct ctx *ctx, sqlite3_stmt *row)
{
	(void)ctx, (void)row;
	return BAD;
}

static bool
is_one_of(const char *value, const char *values)
{
	size_t len = strlen(value);

	for (;; values++) {
		size_t n = strcspn(values, "|");

		if (n == len && strncmp(values, value, n) == 0)
			return true;
		values += n;
		if (*values == '\0')
			return false;
	}
}

static enum verdict
ask(struct ctx *ctx, sqlite3_stmt *row)
{
	struct client_reply reply;
	struct json_object *v = NULL;

	if (client_call(ctx->client, &ctx->arena,
		&(struct client_call) {
		    .method = "GET", .path = text(row, PATH) },
		&reply))
		return UNKNOWN;
	return reply.status == 200
		&& json_object_object_get_ex(reply.body, text(row, MEMBER), &v)
		&& v != NULL
		&& is_one_of(json_object_get_string(v), text(row, VALUE))
	    ? GOOD
	    : BAD;
}

/* The rows of a check that are breaches, each with a line. */
static enum verdict
look_at_rows(struct ctx *ctx, const struct check *c, judge_fn *judge,
    sqlite3_stmt *s, bool tell)
{
	enum verdict verdict = GOOD;
	int breaches = 0, rc;

	while (verdict != UNKNOWN && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		verdict = judge(ctx, s);
		if (verdict == BAD && ++breaches <= LINES_MAX && tell)
			printf("BREACH  %s: not so of %s\n", c->what,
			    text(s, WHERE));
	}
	if (breaches > LINES_MAX && tell)
		printf("BREACH  %s: %d more\n", c->what, breaches - LINES_MAX);
	return breaches > 0 ? BAD : verdict;
}

static bool
examine(struct ctx *ctx, const struct check *c, judge_fn *judge)
{
	enum verdict verdict = BAD;
	sqlite3_stmt *s = NULL;

	if (sqlite3_prepare_v2(ctx->db.handle, c->sql, -1, &s, NULL)
	    == SQLITE_OK) {
		if (sqlite3_bind_parameter_count(s) > 0)
			sqlite3_bind_int64(s, 1, clock_ms());
		verdict = look_at_rows(ctx, c, judge, s, judge != ask);
		/* It asks while the services go on: what is so still, it tells. */
		if (verdict == BAD && judge == ask
		    && sqlite3_reset(s) == SQLITE_OK)
			verdict = look_at_rows(ctx, c, judge, s, true);
	}
	if (sqlite3_finalize(s) != SQLITE_OK) {
		printf("BREACH  %s: cannot be told: %s\n", c->what,
		    sqlite3_errmsg(ctx->db.handle));
		return false;
	}
	if (verdict == GOOD)
		printf("ok      %s\n", c->what);
	else if (verdict == UNKNOWN)
		printf("unknown %s: the service to ask does not answer\n",
		    c->what);
	return verdict != BAD;
}

/* What running services see to is late in a copy, and rightly so. */
static bool
is_of_now(const struct check *c)
{
	return strstr(c->sql, "$1") != NULL;
}

bool
doctor_look(struct ctx *ctx, enum doctor_look look)
{
	static const struct check_table file = CHECKS(file_checks),
					common = CHECKS(common_checks);
	const struct {
		const struct check_table *table;
		enum doctor_look from; /* it is part of this and further */
		judge_fn *judge;
	} parts[] = {
		{ &file, DOCTOR_FILE, is_breach },
		{ &common, DOCTOR_COPY, is_breach },
		{ ctx->app->service->checks, DOCTOR_COPY, is_breach },
		{ ctx->app->service->questions, DOCTOR_LIVE, ask },
	};
	bool good = true;

	for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
		const struct check_table *t = parts[p].table;

		if (t == NULL || parts[p].from > look)
			continue;
		for (size_t i = 0; i < t->count; i++)
			if (look == DOCTOR_LIVE || !is_of_now(&t->list[i]))
				good &= examine(
				    ctx, &t->list[i], parts[p].judge);
	}
	return good;
}

static int
doctor(struct ctx *ctx, int argc, char **argv)
{
	(void)argc, (void)argv;
	return doctor_look(ctx, DOCTOR_LIVE) ? EX_OK : BREACH;
}

static int
doctor_of_copy(struct ctx *ctx, int argc, char **argv)
{
	(void)argc, (void)argv;
	return doctor_look(ctx, DOCTOR_COPY) ? EX_OK : BREACH;
}

static const struct command commands[] = {
	{ "doctor copy", "",
	    "of a backup, in COSTER_DB: without what running services see to",
	    doctor_of_copy, COMMAND_WITH_DATABASE },
	{ "doctor", "[copy]", "see whether all is so that must be so", doctor,
	    COMMAND_WITH_DATABASE },
};
const struct command_table doctor_commands = COMMANDS(commands);
