#include "shared/outbox.h"

#include "shared/breaker.h"
#include "shared/clock.h"
#include "shared/jobs.h"

#define PRUNE_EVERY CLOCK_HOUR

/* A message waits while an older one of its subject is there. */
#define LIVE "subject = $1 AND dead_at IS NULL"

STMT(outbox_insert,
    "INSERT INTO outbox (subject, method, path, receiver, body, key, due_at,"
    " created_at, waits) VALUES ($1, $2, $3, $4, $5, $6, $7, $7,"
    " CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE " LIVE ")"
    "  THEN 1 ELSE 0 END)");

/* The oldest of a subject that nothing goes before any more. */
STMT(outbox_next,
    "UPDATE outbox SET waits = 0, due_at = $2"
    " WHERE id = (SELECT min(id) FROM outbox WHERE " LIVE ")"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE " LIVE " AND waits = 0)");

/* The dead ones, too. */
#define DROPPED "subject = $1 AND ($2 IS NULL OR id = $2)"

STMT(outbox_drop_idle,
    "DELETE FROM outbox WHERE " DROPPED
    " AND (leased_until IS NULL OR leased_until <= $3)");

STMT(outbox_drop_sent,
    "UPDATE outbox SET body = NULL, last_error = 'dropped' WHERE " DROPPED);

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
outbox_drop(struct db *db, const char *subject, int64_t id)
{
	enum err err = db_exec(db, &outbox_drop_idle,
	    DB_ARGS(DB_TEXT(subject), DB_INT(id), DB_INT(clock_ms())));

	if (err)
		return err;
	return db_exec(
	    db, &outbox_drop_sent, DB_ARGS(DB_TEXT(subject), DB_INT(id)));
}

enum err
outbox_advance(struct db *db, const char *subject)
{
	return db_exec(db, &outbox_next,
	    DB_ARGS(DB_TEXT(subject), DB_INT(clock_ms())));
}

int64_t
outbox_prune(struct ctx *ctx)
{
	int64_t keep = ctx->app->settings.outbox_keep_days * CLOCK_DAY;

	return job_drop(&ctx->db, &outbox_expire, 1,
	    DB_ARGS(DB_INT(clock_ms() - keep)), PRUNE_EVERY);
}
