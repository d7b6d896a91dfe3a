/*
 * Jobs, with threads of their own: when they run.
 */
#include "shared/jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "shared/migrate.h"
#include "shared/service.h"
#include "shared/token.h"

#define GATHER_US (JOB_GATHER_MS * 1000)

extern const char coster_shared_schema[];

static _Atomic int runs, timed_runs;
static _Atomic int more; /* runs that are needed yet */

static int64_t
count_run(struct ctx *ctx)
{
	(void)ctx;
	runs++;
	if (more == 0)
		return CLOCK_HOUR;
	more--;
	jobs_notify(); /* somebody has more for it meanwhile */
	return 0;
}

static int64_t
count_timed(struct ctx *ctx)
{
	(void)ctx;
	timed_runs++;
	return CLOCK_HOUR;
}

static const struct job list[] = {
	{ "notified", count_run, JOB_NOTIFIED },
	{ "timed", count_timed, JOB_TIMED },
};
const struct service service
    = { .name = "test", .jobs = list, .job_count = ARRAY_LEN(list) };

static char dir[32], path[64];
static struct app app = { .service = &service };
static struct jobs *jobs;

static int
set_up(void **state)
{
	struct db db;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/coster-test.XXXXXX");
	if (mkdtemp(dir) == NULL || token_start() != OK)
		return 1;
	snprintf(path, sizeof(path), "%s/db", dir);
	app.settings.db = path;
	app.settings.workers = 2;
	if (db_open(&db, path, DB_SINGLE)
	    || migrate(&db, "shared", coster_shared_schema))
		return 1;
	db_close(&db);
	runs = timed_runs = 0;
	return jobs_start(&jobs, &app) != OK;
}

static int
tear_down(void **state)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char file[sizeof(path) + 4];

	(void)state;
	/* Who closes the database at the same moment leaves its log there. */
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		snprintf(file, sizeof(file), "%s%s", path, ends[i]);
		unlink(file);
	}
	return rmdir(dir);
}

static void
wait_for_runs(int count)
{
	while (runs < count)
		usleep(1000);
}

static void
test_jobs__what_many_leave_to_do_is_done_at_once(void **state)
{
	int64_t begin = clock_mono_us();
	int before, most;

	(void)state;
	wait_for_runs(1); /* at the start */
	for (int i = 0; i < 400; i++) {
		jobs_notify();
		usleep(500);
	}
	most = 2 + (int)((clock_mono_us() - begin) / GATHER_US);
	assert_in_range(runs, 2, most);
	/* the last one is not forgotten */
	usleep(2 * GATHER_US);
	before = runs;
	jobs_notify();
	wait_for_runs(before + 1);
	assert_int_equal(timed_runs, 1);
	jobs_stop(jobs);
}

/* However much comes in meanwhile. */
static void
test_jobs__what_is_there_already_waits_for_nothing(void **state)
{
	int64_t begin;

	(void)state;
	wait_for_runs(1);
	begin = clock_mono_us();
	more = 100;
	jobs_notify();
	wait_for_runs(102);
	/* once before them, and once behind */
	assert_true(clock_mono_us() - begin < 20 * GATHER_US);
	jobs_stop(jobs);
}

static void
test_jobs__stop_while_they_gather(void **state)
{
	int stopped;

	(void)state;
	wait_for_runs(1);
	jobs_notify();
	jobs_stop(jobs);
	stopped = runs;
	jobs_notify();
	usleep(2 * GATHER_US);
	assert_int_equal(runs, stopped);
}

#define JOBS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		JOBS_TEST(test_jobs__what_many_leave_to_do_is_done_at_once),
		JOBS_TEST(test_jobs__what_is_there_already_waits_for_nothing),
		JOBS_TEST(test_jobs__stop_while_they_gather),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
