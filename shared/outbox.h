/*
 * Messages to other services that need no answer.
 *
 * A message is a row written in the same transaction as the change it tells
 * of, so it exists exactly when the change does. A job delivers it as an HTTP
 * request at least once, with an Idempotency-Key that makes it once for the
 * receiver; when the receiver is down it is tried again, ever more slowly. A
 * lease keeps two instances from sending the same row. Messages of one subject
 * arrive in the order they were written. What the receiver refuses, or never
 * takes, is kept as dead for an administrator.
 *
 * A turn sends each receiver a few messages at once, and one that the client leaves
 * alone none: who is slow or away holds up nobody else's for long. What is sent in a
 * turn is leased, and later settled, in one transaction.
 */
#ifndef COSTER_OUTBOX_H
#define COSTER_OUTBOX_H

#include "shared/app.h"
#include "shared/clock.h"

/* The longest pause before a message that failed is tried again. */
#define OUTBOX_PAUSE_MAX (5 * CLOCK_MINUTE)

struct outbox_message {
	const char *subject;	   /* such as "user 12" */
	const char *method, *path; /* of the request */
	const char *body;	   /* JSON, or NULL */
};

/* In the transaction that is open. */
MUST_USE enum err outbox_put(struct db *db, const struct outbox_message *m);

/* Drops the messages of a subject, likewise, or one of them; INT_NONE: all. One that
 * is being sent goes when that has ended either way, and later ones of its subject
 * still wait for it. */
MUST_USE enum err outbox_drop(struct db *db, const char *subject, int64_t id);

/* A job: drops the messages that were given up long ago. */
int64_t outbox_prune(struct ctx *ctx);

/* Delivers what is due. */
int64_t outbox_run(struct ctx *ctx);

#define OUTBOX_JOB { "outbox", outbox_run, JOB_NOTIFIED }

/* The oldest message that is left of a subject goes next, after one is gone. */
MUST_USE enum err outbox_advance(struct db *db, const char *subject);

/* For an administrator: what waits and what is dead, sent again or dropped. */
extern const struct command_table outbox_commands;

#endif
