/*
 * Calls to the other services: HTTP over nginx's internal socket, by libcurl.
 *
 * A client belongs to one thread and keeps its connections. Every call has a
 * time; a service that cannot be reached, or says 502 to 504, is
 * ERR_UNAVAILABLE, and any other answer is the caller's to judge.
 *
 * No call takes longer than the request that makes it has left (ctx's
 * deadline), and X-Deadline-Ms tells the called service how long that is, so
 * the time shrinks along a chain of calls. A service that keeps failing is left
 * alone for a while, and at most half of the workers wait for the same one: see
 * breaker.h.
 */
#ifndef COSTER_CLIENT_H
#define COSTER_CLIENT_H

#include <json-c/json.h>

#include "shared/app.h"

#define CLIENT_TIMEOUT_MS 5000
#define CLIENT_CALLS_MAX 8 /* at once */
#define CLIENT_REPLY_MAX ((size_t)4 * 1024 * 1024)

struct client_call {
	const char *method, *path; /* the path with its query, encoded */
	const char *body;	   /* JSON, or NULL */
	const char *key;	   /* its Idempotency-Key, or NULL */
	const char *trace;	   /* X-Request-Id to pass on, or NULL */
	int64_t timeout_ms;	   /* 0: CLIENT_TIMEOUT_MS */
	struct db *sync;	   /* db_sync() while the service works, or NULL */
	bool unread;		   /* what it says of a success stays text */
};

struct client_reply {
	int status;
	struct json_object *body; /* NULL when there is none, or it is unread */
	const char *text;	  /* of len bytes, when it is unread */
	size_t len;
};

/* Borrows the thread's ctx. */
struct client *client_new(const struct ctx *ctx);
void client_free(struct client *client);

/* For how many milliseconds the service that a path belongs to is left alone
 * yet; 0 when it may be called. */
int64_t client_pause(struct client *client, struct arena *a, const char *path);

/* What is in the reply is in the arena. ERR_UNAVAILABLE, also when the sync fails,
 * and the log says why. */
MUST_USE enum err client_call(struct client *client, struct arena *a,
    const struct client_call *call, struct client_reply *reply);

/* Several calls of one service at once, of which only the status is wanted: 0 when
 * there is none, or 502 to 504. All take the first one's time; none syncs. */
void client_call_all(struct client *client, struct arena *a,
    const struct client_call *calls, size_t count, int *statuses);

/* Is this status a refusal that asking again will not change? One of who asks, or
 * when, is not. */
static inline bool
client_refused(int status)
{
	return status >= 400 && status < 500 && status != 401 && status != 403
	    && status != 408 && status != 409 && status != 425 && status != 429;
}

#endif
