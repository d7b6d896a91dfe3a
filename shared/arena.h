/*
 * Memory that goes all at once.
 *
 * Whatever a request allocates comes from an arena and is never freed by
 * itself; the thread that serves requests resets its arena when their replies
 * are on their way. Allocation cannot fail: without memory the process aborts
 * and its supervisor starts it again.
 *
 * Built with ARENA_MALLOC every allocation is a malloc of its own, so that
 * AddressSanitizer sees each of them.
 */
#ifndef COSTER_ARENA_H
#define COSTER_ARENA_H

#include <stdarg.h>
#include <stddef.h>

struct arena {
	struct arena_block *blocks; /* newest first */
	char *next, *end;	    /* free part of the newest block */
	struct arena_cleanup *cleanups;
	size_t used; /* bytes since the last reset */
};

void arena_init(struct arena *a);

/* Runs the clean-ups, then forgets all allocations; keeps one block. */
void arena_reset(struct arena *a);
void arena_release(struct arena *a);

/* size bytes, aligned for any type, not initialised. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);

/* Moves the first old bytes of p into size bytes; in place where it can. */
void *arena_grow(struct arena *a, void *p, size_t old, size_t size);

/* Exactly len bytes, whatever they are, and a NUL. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

/* Calls fn(p) at the next reset: for what a library allocated elsewhere, about so
 * many bytes, which count as used. */
void arena_defer(struct arena *a, void (*fn)(void *), void *p, size_t size);

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))

#endif
