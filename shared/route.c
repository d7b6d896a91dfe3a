#include "shared/route.h"

#include <stdbool.h>

#include "shared/log.h"
#include "shared/text.h"

#define SEGMENTS_MAX 6
#define WORD_MAX 128

enum kind { LITERAL, UID, ID, WORD };

struct segment {
	const char *text;
	size_t len;
	enum kind kind;
};

struct path {
	struct segment segment[SEGMENTS_MAX];
	size_t count;
};

struct compiled {
	const struct route *route;
	struct path path;
};

struct router {
	size_t count;
	struct compiled routes[];
};

/* With and without the slash at the end is the same path. */
static bool
split(struct path *p, const char *s)
{
	p->count = 0;
	if (*s != '/')
		return false;
	while (*s == '/' && s[1] != '\0') {
		struct segment *seg = &p->segment[p->count];

		if (p->count == SEGMENTS_MAX)
			return false;
		seg->text = ++s;
		seg->len = strcspn(s, "/");
		if (seg->len == 0)
			return false;
		s += seg->len;
		p->count++;
	}
	return true;
}

static bool
compile(struct compiled *c, const struct route *route)
{
	static const struct {
		const char *name;
		enum kind kind;
	} variables[] = { { "{uid}", UID }, { "{id}", ID }, { "{word}", WORD } };

	c->route = route;
	if (!(route->flags & ROUTE_WHO) || route->fn == NULL
	    || (route->question != NULL
		&& (route->flags & ROUTE_SLOW
		    || strcmp(route->method, "GET") == 0))
	    || !split(&c->path, route->pattern))
		return false;
	for (size_t i = 0; i < c->path.count; i++) {
		struct segment *s = &c->path.segment[i];

		if (*s->text != '{')
			continue;
		for (size_t v = 0; v < ARRAY_LEN(variables); v++)
			if (strlen(variables[v].name) == s->len
			    && strncmp(s->text, variables[v].name, s->len) == 0)
				s->kind = variables[v].kind;
		if (s->kind == LITERAL)
			return false;
	}
	return true;
}

enum err
router_new(struct router **router, const struct route_table *const *tables,
    size_t count)
{
	struct router *r;
	size_t n = 0;

	for (size_t t = 0; t < count; t++)
		n += tables[t]->count;
	r = calloc(1, sizeof(*r) + n * sizeof(r->routes[0]));
	if (r == NULL)
		abort();
	for (size_t t = 0; t < count; t++)
		for (size_t i = 0; i < tables[t]->count; i++) {
			const struct route *route = &tables[t]->list[i];

			if (!compile(&r->routes[r->count++], route)) {
				LOG(LOG_ERROR, "bad route",
				    LOG_TEXT("method", route->method),
				    LOG_TEXT("pattern", route->pattern));
				free(r);
				return ERR_INTERNAL;
			}
		}
	*router = r;
	return OK;
}

void
router_free(struct router *router)
{
	free(router);
}

static bool
match_segment(const struct segment *want, const struct segment *have,
    struct route_match *m)
{
	switch (want->kind) {
	case LITERAL:
		return want->len == have->len
		    && memcmp(want->text, have->text, want->len) == 0;
	case UID:
		return text_to_int(have->text, have->len, &m->uid) && m->uid > 0;
	case ID:
		return text_to_int(have->text, have->len, &m->id) && m->id > 0;
	case WORD:
		m->word = have->text;
		return have->len <= WORD_MAX
		    && strspn(have->text,
			   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			   "0123456789-_")
			>= have->len;
	}
	return false;
}

static bool
match_path(const struct path *want, const struct path *have,
    struct route_match *m)
{
	if (want->count != have->count)
		return false;
	/* What another pattern took before it did not fit. */
	m->uid = m->id = 0;
	m->word = NULL;
	for (size_t i = 0; i < want->count; i++)
		if (!match_segment(&want->segment[i], &have->segment[i], m))
			return false;
	return true;
}

enum err
router_find(const struct router *router, struct arena *a, const char *method,
    const char *path, struct route_match *m)
{
	bool head = strcmp(method, "HEAD") == 0;
	struct path have;

	*m = (struct route_match) { 0 };
	if (!split(&have, path))
		return ERR_NOT_FOUND;
	for (size_t i = 0; i < router->count; i++) {
		const struct compiled *c = &router->routes[i];
		bool get = strcmp(c->route->method, "GET") == 0;

		if (!match_path(&c->path, &have, m))
			continue;
		if (strcmp(c->route->method, method) == 0 || (head && get)) {
			m->route = c->route;
			if (m->word != NULL)
				m->word = arena_strndup(
				    a, m->word, strcspn(m->word, "/"));
			return OK;
		}
		m->allow = arena_printf(a, "%s%s%s%s",
		    m->allow != NULL ? m->allow : "",
		    m->allow != NULL ? ", " : "", c->route->method,
		    get ? ", HEAD" : "");
	}
	if (m->allow == NULL)
		return ERR_NOT_FOUND;
	m->allow = arena_printf(a, "%s, OPTIONS", m->allow);
	return ERR_METHOD;
}
