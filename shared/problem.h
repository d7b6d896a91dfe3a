/*
 * Errors as clients see them: application/problem+json, RFC 9457. The one
 * place that knows which status and title an error has.
 */
#ifndef COSTER_PROBLEM_H
#define COSTER_PROBLEM_H

#include "shared/err.h"

struct req;

/* Replies with the problem that err is, and what req_fail() and the faults
 * said of it. */
void problem_reply(struct req *r, enum err err);

/* The reason phrase of a status; "Unknown" for one that is not used here. */
const char *status_title(int status);

#endif
