/*
 * Tokens that were verified before, so that each is verified once and not with
 * every request: a signature takes longer than all else of a read.
 *
 * A token is remembered by its hash, in one of a fixed number of places, until
 * its time is over or a newer one needs the place; each can have one of several, so
 * that a few customers at once do not take each other's. The hash is SipHash of 128 bits
 * with a key that only this process has: nobody can make a token to the hash of
 * another's. All threads share it.
 */
#ifndef COSTER_SEEN_H
#define COSTER_SEEN_H

#include "shared/token.h"

#define SEEN_PLACES 1024

struct seen;

struct seen *seen_new(void);
void seen_free(struct seen *seen);

/* As token_verify() in all else: the keys and the issuer must be the same each
 * time. */
MUST_USE enum err seen_verify(struct seen *seen, struct arena *a,
    const struct token_keys *keys, const char *issuer, const char *token,
    int64_t now, struct token_claims *c, const char **why);

#endif
