#include "shared/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/doctor.h"
#include "shared/log.h"
#include "shared/migrate.h"

/* Where the databases are, and those that are open. */
struct restore {
	const struct app *app;
	const char *file, *copy, *kept; /* kept: NULL when there was none */
	bool in_vain;			/* it is: nothing was changed */
	struct ctx from;		/* the copy */
	struct db to;
};

static int
refuse(const char *path, const char *why)
{
	LOG(LOG_ERROR, "cannot restore", LOG_TEXT("path", path),
	    LOG_TEXT("reason", why));
	return EX_DATAERR;
}

/* A copy that backup made is one file; what else belongs to a database that is
 * in use would be lost. */
static bool
has_log(const struct restore *r, struct arena *a)
{
	static const char *const suffixes[] = { "-wal", "-journal" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		if (stat(arena_printf(a, "%s%s", r->file, suffixes[i]), &st)
			== 0
		    && st.st_size > 0)
			return true;
	return false;
}

static int
copy_bytes(int from, int to)
{
	char bytes[65536];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) > 0)
		if (write(to, bytes, (size_t)n) != n)
			return -1;
	return (int)n;
}

static int
copy_file(const struct restore *r, struct arena *a)
{
	int from = open(r->file, O_RDONLY | O_CLOEXEC), to = -1, status = EX_OK;

	if (from < 0) {
		(void)refuse(r->file, strerror(errno));
		return EX_NOINPUT;
	}
	if (has_log(r, a)) {
		close(from);
		return refuse(
		    r->file, "this is a database in use, not a backup");
	}
	to = open(r->copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0 || copy_bytes(from, to) != 0) {
		(void)refuse(r->copy, "it cannot be written");
		status = EX_IOERR;
	}
	close(from);
	if (to >= 0)
		close(to);
	return status;
}

/* Is the copy whole, of this service, and not newer than the program? Then it
 * is brought up to the program. */
static int
judge(struct restore *r)
{
	const struct service *svc = r->app->service;
	struct db *db = &r->from.db;
	enum err err;

	if (db_open(db, r->copy, DB_SINGLE))
		return refuse(r->file, "it is no database");
	if (migrate_step(db, svc->name) == 0)
		return refuse(r->file, "it is not of this service");
	if (!doctor_look(&r->from, DOCTOR_FILE))
		return refuse(r->file, "it is damaged");
	if ((err = migrate_service(db, svc)))
		return err == ERR_CONFLICT ? EX_DATAERR : EX_IOERR;
	return EX_OK;
}

static enum err
run(struct db *db, const char *sql)
{
	char *why = NULL;

	if (sql == NULL
	    || sqlite3_exec(db->handle, sql, NULL, NULL, &why) == SQLITE_OK)
		return OK;
	LOG(LOG_WARN, "mending the copy failed", LOG_TEXT("reason", why));
	sqlite3_free(why);
	return ERR_UNAVAILABLE;
}

/* A damaged or newer old database may not tell: that is no reason to go on
 * without one. */
static void
keep_ids(struct restore *r)
{
	const char *sql = r->app->service->keep_ids;
	struct db *db = &r->from.db;
	char *attach = sqlite3_mprintf("ATTACH %Q AS old", r->kept);

	sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 1);
	if (run(db, attach) || run(db, "BEGIN") || run(db, sql)
	    || run(db, "COMMIT"))
		LOG(LOG_WARN,
		    "ids that were given since the backup may be given again");
	if (!sqlite3_get_autocommit(db->handle))
		(void)!run(db, "ROLLBACK"); /* a half of it fits nothing */
	sqlite3_free(attach);
}

/* The database as it is now, which nobody writes to. */
static enum err
keep(struct restore *r)
{
	struct db old;
	enum err err;

	if (r->kept == NULL)
		return OK;
	if ((err = db_open(&old, r->app->settings.db, DB_SINGLE)))
		return err;
	err = db_backup(&old, r->kept);
	db_close(&old);
	if (err == OK)
		keep_ids(r);
	return err;
}

/* SQLite's online backup, into the database: a step of no page takes its write
 * lock, the next one copies all and commits. */
static int
replace(struct restore *r)
{
	sqlite3_backup *b;
	int rc;

	if (db_open(&r->to, r->app->settings.db, DB_SINGLE)) {
		LOG(LOG_ERROR, "the database that is there is of no use",
		    LOG_TEXT(
			"do", "stop the service, move it away, restore again"));
		return EX_IOERR;
	}
	b = sqlite3_backup_init(
	    r->to.handle, "main", r->from.db.handle, "main");
	rc = sqlite3_backup_step(b, 0);
	if (rc == SQLITE_OK)
		rc = keep(r) ? SQLITE_ABORT : sqlite3_backup_step(b, -1);
	if (sqlite3_backup_finish(b) == SQLITE_OK && rc == SQLITE_DONE)
		return EX_OK;
	/* After another failure the old database may not be what it was. */
	r->in_vain = rc == SQLITE_FULL || rc == SQLITE_BUSY;
	LOG(LOG_ERROR, "nothing was restored",
	    LOG_TEXT("reason",
		rc == SQLITE_ABORT ? "the old database cannot be kept"
				   : sqlite3_errstr(rc)));
	return EX_IOERR;
}

static void
forget_copy(struct restore *r, struct arena *a)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };

	if (r->from.db.prepared != NULL)
		db_close(&r->from.db);
	if (r->to.prepared != NULL)
		db_close(&r->to);
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		unlink(arena_printf(a, "%s%s", r->copy, suffixes[i]));
}

static void
say_what_next(const struct restore *r)
{
	const char *name = r->app->service->name;

	printf("restored: %s\n", r->app->settings.db);
	if (r->kept != NULL)
		printf("kept:     %s, as it was before; yours to remove\n",
		    r->kept);
	printf(
	    "next:     coster-%s doctor, which asks the other services too;\n"
	    "          coster-backup(8) says what they may disagree about\n",
	    name);
}

static int
work(struct restore *r, struct arena *a)
{
	int status = copy_file(r, a);

	if (status == EX_OK)
		status = judge(r);
	if (status == EX_OK && run(&r->from.db, r->app->service->restored))
		status = EX_SOFTWARE;
	if (status == EX_OK)
		status = replace(r);
	forget_copy(r, a);
	if (r->in_vain && r->kept != NULL)
		unlink(r->kept); /* or the disk is fuller with each try */
	if (status == EX_OK)
		say_what_next(r);
	return status;
}

static int
restore(struct ctx *ctx, int argc, char **argv)
{
	const char *db = ctx->app->settings.db;
	struct restore r
	    = { .app = ctx->app, .file = argv[0], .from.app = ctx->app };
	char now[CLOCK_TEXT_SIZE];
	struct arena a;
	int status;

	(void)argc;
	arena_init(&a);
	clock_text(clock_ms(), now);
	r.copy = arena_printf(&a, "%s.restoring-%d", db, (int)getpid());
	if (access(db, F_OK) == 0)
		r.kept = arena_printf(&a, "%s.before-%s", db, now);
	status = work(&r, &a);
	arena_release(&a);
	return status;
}

static const struct command commands[] = {
	{ "restore", "FILE",
	    "make the backup FILE the database again; instances may run",
	    restore, COMMAND_AS_OWNER },
};
const struct command_table restore_commands = COMMANDS(commands);
