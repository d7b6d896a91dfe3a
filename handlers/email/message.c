/*
 * Mails as the other services and administrators see them: asked for, looked
 * up, and forgotten.
 *
 * Whether the recipient is a user is asked at once; while user cannot be
 * reached the mail is accepted all the same, and asks again when it is sent.
 */
#include "handlers/email/email.h"
#include "handlers/email/template.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/page.h"

#define PRUNE_EVERY CLOCK_HOUR

static handler_fn ask_recipient, post_message, get_message, get_messages,
    erase_messages;
static const struct field_table message_fields, query_fields, erasure_fields,
    period_fields;

static const struct route routes[] = {
	{ "POST", "/send_email", post_message,
	    ROUTE_SERVICE | ROUTE_ADMIN, .question = ask_recipient,
	    .body = &message_fields },
	{ "GET", "/send_email/{id}", get_message,
	    ROUTE_SERVICE | ROUTE_ADMIN | ROUTE_TAGGED },
	{ "GET", "/send_email", get_messages, ROUTE_SERVICE | ROUTE_ADMIN,
	    .query = &query_fields },
	{ "DELETE", "/send_email", erase_messages,
	    ROUTE_SERVICE | ROUTE_EMPTY | ROUTE_MAYBE_BODY,
	    .query = &erasure_fields, .body = &period_fields },
};
const struct route_table message_routes = ROUTES(routes);

#define MESSAGE_COLUMNS                                                        \
	"id, recipient, subject, status, attempts, last_error, created_at,"    \
	" sent_at, version"

STMT(message_insert,
    "INSERT INTO mail (key, user_id, recipient, checked, subject, text, html,"
    " due_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)");

STMT(message_get, "SELECT " MESSAGE_COLUMNS " FROM mail WHERE id = $1");

enum source { ALL, OF_STATUS, TO, SOURCE__COUNT };

/* $1 limit, $2 the id before, $3 status, $4 address: each over its index. */
#define LIST(which)                                                            \
	{                                                                      \
		"SELECT " MESSAGE_COLUMNS " FROM mail"                         \
		" WHERE id > $2 AND " which " ORDER BY id LIMIT $1"            \
	}
STMT_ARRAY(lists[SOURCE__COUNT]) = {
	[ALL] = LIST("$3 IS NULL AND $4 IS NULL"),
	[OF_STATUS] = LIST("status = $3 AND $4 IS NULL"),
	[TO] = LIST("lower(recipient) = lower($4)"
		    " AND ($3 IS NULL OR status = $3)"),
};

STMT(message_erase,
    "UPDATE mail SET user_id = NULL, recipient = NULL, subject = NULL,"
    " text = NULL, html = NULL,"
    " last_error = CASE status WHEN 'sent' THEN NULL ELSE 'erased' END,"
    " status = CASE status WHEN 'queued' THEN 'failed' ELSE status END,"
    " version = version + 1 WHERE lower(recipient) = lower($1)"
    " AND ($2 IS NULL OR created_at < $2)");

STMT(message_drop,
    "DELETE FROM mail WHERE id IN (SELECT id FROM mail"
    "  WHERE status <> 'queued' AND created_at < $1"
    "  AND id < (SELECT max(id) FROM mail) LIMIT 500)");

struct message {
	const char *to, *subject, *text, *html, *template;
	int64_t user_id;
	struct json_object *vars;
	bool checked, can_wait;
};

static const struct field_table message_fields = FIELDS(
	FIELD(struct message, to, .format = FORMAT_EMAIL, .max = 254),
	FIELD(struct message, user_id, .min = 1),
	FIELD(struct message, subject, .min = 1),
	FIELD(struct message, text, .format = FORMAT_PARAGRAPHS, .min = 1,
	    .max = 100000),
	FIELD(struct message, html, .format = FORMAT_PARAGRAPHS, .min = 1,
	    .max = 200000),
	FIELD(struct message, template, .format = FORMAT_NAME),
	FIELD(struct message, vars));

static const char *const statuses[] = { "queued", "sent", "failed", NULL };

struct query {
	struct page page;
	const char *status, *to;
};

static const struct field_table query_fields = FIELDS(
	PAGE_FIELDS(struct query, page),
	FIELD(struct query, status, .choices = statuses),
	FIELD(struct query, to, .format = FORMAT_EMAIL, .max = 254));

struct erasure {
	const char *to;
	int64_t before;
};

static const struct field_table erasure_fields = FIELDS(
	FIELD(struct erasure, to, .flags = FIELD_REQUIRED,
	    .format = FORMAT_EMAIL, .max = 254));

static const struct field_table period_fields
    = FIELDS(FIELD(struct erasure, before, .format = FORMAT_TIME));

/* In the order of MESSAGE_COLUMNS. */
enum column {
	ID,
	RECIPIENT,
	SUBJECT,
	STATUS,
	ATTEMPTS,
	LAST_ERROR,
	CREATED_AT,
	SENT_AT,
	VERSION,
};

static void
put_message(struct buf *b, const struct db_rows *q)
{
	json_open(b, NULL, '{');
	json_int(b, "id", db_int(q, ID));
	json_text(b, "to", db_text(q, RECIPIENT));
	json_text(b, "subject", db_text(q, SUBJECT));
	json_text(b, "status", db_text(q, STATUS));
	json_int(b, "attempts", db_int(q, ATTEMPTS));
	json_text(b, "last_error", db_text(q, LAST_ERROR));
	json_time(b, "created_at", db_int(q, CREATED_AT));
	json_time(b, "sent_at", db_int(q, SENT_AT));
	json_close(b, '}');
}

static enum err
reply_message(struct req *r, int status, int64_t id)
{
	struct db_rows q = db_query(r->db, &message_get, DB_ARGS(DB_INT(id)));
	bool found = db_next(&q);
	enum err err;

	if (found) {
		put_message(reply_json(r, status), &q);
		reply_version(r, db_int(&q, VERSION));
	}
	if ((err = db_end(&q)))
		return err;
	return found ? OK : ERR_NOT_FOUND;
}

/* Members that do without or exclude each other. */
static enum err
check_members(struct req *r, const struct message *m)
{
	bool templated = m->template != NULL;
	const struct {
		bool wrong;
		const char *pointer, *detail;
	} rules[] = {
		{ m->to == NULL && m->user_id == INT_NONE, "#/to",
		    "is required, unless user_id is given" },
		{ m->to != NULL && m->user_id != INT_NONE, "#/user_id",
		    "cannot be combined with to" },
		{ !templated && m->subject == NULL, "#/subject",
		    "is required, unless a template is given" },
		{ !templated && m->text == NULL, "#/text",
		    "is required, unless a template is given" },
		{ !templated && m->vars != NULL, "#/vars",
		    "are of use in a template only" },
		{ templated && m->subject != NULL, "#/subject",
		    "cannot be combined with a template" },
		{ templated && m->text != NULL, "#/text",
		    "cannot be combined with a template" },
		{ templated && m->html != NULL, "#/html",
		    "cannot be combined with a template" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].wrong)
			faults_add(
			    &r->faults, rules[i].pointer, rules[i].detail);
	return r->faults.count > 0 ? ERR_INVALID : OK;
}

static enum err
read_message(struct req *r, struct message *m)
{
	struct rendered text;
	enum err err;

	if ((err = req_body(r, m)) || (err = check_members(r, m))
	    || m->template == NULL)
		return err;
	if ((err = template_render(&r->faults, m->template, m->vars, &text)))
		return err;
	m->subject = text.subject;
	m->text = text.text;
	m->html = text.html;
	m->can_wait = text.can_wait;
	return OK;
}

/* An administrator may write to anybody. */
static bool
is_for_anybody(const struct req *r, const struct message *m)
{
	return m->to != NULL && r->caller.role == ROLE_ADMIN;
}

static enum err
ask_recipient(struct req *r)
{
	struct message m = { .user_id = INT_NONE };
	enum err err;

	if ((err = read_message(r, &m)))
		return err;
	if (!is_for_anybody(r, &m))
		r->question = recipient_question(r->arena, m.user_id, m.to);
	return OK;
}

static enum err
check_recipient(struct req *r, struct message *m)
{
	const char *pointer = m->to != NULL ? "#/to" : "#/user_id";
	enum err err;

	m->checked = is_for_anybody(r, m);
	if (m->checked)
		return OK;
	if ((err = r->answer->err) == OK)
		err = recipient_answer(&r->answer->reply, &m->to);
	/* A service knows its users: this one was deleted meanwhile. */
	if (err == ERR_NOT_FOUND && m->to == NULL
	    && r->caller.role == ROLE_SERVICE)
		return req_fail(r, ERR_GONE, "this user is there no more");
	if (err == ERR_NOT_FOUND)
		return req_fault(r, pointer, "is of no user");
	m->checked = err == OK;
	return OK;
}

static enum err
insert_message(struct req *r, const struct message *m, int64_t *id)
{
	return db_insert(r->db, &message_insert,
	    DB_ARGS(DB_TEXT(random_text(r->arena, 18)), DB_INT(m->user_id),
		DB_TEXT(m->to), DB_INT(m->checked), DB_TEXT(m->subject),
		DB_TEXT(m->text), DB_TEXT(m->html), DB_INT(clock_ms())),
	    id);
}

static enum err
post_message(struct req *r)
{
	struct message m = { .user_id = INT_NONE };
	const char *who;
	int64_t id;
	enum err err;

	if ((err = read_message(r, &m)) || (err = check_recipient(r, &m)))
		return err;
	who = m.to != NULL
	    ? m.to
	    : arena_printf(r->arena, "user %lld", (long long)m.user_id);
	if ((err = cap_take(r, who, m.can_wait)) || (err = insert_message(r, &m, &id))
	    || (err = reply_message(r, 202, id)))
		return err;
	reply_location(r, "/send_email", id);
	db_notify(r->db);
	return OK;
}

static enum err
get_message(struct req *r)
{
	return reply_message(r, 200, r->id);
}

static enum err
get_messages(struct req *r)
{
	struct query in = { .page = PAGE_INIT };
	enum source source;
	struct db_rows q;
	struct buf *b;
	enum err err;

	if ((err = req_query(r, &in)) || (err = page_start(r, &in.page)))
		return err;
	source = in.to != NULL ? TO : in.status != NULL ? OF_STATUS : ALL;
	q = db_query(r->db, &lists[source],
	    DB_ARGS(DB_INT(in.page.limit + 1), DB_INT(in.page.after_id),
		DB_TEXT(in.status), DB_TEXT(in.to)));
	b = page_open(r);
	while (db_next(&q) && page_take(r, &in.page, db_int(&q, ID), NULL))
		put_message(b, &q);
	if ((err = db_end(&q)))
		return err;
	page_close(r, &in.page);
	return OK;
}

/* What was queued for the address fails unsent; of the rest only the bare
 * record stays. */
static enum err
erase_messages(struct req *r)
{
	struct erasure in = { .before = INT_NONE };
	enum err err;

	if ((err = req_body(r, &in)) || (err = req_query(r, &in))
	    || (err = db_exec(r->db, &message_erase,
		    DB_ARGS(DB_TEXT(in.to), DB_INT(in.before)))))
		return err;
	return reply_empty(r, 204);
}

int64_t
message_prune(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t before = clock_ms() - email_settings.keep_days * CLOCK_DAY;
	int64_t dropped;
	enum err err;

	if (db_begin(db))
		return PRUNE_EVERY;
	if ((err = cap_prune(db)) == OK)
		err = db_exec(db, &message_drop, DB_ARGS(DB_INT(before)));
	dropped = db_changes(db);
	return db_finish(db, err) == OK && dropped > 0 ? 0 : PRUNE_EVERY;
}
