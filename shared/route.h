/*
 * Routes: which function answers a method and a path, and who may call it.
 *
 * A pattern's segments are literal, or {uid}, {id} (positive numbers below
 * 2^53), or {word} (1 to 128 of the characters of base64url). Every route
 * says who may call it; a router with one that does not, does not start.
 * HEAD is answered as GET; OPTIONS, 405, 406 and the faults of a query that
 * nothing reads are answered from the table.
 */
#ifndef COSTER_ROUTE_H
#define COSTER_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/field.h"

struct req;
typedef enum err handler_fn(struct req *r);

enum route_flags {
	/* Who may call it: any of these is enough. */
	ROUTE_ANYONE = 1 << 0,
	ROUTE_SELF = 1 << 1, /* the user that {uid} names; 404 to others */
	ROUTE_USER = 1 << 2, /* any user: the SQL knows what is theirs */
	ROUTE_ADMIN = 1 << 3,
	ROUTE_SERVICE = 1 << 4,	 /* another coster service */
	ROUTE_INTERNAL = 1 << 5, /* anyone in the internal network */
	ROUTE_WHO = ROUTE_ANYONE | ROUTE_SELF | ROUTE_USER | ROUTE_ADMIN
	    | ROUTE_SERVICE | ROUTE_INTERNAL,

	/* How it runs. One that only has to ask another service something
	 * first has a question instead, and writes in the loop's turn. */
	ROUTE_SLOW = 1 << 8, /* hashes, calls or streams: on a worker thread */
	ROUTE_BEGUN = 1 << 9,  /* slow, and begins with a relaxed transaction */
	ROUTE_SECRET = 1 << 10, /* its reply holds a secret: it is not stored */
	ROUTE_MAYBE_BODY = 1 << 11, /* all of its body may be left out */

	/* How it speaks HTTP. */
	ROUTE_EMPTY = 1 << 12, /* its reply has no body: any Accept will do */
	/* Its path names something with a version, against which the endpoint
	 * holds the conditions of a write (req_conditions). */
	ROUTE_TAGGED = 1 << 13,
};

struct route {
	const char *method, *pattern;
	handler_fn *fn;
	unsigned flags;
	/* Of a write: sets r->question, what another service is to be asked
	 * before fn is called and finds r->answer, if there is anything to ask;
	 * NULL: nothing, ever. */
	handler_fn *question;
	/* What may be in it, which req_body() and req_query() read; NULL: a
	 * body is not looked at, a query has no parameter that is known. */
	const struct field_table *body, *query;
	const struct field *batch; /* the body may also be such an array */
	const char *const *types;  /* it can reply, up to a NULL; NULL: JSON */
};

struct route_table {
	const struct route *list;
	size_t count;
};

#define ROUTES(table) { .list = (table), .count = ARRAY_LEN(table) }

struct route_match {
	const struct route *route;
	int64_t uid, id;
	const char *word;
	const char *allow; /* the methods there are, when route is NULL */
};

struct router;

/* Borrows the tables; lives until the process ends. ERR_INTERNAL when a route
 * has no rule, a bad pattern, or a question although it is slow or reads; the
 * log names it. */
MUST_USE enum err router_new(struct router **router,
    const struct route_table *const *tables, size_t count);
void router_free(struct router *router);

/* OK, ERR_NOT_FOUND, or ERR_METHOD with allow set (also for OPTIONS). */
MUST_USE enum err router_find(const struct router *router, struct arena *a,
    const char *method, const char *path, struct route_match *match);

#endif
