#include "shared/arena.h"

#include <stdint.h>

#define BLOCK_SIZE ((size_t)16 * 1024)
#define ALIGNMENT (_Alignof(max_align_t))

struct arena_block {
	struct arena_block *older;
	size_t size; /* of data */
	max_align_t data[];
};

struct arena_cleanup {
	struct arena_cleanup *older;
	void (*fn)(void *);
	void *p;
};

static struct arena_block *
block_new(size_t size, struct arena_block *older)
{
	struct arena_block *b = malloc(sizeof(*b) + size);

	if (b == NULL)
		abort();
	b->older = older;
	b->size = size;
	return b;
}

static void
blocks_free(struct arena_block *b, const struct arena_block *until)
{
	while (b != until) {
		struct arena_block *older = b->older;

		free(b);
		b = older;
	}
}

void
arena_init(struct arena *a)
{
	*a = (struct arena) { 0 };
}

void
arena_reset(struct arena *a)
{
	struct arena_block *kept = NULL;

	/* The list lives in the arena: run all of it before anything goes. */
	for (struct arena_cleanup *c = a->cleanups; c != NULL; c = c->older)
		c->fn(c->p);
	a->cleanups = NULL;
	a->used = 0;
#ifndef ARENA_MALLOC
	for (struct arena_block *b = a->blocks; b != NULL; b = b->older)
		if (b->older == NULL && b->size == BLOCK_SIZE)
			kept = b;
#endif
	blocks_free(a->blocks, kept);
	a->blocks = kept;
	a->next = kept != NULL ? (char *)kept->data : NULL;
	a->end = kept != NULL ? a->next + kept->size : NULL;
}

void
arena_release(struct arena *a)
{
	arena_reset(a);
	blocks_free(a->blocks, NULL);
	arena_init(a);
}

void *
arena_alloc(struct arena *a, size_t size)
{
	char *p;

	if (size > SIZE_MAX / 2)
		abort();
#ifdef ARENA_MALLOC
	a->used += size;
	a->blocks = block_new(size, a->blocks);
	p = (char *)a->blocks->data;
	a->next = a->end = p + size;
	return p;
#else
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	a->used += size;
	if ((size_t)(a->end - a->next) < size) {
		size_t want = size > BLOCK_SIZE ? size : BLOCK_SIZE;

		a->blocks = block_new(want, a->blocks);
		a->next = (char *)a->blocks->data;
		a->end = a->next + want;
	}
	p = a->next;
	a->next += size;
	return p;
#endif
}

void *
arena_zalloc(struct arena *a, size_t size)
{
	return memset(arena_alloc(a, size), 0, size);
}

void *
arena_grow(struct arena *a, void *p, size_t old, size_t size)
{
	size_t rounded = (old + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	void *moved;

	if (p != NULL && (char *)p + rounded == a->next
	    && size - rounded <= (size_t)(a->end - a->next)) {
		size_t more = (size - rounded + ALIGNMENT - 1)
		    & ~(ALIGNMENT - 1);

		if (more <= (size_t)(a->end - a->next)) {
			a->next += more;
			a->used += more;
			return p;
		}
	}
	moved = arena_alloc(a, size);
	if (old > 0)
		memcpy(moved, p, old);
	return moved;
}

char *
arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *p = arena_alloc(a, len + 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *
arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *
arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	char *here = a->next, *p;
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(here, (size_t)(a->end - here), fmt, again);
	va_end(again);
	if (n < 0)
		abort();
	p = arena_alloc(a, (size_t)n + 1);
	if (p != here) /* there was no room */
		vsnprintf(p, (size_t)n + 1, fmt, ap);
	return p;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return p;
}

void
arena_defer(struct arena *a, void (*fn)(void *), void *p, size_t size)
{
	struct arena_cleanup *c = arena_alloc(a, sizeof(*c));

	a->used += size;
	*c = (struct arena_cleanup) { .older = a->cleanups, .fn = fn, .p = p };
	a->cleanups = c;
}
