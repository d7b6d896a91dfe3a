#include "shared/seen.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/mman.h>

#define HASH_BYTES crypto_shorthash_siphashx24_BYTES

struct place {
	unsigned char hash[HASH_BYTES];
	struct token_claims claims;
};

struct seen {
	pthread_mutex_t lock;
	unsigned char key[crypto_shorthash_siphashx24_KEYBYTES];
	struct place places[SEEN_PLACES];
};

struct seen *
seen_new(void)
{
	const int protection = PROT_READ | PROT_WRITE,
		  flags = MAP_PRIVATE | MAP_ANONYMOUS;
	struct seen *seen;

	/* Not malloc's, which may clear it: places nobody uses take no memory. */
	/* cppcheck-suppress invalidFunctionArg ; without a file */
	seen = mmap(NULL, sizeof(*seen), protection, flags, -1, 0);
	if (seen == MAP_FAILED)
		abort();
	pthread_mutex_init(&seen->lock, NULL);
	randombytes_buf(seen->key, sizeof(seen->key));
	return seen;
}

void
seen_free(struct seen *seen)
{
	if (seen == NULL)
		return;
	pthread_mutex_destroy(&seen->lock);
	munmap(seen, sizeof(*seen));
}

static struct place *
place_of(struct seen *seen, const unsigned char *hash)
{
	return &seen->places[(hash[0] << 8 | hash[1]) % SEEN_PLACES];
}

static bool
recall(struct seen *seen, const unsigned char *hash, int64_t now,
    struct token_claims *c)
{
	struct place *p = place_of(seen, hash);
	bool found;

	pthread_mutex_lock(&seen->lock);
	found = memcmp(p->hash, hash, sizeof(p->hash)) == 0;
	if (found)
		*c = p->claims;
	pthread_mutex_unlock(&seen->lock);
	return found && token_is_current(c, now);
}

static void
keep(struct seen *seen, const unsigned char *hash, const struct token_claims *c)
{
	struct place *p = place_of(seen, hash);

	pthread_mutex_lock(&seen->lock);
	memcpy(p->hash, hash, sizeof(p->hash));
	p->claims = *c;
	pthread_mutex_unlock(&seen->lock);
}

enum err
seen_verify(struct seen *seen, struct arena *a, const struct token_keys *keys,
    const char *issuer, const char *token, int64_t now, struct token_claims *c,
    const char **why)
{
	unsigned char hash[HASH_BYTES];
	enum err err;

	crypto_shorthash_siphashx24(
	    hash, (const unsigned char *)token, strlen(token), seen->key);
	if (recall(seen, hash, now, c))
		return OK;
	err = token_verify(a, keys, issuer, token, now, c, why);
	if (err == OK)
		keep(seen, hash, c);
	return err;
}
