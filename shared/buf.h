/*
 * A string of bytes that grows, in an arena.
 *
 * data always ends in a NUL that len does not count, so a buffer of text is
 * also a C string. Growing doubles, in place while the buffer is the arena's
 * newest allocation.
 */
#ifndef COSTER_BUF_H
#define COSTER_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"

struct buf {
	char *data;
	size_t len, cap;
	struct arena *arena;
};

/* Borrows the arena, which must live as long as the buffer. */
void buf_init(struct buf *b, struct arena *a);
void buf_clear(struct buf *b);

/* Room for n bytes and a NUL behind what is there; grow when there is not. */
void buf_grow(struct buf *b, size_t n);

static inline void
buf_reserve(struct buf *b, size_t n)
{
	if (b->cap - b->len <= n)
		buf_grow(b, n);
}

static inline void
buf_addc(struct buf *b, char c)
{
	buf_reserve(b, 1);
	b->data[b->len++] = c;
	b->data[b->len] = '\0';
}

void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addint(struct buf *b, int64_t v);
void buf_addf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
