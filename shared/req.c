#include "shared/req.h"

#include "shared/clock.h"
#include "shared/json.h"

const char *const param_names[] = {
	[PARAM_KEY] = "COSTER_KEY",
	[PARAM_PEER] = "COSTER_PEER",
	[PARAM_NETWORK] = "COSTER_NETWORK",
	[PARAM_CORS] = "COSTER_CORS",
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
req_resume(struct req *r, struct ctx *ctx, const struct req *sent)
{
	req_init(r, ctx);
	memcpy(r->param, sent->param, sizeof(r->param));
	r->body = sent->body;
	r->body_len = sent->body_len;
	r->body_too_large = sent->body_too_large;
	r->answer = sent->answer;
	r->started_us = sent->started_us;
	r->reply.sink = sent->reply.sink;
}

void
req_restart(struct req *r)
{
	struct req sent = *r;

	req_resume(r, sent.ctx, &sent);
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
is_of_type(const struct req *r, const char *type)
{
	const char *given = r->param[PARAM_CONTENT_TYPE];
	size_t len = strcspn(given, "; \t");

	return len == strlen(type) && strncasecmp(given, type, len) == 0;
}

bool
req_is_merge_patch(const struct req *r)
{
	return is_of_type(r, MERGE_PATCH)
	    && strcmp(r->param[PARAM_METHOD], "PATCH") == 0;
}

enum err
req_json(struct req *r, struct json_object **root)
{
	const char *why;
	enum err err;

	if (r->body_too_large)
		return ERR_TOO_LARGE;
	if (!is_of_type(r, "application/json") && !req_is_merge_patch(r))
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
req_conditions(struct req *r, int64_t version)
{
	const char *match = r->param[PARAM_IF_MATCH],
		   *none_match = r->param[PARAM_IF_NONE_MATCH];
	bool read = strcmp(r->route->method, "GET") == 0;
	bool stale = *match != '\0' && !etag_matches(match, version);

	if (!stale && (read || !etag_matches(none_match, version)))
		return OK;
	if (version == INT_NONE)
		return req_fail(
		    r, ERR_PRECONDITION, "it is there, and has no version");
	return req_fail(r, ERR_PRECONDITION, "it is at version %lld now",
	    (long long)version);
}

/* The q of a media range's parameters in thousandths; 1000 without one, 0 for
 * what is no weight (RFC 9110 section 12.4.2). */
static int
weight(const char *parameters, size_t len)
{
	const char *p = parameters, *end = parameters + len;
	int q = 0;

	for (; end - p > 2; p++)
		if (strchr("; \t", *p) != NULL && (p[1] | 32) == 'q'
		    && p[2] == '=')
			break;
	if (end - p <= 2)
		return 1000;
	p += 3;
	if (p < end && (*p == '0' || *p == '1'))
		q = (*p++ - '0') * 1000;
	if (p < end && *p == '.')
		for (int unit = 100; ++p < end && *p >= '0' && *p <= '9';
		     unit /= 10)
			q += (*p - '0') * unit;
	return q <= 1000 ? q : 0;
}

/* How exactly a media range names the type: 3 whole, 2 its first half, 1 as
 * anything, 0 not at all. */
static int
match_range(const char *range, size_t len, const char *type)
{
	size_t half = strcspn(type, "/") + 1;

	if (len == strcspn(type, ";") && strncasecmp(range, type, len) == 0)
		return 3;
	if (len == half + 1 && range[half] == '*'
	    && strncasecmp(range, type, half) == 0)
		return 2;
	return len == 3 && strncmp(range, "*/*", 3) == 0;
}

/* How much Accept likes a type: what names it most exactly counts. */
static int
quality(const char *accept, const char *type)
{
	int best = 0, q = 0;

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

enum err
req_negotiate(struct req *r)
{
	static const char *const json[] = { "application/json", NULL };
	const char *const *types = r->route->types;
	const char *accept = r->param[PARAM_ACCEPT];
	int best = 0;

	if (*accept == '\0' || (r->route->flags & ROUTE_EMPTY))
		return OK;
	if (types == NULL)
		types = json;
	for (int i = 0; types[i] != NULL; i++) {
		int q = quality(accept, types[i]);

		if (q > best) {
			best = q;
			r->type = i;
		}
	}
	return best > 0 ? OK : ERR_NOT_ACCEPTABLE;
}

void
req_ask(struct req *r, int64_t timeout_ms, struct peer_answer *answer)
{
	*answer = (struct peer_answer) { .asked_at = clock_ms() };
	answer->err = client_call(r->ctx->client, r->arena,
	    &(struct client_call) { .method = "GET",
		.path = r->question,
		.trace = r->param[PARAM_TRACE],
		.timeout_ms = timeout_ms },
	    &answer->reply);
}

enum err
req_may_wait(const struct req *r)
{
	return r->db->kind == DB_GROUPED ? ERR_DEFER : OK;
}
