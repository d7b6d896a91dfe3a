/*
 * All that is held of a person, by all services, as one JSON file.
 *
 * The first page of each list is fetched before anything is sent: while a
 * service is down there is no export, rather than one that lacks something
 * unseen. The rest comes a page at a time, so memory stays bounded; should a
 * service go away meanwhile, the reply is cut short and does not look whole.
 */
#include "handlers/user/session.h"
#include "handlers/user/throttle.h"
#include "handlers/user/user.h"

#include "shared/client.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/text.h"

static handler_fn get_export;

static const struct route routes[] = {
	{ "GET", "/user/{uid}/export", get_export,
	    ROUTE_SELF | ROUTE_ADMIN | ROUTE_SLOW },
};
const struct route_table export_routes = ROUTES(routes);

STMT(address,
    "SELECT email FROM account WHERE id = $1 AND deleted_at IS NULL");

/* Anybody can claim one. */
STMT(proved_addresses,
    "SELECT email, NULL FROM account WHERE id = $1 AND verified_at IS NOT NULL"
    " UNION ALL SELECT email_key, left_at FROM former_address"
    " WHERE user_id = $1 AND verified = 1");

/* A list of another service; those of one name make one array. */
struct source {
	struct source *next;
	const char *name, *path;
	struct json_object *items;
	int64_t until; /* later ones may be somebody else's; INT_NONE: none */
	const char *cursor; /* of the page behind these; NULL without one */
};

struct sources {
	struct source *first, **end;
};

static void
add(struct req *r, struct sources *all, const char *name, const char *path,
    int64_t until)
{
	struct source *s = ARENA_NEW(r->arena, struct source);

	s->name = name;
	s->path = path;
	s->until = until;
	*all->end = s;
	all->end = &s->next;
}

static enum err
call(struct req *r, struct arena *a, const char *path, struct json_object **body)
{
	struct client_call call = { .method = "GET",
		.path = path,
		.trace = r->param[PARAM_TRACE] };
	struct client_reply reply;
	enum err err = client_call(r->ctx->client, a, &call, &reply);

	if (err || reply.status != 200
	    || !json_object_is_type(reply.body, json_type_object))
		return req_fail(r, ERR_UNAVAILABLE,
		    "Not every service can be asked just now; try again.");
	*body = reply.body;
	return OK;
}

static enum err
fetch(struct req *r, struct arena *a, struct source *s)
{
	const char *path = s->path;
	struct json_object *page;
	const char *cursor;
	enum err err;

	if (s->cursor != NULL)
		path = arena_printf(a, "%s&cursor=%s", path, s->cursor);
	s->cursor = NULL;
	if ((err = call(r, a, path, &page)))
		return err;
	if (!json_object_object_get_ex(page, "items", &s->items)
	    || !json_object_is_type(s->items, json_type_array))
		return ERR_UNAVAILABLE;
	if ((cursor = json_member_text(page, "next_cursor")) != NULL)
		s->cursor = arena_strdup(r->arena, cursor);
	return OK;
}

static enum err
put_items(struct req *r, struct source *s)
{
	size_t n = json_object_array_length(s->items);
	char until[CLOCK_TEXT_SIZE] = "";
	enum err err = OK;

	if (s->until != INT_NONE)
		clock_text(s->until + MAIL_ON_ITS_WAY, until);
	for (size_t i = 0; i < n && !err; i++) {
		struct json_object *item = json_object_array_get_idx(s->items, i);
		const char *at = json_member_text(item, "created_at");

		if (*until != '\0'
		    && (at == NULL || strcmp(at, until) >= 0))
			continue;
		json_tree(&r->reply.body, NULL, item);
		err = reply_flush(r);
	}
	return err;
}

/* Pages behind the first have memory of their own, each in turn. */
static enum err
put_source(struct req *r, struct source *s)
{
	struct arena a;
	enum err err = put_items(r, s);

	arena_init(&a);
	while (!err && s->cursor != NULL) {
		arena_reset(&a);
		if ((err = fetch(r, &a, s)) == OK)
			err = put_items(r, s);
	}
	arena_release(&a);
	return err;
}

static enum err
put_sources(struct req *r, const struct sources *all)
{
	struct buf *b = &r->reply.body;
	const char *name = NULL;
	enum err err = OK;

	for (struct source *s = all->first; s != NULL && !err; s = s->next) {
		if (name == NULL || strcmp(s->name, name) != 0) {
			if (name != NULL)
				json_close(b, ']');
			json_open(b, s->name, '[');
		}
		name = s->name;
		err = put_source(r, s);
	}
	json_close(b, ']');
	return err;
}

/* A page of 20 invoices is as much JSON as one may have (json.h). */
static enum err
find_sources(struct req *r, struct sources *all)
{
	long long id = r->uid;
	struct db_rows q
	    = db_query(r->db, &proved_addresses, DB_ARGS(DB_INT(id)));
	enum err err;

	while (db_next(&q))
		add(r, all, "mails",
		    arena_printf(r->arena, "/send_email/?limit=100&to=%s",
			text_percent_encode(r->arena, db_text(&q, 0))),
		    db_int(&q, 1));
	if ((err = db_end(&q)))
		return err;
	add(r, all, "invoices",
	    arena_printf(r->arena, "/invoices?limit=20&user_id=%lld", id),
	    INT_NONE);
	add(r, all, "log",
	    arena_printf(r->arena, "/log?limit=20&user_id=%lld", id), INT_NONE);
	return OK;
}

static enum err
fetch_all(struct req *r, const struct sources *all, struct json_object **cart)
{
	enum err err = call(r, r->arena,
	    arena_printf(r->arena, "/user/%lld/cart/", (long long)r->uid), cart);

	for (struct source *s = all->first; s != NULL && !err; s = s->next)
		err = fetch(r, r->arena, s);
	return err;
}

static enum err
put_own(struct req *r, struct buf *b, const char *email)
{
	int64_t version;
	enum err err;

	json_time(b, "exported_at", clock_ms());
	if ((err = account_put(r, b, "account", r->uid, &version))
	    || (err = addresses_put(r->db, b, "former_addresses", r->uid))
	    || (err = sessions_put(r->db, b, "sessions", r->uid)))
		return err;
	return throttle_put_networks(r, b, "networks", email);
}

static enum err
get_export(struct req *r)
{
	struct sources sources = { .end = &sources.first };
	struct json_object *cart;
	const char *email;
	struct buf *b;
	enum err err;

	if ((err = db_get(r->db, &address, DB_ARGS(DB_INT(r->uid)),
		 DB_INTO(DB_TEXT_TO(&email))))
	    || (err = find_sources(r, &sources))
	    || (err = fetch_all(r, &sources, &cart)))
		return err;
	b = reply_json(r, 200);
	reply_field(r, "Content-Disposition",
	    "attachment; filename=\"user-%lld.json\"", (long long)r->uid);
	json_open(b, NULL, '{');
	if ((err = put_own(r, b, email)))
		return err;
	json_tree(b, "cart", cart);
	if (strcmp(sources.first->name, "mails") != 0) { /* no address is proved */
		json_open(b, "mails", '[');
		json_close(b, ']');
	}
	if ((err = put_sources(r, &sources)))
		return err;
	json_close(b, '}');
	audit(r, "data exported", r->uid, NULL);
	return OK;
}
