#include "shared/reply.h"

#include "shared/problem.h"
#include "shared/req.h"

#define FLUSH_SIZE ((size_t)32 * 1024)

void
reply_init(struct reply *reply, struct arena *a)
{
	*reply = (struct reply) { .version = INT_NONE,
		.cache_control = "private, no-store" };
	buf_init(&reply->fields, a);
	buf_init(&reply->body, a);
}

struct buf *
reply_type(struct req *r, int status, const char *content_type)
{
	r->reply.status = status;
	r->reply.version = INT_NONE;
	buf_clear(&r->reply.fields);
	buf_clear(&r->reply.body);
	buf_adds(&r->reply.fields, "Content-Type: ");
	buf_adds(&r->reply.fields, content_type);
	buf_adds(&r->reply.fields, "\r\n");
	return &r->reply.body;
}

struct buf *
reply_json(struct req *r, int status)
{
	return reply_type(r, status, "application/json");
}

enum err
reply_empty(struct req *r, int status)
{
	r->reply.status = status;
	r->reply.version = INT_NONE;
	buf_clear(&r->reply.fields);
	buf_clear(&r->reply.body);
	return OK;
}

void
reply_field(struct req *r, const char *name, const char *fmt, ...)
{
	struct buf *b = &r->reply.fields;
	va_list ap;

	va_start(ap, fmt);
	buf_adds(b, name);
	buf_adds(b, ": ");
	buf_adds(b, arena_vprintf(r->arena, fmt, ap));
	buf_adds(b, "\r\n");
	va_end(ap);
}

void
reply_location(struct req *r, const char *collection, int64_t id)
{
	struct buf *b = &r->reply.fields;

	buf_adds(b, "Location: ");
	buf_adds(b, r->param[PARAM_SCRIPT_NAME]);
	buf_adds(b, collection);
	buf_addc(b, '/');
	buf_addint(b, id);
	buf_adds(b, "\r\n");
}

void
reply_version(struct req *r, int64_t version)
{
	r->reply.version = version;
	buf_adds(&r->reply.fields, "ETag: \"");
	buf_addint(&r->reply.fields, version);
	buf_adds(&r->reply.fields, "\"\r\n");
}

bool
etag_matches(const char *field, int64_t version)
{
	char tag[24];
	size_t len;

	if (strcmp(field, "*") == 0)
		return true;
	if (*field == '\0' || version == INT_NONE)
		return false;
	len = (size_t)snprintf(
	    tag, sizeof(tag), "\"%lld\"", (long long)version);
	while (*(field += strspn(field, ", \t")) != '\0') {
		const char *start = field;
		size_t n;

		if (strncmp(start, "W/", 2) == 0)
			start += 2;
		n = 1 + strcspn(start + (*start == '"'), "\"") + 1;
		if (*start != '"' || start[n - 1] != '"')
			return false; /* no list of tags */
		field = start + n;
		field += strspn(field, " \t");
		if (*field != ',' && *field != '\0')
			return false;
		if (n == len && strncmp(start, tag, len) == 0)
			return true;
	}
	return false;
}

/* Which request fields the reply is chosen by, nginx's compression among them,
 * and which pages may read it (the fetch standard's CORS protocol). Cookies are
 * for the shop's own pages: to others nobody allows credentials. */
static void
put_origin(const struct req *r, struct buf *head)
{
	const char *origin = r->param[PARAM_CORS];

	buf_adds(head, "Vary: Accept-Encoding, Origin");
	if (r->route != NULL && r->route->types != NULL)
		buf_adds(head, ", Accept");
	buf_adds(head, "\r\n");
	if (*origin == '\0')
		return;
	buf_adds(head, "Access-Control-Allow-Origin: ");
	buf_adds(head, origin);
	buf_adds(head,
	    "\r\nAccess-Control-Expose-Headers: Allow, Content-Disposition,"
	    " ETag, Idempotent-Replayed, Link, Location, Retry-After,"
	    " WWW-Authenticate, X-Request-Id\r\n");
}

/* The status line and all header fields but Content-Length. */
static void
put_head(struct req *r, struct buf *head)
{
	struct reply *reply = &r->reply;

	buf_adds(head, "Status: ");
	buf_addint(head, reply->status);
	buf_addc(head, ' ');
	buf_adds(head, status_title(reply->status));
	buf_adds(head, "\r\n");
	buf_add(head, reply->fields.data, reply->fields.len);
	buf_adds(head, "Cache-Control: ");
	buf_adds(head, reply->cache_control);
	buf_adds(head, "\r\n");
	put_origin(r, head);
	buf_adds(head, "X-Request-Id: ");
	buf_adds(head, r->param[PARAM_TRACE]);
	buf_adds(head, "\r\n");
}

static enum err
send_body(struct req *r)
{
	struct reply *reply = &r->reply;
	struct buf head;
	char last;

	if (!reply->started) {
		if (!reply->sink->begin(reply->sink))
			return ERR_UNAVAILABLE;
		buf_init(&head, r->arena);
		put_head(r, &head);
		buf_adds(&head, "\r\n");
		reply->started = true;
		if (!reply->sink->write(reply->sink, head.data, head.len))
			reply->lost = true;
	}
	/* The last byte stays: by it the JSON writer knows a comma is due. */
	last = reply->body.data[--reply->body.len];
	if (!reply->lost
	    && !reply->sink->write(
		reply->sink, reply->body.data, reply->body.len))
		reply->lost = true;
	buf_clear(&reply->body);
	buf_addc(&reply->body, last);
	return reply->lost ? ERR_UNAVAILABLE : OK;
}

enum err
reply_flush(struct req *r)
{
	if (r->reply.body.len < FLUSH_SIZE || r->reply.sink == NULL)
		return OK;
	if (strcmp(r->param[PARAM_METHOD], "HEAD") == 0) {
		r->reply.cut = true;
		buf_clear(&r->reply.body);
		return OK;
	}
	return send_body(r);
}

void
reply_finish(struct req *r, struct buf *head)
{
	struct reply *reply = &r->reply;
	const char *method = r->param[PARAM_METHOD];
	bool is_head = strcmp(method, "HEAD") == 0;

	buf_init(head, r->arena);
	if (reply->started)
		return;
	if (reply->status == 200 && *r->param[PARAM_IF_NONE_MATCH] != '\0'
	    && (is_head || strcmp(method, "GET") == 0)
	    && etag_matches(r->param[PARAM_IF_NONE_MATCH], reply->version)) {
		reply->status = 304;
		buf_clear(&reply->body);
	}
	put_head(r, head);
	if (reply->status != 204 && reply->status != 304 && !reply->cut) {
		buf_adds(head, "Content-Length: ");
		buf_addint(head, (int64_t)reply->body.len);
		buf_adds(head, "\r\n");
	}
	buf_adds(head, "\r\n");
	if (is_head)
		buf_clear(&reply->body);
}
