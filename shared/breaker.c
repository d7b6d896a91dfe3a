#include "shared/breaker.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"

#define PROBE_LOOK 100 /* until somebody who waits for a probe looks again */

struct peer {
	struct peer *next;
	char *name;
	size_t inside; /* callers */
	int failures;  /* in a row; counted up to BREAKER_FAILURES */
	int64_t pause, until;
	bool probed; /* one of the callers finds out how it is */
};

struct breaker {
	pthread_mutex_t lock;
	pthread_cond_t left; /* a caller has */
	size_t most;
	struct peer *peers; /* few: the services that this one calls */
};

struct breaker *
breaker_new(size_t most)
{
	struct breaker *b = calloc(1, sizeof(*b));

	if (b == NULL)
		abort();
	b->most = most > 0 ? most : 1;
	pthread_mutex_init(&b->lock, NULL);
	clock_cond_init(&b->left);
	return b;
}

const char *
breaker_peer(struct arena *a, const char *path)
{
	path += strspn(path, "/");
	return arena_strndup(a, path, strcspn(path, "/?"));
}

static struct peer *
find(struct breaker *b, const char *name)
{
	struct peer *p;

	for (p = b->peers; p != NULL; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p;
	if ((p = calloc(1, sizeof(*p))) == NULL
	    || (p->name = strdup(name)) == NULL)
		abort();
	p->next = b->peers;
	return b->peers = p;
}

static int64_t
pause_of(const struct peer *p, int64_t now)
{
	if (p->probed)
		return PROBE_LOOK;
	return p->until > now ? p->until - now : 0;
}

/* A place among the callers, within BREAKER_PATIENCE_MS. */
static bool
wait_for_place(struct breaker *b, const struct peer *p)
{
	struct timespec at;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += BREAKER_PATIENCE_MS * 1000000L;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	while (p->inside >= b->most && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&b->left, &b->lock, &at);
	return p->inside < b->most;
}

enum err
breaker_enter(struct breaker *b, const char *peer, int64_t now,
    struct breaker_pass *pass, const char **why)
{
	enum err err = ERR_UNAVAILABLE;
	struct peer *p;

	pthread_mutex_lock(&b->lock);
	p = find(b, peer);
	if (pause_of(p, now) > 0) {
		*why = "left alone";
	} else if (!wait_for_place(b, p)) {
		*why = "too many wait for it";
	} else if (pause_of(p, now) > 0) {
		*why = "left alone"; /* since this one waited */
	} else {
		*pass = (struct breaker_pass) { p,
			p->failures >= BREAKER_FAILURES };
		p->probed = pass->probe;
		p->inside++;
		err = OK;
	}
	pthread_mutex_unlock(&b->lock);
	return err;
}

static void
succeed(struct peer *p)
{
	if (p->failures >= BREAKER_FAILURES)
		LOG(LOG_INFO, "a service answers again",
		    LOG_TEXT("path", p->name));
	p->failures = 0;
	p->pause = p->until = 0;
	p->probed = false;
}

/* Those that were on their way when the pause began do not prolong it. */
static void
fail(struct peer *p, bool probe, int64_t now)
{
	if (probe)
		p->pause *= 2;
	else if (p->failures < BREAKER_FAILURES
	    && ++p->failures == BREAKER_FAILURES)
		p->pause = BREAKER_PAUSE_FIRST;
	else
		return;
	if (p->pause > BREAKER_PAUSE_MOST)
		p->pause = BREAKER_PAUSE_MOST;
	p->until = now + p->pause;
	if (!probe)
		LOG(LOG_WARN, "a service that keeps failing is left alone",
		    LOG_TEXT("path", p->name));
}

void
breaker_leave(struct breaker *b, const struct breaker_pass *pass, int64_t now,
    enum breaker_verdict verdict)
{
	struct peer *p = pass->peer;

	pthread_mutex_lock(&b->lock);
	p->inside--;
	if (pass->probe)
		p->probed = false;
	if (verdict == BREAKER_GOOD)
		succeed(p);
	else if (verdict == BREAKER_BAD)
		fail(p, pass->probe, now);
	pthread_cond_broadcast(&b->left);
	pthread_mutex_unlock(&b->lock);
}

int64_t
breaker_pause(struct breaker *b, const char *peer, int64_t now)
{
	int64_t ms;

	pthread_mutex_lock(&b->lock);
	ms = pause_of(find(b, peer), now);
	pthread_mutex_unlock(&b->lock);
	return ms;
}
