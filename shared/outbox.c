#include "shared/outbox.h"

#include <sodium.h>

#include "shared/client.h"
#include "shared/clock.h"
#include "shared/log.h"

#define LEASE (30 * CLOCK_SECOND)
#define TRIES_MAX 100 /* most at the ceiling: two to three days */
#define BACKOFF_FIRST (CLOCK_SECOND / 2)
#define BACKOFF_CEILING CLOCK_HOUR
#define POLL (2 * CLOCK_SECOND) /* for what a dead instance left behind */

STMT(outbox_insert,
    "INSERT INTO outbox (subject, method, path, body, key, due_at, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $6)");

STMT(outbox_lease,
    "UPDATE outbox SET leased_until = $1, attempts = attempts + 1"
    " WHERE id = (SELECT o.id FROM outbox o"
    "  WHERE o.dead_at IS NULL AND o.due_at <= $2"
    "  AND (o.leased_until IS NULL OR o.leased_until <= $2)"
    "  AND NOT EXISTS (SELECT 1 FROM outbox older WHERE older.dead_at IS NULL"
    "   AND older.subject = o.subject AND older.id < o.id)"
    "  ORDER BY o.due_at, o.id LIMIT 1)"
    " RETURNING id, method, path, body, key, attempts");

/* By its key: when the lease ran out, the id may be another message's. */
STMT(outbox_delivered, "DELETE FROM outbox WHERE id = $1 AND key = $2");

STMT(outbox_again,
    "UPDATE outbox SET leased_until = NULL, due_at = $3, last_error = $4"
    " WHERE id = $1 AND key = $2");

STMT(outbox_dead,
    "UPDATE outbox SET leased_until = NULL, dead_at = $3, last_error = $4"
    " WHERE id = $1 AND key = $2");

STMT(outbox_next,
    "SELECT min(due_at) FROM outbox WHERE dead_at IS NULL AND due_at > $1");

enum err
outbox_put(struct db *db, const struct outbox_message *m)
{
	int64_t now = clock_ms();

	db_notify(db);
	return db_exec(db, &outbox_insert,
	    DB_ARGS(DB_TEXT(m->subject), DB_TEXT(m->method), DB_TEXT(m->path),
		DB_TEXT(m->body), DB_TEXT(random_text(db->arena, 18)),
		DB_INT(now)));
}

struct message {
	int64_t id, attempts;
	const char *method, *path, *body, *key;
};

static enum err
lease(struct db *db, struct message *m)
{
	int64_t now = clock_ms();
	enum err err;

	if ((err = db_begin(db)))
		return err;
	err = db_get(db, &outbox_lease,
	    DB_ARGS(DB_INT(now + LEASE), DB_INT(now)),
	    DB_INTO(DB_INT_TO(&m->id), DB_TEXT_TO(&m->method),
		DB_TEXT_TO(&m->path), DB_TEXT_TO(&m->body), DB_TEXT_TO(&m->key),
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

/* Deleting what is not there has come true. */
static bool
is_delivered(const struct message *m, int status)
{
	return (status >= 200 && status < 300)
	    || ((status == 404 || status == 410)
		&& strcmp(m->method, "DELETE") == 0);
}

/* A refusal that trying again will not change. */
static bool
is_final(int status)
{
	return status >= 400 && status < 500 && status != 401 && status != 403
	    && status != 408 && status != 409 && status != 425 && status != 429;
}

static enum err
settle(struct db *db, const struct message *m, enum err sent, int status)
{
	int64_t now = clock_ms();
	const char *why = arena_printf(db->arena,
	    sent ? "not reachable" : "status %d", status);

	if (!sent && is_delivered(m, status))
		return db_exec(db, &outbox_delivered,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	if (m->attempts >= TRIES_MAX || (!sent && is_final(status))) {
		/* Without the query: an address may stand there. */
		LOG(LOG_ERROR, "message given up", LOG_INT("message", m->id),
		    LOG_TEXT("path",
			arena_strndup(
			    db->arena, m->path, strcspn(m->path, "?"))),
		    LOG_TEXT("reason", why));
		return db_exec(db, &outbox_dead,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key), DB_INT(now),
			DB_TEXT(why)));
	}
	return db_exec(db, &outbox_again,
	    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key),
		DB_INT(now + backoff(m->attempts)), DB_TEXT(why)));
}

static enum err
deliver(struct ctx *ctx)
{
	struct message m;
	struct client_reply reply;
	enum err err, sent;

	if ((err = lease(&ctx->db, &m)))
		return err;
	sent = client_call(ctx->client, &ctx->arena,
	    &(struct client_call) { .method = m.method,
		.path = m.path,
		.body = m.body,
		.key = m.key },
	    &reply);
	if ((err = db_begin(&ctx->db)))
		return err;
	if ((err = settle(&ctx->db, &m, sent, reply.status))) {
		db_rollback(&ctx->db);
		return err;
	}
	return db_commit(&ctx->db);
}

/* Until the first message that is due after a time; POLL at most. */
static int64_t
wait_for_next(struct db *db, int64_t after, int64_t now)
{
	int64_t next;

	if (db_get(db, &outbox_next, DB_ARGS(DB_INT(after)),
		DB_INTO(DB_INT_TO(&next)))
	    || next == INT_NONE || next - now > POLL)
		return POLL;
	return next - now;
}

int64_t
outbox_run(struct ctx *ctx)
{
	int64_t now = clock_ms();
	/* One look costs no lock when there is nothing to do. */
	int64_t wait = wait_for_next(&ctx->db, 0, now);

	if (wait > 0)
		return wait;
	if (deliver(ctx) == OK)
		return 0;
	/* What is due waits for an older one, or another instance sends it. */
	return wait_for_next(&ctx->db, now, now);
}
