/*
 * Doing a thing once although it is asked for twice.
 *
 * A reply is stored in the same transaction as its effect: under the
 * Idempotency-Key of a client's POST or of any write of a service (kept 24 hours
 * or as is set, a service's longer than an outbox tries, for its caller, method
 * and path), or else under nginx's REQUEST_ID (kept five minutes). nginx sends
 * both again when it repeats a request on another instance. Whoever asks a second
 * time gets the stored reply. Only successes are stored: a request that was refused
 * had no effect and may be tried again.
 */
#ifndef COSTER_IDEMPOTENCY_H
#define COSTER_IDEMPOTENCY_H

#include "shared/req.h"

enum idempotency {
	IDEMPOTENCY_NEW,      /* go on */
	IDEMPOTENCY_REPLAYED, /* the reply is the first one */
};

/* Before a write: ERR_INVALID for a key that came with another body or is
 * badly formed. A slow route's key is claimed, in a transaction of its own if none is
 * open, and ERR_CONFLICT while its first request runs. The REQUEST_ID of a quick
 * one that asks nobody is not looked for: hardly any comes twice, and storing the
 * reply finds that out. */
MUST_USE enum err idempotency_start(struct req *r, enum idempotency *what);

/* After it, in its transaction: stores the reply. ERR_CONFLICT when the request
 * was done before, or meanwhile by another instance. */
MUST_USE enum err idempotency_store(struct req *r);

/* After a write that failed and is rolled back: was it done before? Then its reply
 * is the one of that time. */
MUST_USE bool idempotency_recall(struct req *r);

/* After a refusal of a slow route: gives its claim back. */
void idempotency_forget(struct req *r);

/* A job: drops what has expired. */
int64_t idempotency_prune(struct ctx *ctx);

#endif
