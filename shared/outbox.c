#include "shared/outbox.h"

#include <sodium.h>

#include "shared/breaker.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define LEASE (30 * CLOCK_SECOND)
#define TIMEOUT_MS 2000 /* the others wait so long for one */
#define TRIES_MAX 1000	/* most at the ceiling: two to three days */
#define BACKOFF_FIRST (CLOCK_SECOND / 2)
#define BACKOFF_CEILING (5 * CLOCK_MINUTE)
#define PRUNE_EVERY CLOCK_HOUR
#define POLL (2 * CLOCK_SECOND) /* for what a dead instance left behind */

/* A message waits while an older one of its subject is there. */
#define LIVE "subject = $1 AND dead_at IS NULL"

STMT(outbox_insert,
    "INSERT INTO outbox (subject, method, path, receiver, body, key, due_at,"
    " created_at, waits) VALUES ($1, $2, $3, $4, $5, $6, $7, $7,"
    " CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE " LIVE ")"
    "  THEN 1 ELSE 0 END)");

/* The receiver after another one, and when there is something to send to it. */
STMT(outbox_receiver,
    "SELECT receiver, due_at FROM outbox WHERE dead_at IS NULL AND waits = 0"
    " AND receiver > $1 ORDER BY receiver, due_at LIMIT 1");

/* due_at too: the message is nobody's to look at until the lease is over. */
STMT(outbox_lease,
    "UPDATE outbox SET leased_until = $1, due_at = $1, attempts = attempts + 1"
    " WHERE id = (SELECT id FROM outbox WHERE dead_at IS NULL AND waits = 0"
    "  AND receiver = $2 AND due_at <= $3 ORDER BY due_at, id LIMIT 1)"
    " RETURNING id, subject, method, path, body, key, attempts");

/* By its key: when the lease ran out, the id may be another message's. */
STMT(outbox_delivered, "DELETE FROM outbox WHERE id = $1 AND key = $2");

STMT(outbox_again,
    "UPDATE outbox SET leased_until = NULL, due_at = $3, last_error = $4"
    " WHERE id = $1 AND key = $2");

STMT(outbox_dead,
    "UPDATE outbox SET leased_until = NULL, dead_at = $3, last_error = $4"
    " WHERE id = $1 AND key = $2");

/* The oldest of a subject that nothing goes before any more. */
STMT(outbox_next,
    "UPDATE outbox SET waits = 0, due_at = $2"
    " WHERE id = (SELECT min(id) FROM outbox WHERE " LIVE ")"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE " LIVE " AND waits = 0)");

/* The dead ones, too. */
STMT(outbox_drop_idle,
    "DELETE FROM outbox WHERE subject = $1"
    " AND (leased_until IS NULL OR leased_until <= $2)");

STMT(outbox_drop_sent,
    "UPDATE outbox SET body = NULL, last_error = 'dropped' WHERE subject = $1");

STMT(outbox_dropped,
    "DELETE FROM outbox WHERE id = $1 AND key = $2 AND last_error = 'dropped'");

STMT(outbox_expire,
    "DELETE FROM outbox WHERE id IN"
    " (SELECT id FROM outbox WHERE dead_at < $1 LIMIT 500)");

enum err
outbox_put(struct db *db, const struct outbox_message *m)
{
	int64_t now = clock_ms();

	db_notify(db);
	return db_exec(db, &outbox_insert,
	    DB_ARGS(DB_TEXT(m->subject), DB_TEXT(m->method), DB_TEXT(m->path),
		DB_TEXT(breaker_peer(db->arena, m->path)), DB_TEXT(m->body),
		DB_TEXT(random_text(db->arena, 18)), DB_INT(now)));
}

enum err
outbox_drop(struct db *db, const char *subject)
{
	enum err err = db_exec(db, &outbox_drop_idle,
	    DB_ARGS(DB_TEXT(subject), DB_INT(clock_ms())));

	if (err)
		return err;
	return db_exec(db, &outbox_drop_sent, DB_ARGS(DB_TEXT(subject)));
}

struct message {
	int64_t id, attempts;
	const char *subject, *method, *path, *body, *key;
};

static enum err
lease(struct db *db, const char *receiver, struct message *m)
{
	int64_t now = clock_ms();
	enum err err;

	if ((err = db_begin_relaxed(db)))
		return err;
	err = db_get(db, &outbox_lease,
	    DB_ARGS(DB_INT(now + LEASE), DB_TEXT(receiver), DB_INT(now)),
	    DB_INTO(DB_INT_TO(&m->id), DB_TEXT_TO(&m->subject),
		DB_TEXT_TO(&m->method), DB_TEXT_TO(&m->path),
		DB_TEXT_TO(&m->body), DB_TEXT_TO(&m->key),
		DB_INT_TO(&m->attempts)));
	if (err) {
		db_rollback(db);
		return err;
	}
	return db_commit(db);
}

static int64_t
backoff(int64_t attempts)
{
	int64_t wait = BACKOFF_FIRST << (attempts < 16 ? attempts - 1 : 15);

	if (wait > BACKOFF_CEILING)
		wait = BACKOFF_CEILING;
	/* Jitter, so that what failed together does not come back together. */
	return wait / 2 + (int64_t)randombytes_uniform((uint32_t)wait / 2 + 1);
}

/* Deleting what is not there has come true; and what is about somebody or
 * something that is gone for good came too late, which nobody can mend. */
static bool
is_delivered(const struct message *m, int status)
{
	return (status >= 200 && status < 300) || status == 410
	    || (status == 404 && strcmp(m->method, "DELETE") == 0);
}

/* A refusal that trying again will not change. */
static bool
is_final(int status)
{
	return status >= 400 && status < 500 && status != 401 && status != 403
	    && status != 408 && status != 409 && status != 425 && status != 429;
}

/* How it went: delivered, dead, or due again. */
static enum err
record(struct db *db, const struct message *m, enum err sent, int status)
{
	int64_t now = clock_ms();
	const char *why = arena_printf(db->arena,
	    sent ? "not reachable" : "status %d", status);
	enum err err;

	if (!sent && is_delivered(m, status))
		return db_exec(db, &outbox_delivered,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	err = db_exec(
	    db, &outbox_dropped, DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	if (err || db_changes(db) > 0)
		return err;
	if (m->attempts < TRIES_MAX && (sent || !is_final(status)))
		return db_exec(db, &outbox_again,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key),
			DB_INT(now + backoff(m->attempts)), DB_TEXT(why)));
	/* Without the query: an address may stand there. */
	LOG(LOG_ERROR, "message given up", LOG_INT("message", m->id),
	    LOG_TEXT("path",
		arena_strndup(db->arena, m->path, strcspn(m->path, "?"))),
	    LOG_TEXT("reason", why));
	return db_exec(db, &outbox_dead,
	    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key), DB_INT(now),
		DB_TEXT(why)));
}

enum err
outbox_advance(struct db *db, const char *subject)
{
	return db_exec(db, &outbox_next,
	    DB_ARGS(DB_TEXT(subject), DB_INT(clock_ms())));
}

static enum err
settle(struct db *db, const struct message *m, enum err sent, int status)
{
	enum err err;

	if ((err = db_begin_relaxed(db)))
		return err;
	if ((err = record(db, m, sent, status))
	    || (err = outbox_advance(db, m->subject))) {
		db_rollback(db);
		return err;
	}
	return db_commit(db);
}

static enum err
deliver(struct ctx *ctx, const char *receiver)
{
	struct message m;
	struct client_reply reply;
	enum err err, sent;

	if ((err = lease(&ctx->db, receiver, &m)))
		return err;
	CRASH_POINT("before-delivery");
	sent = client_call(ctx->client, &ctx->arena,
	    &(struct client_call) { .method = m.method,
		.path = m.path,
		.body = m.body,
		.key = m.key,
		.timeout_ms = TIMEOUT_MS },
	    &reply);
	CRASH_POINT("after-delivery");
	return settle(&ctx->db, &m, sent, reply.status);
}

/* Sends one message, if one is due. How long there is nothing to do then. */
static int64_t
serve(struct ctx *ctx, const char *receiver, int64_t due_at)
{
	int64_t pause = client_pause(ctx->client, &ctx->arena, receiver),
		wait = due_at - clock_ms();

	if (pause > wait)
		wait = pause;
	if (wait > 0)
		return wait;
	switch (deliver(ctx, receiver)) {
	case OK:
	case ERR_NOT_FOUND: /* the other instance was quicker */
		return 0;
	default:
		return POLL;
	}
}

/* A look costs no lock, and a few reads along an index, however many wait. Who
 * sent a message, and that it arrived, may be lost with the power: it is sent
 * again then, and its receiver knows its key. */
int64_t
outbox_run(struct ctx *ctx)
{
	int64_t least = POLL, due_at, wait;
	const char *receiver = "";

	while (db_get(&ctx->db, &outbox_receiver, DB_ARGS(DB_TEXT(receiver)),
		   DB_INTO(DB_TEXT_TO(&receiver), DB_INT_TO(&due_at)))
	    == OK) {
		wait = serve(ctx, receiver, due_at);
		if (wait < least)
			least = wait;
	}
	return least;
}

int64_t
outbox_prune(struct ctx *ctx)
{
	int64_t keep = ctx->app->settings.outbox_keep_days * CLOCK_DAY;

	return job_drop(&ctx->db, &outbox_expire, 1,
	    DB_ARGS(DB_INT(clock_ms() - keep)), PRUNE_EVERY);
}
