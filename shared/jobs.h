/*
 * The threads of a program beside its loop: workers for slow requests, and
 * jobs. Each opens a context of its own when there is work for it, and closes it
 * when there has been none for a while.
 */
#ifndef COSTER_JOBS_H
#define COSTER_JOBS_H

#include <pthread.h>

#include "shared/app.h"

/* A connection to the database, of DB_GROUPED with all statements prepared; of
 * DB_SINGLE one to the other services, too. */
MUST_USE enum err ctx_open(
    struct ctx *ctx, const struct app *app, enum db_kind kind);
void ctx_close(struct ctx *ctx);

/* For a job that drops what is over: runs statements that each drop some of it,
 * with the same arguments, in a transaction of their own. 0 when there may be
 * more, or the time every. */
int64_t job_drop(struct db *db, const struct stmt *stmts, size_t count,
    struct db_args args, int64_t every);

/* How long to wait after so many tries, at least one: first, then ever twice as
 * long up to the ceiling, less up to half of it. */
int64_t job_backoff(int64_t tries, int64_t first, int64_t ceiling);

/* How long until then; not positive when it is time. So it is when that is farther
 * ahead than it is ever set: the clock has been set back since. */
int64_t job_wait(int64_t due_at, int64_t most);

/* A thread with all signals blocked and a small stack. */
MUST_USE enum err thread_start(
    pthread_t *thread, void *(*run)(void *), void *argument);

/* What is notified waits until a run is so many milliseconds ago, for more of it. */
#define JOB_GATHER_MS 100

struct jobs;

/* Starts the jobs of the service, and those that every service has. */
MUST_USE enum err jobs_start(struct jobs **jobs, const struct app *app);

/* Wakes the jobs that are JOB_NOTIFIED; any thread may call it. */
void jobs_notify(void);

/* Lets each finish what it is at. */
void jobs_stop(struct jobs *jobs);

#endif
