/*
 * Counts of the record: by hour, by day, or by action. Each statement goes
 * from group to group along an index, so what lies between costs nothing, and
 * a long period needs no memory for its rows.
 */
#include "handlers/stats/stats.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/req.h"

#define PERIOD_DEFAULT (30 * CLOCK_DAY)

static handler_fn get_summary;
static const struct field_table query_fields;

static const struct route routes[] = {
	{ "GET", "/log/summary", get_summary, READERS | ROUTE_SLOW,
	    .query = &query_fields },
};
const struct route_table summary_routes = ROUTES(routes);

/* $1, $2 the period; $3 length of a group in milliseconds. Every step of a
 * recursion finds the one group that follows, so they come in order. */
#define GROUP_FROM(from)                                                       \
	"(SELECT at - at % $3 FROM entry WHERE at >= " from " AND at < $2"     \
	" ORDER BY at LIMIT 1)"

STMT(summary_by_time,
    "WITH RECURSIVE span (start) AS (SELECT " GROUP_FROM("$1")
    " UNION ALL SELECT " GROUP_FROM("start + $3") " FROM span"
    "  WHERE start IS NOT NULL)"
    " SELECT start, (SELECT count(*) FROM entry"
    "  WHERE at >= CASE WHEN start < $1 THEN $1 ELSE start END"
    "  AND at < CASE WHEN start + $3 > $2 THEN $2 ELSE start + $3 END)"
    " FROM span WHERE start IS NOT NULL");

STMT(summary_by_action,
    "WITH RECURSIVE each_action (name) AS (SELECT min(action) FROM entry"
    " UNION ALL SELECT (SELECT min(action) FROM entry WHERE action > name)"
    "  FROM each_action WHERE name IS NOT NULL)"
    " SELECT name, (SELECT count(*) FROM entry"
    "  WHERE action = name AND at >= $1 AND at < $2)"
    " FROM each_action WHERE name IS NOT NULL");

/* A group without a length is an action. */
static const struct group {
	const char *name;
	int64_t length, period_max;
} groups[] = {
	{ "day", CLOCK_DAY, INT64_MAX },
	{ "hour", CLOCK_HOUR, 400 * CLOCK_DAY },
	{ "action", 0, INT64_MAX },
};

static const char *const group_names[] = { "day", "hour", "action", NULL };

struct query {
	int64_t from, to;
	const char *group_by;
};

static const struct field_table query_fields = FIELDS(
	FIELD(struct query, from, .format = FORMAT_TIME),
	FIELD(struct query, to, .format = FORMAT_TIME),
	FIELD(struct query, group_by, .choices = group_names));

static const struct group *
find_group(const char *name)
{
	const struct group *g = groups;

	while (strcmp(g->name, name) != 0)
		g++;
	return g;
}

static enum err
check_period(struct req *r, struct query *in, const struct group *g)
{
	if (in->to == INT_NONE)
		in->to = clock_ms();
	if (in->from == INT_NONE)
		in->from = in->to - PERIOD_DEFAULT;
	if (in->from > in->to)
		return req_fault(r, "?to", "must not be before from");
	if (in->to - in->from > g->period_max)
		return req_fault(r, "?from",
		    "must be at most %lld days before to",
		    (long long)(g->period_max / CLOCK_DAY));
	return OK;
}

static struct db_rows
count(struct db *db, const struct query *in, const struct group *g)
{
	if (g->length == 0)
		return db_query(db, &summary_by_action,
		    DB_ARGS(DB_INT(in->from), DB_INT(in->to)));
	return db_query(db, &summary_by_time,
	    DB_ARGS(DB_INT(in->from), DB_INT(in->to), DB_INT(g->length)));
}

static enum err
get_summary(struct req *r)
{
	struct query in = { INT_NONE, INT_NONE, groups[0].name };
	const struct group *g;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = req_query(r, &in)))
		return err;
	g = find_group(in.group_by);
	if ((err = check_period(r, &in, g)))
		return err;
	b = reply_json(r, 200);
	json_open(b, NULL, '{');
	json_open(b, "items", '[');
	q = count(r->db, &in, g);
	while (db_next(&q)) {
		if (db_int(&q, 1) == 0)
			continue; /* an action of other times */
		json_open(b, NULL, '{');
		if (g->length == 0)
			json_text(b, "group", db_text(&q, 0));
		else
			json_time(b, "group", db_int(&q, 0));
		json_int(b, "count", db_int(&q, 1));
		json_close(b, '}');
		/* Anyone may invent actions: they may be very many. */
		db_fail(&q, reply_flush(r));
	}
	json_close(b, ']');
	json_close(b, '}');
	return db_end(&q);
}
