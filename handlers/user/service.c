/*
 * The user service: accounts, the sessions in which they are signed in, and
 * the key that signs their tokens.
 */
#include "handlers/user/user.h"
#include "shared/embed.h"
#include "shared/log.h"
#include "shared/outbox.h"
#include "shared/service.h"

EMBED(user_schema, "handlers/user/schema.sql");

struct user_settings user_settings;
struct token_signer user_signer;

static const struct route_table *const routes[] = {
	&account_routes,
	&session_routes,
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
};

static const struct job jobs[] = {
	OUTBOX_JOB,
	{ "prune sessions", session_prune, JOB_TIMED },
};

static const struct command commands[] = {
	{ "keygen", "DIRECTORY", "make a signing key and its public half",
	    command_keygen, COMMAND_ALONE },
	{ "add-admin", "EMAIL",
	    "make an administrator; the password comes on standard input",
	    command_add_admin, COMMAND_WITH_DATABASE },
	{ "list", "", "show all accounts: id, role, address, name",
	    command_list, COMMAND_WITH_DATABASE },
	{ "set-role", "EMAIL ROLE", "make an account customer or admin",
	    command_set_role, COMMAND_WITH_DATABASE },
	{ "revoke-sessions", "EMAIL", "sign an account out everywhere",
	    command_revoke_sessions, COMMAND_WITH_DATABASE },
};

/* A key that nobody verifies with would sign tokens that are good nowhere. */
static bool
is_known(const struct token_keys *keys, const struct token_signer *s)
{
	for (size_t i = 0; i < keys->count; i++)
		if (strcmp(keys->key[i].kid, s->kid) == 0)
			return memcmp(keys->key[i].public, s->secret + 32, 32)
			    == 0;
	return false;
}

static enum err
start(const struct app *app)
{
	const char *path = user_settings.signing_key_file;

	if (token_load_signer(&user_signer, path))
		return ERR_NOT_FOUND;
	if (is_known(&app->keys, &user_signer))
		return OK;
	LOG(LOG_ERROR, "the signing key is not among the public keys",
	    LOG_TEXT("path", path), LOG_TEXT("keys", app->settings.jwks_file));
	return ERR_NOT_FOUND;
}

const struct service service = {
	.name = "user",
	.summary = "accounts, sessions and the keys of their tokens",
	.routes = routes,
	.route_count = ARRAY_LEN(routes),
	.schema = user_schema,
	.settings = { settings, ARRAY_LEN(settings), &user_settings },
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
	.commands = commands,
	.command_count = ARRAY_LEN(commands),
	.start = start,
};
