#include "shared/buf.h"

#include "shared/text.h"

static char empty[1];

void
buf_init(struct buf *b, struct arena *a)
{
	*b = (struct buf) { .data = empty, .arena = a };
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->cap > 0)
		b->data[0] = '\0';
}

void
buf_grow(struct buf *b, size_t n)
{
	size_t cap = b->cap > 0 ? b->cap : 256;

	while (cap - b->len <= n)
		cap *= 2;
	b->data = arena_grow(b->arena, b->cap > 0 ? b->data : NULL, b->cap, cap);
	b->cap = cap;
	b->data[b->len] = '\0';
}

void
buf_add(struct buf *b, const void *p, size_t n)
{
	buf_reserve(b, n);
	if (n > 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void
buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void
buf_addint(struct buf *b, int64_t v)
{
	char digits[TEXT_INT_SIZE];
	const char *text = text_from_int(v, digits);

	buf_add(b, text, (size_t)(digits + TEXT_INT_SIZE - 1 - text));
}

void
buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = arena_vprintf(b->arena, fmt, ap);
	va_end(ap);
	buf_adds(b, s);
}
