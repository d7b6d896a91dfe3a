/* Idempotency keys. An input is lines: key, body, key, body, … Each makes a
 * request of a service that counts what it does, and a list of what came
 * before says how it must be answered. */
#include "tests/fuzz/database.h"

#include "shared/handle.h"
#include "shared/service.h"

#define CALLS_MAX 8

static handler_fn post_thing;

static const struct route routes[] = {
	{ "POST", "/thing", post_thing, ROUTE_ANYONE },
	{ "POST", "/slow", post_thing, ROUTE_ANYONE | ROUTE_SLOW },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "fuzz", .routes = tables, .route_count = ARRAY_LEN(tables), .schema = ""
};

static int effects;

static enum err
post_thing(struct req *r)
{
	struct buf *b = reply_json(r, 201);

	json_open(b, NULL, '{');
	json_int(b, "effect", ++effects);
	json_close(b, '}');
	return OK;
}

struct done {
	const char *key, *body;
	int effect;
};

void
fuzz_start(void)
{
	database_start();
}

static bool
is_good(const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)key[i] <= ' ' || (unsigned char)key[i] >= 0x7f)
			return false;
	return len >= 1 && len <= 255;
}

/* The status that is due; *effect is the number in its body. */
static int
due(const struct done *before, int n, const struct done *now, int *effect)
{
	*effect = effects + 1;
	if (*now->key == '\0')
		return 201;
	if (!is_good(now->key))
		return 422;
	for (int i = 0; i < n; i++) {
		if (strcmp(before[i].key, now->key) != 0)
			continue;
		*effect = before[i].effect;
		return strcmp(before[i].body, now->body) == 0 ? 201 : 422;
	}
	return 201;
}

static void
ask(const char *path, struct done *before, int *n, struct done now)
{
	int status = due(before, *n, &now, &now.effect);
	struct req r;

	database_request(&r);
	r.param[PARAM_METHOD] = "POST";
	r.param[PARAM_PATH] = path;
	r.param[PARAM_IDEMPOTENCY_KEY] = now.key;
	r.body = now.body;
	r.body_len = strlen(now.body);
	assert(handle(&r) == OK);
	fuzz_reply(&r);
	assert(r.reply.status == status);
	if (status != 201)
		return;
	assert(strcmp(r.reply.body.data,
		   arena_printf(FUZZ_ARENA, "{\"effect\":%d}", now.effect))
	    == 0);
	if (*now.key != '\0')
		before[(*n)++] = now;
}

void
fuzz_one(char *text, size_t len)
{
	struct done before[CALLS_MAX];
	const char *path = len % 2 ? "/thing" : "/slow";
	int n = 0;

	effects = 0;
	database_begin();
	for (int i = 0; i < CALLS_MAX && *text != '\0'; i++) {
		const char *key = fuzz_line(&text);

		ask(path, before, &n, (struct done) { key, fuzz_line(&text), 0 });
	}
	database_end();
}
