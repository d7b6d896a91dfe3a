#include "shared/auth.h"

#include <sodium.h>

#include "shared/clock.h"
#include "shared/log.h"

enum err
auth_origin(struct req *r)
{
	const char *key = r->ctx->app->key, *given = r->param[PARAM_KEY];
	size_t len = strlen(key);

	if (strlen(given) == len && sodium_memcmp(key, given, len) == 0)
		return OK;
	LOG(LOG_WARN, "a request without COSTER_KEY is refused",
	    LOG_TEXT("do", "include nginx-key.conf in nginx and reload it"));
	return req_fail(r, ERR_FORBIDDEN, "This did not come through nginx.");
}

static const char *
bearer(const char *authorization)
{
	static const char scheme[] = "Bearer ";

	if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	return authorization + sizeof(scheme) - 1;
}

enum err
auth_caller(struct req *r)
{
	const struct app *app = r->ctx->app;
	const char *token, *why = "scheme";
	struct token_claims claims;

	r->caller.internal = strcmp(r->param[PARAM_NETWORK], "internal") == 0;
	if (strcmp(r->param[PARAM_PEER], "service") == 0) {
		r->caller.role = ROLE_SERVICE;
		return OK;
	}
	if (*r->param[PARAM_AUTHORIZATION] == '\0')
		return OK;
	token = bearer(r->param[PARAM_AUTHORIZATION]);
	if (token == NULL
	    || token_verify(r->arena, &app->keys, app->settings.public_url, token,
		clock_ms() / 1000, &claims, &why)) {
		/* Signing in is what one does about a token that is over. */
		if ((r->route->flags & (ROUTE_ANYONE | ROUTE_SECRET))
		    == (ROUTE_ANYONE | ROUTE_SECRET))
			return OK;
		LOG(LOG_DEBUG, "token refused", LOG_TEXT("reason", why),
		    LOG_TEXT("request", r->param[PARAM_TRACE]));
		return req_fail(r, ERR_UNAUTHENTICATED,
		    "The token is not good, or not any more: sign in again.");
	}
	r->caller.role = claims.role;
	r->caller.uid = claims.sub;
	r->caller.session = strtoll(claims.jti, NULL, 10);
	return OK;
}

enum err
auth_route(struct req *r)
{
	const struct caller *c = &r->caller;
	unsigned flags = r->route->flags;
	bool user = c->role == ROLE_CUSTOMER || c->role == ROLE_ADMIN;

	if ((flags & ROUTE_ANYONE)
	    || ((flags & ROUTE_INTERNAL) && c->internal)
	    || ((flags & ROUTE_SERVICE) && c->role == ROLE_SERVICE)
	    || ((flags & ROUTE_ADMIN) && c->role == ROLE_ADMIN)
	    || ((flags & ROUTE_USER) && user)
	    || ((flags & ROUTE_SELF) && user && c->uid == r->uid))
		return OK;
	if (c->role == ROLE_NOBODY)
		return ERR_UNAUTHENTICATED;
	return (flags & ROUTE_SELF) && user ? ERR_NOT_FOUND : ERR_FORBIDDEN;
}
