/*
 * The outbox, with a client of the test's own that plays the receiver, so that
 * something can happen while a message is under way.
 */
#include "shared/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/breaker.h"
#include "shared/client.h"
#include "shared/clock.h"
#include "shared/jobs.h"
#include "shared/migrate.h"

#define NOW INT64_C(1800000000000)
#define LEASE_MS (30 * CLOCK_SECOND)
#define POLL_MS (2 * CLOCK_SECOND)

extern const char coster_shared_schema[];

static char dir[32], path[64];
static struct app app;
static struct ctx ctx, other; /* two instances */
static int64_t now;

/* The receiver: what came, and what it answers. */
static struct {
	int count, shares; /* requests, and how often some came at once */
	char request[64], body[64], key[64], previous_key[64];
	int status; /* 0: it cannot be reached */
	void (*meanwhile)(void);
	const char *away; /* is left alone for that long */
	int64_t pause;
} receiver;

struct client *
client_new(const struct ctx *unused)
{
	(void)unused;
	return NULL;
}

void
client_free(struct client *client)
{
	(void)client;
}

int64_t
client_pause(struct client *client, struct arena *a, const char *to)
{
	(void)client;
	return strcmp(breaker_peer(a, to), receiver.away) == 0 ? receiver.pause
							       : 0;
}

enum err
client_call(struct client *client, struct arena *a, const struct client_call *c,
    struct client_reply *reply)
{
	(void)client, (void)a, (void)c, (void)reply;
	fail_msg("a message needs no answer");
	return ERR_INTERNAL;
}

static int
receive(const struct client_call *c)
{
	void (*meanwhile)(void) = receiver.meanwhile;

	receiver.count++;
	memcpy(receiver.previous_key, receiver.key, sizeof(receiver.key));
	snprintf(receiver.request, sizeof(receiver.request), "%s %s", c->method,
	    c->path);
	snprintf(receiver.body, sizeof(receiver.body), "%s",
	    c->body != NULL ? c->body : "-");
	snprintf(receiver.key, sizeof(receiver.key), "%s", c->key);
	receiver.meanwhile = NULL; /* once */
	if (meanwhile != NULL)
		meanwhile();
	return receiver.status;
}

void
client_call_all(struct client *client, struct arena *a,
    const struct client_call *calls, size_t count, int *statuses)
{
	(void)client, (void)a;
	assert_in_range(count, 1, CLIENT_CALLS_MAX);
	receiver.shares++;
	for (size_t i = 0; i < count; i++)
		statuses[i] = receive(&calls[i]);
}

static int
set_up(void **state)
{
	struct db db;

	(void)state;
	memset(&receiver, 0, sizeof(receiver));
	receiver.status = 204;
	receiver.away = "";
	clock_freeze(now = NOW);
	snprintf(dir, sizeof(dir), "/tmp/coster-test.XXXXXX");
	if (mkdtemp(dir) == NULL || token_start() != OK)
		return 1;
	snprintf(path, sizeof(path), "%s/db", dir);
	app.settings.db = path;
	if (db_open(&db, path, DB_SINGLE)
	    || migrate(&db, "shared", coster_shared_schema))
		return 1;
	db_close(&db);
	return ctx_open(&ctx, &app, DB_SINGLE) != OK
	    || ctx_open(&other, &app, DB_SINGLE) != OK;
}

static int
tear_down(void **state)
{
	(void)state;
	ctx_close(&ctx);
	ctx_close(&other);
	unlink(path);
	clock_freeze(0);
	return rmdir(dir);
}

static void
advance(int64_t ms)
{
	clock_freeze(now += ms);
}

static void
put_on(struct ctx *instance, const struct outbox_message *m)
{
	assert_int_equal(db_begin(&instance->db), OK);
	assert_int_equal(outbox_put(&instance->db, m), OK);
	assert_int_equal(db_commit(&instance->db), OK);
	arena_reset(&instance->arena);
}

static void
put_as(const char *subject, const char *method, const char *to)
{
	put_on(&ctx,
	    &(struct outbox_message) { subject, method, to, "{\"n\":1}" });
}

static void
put(const char *subject, const char *to)
{
	put_as(subject, "POST", to);
}

/* One integer; INT_NONE for NULL or no row. */
static int64_t
ask(const char *sql)
{
	int64_t v = INT_NONE;
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(ctx.db.handle, sql, -1, &s, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(ctx.db.handle));
	if (sqlite3_step(s) == SQLITE_ROW
	    && sqlite3_column_type(s, 0) != SQLITE_NULL)
		v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return v;
}

static int64_t
run(struct ctx *instance)
{
	int64_t wait = outbox_run(instance);

	arena_reset(&instance->arena);
	return wait;
}

/* Which requests a run sends, in their order. */
static char requests[256];

static void
note_request(void)
{
	strncat(requests, receiver.request, sizeof(requests) - 1 - strlen(requests));
	strncat(requests, ";", sizeof(requests) - 1 - strlen(requests));
	receiver.meanwhile = note_request;
}

static int64_t waits; /* what it answered */

/* All that the next run sends. */
static const char *
all_sent(void)
{
	*requests = '\0';
	receiver.meanwhile = note_request;
	waits = run(&ctx);
	receiver.meanwhile = NULL;
	return requests;
}

/* What the next run sends; NULL for nothing. */
static const char *
sent(void)
{
	int before = receiver.count;

	run(&ctx);
	assert_true(receiver.count <= before + 1);
	return receiver.count > before ? receiver.request : NULL;
}

static void
test_outbox__delivers_what_was_put(void **state)
{
	(void)state;
	assert_null(sent());
	put("user 1", "/send_email/");
	assert_string_equal(sent(), "POST /send_email/");
	assert_string_equal(receiver.body, "{\"n\":1}");
	assert_int_equal(strlen(receiver.key), 24);
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
	assert_null(sent());
	/* a body is not needed */
	put_on(&ctx,
	    &(struct outbox_message) {
		"user 1", "DELETE", "/log?user_id=1", NULL });
	assert_string_equal(sent(), "DELETE /log?user_id=1");
	assert_string_equal(receiver.body, "-");
	assert_string_not_equal(receiver.key, receiver.previous_key);
}

static void
test_outbox__a_change_undone_tells_nobody(void **state)
{
	(void)state;
	assert_int_equal(db_begin(&ctx.db), OK);
	assert_int_equal(
	    outbox_put(&ctx.db,
		&(struct outbox_message) { "user 1", "POST", "/x", "{}" }),
	    OK);
	db_rollback(&ctx.db);
	assert_null(sent());
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
}

static void
test_outbox__subjects_keep_their_order(void **state)
{
	(void)state;
	put("a", "/x/a/1");
	put("a", "/x/a/2");
	put("b", "/x/b/1");
	put("a", "/x/a/3");
	receiver.status = 0;
	assert_string_equal(all_sent(), "POST /x/a/1;POST /x/b/1;");
	receiver.status = 204;
	/* what is behind it waits, and nobody else does */
	put("b", "/x/b/2");
	put("c", "/x/c/1");
	assert_string_equal(sent(), "POST /x/c/1");
	assert_null(sent());
	advance(CLOCK_SECOND);
	assert_non_null(strstr(all_sent(), "POST /x/a/1;"));
	assert_non_null(strstr(requests, "POST /x/b/1;"));
	assert_string_equal(all_sent(), "POST /x/a/2;POST /x/b/2;");
	assert_string_equal(sent(), "POST /x/a/3");
	assert_null(sent());
}

static void
test_outbox__every_try_has_the_same_key(void **state)
{
	char key[64];

	(void)state;
	put("a", "/x/a");
	receiver.status = 0;
	assert_non_null(sent());
	memcpy(key, receiver.key, sizeof(key));
	for (int i = 0; i < 5; i++) {
		advance(CLOCK_HOUR);
		receiver.status = i % 2 ? 500 : 0;
		assert_non_null(sent());
		assert_string_equal(receiver.key, key);
	}
}

static void
test_outbox__tries_again_ever_more_slowly(void **state)
{
	int64_t ceiling = CLOCK_SECOND / 2;

	(void)state;
	put("a", "/x/a");
	receiver.status = 0;
	for (int64_t tries = 1; tries <= 999; tries++) {
		int64_t wait;

		assert_non_null(sent());
		assert_int_equal(ask("SELECT attempts FROM outbox"), tries);
		assert_int_equal(ask("SELECT dead_at FROM outbox"), INT_NONE);
		wait = ask("SELECT due_at FROM outbox") - now;
		assert_in_range(wait, ceiling / 2, ceiling);
		ceiling *= 2;
		if (ceiling > 5 * CLOCK_MINUTE)
			ceiling = 5 * CLOCK_MINUTE;
		advance(wait - 1);
		assert_null(sent());
		advance(1);
	}
	/* and then no more */
	assert_true(now - NOW > 2 * CLOCK_DAY);
	assert_non_null(sent());
	assert_int_equal(ask("SELECT dead_at FROM outbox"), now);
	advance(CLOCK_DAY);
	assert_null(sent());
}

static void
test_outbox__nothing_waits_for_a_clock_that_was_set_back(void **state)
{
	(void)state;
	put("a", "/x/a");
	receiver.status = 0;
	assert_non_null(sent());
	advance(-CLOCK_DAY);
	assert_string_equal(sent(), "POST /x/a");
	/* also behind one that is due */
	advance(-CLOCK_DAY);
	put("b", "/x/b");
	assert_string_equal(all_sent(), "POST /x/a;POST /x/b;");
}

static void
test_outbox__what_was_given_up_is_dropped_in_the_end(void **state)
{
	(void)state;
	app.settings.outbox_keep_days = 7;
	receiver.status = 422;
	for (int i = 0; i < 600; i++) {
		put("a", "/x/a");
		assert_non_null(sent());
	}
	receiver.status = 0;
	put("a", "/x/a");
	assert_non_null(sent());
	advance(7 * CLOCK_DAY);
	assert_int_equal(outbox_prune(&ctx), CLOCK_HOUR);
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 601);
	advance(1);
	assert_int_equal(outbox_prune(&ctx), 0);
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 101);
	assert_int_equal(outbox_prune(&ctx), 0);
	assert_int_equal(outbox_prune(&ctx), CLOCK_HOUR);
	/* the one that there is hope for */
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 1);
	assert_int_equal(ask("SELECT dead_at FROM outbox"), INT_NONE);
}

static void
test_outbox__what_becomes_of_it_is_in_the_status(void **state)
{
	enum fate { DELIVERED, AGAIN, DEAD };
	static const struct {
		const char *method;
		int status;
		enum fate fate;
	} cases[] = {
		{ "POST", 200, DELIVERED },
		{ "POST", 201, DELIVERED },
		{ "POST", 202, DELIVERED },
		{ "POST", 204, DELIVERED },
		{ "DELETE", 204, DELIVERED },
		{ "DELETE", 404, DELIVERED },
		{ "DELETE", 410, DELIVERED },
		{ "PATCH", 410, DELIVERED },
		{ "POST", 410, DELIVERED },
		{ "POST", 400, DEAD },
		{ "POST", 402, DEAD },
		{ "POST", 404, DEAD },
		{ "PATCH", 404, DEAD },
		{ "POST", 405, DEAD },
		{ "POST", 413, DEAD },
		{ "POST", 415, DEAD },
		{ "POST", 422, DEAD },
		{ "DELETE", 405, DEAD },
		/* a key or a limit that is put right, a request that runs */
		{ "POST", 401, AGAIN },
		{ "POST", 403, AGAIN },
		{ "POST", 408, AGAIN },
		{ "POST", 409, AGAIN },
		{ "POST", 425, AGAIN },
		{ "POST", 429, AGAIN },
		{ "POST", 302, AGAIN },
		{ "POST", 500, AGAIN },
		{ "POST", 503, AGAIN },
		{ "POST", 0, AGAIN },
		{ "DELETE", 0, AGAIN },
		{ "DELETE", 500, AGAIN },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum fate fate = DELIVERED;

		put_as("a", cases[i].method, "/x/a");
		receiver.status = cases[i].status;
		assert_non_null(sent());
		if (ask("SELECT count(*) FROM outbox WHERE dead_at IS NULL") == 1)
			fate = AGAIN;
		else if (ask("SELECT count(*) FROM outbox") == 1)
			fate = DEAD;
		if (fate != cases[i].fate)
			fail_msg("%s %d: %d", cases[i].method, cases[i].status,
			    (int)fate);
		if (fate != DELIVERED)
			assert_int_equal(
			    ask(cases[i].status
				    ? "SELECT substr(last_error, 8) FROM outbox"
				    : "SELECT last_error = 'not reachable'"
				      " FROM outbox"),
			    cases[i].status ? cases[i].status : 1);
		assert_int_equal(sqlite3_exec(ctx.db.handle,
				     "DELETE FROM outbox", NULL, NULL, NULL),
		    SQLITE_OK);
	}
}

static void
test_outbox__a_dead_message_holds_up_nobody(void **state)
{
	(void)state;
	put("a", "/x/a/1");
	put("a", "/x/a/2");
	receiver.status = 422;
	assert_string_equal(sent(), "POST /x/a/1");
	receiver.status = 204;
	assert_string_equal(sent(), "POST /x/a/2");
	/* it is kept for somebody to look at */
	assert_int_equal(
	    ask("SELECT id FROM outbox WHERE last_error = 'status 422'"), 1);
}

static void
drop_a(void)
{
	assert_int_equal(db_begin(&other.db), OK);
	assert_int_equal(outbox_drop(&other.db, "a", INT_NONE), OK);
	assert_int_equal(db_commit(&other.db), OK);
}

static void
test_outbox__what_is_dropped_is_not_sent(void **state)
{
	(void)state;
	put("a", "/x/a/dead");
	receiver.status = 422;
	assert_string_equal(sent(), "POST /x/a/dead");
	receiver.status = 0;
	put("a", "/x/a/1");
	put("a", "/x/a/2");
	put("b", "/x/b/1");
	receiver.meanwhile = drop_a;
	run(&ctx);
	assert_string_equal(receiver.request, "POST /x/b/1");
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 1);
	receiver.status = 204;
	advance(CLOCK_SECOND);
	assert_string_equal(sent(), "POST /x/b/1");
}

static void
test_outbox__what_is_dropped_in_a_turn_is_not_given_back(void **state)
{
	(void)state;
	put("b", "/x/b");
	put("a", "/y/a");
	receiver.status = 0;
	receiver.meanwhile = drop_a;
	assert_string_equal(sent(), "POST /x/b");
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 1);
	/* nor is it sent, when it waited for its turn */
	advance(CLOCK_SECOND);
	put("a", "/y/a");
	receiver.status = 204;
	receiver.meanwhile = drop_a;
	assert_string_equal(sent(), "POST /x/b");
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
}

/* While the first of a subject is under way, which may arrive. */
static void
drop_a_and_put(void)
{
	drop_a();
	put_on(&other,
	    &(struct outbox_message) {
		"a", "POST", "/x/a/next", "{\"n\":1}" });
	assert_int_equal(
	    ask("SELECT count(*) FROM outbox WHERE body LIKE '%1%'"), 1);
	assert_true(run(&other) > 0);
}

static void
test_outbox__what_follows_a_dropped_message_waits_for_it(void **state)
{
	static const int statuses[] = { 0, 422, 503, 201 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		put("a", "/x/a/1");
		receiver.status = statuses[i];
		receiver.meanwhile = drop_a_and_put;
		assert_string_equal(sent(), "POST /x/a/1");
		assert_null(receiver.meanwhile);
		receiver.status = 204;
		assert_string_equal(sent(), "POST /x/a/next");
		assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
	}
}

static void
other_runs(void)
{
	int before = receiver.count;

	assert_true(run(&other) > 0);
	assert_int_equal(receiver.count, before);
}

static void
test_outbox__two_instances_do_not_both_send_it(void **state)
{
	(void)state;
	put("a", "/x/a/1");
	put("a", "/x/a/2");
	receiver.meanwhile = other_runs;
	assert_string_equal(sent(), "POST /x/a/1");
	assert_null(receiver.meanwhile);
	assert_int_equal(receiver.count, 1);
	assert_int_equal(run(&other), JOB_GATHER_MS);
	assert_string_equal(receiver.request, "POST /x/a/2");
}

static int late_status;

static void
lease_runs_out(void)
{
	advance(LEASE_MS - 1);
	other_runs();
	advance(1);
	assert_int_equal(run(&other), JOB_GATHER_MS);
	assert_int_equal(receiver.count, 2);
	/* the next one, which may have the id that is free again */
	put_on(&other,
	    &(struct outbox_message) { "a", "POST", "/x/a/new", "{}" });
	receiver.status = late_status;
}

static void
test_outbox__another_instance_takes_over_from_a_dead_one(void **state)
{
	static const int statuses[] = { 204, 503, 422 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		receiver.count = 0;
		put("a", "/x/a/1");
		late_status = statuses[i];
		receiver.meanwhile = lease_runs_out;
		run(&ctx);
		receiver.status = 204;
		assert_string_equal(receiver.key, receiver.previous_key);
		/* the first comes back, late; the new message is untouched */
		assert_int_equal(ask("SELECT count(*) FROM outbox"), 1);
		assert_int_equal(
		    ask("SELECT attempts + coalesce(dead_at, 0) FROM outbox"), 0);
		assert_string_equal(sent(), "POST /x/a/new");
	}
}

static void
another_has_leased_them(void)
{
	advance(LEASE_MS);
	assert_int_equal(
	    sqlite3_exec(other.db.handle,
		"UPDATE outbox SET leased_until = 7, due_at = 7", NULL, NULL,
		NULL),
	    SQLITE_OK);
}

static void
test_outbox__what_another_has_leased_stays_its_own(void **state)
{
	static const int statuses[] = { 0, 422, 503 };

	(void)state;
	put("a", "/x/a");
	put("b", "/y/b");
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		receiver.meanwhile = another_has_leased_them;
		receiver.status = statuses[i];
		assert_string_equal(sent(), "POST /x/a");
		assert_int_equal(
		    ask("SELECT count(*) FROM outbox WHERE leased_until = 7"
			" AND due_at = 7 AND attempts = 0 AND dead_at IS NULL"),
		    2);
	}
}

static void
test_outbox__receivers_take_turns(void **state)
{
	char subject[] = "a";

	(void)state;
	for (; *subject <= 'j'; ++*subject)
		put(subject, "/m");
	put(subject, "/quick?1");
	put("l", "/quick");
	assert_string_equal(all_sent(),
	    "POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;"
	    "POST /quick?1;POST /quick;");
	assert_int_equal(receiver.shares, 2);
	assert_int_equal(waits, 0);
	assert_string_equal(all_sent(), "POST /m;POST /m;");
	assert_int_equal(receiver.shares, 3);
	assert_int_equal(waits, JOB_GATHER_MS);
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
}

/* Not what was put first. */
static void
test_outbox__what_is_due_longest_goes_first(void **state)
{
	char subject[] = "a";

	(void)state;
	put("z", "/m/z");
	receiver.status = 503;
	assert_string_equal(sent(), "POST /m/z");
	receiver.status = 204;
	for (; *subject <= 'h'; ++*subject)
		put(subject, "/m");
	advance(CLOCK_SECOND);
	put("y", "/m/y");
	assert_string_equal(all_sent(),
	    "POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;POST /m;");
	assert_string_equal(all_sent(), "POST /m/z;POST /m/y;");
}

static void
test_outbox__one_that_is_left_alone_is_not_tried(void **state)
{
	(void)state;
	put("a", "/mail/1");
	put("b", "/mail/2");
	put("a", "/log");
	put("c", "/log");
	receiver.away = "mail";
	receiver.pause = 700;
	assert_string_equal(sent(), "POST /log");
	/* nothing to do until then, however many there are */
	assert_int_equal(run(&ctx), 700);
	assert_int_equal(ask("SELECT max(attempts) FROM outbox"), 0);
	/* its subject waits for it */
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 3);
	receiver.pause = 0;
	assert_string_equal(all_sent(), "POST /mail/1;POST /mail/2;");
	assert_string_equal(sent(), "POST /log");
}

/* What is looked at does not grow with what waits. */
static void
test_outbox__a_backlog_costs_nothing(void **state)
{
	static const char *const statements[] = {
		"SELECT receiver, due_at FROM outbox WHERE dead_at IS NULL"
		" AND waits = 0 AND receiver > '' ORDER BY receiver, due_at",
		"SELECT body FROM outbox WHERE dead_at IS NULL AND waits = 0"
		" AND receiver = 'x' AND due_at <= 1 ORDER BY due_at, id",
		"SELECT min(id) FROM outbox WHERE subject = 'a'"
		" AND dead_at IS NULL",
		"DELETE FROM outbox WHERE subject = 'a'"
		" AND (leased_until IS NULL OR leased_until <= 1)",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
		char *sql = sqlite3_mprintf(
		    "EXPLAIN QUERY PLAN %s", statements[i]);
		sqlite3_stmt *s;

		assert_int_equal(sqlite3_prepare_v2(
				     ctx.db.handle, sql, -1, &s, NULL),
		    SQLITE_OK);
		while (sqlite3_step(s) == SQLITE_ROW) {
			const char *step
			    = (const char *)sqlite3_column_text(s, 3);

			if (strstr(step, "SEARCH") == NULL
			    || strstr(step, "B-TREE") != NULL)
				fail_msg("%s: %s", step, sql);
		}
		sqlite3_finalize(s);
		sqlite3_free(sql);
	}
}

static int
command(const char *name, const char *argument)
{
	char *argv[] = { (char *)(uintptr_t)argument, NULL };

	for (size_t i = 0; i < outbox_commands.count; i++)
		if (strcmp(outbox_commands.list[i].name, name) == 0)
			return outbox_commands.list[i].run(&ctx, 1, argv);
	fail_msg("no command %s", name);
	return -1;
}

static void
test_outbox__an_administrator_sends_again(void **state)
{
	(void)state;
	put("a", "/x/1");
	put("a", "/x/2");
	receiver.status = 422;
	assert_string_equal(sent(), "POST /x/1");
	receiver.status = 503;
	assert_string_equal(sent(), "POST /x/2");
	put("a", "/x/3");
	/* behind what may be under way, before what came later */
	assert_int_equal(command("outbox retry", "1"), EX_OK);
	assert_int_equal(ask("SELECT attempts FROM outbox WHERE id = 1"), 0);
	receiver.status = 204;
	assert_null(sent());
	assert_int_equal(command("outbox retry", "2"), EX_OK); /* now */
	assert_string_equal(sent(), "POST /x/2");
	assert_string_equal(sent(), "POST /x/1");
	assert_string_equal(sent(), "POST /x/3");
	assert_null(sent());
	assert_int_equal(command("outbox retry", "7"), EX_DATAERR);
	assert_int_equal(command("outbox retry", "x"), EX_USAGE);
}

static void
retry_meanwhile(void)
{
	assert_int_equal(command("outbox retry", "1"), EX_OK);
}

static void
test_outbox__what_is_under_way_is_not_sent_twice(void **state)
{
	(void)state;
	put("a", "/x/1");
	receiver.meanwhile = retry_meanwhile;
	receiver.status = 503;
	assert_string_equal(sent(), "POST /x/1");
	assert_null(sent());
}

static void
test_outbox__an_administrator_drops(void **state)
{
	(void)state;
	put("a", "/x/1");
	put("a", "/x/2");
	put("a", "/x/3");
	receiver.status = 503;
	assert_string_equal(sent(), "POST /x/1");
	/* the first of a subject: the next one goes */
	assert_int_equal(command("outbox drop", "1"), EX_OK);
	receiver.status = 422;
	assert_string_equal(sent(), "POST /x/2");
	/* a dead one */
	assert_int_equal(command("outbox drop", "2"), EX_OK);
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 1);
	receiver.status = 204;
	assert_string_equal(sent(), "POST /x/3");
	assert_int_equal(command("outbox drop", "3"), EX_DATAERR);
	assert_int_equal(command("outbox drop", "-3"), EX_USAGE);
}

static void
drop_second(void)
{
	assert_int_equal(command("outbox drop", "2"), EX_OK);
	assert_true(run(&other) > JOB_GATHER_MS); /* what follows it waits */
}

/* By one who has it in hand and did not come to it yet. */
static void
test_outbox__what_an_administrator_drops_is_sent_never(void **state)
{
	(void)state;
	put("a", "/x/1");
	put("b", "/y/2");
	put("b", "/y/3");
	receiver.meanwhile = drop_second;
	run(&ctx);
	assert_int_equal(receiver.count, 1);
	assert_string_equal(sent(), "POST /y/3");
	assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
}

static void
test_outbox__a_list_names_nobody(void **state)
{
	char text[1024] = "";
	FILE *real = stdout, *out;

	(void)state;
	put("user 1", "/send_email/?to=ann%40shop.example");
	put("user 1", "/x/2");
	receiver.status = 422;
	receiver.away = "x";
	receiver.pause = 1;
	assert_string_equal(
	    sent(), "POST /send_email/?to=ann%40shop.example");
	stdout = out = tmpfile();
	assert_int_equal(command("outbox list", NULL), EX_OK);
	stdout = real;
	rewind(out);
	assert_true(fread(text, 1, sizeof(text) - 1, out) > 0);
	fclose(out);
	assert_string_equal(text,
	    "1\tdead\t2027-01-15T08:00:00.000Z\t1\tuser 1"
	    "\tPOST /send_email/\tstatus 422\n"
	    "2\tdue\t2027-01-15T08:00:00.000Z\t0\tuser 1"
	    "\tPOST /x/2\t-\n");
}

static void
test_outbox__a_database_of_before_is_taken_over(void **state)
{
	const char *step = strstr(coster_shared_schema, "\n-- step 2:");
	const char *end = strstr(coster_shared_schema, "\n-- step 3:");
	sqlite3 *h;
	char *first, *second;

	(void)state;
	first = strndup(coster_shared_schema,
	    (size_t)(step - coster_shared_schema));
	second = end != NULL ? strndup(step, (size_t)(end - step))
			     : strdup(step);
	assert_int_equal(sqlite3_open(":memory:", &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, first, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h,
			     "INSERT INTO outbox (subject, method, path, key,"
			     " due_at, created_at, dead_at) VALUES"
			     " ('a', 'POST', '/log', 'k1', 5, 5, 6),"
			     " ('a', 'POST', '/log?x=/y', 'k2', 5, 5, NULL),"
			     " ('a', 'POST', '/user/7/cart/', 'k3', 5, 5, NULL),"
			     " ('b', 'POST', '/invoices', 'k4', 5, 5, NULL)",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, second, NULL, NULL, NULL), SQLITE_OK);
	{
		sqlite3_stmt *s;

		sqlite3_prepare_v2(h,
		    "SELECT group_concat(receiver || waits, ' ') FROM outbox", -1,
		    &s, NULL);
		assert_int_equal(sqlite3_step(s), SQLITE_ROW);
		assert_string_equal((const char *)sqlite3_column_text(s, 0),
		    "log0 log0 user1 invoices0");
		sqlite3_finalize(s);
	}
	sqlite3_close(h);
	free(first);
	free(second);
}

static void
test_outbox__sleeps_as_long_as_it_may(void **state)
{
	int64_t due;

	(void)state;
	assert_int_equal(run(&ctx), POLL_MS);
	put("a", "/x/a/1");
	put("a", "/x/a/2");
	receiver.status = 503;
	assert_int_equal(run(&ctx), JOB_GATHER_MS); /* for more */
	due = ask("SELECT max(due_at) FROM outbox");
	assert_in_range(due - now, 250, 500);
	/* what waits behind it is no reason to be awake */
	assert_int_equal(run(&ctx), due - now);
	advance(due - now - 1);
	assert_int_equal(run(&ctx), 1);
	advance(1);
	assert_int_equal(run(&ctx), JOB_GATHER_MS);
	assert_int_equal(receiver.count, 2);
	for (int i = 0; i < 5; i++) {
		advance(CLOCK_HOUR);
		run(&ctx);
	}
	assert_int_equal(run(&ctx), POLL_MS);
}

#define OUTBOX_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		OUTBOX_TEST(test_outbox__delivers_what_was_put),
		OUTBOX_TEST(test_outbox__a_change_undone_tells_nobody),
		OUTBOX_TEST(test_outbox__subjects_keep_their_order),
		OUTBOX_TEST(test_outbox__every_try_has_the_same_key),
		OUTBOX_TEST(test_outbox__tries_again_ever_more_slowly),
		OUTBOX_TEST(test_outbox__nothing_waits_for_a_clock_that_was_set_back),
		OUTBOX_TEST(
		    test_outbox__what_was_given_up_is_dropped_in_the_end),
		OUTBOX_TEST(test_outbox__what_becomes_of_it_is_in_the_status),
		OUTBOX_TEST(test_outbox__a_dead_message_holds_up_nobody),
		OUTBOX_TEST(test_outbox__what_is_dropped_is_not_sent),
		OUTBOX_TEST(
		    test_outbox__what_is_dropped_in_a_turn_is_not_given_back),
		OUTBOX_TEST(test_outbox__what_follows_a_dropped_message_waits_for_it),
		OUTBOX_TEST(test_outbox__two_instances_do_not_both_send_it),
		OUTBOX_TEST(
		    test_outbox__another_instance_takes_over_from_a_dead_one),
		OUTBOX_TEST(test_outbox__what_another_has_leased_stays_its_own),
		OUTBOX_TEST(test_outbox__receivers_take_turns),
		OUTBOX_TEST(test_outbox__what_is_due_longest_goes_first),
		OUTBOX_TEST(test_outbox__one_that_is_left_alone_is_not_tried),
		OUTBOX_TEST(test_outbox__a_backlog_costs_nothing),
		OUTBOX_TEST(test_outbox__an_administrator_sends_again),
		OUTBOX_TEST(test_outbox__what_is_under_way_is_not_sent_twice),
		OUTBOX_TEST(test_outbox__an_administrator_drops),
		OUTBOX_TEST(
		    test_outbox__what_an_administrator_drops_is_sent_never),
		OUTBOX_TEST(test_outbox__a_list_names_nobody),
		OUTBOX_TEST(test_outbox__a_database_of_before_is_taken_over),
		OUTBOX_TEST(test_outbox__sleeps_as_long_as_it_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
