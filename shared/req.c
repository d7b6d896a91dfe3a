#include "shared/req.h"

#include "shared/clock.h"
#include "shared/json.h"

const char *const param_names[] = {
	[PARAM_KEY] = "COSTER_KEY",
	[PARAM_PEER] = "COSTER_PEER",
	[PARAM_NETWORK] = "COSTER_NETWORK",
	[PARAM_METHOD] = "REQUEST_METHOD",
	[PARAM_SCRIPT_NAME] = "SCRIPT_NAME",
	[PARAM_PATH] = "PATH_INFO",
	[PARAM_QUERY] = "QUERY_STRING",
	[PARAM_CONTENT_TYPE] = "CONTENT_TYPE",
	[PARAM_CONTENT_LENGTH] = "CONTENT_LENGTH",
	[PARAM_REMOTE_ADDR] = "REMOTE_ADDR",
	[PARAM_REQUEST_ID] = "REQUEST_ID",
	[PARAM_TRACE] = "HTTP_X_REQUEST_ID",
	[PARAM_AUTHORIZATION] = "HTTP_AUTHORIZATION",
	[PARAM_ACCEPT] = "HTTP_ACCEPT",
	[PARAM_IF_MATCH] = "HTTP_IF_MATCH",
	[PARAM_IF_NONE_MATCH] = "HTTP_IF_NONE_MATCH",
	[PARAM_IDEMPOTENCY_KEY] = "HTTP_IDEMPOTENCY_KEY",
	[PARAM_COOKIE] = "HTTP_COOKIE",
	[PARAM_ORIGIN] = "HTTP_ORIGIN",
	[PARAM_USER_AGENT] = "HTTP_USER_AGENT",
	[PARAM_CSRF_TOKEN] = "HTTP_X_CSRF_TOKEN",
	[PARAM_DEADLINE_MS] = "HTTP_X_DEADLINE_MS",
};

void
req_init(struct req *r, struct ctx *ctx)
{
	*r = (struct req) { .ctx = ctx,
		.db = &ctx->db,
		.arena = &ctx->arena,
		.body = "",
		.started_us = clock_mono_us() };
	for (size_t i = 0; i < PARAM__COUNT; i++)
		r->param[i] = "";
	ctx->db.arena = &ctx->arena;
	faults_init(&r->faults, r->arena);
	reply_init(&r->reply, r->arena);
}

void
req_restart(struct req *r)
{
	struct req old = *r;

	req_init(r, old.ctx);
	memcpy(r->param, old.param, sizeof(r->param));
	r->body = old.body;
	r->body_len = old.body_len;
	r->body_too_large = old.body_too_large;
	r->started_us = old.started_us;
	r->reply.sink = old.reply.sink;
}

enum err
req_fail_as(struct req *r, enum err err, const char *type, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r->problem_type = type;
	r->problem_detail = arena_vprintf(r->arena, fmt, ap);
	va_end(ap);
	return err;
}

enum err
req_fault(struct req *r, const char *pointer, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	faults_add(&r->faults, pointer, arena_vprintf(r->arena, fmt, ap));
	va_end(ap);
	return ERR_INVALID;
}

static bool
is_json(const struct req *r)
{
	const char *type = r->param[PARAM_CONTENT_TYPE];
	size_t len = strcspn(type, "; ");

	return (len == strlen("application/json")
		   && strncasecmp(type, "application/json", len) == 0)
	    || (len == strlen("application/merge-patch+json")
		&& strncasecmp(type, "application/merge-patch+json", len) == 0
		&& strcmp(r->param[PARAM_METHOD], "PATCH") == 0);
}

enum err
req_json(struct req *r, struct json_object **root)
{
	const char *why;
	enum err err;

	if (r->body_too_large)
		return ERR_TOO_LARGE;
	if (!is_json(r))
		return req_fail(r, ERR_MEDIA_TYPE,
		    "send the body as application/json");
	err = json_parse(r->arena, r->body, r->body_len, root, &why);
	if (err == ERR_MALFORMED)
		return req_fail(r, err, "the body is not good JSON: %s", why);
	if (err)
		return req_fail(r, err, "%s", why);
	return OK;
}

enum err
req_body(struct req *r, void *into)
{
	const struct field_table *t = r->route->body;
	struct json_object *root;
	enum err err;

	if ((r->route->flags & ROUTE_MAYBE_BODY) && r->body_len == 0
	    && !r->body_too_large)
		return OK;
	if ((err = req_json(r, &root)))
		return err;
	field_read_object(&r->faults, root, t->list, t->count, into);
	return r->faults.count > 0 ? ERR_INVALID : OK;
}

enum err
req_query(struct req *r, void *into)
{
	static const struct field_table none;
	const struct field_table *t = r->route->query;

	if (t == NULL)
		t = &none;
	field_read_query(
	    &r->faults, r->param[PARAM_QUERY], t->list, t->count, into);
	return r->faults.count > 0 ? ERR_INVALID : OK;
}

enum err
req_if_match(struct req *r, int64_t version)
{
	const char *want = r->param[PARAM_IF_MATCH];

	if (*want == '\0' || etag_matches(want, version))
		return OK;
	return req_fail(r, ERR_PRECONDITION,
	    "it has changed: it is at version %lld now", (long long)version);
}

/* The q of a media range's parameters; 1 without one. */
static double
weight(const char *parameters, size_t len)
{
	for (size_t i = 1; i + 1 < len; i++)
		if ((parameters[i] | 32) == 'q' && parameters[i + 1] == '='
		    && strchr("; \t", parameters[i - 1]) != NULL)
			return strtod(parameters + i + 2, NULL);
	return 1;
}

/* How exactly a media range names the type: 3 whole, 2 its first half, 1 as
 * anything, 0 not at all. */
static int
match_range(const char *range, size_t len, const char *type)
{
	size_t half = strcspn(type, "/") + 1;

	if (len == strlen(type) && strncasecmp(range, type, len) == 0)
		return 3;
	if (len == half + 1 && range[half] == '*'
	    && strncasecmp(range, type, half) == 0)
		return 2;
	return len == 3 && strncmp(range, "*/*", 3) == 0;
}

/* How much Accept likes a type, 0 to 1: what names it most exactly counts. */
static double
quality(const char *accept, const char *type)
{
	double q = 0;
	int best = 0;

	while (*(accept += strspn(accept, ", \t")) != '\0') {
		size_t len = strcspn(accept, ","),
		       name = strcspn(accept, ";, \t");
		int match = match_range(accept, name, type);

		if (match > best) {
			best = match;
			q = weight(accept + name, len - name);
		}
		accept += len;
	}
	return q;
}

int
req_accepts(const struct req *r, const char *const *types)
{
	const char *accept = r->param[PARAM_ACCEPT];
	double best = 0;
	int which = -1;

	if (*accept == '\0')
		return 0;
	for (int i = 0; types[i] != NULL; i++) {
		double q = quality(accept, types[i]);

		if (q > best) {
			best = q;
			which = i;
		}
	}
	return which;
}

enum err
req_may_wait(const struct req *r)
{
	return r->db->kind == DB_GROUPED ? ERR_DEFER : OK;
}
