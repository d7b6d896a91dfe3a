#include "shared/page.h"

#include "shared/json.h"
#include "shared/text.h"

/* A cursor is "order:id:key" in base64url; id and key of the last row seen. */
enum err
page_start(struct req *r, struct page *page)
{
	const char *text, *id, *key;
	size_t len;

	if (page->order == NULL)
		page->order = "id";
	if (page->cursor == NULL)
		return OK;
	text = base64url_decode(
	    r->arena, page->cursor, strlen(page->cursor), &len);
	if (text == NULL || strlen(text) != len || text_length(text, len) < 0
	    || (id = strchr(text, ':')) == NULL
	    || (key = strchr(++id, ':')) == NULL
	    || !text_to_int(id, (size_t)(key - id), &page->after_id)
	    || strncmp(text, page->order, (size_t)(id - 1 - text)) != 0
	    || strlen(page->order) != (size_t)(id - 1 - text))
		return req_fault(r, "?cursor", "is not a cursor of this list");
	page->after_key = key + 1;
	return OK;
}

struct buf *
page_open(struct req *r)
{
	struct buf *b = reply_json(r, 200);

	json_open(b, NULL, '{');
	json_open(b, "items", '[');
	return b;
}

bool
page_take(struct req *r, struct page *page, int64_t id, const char *key)
{
	if (page->count == page->limit) {
		page->more = true;
		return false;
	}
	page->count++;
	if (r->reply.body.len > PAGE_BYTES)
		page->limit = page->count;
	if (page->count == page->limit) {
		page->last_id = id;
		page->last_key = key != NULL ? arena_strdup(r->arena, key) : "";
	}
	return true;
}

static void
put_in_uri(struct buf *b, char c)
{
	if (c > ' ' && c < 0x7f && strchr("\"<>\\^`{|}", c) == NULL)
		buf_addc(b, c);
	else
		buf_addf(b, "%%%02X", (unsigned char)c);
}

/* The query as it came, less its cursor, and with what has no place in a URI
 * (RFC 3986 section 3.4) percent-encoded: it goes between angle brackets. */
static const char *
query_without_cursor(struct req *r)
{
	const char *q = r->param[PARAM_QUERY];
	struct buf b;

	buf_init(&b, r->arena);
	while (*q != '\0') {
		size_t len = strcspn(q, "&");

		if (len > 0 && strncmp(q, "cursor=", 7) != 0) {
			for (size_t i = 0; i < len; i++)
				put_in_uri(&b, q[i]);
			buf_addc(&b, '&');
		}
		q += len + (q[len] == '&');
	}
	return b.data;
}

void
page_close(struct req *r, struct page *page)
{
	struct buf *b = &r->reply.body;
	const char *cursor = NULL;

	if (page->more) {
		const char *text = arena_printf(r->arena, "%s:%lld:%s",
		    page->order, (long long)page->last_id, page->last_key);

		cursor = base64url_encode(r->arena, text, strlen(text));
		reply_field(r, "Link", "<%s%s?%scursor=%s>; rel=\"next\"",
		    r->param[PARAM_SCRIPT_NAME], r->param[PARAM_PATH],
		    query_without_cursor(r), cursor);
	}
	json_close(b, ']');
	json_text(b, "next_cursor", cursor);
	json_close(b, '}');
}
