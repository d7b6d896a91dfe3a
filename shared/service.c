#include "shared/service.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/contract.h"
#include "shared/crash.h"
#include "shared/doctor.h"
#include "shared/fcgi.h"
#include "shared/file.h"
#include "shared/jobs.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/metrics.h"
#include "shared/migrate.h"
#include "shared/outbox.h"
#include "shared/restore.h"
#include "shared/seen.h"

#define LISTEN_FD 0 /* spawn-fcgi's FCGI_LISTENSOCK_FILENO */
#define KEY_LENGTH_MIN 32

static const struct setting common_settings[] = {
	SETTING(struct app_settings, db, "COSTER_DB", "",
	    "the database; /var/lib/coster/<service>/<service>.db"),
	SETTING(struct app_settings, key_file, "COSTER_KEY_FILE",
	    "/etc/coster/coster.key", "the secret that nginx sends along"),
	SETTING(struct app_settings, jwks_file, "COSTER_JWKS_FILE",
	    "/etc/coster/jwks.json", "public keys of the tokens"),
	SETTING(struct app_settings, internal_socket, "COSTER_INTERNAL_SOCKET",
	    "/run/coster/internal/nginx.sock", "nginx's socket between services"),
	SETTING(struct app_settings, public_url, "COSTER_PUBLIC_URL",
	    "https://localhost", "the shop's address; issuer of the tokens",
	    .url = true),
	SETTING(struct app_settings, instance, "COSTER_INSTANCE", "1",
	    "number of this instance, for the log"),
	SETTING(struct app_settings, log_level, "COSTER_LOG_LEVEL", "info",
	    "debug, info, audit, warn or error"),
	SETTING(struct app_settings, workers, "COSTER_WORKERS", "4",
	    "threads for slow requests", .min = 1, .max = 64),
	SETTING(struct app_settings, queue, "COSTER_QUEUE", "256",
	    "slow requests that may wait for one", .min = 1, .max = 10000),
	SETTING(struct app_settings, idempotency_hours,
	    "COSTER_IDEMPOTENCY_HOURS", "24",
	    "for how long an Idempotency-Key gets the first reply", .min = 1,
	    .max = 8784),
	SETTING(struct app_settings, outbox_keep_days, "COSTER_OUTBOX_KEEP_DAYS",
	    "90", "days that messages which were given up are kept", .min = 1,
	    .max = 36500),
};

static struct settings
common(struct app *app)
{
	return (struct settings) { common_settings, ARRAY_LEN(common_settings),
		&app->settings };
}

static const char *
default_db(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "/var/lib/coster/%s/%s.db", name, name);
	return path;
}

static int
log_level(const char *name)
{
	static const char *const names[]
	    = { "debug", "info", "audit", "warn", "error" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

static int
bad_setting(const char *why)
{
	LOG(LOG_ERROR, "bad setting", LOG_TEXT("setting", why));
	return EX_CONFIG;
}

int
app_configure(struct app *app, const struct service *svc)
{
	struct settings settings = common(app);
	char why[200];
	int level;

	*app = (struct app) { .service = svc,
		.started_at = clock_ms(),
		.started_us = clock_mono_us() };
	log_init(svc->name, "-", LOG_INFO);
	if (config_load(&settings, why, sizeof(why))
	    || config_load(&svc->settings, why, sizeof(why)))
		return bad_setting(why);
	if (*app->settings.db == '\0')
		app->settings.db = default_db(svc->name);
	level = log_level(app->settings.log_level);
	if (level < 0)
		return bad_setting("COSTER_LOG_LEVEL: expected debug, info, "
				   "audit, warn or error");
	log_init(svc->name, app->settings.instance, (enum log_level)level);
	return EX_OK;
}

static int
load_key(struct app *app)
{
	const char *path = app->settings.key_file;
	struct arena a;
	size_t len = 0;
	char *text;

	arena_init(&a);
	text = file_read(&a, path, &len);
	if (text != NULL)
		len = strcspn(text, "\r\n");
	if (text == NULL || len < KEY_LENGTH_MIN) {
		LOG(LOG_ERROR, "no secret of at least 32 characters",
		    LOG_TEXT("path", path), LOG_TEXT("setting", "COSTER_KEY_FILE"));
		arena_release(&a);
		return EX_NOINPUT;
	}
	app->key = strndup(text, len);
	arena_release(&a);
	return app->key != NULL ? EX_OK : EX_OSERR;
}

/* What root wrote, the service could not read: a program run by root works as
 * the account that the folder of the database belongs to. And from here on what it
 * writes, a database or a copy of one, is nobody else's business. */
static int
become_owner(const char *db)
{
	const char *slash = strrchr(db, '/');
	const struct passwd *owner;
	char folder[PATH_MAX];
	struct stat st;

	umask(077);
	snprintf(folder, sizeof(folder), "%.*s",
	    slash != NULL ? (int)(slash - db) : 1, slash != NULL ? db : ".");
	if (geteuid() != 0 || stat(folder, &st) != 0 || st.st_uid == 0)
		return EX_OK;
	/* cppcheck-suppress getpwuidCalled ; there is one thread yet */
	owner = getpwuid(st.st_uid);
	if (owner != NULL && initgroups(owner->pw_name, owner->pw_gid) == 0
	    && setgid(owner->pw_gid) == 0 && setuid(owner->pw_uid) == 0)
		return EX_OK;
	LOG(LOG_ERROR, "cannot become the owner of the database's folder",
	    LOG_TEXT("path", folder));
	return EX_NOPERM;
}

static int
open_database(struct app *app)
{
	int status = become_owner(app->settings.db);
	struct db db;
	enum err err;

	if (status)
		return status;
	if (db_open(&db, app->settings.db, DB_SINGLE))
		return EX_IOERR;
	err = migrate_service(&db, app->service);
	db_close(&db);
	return err == OK ? EX_OK : err == ERR_CONFLICT ? EX_DATAERR : EX_IOERR;
}

const struct route_table *
service_table(const struct service *svc, size_t i)
{
	return i < svc->route_count   ? svc->routes[i]
	    : i == svc->route_count ? &metrics_routes
				    : NULL;
}

static enum err
open_router(struct app *app)
{
	const struct service *svc = app->service;
	const struct route_table **tables
	    = calloc(svc->route_count + 1, sizeof(*tables));
	enum err err;

	if (tables == NULL)
		abort();
	for (size_t i = 0; i <= svc->route_count; i++)
		tables[i] = service_table(svc, i);
	err = router_new(&app->router, tables, svc->route_count + 1);
	free(tables);
	return err;
}

int
app_open(struct app *app)
{
	const struct service *svc = app->service;
	int status;

	if (token_start() || fcgi_start(app->settings.workers))
		return EX_SOFTWARE;
	if ((status = load_key(app)))
		return status;
	if (token_load_keys(&app->keys, app->settings.jwks_file))
		return EX_NOINPUT;
	app->seen = seen_new();
	if ((status = open_database(app)))
		return status;
	if (open_router(app))
		return EX_SOFTWARE;
	if (svc->start != NULL)
		switch (svc->start(app)) {
		case OK:
			break;
		case ERR_NOT_FOUND:
			return EX_NOINPUT;
		default:
			return EX_CONFIG;
		}
	return EX_OK;
}

void
app_close(struct app *app)
{
	router_free(app->router);
	seen_free(app->seen);
	free((char *)(uintptr_t)app->key);
	*app = (struct app) { 0 };
}

/* The copy of a damaged database is one, too: it must not pass for a good one. */
static int
backup(struct ctx *ctx, int argc, char **argv)
{
	struct ctx copy = { .app = ctx->app };
	bool whole;

	(void)argc;
	if (db_backup(&ctx->db, argv[0])
	    || db_open(&copy.db, argv[0], DB_SINGLE))
		return EX_IOERR;
	whole = doctor_look(&copy, DOCTOR_FILE);
	db_close(&copy.db);
	if (whole)
		return EX_OK;
	LOG(LOG_ERROR, "the database is damaged, and so is its copy",
	    LOG_TEXT("path", argv[0]),
	    LOG_TEXT("do", "restore an older copy; see coster-backup(8)"));
	return EX_DATAERR;
}

static const struct command common_commands[] = {
	{ "backup", "FILE", "copy the live database to FILE", backup,
	    COMMAND_WITH_DATABASE },
};

static bool
has_outbox(const struct service *svc)
{
	for (size_t i = 0; i < svc->job_count; i++)
		if (svc->jobs[i].run == outbox_run)
			return true;
	return false;
}

/* The commands of a service, one after the other; NULL at the end. */
static const struct command *
command_at(const struct service *svc, size_t i)
{
	const struct command_table tables[] = {
		COMMANDS(common_commands),
		has_outbox(svc) ? outbox_commands
				: (struct command_table) { NULL, 0 },
		contract_commands,
		restore_commands,
		doctor_commands,
		crash_commands,
		{ svc->commands, svc->command_count },
	};

	for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
		if (i < tables[t].count)
			return &tables[t].list[i];
		i -= tables[t].count;
	}
	return NULL;
}

static void
help_command(const struct command *cmd, FILE *out)
{
	fprintf(out, "  %s %-*s %s\n", cmd->name, 27 - (int)strlen(cmd->name),
	    cmd->arguments, cmd->help);
}

static void
help(struct app *app, FILE *out)
{
	const struct service *svc = app->service;
	struct settings settings = common(app);
	const struct command *cmd;

	fprintf(out,
	    "coster-%s: %s\n\n"
	    "usage: coster-%s             serve the socket on standard input\n"
	    "       coster-%s --check     look whether it could start\n"
	    "       coster-%s --help | --version\n"
	    "       coster-%s COMMAND\n\n"
	    "commands:\n",
	    svc->name, svc->summary, svc->name, svc->name, svc->name, svc->name);
	for (size_t i = 0; (cmd = command_at(svc, i)) != NULL; i++)
		help_command(cmd, out);
	fprintf(out, "\nsettings, from the environment [and their defaults]:\n");
	config_help(&settings, out);
	config_help(&svc->settings, out);
	fprintf(out, "\nTo serve: spawn-fcgi -n -s SOCKET -- coster-%s\n",
	    svc->name);
}

static int
check_socket(void)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0
	    && listening)
		return EX_OK;
	LOG(LOG_ERROR, "standard input is no listening socket",
	    LOG_TEXT("do", "start it with: spawn-fcgi -n -s SOCKET -- PROGRAM"));
	return EX_OSFILE;
}

static int
serve(struct app *app)
{
	struct jobs *jobs;
	sigset_t set;
	int status;
	enum err err;

	/* Before any thread starts, so that only the loop takes them. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if ((status = check_socket()) || (status = app_open(app))) {
		/* A disk may come back, or have room again: more than 60 starts in
		 * a minute would be the last. */
		if (status == EX_IOERR)
			sleep(1);
		return status;
	}
	metrics_open(app->service);
	if (jobs_start(&jobs, app))
		return EX_SOFTWARE;
	err = loop_run(app, LISTEN_FD);
	jobs_stop(jobs);
	metrics_close();
	return err == OK ? EX_OK : EX_SOFTWARE;
}

/* All that a start needs, but for the socket: also that the schema knows what the
 * loop's connection prepares. */
static int
check(struct app *app)
{
	struct ctx ctx;
	int status = app_open(app);

	if (status == EX_OK && ctx_open(&ctx, app, DB_GROUPED))
		return EX_SOFTWARE;
	if (status == EX_OK) {
		printf("coster-%s: ready to start\n", app->service->name);
		ctx_close(&ctx);
	}
	return status;
}

/* A new one, empty and sound, would hide that the path is wrong. */
static bool
has_database(const struct app *app)
{
	const char *path = app->settings.db;

	if (access(path, F_OK) == 0 || errno != ENOENT)
		return true;
	LOG(LOG_ERROR, "there is no database", LOG_TEXT("path", path),
	    LOG_TEXT("do", "say as COSTER_DB where it is; a start, --check or "
			   "restore makes a new one"));
	return false;
}

/* Arguments that must be there: "[copy]" is but a hint at another command. */
static int
count_words(const char *s)
{
	int n = 0;

	while (*(s += strspn(s, " ")) != '\0') {
		n += *s != '[';
		s += strcspn(s, " ");
	}
	return n;
}

/* The command that the first words are the name of, and how many they are. */
static const struct command *
find_command(const struct service *svc, int argc, char **argv, int *words)
{
	const struct command *cmd;

	for (size_t i = 0; (cmd = command_at(svc, i)) != NULL; i++) {
		const char *name = cmd->name;
		int n = 0;

		for (; n < argc && *name != '\0'; n++) {
			size_t len = strcspn(name, " ");

			if (strlen(argv[n]) != len
			    || strncmp(argv[n], name, len) != 0)
				break;
			name += len + (name[len] == ' ');
		}
		*words = n;
		if (*name == '\0')
			return cmd;
	}
	return NULL;
}

static void
usage(const struct app *app, const struct command *cmd, FILE *out)
{
	fprintf(out, "usage: coster-%s %s%s%s\n", app->service->name, cmd->name,
	    *cmd->arguments != '\0' ? " " : "", cmd->arguments);
}

static int
run_command(struct app *app, const struct command *cmd, int argc, char **argv)
{
	struct ctx ctx = { .app = app };
	int status;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		usage(app, cmd, stdout);
		printf("\n%s.\n\nMore in coster-%s(8).\n", cmd->help,
		    app->service->name);
		return EX_OK;
	}
	if (argc != count_words(cmd->arguments)) {
		usage(app, cmd, stderr);
		return EX_USAGE;
	}
	if (token_start())
		return EX_SOFTWARE;
	if (cmd->kind == COMMAND_ALONE)
		return cmd->run(&ctx, argc, argv);
	if (cmd->kind == COMMAND_AS_OWNER)
		return (status = become_owner(app->settings.db)) != EX_OK
		    ? status
		    : cmd->run(&ctx, argc, argv);
	if (cmd->kind == COMMAND_WITH_DATABASE && !has_database(app))
		return EX_IOERR;
	if ((status = open_database(app)))
		return status;
	if (ctx_open(&ctx, app, DB_SINGLE))
		return EX_IOERR;
	status = cmd->run(&ctx, argc, argv);
	ctx_close(&ctx);
	return status;
}

static int
dispatch(struct app *app, int argc, char **argv)
{
	const struct command *cmd;
	int words;

	if (argc == 1)
		return serve(app);
	if (strcmp(argv[1], "--check") == 0 && argc == 2)
		return check(app);
	cmd = find_command(app->service, argc - 1, argv + 1, &words);
	if (cmd != NULL)
		return run_command(
		    app, cmd, argc - 1 - words, argv + 1 + words);
	fprintf(stderr, "coster-%s: no such command: %s; see --help\n",
	    app->service->name, argv[1]);
	return EX_USAGE;
}

int
service_main(int argc, char **argv, const struct service *svc)
{
	struct app app = { .service = svc };
	int status;

	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		help(&app, stdout);
		return EX_OK;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("coster-%s %s\n", svc->name, COSTER_VERSION);
		return EX_OK;
	}
	/* Threads share two heaps: each more would keep memory of its own. */
	mallopt(M_ARENA_MAX, 2);
	/* Else each allocation takes a lock to count it. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	if ((status = app_configure(&app, svc)))
		return status;
	status = dispatch(&app, argc, argv);
	app_close(&app);
	return status;
}
