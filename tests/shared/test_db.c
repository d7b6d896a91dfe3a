#include "tests/loopback.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/faults.h"

STMT(put, "INSERT INTO pair (name, number) VALUES ($1, $2)");
STMT(spoil,
    "UPDATE pair SET number = CASE WHEN number > 1 THEN 0.5 ELSE 7 END");

STMT(put_returning,
    "INSERT INTO pair (name, number) VALUES ($1, $2) RETURNING id");
STMT(get, "SELECT id, name, number, bytes FROM pair WHERE name = $1");
STMT(find_swapped, "SELECT id FROM pair WHERE number = $2 AND name = $1");
STMT(list, "SELECT number FROM pair ORDER BY id");
STMT(set_bytes, "UPDATE pair SET bytes = $2 WHERE name = $1");
STMT(child_put, "INSERT INTO child (pair_id) VALUES ($1)");

static const struct route_table *const no_routes[1];

const struct service service = {
	.name = "test",
	.routes = no_routes,
	.schema = "\n-- step 1: pairs\n"
		  "CREATE TABLE pair (id INTEGER PRIMARY KEY, name TEXT NOT NULL"
		  " UNIQUE, number INTEGER CHECK (number < 1000), bytes BLOB)"
		  " STRICT;"
		  "CREATE TABLE child (pair_id INTEGER REFERENCES pair (id))"
		  " STRICT;",
};

static enum err
put_pair(struct db *db, const char *name, int64_t number)
{
	return db_exec(db, &put, DB_ARGS(DB_TEXT(name), DB_INT(number)));
}

static struct db *
single(void **state)
{
	return &worker(*state)->db;
}

static int64_t
count(struct t *t)
{
	return sql_int(t, "SELECT count(*) FROM pair");
}

/* A connection of a loop, on the fixture's database. */
static void
open_grouped(struct t *t, struct ctx *ctx)
{
	assert_int_equal(db_open(&ctx->db, app_of(t)->settings.db, DB_GROUPED), OK);
	assert_int_equal(db_prepare(&ctx->db), OK);
	arena_init(&ctx->arena);
}

static void
test_db__gives_back_what_was_put(void **state)
{
	struct db *db = single(state);
	int64_t id, number;
	const char *name;
	const void *bytes;
	size_t len;

	assert_int_equal(db_get(db, &put_returning,
			     DB_ARGS(DB_TEXT("a"), DB_INT(7)),
			     DB_INTO(DB_INT_TO(&id))),
	    OK);
	assert_int_equal(db_exec(db, &set_bytes,
			     DB_ARGS(DB_TEXT("a"), DB_BLOB("x\0y", 3))),
	    OK);
	assert_int_equal(db_changes(db), 1);
	assert_int_equal(
	    db_get(db, &get, DB_ARGS(DB_TEXT("a")),
		DB_INTO(DB_INT_TO(&id), DB_TEXT_TO(&name), DB_INT_TO(&number),
		    DB_BLOB_TO(&bytes, &len))),
	    OK);
	assert_int_equal(id, 1);
	assert_string_equal(name, "a");
	assert_int_equal(number, 7);
	assert_int_equal(len, 3);
	assert_memory_equal(bytes, "x\0y", 3);
}

static void
test_db__null_both_ways(void **state)
{
	struct db *db = single(state);
	int64_t id, number;
	const char *name;
	const void *bytes;
	size_t len;

	assert_int_equal(put_pair(db, "a", INT_NONE), OK);
	assert_int_equal(
	    db_get(db, &get, DB_ARGS(DB_TEXT("a")),
		DB_INTO(DB_INT_TO(&id), DB_TEXT_TO(&name), DB_INT_TO(&number),
		    DB_BLOB_TO(&bytes, &len))),
	    OK);
	assert_true(number == INT_NONE);
	assert_null(bytes);
}

static void
test_db__rows_end_with_who_reads_them(void **state)
{
	struct db *db = single(state);
	struct db_rows q;

	assert_int_equal(put_pair(db, "a", 1), OK);
	q = db_query(db, &get, DB_ARGS(DB_TEXT("a")));
	assert_true(db_next(&q));
	db_fail(&q, OK);
	assert_false(db_next(&q));
	assert_int_equal(db_end(&q), OK);
	q = db_query(db, &get, DB_ARGS(DB_TEXT("a")));
	db_fail(&q, ERR_GONE);
	assert_false(db_next(&q));
	assert_int_equal(db_end(&q), ERR_GONE);
}

static void
test_db__parameters_are_numbered_whatever_their_order(void **state)
{
	struct db *db = single(state);
	int64_t id;

	assert_int_equal(put_pair(db, "a", 7), OK);
	assert_int_equal(db_get(db, &find_swapped,
			     DB_ARGS(DB_TEXT("a"), DB_INT(7)),
			     DB_INTO(DB_INT_TO(&id))),
	    OK);
	assert_int_equal(db_get(db, &find_swapped,
			     DB_ARGS(DB_TEXT("b"), DB_INT(7)),
			     DB_INTO(DB_INT_TO(&id))),
	    ERR_NOT_FOUND);
}

static void
test_db__errors_have_kinds(void **state)
{
	struct db *db = single(state);

	assert_int_equal(put_pair(db, "a", 1), OK);
	assert_int_equal(put_pair(db, "a", 2), ERR_CONFLICT);
	assert_int_equal(
	    db_exec(db, &child_put, DB_ARGS(DB_INT(99))), ERR_CONFLICT);
	assert_int_equal(put_pair(db, "b", 1000), ERR_INTERNAL);
	assert_int_equal(put_pair(db, NULL, 1), ERR_INTERNAL);
	/* A statement that failed can be used again. */
	assert_int_equal(put_pair(db, "c", 3), OK);
}

static void
test_db__a_transaction_is_all_or_nothing(void **state)
{
	struct db *db = single(state);

	assert_int_equal(db_begin(db), OK);
	assert_true(db_in_transaction(db));
	assert_int_equal(put_pair(db, "a", 1), OK);
	db_rollback(db);
	assert_false(db_in_transaction(db));
	assert_int_equal(count(*state), 0);
	assert_int_equal(db_begin(db), OK);
	assert_int_equal(put_pair(db, "a", 1), OK);
	assert_int_equal(db_commit(db), OK);
	assert_int_equal(count(*state), 1);
}

/* Ten of a turn; those that fail do so after they have put what the bit of their
 * number in puts says. */
static void
ten(struct db *db, bool (*fails)(int i), unsigned puts)
{
	for (int i = 0; i < 10; i++) {
		char name[2] = { (char)('a' + i), 0 };

		assert_int_equal(db_begin(db), OK);
		if (puts & 1u << i)
			assert_int_equal(put_pair(db, name, i), OK);
		if (fails(i))
			db_rollback(db);
		else
			assert_int_equal(db_commit(db), OK);
	}
}

static bool
is_odd(int i)
{
	return i % 2;
}

static bool
is_first(int i)
{
	return i == 0;
}

static void
test_db__a_turn_commits_once_and_only_at_its_end(void **state)
{
	struct ctx loop;
	uint64_t commits = db_counts.commits;

	open_grouped(*state, &loop);
	ten(&loop.db, is_odd, 0x155);
	assert_int_equal(count(*state), 0); /* as another connection sees it */
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(count(*state), 5);
	assert_int_equal(db_counts.commits - commits, 1);
	assert_int_equal(db_turn_end(&loop.db), OK); /* nothing to do */
	assert_int_equal(db_counts.commits - commits, 1);
	db_close(&loop.db);
}

static void
test_db__a_turn_is_done_again_when_one_fails_half_done(void **state)
{
	struct ctx loop;
	uint64_t commits = db_counts.commits, failed = db_counts.commits_failed;

	open_grouped(*state, &loop);
	ten(&loop.db, is_odd, 0x3ff);
	assert_true(db_turn_undo(&loop.db));
	assert_int_equal(count(*state), 0);
	ten(&loop.db, is_odd, 0x3ff);
	assert_false(db_turn_undo(&loop.db));
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(count(*state), 5);
	assert_int_equal(db_counts.commits - commits, 1);
	assert_int_equal(db_counts.commits_failed, failed);
	db_close(&loop.db);
}

/* Where some are sold out, one in each turn fails. */
static void
test_db__savepoints_are_kept_while_they_are_needed(void **state)
{
	static const bool undone[] = { true, false, false, false, true };
	static const unsigned puts[] = { 0x3ff, 0x3ff, 0x3ff, 0x155, 0x3ff };
	struct ctx loop;

	open_grouped(*state, &loop);
	for (size_t i = 0; i < ARRAY_LEN(puts); i++) {
		ten(&loop.db, is_odd, puts[i]);
		assert_int_equal(db_turn_undo(&loop.db), undone[i]);
		if (undone[i])
			ten(&loop.db, is_odd, puts[i]);
		assert_int_equal(db_turn_end(&loop.db), OK);
		assert_int_equal(count(*state), 5);
		assert_int_equal(sql_int(*state, "DELETE FROM pair"), INT_NONE);
	}
	db_close(&loop.db);
}

/* Its first row can be changed, the second cannot. SQLite counts none, and does not
 * undo the first in all tables. */
static void
test_db__a_statement_that_fails_half_way_counts_as_a_change(void **state)
{
	struct ctx loop;

	open_grouped(*state, &loop);
	assert_int_equal(put_pair(single(state), "a", 1), OK);
	assert_int_equal(put_pair(single(state), "b", 999), OK);
	assert_int_equal(db_begin(&loop.db), OK);
	assert_int_equal(db_commit(&loop.db), OK);
	assert_int_equal(db_begin(&loop.db), OK);
	assert_int_equal(db_exec(&loop.db, &spoil, DB_NO_ARGS), ERR_INTERNAL);
	db_rollback(&loop.db);
	assert_true(db_turn_undo(&loop.db));
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(sql_int(*state, "SELECT sum(number) FROM pair"), 1000);
	db_close(&loop.db);
}

/* There is nothing else yet that would have to be done again. */
static void
test_db__the_first_of_a_turn_may_fail_half_done(void **state)
{
	struct ctx loop;

	open_grouped(*state, &loop);
	ten(&loop.db, is_first, 0x3ff);
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(count(*state), 9);
	db_close(&loop.db);
}

static void
test_db__a_lost_turn_refuses_the_rest_of_it(void **state)
{
	struct ctx loop;

	open_grouped(*state, &loop);
	assert_int_equal(db_begin(&loop.db), OK);
	assert_int_equal(put_pair(&loop.db, "a", 1), OK);
	assert_int_equal(db_commit(&loop.db), OK);
	/* As SQLite does by itself when the disk fails. */
	assert_int_equal(
	    sqlite3_exec(loop.db.handle, "ROLLBACK", NULL, NULL, NULL), 0);
	assert_int_equal(db_begin(&loop.db), ERR_UNAVAILABLE);
	assert_int_equal(db_turn_end(&loop.db), ERR_UNAVAILABLE);
	assert_int_equal(count(*state), 0);
	assert_int_equal(db_begin(&loop.db), OK);
	assert_int_equal(put_pair(&loop.db, "b", 1), OK);
	assert_int_equal(db_commit(&loop.db), OK);
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(count(*state), 1);
	db_close(&loop.db);
}

static void
test_db__a_full_disk_acknowledges_nothing(void **state)
{
	struct db *db = single(state);

	assert_int_equal(db_begin(db), OK);
	assert_int_equal(put_pair(db, "a", 1), OK);
	fault_full = true;
	assert_int_equal(db_commit(db), ERR_UNAVAILABLE);
	fault_full = false;
	assert_int_equal(count(*state), 0);
	assert_int_equal(db_begin(db), OK);
	assert_int_equal(put_pair(db, "b", 1), OK);
	assert_int_equal(db_commit(db), OK);
	assert_int_equal(count(*state), 1);
}

static int notified;

static void
note(void)
{
	notified++;
}

static void
test_db__notifies_after_the_commit_and_not_after_a_rollback(void **state)
{
	struct db *db = single(state);

	notified = 0;
	db->committed = note;
	assert_int_equal(db_begin(db), OK);
	assert_int_equal(put_pair(db, "a", 1), OK);
	db_notify(db);
	assert_int_equal(notified, 0);
	db_rollback(db);
	assert_int_equal(db_begin(db), OK);
	assert_int_equal(put_pair(db, "a", 1), OK);
	assert_int_equal(db_commit(db), OK);
	assert_int_equal(notified, 0);
	assert_int_equal(db_begin(db), OK);
	db_notify(db);
	assert_int_equal(db_commit(db), OK);
	assert_int_equal(notified, 1);
}

struct adder {
	pthread_t thread;
	const char *path;
	int64_t from;
};

static void *
add_many(void *argument)
{
	const struct adder *a = argument;
	struct db db;

	assert_int_equal(db_open(&db, a->path, DB_SINGLE), OK);
	for (int64_t i = a->from; i < a->from + 50; i++) {
		char name[8];

		snprintf(name, sizeof(name), "%d", (int)i);
		assert_int_equal(db_begin(&db), OK);
		assert_int_equal(put_pair(&db, name, i), OK);
		assert_int_equal(db_commit(&db), OK);
	}
	db_close(&db);
	return NULL;
}

static void
test_db__writers_wait_for_each_other(void **state)
{
	struct adder a[8];

	for (int i = 0; i < 8; i++) {
		a[i].path = app_of(*state)->settings.db;
		a[i].from = i * 50;
		assert_int_equal(
		    pthread_create(&a[i].thread, NULL, add_many, &a[i]), 0);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(a[i].thread, NULL);
	assert_int_equal(count(*state), 400);
}

/* A page of the log each time. */
static void
write_often(struct db *db, int times)
{
	char bytes[4000] = { 0 };

	for (int i = 0; i < times; i++) {
		assert_int_equal(db_begin(db), OK);
		bytes[0] = (char)i;
		assert_int_equal(
		    db_exec(db, &set_bytes,
			DB_ARGS(DB_TEXT("a"), DB_BLOB(bytes, sizeof(bytes)))),
		    OK);
		assert_int_equal(db_commit(db), OK);
		db_checkpoint(db);
	}
}

static void
test_db__checkpoints_keep_the_log_short(void **state)
{
	struct db *db = single(state);
	const char *path = app_of(*state)->settings.db;
	char wal[200];
	struct stat st;

	snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(put_pair(db, "a", 1), OK);
	write_often(db, 3000);
	assert_int_equal(stat(wal, &st), 0);
	print_message("the log has %lld KiB after 3000 commits\n",
	    (long long)st.st_size / 1024);
	assert_true(st.st_size < 3000 * 4096);
	assert_int_equal(db_counts.checkpoints_failed, 0);
}

/* As a backup does. Each wait is a nap of the others too: none may write then. */
static void
test_db__a_checkpoint_waits_for_no_long_reader(void **state)
{
	struct ctx reader;
	struct db *db = single(state);
	uint64_t waits;

	open_grouped(*state, &reader);
	assert_int_equal(put_pair(db, "a", 1), OK);
	db_turn_start(&reader.db);
	assert_int_equal(db_exec(&reader.db, &list, DB_NO_ARGS), OK);
	waits = db_counts.waits;
	write_often(db, 6000);
	assert_true(db_counts.wal_pages > 6000);
	assert_in_range(db_counts.waits - waits, 0, 200);
	assert_int_equal(db_turn_end(&reader.db), OK);
	/* When it has gone, the log begins anew. */
	write_often(db, 2000);
	assert_true(db_counts.wal_pages < 6000);
	db_close(&reader.db);
	arena_release(&reader.arena);
}

/* Its first waits in vain for somebody else's lock; the others wait no more. */
static void
test_db__a_turn_waits_for_the_lock_once(void **state)
{
	struct ctx loop;
	struct db *db = single(state);
	uint64_t waits;

	open_grouped(*state, &loop);
	loop.db.busy_tries = 10;
	assert_int_equal(db_begin(db), OK);
	assert_int_equal(db_begin(&loop.db), ERR_UNAVAILABLE);
	waits = db_counts.waits;
	assert_int_equal(db_begin(&loop.db), ERR_UNAVAILABLE);
	assert_int_equal(db_counts.waits, waits);
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(db_begin(&loop.db), ERR_UNAVAILABLE);
	assert_true(db_counts.waits > waits);
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(db_commit(db), OK);
	assert_int_equal(db_begin(&loop.db), OK);
	assert_int_equal(put_pair(&loop.db, "a", 1), OK);
	assert_int_equal(db_commit(&loop.db), OK);
	assert_int_equal(db_turn_end(&loop.db), OK);
	assert_int_equal(count(*state), 1);
	db_close(&loop.db);
	arena_release(&loop.arena);
}

static void
test_db__a_backup_is_a_whole_database(void **state)
{
	struct db *db = single(state), copy;
	char path[200];
	int64_t n = 0;
	struct db_rows q;

	snprintf(path, sizeof(path), "%s.copy", app_of(*state)->settings.db);
	assert_int_equal(put_pair(db, "a", 1), OK);
	assert_int_equal(put_pair(db, "b", 2), OK);
	assert_int_equal(db_backup(db, path), OK);
	assert_int_equal(put_pair(db, "c", 3), OK);
	assert_int_equal(db_backup(db, path), ERR_CONFLICT);
	assert_int_equal(db_open(&copy, path, DB_SINGLE), OK);
	q = db_query(&copy, &list, DB_NO_ARGS);
	while (db_next(&q))
		n += db_int(&q, 0);
	assert_int_equal(db_end(&q), OK);
	assert_int_equal(n, 3);
	db_close(&copy);
}

static void
test_db__a_backup_that_fails_leaves_nothing(void **state)
{
	struct db *db = single(state);
	char path[200];

	snprintf(path, sizeof(path), "%s.copy", app_of(*state)->settings.db);
	fault_full = true;
	assert_int_equal(db_backup(db, path), ERR_UNAVAILABLE);
	fault_full = false;
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(db_backup(db, path), OK);
}

static void
test_db__what_cannot_be_opened_is_an_error(void **state)
{
	struct db db;
	FILE *f;
	char path[200];

	assert_int_equal(
	    db_open(&db, "/nonexistent/x.db", DB_SINGLE), ERR_UNAVAILABLE);
	snprintf(path, sizeof(path), "%s.bad", app_of(*state)->settings.db);
	f = fopen(path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("not a database ", f);
	fclose(f);
	assert_int_equal(db_open(&db, path, DB_SINGLE), ERR_UNAVAILABLE);
}

static void
test_db__a_statement_the_schema_does_not_know_is_found_at_start(void **state)
{
	struct ctx loop;

	assert_int_equal(sqlite3_exec(single(state)->handle, "DROP TABLE child",
			     NULL, NULL, NULL),
	    0);
	assert_int_equal(
	    db_open(&loop.db, app_of(*state)->settings.db, DB_GROUPED), OK);
	assert_int_equal(db_prepare(&loop.db), ERR_INTERNAL);
	db_close(&loop.db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_db__gives_back_what_was_put),
		TEST(test_db__null_both_ways),
		TEST(test_db__rows_end_with_who_reads_them),
		TEST(test_db__parameters_are_numbered_whatever_their_order),
		TEST(test_db__errors_have_kinds),
		TEST(test_db__a_transaction_is_all_or_nothing),
		TEST(test_db__a_turn_commits_once_and_only_at_its_end),
		TEST(test_db__a_turn_is_done_again_when_one_fails_half_done),
		TEST(test_db__savepoints_are_kept_while_they_are_needed),
		TEST(test_db__a_statement_that_fails_half_way_counts_as_a_change),
		TEST(test_db__the_first_of_a_turn_may_fail_half_done),
		TEST(test_db__a_lost_turn_refuses_the_rest_of_it),
		TEST(test_db__a_full_disk_acknowledges_nothing),
		TEST(test_db__notifies_after_the_commit_and_not_after_a_rollback),
		TEST(test_db__writers_wait_for_each_other),
		TEST(test_db__checkpoints_keep_the_log_short),
		TEST(test_db__a_checkpoint_waits_for_no_long_reader),
		TEST(test_db__a_turn_waits_for_the_lock_once),
		TEST(test_db__a_backup_is_a_whole_database),
		TEST(test_db__a_backup_that_fails_leaves_nothing),
		TEST(test_db__what_cannot_be_opened_is_an_error),
		TEST(
		    test_db__a_statement_the_schema_does_not_know_is_found_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
