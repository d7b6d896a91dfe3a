/*
 * The reply to a request: a status, header fields, a body.
 *
 *     struct buf *b = reply_json(r, 200);
 *     json_open(b, NULL, '{'); … json_close(b, '}');
 *     reply_version(r, version);
 *     return OK;
 */
#ifndef COSTER_REPLY_H
#define COSTER_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/buf.h"
#include "shared/err.h"

struct req;

/* Where a reply that is longer than memory goes, piece by piece. False when
 * the client is gone; of begin, when too many replies go that way already. */
struct sink {
	bool (*begin)(struct sink *sink);
	bool (*write)(struct sink *sink, const char *p, size_t len);
};

struct reply {
	int status;	   /* 0 until there is one */
	struct buf fields; /* "Name: value\r\n" each, but for those below */
	struct buf body;
	const char *cache_control;
	int64_t version; /* of the object, its ETag; INT_NONE without */
	struct sink *sink;
	bool started; /* the head has gone to the sink */
	bool cut;     /* the body was too long to keep, for HEAD */
	bool lost;    /* the client is gone, or must not take this for all */
};

void reply_init(struct reply *reply, struct arena *a);

/* Starts anew with a status; answers the body, to write JSON in. */
struct buf *reply_json(struct req *r, int status);
struct buf *reply_type(struct req *r, int status, const char *content_type);
enum err reply_empty(struct req *r, int status);

/* Adds a header field. The value must have no control characters. */
void reply_field(struct req *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Location of what was made: by its id behind the path of the collection, and that
 * behind the prefix the service is mounted at. */
void reply_location(struct req *r, const char *collection, int64_t id);

/* A strong ETag (RFC 9110 section 8.8.3). A GET whose If-None-Match matches
 * becomes 304; "*" matches without one too. */
void reply_version(struct req *r, int64_t version);

/* Sends what the body holds when that is much, and empties it: call it
 * between the rows of a long list. ERR_UNAVAILABLE when the client is gone, or
 * nothing has been sent and nothing can be. */
MUST_USE enum err reply_flush(struct req *r);

/* The head as FastCGI wants it (CGI, RFC 3875 section 6), in *head; the body
 * stands ready in r->reply.body, empty where none may be sent. */
void reply_finish(struct req *r, struct buf *head);

/* Does an If-Match or If-None-Match field name this version? "*" does, whatever
 * the version; weak tags count: nginx weakens them when it compresses. */
bool etag_matches(const char *field, int64_t version);

#endif
