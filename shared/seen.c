#include "shared/seen.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/mman.h>

#define HASH_BYTES crypto_shorthash_siphashx24_BYTES

#define WAYS 8

/* The tokens whose hashes begin alike. */
struct set {
	unsigned char hashes[WAYS][HASH_BYTES];
	struct token_claims claims[WAYS];
	unsigned oldest; /* makes room */
};

struct seen {
	pthread_mutex_t lock;
	unsigned char key[crypto_shorthash_siphashx24_KEYBYTES];
	struct set sets[SEEN_PLACES / WAYS];
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

static struct set *
set_of(struct seen *seen, const unsigned char *hash)
{
	return &seen->sets[(hash[0] << 8 | hash[1]) % ARRAY_LEN(seen->sets)];
}

/* WAYS when it is not there. */
static size_t
find(const struct set *s, const unsigned char *hash)
{
	size_t i = 0;

	while (i < WAYS && memcmp(s->hashes[i], hash, HASH_BYTES) != 0)
		i++;
	return i;
}

static bool
recall(struct seen *seen, const unsigned char *hash, int64_t now,
    struct token_claims *c)
{
	const struct set *s = set_of(seen, hash);
	size_t i;

	pthread_mutex_lock(&seen->lock);
	i = find(s, hash);
	if (i < WAYS)
		*c = s->claims[i];
	pthread_mutex_unlock(&seen->lock);
	return i < WAYS && token_is_current(c, now);
}

static void
keep(struct seen *seen, const unsigned char *hash, const struct token_claims *c)
{
	struct set *s = set_of(seen, hash);
	size_t i;

	pthread_mutex_lock(&seen->lock);
	i = find(s, hash);
	if (i == WAYS)
		i = s->oldest++ % WAYS;
	memcpy(s->hashes[i], hash, HASH_BYTES);
	s->claims[i] = *c;
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
