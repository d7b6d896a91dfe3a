#include "shared/migrate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define STEP_1                                                                 \
	"-- What a shop has.\n\n"                                              \
	"-- step 1: things\n"                                                  \
	"CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT) STRICT;\n"     \
	"INSERT INTO thing (name) VALUES ('first');\n"
#define STEP_2                                                                 \
	"\n-- step 2: their price; not step 3: that comes later\n"             \
	"ALTER TABLE thing ADD COLUMN price INTEGER NOT NULL DEFAULT 5;\n"
#define STEP_3_BAD                                                             \
	"\n-- step 3: half of it is good\n"                                    \
	"CREATE TABLE good (id INTEGER PRIMARY KEY) STRICT;\n"                 \
	"UPDATE thing SET price = 7;\n"                                        \
	"INSERT INTO missing VALUES (1);\n"

static char dir[32], path[64];
static struct db db;

static int
set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/coster-test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/db", dir);
	return db_open(&db, path, DB_SINGLE) != OK;
}

static int
tear_down(void **state)
{
	(void)state;
	db_close(&db);
	unlink(path);
	return rmdir(dir);
}

/* One integer that a query answers; INT_NONE when it fails. */
static int64_t
ask(const char *sql)
{
	int64_t v = INT_NONE;
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(db.handle, sql, -1, &s, NULL) == SQLITE_OK
	    && sqlite3_step(s) == SQLITE_ROW)
		v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return v;
}

static void
test_migrate__counts_steps(void **state)
{
	static const struct {
		const char *schema;
		int steps;
	} cases[] = {
		{ "", 0 },
		{ "-- no steps\n", 0 },
		{ STEP_1, 1 },
		{ STEP_1 STEP_2, 2 },
		{ "-- step 1: on the first line\n", 1 },
		{ "\n-- step 2: without the first\n", 0 },
		{ "x -- step 1: not a line of its own\n", 0 },
		{ "\n-- step 10: ten is not one\n", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(
		    migrate_steps(cases[i].schema), cases[i].steps);
}

static void
test_migrate__applies_all_steps_in_order(void **state)
{
	(void)state;
	assert_int_equal(migrate_step(&db, "shop"), 0);
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(migrate_step(&db, "shop"), 2);
	assert_int_equal(ask("SELECT price FROM thing WHERE id = 1"), 5);
	assert_int_equal(ask("SELECT count(*) FROM migration"), 2);
	/* and only once */
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(ask("SELECT count(*) FROM thing"), 1);
	assert_int_equal(ask("SELECT count(*) FROM migration"), 2);
}

static void
test_migrate__a_step_added_later_keeps_the_data(void **state)
{
	(void)state;
	assert_int_equal(migrate(&db, "shop", STEP_1), OK);
	assert_int_equal(
	    sqlite3_exec(db.handle, "INSERT INTO thing (name) VALUES ('own')",
		NULL, NULL, NULL),
	    SQLITE_OK);
	db_close(&db);
	assert_int_equal(db_open(&db, path, DB_SINGLE), OK);
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(ask("SELECT count(*) FROM thing WHERE price = 5"), 2);
}

static void
test_migrate__components_have_steps_of_their_own(void **state)
{
	(void)state;
	assert_int_equal(migrate(&db, "shared",
			     "-- step 1: x\nCREATE TABLE x (a INTEGER) STRICT;"),
	    OK);
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(migrate_step(&db, "shared"), 1);
	assert_int_equal(migrate_step(&db, "shop"), 2);
	assert_int_equal(migrate_step(&db, "other"), 0);
}

static void
test_migrate__a_newer_database_is_refused(void **state)
{
	(void)state;
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(migrate(&db, "shop", STEP_1), ERR_CONFLICT);
	assert_int_equal(migrate_step(&db, "shop"), 2);
	/* nothing is left open */
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
}

static void
test_migrate__a_database_of_another_service_is_refused(void **state)
{
	static const struct service shop = { .name = "shop", .schema = STEP_1 },
				    other = { .name = "other",
					.schema = "\n-- step 1: x\n"
						  "CREATE TABLE x (a INTEGER);" };

	(void)state;
	assert_int_equal(migrate(&db, "shop", STEP_1), OK);
	assert_int_equal(migrate_service(&db, &other), ERR_CONFLICT);
	assert_int_equal(migrate_step(&db, "shared"), 0); /* not even that */
	assert_int_equal(migrate_service(&db, &shop), OK);
	assert_int_equal(migrate_service(&db, &other), ERR_CONFLICT);
	assert_int_equal(ask("SELECT count(*) FROM sqlite_schema"
			     " WHERE name = 'x'"),
	    0);
	/* What a program without this check has left there harms nobody. */
	assert_int_equal(sqlite3_exec(db.handle,
			     "INSERT INTO migration VALUES ('other', 1, 0)",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(migrate_service(&db, &shop), OK);
}

static void
test_migrate__a_failing_step_leaves_nothing_behind(void **state)
{
	(void)state;
	assert_int_equal(migrate(&db, "shop", STEP_1), OK);
	assert_int_not_equal(
	    migrate(&db, "shop", STEP_1 STEP_2 STEP_3_BAD), OK);
	assert_int_equal(migrate_step(&db, "shop"), 1);
	assert_int_equal(ask("SELECT count(*) FROM good"), INT_NONE);
	assert_int_equal(ask("SELECT count(price) FROM thing"), INT_NONE);
	assert_int_equal(migrate(&db, "shop", STEP_1 STEP_2), OK);
	assert_int_equal(ask("SELECT price FROM thing"), 5);
}

static void
test_migrate__a_new_database_that_fails_stays_empty(void **state)
{
	(void)state;
	assert_int_not_equal(
	    migrate(&db, "shop", "-- step 1: bad\nCREATE TABLE;"), OK);
	assert_int_equal(ask("SELECT count(*) FROM sqlite_schema"), 0);
}

static pthread_barrier_t start;

static void *
start_instance(void *result)
{
	enum err *err = result;
	struct db own;

	pthread_barrier_wait(&start);
	if ((*err = db_open(&own, path, DB_SINGLE)))
		return NULL;
	*err = migrate(&own, "shop", STEP_1 STEP_2);
	db_close(&own);
	return NULL;
}

static void
test_migrate__instances_that_start_together_do_it_once(void **state)
{
	enum { INSTANCES = 4, ROUNDS = 50 };
	pthread_t thread[INSTANCES];
	enum err err[INSTANCES];

	(void)state;
	pthread_barrier_init(&start, NULL, INSTANCES);
	for (int round = 0; round < ROUNDS; round++) {
		db_close(&db);
		unlink(path);
		for (int i = 0; i < INSTANCES; i++)
			pthread_create(
			    &thread[i], NULL, start_instance, &err[i]);
		for (int i = 0; i < INSTANCES; i++)
			pthread_join(thread[i], NULL);
		assert_int_equal(db_open(&db, path, DB_SINGLE), OK);
		for (int i = 0; i < INSTANCES; i++)
			assert_int_equal(err[i], OK);
		assert_int_equal(ask("SELECT count(*) FROM migration"), 2);
		assert_int_equal(ask("SELECT count(*) FROM thing"), 1);
	}
	pthread_barrier_destroy(&start);
}

/* A step may; afterwards nobody may. */
static void
test_migrate__may_change_the_schema_itself(void **state)
{
#define CHANGE                                                                 \
	"PRAGMA writable_schema = ON;"                                         \
	"UPDATE sqlite_schema SET sql = replace(sql, 'TEXT', 'INTEGER')"       \
	" WHERE name = 'thing';"                                               \
	"PRAGMA writable_schema = RESET;\n"
	(void)state;
	assert_int_equal(
	    migrate(&db, "x", STEP_1 "\n-- step 2: itself\n" CHANGE), OK);
	assert_int_equal(sqlite3_exec(db.handle,
			     "INSERT INTO thing (name) VALUES ('second')", NULL,
			     NULL, NULL),
	    SQLITE_CONSTRAINT_DATATYPE);
	assert_int_not_equal(
	    sqlite3_exec(db.handle, CHANGE, NULL, NULL, NULL), SQLITE_OK);
}

#define MIGRATE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		MIGRATE_TEST(test_migrate__counts_steps),
		MIGRATE_TEST(test_migrate__applies_all_steps_in_order),
		MIGRATE_TEST(test_migrate__a_step_added_later_keeps_the_data),
		MIGRATE_TEST(test_migrate__components_have_steps_of_their_own),
		MIGRATE_TEST(test_migrate__may_change_the_schema_itself),
		MIGRATE_TEST(test_migrate__a_newer_database_is_refused),
		MIGRATE_TEST(
		    test_migrate__a_database_of_another_service_is_refused),
		MIGRATE_TEST(test_migrate__a_failing_step_leaves_nothing_behind),
		MIGRATE_TEST(
		    test_migrate__a_new_database_that_fails_stays_empty),
		MIGRATE_TEST(
		    test_migrate__instances_that_start_together_do_it_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
