/*
 * Power cuts: a database is written to as a service does, and then looked at
 * as any of many cuts would have left it. What was acknowledged before the cut
 * must be there, and a transaction is there as a whole or not at all. Before
 * the first the database may be there or not, but is whole.
 *
 * They are few; 1,000 with FAULTS=full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/db.h"
#include "shared/log.h"
#include "tests/storage/record.h"

#define ROWS 300      /* there are so many; the oldest go */
#define WRITES 1500   /* transactions */
#define PAYLOAD 6000  /* bytes: some pages each */
#define EARLY 100     /* writes and syncs, of the first transactions */

STMT(row_insert, "INSERT INTO row (n, payload) VALUES ($1, $2)");
STMT(row_delete, "DELETE FROM row WHERE n = $1");
STMT(last_set, "UPDATE last SET n = $1");
STMT(last_get, "SELECT n FROM last");
STMT(row_list, "SELECT n, payload FROM row ORDER BY n");
STMT(whole, "SELECT integrity_check FROM pragma_integrity_check");

static char source[32], copy[32];
static struct arena arena;

static int
set_up(void **state)
{
	(void)state;
	log_init("test", "1", LOG_ERROR);
	arena_init(&arena);
	snprintf(source, sizeof(source), "/tmp/coster-power.XXXXXX");
	snprintf(copy, sizeof(copy), "/dev/shm/coster-power.XXXXXX");
	return mkdtemp(source) == NULL || mkdtemp(copy) == NULL;
}

static void
clear(const char *folder)
{
	static const char *const names[] = { "db", "db-wal", "db-shm", "db-journal" };
	char path[64];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
}

static int
tear_down(void **state)
{
	(void)state;
	arena_release(&arena);
	clear(source);
	clear(copy);
	return rmdir(source) | rmdir(copy);
}

/* The payload of a row, which tells a row from any other. */
static const char *
payload(int64_t n)
{
	static char text[PAYLOAD + 1];

	for (size_t i = 0; i < PAYLOAD; i++)
		text[i] = (char)('a' + (n * 31 + (int64_t)i * 7 + n * i) % 26);
	return text;
}

static void
write_one(struct db *db, enum err (*begin)(struct db *db), int64_t n)
{
	assert_int_equal(begin(db), OK);
	assert_int_equal(db_exec(db, &row_insert,
			     DB_ARGS(DB_INT(n), DB_TEXT(payload(n)))),
	    OK);
	assert_int_equal(
	    db_exec(db, &row_delete, DB_ARGS(DB_INT(n - ROWS))), OK);
	assert_int_equal(db_exec(db, &last_set, DB_ARGS(DB_INT(n))), OK);
	assert_int_equal(db_commit(db), OK);
}

static const char *
path_in(const char *folder)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/db", folder);
	return path;
}

static void
open_db(struct db *db, const char *folder, enum db_kind kind)
{
	assert_int_equal(db_open(db, path_in(folder), kind), OK);
	db->arena = &arena;
}

/* As a worker and a loop do, by turns; now and then a checkpoint is due. What a
 * relaxed transaction wrote is there once it is synced or a later write is
 * acknowledged. */
static void
write_all(const char *synchronous)
{
	struct db worker, loop;

	open_db(&worker, source, DB_SINGLE);
	assert_int_equal(
	    sqlite3_exec(worker.handle,
		"CREATE TABLE row (n INTEGER PRIMARY KEY, payload TEXT) STRICT;"
		"CREATE INDEX row_by_payload ON row (payload);"
		"CREATE TABLE last (n INTEGER) STRICT;"
		"INSERT INTO last VALUES (0)",
		NULL, NULL, NULL),
	    SQLITE_OK);
	open_db(&loop, source, DB_GROUPED);
	sqlite3_exec(worker.handle, synchronous, NULL, NULL, NULL);
	sqlite3_exec(loop.handle, synchronous, NULL, NULL, NULL);
	record_acknowledge(0);
	for (long n = 1; n <= WRITES; n++) {
		if (n % 10 < 2) {
			write_one(&worker, db_begin_relaxed, n);
			if (n % 10 == 0)
				continue;
			assert_int_equal(db_sync(&worker), OK);
			record_acknowledge(n);
			continue;
		}
		if (n % 10 < 3) {
			write_one(&worker, db_begin, n);
			record_acknowledge(n);
			continue;
		}
		write_one(&loop, db_begin, n);
		if (n % 10 == 5 || n % 10 == 9) {
			assert_int_equal(db_turn_end(&loop), OK);
			record_acknowledge(n);
		}
		db_checkpoint(&worker);
	}
	record_stop();
	db_close(&loop);
	db_close(&worker);
}

enum verdict { GOOD, LOST, BROKEN };

/* Every row up to the last is there, whole, and no other is. */
static bool
is_consistent(struct db *db, int64_t last)
{
	int64_t n = last > ROWS ? last - ROWS + 1 : 1;
	struct db_rows q = db_query(db, &row_list, DB_NO_ARGS);
	bool good = true;

	for (; good && db_next(&q); n++)
		good = db_int(&q, 0) == n
		    && strcmp(db_text(&q, 1), payload(n)) == 0;
	return db_end(&q) == OK && good && n == last + 1;
}

static enum verdict
look(long acknowledged)
{
	const char *text = "";
	enum verdict verdict = BROKEN;
	int64_t last = 0;
	struct db db;

	if (db_open(&db, path_in(copy), DB_SINGLE))
		return BROKEN;
	db.arena = &arena;
	if (db_get(&db, &whole, DB_NO_ARGS, DB_INTO(DB_TEXT_TO(&text))) == OK
	    && strcmp(text, "ok") == 0
	    && (acknowledged == 0
		|| (db_get(&db, &last_get, DB_NO_ARGS,
			DB_INTO(DB_INT_TO(&last)))
			== OK
		    && is_consistent(&db, last))))
		verdict = last >= acknowledged ? GOOD : LOST;
	db_close(&db);
	arena_reset(&arena);
	return verdict;
}

/* Some are while the database is made, which is soon over. */
static size_t
choose_moment(void)
{
	size_t end = rand() % 10 == 0 ? EARLY : record_moments();

	return (size_t)rand() % (end + 1);
}

static void
cut_often(const char *synchronous, int cuts, int verdicts[3])
{
	clear(source);
	record_start(source);
	write_all(synchronous);
	srand(1);
	for (int i = 0; i < cuts; i++) {
		size_t moment = choose_moment();

		record_replay(moment, (unsigned)i, copy);
		verdicts[look(record_acknowledged(moment))]++;
		clear(copy);
		if ((i + 1) % 200 == 0)
			printf("%d power cuts\n", i + 1);
	}
	printf("%d power cuts among %zu writes and syncs, %s: %d lost "
	       "acknowledged rows, %d broke the database\n",
	    cuts, record_moments(), synchronous, verdicts[LOST],
	    verdicts[BROKEN]);
}

static void
test_power__a_cut_loses_nothing(void **state)
{
	int cuts = getenv("FAULTS") != NULL ? 1000 : 100;
	int verdicts[3] = { 0 };

	(void)state;
	cut_often("PRAGMA synchronous = FULL", cuts, verdicts);
	assert_int_equal(verdicts[GOOD], cuts);
}

/* It can tell: with what the services do not use, rows are lost. */
static void
test_power__less_syncing_loses_rows(void **state)
{
	int verdicts[3] = { 0 };

	(void)state;
	cut_often("PRAGMA synchronous = NORMAL", 100, verdicts);
	assert_true(verdicts[LOST] > 20);
	assert_int_equal(verdicts[BROKEN], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_power__a_cut_loses_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_power__less_syncing_loses_rows, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
