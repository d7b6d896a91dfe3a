/*
 * The outbox as an administrator sees it: the commands outbox list, retry and
 * drop. The service may run or not; it looks every two seconds.
 */
#include "shared/outbox.h"

#include <inttypes.h>
#include <sysexits.h>

#include "shared/clock.h"
#include "shared/text.h"

STMT(outbox_list,
    "SELECT id, dead_at, waits, attempts, created_at, subject, method, path,"
    " last_error FROM outbox ORDER BY id");
enum column {
	ID,
	DEAD_AT,
	WAITS,
	ATTEMPTS,
	CREATED_AT,
	SUBJECT,
	METHOD,
	PATH,
	LAST_ERROR,
};

STMT(outbox_find, "SELECT subject FROM outbox WHERE id = $1");

/* One that is dead comes behind what is left of its subject: the first of that
 * may be under way. */
STMT(outbox_revive,
    "UPDATE outbox SET dead_at = NULL, attempts = 0,"
    " waits = CASE WHEN EXISTS (SELECT 1 FROM outbox"
    "  WHERE subject = $1 AND dead_at IS NULL) THEN 1 ELSE 0 END"
    " WHERE id = $2 AND dead_at IS NOT NULL");

STMT(outbox_hurry,
    "UPDATE outbox SET due_at = $2 WHERE id = $1 AND leased_until IS NULL");

static void
print_row(const struct db_rows *q)
{
	const char *path = db_text(q, PATH), *why = db_text(q, LAST_ERROR);
	const char *state = db_int(q, DEAD_AT) != INT_NONE ? "dead"
	    : db_int(q, WAITS) != 0			   ? "waiting"
							   : "due";
	char at[CLOCK_TEXT_SIZE];

	clock_text(db_int(q, CREATED_AT), at);
	/* Without the query: an address may stand there. */
	printf("%" PRId64 "\t%s\t%s\t%" PRId64 "\t%s\t%s %.*s\t%s\n",
	    db_int(q, ID), state, at, db_int(q, ATTEMPTS), db_text(q, SUBJECT),
	    db_text(q, METHOD), (int)strcspn(path, "?"), path,
	    why != NULL ? why : "-");
}

static int
list(struct ctx *ctx, int argc, char **argv)
{
	struct db_rows q = db_query(&ctx->db, &outbox_list, DB_NO_ARGS);

	(void)argc, (void)argv;
	while (db_next(&q))
		print_row(&q);
	return db_end(&q) ? EX_IOERR : EX_OK;
}

static enum err
send_again(struct db *db, int64_t id, const char *subject)
{
	enum err err = db_exec(
	    db, &outbox_revive, DB_ARGS(DB_TEXT(subject), DB_INT(id)));

	return err ? err
		   : db_exec(db, &outbox_hurry,
			 DB_ARGS(DB_INT(id), DB_INT(clock_ms())));
}

static enum err
remove_one(struct db *db, int64_t id, const char *subject)
{
	enum err err = outbox_drop(db, subject, id);

	return err ? err : outbox_advance(db, subject);
}

/* Does something to the message that a word names. */
static int
change(struct ctx *ctx, const char *word,
    enum err (*what)(struct db *db, int64_t id, const char *subject))
{
	struct db *db = &ctx->db;
	const char *subject;
	int64_t id;
	enum err err;

	if (!text_to_int(word, strlen(word), &id)) {
		fprintf(stderr, "%s is not the number of a message\n", word);
		return EX_USAGE;
	}
	if (db_begin(db))
		return EX_IOERR;
	err = db_get(db, &outbox_find, DB_ARGS(DB_INT(id)),
	    DB_INTO(DB_TEXT_TO(&subject)));
	err = db_finish(db, err ? err : what(db, id, subject));
	if (err == ERR_NOT_FOUND)
		fprintf(stderr, "there is no message %s\n", word);
	return err == OK ? EX_OK : err == ERR_NOT_FOUND ? EX_DATAERR : EX_IOERR;
}

static int
retry(struct ctx *ctx, int argc, char **argv)
{
	(void)argc;
	return change(ctx, argv[0], send_again);
}

static int
drop(struct ctx *ctx, int argc, char **argv)
{
	(void)argc;
	return change(ctx, argv[0], remove_one);
}

static const struct command commands[] = {
	{ "outbox list", "",
	    "messages to other services that are due, waiting or dead: id, "
	    "state, time, tries, subject, request, last error",
	    list, COMMAND_WITH_DATABASE },
	{ "outbox retry", "ID", "send one again, now", retry,
	    COMMAND_WITH_DATABASE },
	{ "outbox drop", "ID", "send it never", drop, COMMAND_WITH_DATABASE },
};
const struct command_table outbox_commands = COMMANDS(commands);
