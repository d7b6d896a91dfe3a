/*
 * The email service: a queue of mails, and what sends them.
 */
#include "handlers/email/email.h"
#include "handlers/email/mime.h"
#include "shared/embed.h"
#include "shared/log.h"
#include "shared/service.h"

EMBED(email_schema, "handlers/email/schema.sql");

struct email_settings email_settings;

static const struct setting settings[] = {
	SETTING(struct email_settings, url, "COSTER_MAIL_URL",
	    "smtp://127.0.0.1:25",
	    "smtp://HOST:PORT, smtps://HOST:PORT or maildir:FOLDER; behind a "
	    "slash, the name said in EHLO"),
	SETTING(struct email_settings, from, "COSTER_MAIL_FROM",
	    "shop@localhost", "the sender's address"),
	SETTING(struct email_settings, from_name, "COSTER_MAIL_FROM_NAME", "",
	    "the sender's name"),
	SETTING(struct email_settings, tls, "COSTER_MAIL_TLS", "try",
	    "of smtp://: try or require TLS and a good certificate"),
	SETTING(struct email_settings, user, "COSTER_MAIL_USER", "",
	    "who signs in to the mail server, if anyone"),
	SETTING(struct email_settings, password_file,
	    "COSTER_MAIL_PASSWORD_FILE", "", "a file with the password"),
	SETTING(struct email_settings, per_hour, "COSTER_MAIL_PER_HOUR",
	    "1000", "mails accepted in an hour", .min = 1, .max = 1000000),
	SETTING(struct email_settings, per_recipient,
	    "COSTER_MAIL_PER_RECIPIENT", "20", "of them to one recipient",
	    .min = 1, .max = 1000000),
	SETTING(struct email_settings, tries, "COSTER_MAIL_TRIES", "36",
	    "attempts before a mail fails; 36 take three days", .min = 1,
	    .max = 1000),
	SETTING(struct email_settings, keep_days, "COSTER_MAIL_KEEP_DAYS",
	    "90", "how long the record of a mail is kept", .min = 1,
	    .max = 36500),
};

static const struct route_table *const routes[] = { &message_routes };

static const struct job jobs[] = {
	{ "deliver", deliver_run, JOB_NOTIFIED },
	{ "prune mail", message_prune, JOB_TIMED },
};

enum err
bad_setting(const char *name, const char *why)
{
	LOG(LOG_ERROR, "bad setting", LOG_TEXT("setting", name),
	    LOG_TEXT("reason", why));
	return ERR_INVALID;
}

static enum err
start(const struct app *app)
{
	const struct email_settings *s = &email_settings;

	(void)app;
	if (!mime_address(s->from))
		return bad_setting(
		    "COSTER_MAIL_FROM", "expected an address in ASCII");
	if (strcmp(s->tls, "try") != 0 && strcmp(s->tls, "require") != 0)
		return bad_setting(
		    "COSTER_MAIL_TLS", "expected try or require");
	return deliver_open();
}

const struct service service = {
	.name = "email",
	.summary = "the queue of outgoing mail",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = email_schema,
	.settings = { settings, ARRAY_LEN(settings), &email_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &email_checks,
	.gauges = &email_gauges,
	.keep_ids = email_keep_ids,
	.start = start,
};
