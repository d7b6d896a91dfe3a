/*
 * The loop: one thread that waits on the listening socket and on all open
 * connections at once, and serves what is ready in turns.
 *
 * A turn takes the requests that are ready, one after the other; those that
 * write share one commit at its end, and their replies go out after it. An
 * idle connection costs nothing, a slow request goes to the pool.
 *
 * On SIGTERM or SIGINT the loop removes its socket from the file system, so
 * that nginx turns to another instance, serves on until nothing has come for
 * 100 ms, and returns.
 */
#ifndef COSTER_LOOP_H
#define COSTER_LOOP_H

#include "shared/app.h"

/* Serves the listening socket until a signal. The caller has blocked SIGTERM
 * and SIGINT. ERR_UNAVAILABLE when it cannot start. */
MUST_USE enum err loop_run(const struct app *app, int listen_fd);

#endif
