/* What sign-in and refresh share. */
#ifndef COSTER_USER_SESSION_H
#define COSTER_USER_SESSION_H

#include "shared/req.h"

struct session {
	int64_t id, user_id;
	const char *role;
	const char *refresh_token; /* the one to give */
	bool by_cookie;		   /* give the tokens as cookies */
};

/* The tokens of a session, as the body of the reply or as cookies. */
enum err reply_tokens(struct req *r, int status, const struct session *s);

/* Has a browser forget its cookies; once there is a reply. */
void reply_no_cookies(struct req *r);

/* A refresh token of a new session, and its two hashes; see refresh.c. */
const char *refresh_token_new(struct arena *a);
const char *refresh_token_family(struct arena *a, const char *token);
const char *refresh_token_hash(struct arena *a, const char *token);

/* When a session that is used now is over, if it is not used again. */
int64_t session_expiry(int64_t now);

/* What a client calls itself, fit to be stored and shown. */
const char *session_agent(const struct req *r);

/* Ends one session; db_changes() says whether it was on. */
MUST_USE enum err session_end(struct db *db, int64_t id, int64_t user_id);

/* A user's sessions as a JSON array. */
MUST_USE enum err sessions_put(
    struct db *db, struct buf *b, const char *key, int64_t user_id);

#endif
