/* What the files of the email service share. */
#ifndef COSTER_EMAIL_H
#define COSTER_EMAIL_H

#include "shared/app.h"
#include "shared/client.h"

struct email_settings {
	const char *url, *from, *from_name, *tls, *user, *password_file;
	int64_t per_hour, per_recipient, tries, keep_days;
};
extern struct email_settings email_settings;

/* Tells the log what is wrong with a setting; returns ERR_INVALID. */
MUST_USE enum err bad_setting(const char *name, const char *why);

extern const struct route_table message_routes;
extern const struct check_table email_checks;
extern const struct gauge_table email_gauges;
extern const char email_keep_ids[];

/* Opens the transport; errors as struct service's start wants them. */
MUST_USE enum err deliver_open(void);

/* Jobs: send what is due; drop what is old. */
int64_t deliver_run(struct ctx *ctx);
int64_t message_prune(struct ctx *ctx);

/* Counts one more mail to an address, or to "user 7", in the transaction that
 * is open. ERR_TOO_MANY, and in how many seconds to ask again, when the cap of
 * the recipient or of the hour is reached. Those that can wait have half of the hour's:
 * the rest is for those that cannot. */
MUST_USE enum err cap_take(struct req *r, const char *who, bool can_wait);
MUST_USE enum err cap_prune(struct db *db);

/* What user is to be asked (path and query of a GET; arena): whether somebody
 * has the address to, or, when that is NULL, for the address of user_id. */
const char *recipient_question(
    struct arena *a, int64_t user_id, const char *to);

/* What it says; sets *to if that was NULL (the reply's). ERR_NOT_FOUND when there
 * is no such user, ERR_UNAVAILABLE when that cannot be found out now. */
MUST_USE enum err recipient_answer(
    const struct client_reply *reply, const char **to);

#endif
