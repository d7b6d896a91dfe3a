/* Cursors. The first line is what a client sends back, the second the key of
 * a row that becomes a cursor and must come back as it was, the rest a query
 * that is repeated in Link. */
#include "tests/fuzz/fuzz.h"

#include "shared/page.h"
#include "shared/text.h"
#include "shared/token.h"

void
fuzz_start(void)
{
	assert(token_start() == OK);
}

static void
read_any(const char *cursor)
{
	struct page page = { .limit = 1, .cursor = cursor, .order = "name" };
	struct req r;

	fuzz_request(&r);
	if (page_start(&r, &page)) {
		assert(r.faults.count == 1);
		return;
	}
	assert(page.after_id >= 0 && page.after_id <= INT_MAX_EXACT);
	assert(text_length(page.after_key, strlen(page.after_key)) >= 0);
}

static void
go_round(const char *key, const char *query)
{
	struct page page = { .limit = 1, .order = "name" };
	struct page next = { .limit = 1, .order = "name" };
	struct json_object *root, *cursor;
	const char *why;
	struct req r;

	fuzz_request(&r);
	r.param[PARAM_QUERY] = query;
	page_open(&r);
	assert(page_take(&r, &page, 7, key));
	assert(!page_take(&r, &page, 8, key));
	page_close(&r, &page);
	fuzz_reply(&r);
	assert(json_parse(FUZZ_ARENA, r.reply.body.data, r.reply.body.len, &root,
		   &why)
	    == OK);
	assert(json_object_object_get_ex(root, "next_cursor", &cursor));
	next.cursor = json_object_get_string(cursor);
	assert(page_start(&r, &next) == OK);
	assert(next.after_id == 7 && strcmp(next.after_key, key) == 0);
}

void
fuzz_one(char *text, size_t len)
{
	char *cursor = fuzz_line(&text), *key = fuzz_line(&text);

	(void)len;
	read_any(cursor);
	if (text_length(key, strlen(key)) >= 0)
		go_round(key, text);
}
