/*
 * The worker pool: slow requests (they hash a password, call another service,
 * or stream an export) run here, so that the loop never waits for one.
 *
 * Workers start one by one as they are needed. The queue is bounded; what
 * finds it full is answered 503 at once.
 */
#ifndef COSTER_POOL_H
#define COSTER_POOL_H

#include "shared/fcgi.h"

struct pool;

/* Calls done(conn, good, arg) on a worker when a request is answered; good
 * as conn_send() says. */
struct pool *pool_new(const struct app *app,
    void (*done)(struct conn *c, bool good, void *arg), void *arg);

/* Takes the connection with its request, of which it copies the body. False,
 * and nothing taken, when the queue is full. */
bool pool_submit(struct pool *pool, struct conn *c, const struct req *r);

/* Requests that wait or run. */
size_t pool_busy(struct pool *pool);

/* Finishes all of them and ends the workers. */
void pool_free(struct pool *pool);

#endif
