/*
 * A turn of the outbox: what is due is leased, sent and settled.
 */
#include "shared/outbox.h"

#include "shared/client.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define LEASE (30 * CLOCK_SECOND)
#define TIMEOUT_MS 2000
#define TRIES_MAX 1000 /* most at the ceiling: two to three days */
#define BACKOFF_FIRST (CLOCK_SECOND / 2)
#define POLL (2 * CLOCK_SECOND) /* for what a dead instance left behind */
#define RECEIVERS_MAX 6		/* as many as there are services */
#define SHARE_MAX CLIENT_CALLS_MAX /* messages of a turn for one receiver */
#define NOT_SENT (-1)
#define UNREACHABLE 0

_Static_assert(RECEIVERS_MAX * TIMEOUT_MS < LEASE,
    "a turn is over before its leases are");

/* The receiver after another one, and when there is something to send to it. */
STMT(outbox_receiver,
    "SELECT receiver, due_at FROM outbox WHERE dead_at IS NULL AND waits = 0"
    " AND receiver > $1 ORDER BY receiver, due_at LIMIT 1");

STMT(outbox_due,
    "SELECT id, subject, method, path, body, key, attempts FROM outbox"
    " WHERE dead_at IS NULL AND waits = 0 AND receiver = $1 AND due_at <= $2"
    " ORDER BY due_at, id LIMIT $3");

/* What a clock put off that has been set back since. */
STMT(outbox_recall,
    "UPDATE outbox SET due_at = $2 WHERE dead_at IS NULL AND waits = 0"
    " AND receiver = $1 AND due_at > $3");

/* due_at too: the message is nobody's to look at until the lease is over. */
STMT(outbox_lease,
    "UPDATE outbox SET leased_until = $2, due_at = $2 WHERE id = $1");

/* By its key: when the lease ran out, the id may be another message's. */
#define SAME "id = $1 AND key = $2"
#define MINE SAME " AND leased_until = $3"

STMT(outbox_mine,
    "SELECT id FROM outbox WHERE " MINE
    " AND coalesce(last_error, '') <> 'dropped'");

STMT(outbox_delivered, "DELETE FROM outbox WHERE " SAME);

STMT(outbox_dropped,
    "DELETE FROM outbox WHERE " SAME " AND last_error = 'dropped'");

STMT(outbox_again,
    "UPDATE outbox SET leased_until = NULL, due_at = $4, last_error = $5,"
    " attempts = attempts + 1 WHERE " MINE);

STMT(outbox_dead,
    "UPDATE outbox SET leased_until = NULL, dead_at = $4, last_error = $5,"
    " attempts = attempts + 1 WHERE " MINE);

struct message {
	int64_t id;
	int64_t attempts; /* before this one */
	int64_t leased_until;
	const char *subject, *method, *path, *body, *key;
	int status; /* of the reply; or NOT_SENT, UNREACHABLE */
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
find_due(struct db *db, struct share *s)
{
	int64_t now = clock_ms();
	struct db_rows q;
	enum err err;

	if ((err = db_exec(db, &outbox_recall,
		 DB_ARGS(DB_TEXT(s->receiver), DB_INT(now),
		     DB_INT(now + OUTBOX_PAUSE_MAX)))))
		return err;
	q = db_query(db, &outbox_due,
	    DB_ARGS(DB_TEXT(s->receiver), DB_INT(now), DB_INT(SHARE_MAX)));

	while (db_next(&q))
		s->messages[s->count++] = (struct message) {
			.id = db_int(&q, 0),
			.subject = text(&q, 1),
			.method = text(&q, 2),
			.path = text(&q, 3),
			.body = text(&q, 4),
			.key = text(&q, 5),
			.attempts = db_int(&q, 6),
			.leased_until = now + LEASE,
			.status = NOT_SENT,
		};
	return db_end(&q);
}

static enum err
lease(struct db *db, struct share *s)
{
	enum err err = find_due(db, s);

	for (size_t i = 0; !err && i < s->count; i++)
		err = db_exec(db, &outbox_lease,
		    DB_ARGS(DB_INT(s->messages[i].id),
			DB_INT(s->messages[i].leased_until)));
	return err;
}

/* Deleting what is not there has come true; and what is about somebody or
 * something that is gone for good came too late, which nobody can mend. */
static bool
is_delivered(const struct message *m)
{
	return (m->status >= 200 && m->status < 300) || m->status == 410
	    || (m->status == 404 && strcmp(m->method, "DELETE") == 0);
}

static enum err
try_again(struct db *db, const struct message *m, const char *why)
{
	int64_t wait
	    = job_backoff(m->attempts + 1, BACKOFF_FIRST, OUTBOX_PAUSE_MAX);

	return db_exec(db, &outbox_again,
	    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key), DB_INT(m->leased_until),
		DB_INT(clock_ms() + wait), DB_TEXT(why)));
}

static enum err
give_up(struct db *db, const struct message *m, const char *why)
{
	/* Without the query: an address may stand there. */
	LOG(LOG_ERROR, "message given up", LOG_INT("message", m->id),
	    LOG_TEXT("path",
		arena_strndup(db->arena, m->path, strcspn(m->path, "?"))),
	    LOG_TEXT("reason", why));
	return db_exec(db, &outbox_dead,
	    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key), DB_INT(m->leased_until),
		DB_INT(clock_ms()), DB_TEXT(why)));
}

/* How it went: delivered, dead, or due again. */
static enum err
record(struct db *db, const struct message *m)
{
	const char *why = "not reachable";
	enum err err;

	if (is_delivered(m))
		return db_exec(db, &outbox_delivered,
		    DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	err = db_exec(
	    db, &outbox_dropped, DB_ARGS(DB_INT(m->id), DB_TEXT(m->key)));
	if (err || db_changes(db) > 0 || m->status == NOT_SENT)
		return err;
	if (m->status != UNREACHABLE)
		why = arena_printf(db->arena, "status %d", m->status);
	if (m->attempts + 1 < TRIES_MAX && !client_refused(m->status))
		return try_again(db, m, why);
	return give_up(db, m, why);
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

/* It may have been dropped while it waited for its turn; then it is not sent. */
static bool
is_mine(struct db *db, const struct message *m)
{
	int64_t id;

	return db_get(db, &outbox_mine,
		   DB_ARGS(DB_INT(m->id), DB_TEXT(m->key),
		       DB_INT(m->leased_until)),
		   DB_INTO(DB_INT_TO(&id)))
	    == OK;
}

/* All at once: the receiver can do them in one turn of its own. */
static void
deliver(struct ctx *ctx, struct share *s)
{
	struct client_call calls[SHARE_MAX];
	struct message *sent[SHARE_MAX];
	int statuses[SHARE_MAX];
	size_t count = 0;

	for (size_t i = 0; i < s->count; i++) {
		struct message *m = &s->messages[i];

		if (!is_mine(&ctx->db, m))
			continue;
		sent[count] = m;
		calls[count++] = (struct client_call) { .method = m->method,
			.path = m->path,
			.body = m->body,
			.key = m->key,
			.timeout_ms = TIMEOUT_MS };
	}
	if (count == 0)
		return;
	CRASH_POINT("before-delivery");
	client_call_all(ctx->client, &ctx->arena, calls, count, statuses);
	CRASH_POINT("after-delivery");
	for (size_t i = 0; i < count; i++)
		sent[i]->status = statuses[i];
}

/* A transaction that does the same for each receiver of the turn. */
static enum err
for_each(struct db *db, struct turn *t,
    enum err (*fn)(struct db *db, struct share *s))
{
	enum err err;

	if ((err = db_begin_relaxed(db)))
		return err;
	for (size_t i = 0; i < t->count && err == OK; i++)
		err = fn(db, &t->shares[i]);
	return db_finish(db, err);
}

/* Whose turn it is: all for whom something is due, and who are not left alone.
 * How long there is nobody else then. */
static int64_t
look(struct ctx *ctx, struct turn *t)
{
	int64_t least = POLL, due_at, wait, pause;
	const char *receiver = "";

	while (t->count < RECEIVERS_MAX
	    && db_get(&ctx->db, &outbox_receiver, DB_ARGS(DB_TEXT(receiver)),
		   DB_INTO(DB_TEXT_TO(&receiver), DB_INT_TO(&due_at)))
		== OK) {
		pause = client_pause(ctx->client, &ctx->arena, receiver);
		wait = job_wait(due_at, OUTBOX_PAUSE_MAX);
		if (wait < pause)
			wait = pause;
		if (wait <= 0)
			t->shares[t->count++].receiver = receiver;
		else if (wait < least)
			least = wait;
	}
	return least;
}

static bool
is_more_due(const struct turn *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->shares[i].count == SHARE_MAX)
			return true;
	return false;
}

/* A look costs no lock, and a few reads along an index, however many wait. What has
 * come meanwhile, or waited behind what was sent, goes with more like it. Who
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
		deliver(ctx, &t.shares[i]);
	if (for_each(&ctx->db, &t, settle))
		return POLL;
	return is_more_due(&t) ? 0 : JOB_GATHER_MS;
}
