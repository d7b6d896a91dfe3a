/*
 * What the fuzz targets share. A target is a file here that defines the two
 * functions below; the Makefile links each into a program of its own with
 * libFuzzer, its seeds and its dictionary. What must hold is asserted.
 */
#ifndef COSTER_FUZZ_H
#define COSTER_FUZZ_H

#include <assert.h>

#include "shared/json.h"
#include "shared/req.h"

/* Of an empty program, unless fuzz_start() sets another. */
extern struct ctx *fuzz_ctx;

/* Memory until the input is done with. */
#define FUZZ_ARENA (&fuzz_ctx->arena)

/* Called once, before all else. */
void fuzz_start(void);

/* One input: len bytes, and a NUL that len does not count. */
void fuzz_one(char *text, size_t len);

/* Cuts off the first line and answers it; *text is the rest, or "". */
char *fuzz_line(char **text);

/* A GET of /fuzz, as if it had just been read. */
void fuzz_request(struct req *r);

/* Finishes the reply, if there is one. No byte of its head may be a control
 * character but at the ends of its lines; a body that says it is JSON must be. */
void fuzz_reply(struct req *r);

#endif
