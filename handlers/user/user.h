/* What the files of the user service share. */
#ifndef COSTER_USER_H
#define COSTER_USER_H

#include "shared/req.h"

struct user_settings {
	const char *signing_key_file, *verify_url, *reset_url;
	int64_t token_seconds, session_days;
};

/* Read at start, constant from then on. */
extern struct user_settings user_settings;
extern struct token_signer user_signer;

extern const struct route_table account_routes, export_routes, key_routes,
    proof_routes, refresh_routes, session_routes;
extern const struct check_table user_checks;
extern const char user_restored[];
extern const char user_keep_ids[];

/* Jobs: mail the links that new passwords were asked for by; drop what is
 * over. */
int64_t reset_run(struct ctx *ctx);
int64_t prune_run(struct ctx *ctx);

/* As struct service's start wants it. */
MUST_USE enum err signer_load(const struct app *app);

int command_keygen(struct ctx *ctx, int argc, char **argv);
int command_retire_keys(struct ctx *ctx, int argc, char **argv);
int command_add_admin(struct ctx *ctx, int argc, char **argv);
int command_list(struct ctx *ctx, int argc, char **argv);
int command_set_role(struct ctx *ctx, int argc, char **argv);
int command_disable(struct ctx *ctx, int argc, char **argv);
int command_enable(struct ctx *ctx, int argc, char **argv);
int command_revoke_sessions(struct ctx *ctx, int argc, char **argv);

/* The first line of standard input; a terminal asks for it, and does not show it. */
const char *secret_line(struct arena *a, const char *prompt);

/* What an address and a new password must be, of requests and of commands. An
 * account is found by its address in lower case. */
#define EMAIL_FIELD(S, ...)                                                    \
	FIELD(S, email, .format = FORMAT_EMAIL, .max = 254, __VA_ARGS__)
#define PASSWORD_FIELD(S, ...)                                                 \
	FIELD(S, password, .min = 8, .max = 128, __VA_ARGS__)

/* Finds the fault of a new password, if it has one. */
MUST_USE enum err password_check(
    struct req *r, const char *password, const char *email);

/* The account as JSON, and its version; ERR_NOT_FOUND for a deleted one. */
MUST_USE enum err account_put(struct req *r, struct buf *b, const char *key,
    int64_t id, int64_t *version);

/* An account has an address, in lower case, that somebody may have had before; has
 * proved that it is its own; has left one, verified or not. When it is deleted the
 * mails to the one it had (key), and to those it has left, are forgotten. In the
 * transaction that is open. */
MUST_USE enum err address_claimed(struct db *db, int64_t id, const char *key);
MUST_USE enum err address_proved(struct db *db, int64_t id);
MUST_USE enum err address_left(
    struct db *db, int64_t id, const char *key, bool verified);
MUST_USE enum err addresses_forget(
    struct db *db, int64_t id, const char *key, bool verified);

/* Those it has left, as a JSON array. */
MUST_USE enum err addresses_put(
    struct db *db, struct buf *b, const char *key, int64_t id);

/* Ends all sessions of a user and forgets where they were from, in the
 * transaction that is open. Access tokens stay good elsewhere until they
 * expire. */
MUST_USE enum err sessions_end(struct db *db, int64_t user_id);

/* For struct service: ERR_UNAUTHENTICATED once the caller's session is over. */
MUST_USE enum err session_check(struct req *r);

/* Makes the link that proves a user's address, in place of an older one, and
 * has it mailed, in the transaction that is open. */
enum proof { PROOF_VERIFICATION, PROOF_RESET, PROOF__COUNT };
MUST_USE enum err proof_send(
    struct ctx *ctx, enum proof kind, int64_t user_id);

/* Makes the links that were mailed to a user worthless, likewise: so when the
 * address changes, the password, or who may sign in. */
MUST_USE enum err proofs_drop(struct db *db, int64_t user_id);

/* What others are told of, in the transaction that is open. Those messages for
 * one service stay in order, and wait for no other service. */
MUST_USE enum err notice_registered(
    struct db *db, int64_t id, const char *email, const char *name);
MUST_USE enum err notice_link(
    struct db *db, int64_t id, enum proof kind, const char *link);
MUST_USE enum err notice_password_changed(struct db *db, int64_t id);
MUST_USE enum err notice_address_changed(
    struct db *db, int64_t id, const char *left);
/* What was on its way to email when an address was left or an account deleted is
 * there by then, and is of that time. */
#define MAIL_ON_ITS_WAY CLOCK_MINUTE
MUST_USE enum err notice_forget_mails(
    struct db *db, int64_t id, const char *email, int64_t until);
MUST_USE enum err notice_deleted(struct db *db, int64_t id);

/* Writes an event that an auditor asks for, and why, or NULL. */
void audit(const struct req *r, const char *event, int64_t user_id,
    const char *reason);

/* A hash of what is random already, in which it is stored; arena. */
const char *secret_hash(struct arena *a, const char *text, size_t len);

#endif
