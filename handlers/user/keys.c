/*
 * The keys of the tokens: made and retired by commands, loaded, and the public
 * ones shown.
 *
 * Keys are changed without signing anybody out by giving the new public key to
 * all services before user signs with its private half, and taking the old one
 * away when the last token it signed is over.
 */
#include "handlers/user/user.h"

#include <sysexits.h>

#include "shared/file.h"
#include "shared/log.h"

struct token_signer user_signer;

static handler_fn get_keys;

static const struct route routes[] = {
	{ "GET", "/.well-known/jwks.json", get_keys, ROUTE_ANYONE },
};
const struct route_table key_routes = ROUTES(routes);

static enum err
get_keys(struct req *r)
{
	buf_adds(reply_json(r, 200), token_jwks(r->arena, &r->ctx->app->keys));
	r->reply.cache_control = "public, max-age=300";
	return OK;
}

/* The public half of the key, or NULL. */
static const struct token_key *
find_public(const struct token_keys *keys, const struct token_signer *s)
{
	for (size_t i = 0; i < keys->count; i++)
		if (strcmp(keys->key[i].kid, s->kid) == 0
		    && memcmp(keys->key[i].public, s->secret + 32, 32) == 0)
			return &keys->key[i];
	return NULL;
}

/* A key that nobody verifies with would sign tokens that are good nowhere. */
enum err
signer_load(const struct app *app)
{
	const char *path = user_settings.signing_key_file;

	if (token_load_signer(&user_signer, path))
		return ERR_NOT_FOUND;
	if (find_public(&app->keys, &user_signer) != NULL)
		return OK;
	LOG(LOG_ERROR, "the signing key is not among the public keys",
	    LOG_TEXT("path", path), LOG_TEXT("keys", app->settings.jwks_file));
	return ERR_NOT_FOUND;
}

int
command_keygen(struct ctx *ctx, int argc, char **argv)
{
	const char *dir = argv[0];

	(void)ctx, (void)argc;
	if (token_keygen(dir))
		return EX_CANTCREAT;
	printf("%s/signing.jwk  made: the private key, for coster-user alone\n"
	       "%s/jwks.json    has its public half now, for all services\n"
	       "For a shop that runs, see \"Changing the signing key\" in the "
	       "README.\n",
	    dir, dir);
	return EX_OK;
}

static int
retire(struct arena *a, const char *dir)
{
	const char *set = arena_printf(a, "%s/jwks.json", dir), *text;
	struct token_keys keys, left = { .count = 1 };
	const struct token_key *key;
	struct token_signer signer;

	if (token_load_keys(&keys, set)
	    || token_load_signer(
		&signer, arena_printf(a, "%s/signing.jwk", dir)))
		return EX_NOINPUT;
	key = find_public(&keys, &signer);
	if (key == NULL) {
		fprintf(stderr,
		    "coster-user: %s lacks the public half of signing.jwk\n",
		    set);
		return EX_DATAERR;
	}
	left.key[0] = *key;
	text = token_jwks(a, &left);
	if (file_replace(a, set, text, strlen(text), 0644))
		return EX_CANTCREAT;
	printf("%s has one key now, and lost %zu; restart all services\n", set,
	    keys.count - 1);
	return EX_OK;
}

int
command_retire_keys(struct ctx *ctx, int argc, char **argv)
{
	struct arena a;
	int status;

	(void)ctx, (void)argc;
	arena_init(&a);
	status = retire(&a, argv[0]);
	arena_release(&a);
	return status;
}
