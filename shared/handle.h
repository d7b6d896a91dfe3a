/*
 * What happens to a request between its parameters and its reply: origin,
 * route, caller, permission, deadline, idempotency, question to another service,
 * endpoint, transaction, problem.
 */
#ifndef COSTER_HANDLE_H
#define COSTER_HANDLE_H

#include "shared/req.h"

/* Fills r->reply. ERR_DEFER when a thread that may wait must answer r->question
 * first; or, on a loop and when that is NULL, must run the request instead, from
 * its parameters on. OK in every other case. */
MUST_USE enum err handle(struct req *r);

/* One line of the log about a request that is answered. */
void handle_log(const struct req *r);

#endif
