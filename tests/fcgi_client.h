/*
 * nginx's side of FastCGI, for tests: requests as bytes on a socket.
 */
#ifndef COSTER_FCGI_CLIENT_H
#define COSTER_FCGI_CLIENT_H

#include <stddef.h>

#include "shared/buf.h"

struct fcgi_request {
	const char *method, *path, *body;
	size_t body_len; /* 0: strlen(body) */
	const char *announce; /* CONTENT_LENGTH, when it is to be a lie */
	int keep;	      /* FCGI_KEEP_CONN */
};

struct fcgi_answer {
	int status; /* 0: the connection ended before the reply did */
	const char *head, *body;
};

/* Connects to a unix socket; -1 when nobody listens. */
int fcgi_connect(const char *path);

/* The bytes of a request; arena. */
struct buf fcgi_bytes(struct arena *a, const struct fcgi_request *r);

/* All of them; false when the peer closed. */
int fcgi_send(int fd, const struct buf *b);

/* Waits for one reply, 20 s at most. */
struct fcgi_answer fcgi_answer(struct arena *a, int fd);

/* Both. */
struct fcgi_answer fcgi_ask(
    struct arena *a, int fd, const struct fcgi_request *r);

#endif
