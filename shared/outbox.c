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
#define RECEIVERS_MAX 8		/* there are six services */
#define SHARE_MAX 8		/* messages of a turn for one receiver */
#define SHARE_TIME CLOCK_SECOND /* then a slow one's next wait a turn */
#define UNTRIED (-1)
#define UNREACHABLE 0

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
    "UPDATE outbox SET leased_until = $1, due_at = $1"
    " WHERE id IN (SELECT id FROM outbox WHERE dead_at IS NULL AND waits = 0"
    "  AND receiver = $2 AND due_at <= $3 ORDER BY due_at, id LIMIT $4)"
    " RETURNING id, subject, method, path, body, key, attempts");

/* By its key: when the lease ran out, the id may be another message's. */
STMT(outbox_delivered, "DELETE FROM outbox WHERE id = $1 AND key = $2");

STMT(outbox_untried,
    "UPDATE outbox SET leased_until = NULL, due_at = $3"
    " WHERE id = $1 AND key = $2");

STMT(outbox_again,
    "UPDATE outbox SET leased_until = NULL, due_at = $3, last_error = $4,"
    " attempts = attempts + 1 WHERE id = $1 AND key = $2");

STMT(outbox_dead,
    "UPDATE outbox SET leased_until = NULL, dead_at = $3, last_error = $4,"
    " attempts = attempts + 1 WHERE id = $1 AND key = $2");

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
	int64_t id, attempts; /* before this one */
	const char *subject, *method, *path, *body, *key;
	int status; /* of the reply; or UNTRIED, UNREACHABLE */
};

/* What one receiver gets in a turn. */
struct share {
	const char *receiver;
	struct message messages[SHARE_MAX];
	size_t count;
};

struct turn {
	struct share shares[RECEIVERS_MAX];
	size_t count;
};

static const char *
text(const struct db_rows *q, int column)
{
	const char *s = db_text(q, column);

	return s != NULL ? arena_strdup(q->db->arena, s) : NULL;
}

static enum err
lease(struct db *db, struct share *s)
{
	int64_t now = clock_ms();
	struct db_rows q = db_query(db, &outbox_lease,
	    DB_ARGS(DB_INT(now + LEASE), DB_TEXT(s->receiver), DB_INT(now),
		DB_INT(SHARE_MAX)));

	while (db_next(&q))
		s->messages[s->count++] = (struct message) {
			.id = db_int(&q, 0),
			.subject = text(&q, 1),
			.method = text(&q, 2),
			.path = text(&q, 3),
			.body = text(&q, 4),
			.key = text(&q, 5),
			.attempts = db_int(&q, 6),
			.status = UNTRIED,
		};
	return db_end(&q);
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
is_delivered(const struct message *m)
{
	return (m->status >= 200 && m->status < 300) || m->status == 410
	    || (m->status == 404 && strcmp(m->method, "DELETE") == 0);
}

/* How it went: delivered, dead, or due again. */
static enum err
record(struct db *db, const struct message *m)
{
	int64_t now = clock_ms(), tries = m->attempts + 1;
	const char *why = m->status == UNREACHABLE
	    ? "not reachable"
	    : arena_printf(db->arena, "status %d", m->status);
	enum err err;

	if (is_delivered(m))
		return db_exec(db, &outbox_delivered,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	err = db_exec(
	    db, &outbox_dropped, DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	if (err || db_changes(db) > 0)
		return err;
	if (m->status == UNTRIED)
		return db_exec(db, &outbox_untried,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key), DB_INT(now)));
	if (tries < TRIES_MAX && !client_refused(m->status))
		return db_exec(db, &outbox_again,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key),
			DB_INT(now + backoff(tries)), DB_TEXT(why)));
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

static void
deliver(struct ctx *ctx, struct message *m)
{
	struct client_reply reply;
	enum err err;

	CRASH_POINT("before-delivery");
	err = client_call(ctx->client, &ctx->arena,
	    &(struct client_call) { .method = m->method,
		.path = m->path,
		.body = m->body,
		.key = m->key,
		.timeout_ms = TIMEOUT_MS },
	    &reply);
	CRASH_POINT("after-delivery");
	m->status = err ? UNREACHABLE : reply.status;
}

/* Until the receiver fails: what is left of its share is given back untried. */
static void
deliver_share(struct ctx *ctx, struct share *s)
{
	int64_t until = clock_ms() + SHARE_TIME;

	for (size_t i = 0; i < s->count && clock_ms() < until; i++) {
		deliver(ctx, &s->messages[i]);
		if (s->messages[i].status == UNREACHABLE)
			return;
	}
}

static enum err
settle(struct db *db, struct share *s)
{
	enum err err = OK;

	for (size_t i = 0; !err && i < s->count; i++)
		if ((err = record(db, &s->messages[i])) == OK)
			err = outbox_advance(db, s->messages[i].subject);
	return err;
}

/* A transaction that does the same for each receiver of the turn. */
static enum err
for_each(struct db *db, struct turn *t,
    enum err (*fn)(struct db *db, struct share *s))
{
	enum err err;

	if ((err = db_begin_relaxed(db)))
		return err;
	for (size_t i = 0; i < t->count; i++)
		if ((err = fn(db, &t->shares[i]))) {
			db_rollback(db);
			return err;
		}
	return db_commit(db);
}

/* Whose turn it is: all for whom something is due, and who are not left alone.
 * How long there is nobody else then. */
static int64_t
look(struct ctx *ctx, struct turn *t)
{
	int64_t least = POLL, now = clock_ms(), due_at, wait, pause;
	const char *receiver = "";

	while (t->count < RECEIVERS_MAX
	    && db_get(&ctx->db, &outbox_receiver, DB_ARGS(DB_TEXT(receiver)),
		   DB_INTO(DB_TEXT_TO(&receiver), DB_INT_TO(&due_at)))
		== OK) {
		pause = client_pause(ctx->client, &ctx->arena, receiver);
		wait = pause > due_at - now ? pause : due_at - now;
		if (wait <= 0)
			t->shares[t->count++].receiver = receiver;
		else if (wait < least)
			least = wait;
	}
	return least;
}

/* A look costs no lock, and a few reads along an index, however many wait. Who
 * sent a message, and that it arrived, may be lost with the power: it is sent
 * again then, and its receiver knows its key. */
int64_t
outbox_run(struct ctx *ctx)
{
	struct turn t = { 0 };
	int64_t wait = look(ctx, &t);

	if (t.count == 0)
		return wait;
	if (for_each(&ctx->db, &t, lease))
		return POLL;
	for (size_t i = 0; i < t.count; i++)
		deliver_share(ctx, &t.shares[i]);
	return for_each(&ctx->db, &t, settle) ? POLL : 0;
}

int64_t
outbox_prune(struct ctx *ctx)
{
	int64_t keep = ctx->app->settings.outbox_keep_days * CLOCK_DAY;

	return job_drop(&ctx->db, &outbox_expire, 1,
	    DB_ARGS(DB_INT(clock_ms() - keep)), PRUNE_EVERY);
}
