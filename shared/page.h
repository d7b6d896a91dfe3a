/*
 * Lists, a page at a time, by keyset: a cursor says behind which row the next
 * page starts, so page 10,000 costs what page 1 costs.
 *
 *     static const struct field_table query = FIELDS(
 *         PAGE_FIELDS(struct in, page), …);
 *
 *     struct in in = { .page = PAGE_INIT };
 *     if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
 *         return err;
 *     q = db_query(…, DB_INT(in.page.after_id), …, DB_INT(in.page.limit + 1));
 *     b = page_open(r);
 *     while (db_next(&q) && page_take(r, &in.page, db_int(&q, 0), NULL))
 *         put_item(b, &q);
 *     page_close(r, &in.page);
 */
#ifndef COSTER_PAGE_H
#define COSTER_PAGE_H

#include "shared/req.h"

struct page {
	int64_t limit;	      /* rows wanted */
	const char *cursor;   /* as the client sent it, or NULL */
	const char *order;    /* which order the cursor must be of, or NULL */
	int64_t after_id;     /* behind this row; 0 at the start */
	const char *after_key; /* and this sort key; NULL without one */
	int64_t count, last_id;
	const char *last_key;
	bool more;
};

#define PAGE_INIT { .limit = 50 }
#define PAGE_FIELDS(S, member)                                                 \
	FIELD_AS(S, member.limit, "limit", .min = 1, .max = 200),              \
	FIELD_AS(S, member.cursor, "cursor", .max = 2048)

/* Reads the cursor: ERR_INVALID for one that is not of this order. */
MUST_USE enum err page_start(struct req *r, struct page *page);

/* The body of the reply, with its list open. */
struct buf *page_open(struct req *r);

/* Counts a row in; false for the one too many that only shows that there is
 * another page. The key is the text the rows are sorted by, NULL for the id. A page
 * ends early behind PAGE_BYTES, so that no list of large rows fills the memory. */
#define PAGE_BYTES ((size_t)1024 * 1024)
bool page_take(struct req *r, struct page *page, int64_t id, const char *key);

/* Closes the list, with next_cursor and Link (RFC 8288). */
void page_close(struct req *r, struct page *page);

#endif
