/* What the files of the stats service share. */
#ifndef COSTER_STATS_H
#define COSTER_STATS_H

#include "shared/app.h"
#include "shared/buf.h"

extern const struct route_table entry_routes, list_routes, summary_routes;
extern const struct check_table stats_checks;
extern const char stats_keep_ids[];

struct stats_settings {
	int64_t keep_days; /* 0: for ever */
};
extern struct stats_settings stats_settings;

int64_t entry_prune(struct ctx *ctx);

/* Who may read the record. */
#define READERS (ROUTE_INTERNAL | ROUTE_SERVICE | ROUTE_ADMIN)

struct entry {
	int64_t id, at, user_id;	/* user_id INT_NONE: nobody known */
	const char *action, *data;	/* data is JSON */
	struct json_object *data_given; /* the same, as a client sent it */
};

/* The columns that entry_row() expects, in its order. */
#define ENTRY_COLUMNS "id, at, user_id, action, data"
enum entry_column {
	ENTRY_ID,
	ENTRY_AT,
	ENTRY_USER_ID,
	ENTRY_ACTION,
	ENTRY_DATA,
};

/* The row that q is at, whose texts it borrows. */
struct entry entry_row(const struct db_rows *q);

/* As a JSON object. */
void put_entry(struct buf *b, const struct entry *e);

#endif
