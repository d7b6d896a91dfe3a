/*
 * FastCGI connections: the only module that knows libfcgi.
 *
 * libfcgi reads requests; the reply is framed here (FastCGI 1.0 section 3.3
 * and 5) and goes out in one system call, where libfcgi would write pieces of
 * 8 KiB. A connection is kept open between requests when nginx asks for it.
 */
#ifndef COSTER_FCGI_H
#define COSTER_FCGI_H

#include "shared/req.h"

#define FCGI_BODY_MAX ((size_t)1024 * 1024) /* bytes of a request's body */

struct conn;

/* Once, before all else here. At most half of so many workers are kept by clients that
 * read slowly. */
MUST_USE enum err fcgi_start(int64_t workers);

/* Takes the descriptor of an accepted connection. */
struct conn *conn_new(int fd);

/* Closes it. */
void conn_free(struct conn *c);

int conn_fd(const struct conn *c);

/* Between conn_read() and conn_send(). */
bool conn_is_busy(const struct conn *c);

/* Reads one request whole into r, initialised; what was sent is in a.
 * ERR_UNAVAILABLE when the peer is gone, stalls or does not speak FastCGI: free
 * the connection. */
MUST_USE enum err conn_read(struct conn *c, struct req *r, struct arena *a);

/* Sends the reply; the connection is ready for the next request. False when it is
 * to be freed: it broke, or nginx does not want it kept. */
bool conn_send(struct conn *c, struct req *r);

#endif
