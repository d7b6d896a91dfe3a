#include "shared/jobs.h"

#include <malloc.h>
#include <signal.h>
#include <sodium.h>

#include "shared/client.h"
#include "shared/clock.h"
#include "shared/idempotency.h"
#include "shared/log.h"
#include "shared/outbox.h"

#define STACK_SIZE ((size_t)256 * 1024)
#define IDLE_FOR_LONG CLOCK_HOUR
#define AWAKE_US (2 * 1000000)

/* What the jobs wait for, each kind for its own. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed[JOB_KIND__COUNT];
	uint64_t notified; /* times */
	bool stopping;
} wait = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct runner {
	const struct job *job;
	const struct app *app;
	pthread_t thread;
};

struct jobs {
	size_t count;
	struct runner runners[];
};

enum err
ctx_open(struct ctx *ctx, const struct app *app, enum db_kind kind)
{
	enum err err;

	*ctx = (struct ctx) { .app = app };
	arena_init(&ctx->arena);
	if ((err = db_open(&ctx->db, app->settings.db, kind)))
		return err;
	ctx->db.arena = &ctx->arena;
	ctx->db.committed = jobs_notify;
	if (kind == DB_SINGLE) {
		ctx->client = client_new(ctx);
	} else if ((err = db_prepare(&ctx->db))) {
		db_close(&ctx->db);
		return err;
	}
	return OK;
}

void
ctx_close(struct ctx *ctx)
{
	client_free(ctx->client);
	db_close(&ctx->db);
	arena_release(&ctx->arena);
}

enum err
thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	rc = pthread_create(thread, &attr, run, argument);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		return OK;
	LOG(LOG_ERROR, "cannot start a thread", LOG_TEXT("reason", strerror(rc)));
	return ERR_UNAVAILABLE;
}

int64_t
job_drop(struct db *db, const struct stmt *stmts, size_t count,
    struct db_args args, int64_t every)
{
	int64_t dropped = 0;
	enum err err = db_begin(db);

	if (err)
		return every;
	for (size_t i = 0; i < count && err == OK; i++) {
		err = db_exec(db, &stmts[i], args);
		dropped += db_changes(db);
	}
	return db_finish(db, err) == OK && dropped > 0 ? 0 : every;
}

int64_t
job_backoff(int64_t tries, int64_t first, int64_t ceiling)
{
	int64_t most = first << (tries < 16 ? tries - 1 : 15);

	if (most > ceiling)
		most = ceiling;
	/* Jitter, so that what failed together does not come back together. */
	return most / 2 + (int64_t)randombytes_uniform((uint32_t)most / 2 + 1);
}

int64_t
job_wait(int64_t due_at, int64_t most)
{
	int64_t left = due_at - clock_ms();

	return left <= most ? left : 0;
}

static int64_t
prune(struct ctx *ctx)
{
	int64_t keys = idempotency_prune(ctx), messages = outbox_prune(ctx);

	return keys < messages ? keys : messages;
}

static int64_t
checkpoint(struct ctx *ctx)
{
	db_checkpoint(&ctx->db);
	return IDLE_FOR_LONG;
}

static const struct job common_jobs[] = {
	{ "checkpoint", checkpoint, JOB_NOTIFIED },
	{ "prune", prune, JOB_TIMED },
};

enum wake { TIME, NOTIFIED, STOP };

/* Sleeps until the time, a notification the job has not seen, or the end. */
static enum wake
wait_until(enum job_kind kind, int64_t until_us, uint64_t *seen)
{
	struct timespec at = { .tv_sec = until_us / 1000000,
		.tv_nsec = until_us % 1000000 * 1000 };
	enum wake why;
	int rc = 0;

	pthread_mutex_lock(&wait.lock);
	while (!wait.stopping && rc == 0
	    && (kind == JOB_TIMED || *seen == wait.notified))
		rc = pthread_cond_timedwait(
		    &wait.changed[kind], &wait.lock, &at);
	/* Not by rc: it may have come just as the time was over. */
	why = wait.stopping ? STOP
	    : kind == JOB_NOTIFIED && *seen != wait.notified ? NOTIFIED
							      : TIME;
	*seen = wait.notified;
	pthread_mutex_unlock(&wait.lock);
	return why;
}

/* Runs the job as long as there is something to do now and then, and answers
 * when it is due again. */
static int64_t
run_awake(const struct runner *r, uint64_t *seen)
{
	int64_t now, due, asleep, gathered;
	struct ctx ctx;
	enum wake why;

	if (ctx_open(&ctx, r->app, DB_SINGLE)) {
		LOG(LOG_ERROR, "job cannot start", LOG_TEXT("job", r->job->name));
		abort(); /* the supervisor starts us again */
	}
	do {
		due = r->job->run(&ctx) * 1000;
		arena_reset(&ctx.arena);
		now = clock_mono_us();
		due += now;
		asleep = now + AWAKE_US;
		gathered = now + JOB_GATHER_MS * 1000;
		if (r->job->kind == JOB_TIMED && due > asleep)
			break; /* nothing calls it before that */
		why = wait_until(
		    r->job->kind, due < asleep ? due : asleep, seen);
		/* What many requests leave to do is done at once. */
		if (why == NOTIFIED
		    && wait_until(JOB_TIMED, due < gathered ? due : gathered,
			   seen)
			== STOP)
			why = STOP;
	} while (why == NOTIFIED || (why == TIME && due <= asleep));
	ctx_close(&ctx);
	return due;
}

/* A job that has nothing to do for long keeps neither a connection to the
 * database nor its memory. */
static void *
run_job(void *argument)
{
	const struct runner *r = argument;
	uint64_t seen = 0;
	int64_t due;

	do {
		due = run_awake(r, &seen);
		malloc_trim(0);
	} while (wait_until(r->job->kind, due, &seen) != STOP);
	return NULL;
}

static enum err
start_all(struct jobs *jobs, const struct app *app, const struct job *list,
    size_t count)
{
	enum err err;

	for (size_t i = 0; i < count; i++) {
		struct runner *r = &jobs->runners[jobs->count];

		*r = (struct runner) { .job = &list[i], .app = app };
		if ((err = thread_start(&r->thread, run_job, r)))
			return err;
		jobs->count++;
	}
	return OK;
}

enum err
jobs_start(struct jobs **out, const struct app *app)
{
	size_t most = app->service->job_count + ARRAY_LEN(common_jobs);
	struct jobs *jobs
	    = calloc(1, sizeof(*jobs) + most * sizeof(jobs->runners[0]));
	enum err err;

	if (jobs == NULL)
		abort();
	for (size_t i = 0; i < JOB_KIND__COUNT; i++)
		clock_cond_init(&wait.changed[i]);
	wait.stopping = false;
	*out = jobs;
	/* What starting took; and under AddressSanitizer the first call in a
	 * program may not be made by two threads at once. */
	malloc_trim(0);
	if ((err = start_all(jobs, app, common_jobs, ARRAY_LEN(common_jobs))))
		return err;
	return start_all(
	    jobs, app, app->service->jobs, app->service->job_count);
}

void
jobs_notify(void)
{
	pthread_mutex_lock(&wait.lock);
	wait.notified++;
	pthread_mutex_unlock(&wait.lock);
	pthread_cond_broadcast(&wait.changed[JOB_NOTIFIED]);
}

void
jobs_stop(struct jobs *jobs)
{
	pthread_mutex_lock(&wait.lock);
	wait.stopping = true;
	for (size_t i = 0; i < JOB_KIND__COUNT; i++)
		pthread_cond_broadcast(&wait.changed[i]);
	pthread_mutex_unlock(&wait.lock);
	for (size_t i = 0; i < jobs->count; i++)
		pthread_join(jobs->runners[i].thread, NULL);
	for (size_t i = 0; i < JOB_KIND__COUNT; i++)
		pthread_cond_destroy(&wait.changed[i]);
	free(jobs);
}
