/*
 * The loop: one thread that waits on the listening socket and on all open
 * connections at once, and serves what is ready in turns.
 *
 * A turn reads the requests that are ready, and answers each GET as it comes to
 * it. The others are handled when all are read; those that write share one
 * commit, and their replies go out after it. An idle connection costs
 * nothing, a slow request goes to the pool. When nothing has come for a while,
 * the loop gives its memory back.
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
