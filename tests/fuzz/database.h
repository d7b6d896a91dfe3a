/*
 * For targets with a database: what an input writes is undone after it, and
 * nothing of it goes to disk, so that each starts with the same and quickly.
 */
#ifndef COSTER_FUZZ_DATABASE_H
#define COSTER_FUZZ_DATABASE_H

#include "tests/fuzz/fuzz.h"
#include "tests/loopback.h"

/* The service that the program is linked with, with a new database. */
struct t *database_start(void);

/* Around the requests of an input. */
void database_begin(void);
void database_end(void);

/* As fuzz_request(), from our nginx. */
void database_request(struct req *r);

#endif
