#include "shared/idempotency.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/jobs.h"
#include "shared/log.h"

#define KEEP_SERVICE (5 * CLOCK_DAY) /* longer than an outbox tries */
#define KEEP_REQUEST (5 * CLOCK_MINUTE)
#define KEEP_CLAIM CLOCK_MINUTE /* longer than any request runs */
#define KEY_MAX 255
#define PRUNE_EVERY CLOCK_MINUTE

#define SCOPE_REQUEST "request"

STMT(idempotency_find,
    "SELECT fingerprint, status, head, body, expires_at FROM idempotency"
    " WHERE scope = $1 AND key = $2");

STMT(idempotency_claim,
    "INSERT INTO idempotency (scope, key, fingerprint, head, expires_at)"
    " VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
    " status = NULL, head = excluded.head, body = NULL,"
    " expires_at = excluded.expires_at"
    " WHERE idempotency.expires_at <= $6 OR (idempotency.status IS NULL"
    "  AND (idempotency.expires_at > excluded.expires_at"
    "   OR (idempotency.head = excluded.head AND excluded.head <> '')))");

STMT(idempotency_put,
    "INSERT INTO idempotency"
    " (scope, key, fingerprint, status, head, body, expires_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
    " status = excluded.status, head = excluded.head, body = excluded.body,"
    " expires_at = excluded.expires_at"
    " WHERE idempotency.status IS NULL OR idempotency.expires_at <= $8");

STMT(idempotency_drop,
    "DELETE FROM idempotency WHERE scope = $1 AND key = $2 AND status IS NULL"
    " AND head = $3");

/* A request's reply is kept for 300 seconds from when it was made, a little after
 * the time that its REQUEST_ID begins with: nginx's, in seconds since 1970. One
 * that begins otherwise is hardly ever between then and tomorrow. */
#define EXPIRE_REQUESTS(of)                                                    \
	{                                                                      \
		"DELETE FROM idempotency WHERE scope = '" SCOPE_REQUEST "'"    \
		" AND key IN (SELECT key FROM idempotency"                     \
		"  WHERE scope = '" SCOPE_REQUEST "' AND key " of              \
		"  AND expires_at < $1 LIMIT 500)"                             \
	}
STMT_ARRAY(expire[]) = {
	{ "DELETE FROM idempotency WHERE (scope, key) IN"
	  " (SELECT scope, key FROM idempotency"
	  "  WHERE scope <> '" SCOPE_REQUEST "' AND expires_at < $1 LIMIT 500)" },
	EXPIRE_REQUESTS("< CAST($1 / 1000 - 300 AS TEXT)"),
	EXPIRE_REQUESTS("> CAST($1 / 1000 + 86400 AS TEXT)"),
};

/* What a reply is stored under; key is "" when it is not. */
struct name {
	const char *scope, *key;
};

struct stored {
	const char *fingerprint, *head;
	const void *body;
	size_t body_len;
	int64_t status, expires_at; /* status is INT_NONE of a claim */
};

/* The Idempotency-Key that counts for this request, or "". Of a service's every
 * write: its messages of one subject may all come again, when a later one has
 * overtaken what an earlier one did. */
static const char *
key_of(const struct req *r)
{
	bool counts = (r->caller.role == ROLE_SERVICE
			  || strcmp(r->param[PARAM_METHOD], "POST") == 0)
	    && !(r->route->flags & ROUTE_SECRET);

	return counts ? r->param[PARAM_IDEMPOTENCY_KEY] : "";
}

static struct name
name_of(const struct req *r)
{
	const char *key = key_of(r), *who = role_name(r->caller.role);

	if (*key == '\0')
		return (struct name) { SCOPE_REQUEST,
			r->route->flags & ROUTE_SECRET
			    ? ""
			    : r->param[PARAM_REQUEST_ID] };
	/* Whose keys anybody can use up. */
	if (r->caller.role == ROLE_NOBODY && !r->caller.internal)
		who = "stranger";
	return (struct name) { arena_printf(r->arena, "%s %lld %s %s", who,
				   (long long)r->caller.uid,
				   r->param[PARAM_METHOD], r->param[PARAM_PATH]),
		key };
}

/* Keyed, with a secret that is not in the database: a body may hold a
 * password, which a plain hash would let somebody guess. */
static const char *
fingerprint_of(const struct req *r)
{
	const char *key = r->ctx->app->key;
	unsigned char hash[16];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)r->body,
	    r->body_len, (const unsigned char *)key,
	    strnlen(key, crypto_generichash_KEYBYTES_MAX));
	return base64url_encode(r->arena, hash, sizeof(hash));
}

static bool
is_good_key(const char *key)
{
	size_t len = strlen(key);

	if (len > KEY_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (key[i] < '!' || key[i] > '~')
			return false;
	return true;
}

static enum err
find(struct req *r, struct name name, struct stored *s)
{
	enum err err;

	if (*name.key == '\0')
		return ERR_NOT_FOUND;
	err = db_get(r->db, &idempotency_find,
	    DB_ARGS(DB_TEXT(name.scope), DB_TEXT(name.key)),
	    DB_INTO(DB_TEXT_TO(&s->fingerprint), DB_INT_TO(&s->status),
		DB_TEXT_TO(&s->head), DB_BLOB_TO(&s->body, &s->body_len),
		DB_INT_TO(&s->expires_at)));
	if (err == OK && s->expires_at <= clock_ms())
		return ERR_NOT_FOUND; /* only not pruned yet */
	return err;
}

static void
replay(struct req *r, const struct stored *s)
{
	(void)reply_empty(r, (int)s->status);
	buf_adds(&r->reply.fields, s->head);
	if (s->body_len > 0)
		buf_add(&r->reply.body, s->body, s->body_len);
	if (*key_of(r) != '\0')
		reply_field(r, "Idempotent-Replayed", "true");
}

/* A claim's head names the request that holds it: nginx's repetition of that
 * request, after its instance died, takes the claim over. After a power cut it
 * holds nobody off: no request outlives one. One that ends later than a new one
 * would is of a clock that has been set back since. */
static enum err
claim(struct req *r, struct name name)
{
	bool begun = db_in_transaction(r->db), ours;
	int64_t now = clock_ms();
	enum err err;

	if (!begun && (err = db_begin_relaxed(r->db)))
		return err;
	err = db_exec(r->db, &idempotency_claim,
	    DB_ARGS(DB_TEXT(name.scope), DB_TEXT(name.key),
		DB_TEXT(fingerprint_of(r)), DB_TEXT(r->param[PARAM_REQUEST_ID]),
		DB_INT(now + KEEP_CLAIM), DB_INT(now)));
	if (err)
		return err;
	ours = db_changes(r->db) > 0;
	if (!begun && (err = db_commit(r->db)))
		return err;
	if (ours) {
		CRASH_POINT("after-claim");
		return OK;
	}
	r->retry_after = 1;
	return req_fail_as(r, ERR_CONFLICT, "request-in-progress",
	    "the first request with this Idempotency-Key still runs");
}

static enum err
start_key(struct req *r, enum idempotency *what)
{
	struct name name = name_of(r);
	struct stored s;
	enum err err;

	if (!is_good_key(name.key))
		return req_fail(r, ERR_INVALID,
		    "Idempotency-Key must be 1 to 255 visible characters");
	err = find(r, name, &s);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (!err && strcmp(s.fingerprint, fingerprint_of(r)) != 0)
		return req_fail_as(r, ERR_INVALID, "idempotency-key-reused",
		    "this Idempotency-Key came with another body before");
	if (err || s.status == INT_NONE)
		return r->route->flags & ROUTE_SLOW ? claim(r, name) : OK;
	replay(r, &s);
	*what = IDEMPOTENCY_REPLAYED;
	return OK;
}

static enum err
start_request(struct req *r, enum idempotency *what)
{
	struct stored s;
	enum err err = find(r, name_of(r), &s);

	if (err)
		return err == ERR_NOT_FOUND ? OK : err;
	replay(r, &s);
	*what = IDEMPOTENCY_REPLAYED;
	return OK;
}

enum err
idempotency_start(struct req *r, enum idempotency *what)
{
	bool asks = r->route->question != NULL && r->answer == NULL;

	*what = IDEMPOTENCY_NEW;
	if (*key_of(r) != '\0')
		return start_key(r, what);
	return asks || (r->route->flags & ROUTE_SLOW) ? start_request(r, what)
						       : OK;
}

bool
idempotency_recall(struct req *r)
{
	struct stored s;

	if (find(r, name_of(r), &s) || s.status == INT_NONE
	    || (s.fingerprint != NULL
		&& strcmp(s.fingerprint, fingerprint_of(r)) != 0))
		return false;
	replay(r, &s);
	return true;
}

enum err
idempotency_store(struct req *r)
{
	int64_t hours = r->ctx->app->settings.idempotency_hours,
		now = clock_ms();
	bool keyed = *key_of(r) != '\0';
	int64_t keep = !keyed			     ? KEEP_REQUEST
	    : r->caller.role == ROLE_SERVICE ? KEEP_SERVICE
					     : hours * CLOCK_HOUR;
	const struct reply *reply = &r->reply;
	struct name name = name_of(r);
	enum err err;

	if (*name.key == '\0')
		return OK;
	err = db_exec(r->db, &idempotency_put,
	    DB_ARGS(DB_TEXT(name.scope), DB_TEXT(name.key),
		DB_TEXT(keyed ? fingerprint_of(r) : NULL),
		DB_INT(reply->status), DB_TEXT(reply->fields.data),
		DB_BLOB(reply->body.data, reply->body.len),
		DB_INT(now + keep), DB_INT(now)));
	if (err == OK && db_changes(r->db) == 0)
		return ERR_CONFLICT;
	return err;
}

void
idempotency_forget(struct req *r)
{
	struct name name;
	enum err err;

	if (*key_of(r) == '\0' || !(r->route->flags & ROUTE_SLOW)
	    || db_begin_relaxed(r->db))
		return;
	name = name_of(r);
	err = db_exec(r->db, &idempotency_drop,
	    DB_ARGS(DB_TEXT(name.scope), DB_TEXT(name.key),
		DB_TEXT(r->param[PARAM_REQUEST_ID])));
	if (db_finish(r->db, err))
		LOG(LOG_WARN, "a key stays claimed for a minute",
		    LOG_TEXT("request", r->param[PARAM_TRACE]));
}

int64_t
idempotency_prune(struct ctx *ctx)
{
	return job_drop(&ctx->db, expire, ARRAY_LEN(expire),
	    DB_ARGS(DB_INT(clock_ms())), PRUNE_EVERY);
}
