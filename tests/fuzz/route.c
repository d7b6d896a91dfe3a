/* The router, against regular expressions that say the same of each pattern.
 * An input is a method, a space and a path. */
#include "tests/fuzz/fuzz.h"

#include <regex.h>

#include "shared/route.h"

static enum err
nothing(struct req *r)
{
	(void)r;
	return OK;
}

/* Every shape that a service has, and some that get in each other's way. */
static const struct route routes[] = {
	{ "POST", "/user", nothing, ROUTE_ANYONE },
	{ "GET", "/user/{uid}", nothing, ROUTE_SELF },
	{ "PATCH", "/user/{uid}", nothing, ROUTE_SELF },
	{ "POST", "/user/verification", nothing, ROUTE_ANYONE },
	{ "GET", "/user/{uid}/cart", nothing, ROUTE_SELF },
	{ "DELETE", "/user/{uid}/cart/{id}", nothing, ROUTE_SELF },
	{ "POST", "/user/{uid}/cart/checkout", nothing, ROUTE_SELF },
	{ "POST", "/password_reset/{word}", nothing, ROUTE_ANYONE },
	{ "GET", "/.well-known/jwks.json", nothing, ROUTE_ANYONE },
	{ "GET", "/product/{id}", nothing, ROUTE_ANYONE },
	{ "POST", "/product/{word}/{id}/{uid}/x/y", nothing, ROUTE_ANYONE },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

static const struct {
	const char *name, *expression;
} variables[] = {
	{ "{uid}", "[1-9][0-9]{0,15}" },
	{ "{id}", "[1-9][0-9]{0,15}" },
	{ "{word}", "[A-Za-z0-9_-]{1,128}" },
};

static struct router *router;
static regex_t expressions[ARRAY_LEN(routes)];

static const char *
expression_of(const char *pattern)
{
	const char *out = "^";

	while (*pattern != '\0') {
		size_t v = 0, n;

		while (v < ARRAY_LEN(variables)
		    && strncmp(pattern, variables[v].name,
			   n = strlen(variables[v].name)) != 0)
			v++;
		if (v < ARRAY_LEN(variables)) {
			out = arena_printf(
			    FUZZ_ARENA, "%s%s", out, variables[v].expression);
			pattern += n;
		} else {
			out = arena_printf(FUZZ_ARENA, "%s[%c]", out, *pattern);
			pattern++;
		}
	}
	return arena_printf(FUZZ_ARENA, "%s/?$", out);
}

void
fuzz_start(void)
{
	assert(router_new(&router, tables, ARRAY_LEN(tables)) == OK);
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		assert(regcomp(&expressions[i], expression_of(routes[i].pattern),
			   REG_EXTENDED | REG_NOSUB)
		    == 0);
}

/* Numbers beyond 2^53 no route takes; an expression cannot count that far. */
static int
too_great(const char *path)
{
	for (; *path != '\0'; path += strspn(path, "/")) {
		size_t n = strcspn(path, "/");

		if (n == 16 && strspn(path, "0123456789") == n
		    && strtoull(path, NULL, 10) > INT_MAX_EXACT)
			return 1;
		path += n;
	}
	return 0;
}

void
fuzz_one(char *text, size_t len)
{
	char *path = strchr(text, ' ');
	const struct route *first = NULL;
	struct route_match m;
	int fits = 0;
	enum err err;

	(void)len;
	if (path == NULL || too_great(path + 1))
		return;
	*path++ = '\0';
	err = router_find(router, FUZZ_ARENA, text, path, &m);
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		if (regexec(&expressions[i], path, 0, NULL, 0) != 0)
			continue;
		fits++;
		if (first == NULL
		    && (strcmp(routes[i].method, text) == 0
			|| (strcmp(text, "HEAD") == 0
			    && strcmp(routes[i].method, "GET") == 0)))
			first = &routes[i];
	}
	assert(m.route == first);
	assert(
	    err == (first != NULL ? OK : fits > 0 ? ERR_METHOD : ERR_NOT_FOUND));
	assert(err != ERR_METHOD || strstr(m.allow, "OPTIONS") != NULL);
	if (err == OK && strstr(first->pattern, "{word}") != NULL)
		assert(m.word != NULL && strchr(m.word, '/') == NULL);
}
