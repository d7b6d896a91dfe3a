/*
 * The record as a list: a page of JSON, or all that is asked for at once as
 * lines of JSON or as CSV, which a worker streams. It reads a piece, then sends it:
 * the write-ahead log cannot begin anew while somebody reads, and a client may take
 * its time.
 */
#include "handlers/stats/stats.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/page.h"
#include "shared/text.h"

#define PIECE 200 /* rows of a stream */

static handler_fn get_log;
static const struct field_table query_fields;

enum { JSON, LINES, CSV, TYPE__COUNT };

static const char *const types[] = {
	[JSON] = "application/json",
	[LINES] = "application/x-ndjson",
	[CSV] = "text/csv; charset=utf-8",
	[TYPE__COUNT] = NULL,
};

static const struct route routes[] = {
	{ "GET", "/log", get_log, READERS, .query = &query_fields,
	    .types = types },
};
const struct route_table list_routes = ROUTES(routes);

/* Where the rows come from; each has an index that is in the list's order. A
 * user's entries are few enough to look through for an action. */
enum source { ALL, USER, ACTION, SOURCE__COUNT };

/* $1 limit; $2, $3 id and time of the row before; $4 end of the period; $5
 * user; $6 action; $7 the newest id. */
#define LIST(which)                                                            \
	{                                                                      \
		"SELECT " ENTRY_COLUMNS " FROM entry WHERE " which             \
		" AND (at, id) > ($3, $2) AND at < $4 AND id <= $7"            \
		" ORDER BY at, id LIMIT $1"                                    \
	}

STMT_ARRAY(lists[SOURCE__COUNT]) = {
	[ALL] = LIST("$5 IS NULL AND $6 IS NULL"),
	[USER] = LIST("user_id = $5 AND ($6 IS NULL OR action = $6)"),
	[ACTION] = LIST("$5 IS NULL AND action = $6"),
};

STMT(newest, "SELECT max(id) FROM entry");

struct query {
	struct page page;
	int64_t from, to, user_id;
	const char *action;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page),
	FIELD(struct query, from, .format = FORMAT_TIME),
	FIELD(struct query, to, .format = FORMAT_TIME),
	FIELD(struct query, user_id, .min = 1),
	FIELD(struct query, action, .format = FORMAT_NAME, .min = 1, .max = 100));

static void
put_line(struct buf *b, const struct entry *e)
{
	put_entry(b, e);
	buf_addc(b, '\n');
}

/* RFC 4180; what a spreadsheet would take for a formula is made text. */
static void
put_cell(struct buf *b, const char *text)
{
	bool quoted = strpbrk(text, ",\"\r\n") != NULL;

	if (quoted)
		buf_addc(b, '"');
	if (*text != '\0' && strchr("=+-@\t\r", *text) != NULL)
		buf_addc(b, '\'');
	for (; *text != '\0'; text++) {
		if (*text == '"')
			buf_addc(b, '"');
		buf_addc(b, *text);
	}
	if (quoted)
		buf_addc(b, '"');
}

static void
put_row(struct buf *b, const struct entry *e)
{
	char at[CLOCK_TEXT_SIZE];

	clock_text(e->at, at);
	buf_addint(b, e->id);
	buf_addc(b, ',');
	buf_adds(b, at);
	buf_addc(b, ',');
	if (e->user_id != INT_NONE)
		buf_addint(b, e->user_id);
	buf_addc(b, ',');
	put_cell(b, e->action);
	buf_addc(b, ',');
	put_cell(b, e->data);
	buf_adds(b, "\r\n");
}

static const struct stream {
	const char *head;
	void (*put)(struct buf *b, const struct entry *e);
} streams[] = {
	[LINES] = { "", put_line },
	[CSV] = { "id,at,user_id,action,data\r\n", put_row },
};
_Static_assert(ARRAY_LEN(streams) == TYPE__COUNT, "every type is written");

/* The next rows behind this place, up to the newest id. */
static struct db_rows
read_rows(struct req *r, const struct query *in, int64_t limit, int64_t at,
    int64_t id, int64_t newest_id)
{
	enum source source = in->user_id != INT_NONE ? USER
	    : in->action != NULL		     ? ACTION
						     : ALL;

	return db_query(r->db, &lists[source],
	    DB_ARGS(DB_INT(limit), DB_INT(id), DB_INT(at), DB_INT(in->to),
		DB_INT(in->user_id), DB_TEXT(in->action), DB_INT(newest_id)));
}

/* Of what there is at the start: else it might never come to an end. */
static enum err
send_stream(struct req *r, const struct query *in, int64_t at, int64_t id)
{
	const struct stream *s = &streams[r->type];
	int64_t left = in->page.limit, newest_id, rows;
	struct db_rows q;
	struct buf *b;
	enum err err;

	err = db_get(
	    r->db, &newest, DB_NO_ARGS, DB_INTO(DB_INT_TO(&newest_id)));
	if (err)
		return err;
	b = reply_type(r, 200, types[r->type]);
	buf_adds(b, s->head);
	do {
		rows = 0;
		q = read_rows(r, in, left < PIECE ? left : PIECE, at, id,
		    newest_id);
		while (db_next(&q)) {
			struct entry e = entry_row(&q);

			s->put(b, &e);
			at = e.at;
			id = e.id;
			rows++;
		}
		left -= rows;
		if ((err = db_end(&q)) || (err = reply_flush(r)))
			return err;
	} while (rows == PIECE && left > 0);
	return OK;
}

static enum err
send_page(struct req *r, struct query *in, int64_t at, int64_t id)
{
	struct db_rows q
	    = read_rows(r, in, in->page.limit + 1, at, id, INT_MAX_EXACT);
	struct page *page = &in->page;
	struct buf *b = page_open(r);
	enum err err;

	while (db_next(&q)
	    && page_take(r, page, db_int(&q, ENTRY_ID), db_text(&q, ENTRY_AT))) {
		struct entry e = entry_row(&q);

		put_entry(b, &e);
	}
	if ((err = db_end(&q)))
		return err;
	page_close(r, page);
	return OK;
}

/* Behind the cursor's row, but not before the period. */
static enum err
find_start(struct req *r, const struct query *in, int64_t *at, int64_t *id)
{
	const char *key = in->page.after_key;

	*at = in->from;
	*id = 0;
	if (key == NULL)
		return OK;
	if (!text_to_int(key, strlen(key), at))
		return req_fault(r, "?cursor", "is not a cursor of this list");
	if (*at < in->from)
		*at = in->from;
	else
		*id = in->page.after_id;
	return OK;
}

/* limit and cursor count for streams too; but without a limit they send all. */
static enum err
get_log(struct req *r)
{
	struct query in = { .page = PAGE_INIT,
		.to = INT64_MAX,
		.user_id = INT_NONE };
	int64_t at, id;
	enum err err;

	if (r->type != JSON) {
		in.page.limit = INT_MAX_EXACT;
		if ((err = req_may_wait(r)))
			return err;
	}
	in.page.order = "at";
	if ((err = req_query(r, &in))
	    || (err = page_start(r, &in.page))
	    || (err = find_start(r, &in, &at, &id)))
		return err;
	return r->type == JSON ? send_page(r, &in, at, id)
			       : send_stream(r, &in, at, id);
}
