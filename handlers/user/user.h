/* What the files of the user service share. */
#ifndef COSTER_USER_H
#define COSTER_USER_H

#include "shared/app.h"
#include "shared/field.h"

struct user_settings {
	const char *signing_key_file;
	int64_t token_seconds, session_days;
};

/* Read at start, constant from then on. */
extern struct user_settings user_settings;
extern struct token_signer user_signer;

extern const struct route_table account_routes, session_routes;

int64_t session_prune(struct ctx *ctx);

int command_keygen(struct ctx *ctx, int argc, char **argv);
int command_add_admin(struct ctx *ctx, int argc, char **argv);
int command_list(struct ctx *ctx, int argc, char **argv);
int command_set_role(struct ctx *ctx, int argc, char **argv);
int command_revoke_sessions(struct ctx *ctx, int argc, char **argv);

/* What an address and a new password must be, of requests and of commands. An
 * account is found by its address in lower case. */
#define EMAIL_FIELD(S, ...)                                                    \
	FIELD(S, email, .format = FORMAT_EMAIL, .max = 254, __VA_ARGS__)
#define PASSWORD_FIELD(S, ...)                                                 \
	FIELD(S, password, .min = 8, .max = 128, __VA_ARGS__)

/* Ends all sessions of a user and forgets where they were from, in the
 * transaction that is open. Access tokens stay good until they expire. */
MUST_USE enum err sessions_end(struct db *db, int64_t user_id);

#endif
