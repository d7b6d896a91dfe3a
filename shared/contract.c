#include "shared/contract.h"

#include <sysexits.h>

#include "shared/json.h"
#include "shared/service.h"

static const struct {
	unsigned flag;
	const char *name;
} flags[] = {
	{ ROUTE_ANYONE, "anyone" },
	{ ROUTE_SELF, "self" },
	{ ROUTE_USER, "user" },
	{ ROUTE_ADMIN, "admin" },
	{ ROUTE_SERVICE, "service" },
	{ ROUTE_INTERNAL, "internal" },
	{ ROUTE_SLOW, "slow" },
	{ ROUTE_SECRET, "secret" },
	{ ROUTE_MAYBE_BODY, "maybe-body" },
	{ ROUTE_EMPTY, "empty" },
	{ ROUTE_TAGGED, "tagged" },
};

static const char *const types[] = {
	[FIELD_INT] = "integer",
	[FIELD_TEXT] = "string",
	[FIELD_BOOL] = "boolean",
	[FIELD_JSON] = "object",
	[FIELD_LIST] = "array",
};

/* What JSON Schema has for a format: a name, or a pattern of ECMA-262. */
static const struct {
	const char *format, *pattern;
} formats[] = {
	[FORMAT_LINE] = { NULL, "^[^\\x00-\\x1F\\x7F]*$" },
	[FORMAT_PARAGRAPHS] = { NULL, "^[^\\x00-\\x08\\x0B\\x0C\\x0E-\\x1F\\x7F]*$" },
	[FORMAT_EMAIL] = { "email", NULL },
	[FORMAT_CURRENCY] = { NULL, "^[A-Z]{3}$" },
	[FORMAT_TIME] = { "date-time", NULL },
	[FORMAT_NAME] = { NULL, "^[a-z0-9_.-]+$" },
};
_Static_assert(ARRAY_LEN(formats) == FORMAT__COUNT, "every format has a schema");

static void put_object(
    struct buf *b, const char *key, const struct field_table *table);

static void
put_type(struct buf *b, const char *type, bool nullable)
{
	if (!nullable) {
		json_text(b, "type", type);
		return;
	}
	json_open(b, "type", '[');
	json_text(b, NULL, type);
	json_text(b, NULL, "null");
	json_close(b, ']');
}

static void
put_choices(struct buf *b, const char *const *choices)
{
	json_open(b, "enum", '[');
	for (; *choices != NULL; choices++)
		json_text(b, NULL, *choices);
	json_close(b, ']');
}

/* A currency and a time are as long as their format says. */
static void
put_text(struct buf *b, const struct field *f)
{
	if (f->choices != NULL) {
		put_choices(b, f->choices);
		return;
	}
	if (formats[f->format].format != NULL)
		json_text(b, "format", formats[f->format].format);
	if (formats[f->format].pattern != NULL)
		json_text(b, "pattern", formats[f->format].pattern);
	if (f->format == FORMAT_CURRENCY || f->format == FORMAT_TIME)
		return;
	if (f->min > 0)
		json_int(b, "minLength", f->min);
	json_int(b, "maxLength", field_max(f));
}

static void
put_field(struct buf *b, const char *key, const struct field *f)
{
	bool text = f->type == FIELD_TEXT || f->format == FORMAT_TIME;

	json_open(b, key, '{');
	put_type(b, text ? "string" : types[f->type],
	    f->flags & FIELD_NULLABLE);
	if (text) {
		put_text(b, f);
	} else if (f->type == FIELD_INT) {
		json_int(b, "minimum", f->min);
		json_int(b, "maximum", field_max(f));
	} else if (f->type == FIELD_LIST) {
		json_int(b, "minItems", f->min);
		json_int(b, "maxItems", field_max(f));
		put_object(b, "items", f->items);
	}
	json_close(b, '}');
}

static void
put_object(struct buf *b, const char *key, const struct field_table *table)
{
	json_open(b, key, '{');
	json_text(b, "type", "object");
	json_open(b, "properties", '{');
	for (size_t i = 0; i < table->count; i++)
		put_field(b, table->list[i].name, &table->list[i]);
	json_close(b, '}');
	json_open(b, "required", '[');
	for (size_t i = 0; i < table->count; i++)
		if (table->list[i].flags & FIELD_REQUIRED)
			json_text(b, NULL, table->list[i].name);
	json_close(b, ']');
	json_boolean(b, "additionalProperties", false);
	json_close(b, '}');
}

static void
put_types(struct buf *b, const struct route *route)
{
	static const char *const json[] = { "application/json", NULL };
	const char *const *t = route->types != NULL ? route->types : json;

	json_open(b, "types", '[');
	for (; !(route->flags & ROUTE_EMPTY) && *t != NULL; t++)
		json_textn(b, NULL, *t, strcspn(*t, ";"));
	json_close(b, ']');
}

static void
put_route(struct buf *b, const struct route *route)
{
	static const struct field_table none;

	json_open(b, NULL, '{');
	json_text(b, "method", route->method);
	json_text(b, "path", route->pattern);
	json_open(b, "flags", '[');
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (route->flags & flags[i].flag)
			json_text(b, NULL, flags[i].name);
	json_close(b, ']');
	put_types(b, route);
	put_object(b, "query", route->query != NULL ? route->query : &none);
	if (route->body != NULL)
		put_object(b, "body", route->body);
	if (route->batch != NULL)
		put_field(b, "batch", route->batch);
	json_close(b, '}');
}

static const struct route *
route_at(const struct service *svc, size_t i)
{
	const struct route_table *table;

	for (size_t t = 0; (table = service_table(svc, t)) != NULL; t++) {
		if (i < table->count)
			return &table->list[i];
		i -= table->count;
	}
	return NULL;
}

static int
print_contract(struct ctx *ctx, int argc, char **argv)
{
	const struct route *route;
	struct arena a;
	struct buf b;

	(void)argc, (void)argv;
	arena_init(&a);
	buf_init(&b, &a);
	json_open(&b, NULL, '[');
	for (size_t i = 0; (route = route_at(ctx->app->service, i)); i++)
		put_route(&b, route);
	json_close(&b, ']');
	puts(b.data);
	arena_release(&a);
	return EX_OK;
}

/* One line a route: method, path, who may call it, how it runs. */
static int
print_routes(struct ctx *ctx, int argc, char **argv)
{
	const struct route *route;

	(void)argc, (void)argv;
	for (size_t i = 0; (route = route_at(ctx->app->service, i)); i++) {
		printf("%s %s", route->method, route->pattern);
		for (size_t f = 0; f < ARRAY_LEN(flags); f++)
			if (route->flags & flags[f].flag)
				printf(" %s", flags[f].name);
		printf("\n");
	}
	return EX_OK;
}

static const struct command commands[] = {
	{ "routes", "", "list what it answers, and to whom", print_routes,
	    COMMAND_ALONE },
	{ "contract", "", "the same with the fields of each, as JSON Schema",
	    print_contract, COMMAND_ALONE },
};
const struct command_table contract_commands = COMMANDS(commands);
