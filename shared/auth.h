/*
 * Who is asking, and whether a route lets them.
 *
 * nginx alone says where a request comes from, by parameters no client can
 * set, and proves that it is nginx by the secret COSTER_KEY. Users prove
 * themselves with a bearer token (RFC 6750).
 */
#ifndef COSTER_AUTH_H
#define COSTER_AUTH_H

#include "shared/req.h"

/* Did this come from our nginx? ERR_FORBIDDEN else; look at nothing before. */
MUST_USE enum err auth_origin(struct req *r);

/* Fills r->caller; ERR_UNAUTHENTICATED for a token that is not good, but on a
 * route that anyone may call to get a new one. */
MUST_USE enum err auth_caller(struct req *r);

/* May the caller call r->route? ERR_UNAUTHENTICATED, ERR_FORBIDDEN, or
 * ERR_NOT_FOUND for what is somebody else's. */
MUST_USE enum err auth_route(struct req *r);

#endif
