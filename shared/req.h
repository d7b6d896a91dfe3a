/*
 * A request, from its parameters to its reply.
 *
 * An endpoint parses (req_body, req_query), acts (db.h, client.h) and replies
 * (reply.h); it returns OK, or an error that becomes a problem body, with
 * req_fail() or req_fault() to say more. All memory is the request's arena.
 *
 * A route that writes runs inside a transaction, which is committed when it
 * returns OK and rolled back otherwise. A slow route (ROUTE_SLOW) begins its
 * own with db_begin(), late, and what is open when it returns is ended the
 * same way. A route that has to know something of another service first says
 * what (question in route.h), and finds it in r->answer.
 */
#ifndef COSTER_REQ_H
#define COSTER_REQ_H

#include "shared/app.h"
#include "shared/client.h"
#include "shared/field.h"
#include "shared/reply.h"

/* The FastCGI parameters that are read, in the order in which
 * nginx/coster-fastcgi.conf sends them: in order they are found fastest. */
enum param {
	PARAM_KEY,
	PARAM_PEER,
	PARAM_NETWORK,
	PARAM_CORS, /* Origin, if pages of it may read the reply */
	PARAM_METHOD,
	PARAM_SCRIPT_NAME,
	PARAM_PATH,
	PARAM_QUERY,
	PARAM_CONTENT_TYPE,
	PARAM_CONTENT_LENGTH,
	PARAM_REMOTE_ADDR,
	PARAM_REQUEST_ID,
	PARAM_TRACE, /* X-Request-Id */
	PARAM_AUTHORIZATION,
	PARAM_ACCEPT,
	PARAM_IF_MATCH,
	PARAM_IF_NONE_MATCH,
	PARAM_IDEMPOTENCY_KEY,
	PARAM_COOKIE,
	PARAM_ORIGIN,
	PARAM_USER_AGENT,
	PARAM_CSRF_TOKEN,
	PARAM_DEADLINE_MS,
	PARAM__COUNT
};

extern const char *const param_names[PARAM__COUNT];

struct caller {
	enum role role;
	int64_t uid;	 /* 0 for nobody and services */
	int64_t session; /* the token's session; 0 without one */
	bool internal;	 /* comes from the internal network */
};

/* What another service says to a question. */
struct peer_answer {
	enum err err; /* ERR_UNAVAILABLE: nothing */
	struct client_reply reply;
	int64_t asked_at; /* milliseconds since 1970 */
};

struct req {
	struct ctx *ctx;
	struct db *db;	     /* the thread's */
	struct arena *arena; /* the thread's */
	const char *param[PARAM__COUNT]; /* "" for what was not sent */
	const char *body;
	size_t body_len;
	bool body_too_large;

	const struct route *route;
	int64_t uid, id; /* what the path named */
	const char *word;
	int type; /* which of the route's types the reply is to have */
	struct caller caller;
	const char *question;	     /* path and query of a GET; see route.h */
	const struct peer_answer *answer; /* NULL: not asked yet, or nothing */

	struct faults faults;
	const char *problem_type, *problem_detail; /* NULL: the usual ones */
	const char *problem_members; /* more JSON members, or NULL */
	const char *allow;	     /* the methods there are, of a 405 */
	int64_t retry_after;	     /* seconds; 429 and 503 always say 1 or more */
	struct reply reply;
	int64_t started_us;
};

/* Ready to take parameters. */
void req_init(struct req *r, struct ctx *ctx);

/* As sent was when its parameters and body had just been read, and its answer if
 * it has one; all of that is borrowed. */
void req_resume(struct req *r, struct ctx *ctx, const struct req *sent);

/* The same in its own place. */
void req_restart(struct req *r);

/* Notes what went wrong in words for the client; returns err. */
#define req_fail(r, err, ...) req_fail_as((r), (err), NULL, __VA_ARGS__)

/* The same with a problem type of our own, such as "out-of-stock". */
MUST_USE enum err req_fail_as(struct req *r, enum err err, const char *type,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Notes a fault of one member; returns ERR_INVALID. */
MUST_USE enum err req_fault(
    struct req *r, const char *pointer, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The body as a JSON tree, whatever it is: ERR_MEDIA_TYPE, ERR_TOO_LARGE or
 * ERR_MALFORMED. */
MUST_USE enum err req_json(struct req *r, struct json_object **root);

/* Is the body a patch of RFC 7396? */
#define MERGE_PATCH "application/merge-patch+json"
bool req_is_merge_patch(const struct req *r);

/* The body, or the query, read against the route's table of fields into the
 * struct that the table is of; ERR_INVALID when there are faults. */
MUST_USE enum err req_body(struct req *r, void *into);
MUST_USE enum err req_query(struct req *r, void *into);

/* The conditions of RFC 9110 section 13.1, held against the version that there
 * is, INT_NONE for something without one: ERR_PRECONDITION when If-Match does
 * not name it, or If-None-Match of a write does. */
MUST_USE enum err req_conditions(struct req *r, int64_t version);

/* Chooses r->type, the one of the route's types that Accept likes best (RFC
 * 9110 section 12.5.1), the first of equals: ERR_NOT_ACCEPTABLE when it allows
 * none of them. */
MUST_USE enum err req_negotiate(struct req *r);

/* Asks r->question, on a thread that may wait; timeout_ms as of a client_call. */
void req_ask(struct req *r, int64_t timeout_ms, struct peer_answer *answer);

/* The loop must not wait: ERR_DEFER there, which has the request run again on
 * a worker thread; OK on one. */
MUST_USE enum err req_may_wait(const struct req *r);

#endif
