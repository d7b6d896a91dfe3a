/*
 * The worker pool: slow requests (they hash a password, call another service,
 * or stream an export) run here, so that the loop never waits for one. Of those
 * that only have a question to another service, it is asked here.
 *
 * Workers start one by one as they are needed, and hold a connection to the
 * database only while they have something to do. The queue is bounded, in requests
 * and in what they have sent; what finds it full is answered 503 at once.
 */
#ifndef COSTER_POOL_H
#define COSTER_POOL_H

#include "shared/fcgi.h"
#include "shared/req.h"

struct pool;

/* A request that waits for a worker, or comes back from one with the answer to
 * its question: then it is the loop's, which owns and frees it. */
struct task {
	struct task *next;
	struct conn *conn;
	struct req sent; /* what req_resume() takes, and question; in bytes */
	int64_t deadline_us;
	struct peer_answer answer; /* its reply's body is a reference */
	size_t size;
	char bytes[];
};

/* Called on a worker. */
struct pool_events {
	/* A request has its reply; good as conn_send() says. */
	void (*replied)(struct conn *c, bool good, void *arg);
	/* It has the answer to its question. */
	void (*answered)(struct task *t, void *arg);
	void *arg;
};

struct pool *pool_new(const struct app *app, const struct pool_events *events);

/* Takes the connection with its request, of which it copies what was sent and the
 * question. False, and nothing taken, when the queue is full. */
bool pool_submit(struct pool *pool, struct conn *c, const struct req *r);

/* Requests that wait or run. */
size_t pool_busy(struct pool *pool);

/* Finishes all of them and ends the workers. */
void pool_free(struct pool *pool);

#endif
