#include "shared/pool.h"

#include <malloc.h>

#include "shared/clock.h"
#include "shared/handle.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define IDLE_S 10
#define FOREVER_S (24 * 3600)
#define BYTES_MAX ((size_t)64 * 1024 * 1024) /* of those that wait */

struct pool {
	const struct app *app;
	struct pool_events events;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct task *first, **end;
	size_t waiting, running, started, most;
	size_t bytes; /* that wait */
	bool stopping;
	pthread_t threads[];
};

struct pool *
pool_new(const struct app *app, const struct pool_events *events)
{
	size_t most = (size_t)app->settings.workers;
	struct pool *p = calloc(1, sizeof(*p) + most * sizeof(p->threads[0]));

	if (p == NULL)
		abort();
	p->app = app;
	p->events = *events;
	p->most = most;
	p->end = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	clock_cond_init(&p->more);
	return p;
}

static void
reply(struct pool *p, struct task *t, struct req *r)
{
	bool good;

	(void)!handle(r);
	good = conn_send(t->conn, r);
	handle_log(r);
	arena_reset(r->arena);
	p->events.replied(t->conn, good, p->events.arg);
	free(t);
}

static void
answer(struct pool *p, struct task *t, struct req *r)
{
	r->question = t->sent.question;
	r->ctx->deadline_us = t->deadline_us;
	req_ask(r, 0, &t->answer);
	json_object_get(t->answer.reply.body);
	arena_reset(r->arena); /* its reference goes before the loop has one */
	p->events.answered(t, p->events.arg);
}

static void
run_task(struct pool *p, struct ctx *ctx, struct task *t)
{
	struct req r;

	req_resume(&r, ctx, &t->sent);
	if (t->sent.question != NULL)
		answer(p, t, &r);
	else
		reply(p, t, &r);
}

/* NULL when there is none within so many seconds, or any more. */
static struct task *
next_task(struct pool *p, time_t seconds)
{
	struct timespec until;
	struct task *t;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	while (p->first == NULL && !p->stopping && rc == 0)
		rc = pthread_cond_timedwait(&p->more, &p->lock, &until);
	t = p->first;
	if (t != NULL) {
		p->first = t->next;
		if (p->first == NULL)
			p->end = &p->first;
		p->waiting--;
		p->bytes -= t->size;
		p->running++;
	}
	return t;
}

/* Runs this task and those that follow; the pool is locked between them. */
static void
run_tasks(struct pool *p, struct task *t)
{
	struct ctx ctx;

	pthread_mutex_unlock(&p->lock);
	if (ctx_open(&ctx, p->app, DB_SINGLE)) {
		LOG(LOG_ERROR, "worker cannot start");
		abort(); /* the supervisor starts us again */
	}
	do {
		run_task(p, &ctx, t);
		pthread_mutex_lock(&p->lock);
		p->running--;
		t = next_task(p, IDLE_S);
		pthread_mutex_unlock(&p->lock);
	} while (t != NULL);
	ctx_close(&ctx);
	malloc_trim(0);
	pthread_mutex_lock(&p->lock);
}

/* A worker that has nothing to do for a while keeps neither a connection to the
 * database nor its memory. */
static void *
work(void *argument)
{
	struct pool *p = argument;
	struct task *t;

	pthread_mutex_lock(&p->lock);
	while (!p->stopping || p->first != NULL)
		if ((t = next_task(p, FOREVER_S)) != NULL)
			run_tasks(p, t);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static bool
enqueue(struct pool *p, struct task *t)
{
	bool taken;

	pthread_mutex_lock(&p->lock);
	if (p->waiting + p->running >= p->started && p->started < p->most
	    && thread_start(&p->threads[p->started], work, p) == OK)
		p->started++;
	taken = p->started > 0 && p->waiting < (size_t)p->app->settings.queue
	    && p->bytes + t->size <= BYTES_MAX;
	if (taken) {
		*p->end = t;
		p->end = &t->next;
		p->waiting++;
		p->bytes += t->size;
	}
	pthread_mutex_unlock(&p->lock);
	if (taken) /* who wakes takes the lock */
		pthread_cond_signal(&p->more);
	return taken;
}

/* What its parameters, body and question take, with their NULs. */
static size_t
size_of(const struct req *r)
{
	size_t size = r->body_len + 1;

	for (size_t i = 0; i < PARAM__COUNT; i++)
		size += strlen(r->param[i]) + 1;
	return r->question != NULL ? size + strlen(r->question) + 1 : size;
}

static const char *
put(char **end, const char *s, size_t len)
{
	char *p = *end;

	memcpy(p, s, len);
	p[len] = '\0';
	*end += len + 1;
	return p;
}

/* Moves what was sent into the task. */
static void
keep(struct task *t)
{
	struct req *r = &t->sent;
	char *end = t->bytes;

	for (size_t i = 0; i < PARAM__COUNT; i++)
		r->param[i] = put(&end, r->param[i], strlen(r->param[i]));
	r->body = put(&end, r->body, r->body_len);
	if (r->question != NULL)
		r->question = put(&end, r->question, strlen(r->question));
}

bool
pool_submit(struct pool *p, struct conn *c, const struct req *r)
{
	size_t size = size_of(r);
	struct task *t = malloc(sizeof(*t) + size);

	if (t == NULL)
		abort();
	*t = (struct task) { .conn = c,
		.sent = *r,
		.deadline_us = r->ctx->deadline_us,
		.size = size };
	keep(t);
	if (enqueue(p, t))
		return true;
	free(t);
	return false;
}

size_t
pool_busy(struct pool *p)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = p->waiting + p->running;
	pthread_mutex_unlock(&p->lock);
	return n;
}

void
pool_free(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->started; i++)
		pthread_join(p->threads[i], NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->more);
	free(p);
}
