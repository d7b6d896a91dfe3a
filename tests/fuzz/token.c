/* Tokens. The first line is looked at as it is; the second and third become
 * head and claims of one that is signed well, so that what is behind the
 * signature is reached too. */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>

#include "shared/token.h"

#define ISSUER "https://shop.example"
#define TIME INT64_C(1800000000)

static struct token_keys keys = { .count = 1 };
static struct token_signer signer = { .kid = "one" };

/* A signature of this byte alone is good; signing would be most of the time. */
#define GOOD_SIGNATURE 0x5a

int
crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
    unsigned long long len, const unsigned char *public)
{
	(void)m, (void)len, (void)public;
	for (size_t i = 0; i < crypto_sign_BYTES; i++)
		if (sig[i] != GOOD_SIGNATURE)
			return -1;
	return 0;
}

int
crypto_sign_detached(unsigned char *sig, unsigned long long *sig_len,
    const unsigned char *m, unsigned long long len, const unsigned char *secret)
{
	(void)sig_len, (void)m, (void)len, (void)secret;
	memset(sig, GOOD_SIGNATURE, crypto_sign_BYTES);
	return 0;
}

void
fuzz_start(void)
{
	assert(token_start() == OK);
	memcpy(keys.key[0].kid, signer.kid, sizeof(signer.kid));
}

static enum err
verify(const char *token, struct token_claims *c)
{
	const char *why = NULL;
	enum err err
	    = token_verify(FUZZ_ARENA, &keys, ISSUER, token, TIME, c, &why);

	assert(err == OK || (err == ERR_UNAUTHENTICATED && *why != '\0'));
	return err;
}

/* What is taken is in bounds, and is the same when it is issued by us. */
static void
check(const char *token)
{
	struct token_claims c = { 0 }, again = { 0 };

	if (verify(token, &c))
		return;
	assert(strlen(token) <= TOKEN_SIZE_MAX);
	assert(c.sub > 0 && c.sub <= INT_MAX_EXACT);
	assert(c.role == ROLE_CUSTOMER || c.role == ROLE_ADMIN);
	assert(c.exp > TIME && c.iat <= TIME + 60);
	assert(strlen(c.jti) < TOKEN_JTI_SIZE);
	assert(
	    verify(token_issue(FUZZ_ARENA, &signer, ISSUER, &c), &again) == OK);
	assert(c.sub == again.sub && c.role == again.role && c.iat == again.iat
	    && c.exp == again.exp && strcmp(c.jti, again.jti) == 0);
}

void
fuzz_one(char *text, size_t len)
{
	char *raw = fuzz_line(&text), *head = fuzz_line(&text);
	unsigned char sig[crypto_sign_BYTES];

	(void)len;
	memset(sig, GOOD_SIGNATURE, sizeof(sig));
	check(raw);
	check(arena_printf(FUZZ_ARENA, "%s.%s.%s",
	    base64url_encode(FUZZ_ARENA, head, strlen(head)),
	    base64url_encode(FUZZ_ARENA, text, strlen(text)),
	    base64url_encode(FUZZ_ARENA, sig, sizeof(sig))));
}
