#include "shared/idempotency.h"

#include <pthread.h>

#include "tests/loopback.h"

#include "shared/clock.h"
#include "shared/jobs.h"

STMT(effect_add, "INSERT INTO effect (what) VALUES ($1) RETURNING id");
STMT(effect_note, "INSERT INTO effect (what) VALUES ($1)");

static handler_fn post_note, touch_note, post_slow, post_secret, post_refused;
static const struct field_table note_fields;

static const struct route routes[] = {
	{ "POST", "/note", post_note, ROUTE_ANYONE,
	    .body = &note_fields },
	{ "POST", "/note/{id}", post_note, ROUTE_ANYONE,
	    .body = &note_fields },
	{ "PUT", "/note/{id}", touch_note, ROUTE_ANYONE },
	{ "PATCH", "/note/{id}", touch_note, ROUTE_ANYONE },
	{ "DELETE", "/note/{id}", touch_note, ROUTE_ANYONE },
	{ "POST", "/slow", post_slow, ROUTE_ANYONE | ROUTE_SLOW,
	    .body = &note_fields },
	{ "POST", "/secret", post_secret, ROUTE_ANYONE | ROUTE_SECRET,
	    .body = &note_fields },
	{ "POST", "/refused", post_refused, ROUTE_ANYONE,
	    .body = &note_fields },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

static const struct job jobs[]
    = { { "idempotency", idempotency_prune, JOB_TIMED } };

const struct service service = {
	.name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "-- step 1: what requests did\n"
		  "CREATE TABLE effect (id INTEGER PRIMARY KEY, what TEXT)"
		  " STRICT;",
	.jobs = jobs,
	.job_count = ARRAY_LEN(jobs),
};

/* What a slow request does while it runs, and how it ends. */
static struct {
	void (*meanwhile)(struct req *r);
	enum err err;
	int runs;
} slow;

struct note {
	const char *text;
};

static const struct field_table note_fields = FIELDS(
	FIELD(struct note, text, .flags = FIELD_REQUIRED));

static enum err
post_note(struct req *r)
{
	struct note note = { 0 };
	struct buf *b;
	int64_t id;
	enum err err;

	if ((err = req_body(r, &note))
	    || (err = db_get(r->db, &effect_add, DB_ARGS(DB_TEXT(note.text)),
		    DB_INTO(DB_INT_TO(&id)))))
		return err;
	b = reply_json(r, 201);
	json_open(b, NULL, '{');
	json_int(b, "id", id);
	json_close(b, '}');
	reply_version(r, id);
	reply_location(r, "/note", id);
	return OK;
}

static enum err
touch_note(struct req *r)
{
	enum err err;

	if ((err = db_exec(r->db, &effect_note,
		 DB_ARGS(DB_TEXT(r->param[PARAM_METHOD])))))
		return err;
	return reply_empty(r, 204);
}

static enum err
post_slow(struct req *r)
{
	void (*meanwhile)(struct req *) = slow.meanwhile;
	enum err err;

	slow.runs++;
	slow.meanwhile = NULL; /* once */
	if (meanwhile != NULL)
		meanwhile(r);
	if (slow.err)
		return slow.err;
	if ((err = db_begin(r->db)))
		return err;
	return post_note(r);
}

static enum err
post_secret(struct req *r)
{
	return post_note(r);
}

/* It has an effect first, and then finds out that it may not. */
static enum err
post_refused(struct req *r)
{
	enum err err = post_note(r);

	return err ? err : req_fail(r, ERR_CONFLICT, "not so");
}

static struct arena kept; /* as long as the test */

static int
set_up(void **state)
{
	memset(&slow, 0, sizeof(slow));
	arena_init(&kept);
	return loopback_setup(state);
}

static int
tear_down(void **state)
{
	arena_release(&kept);
	return loopback_teardown(state);
}

#define A "{\"text\":\"a\"}"
#define B "{\"text\":\"b\"}"

static struct reply_seen
post(struct t *t, const char *path, const char *key, const char *id,
    const char *body)
{
	struct call c = { .method = "POST", .path = path, .body = body };

	c.param[PARAM_IDEMPOTENCY_KEY] = key;
	c.param[PARAM_REQUEST_ID] = id;
	return call_with(t, &c);
}

static int64_t
effects(struct t *t)
{
	return sql_int(t, "SELECT count(*) FROM effect");
}

#define REPLAYED "Idempotent-Replayed: true\r\n"

static void
assert_replayed(const struct reply_seen *rep, bool replayed)
{
	assert_int_equal(strstr(rep->fields, REPLAYED) != NULL, replayed);
}

static void
test_idempotency__same_key_and_body_get_the_first_reply(void **state)
{
	struct t *t = *state;
	struct reply_seen first = post(t, "/note", "k", NULL, A), rep;

	assert_status(&first, 201);
	assert_replayed(&first, false);
	for (int i = 0; i < 2; i++) {
		rep = post(t, "/note", "k", NULL, A);
		assert_status(&rep, 201);
		assert_replayed(&rep, true);
		assert_string_equal(rep.body, first.body);
		assert_non_null(strstr(rep.fields, "Location: /note/1\r\n"));
		assert_non_null(strstr(rep.fields, "ETag: \"1\"\r\n"));
		assert_non_null(
		    strstr(rep.fields, "Content-Type: application/json\r\n"));
	}
	assert_int_equal(effects(t), 1);
	/* without a key each counts */
	rep = post(t, "/note", NULL, NULL, A);
	rep = post(t, "/note", "", NULL, A);
	assert_int_equal(effects(t), 3);
}

static void
test_idempotency__another_body_is_refused(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", NULL, A);

	rep = post(t, "/note", "k", NULL, B);
	assert_problem(&rep, 422, NULL);
	assert_string_equal(text_at(&rep, "type"),
	    "urn:coster:problem:idempotency-key-reused");
	assert_int_equal(effects(t), 1);
}

static void
test_idempotency__keys_are_of_a_caller_and_a_path(void **state)
{
	static const struct {
		const char *path;
		struct as who;
	} cases[] = {
		{ "/note", { ROLE_NOBODY, 0, false } },
		{ "/note", { ROLE_NOBODY, 0, true } },
		{ "/note", { ROLE_CUSTOMER, 1, false } },
		{ "/note", { ROLE_CUSTOMER, 2, false } },
		{ "/note", { ROLE_ADMIN, 1, false } },
		{ "/note", { ROLE_SERVICE, 0, false } },
		{ "/note/1", { ROLE_CUSTOMER, 1, false } },
		{ "/note/2", { ROLE_CUSTOMER, 1, false } },
		{ "/slow", { ROLE_CUSTOMER, 1, false } },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c = { .method = "POST",
			.path = cases[i].path,
			.body = i % 2 ? A : B,
			.who = cases[i].who };
		struct reply_seen rep;

		c.param[PARAM_IDEMPOTENCY_KEY] = "k";
		rep = call_with(t, &c);
		assert_status(&rep, 201);
		assert_replayed(&rep, false);
	}
	assert_int_equal(effects(t), ARRAY_LEN(cases));
}

static void
test_idempotency__shapes_of_keys(void **state)
{
	char longest[257];
	const struct {
		const char *key;
		int status;
	} cases[] = {
		{ "!", 201 },
		{ "~", 201 },
		{ "\"quoted\"", 201 },
		{ longest + 1, 201 },
		{ longest, 422 },
		{ "a b", 422 },
		{ " ", 422 },
		{ "a\tb", 422 },
		{ "a\x7f", 422 },
		{ "\xc3\xa9", 422 },
		{ "\x01", 422 },
	};
	struct t *t = *state;

	memset(longest, 'k', 256);
	longest[256] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep
		    = post(t, "/note", cases[i].key, NULL, A);

		assert_status(&rep, cases[i].status);
		if (cases[i].status != 422)
			continue;
		rep = post(t, "/slow", cases[i].key, NULL, A);
		assert_problem(&rep, 422, NULL);
	}
	assert_int_equal(effects(t), 4);
}

/* The same request on a connection that is made now, as after a restart. */
static struct reply_seen
after_restart(struct t *t, const char *path, const char *key, const char *id,
    const char *body)
{
	struct reply_seen rep;
	struct ctx ctx;
	struct req r;

	assert_int_equal(ctx_open(&ctx, app_of(t), DB_SINGLE), OK);
	req_init(&r, &ctx);
	r.param[PARAM_KEY] = app_of(t)->key;
	r.param[PARAM_METHOD] = "POST";
	r.param[PARAM_PATH] = path;
	r.param[PARAM_CONTENT_TYPE] = "application/json";
	r.param[PARAM_IDEMPOTENCY_KEY] = key;
	r.param[PARAM_REQUEST_ID] = id;
	r.body = body;
	r.body_len = strlen(body);
	assert_int_equal(handle(&r), OK);
	rep = (struct reply_seen) { .status = r.reply.status,
		.fields = arena_strdup(&kept, r.reply.fields.data),
		.body = arena_strdup(&kept, r.reply.body.data) };
	ctx_close(&ctx);
	return rep;
}

static void
test_idempotency__keys_are_kept_over_a_restart(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", NULL, A);

	rep = after_restart(t, "/note", "k", "", A);
	assert_int_equal(rep.status, 201);
	assert_replayed(&rep, true);
	assert_string_equal(rep.body, "{\"id\":1}");
	assert_int_equal(effects(t), 1);
}

/* Whether or not the job that drops them has run. */
static void
test_idempotency__keys_are_kept_for_a_day(void **state)
{
	static const char *const paths[] = { "/note", "/slow" };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		int64_t before = effects(t);
		struct reply_seen rep = post(t, paths[i], "k", NULL, A);

		advance(t, CLOCK_DAY - 1);
		rep = post(t, paths[i], "k", NULL, A);
		assert_replayed(&rep, true);
		advance(t, 1);
		rep = post(t, paths[i], "k", NULL, B);
		assert_status(&rep, 201);
		assert_replayed(&rep, false);
		assert_int_equal(effects(t), before + 2);
		/* and is a key of that reply from now on */
		rep = post(t, paths[i], "k", NULL, A);
		assert_problem(&rep, 422, NULL);
		rep = post(t, paths[i], "k", NULL, B);
		assert_replayed(&rep, true);
		assert_int_equal(int_at(&rep, "id"), before + 2);
		assert_int_equal(effects(t), before + 2);
	}
}

static void
test_idempotency__keys_are_kept_as_long_as_is_set(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	app_of(t)->settings.idempotency_hours = 2;
	post(t, "/note", "k", NULL, A);
	advance(t, 2 * CLOCK_HOUR - 1);
	rep = post(t, "/note", "k", NULL, A);
	assert_replayed(&rep, true);
	advance(t, 1);
	rep = post(t, "/note", "k", NULL, A);
	assert_replayed(&rep, false);
}

/* Its outbox may try for days, and must not make a thing twice. */
static void
test_idempotency__keys_of_services_are_kept_longer(void **state)
{
	struct call c = { .method = "POST",
		.path = "/note",
		.body = A,
		.who = AS_SERVICE,
		.param = { [PARAM_IDEMPOTENCY_KEY] = "k" } };
	struct t *t = *state;
	struct reply_seen rep = call_with(t, &c);

	assert_status(&rep, 201);
	advance(t, 5 * CLOCK_DAY - 1);
	rep = call_with(t, &c);
	assert_replayed(&rep, true);
	advance(t, 1);
	rep = call_with(t, &c);
	assert_replayed(&rep, false);
	assert_int_equal(effects(t), 2);
}

static void
test_idempotency__a_service_has_keys_for_all_methods(void **state)
{
	static const char *const methods[] = { "PUT", "PATCH", "DELETE" };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		for (int own = 0; own < 2; own++) {
			struct call c = { .method = methods[i],
				.path = "/note/1",
				.who = own ? AS_SERVICE : AS_ADMIN,
				.param = { [PARAM_IDEMPOTENCY_KEY] = "k" } };
			int64_t before = effects(t);
			struct reply_seen rep = call_with(t, &c);

			assert_status(&rep, 204);
			rep = call_with(t, &c);
			assert_replayed(&rep, own);
			assert_int_equal(
			    effects(t) - before, own ? 1 : 2);
		}
}

static void
test_idempotency__a_repeated_request_has_one_effect(void **state)
{
	static const char *const methods[] = { "POST", "PUT", "PATCH", "DELETE" };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		struct call c = { .method = methods[i],
			.path = "/note/7",
			.body = A };
		int64_t before = effects(t);
		struct reply_seen first, again;

		c.param[PARAM_REQUEST_ID] = methods[i];
		first = call_with(t, &c);
		again = call_with(t, &c);
		/* as if it had come but once */
		assert_int_equal(again.status, first.status);
		assert_string_equal(again.fields, first.fields);
		assert_string_equal(again.body, first.body);
		assert_int_equal(effects(t), before + 1);
		/* nginx does not repeat what is five minutes old */
		advance(t, 5 * CLOCK_MINUTE);
		again = call_with(t, &c);
		assert_int_equal(effects(t), before + 2);
	}
}

static void
test_idempotency__key_and_request_together(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", "r1", A);

	rep = post(t, "/note", "k", "r1", A); /* the key tells */
	assert_status(&rep, 201);
	assert_replayed(&rep, true);
	rep = post(t, "/note", "k", "r2", A);
	assert_replayed(&rep, true);
	rep = post(t, "/note", "k2", "r1", A);
	assert_replayed(&rep, false);
	assert_int_equal(effects(t), 2);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 2);
}

static void
test_idempotency__what_was_refused_may_be_tried_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", "r1", "{\"text\":1}");

	assert_problem(&rep, 422, "#/text");
	rep = post(t, "/refused", "k", "r2", A);
	assert_problem(&rep, 409, NULL);
	assert_int_equal(effects(t), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 0);
	rep = post(t, "/note", "k", "r1", A);
	assert_status(&rep, 201);
	assert_int_equal(effects(t), 1);
}

static void
test_idempotency__secrets_are_not_stored(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/secret", "k", "r1", A);

	assert_status(&rep, 201);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 0);
	rep = post(t, "/secret", "k", "r2", B);
	assert_status(&rep, 201);
	assert_int_equal(effects(t), 2);
}

/* A body may hold a password: its plain hash is nowhere. */
static void
test_idempotency__fingerprints_need_the_secret(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", NULL, A);
	char key[33];

	assert_status(&rep, 201);
	/* the same request where the secret is another */
	memset(key, 'x', 32);
	key[32] = '\0';
	memcpy((char *)(uintptr_t)app_of(t)->key, key, 32);
	rep = after_restart(t, "/note", "k", "", A);
	assert_int_equal(rep.status, 422);
}

/* A second request that comes while the first one runs. */
static struct {
	const char *id;
	struct t *t;
	struct reply_seen rep;
} second;

static void
come_second(struct req *r)
{
	(void)r;
	second.rep = after_restart(second.t, "/slow", "k", second.id, A);
}

static void
test_idempotency__a_slow_request_is_in_progress(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	second.t = t;
	second.id = "r2";
	slow.meanwhile = come_second;
	rep = post(t, "/slow", "k", "r1", A);
	assert_status(&rep, 201);
	assert_int_equal(second.rep.status, 409);
	assert_non_null(
	    strstr(second.rep.body, "urn:coster:problem:request-in-progress"));
	assert_non_null(strstr(second.rep.fields, "Retry-After: 1\r\n"));
	assert_int_equal(slow.runs, 1);
	rep = post(t, "/slow", "k", "r2", A);
	assert_replayed(&rep, true);
	assert_int_equal(effects(t), 1);
}

/* Nor does it look like its own repetition when nothing names it. */
static void
test_idempotency__a_request_without_an_id_keeps_its_claim(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	second.t = t;
	second.id = "";
	slow.meanwhile = come_second;
	rep = post(t, "/slow", "k", NULL, A);
	assert_status(&rep, 201);
	assert_int_equal(second.rep.status, 409);
	assert_int_equal(effects(t), 1);
}

static void
test_idempotency__a_repetition_takes_the_claim_over(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	second.t = t;
	second.id = "r1";
	slow.meanwhile = come_second;
	rep = post(t, "/slow", "k", "r1", A);
	/* both ran, the second was done first, and the first sees that */
	assert_int_equal(slow.runs, 2);
	assert_int_equal(second.rep.status, 201);
	assert_status(&rep, 201);
	assert_string_equal(rep.body, second.rep.body);
	assert_int_equal(effects(t), 1);
}

static void
set_back(struct req *r)
{
	advance(second.t, -CLOCK_HOUR);
	come_second(r);
}

static void
test_idempotency__a_claim_of_a_clock_that_was_ahead_is_no_longer_one(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	second.t = t;
	second.id = "r2";
	slow.meanwhile = set_back;
	rep = post(t, "/slow", "k", "r1", A);
	assert_int_equal(second.rep.status, 201);
	assert_string_equal(rep.body, second.rep.body);
	assert_int_equal(effects(t), 1);
}

/* Its route was a slow one before an upgrade. */
static void
test_idempotency__a_claim_is_nothing_to_a_quick_route(void **state)
{
	struct t *t = *state;
	struct reply_seen rep = post(t, "/note", "k", NULL, A);

	assert_status(&rep, 201);
	assert_int_equal(sqlite3_exec(worker(t)->db.handle,
			     "UPDATE idempotency SET status = NULL,"
			     " body = NULL, head = 'r1'",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	rep = post(t, "/note", "k", "r2", A);
	assert_status(&rep, 201);
	assert_replayed(&rep, false);
	rep = post(t, "/note", "k", "r3", A);
	assert_replayed(&rep, true);
	assert_int_equal(effects(t), 2);
}

static void
test_idempotency__a_claim_is_given_back_after_an_error(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	slow.err = ERR_UNAVAILABLE;
	rep = post(t, "/slow", "k", "r1", A);
	assert_problem(&rep, 503, NULL);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 0);
	slow.err = OK;
	rep = post(t, "/slow", "k", "r2", A);
	assert_status(&rep, 201);
	assert_replayed(&rep, false);
	assert_int_equal(effects(t), 1);
}

/* Requests that are at their beginning, as two instances see them. */
static void
begin(struct req *r, struct ctx *ctx, const char *key, const char *id)
{
	req_init(r, ctx);
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		if (strcmp(routes[i].pattern, "/slow") == 0)
			r->route = &routes[i];
	r->param[PARAM_METHOD] = "POST";
	r->param[PARAM_PATH] = "/slow";
	r->param[PARAM_IDEMPOTENCY_KEY] = key;
	r->param[PARAM_REQUEST_ID] = id;
}

static void
test_idempotency__a_claim_ends_with_its_instance(void **state)
{
	struct t *t = *state;
	enum idempotency what;
	struct req r1, r2, r3;

	begin(&r1, worker(t), "k", "r1");
	begin(&r2, worker(t), "k", "r2");
	begin(&r3, worker(t), "k", "r3");
	assert_int_equal(idempotency_start(&r1, &what), OK);
	assert_int_equal(what, IDEMPOTENCY_NEW);
	advance(t, CLOCK_MINUTE - 1);
	assert_int_equal(idempotency_start(&r2, &what), ERR_CONFLICT);
	advance(t, 1);
	assert_int_equal(idempotency_start(&r2, &what), OK);
	assert_int_equal(what, IDEMPOTENCY_NEW);
	/* and the one that comes back has none to give back */
	idempotency_forget(&r1);
	assert_int_equal(idempotency_start(&r3, &what), ERR_CONFLICT);
	idempotency_forget(&r2);
	assert_int_equal(idempotency_start(&r3, &what), OK);
}

#define RACERS 8
#define RACES 25

struct racer {
	struct t *t;
	pthread_barrier_t *start;
	char id[16];
	int won;
};

static void *
race(void *argument)
{
	struct racer *me = argument;
	enum idempotency what;
	struct ctx ctx;
	struct req r;
	char key[16];

	if (ctx_open(&ctx, app_of(me->t), DB_SINGLE))
		return NULL;
	for (int i = 0; i < RACES; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		begin(&r, &ctx, key, me->id);
		pthread_barrier_wait(me->start);
		me->won += idempotency_start(&r, &what) == OK;
		arena_reset(&ctx.arena);
	}
	ctx_close(&ctx);
	return NULL;
}

static void
test_idempotency__one_of_many_gets_the_claim(void **state)
{
	struct racer racers[RACERS];
	pthread_t threads[RACERS];
	pthread_barrier_t start;
	int won = 0;

	pthread_barrier_init(&start, NULL, RACERS);
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer) { .t = *state, .start = &start };
		snprintf(racers[i].id, sizeof(racers[i].id), "r%d", i);
		assert_int_equal(
		    pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++) {
		pthread_join(threads[i], NULL);
		won += racers[i].won;
	}
	pthread_barrier_destroy(&start);
	assert_int_equal(won, RACES);
}

static void
test_idempotency__prune_drops_what_has_expired(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	for (int i = 0; i < 600; i++) {
		char id[48];

		if (i < 3) /* not nginx's */
			snprintf(id, sizeof(id), "%x", 0xe + i);
		else
			snprintf(id, sizeof(id), "%lld.%03d-r%d",
			    (long long)clock_ms() / 1000, i % 1000, i);
		rep = post(t, "/note", i == 0 ? "k" : NULL, id, A);
		assert_status(&rep, 201);
	}
	assert_true(run_job(t, "idempotency") > 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 600);
	advance(t, 5 * CLOCK_MINUTE + CLOCK_SECOND);
	/* not all at once: others want to write too */
	assert_int_equal(run_job(t, "idempotency"), 0);
	assert_true(sql_int(t, "SELECT count(*) FROM idempotency") > 1);
	while (run_job(t, "idempotency") == 0)
		;
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 1);
	rep = post(t, "/note", "k", NULL, A);
	assert_replayed(&rep, true);
	advance(t, CLOCK_DAY);
	assert_int_equal(run_job(t, "idempotency"), 0);
	assert_int_equal(sql_int(t, "SELECT count(*) FROM idempotency"), 0);
}

#define KEY_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		KEY_TEST(
		    test_idempotency__same_key_and_body_get_the_first_reply),
		KEY_TEST(test_idempotency__another_body_is_refused),
		KEY_TEST(test_idempotency__keys_are_of_a_caller_and_a_path),
		KEY_TEST(test_idempotency__shapes_of_keys),
		KEY_TEST(test_idempotency__keys_are_kept_over_a_restart),
		KEY_TEST(test_idempotency__keys_are_kept_for_a_day),
		KEY_TEST(test_idempotency__keys_are_kept_as_long_as_is_set),
		KEY_TEST(test_idempotency__keys_of_services_are_kept_longer),
		KEY_TEST(test_idempotency__a_service_has_keys_for_all_methods),
		KEY_TEST(test_idempotency__a_repeated_request_has_one_effect),
		KEY_TEST(test_idempotency__key_and_request_together),
		KEY_TEST(
		    test_idempotency__what_was_refused_may_be_tried_again),
		KEY_TEST(test_idempotency__secrets_are_not_stored),
		KEY_TEST(test_idempotency__fingerprints_need_the_secret),
		KEY_TEST(test_idempotency__a_slow_request_is_in_progress),
		KEY_TEST(
		    test_idempotency__a_request_without_an_id_keeps_its_claim),
		KEY_TEST(test_idempotency__a_repetition_takes_the_claim_over),
		KEY_TEST(
		    test_idempotency__a_claim_of_a_clock_that_was_ahead_is_no_longer_one),
		KEY_TEST(test_idempotency__a_claim_is_nothing_to_a_quick_route),
		KEY_TEST(
		    test_idempotency__a_claim_is_given_back_after_an_error),
		KEY_TEST(test_idempotency__a_claim_ends_with_its_instance),
		KEY_TEST(test_idempotency__one_of_many_gets_the_claim),
		KEY_TEST(test_idempotency__prune_drops_what_has_expired),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
