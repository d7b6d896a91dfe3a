/*
 * What the threads of a program share, and what each has of its own.
 *
 * struct service is the face of a service: constant tables that its folder
 * puts together. struct app is that service started: settings read, keys
 * loaded; constant from then on. struct ctx is a thread's: its connection to
 * the database, its memory, its connection to the other services.
 */
#ifndef COSTER_APP_H
#define COSTER_APP_H

#include "shared/config.h"
#include "shared/db.h"
#include "shared/route.h"
#include "shared/token.h"

struct client;
struct check_table;
struct seen;

struct app_settings {
	const char *db, *key_file, *jwks_file, *internal_socket, *public_url,
	    *instance, *log_level;
	int64_t workers, queue, idempotency_hours, outbox_keep_days;
};

struct app {
	const struct service *service;
	struct app_settings settings;
	int64_t started_at, started_us; /* the same by clock_mono_us() */
	struct router *router;
	struct token_keys keys;
	struct seen *seen; /* tokens that are good by those keys */
	const char *key; /* COSTER_KEY of every request that nginx sends */
};

struct ctx {
	const struct app *app;
	struct db db;
	struct arena arena; /* of the request or job at hand */
	int64_t deadline_us; /* when who waits for it is gone; 0: nobody waits */
	struct client *client;
};

/* Work that no request waits for, on a thread of its own. Runs at start, again
 * when the time is over that it answers (milliseconds, 0 for at once), and if
 * JOB_NOTIFIED when a transaction that called db_notify() is committed: at once,
 * or JOB_GATHER_MS after it ran, for all that were committed by then. */
struct job {
	const char *name;
	int64_t (*run)(struct ctx *ctx);
	enum job_kind { JOB_TIMED, JOB_NOTIFIED, JOB_KIND__COUNT } kind;
};

/* coster-<service> NAME ARGUMENTS…: answers the exit status. A name may be
 * several words. One that is COMMAND_WITH_DATABASE works on the one that is there,
 * COMMAND_MAKES_DATABASE may be the first to need it; COMMAND_ALONE needs no
 * database and gets none; COMMAND_AS_OWNER opens it by itself, as the account that
 * owns its folder. */
struct command {
	const char *name, *arguments, *help;
	int (*run)(struct ctx *ctx, int argc, char **argv);
	enum {
		COMMAND_WITH_DATABASE,
		COMMAND_MAKES_DATABASE,
		COMMAND_ALONE,
		COMMAND_AS_OWNER,
	} kind;
};

struct command_table {
	const struct command *list;
	size_t count;
};

#define COMMANDS(table) { .list = (table), .count = ARRAY_LEN(table) }

/* What a metrics page says beside what all services have. */
struct gauge_table {
	const struct stmt *stmt; /* $1 is now; one row, an integer a gauge */
	const struct gauge {
		const char *name, *help;
	} *list;
	size_t count;
};

struct service {
	const char *name, *summary;
	const struct route_table *const *routes;
	size_t route_count;
	const char *schema; /* see migrate.h */
	struct settings settings;
	const struct job *jobs;
	size_t job_count;
	const struct command *commands;
	size_t command_count;
	const struct check_table *checks, *questions; /* see doctor.h; NULL: none */
	const struct gauge_table *gauges;	      /* NULL: none */
	/* SQL on a backup that is to be the database again, or NULL: to mend
	 * it, and to take over from the database that was there, as "old",
	 * what keeps its ids from being given again, and what cannot be undone. */
	const char *restored, *keep_ids;
	/* Called once when all else is ready; the log says what it lacks. */
	enum err (*start)(const struct app *app);
	/* Called before each endpoint, with a caller who may call it: whether
	 * that is still so. NULL: a token is good until its time is over. */
	enum err (*check_caller)(struct req *r);
};

#endif
