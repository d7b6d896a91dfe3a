#include "tests/loopback.h"

#include <fnmatch.h>
#include <ftw.h>
#include <unistd.h>

#include "shared/client.h"
#include "shared/clock.h"
#include "shared/file.h"
#include "shared/jobs.h"
#include "shared/migrate.h"
#include "shared/service.h"

#define KEY "0123456789abcdef0123456789abcdef"

struct expected {
	struct expected *next;
	const char *request;
	int status;
	const char *body;
};

struct t {
	char dir[64];
	struct app app;
	struct ctx loop, worker;
	struct token_signer signer;
	struct arena arena; /* as long as the test */
	int64_t now;
	int requests;
	struct expected *expected, **end;
	bool peers_down, deferred;
	const char *got, *got_key;
};

/* The client of the program is this one; see peer(). */
static struct t *current;

struct client *
client_new(const struct ctx *ctx)
{
	(void)ctx;
	return NULL;
}

void
client_free(struct client *client)
{
	(void)client;
}

int64_t
client_pause(struct client *client, struct arena *a, const char *path)
{
	(void)client, (void)a, (void)path;
	return 0;
}

enum err
client_call(struct client *client, struct arena *a, const struct client_call *c,
    struct client_reply *reply)
{
	struct expected *e = current->expected;
	const char *request
	    = arena_printf(&current->arena, "%s %s", c->method, c->path), *why;

	(void)client;
	if (e == NULL && current->peers_down)
		return ERR_UNAVAILABLE;
	if (e == NULL)
		fail_msg("a call nobody expects: %s %s", request,
		    c->body != NULL ? c->body : "");
	if (fnmatch(e->request, request, 0) != 0)
		fail_msg("expected %s, got %s", e->request, request);
	current->expected = e->next;
	if (e->next == NULL)
		current->end = &current->expected;
	current->got
	    = c->body != NULL ? arena_strdup(&current->arena, c->body) : NULL;
	current->got_key
	    = c->key != NULL ? arena_strdup(&current->arena, c->key) : NULL;
	*reply = (struct client_reply) { .status = e->status };
	if (e->status == 0 || (c->sync != NULL && db_sync(c->sync)))
		return ERR_UNAVAILABLE;
	if (e->body != NULL && c->unread && e->status / 100 == 2) {
		reply->text = e->body;
		reply->len = strlen(e->body);
	} else if (e->body != NULL
	    && json_parse(a, e->body, strlen(e->body), &reply->body, &why)) {
		fail_msg("the peer's body: %s", why);
	}
	return OK;
}

void
client_call_all(struct client *client, struct arena *a,
    const struct client_call *calls, size_t count, int *statuses)
{
	struct client_reply reply;

	for (size_t i = 0; i < count; i++)
		statuses[i] = client_call(client, a, &calls[i], &reply) == OK
		    ? reply.status
		    : 0;
}

void
peer(struct t *t, const char *request, int status, const char *body)
{
	struct expected *e = ARENA_NEW(&t->arena, struct expected);

	e->request = request;
	e->status = status;
	e->body = body;
	*t->end = e;
	t->end = &e->next;
}

void
peers_down(struct t *t)
{
	t->peers_down = true;
}

void
peers_forget(struct t *t)
{
	t->expected = NULL;
	t->end = &t->expected;
	arena_reset(&t->arena);
}

bool
was_deferred(const struct t *t)
{
	return t->deferred;
}

const char *
peer_got(struct t *t)
{
	return t->got;
}

const char *
peer_key(struct t *t)
{
	return t->got_key;
}

static void
set_path(struct t *t, const char *name, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->dir, file);
	setenv(name, path, 1);
}

int
loopback_setup(void **state)
{
	struct t *t = calloc(1, sizeof(*t));
	char path[128];

	current = t;
	arena_init(&t->arena);
	t->end = &t->expected;
	snprintf(t->dir, sizeof(t->dir), "/tmp/coster-test.XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	assert_int_equal(token_start(), OK);
	assert_int_equal(token_keygen(t->dir), OK);
	snprintf(path, sizeof(path), "%s/coster.key", t->dir);
	assert_int_equal(file_write(path, KEY "\n", strlen(KEY) + 1, 0600), OK);
	set_path(t, "COSTER_DB", "test.db");
	set_path(t, "COSTER_KEY_FILE", "coster.key");
	set_path(t, "COSTER_JWKS_FILE", "jwks.json");
	set_path(t, "COSTER_SIGNING_KEY_FILE", "signing.jwk");
	setenv("COSTER_PUBLIC_URL", "https://shop.example", 1);
	if (getenv("COSTER_LOG_LEVEL") == NULL)
		setenv("COSTER_LOG_LEVEL", "error", 1);
	t->now = NOW;
	clock_freeze(t->now);
	assert_int_equal(app_configure(&t->app, &service), 0);
	assert_int_equal(app_open(&t->app), 0);
	assert_int_equal(
	    token_load_signer(&t->signer, getenv("COSTER_SIGNING_KEY_FILE")), OK);
	assert_int_equal(ctx_open(&t->loop, &t->app, DB_GROUPED), OK);
	assert_int_equal(ctx_open(&t->worker, &t->app, DB_SINGLE), OK);
	t->loop.db.committed = t->worker.db.committed = NULL;
	*state = t;
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

int
loopback_teardown(void **state)
{
	struct t *t = *state;
	int left = t->expected != NULL;

	if (left)
		print_error("expected and never called: %s\n",
		    t->expected->request);
	ctx_close(&t->loop);
	ctx_close(&t->worker);
	app_close(&t->app);
	arena_release(&t->arena);
	nftw(t->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(t);
	clock_freeze(0);
	return left;
}

const char *
bearer_of(struct t *t, struct as who)
{
	struct token_claims claims = { .sub = who.uid,
		.role = who.role,
		.iat = t->now / 1000,
		.exp = t->now / 1000 + 900,
		.jti = "0.test" };

	return arena_printf(&t->arena, "Bearer %s",
	    token_issue(&t->arena, &t->signer, "https://shop.example", &claims));
}

/* The call as a request that a loop or a worker begins. */
static void
fill(struct t *t, struct req *r, struct ctx *ctx, const struct call *c)
{
	const char *query = strchr(c->path, '?');
	struct arena *a = &t->arena;

	req_init(r, ctx);
	r->param[PARAM_KEY] = KEY;
	r->param[PARAM_PEER] = c->who.role == ROLE_SERVICE ? "service" : "public";
	r->param[PARAM_NETWORK] = c->who.internal ? "internal" : "external";
	r->param[PARAM_METHOD] = c->method;
	r->param[PARAM_PATH] = query == NULL
	    ? c->path
	    : arena_strndup(a, c->path, (size_t)(query - c->path));
	r->param[PARAM_QUERY] = query == NULL ? "" : query + 1;
	r->param[PARAM_REMOTE_ADDR] = "192.0.2.1";
	r->param[PARAM_TRACE] = "test";
	if (c->who.role == ROLE_CUSTOMER || c->who.role == ROLE_ADMIN)
		r->param[PARAM_AUTHORIZATION] = bearer_of(t, c->who);
	if (c->body != NULL) {
		r->param[PARAM_CONTENT_TYPE] = "application/json";
		r->body = c->body;
		r->body_len = strlen(c->body);
	}
	for (size_t i = 0; i < PARAM__COUNT; i++)
		if (c->param[i] != NULL)
			r->param[i] = c->param[i];
}

/* What a streamed reply has sent so far. */
struct gathered {
	struct sink sink;
	struct buf bytes;
};

static bool
begin(struct sink *sink)
{
	(void)sink;
	return true;
}

static bool
gather(struct sink *sink, const char *p, size_t len)
{
	buf_add(&((struct gathered *)sink)->bytes, p, len);
	return true;
}

static struct reply_seen
seen(struct t *t, struct req *r, struct gathered *g)
{
	struct reply_seen rep = { .status = r->reply.status };
	struct buf head;
	const char *why, *end;
	size_t len;

	reply_finish(r, &head);
	buf_add(&g->bytes, head.data, head.len);
	buf_add(&g->bytes, r->reply.body.data, r->reply.body.len);
	end = strstr(g->bytes.data, "\r\n\r\n");
	assert_non_null(end);
	rep.status = r->reply.status;
	rep.fields = arena_strndup(
	    &t->arena, g->bytes.data, (size_t)(end - g->bytes.data) + 2);
	rep.body = end + 4;
	len = strlen(rep.body);
	if ((strstr(rep.fields, "/json\r\n") != NULL
		|| strstr(rep.fields, "+json\r\n") != NULL)
	    && len > 0
	    && strcmp(r->param[PARAM_METHOD], "HEAD") != 0
	    && json_parse(&t->arena, rep.body, len, &rep.json, &why))
		fail_msg("the reply is not JSON: %s: %s", why, rep.body);
	return rep;
}

struct reply_seen
call_with(struct t *t, const struct call *c)
{
	struct gathered g = { .sink = { begin, gather } };
	struct reply_seen rep;
	const char *question;
	struct peer_answer answer;
	int64_t started_us;
	struct req r;

	buf_init(&g.bytes, &t->arena);
	fill(t, &r, &t->loop, c);
	t->deferred = handle(&r) == ERR_DEFER;
	if (t->deferred) {
		question = r.question;
		started_us = r.started_us;
		assert_int_equal(db_turn_end(&t->loop.db), OK);
		fill(t, &r, &t->worker, c);
		r.question = question;
		if (question != NULL) {
			req_ask(&r, 0, &answer);
			fill(t, &r, &t->loop, c);
			r.answer = &answer;
		}
		r.started_us = started_us;
		r.reply.sink = &g.sink;
		assert_int_equal(handle(&r), OK);
	}
	assert_int_equal(db_turn_end(&t->loop.db), OK);
	rep = seen(t, &r, &g);
	arena_reset(&t->loop.arena);
	arena_reset(&t->worker.arena);
	return rep;
}

struct reply_seen
call(struct t *t, const char *method, const char *path, const char *body,
    struct as who)
{
	return call_with(t,
	    &(struct call) {
		.method = method, .path = path, .body = body, .who = who });
}

int64_t
run_job(struct t *t, const char *name)
{
	int64_t wait;

	for (size_t i = 0; i < service.job_count; i++)
		if (strcmp(service.jobs[i].name, name) == 0) {
			wait = service.jobs[i].run(&t->worker);
			arena_reset(&t->worker.arena);
			return wait;
		}
	fail_msg("no such job: %s", name);
	return 0;
}

int
run_command(struct t *t, const char *name, ...)
{
	char *argv[8] = { NULL };
	int argc = 0, status;
	va_list ap;

	va_start(ap, name);
	while (argc < 7 && (argv[argc] = va_arg(ap, char *)) != NULL)
		argc++;
	va_end(ap);
	for (size_t i = 0; i < service.command_count; i++)
		if (strcmp(service.commands[i].name, name) == 0) {
			status = service.commands[i].run(&t->worker, argc, argv);
			arena_reset(&t->worker.arena);
			return status;
		}
	fail_msg("no such command: %s", name);
	return -1;
}

void
advance(struct t *t, int64_t ms)
{
	t->now += ms;
	clock_freeze(t->now);
}

struct ctx *
worker(struct t *t)
{
	return &t->worker;
}

struct app *
app_of(struct t *t)
{
	return &t->app;
}

struct arena *
test_arena(struct t *t)
{
	return &t->arena;
}

int64_t
sql_int(struct t *t, const char *sql)
{
	return sql_int_in(&t->worker.db, sql);
}

int64_t
sql_int_in(struct db *db, const char *sql)
{
	int64_t v = INT_NONE;
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db->handle));
	if (sqlite3_step(s) == SQLITE_ROW
	    && sqlite3_column_type(s, 0) != SQLITE_NULL)
		v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return v;
}

void
open_before_step(struct t *t, int step, const char *sql, struct db *db)
{
	const char *mark = arena_printf(&t->arena, "\n-- step %d:", step);
	const char *end = strstr(service.schema, mark);

	assert_non_null(end);
	assert_int_equal(
	    db_open(db, arena_printf(&t->arena, "%s/old.db", t->dir),
		DB_SINGLE),
	    OK);
	assert_int_equal(migrate(db, service.name,
			     arena_strndup(&t->arena, service.schema,
				 (size_t)(end - service.schema))),
	    OK);
	assert_int_equal(
	    sqlite3_exec(db->handle, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* All rows that SQL answers, as text. */
static const char *
rows_of(struct t *t, struct db *db, const char *sql)
{
	sqlite3_stmt *s;
	struct buf b;

	buf_init(&b, &t->arena);
	assert_int_equal(
	    sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL), SQLITE_OK);
	while (sqlite3_step(s) == SQLITE_ROW) {
		json_open(&b, NULL, '[');
		for (int i = 0; i < sqlite3_column_count(s); i++)
			json_text(
			    &b, NULL, (const char *)sqlite3_column_text(s, i));
		json_close(&b, ']');
	}
	sqlite3_finalize(s);
	return b.data;
}

void
assert_kept(struct t *t, int step, const char *sql,
    const char *const *queries, struct db *db)
{
	const char *before[16];
	size_t count = 0;

	open_before_step(t, step, sql, db);
	for (; queries[count] != NULL; count++) {
		assert_true(count < ARRAY_LEN(before));
		before[count] = rows_of(t, db, queries[count]);
		assert_string_not_equal(before[count], "");
	}
	assert_int_equal(migrate(db, service.name, service.schema), OK);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(rows_of(t, db, queries[i]), before[i]);
}

void
assert_refused(struct db *db, int code, const char *sql)
{
	assert_int_equal(
	    sqlite3_exec(db->handle, sql, NULL, NULL, NULL), code);
}

extern const struct stmt __start_coster_stmt[], __stop_coster_stmt[];

static bool
is_excepted(const char *step, const char *sql, const struct plan_exception *e)
{
	for (; e != NULL && e->step != NULL; e++)
		if (fnmatch(e->step, step, 0) == 0
		    && fnmatch(e->sql, sql, 0) == 0)
			return true;
	return false;
}

static void
check_plan(struct t *t, const char *sql, const struct plan_exception *except)
{
	char *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
	sqlite3_stmt *s;

	assert_int_equal(sqlite3_prepare_v2(t->worker.db.handle, explain, -1,
			     &s, NULL),
	    SQLITE_OK);
	while (sqlite3_step(s) == SQLITE_ROW) {
		const char *step = (const char *)sqlite3_column_text(s, 3);

		if ((strncmp(step, "SCAN ", 5) == 0
			|| strstr(step, "TEMP B-TREE") != NULL)
		    && !is_excepted(step, sql, except))
			fail_msg("%s: %s", step, sql);
	}
	sqlite3_finalize(s);
	sqlite3_free(explain);
}

int
check_plans_but(
    struct t *t, const char *pattern, const struct plan_exception *except)
{
	int n = 0;

	for (const struct stmt *s = __start_coster_stmt; s < __stop_coster_stmt;
	     s++)
		if (fnmatch(pattern, s->sql, 0) == 0) {
			check_plan(t, s->sql, except);
			n++;
		}
	return n;
}

int
check_plans(struct t *t, const char *pattern)
{
	return check_plans_but(t, pattern, NULL);
}

void
check_status(const struct reply_seen *rep, int want, const char *file, int line)
{
	if (rep->status == want)
		return;
	print_error("expected %d, got %d: %s\n", want, rep->status, rep->body);
	_fail(file, line);
}

void
check_problem(const struct reply_seen *rep, int want, const char *pointer,
    const char *file, int line)
{
	struct json_object *errors = member(rep, "errors");
	size_t n = errors != NULL ? json_object_array_length(errors) : 0;
	struct json_object *v;

	check_status(rep, want, file, line);
	if (strstr(rep->fields, "Content-Type: application/problem+json\r\n")
		== NULL
	    || int_at(rep, "status") != want || text_at(rep, "title") == NULL) {
		print_error("not a problem body: %s\n", rep->body);
		_fail(file, line);
	}
	for (size_t i = 0; pointer != NULL && i < n; i++)
		if (json_object_object_get_ex(
			json_object_array_get_idx(errors, i), "pointer", &v)
		    && strcmp(json_object_get_string(v), pointer) == 0)
			return;
	if (pointer != NULL) {
		print_error("no fault at %s: %s\n", pointer, rep->body);
		_fail(file, line);
	}
}

struct json_object *
member(const struct reply_seen *rep, const char *path)
{
	struct json_object *v = rep->json, *next;
	char name[64];

	while (v != NULL && *path != '\0') {
		size_t len = strcspn(path, "/");

		snprintf(name, sizeof(name), "%.*s", (int)len, path);
		if (json_object_is_type(v, json_type_array))
			v = json_object_array_get_idx(
			    v, strtoul(name, NULL, 10));
		else
			v = json_object_object_get_ex(v, name, &next) ? next
								      : NULL;
		path += len + (path[len] == '/');
	}
	return v;
}

int64_t
int_at(const struct reply_seen *rep, const char *path)
{
	struct json_object *v = member(rep, path);

	return json_object_is_type(v, json_type_int) ? json_object_get_int64(v)
						     : INT_NONE;
}

const char *
text_at(const struct reply_seen *rep, const char *path)
{
	struct json_object *v = member(rep, path);

	return json_object_is_type(v, json_type_string)
	    ? json_object_get_string(v)
	    : NULL;
}
