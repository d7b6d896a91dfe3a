/*
 * Delivery: the job that takes what is due from the queue to the transport,
 * one mail after the other.
 *
 *     queued --accepted--> sent
 *     queued --refused for good, tried too often, no such user--> failed
 *     queued --else--> queued, due later
 *
 * An instance that takes a mail leases it: it moves due_at on, so that the
 * other one sees the mail again only if this one died. Only a death between
 * the server's answer and the record of it sends a mail twice, or a power cut
 * those of a run, then with the same Message-ID. No transaction is open while a
 * server is spoken to.
 */
#include "handlers/email/mime.h"
#include "handlers/email/transport.h"
#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define LEASE (2 * CLOCK_MINUTE) /* longer than any attempt takes */
#define BACKOFF_FIRST (5 * CLOCK_SECOND)
#define BACKOFF_CEILING (4 * CLOCK_HOUR)
#define ASK_AGAIN (15 * CLOCK_SECOND) /* while user cannot be reached */
#define POLL (2 * CLOCK_SECOND) /* for what a dead instance left behind */
#define RUN_US 1000000 /* a stop need not wait for all there is */
#define RUN_MEMORY ((size_t)1024 * 1024)

STMT(mail_next, "SELECT min(due_at) FROM mail WHERE status = 'queued'");

STMT(mail_lease,
    "UPDATE mail SET due_at = $1, attempts = attempts + 1,"
    " version = version + 1"
    " WHERE id = (SELECT id FROM mail WHERE status = 'queued' AND due_at <= $2"
    "  ORDER BY due_at LIMIT 1)"
    " RETURNING id, key, user_id, recipient, checked, subject, text, html,"
    " attempts, created_at");

/* What a clock put off that has been set back since. */
STMT(mail_recall,
    "UPDATE mail SET due_at = $1 WHERE status = 'queued' AND due_at > $2");

/* What follows finds nothing when the mail was erased meanwhile, or when the
 * lease ran out and another instance is at it: attempts has gone on. Waiting for
 * user is no attempt. */
#define MINE "id = $1 AND status = 'queued' AND attempts = $2"

STMT(mail_checked,
    "UPDATE mail SET recipient = $3, checked = 1, due_at = $4,"
    " attempts = attempts - 1, version = version + 1 WHERE " MINE);

STMT(mail_unchecked,
    "UPDATE mail SET due_at = $3, attempts = attempts - 1,"
    " last_error = 'user cannot be asked', version = version + 1 WHERE " MINE);

STMT(mail_unchecked_all,
    "UPDATE mail SET due_at = $1"
    " WHERE status = 'queued' AND due_at < $1 AND checked = 0");

/* Whoever sent it. */
STMT(mail_sent,
    "UPDATE mail SET status = 'sent', sent_at = $2, last_error = NULL,"
    " text = NULL, html = NULL, version = version + 1"
    " WHERE id = $1 AND status = 'queued'");

STMT(mail_again,
    "UPDATE mail SET due_at = $3, last_error = $4, version = version + 1"
    " WHERE " MINE);

STMT(mail_failed,
    "UPDATE mail SET status = 'failed', last_error = $3, text = NULL,"
    " html = NULL, version = version + 1 WHERE " MINE);

/* For whom it was is not known, and not to be. */
STMT(mail_of_nobody,
    "UPDATE mail SET status = 'failed', last_error = $3,"
    " subject = CASE WHEN user_id IS NULL THEN subject END, user_id = NULL,"
    " text = NULL, html = NULL, version = version + 1 WHERE " MINE);

struct mail {
	int64_t id, user_id, checked, attempts, created_at;
	const char *key, *recipient, *subject, *text, *html;
};

static struct transport transport; /* of the one thread that delivers */

enum err
deliver_open(void)
{
	transport_close(&transport);
	return transport_open(&transport, &email_settings);
}

static enum err
lease(struct db *db, struct mail *m)
{
	int64_t now = clock_ms();

	return db_get(db, &mail_lease,
	    DB_ARGS(DB_INT(now + LEASE), DB_INT(now)),
	    DB_INTO(DB_INT_TO(&m->id), DB_TEXT_TO(&m->key),
		DB_INT_TO(&m->user_id), DB_TEXT_TO(&m->recipient),
		DB_INT_TO(&m->checked), DB_TEXT_TO(&m->subject),
		DB_TEXT_TO(&m->text), DB_TEXT_TO(&m->html),
		DB_INT_TO(&m->attempts), DB_INT_TO(&m->created_at)));
}

/* Of a server's answer the codes (RFC 5321 section 4.2, RFC 3463): its words may have
 * the address. */
static const char *
for_log(struct db *db, const char *answer)
{
	int len = 0;

	if (strspn(answer, "0123456789") != 3)
		return answer; /* in our own words */
	(void)sscanf(answer, "%*3[0-9]%*1[ -]%*1[245].%*3[0-9].%*3[0-9]%n", &len);
	return arena_strndup(db->arena, answer, len > 0 ? (size_t)len : 3);
}

static enum err
fail(struct db *db, const struct stmt *stmt, const struct mail *m,
    const char *why)
{
	LOG(LOG_WARN, "mail failed", LOG_INT("mail", m->id),
	    LOG_INT("attempts", m->attempts),
	    LOG_TEXT("reason", for_log(db, why)));
	return db_exec(db, stmt,
	    DB_ARGS(DB_INT(m->id), DB_INT(m->attempts), DB_TEXT(why)));
}

/* Nothing that waits for user needs to be tried while it is away. */
static enum err
wait_for_user(struct db *db, const struct mail *m)
{
	int64_t at = clock_ms() + ASK_AGAIN;
	enum err err = db_exec(db, &mail_unchecked,
	    DB_ARGS(DB_INT(m->id), DB_INT(m->attempts), DB_INT(at)));

	return err ? err
		   : db_exec(db, &mail_unchecked_all, DB_ARGS(DB_INT(at)));
}

static enum err
find_recipient(struct ctx *ctx, const struct mail *m, const char **to)
{
	struct client_call call = { .method = "GET",
		.path = recipient_question(&ctx->arena, m->user_id, *to) };
	struct client_reply reply;
	enum err err = client_call(ctx->client, &ctx->arena, &call, &reply);

	return err ? err : recipient_answer(&reply, to);
}

/* Finds out whom the mail is for; it is due at once then. */
static enum err
check(struct ctx *ctx, const struct mail *m)
{
	struct db *db = &ctx->db;
	const char *to = m->recipient;
	enum err found = find_recipient(ctx, m, &to), err;

	if ((err = db_begin_relaxed(db)))
		return err;
	if (found == OK)
		err = db_exec(db, &mail_checked,
		    DB_ARGS(DB_INT(m->id), DB_INT(m->attempts), DB_TEXT(to),
			DB_INT(clock_ms())));
	else if (found == ERR_NOT_FOUND)
		err = fail(db, &mail_of_nobody, m, "no such user");
	else
		err = wait_for_user(db, m);
	return db_finish(db, err);
}

static enum verdict
send_mail(struct arena *a, const struct mail *m, const char **answer)
{
	struct mime mime = { .key = m->key,
		.date = m->created_at,
		.from = email_settings.from,
		.from_name = email_settings.from_name,
		.to = m->recipient,
		.subject = m->subject,
		.text = m->text,
		.html = m->html };
	struct envelope mail = { .from = mime.from, .to = mime.to };
	struct buf b;

	if (!mime_address(mime.to)) {
		*answer = "only addresses in ASCII can be written to";
		return VERDICT_NEVER;
	}
	buf_init(&b, a);
	mime_write(&b, &mime);
	mail.bytes = b.data;
	mail.len = b.len;
	return transport.kind->send(transport.self, a, &mail, answer);
}

static enum err
settle(struct db *db, const struct mail *m, enum verdict verdict,
    const char *answer)
{
	int64_t now = clock_ms();

	if (verdict == VERDICT_ACCEPTED) {
		LOG(LOG_INFO, "mail sent", LOG_INT("mail", m->id));
		return db_exec(
		    db, &mail_sent, DB_ARGS(DB_INT(m->id), DB_INT(now)));
	}
	if (verdict == VERDICT_NEVER || m->attempts >= email_settings.tries)
		return fail(db, &mail_failed, m, answer);
	LOG(LOG_WARN, "mail put off", LOG_INT("mail", m->id),
	    LOG_INT("attempts", m->attempts),
	    LOG_TEXT("reason", for_log(db, answer)));
	return db_exec(db, &mail_again,
	    DB_ARGS(DB_INT(m->id), DB_INT(m->attempts),
		DB_INT(now
		    + job_backoff(m->attempts, BACKOFF_FIRST, BACKOFF_CEILING)),
		DB_TEXT(answer)));
}

/* Sends a leased mail. As it records what became of it, it leases the next one that
 * is due: *more says that it did, ERR_NOT_FOUND that there is none. */
static enum err
deliver(struct ctx *ctx, struct mail *m, int64_t until, bool *more)
{
	enum err err, next = OK;
	enum verdict verdict;
	const char *answer;

	CRASH_POINT("before-mail");
	*more = false;
	if (!m->checked)
		return check(ctx, m);
	verdict = send_mail(&ctx->arena, m, &answer);
	CRASH_POINT("after-mail");
	if ((err = db_begin_relaxed(&ctx->db)))
		return err;
	err = settle(&ctx->db, m, verdict, answer);
	if (err == OK && verdict != VERDICT_UNREACHABLE
	    && clock_mono_us() < until && ctx->arena.used < RUN_MEMORY) {
		next = lease(&ctx->db, m);
		*more = next == OK;
	}
	/* The record stands, whatever the next one is like. */
	if ((err = db_finish(&ctx->db, err)))
		return err;
	return verdict == VERDICT_UNREACHABLE ? ERR_UNAVAILABLE : next;
}

/* Mails that are due, one after the other; what became of them goes to disk in
 * the end. ERR_NOT_FOUND when none is left, ERR_UNAVAILABLE when the next would
 * fare no better. */
static enum err
deliver_all(struct ctx *ctx)
{
	int64_t until = clock_mono_us() + RUN_US;
	int64_t now = clock_ms();
	bool more = true;
	struct mail m;
	enum err err;

	if ((err = db_begin_relaxed(&ctx->db)))
		return err;
	err = db_exec(&ctx->db, &mail_recall,
	    DB_ARGS(DB_INT(now), DB_INT(now + BACKOFF_CEILING)));
	if ((err = db_finish(&ctx->db, err ? err : lease(&ctx->db, &m))))
		return err;
	while (!err && more)
		err = deliver(ctx, &m, until, &more);
	(void)!db_sync(&ctx->db); /* if not, the log says so */
	return err;
}

int64_t
deliver_run(struct ctx *ctx)
{
	int64_t next, wait;
	enum err err;

	/* One look costs no lock when there is nothing to do. */
	err = db_get(
	    &ctx->db, &mail_next, DB_NO_ARGS, DB_INTO(DB_INT_TO(&next)));
	wait = err || next == INT_NONE ? POLL
				      : job_wait(next, BACKOFF_CEILING);
	if (wait <= 0) {
		err = deliver_all(ctx);
		return err == OK		? 0
		    : err == ERR_NOT_FOUND ? JOB_GATHER_MS
					   : POLL;
	}
	transport.kind->idle(transport.self);
	return wait < POLL ? wait : POLL;
}
