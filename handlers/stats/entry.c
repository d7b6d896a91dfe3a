/*
 * Entries of the record: written one by one or up to 1,000 at once, read,
 * and forgotten, when their person or their time is gone.
 */
#include "handlers/stats/stats.h"

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/req.h"

#define DATA_MAX 8192 /* bytes of its text */
#define BATCH_MAX 1000
#define READ_AT_ONCE 20 /* entries, by services that read lists of them */
#define STRANGER_MAX ((size_t)16 * 1024) /* bytes of a request */
#define FORGET_FOR (365 * CLOCK_DAY)
#define CHUNK 500 /* rows that one commit takes from other writers */
#define PAUSE 20  /* milliseconds that they get between two */

static handler_fn post_log, get_entry, forget_person;
static const struct field_table entry_fields, person_fields;
static const struct field batch;

static const struct route routes[] = {
	{ "POST", "/log", post_log, ROUTE_ANYONE, .body = &entry_fields,
	    .batch = &batch },
	{ "GET", "/log/{id}", get_entry, READERS },
	{ "DELETE", "/log", forget_person,
	    ROUTE_SERVICE | ROUTE_SLOW | ROUTE_EMPTY, .query = &person_fields },
};
const struct route_table entry_routes = ROUTES(routes);

STMT(entry_insert,
    "INSERT INTO entry (at, user_id, action, data) VALUES ($1, $2, $3, $4)");

STMT(entry_get, "SELECT " ENTRY_COLUMNS " FROM entry WHERE id = $1");

STMT(entry_forget,
    "UPDATE entry SET user_id = NULL, data = '{}'"
    " WHERE id IN (SELECT id FROM entry WHERE user_id = $1 LIMIT $2)");

/* Their ids are not given again. What was on its way when they went comes yet: a token
 * lives on for minutes, an open invoice for weeks. */
STMT(forgotten_put,
    "INSERT INTO forgotten (user_id, at) VALUES ($1, $2)"
    " ON CONFLICT (user_id) DO UPDATE SET at = excluded.at");

STMT(entry_forget_late,
    "UPDATE entry SET user_id = NULL, data = '{}' WHERE id IN"
    " (SELECT entry.id FROM forgotten JOIN entry"
    "  ON entry.user_id = forgotten.user_id WHERE forgotten.at > $1 LIMIT $2)");

STMT(forgotten_drop,
    "DELETE FROM forgotten WHERE user_id IN"
    " (SELECT user_id FROM forgotten WHERE at <= $1 LIMIT $2)");

STMT(entry_drop,
    "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE at < $1"
    " AND id < (SELECT max(id) FROM entry) ORDER BY at LIMIT $2)");

static const struct field_table entry_fields = FIELDS(
	FIELD(struct entry, user_id, .min = 1),
	FIELD(struct entry, action, .flags = FIELD_REQUIRED,
	    .format = FORMAT_NAME, .min = 1, .max = 100),
	FIELD_AS(struct entry, data_given, "data"),
	FIELD(struct entry, at, .format = FORMAT_TIME));

static const struct entry blank = { .at = INT_NONE, .user_id = INT_NONE };

static const struct field batch = { .type = FIELD_LIST,
	.min = 1,
	.max = BATCH_MAX,
	FIELD_ITEMS(struct entry, entry_fields),
	.item_default = &blank };

/* What data may have, so that a page of entries that all are at this is JSON to a
 * service that reads it, as user does for an export. Data stands in an entry, in
 * the list, in the page; an entry has five values beside its data, one of them an
 * object; a page has three beside its entries, two of them an object and an array. */
static const struct json_limits data_max = { .depth = JSON_DEPTH_MAX - 3,
	.values = (JSON_VALUES_MAX - 3) / READ_AT_ONCE - 5,
	.containers = (JSON_CONTAINERS_MAX - 2) / READ_AT_ONCE - 1 };

struct person {
	int64_t user_id;
};

static const struct field_table person_fields = FIELDS(
	FIELD(struct person, user_id, .flags = FIELD_REQUIRED, .min = 1));

struct entry
entry_row(const struct db_rows *q)
{
	return (struct entry) { .id = db_int(q, ENTRY_ID),
		.at = db_int(q, ENTRY_AT),
		.user_id = db_int(q, ENTRY_USER_ID),
		.action = db_text(q, ENTRY_ACTION),
		.data = db_text(q, ENTRY_DATA) };
}

void
put_entry(struct buf *b, const struct entry *e)
{
	json_open(b, NULL, '{');
	json_int(b, "id", e->id);
	json_time(b, "at", e->at);
	json_int(b, "user_id", e->user_id);
	json_text(b, "action", e->action);
	json_raw(b, "data", e->data);
	json_close(b, '}');
}

/* Not one that anybody may be. */
static bool
is_trusted(const struct caller *c)
{
	return c->role == ROLE_SERVICE || c->role == ROLE_ADMIN
	    || (c->role == ROLE_NOBODY && c->internal);
}

/* A bearer speaks for itself; a service, an administrator and the internal
 * network for anyone. */
static bool
may_name(const struct caller *c, int64_t user_id)
{
	return is_trusted(c) || (c->role == ROLE_CUSTOMER && c->uid == user_id);
}

#define ALONE (-1)

/* Of the entry at a place of the list, or of one that is ALONE. */
static void
fault(struct req *r, ssize_t at, const char *name, const char *detail)
{
	const char *pointer = at == ALONE
	    ? arena_printf(r->arena, "#/%s", name)
	    : arena_printf(r->arena, "#/%zd/%s", at, name);

	faults_add(&r->faults, pointer, detail);
}

/* Fills in what was left out and checks what the fields could not. */
static void
complete(struct req *r, ssize_t at, struct entry *e)
{
	int64_t now = clock_ms();

	if (e->user_id == INT_NONE && r->caller.uid != 0)
		e->user_id = r->caller.uid;
	if (e->user_id != INT_NONE && !may_name(&r->caller, e->user_id))
		fault(r, at, "user_id", "is not you");
	if (e->at == INT_NONE)
		e->at = now;
	if (e->at < 0 || e->at > now + CLOCK_DAY)
		fault(r, at, "at",
		    "must be from 1970 to at most a day from now");
	e->data = e->data_given == NULL ? "{}" : json_tree_text(e->data_given);
	if (strlen(e->data) > DATA_MAX)
		fault(r, at, "data", "must be at most 8192 bytes long");
	else if (!json_within(e->data, strlen(e->data), &data_max))
		fault(r, at, "data",
		    arena_printf(r->arena,
			"must be at most %d deep, of at most %zu objects and "
			"arrays and %zu values",
			data_max.depth, data_max.containers, data_max.values));
}

static enum err
insert(struct db *db, struct entry *e)
{
	return db_insert(db, &entry_insert,
	    DB_ARGS(DB_INT(e->at), DB_INT(e->user_id), DB_TEXT(e->action),
		DB_TEXT(e->data)),
	    &e->id);
}

static enum err
post_one(struct req *r, struct json_object *body)
{
	struct entry e = blank;
	enum err err;

	field_read_object(&r->faults, body, entry_fields.list,
	    entry_fields.count, &e);
	complete(r, ALONE, &e);
	if (r->faults.count > 0)
		return ERR_INVALID;
	if ((err = insert(r->db, &e)))
		return err;
	put_entry(reply_json(r, 201), &e);
	reply_location(r, "/log", e.id);
	return OK;
}

static enum err
post_many(struct req *r, struct json_object *body)
{
	struct field_list list = { 0 };
	struct entry *entries;
	struct buf *b;
	enum err err;

	field_read_array(&r->faults, body, &batch, &list);
	entries = list.items;
	for (size_t i = 0; i < list.count; i++)
		complete(r, (ssize_t)i, &entries[i]);
	if (r->faults.count > 0)
		return ERR_INVALID;
	for (size_t i = 0; i < list.count; i++)
		if ((err = insert(r->db, &entries[i])))
			return err;
	b = reply_json(r, 201);
	json_open(b, NULL, '{');
	json_int(b, "count", (int64_t)list.count);
	json_int(b, "first_id", entries[0].id);
	json_int(b, "last_id", entries[list.count - 1].id);
	json_close(b, '}');
	reply_location(r, "/log", entries[0].id);
	return OK;
}

static enum err
post_log(struct req *r)
{
	struct json_object *body;
	enum err err;

	if (r->body_len > STRANGER_MAX && !is_trusted(&r->caller))
		return req_fail(
		    r, ERR_TOO_LARGE, "Send at most 16 KiB at once.");
	if ((err = req_json(r, &body)))
		return err;
	return json_object_is_type(body, json_type_array) ? post_many(r, body)
							  : post_one(r, body);
}

static enum err
get_entry(struct req *r)
{
	struct db_rows q = db_query(r->db, &entry_get, DB_ARGS(DB_INT(r->id)));
	bool found = db_next(&q);
	struct entry e;
	enum err err;

	if (found) {
		e = entry_row(&q);
		put_entry(reply_json(r, 200), &e);
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

/* At most CHUNK rows, in one transaction; how many they were. */
static enum err
change_some(
    struct db *db, const struct stmt *stmt, int64_t which, int64_t *rows)
{
	enum err err;

	if ((err = db_begin(db)))
		return err;
	err = db_exec(db, stmt, DB_ARGS(DB_INT(which), DB_INT(CHUNK)));
	*rows = db_changes(db);
	return db_finish(db, err);
}

/* That somebody did it stays, who it was does not. */
static enum err
forget_person(struct req *r)
{
	struct person in;
	int64_t rows;
	enum err err;

	if ((err = req_query(r, &in)) || (err = db_begin(r->db))
	    || (err = db_exec(r->db, &forgotten_put,
		    DB_ARGS(DB_INT(in.user_id), DB_INT(clock_ms()))))
	    || (err = db_commit(r->db)))
		return err;
	do
		if ((err = change_some(
			 r->db, &entry_forget, in.user_id, &rows)))
			return err;
	while (rows > 0);
	return reply_empty(r, 204);
}

int64_t
entry_prune(struct ctx *ctx)
{
	int64_t now = clock_ms(), keep = stats_settings.keep_days * CLOCK_DAY;
	const struct {
		const struct stmt *stmt;
		int64_t which;
	} changes[] = {
		{ &entry_forget_late, now - FORGET_FOR },
		{ &forgotten_drop, now - FORGET_FOR },
		{ &entry_drop, keep > 0 ? now - keep : 0 },
	};
	int64_t rows, all = 0;

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		if (change_some(
			&ctx->db, changes[i].stmt, changes[i].which, &rows))
			return CLOCK_HOUR;
		all += rows;
	}
	return all > 0 ? PAUSE : CLOCK_HOUR;
}
