/*
 * The user service: accounts, the sessions in which they are signed in, and
 * the key that signs their tokens.
 */
#include "handlers/user/user.h"
#include "shared/embed.h"
#include "shared/outbox.h"
#include "shared/service.h"

EMBED(user_schema, "handlers/user/schema.sql");

struct user_settings user_settings;

static const struct route_table *const routes[] = {
	&account_routes,
	&proof_routes,
	&export_routes,
	&session_routes,
	&refresh_routes,
	&key_routes,
};

static const struct setting settings[] = {
	SETTING(struct user_settings, signing_key_file,
	    "COSTER_SIGNING_KEY_FILE", "/etc/coster/signing.jwk",
	    "the private key of the tokens"),
	SETTING(struct user_settings, token_seconds, "COSTER_TOKEN_SECONDS",
	    "900", "for how long a token is good", .min = 60, .max = 86400),
	SETTING(struct user_settings, session_days, "COSTER_SESSION_DAYS", "30",
	    "days without use after which a session ends", .min = 1,
	    .max = 3650),
	SETTING(struct user_settings, verify_url, "COSTER_VERIFY_URL", "",
	    "page of the mailed link; COSTER_PUBLIC_URL/verify",
	    .url = true),
	SETTING(struct user_settings, reset_url, "COSTER_RESET_URL", "",
	    "page for a new password; COSTER_PUBLIC_URL/reset",
	    .url = true),
};

static const struct job jobs[] = {
	OUTBOX_JOB,
	{ "password resets", reset_run, JOB_NOTIFIED },
	{ "prune", prune_run, JOB_TIMED },
};

static const struct command commands[] = {
	{ "keygen", "DIRECTORY", "make a signing key and its public half",
	    command_keygen, COMMAND_ALONE },
	{ "retire-keys", "DIRECTORY",
	    "take all public keys out but that of the signing key",
	    command_retire_keys, COMMAND_ALONE },
	{ "add-admin", "EMAIL",
	    "make an administrator; the password comes on standard input",
	    command_add_admin, COMMAND_MAKES_DATABASE },
	{ "list", "",
	    "show all accounts: id, role, address, name, and whether it is "
	    "disabled or its address verified",
	    command_list, COMMAND_WITH_DATABASE },
	{ "set-role", "EMAIL ROLE", "make an account customer or admin",
	    command_set_role, COMMAND_WITH_DATABASE },
	{ "disable", "EMAIL",
	    "let nobody sign in to an account, and sign it out everywhere",
	    command_disable, COMMAND_WITH_DATABASE },
	{ "enable", "EMAIL", "let its owner sign in again", command_enable,
	    COMMAND_WITH_DATABASE },
	{ "revoke-sessions", "EMAIL", "sign an account out everywhere",
	    command_revoke_sessions, COMMAND_WITH_DATABASE },
};

const struct service service = {
	.name = "user",
	.summary = "accounts, sessions and the keys of their tokens",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = user_schema,
	.settings = { settings, ARRAY_LEN(settings), &user_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.checks = &user_checks,
	.restored = user_restored,
	.keep_ids = user_keep_ids,
	.commands = commands,
	.command_count = ARRAY_LEN(commands),
	.start = signer_load,
	.check_caller = session_check,
};
