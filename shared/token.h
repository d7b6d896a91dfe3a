/*
 * Tokens that say who is asking: JSON Web Tokens (RFC 7519) signed with
 * Ed25519 (EdDSA, RFC 8037), and nothing else.
 *
 * The user service signs with a private key; every service verifies with the
 * public keys of a JSON Web Key Set (RFC 7517), several at once so that keys
 * can be changed while old tokens live on.
 */
#ifndef COSTER_TOKEN_H
#define COSTER_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"

#define TOKEN_KEYS_MAX 8
#define TOKEN_KID_SIZE 65
#define TOKEN_JTI_SIZE 65
#define TOKEN_SIZE_MAX 2048 /* characters of a token that is looked at */

enum role { ROLE_NOBODY, ROLE_CUSTOMER, ROLE_ADMIN, ROLE_SERVICE };

struct token_key {
	char kid[TOKEN_KID_SIZE];
	unsigned char public[32];
};

struct token_keys {
	struct token_key key[TOKEN_KEYS_MAX];
	size_t count;
};

struct token_signer {
	char kid[TOKEN_KID_SIZE];
	unsigned char secret[64]; /* seed and public key */
};

struct token_claims {
	int64_t sub;		  /* the user's id */
	enum role role;		  /* ROLE_CUSTOMER or ROLE_ADMIN */
	int64_t iat, exp;	  /* seconds since 1970 */
	char jti[TOKEN_JTI_SIZE]; /* the session's id, a dot, and a nonce */
};

/* Must have succeeded before all else here: starts libsodium. */
MUST_USE enum err token_start(void);

/* Makes a key: dir/signing.jwk (private, mode 0600; it must not exist) and
 * its public half, put in front of the keys in dir/jwks.json. */
MUST_USE enum err token_keygen(const char *dir);

/* Read the files that keygen makes; the log says what is wrong with them. */
MUST_USE enum err token_load_keys(struct token_keys *keys, const char *path);
MUST_USE enum err token_load_signer(struct token_signer *s, const char *path);

/* The key set as JSON, with public members only; arena. */
const char *token_jwks(struct arena *a, const struct token_keys *keys);

/* A token in compact form; arena. */
const char *token_issue(struct arena *a, const struct token_signer *s,
    const char *issuer, const struct token_claims *claims);

/* ERR_UNAUTHENTICATED, and *why a word for the log, unless the token is of
 * this issuer, signed with one of the keys, and good at now (seconds). */
MUST_USE enum err token_verify(struct arena *a, const struct token_keys *keys,
    const char *issuer, const char *token, int64_t now,
    struct token_claims *claims, const char **why);

/* Is it good at now (seconds) yet and still, by the times of its claims? */
bool token_is_current(const struct token_claims *claims, int64_t now);

const char *role_name(enum role role);
/* ROLE_NOBODY for a name that is none. */
enum role role_from_name(const char *name);

/* Base64 for URLs without padding, RFC 4648 section 5; arena. Decoding gives
 * NULL for what is not that. */
char *base64url_encode(struct arena *a, const void *p, size_t len);
void *base64url_decode(struct arena *a, const char *s, size_t slen, size_t *len);

/* n random bytes in base64url; arena. */
char *random_text(struct arena *a, size_t n);

#endif
