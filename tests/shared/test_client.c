/*
 * The client, with a thread of the test's own that plays the called services:
 * it answers a request as the path says ("/a/503", "/a/200/hang").
 */
#include "shared/client.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/breaker.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "tests/faults.h"

static char path[64];
static struct app app = { .settings = { .internal_socket = path, .workers = 4 } };
static struct ctx ctx;
static int listener;
static pthread_t server;

/* The last request that came, and how many did. */
static struct {
	_Atomic int count;
	char text[4096];
} got;

/* What to do before a request is answered. */
static void (*first)(void);

/* More than is taken: who asked closes the connection. */
static void
answer_at_length(int fd)
{
	static const char part[65536];
	char head[64];
	int n = snprintf(head, sizeof(head),
	    "HTTP/1.1 200 X\r\nContent-Length: %zu\r\n\r\n",
	    2 * CLIENT_REPLY_MAX);

	(void)!send(fd, head, (size_t)n, MSG_NOSIGNAL);
	for (size_t sent = 0; sent < 2 * CLIENT_REPLY_MAX; sent += sizeof(part))
		if (send(fd, part, sizeof(part), MSG_NOSIGNAL) < 0)
			break;
}

static void
answer(int fd, const char *request)
{
	const char *status = strchr(strchr(request, '/') + 1, '/');
	const char *body = strstr(request, "/bad") != NULL ? "{"
	    : strstr(request, "/none") != NULL		   ? ""
							   : "{\"n\":7}";
	char reply[256];
	int n;

	if (first != NULL)
		first();
	if (strstr(request, "/hang") != NULL)
		return;
	if (strstr(request, "/large") != NULL) {
		answer_at_length(fd);
		return;
	}
	n = snprintf(reply, sizeof(reply),
	    "HTTP/1.1 %.3s X\r\nContent-Length: %zu\r\n\r\n%s", status + 1,
	    strlen(body), body);
	(void)!write(fd, reply, (size_t)n);
}

/* False when the client has gone. */
static bool
take(int fd)
{
	char text[sizeof(got.text)];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	memcpy(got.text, text, sizeof(text));
	got.count++;
	answer(fd, text);
	return true;
}

/* As many connections as there are, one request after the other. */
static void *
serve(void *unused)
{
	struct pollfd fds[64] = { { .fd = listener, .events = POLLIN } };
	nfds_t count = 1;

	(void)unused;
	while (poll(fds, count, -1) > 0) {
		if (fds[0].revents & POLLIN) {
			int fd = accept(listener, NULL, NULL);

			if (fd < 0 || count == ARRAY_LEN(fds))
				break;
			fds[count++] = (struct pollfd) { fd, POLLIN, 0 };
		} else if (fds[0].revents != 0) {
			break;
		}
		for (nfds_t i = 1; i < count; i++)
			if (fds[i].revents != 0 && !take(fds[i].fd)) {
				close(fds[i].fd);
				fds[i--] = fds[--count];
			}
	}
	while (count > 1)
		close(fds[--count].fd);
	return NULL;
}

static int
set_up(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	(void)state;
	log_init("test", "1", LOG_ERROR);
	snprintf(path, sizeof(path), "/tmp/coster-client-%d.sock", (int)getpid());
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&sun, sizeof(sun)) != 0
	    || listen(listener, 64) != 0
	    || pthread_create(&server, NULL, serve, NULL) != 0)
		return 1;
	got.count = 0;
	ctx = (struct ctx) { .app = &app };
	arena_init(&ctx.arena);
	ctx.client = client_new(&ctx);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	client_free(ctx.client);
	arena_release(&ctx.arena);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	return unlink(path);
}

static enum err
call(const char *to, int64_t timeout_ms, struct client_reply *reply)
{
	return client_call(ctx.client, &ctx.arena,
	    &(struct client_call) { .method = "POST",
		.path = to,
		.body = "{}",
		.key = "k-1",
		.trace = "t-1",
		.timeout_ms = timeout_ms },
	    reply);
}

/* Of a database beside the socket. */
static const char *
db_path(void)
{
	static char name[sizeof(path) + 3];

	snprintf(name, sizeof(name), "%s.db", path);
	return name;
}

/* The number that X-Deadline-Ms had. */
static int64_t
told(void)
{
	const char *field;

	assert_true(got.count > 0); /* the text is there before the count */
	field = strstr(got.text, "X-Deadline-Ms: ");
	return field != NULL ? strtoll(field + 15, NULL, 10) : -1;
}

static void
test_client__sends_what_it_is_told(void **state)
{
	struct client_reply reply;

	(void)state;
	assert_int_equal(call("/one/201", 0, &reply), OK);
	assert_int_equal(reply.status, 201);
	assert_int_equal(json_object_get_int64(
			     json_object_object_get(reply.body, "n")), 7);
	assert_ptr_equal(strstr(got.text, "POST /one/201 HTTP/1.1\r\n"), got.text);
	assert_non_null(strstr(got.text, "\r\nIdempotency-Key: k-1\r\n"));
	assert_non_null(strstr(got.text, "\r\nX-Request-Id: t-1\r\n"));
	assert_non_null(strstr(got.text, "\r\nContent-Type: application/json\r\n"));
	assert_int_equal(told(), CLIENT_TIMEOUT_MS);
}

static void
test_client__what_is_no_answer_is_unavailable(void **state)
{
	static const struct {
		const char *path;
		enum err want;
	} cases[] = {
		{ "/two/200", OK }, { "/two/404", OK }, { "/two/500", OK },
		{ "/two/501", OK }, { "/two/502", ERR_UNAVAILABLE },
		{ "/two/200", OK }, { "/two/503", ERR_UNAVAILABLE },
		{ "/two/504", ERR_UNAVAILABLE }, { "/two/505", OK },
		{ "/two/200/bad", ERR_UNAVAILABLE },
	};
	struct client_reply reply;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (call(cases[i].path, 0, &reply) != cases[i].want)
			fail_msg("%s", cases[i].path);
}

static void
test_client__a_success_may_stay_text(void **state)
{
	struct client_call request = { .method = "GET", .unread = true };
	struct client_reply reply;

	(void)state;
	request.path = "/nine/200";
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	assert_null(reply.body);
	assert_int_equal(reply.len, strlen(reply.text));
	assert_non_null(strstr(reply.text, "\"n\":7"));
	request.path = "/nine/404";
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	assert_null(reply.text);
	assert_non_null(reply.body);
	request.path = "/nine/204/none";
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	assert_null(reply.text);
	assert_null(reply.body);
}

static void
test_client__a_call_has_its_own_time(void **state)
{
	struct client_reply reply;
	int64_t start = clock_mono_us();

	(void)state;
	assert_int_equal(call("/three/200/hang", 60, &reply), ERR_UNAVAILABLE);
	assert_true(clock_mono_us() - start >= 60 * 1000);
	assert_int_equal(told(), 60);
}

static void
test_client__no_more_than_the_request_has_left(void **state)
{
	struct client_reply reply;

	(void)state;
	ctx.deadline_us = clock_mono_us() + 2 * 1000 * 1000;
	assert_int_equal(call("/four/200", 0, &reply), OK);
	assert_in_range(told(), 1, 1999);
	/* its own time may be less than that */
	assert_int_equal(call("/four/200", 100, &reply), OK);
	assert_int_equal(told(), 100);
	/* what is over is not begun */
	ctx.deadline_us = clock_mono_us();
	assert_int_equal(call("/four/200", 0, &reply), ERR_UNAVAILABLE);
	assert_int_equal(got.count, 2);
}

static void
test_client__time_cut_short_is_no_failure_of_the_service(void **state)
{
	struct client_reply reply;

	(void)state;
	for (int i = 0; i < 2 * BREAKER_FAILURES; i++) {
		ctx.deadline_us = clock_mono_us() + 80 * 1000;
		assert_int_equal(
		    call("/five/200/hang", 5000, &reply), ERR_UNAVAILABLE);
	}
	ctx.deadline_us = 0;
	assert_int_equal(call("/five/200", 0, &reply), OK);
}

static void
test_client__a_reply_that_is_too_large_is_no_failure_of_the_service(void **state)
{
	struct client_reply reply;

	(void)state;
	for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
		assert_int_equal(
		    call("/eight/200/large", 0, &reply), ERR_UNAVAILABLE);
	assert_int_equal(call("/eight/200", 0, &reply), OK);
}

static void
test_client__a_failing_service_is_left_alone(void **state)
{
	struct client_reply reply;

	(void)state;
	for (int i = 0; i < BREAKER_FAILURES; i++)
		assert_int_equal(call("/six/503", 0, &reply), ERR_UNAVAILABLE);
	assert_int_equal(got.count, BREAKER_FAILURES);
	assert_in_range(client_pause(ctx.client, &ctx.arena, "/six"), 1,
	    BREAKER_PAUSE_FIRST);
	assert_int_equal(call("/six/200", 0, &reply), ERR_UNAVAILABLE);
	assert_int_equal(got.count, BREAKER_FAILURES);
	assert_int_equal(client_pause(ctx.client, &ctx.arena, "/seven"), 0);
	assert_int_equal(call("/seven/200", 0, &reply), OK);
}

static void *
hang(void *thread)
{
	struct ctx own = { .app = &app };
	struct client_reply reply;
	enum err err;

	(void)thread;
	arena_init(&own.arena);
	own.client = client_new(&own);
	err = client_call(own.client, &own.arena,
	    &(struct client_call) { .method = "GET",
		.path = "/eight/200/hang",
		.timeout_ms = 1500 },
	    &reply);
	client_free(own.client);
	arena_release(&own.arena);
	return err == OK ? &got : NULL;
}

/* Four workers: two may wait for the same service. */
static void
test_client__a_hung_service_holds_half_of_the_workers(void **state)
{
	struct client_reply reply;
	pthread_t threads[2];
	int64_t start;
	void *fault;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_create(&threads[i], NULL, hang, NULL);
	do
		usleep(1000);
	while (got.count < 2);
	start = clock_mono_us();
	assert_int_equal(call("/eight/200", 0, &reply), ERR_UNAVAILABLE);
	assert_true(clock_mono_us() - start < 1000 * 1000);
	/* Who has no time left does not wait for a place. */
	ctx.deadline_us = start = clock_mono_us();
	assert_int_equal(call("/eight/200", 0, &reply), ERR_UNAVAILABLE);
	assert_true(clock_mono_us() - start < BREAKER_PATIENCE_MS * 1000);
	ctx.deadline_us = 0;
	assert_int_equal(call("/nine/200", 0, &reply), OK);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		pthread_join(threads[i], &fault);
		assert_null(fault);
	}
	assert_int_equal(call("/eight/200", 0, &reply), OK);
}

/* The service answers when the disk is at work, which ends after that. */
static void
answer_during_a_sync(void)
{
	fault_wait_for_sync();
	fault_release_syncs();
}

static void
test_client__syncs_while_the_service_works(void **state)
{
	struct client_call request
	    = { .method = "POST", .path = "/eleven/200", .body = "{}" };
	struct client_reply reply;
	struct db db;
	int syncs;

	(void)state;
	assert_int_equal(db_open(&db, db_path(), DB_SINGLE), OK);
	assert_int_equal(db_begin_relaxed(&db), OK);
	assert_int_equal(sqlite3_exec(db.handle, "CREATE TABLE row (n INTEGER)",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(db_commit(&db), OK);
	request.sync = &db;
	/* over a connection that is there already */
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	fault_hold_syncs();
	first = answer_during_a_sync;
	syncs = fault_syncs;
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	assert_int_equal(fault_syncs, syncs + 1);
	first = NULL;
	/* the service has done what it was asked to */
	fault_sync = true;
	assert_int_equal(client_call(ctx.client, &ctx.arena, &request, &reply),
	    ERR_UNAVAILABLE);
	fault_sync = false;
	assert_int_equal(reply.status, 200);
	assert_int_equal(got.count, 3);
	assert_int_equal(
	    client_call(ctx.client, &ctx.arena, &request, &reply), OK);
	db_close(&db);
	unlink(db_path());
}

static void
test_client__calls_several_at_once(void **state)
{
	static const char *const paths[CLIENT_CALLS_MAX]
	    = { "/twelve/200/hang", "/twelve/201", "/twelve/404", "/twelve/503",
		      "/twelve/200/bad" };
	static const int want[CLIENT_CALLS_MAX] = { 0, 201, 404, 0, 200 };
	struct client_call calls[CLIENT_CALLS_MAX];
	int statuses[CLIENT_CALLS_MAX];

	(void)state;
	for (size_t i = 0; i < 5; i++)
		calls[i] = (struct client_call) { .method = "DELETE",
			.path = paths[i],
			.timeout_ms = 300 };
	/* again, by the same connections */
	for (int n = 1; n <= BREAKER_FAILURES; n++) {
		client_call_all(ctx.client, &ctx.arena, calls, 5, statuses);
		assert_memory_equal(statuses, want, 5 * sizeof(want[0]));
		assert_int_equal(got.count, 5 * n);
	}
	/* with none answered they are one failure of the service */
	calls[1] = calls[3];
	for (int n = 0; n < BREAKER_FAILURES; n++) {
		assert_int_equal(
		    client_pause(ctx.client, &ctx.arena, "/twelve"), 0);
		client_call_all(ctx.client, &ctx.arena, calls, 2, statuses);
	}
	assert_true(client_pause(ctx.client, &ctx.arena, "/twelve") > 0);
	client_call_all(ctx.client, &ctx.arena, calls + 2, 1, statuses);
	assert_int_equal(statuses[0], 0);
}

static void
test_client__nobody_listens(void **state)
{
	struct client_reply reply;

	(void)state;
	unlink(path);
	assert_int_equal(call("/ten/200", 0, &reply), ERR_UNAVAILABLE);
	assert_int_equal(reply.status, 0);
	close(open(path, O_CREAT, 0600)); /* for the tear-down to remove */
}

#define CLIENT_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(test_client__sends_what_it_is_told),
		CLIENT_TEST(test_client__what_is_no_answer_is_unavailable),
		CLIENT_TEST(test_client__a_success_may_stay_text),
		CLIENT_TEST(test_client__a_call_has_its_own_time),
		CLIENT_TEST(test_client__no_more_than_the_request_has_left),
		CLIENT_TEST(
		    test_client__time_cut_short_is_no_failure_of_the_service),
		CLIENT_TEST(
		    test_client__a_reply_that_is_too_large_is_no_failure_of_the_service),
		CLIENT_TEST(test_client__a_failing_service_is_left_alone),
		CLIENT_TEST(
		    test_client__a_hung_service_holds_half_of_the_workers),
		CLIENT_TEST(test_client__syncs_while_the_service_works),
		CLIENT_TEST(test_client__calls_several_at_once),
		CLIENT_TEST(test_client__nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
