/*
 * Who is asking, and whether a route lets them.
 *
 * nginx alone says where a request comes from, by parameters no client can
 * set, and proves that it is nginx by the secret COSTER_KEY. Users prove
 * themselves with a bearer token (RFC 6750).
 *
 * A browser may have its token in a cookie instead, which it also sends along
 * with requests that another site makes it send. So a token of a cookie counts
 * for anything but reading only beside the X-CSRF-Token of its session, which
 * that site cannot know, and not with that site's Origin.
 */
#ifndef COSTER_AUTH_H
#define COSTER_AUTH_H

#include "shared/req.h"

#define AUTH_COOKIE "__Host-coster-token"
#define AUTH_COOKIE_REFRESH "__Host-coster-refresh"

/* Did this come from our nginx? ERR_FORBIDDEN else; look at nothing before. */
MUST_USE enum err auth_origin(struct req *r);

/* The token in Authorization (RFC 6750 section 2.1), which may be empty; borrows. NULL
 * for another scheme: that is for somebody else, such as nginx with auth_basic. */
const char *auth_bearer(const struct req *r);

/* Fills r->caller. ERR_UNAUTHENTICATED for a bearer token that is not good, but
 * on a route that anyone may call to get a new one; a cookie that is not good
 * is as none. ERR_FORBIDDEN for a cookie without its X-CSRF-Token, but on a
 * route that anyone may call, where it is as none. */
MUST_USE enum err auth_caller(struct req *r);

/* May the caller call r->route? ERR_UNAUTHENTICATED, ERR_FORBIDDEN, or
 * ERR_NOT_FOUND for what is somebody else's. */
MUST_USE enum err auth_route(struct req *r);

/* The value of a cookie, "" without it; arena. */
const char *auth_cookie(const struct req *r, const char *name);

/* What X-CSRF-Token must be in a session; arena. Every service can tell from
 * COSTER_KEY. */
const char *auth_csrf_token(const struct req *r, int64_t session);

/* ERR_FORBIDDEN unless this comes from the shop's own pages in that session. */
MUST_USE enum err auth_csrf(struct req *r, int64_t session);

#endif
