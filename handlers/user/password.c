#include "handlers/user/password.h"

#include <errno.h>
#include <sodium.h>

#include "shared/embed.h"
#include "shared/text.h"

EMBED(common_passwords, "handlers/user/common_passwords.txt");

#define PASSES 2
#define MEMORY_KIB 19456
#define MEMORY ((size_t)MEMORY_KIB * 1024)

#define QUOTE(x) #x
#define TEXT_OF(x) QUOTE(x)

/* As costly as any other, and of no password that could be found. */
static const char nobody[crypto_pwhash_STRBYTES]
    = "$argon2id$v=19$m=" TEXT_OF(MEMORY_KIB) ",t=" TEXT_OF(PASSES)
      ",p=1$AAAAAAAAAAAAAAAAAAAAAA"
      "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/* Is it a line of the list, which is sorted by its bytes? */
static bool
is_common(const char *password)
{
	const char *low = common_passwords, *high = low + strlen(low);
	size_t len = strlen(password);

	while (low < high) {
		const char *line = low + (high - low) / 2;
		size_t n;
		int order;

		while (line > low && line[-1] != '\n')
			line--;
		n = strcspn(line, "\n");
		order = memcmp(password, line, len < n ? len : n);
		if (order == 0 && len == n)
			return true;
		if (order < 0 || (order == 0 && len < n))
			high = line;
		else
			low = line + n + 1;
	}
	return false;
}

const char *
password_fault(struct arena *a, const char *password, const char *email)
{
	if (strcasecmp(password, email) == 0)
		return "must not be the e-mail address";
	if (is_common(text_lower(a, password)))
		return "is one of the most common passwords";
	return NULL;
}

enum err
password_hash(struct arena *a, const char *password, const char **hash)
{
	char out[crypto_pwhash_STRBYTES];

	if (crypto_pwhash_str(out, password, strlen(password), PASSES, MEMORY)
	    != 0)
		return ERR_UNAVAILABLE;
	*hash = arena_strdup(a, out);
	return OK;
}

enum err
password_verify(const char *hash, const char *password)
{
	int rc;

	errno = 0; /* by which alone libsodium tells a lack of memory */
	rc = crypto_pwhash_str_verify(
	    hash != NULL ? hash : nobody, password, strlen(password));
	if (rc == 0 && hash != NULL)
		return OK;
	return errno == ENOMEM ? ERR_UNAVAILABLE : ERR_UNAUTHENTICATED;
}

bool
password_is_stale(const char *hash)
{
	return crypto_pwhash_str_needs_rehash(hash, PASSES, MEMORY) != 0;
}
