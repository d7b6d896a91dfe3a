/*
 * Passwords: Argon2id (RFC 9106) by libsodium with the parameters that OWASP
 * advises, 19 MiB, two passes and one lane.
 *
 * A hash says with which parameters it was made, so they can be raised: a hash
 * that is stale is made anew at the next sign-in. Hashing takes that memory and
 * tens of milliseconds. It belongs on a worker thread, of which there are few,
 * and outside of transactions.
 */
#ifndef COSTER_USER_PASSWORD_H
#define COSTER_USER_PASSWORD_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"

/* What is wrong with a new password beside its length, or NULL (NIST SP
 * 800-63B section 5.1.1.2): it is one of the 10,000 most common, in any case,
 * or the address. */
const char *password_fault(
    struct arena *a, const char *password, const char *email);

/* The hash as text; arena. ERR_UNAVAILABLE without the memory for it. */
MUST_USE enum err password_hash(
    struct arena *a, const char *password, const char **hash);

/* ERR_UNAUTHENTICATED for another password, and after the same time for a hash
 * of NULL, which is nobody's; ERR_UNAVAILABLE without the memory for it. */
MUST_USE enum err password_verify(const char *hash, const char *password);

/* Was it made with other parameters than are in use now? */
bool password_is_stale(const char *hash);

#endif
