/*
 * The loop, its pool and its turns, with real sockets: a service of a few
 * routes runs in this process, and the test plays nginx.
 */
#include "tests/loopback.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "shared/json.h"
#include "shared/loop.h"
#include "shared/req.h"
#include "shared/service.h"
#include "tests/faults.h"
#include "tests/fcgi_client.h"

STMT(row_insert, "INSERT INTO row (name) VALUES ($1)");
STMT(row_count, "SELECT count(*) FROM row");

static handler_fn get_quick, post_write, post_fail, post_echo, post_block,
    post_list, post_json, get_long, put_question, post_told;

static const struct route routes[] = {
	{ "GET", "/quick", get_quick, ROUTE_ANYONE },
	{ "GET", "/long", get_long, ROUTE_ANYONE },
	{ "POST", "/write", post_write, ROUTE_ANYONE },
	{ "POST", "/fail", post_fail, ROUTE_ANYONE },
	{ "POST", "/list", post_list, ROUTE_ANYONE },
	{ "POST", "/json", post_json, ROUTE_ANYONE },
	{ "POST", "/echo", post_echo, ROUTE_ANYONE },
	{ "POST", "/block", post_block, ROUTE_ANYONE | ROUTE_SLOW },
	{ "POST", "/told", post_told, ROUTE_ANYONE, .question = put_question },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = {
	.name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "\n-- step 1: rows\nCREATE TABLE row (name TEXT) STRICT;",
};

/* Slow requests wait here until the test lets them go. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int inside;
	bool open;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false };

static enum err
get_quick(struct req *r)
{
	struct db_rows q = db_query(r->db, &row_count, DB_NO_ARGS);
	struct buf *b = reply_json(r, 200);

	json_open(b, NULL, '{');
	while (db_next(&q))
		json_int(b, "rows", db_int(&q, 0));
	json_close(b, '}');
	return db_end(&q);
}

static enum err
reply_list(struct req *r, int count)
{
	struct buf *b = reply_json(r, 200);

	json_open(b, NULL, '[');
	for (int i = 0; i < count; i++)
		json_int(b, NULL, i);
	json_close(b, ']');
	return OK;
}

static enum err
get_long(struct req *r)
{
	return reply_list(r, 50000);
}

static enum err
post_write(struct req *r)
{
	enum err err = db_exec(r->db, &row_insert, DB_ARGS(DB_TEXT("w")));

	return err ? err : reply_empty(r, 204);
}

static enum err
post_list(struct req *r)
{
	enum err err = db_exec(r->db, &row_insert, DB_ARGS(DB_TEXT("l")));

	return err ? err : reply_list(r, 20000);
}

static enum err
post_json(struct req *r)
{
	struct json_object *root;
	enum err err = req_json(r, &root);

	if (err || (err = db_exec(r->db, &row_insert, DB_ARGS(DB_TEXT("j")))))
		return err;
	return reply_list(r, 1);
}

static enum err
post_fail(struct req *r)
{
	enum err err = db_exec(r->db, &row_insert, DB_ARGS(DB_TEXT("f")));

	return err ? err : req_fail(r, ERR_GONE, "as asked");
}

static enum err
post_echo(struct req *r)
{
	struct buf *b;

	if (r->body_too_large)
		return ERR_TOO_LARGE;
	b = reply_json(r, 200);
	buf_add(b, r->body, r->body_len);
	return OK;
}

static enum err
post_block(struct req *r)
{
	pthread_mutex_lock(&gate.lock);
	gate.inside++;
	pthread_cond_broadcast(&gate.changed);
	while (!gate.open)
		pthread_cond_wait(&gate.changed, &gate.lock);
	gate.inside--;
	pthread_mutex_unlock(&gate.lock);
	return reply_empty(r, 204);
}

static enum err
put_question(struct req *r)
{
	r->question = "/product/1";
	return OK;
}

/* Writes, and repeats what it was told. */
static enum err
post_told(struct req *r)
{
	enum err err = db_exec(r->db, &row_insert, DB_ARGS(DB_TEXT("t")));

	if (err || r->answer->err)
		return err ? err : r->answer->err;
	json_tree(reply_json(r, r->answer->reply.status), NULL,
	    r->answer->reply.body);
	return OK;
}

static void
gate_wait_inside(int n)
{
	pthread_mutex_lock(&gate.lock);
	while (gate.inside < n)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
}

static void
gate_set(bool open)
{
	pthread_mutex_lock(&gate.lock);
	gate.open = open;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

/* The running loop. */
static struct {
	char path[108];
	int fd;
	pthread_t thread;
	struct app *app;
	struct arena arena;
	struct t *t;
} run;

static void *
run_loop(void *unused)
{
	(void)unused;
	assert_int_equal(loop_run(run.app, run.fd), OK);
	return NULL;
}

static int
setup(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	setenv("COSTER_WORKERS", "2", 1);
	setenv("COSTER_QUEUE", "2", 1);
	loopback_setup(state);
	run.t = *state;
	run.app = app_of(run.t);
	arena_init(&run.arena);
	gate_set(false);
	snprintf(run.path, sizeof(run.path), "/tmp/coster-loop-%d.sock",
	    (int)getpid());
	unlink(run.path);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", run.path);
	run.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(run.fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(run.fd, 511), 0);
	assert_int_equal(pthread_create(&run.thread, NULL, run_loop, NULL), 0);
	return 0;
}

static void
wait_until_stopped(void)
{
	pthread_join(run.thread, NULL);
	close(run.fd);
	run.fd = -1;
}

static void
stop(void)
{
	kill(getpid(), SIGTERM);
	wait_until_stopped();
}

static int
teardown(void **state)
{
	fault_full = false;
	fault_sync_us = 0;
	gate_set(true);
	if (run.fd >= 0)
		stop();
	arena_release(&run.arena);
	return loopback_teardown(state);
}

static int
open_connection(void)
{
	int fd = fcgi_connect(run.path);

	assert_true(fd >= 0);
	return fd;
}

static struct fcgi_answer
ask_on(int fd, const char *method, const char *path)
{
	return fcgi_ask(&run.arena, fd,
	    &(struct fcgi_request) {
		.method = method, .path = path, .keep = 1 });
}

static struct fcgi_answer
ask(const char *method, const char *path)
{
	int fd = open_connection();
	struct fcgi_answer answer = ask_on(fd, method, path);

	close(fd);
	return answer;
}

/* Sends a request without waiting for its reply. */
static int
begin_on(int fd, const char *method, const char *path)
{
	struct buf b = fcgi_bytes(&run.arena,
	    &(struct fcgi_request) { .method = method, .path = path, .keep = 1 });

	assert_true(fcgi_send(fd, &b));
	return fd;
}

static int
begin(const char *method, const char *path)
{
	return begin_on(open_connection(), method, path);
}

/* Waits until the loop has read all that was sent to it. */
static void
wait_until_read(int fd)
{
	int left;

	do
		assert_return_code(ioctl(fd, SIOCOUTQ, &left), 0);
	while (left > 0);
}

static int
finish(int fd)
{
	struct fcgi_answer answer = fcgi_answer(&run.arena, fd);

	close(fd);
	return answer.status;
}

static int64_t
rows(void)
{
	return sql_int(run.t, "SELECT count(*) FROM row");
}

static void
test_loop__keeps_a_connection_for_many_requests(void **state)
{
	int fd = open_connection();

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(ask_on(fd, "GET", "/quick").status, 200);
	assert_int_equal(ask_on(fd, "POST", "/write").status, 204);
	assert_int_equal(ask_on(fd, "GET", "/nothing").status, 404);
	close(fd);
}

static void
test_loop__closes_where_keeping_was_not_asked_for(void **state)
{
	int fd = open_connection();
	char c;

	(void)state;
	assert_int_equal(
	    fcgi_ask(&run.arena, fd,
		&(struct fcgi_request) { .method = "GET", .path = "/quick" })
		.status,
	    200);
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	close(fd);
}

static void
test_loop__idle_connections_starve_nobody(void **state)
{
	int idle[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
		idle[i] = open_connection();
		assert_int_equal(ask_on(idle[i], "GET", "/quick").status, 200);
	}
	assert_int_equal(ask("GET", "/quick").status, 200);
	assert_int_equal(ask("POST", "/write").status, 204);
	for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
		assert_int_equal(ask_on(idle[i], "GET", "/quick").status, 200);
		close(idle[i]);
	}
}

static void
test_loop__quick_routes_stay_quick_while_every_worker_is_busy(void **state)
{
	struct fcgi_answer full;
	int fds[4];

	(void)state;
	/* Two run, two wait. */
	for (int i = 0; i < 4; i++) {
		fds[i] = begin("POST", "/block");
		if (i == 1)
			gate_wait_inside(2);
	}
	/* Served in order: when this is answered, the four are taken. */
	assert_int_equal(ask("GET", "/quick").status, 200);
	full = ask("POST", "/block");
	assert_int_equal(full.status, 503);
	assert_non_null(strstr(full.head, "Retry-After: 1"));
	assert_int_equal(ask("POST", "/told").status, 503);
	assert_int_equal(ask("POST", "/write").status, 204);
	gate_set(true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(finish(fds[i]), 204);
}

/* The loop learns of it while the worker is still about to give the connection
 * back. */
static void
test_loop__clients_go_as_soon_as_a_worker_has_replied(void **state)
{
	(void)state;
	gate_set(true);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(finish(begin("POST", "/block")), 204);
	assert_int_equal(ask("GET", "/quick").status, 200);
}

static void
test_loop__asks_before_it_writes(void **state)
{
	struct fcgi_answer answer;

	(void)state;
	peer(run.t, "GET /product/1", 200, "{\"price\":7}");
	answer = ask("POST", "/told");
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.body, "{\"price\":7}");
	assert_int_equal(rows(), 1);
	peers_down(run.t);
	assert_int_equal(ask("POST", "/told").status, 503);
	assert_int_equal(rows(), 1);
}

/* A write that asks first, and finds both workers busy. */
static int
begin_told(int blocks[2])
{
	int fd;

	blocks[0] = begin("POST", "/block");
	blocks[1] = begin("POST", "/block");
	gate_wait_inside(2);
	fd = begin("POST", "/told");
	assert_int_equal(ask("GET", "/quick").status, 200);
	return fd;
}

static void
test_loop__whom_it_asks_for_may_go_away(void **state)
{
	int blocks[2], fd = begin_told(blocks);

	(void)state;
	for (int i = 0; i < 2; i++)
		peer(run.t, "GET /product/1", 200, "{}");
	close(fd);
	gate_set(true);
	assert_int_equal(finish(blocks[0]), 204);
	assert_int_equal(finish(blocks[1]), 204);
	assert_int_equal(ask("POST", "/told").status, 200);
}

static void
test_loop__asks_on_while_it_stops(void **state)
{
	int blocks[2], fd = begin_told(blocks);

	(void)state;
	peer(run.t, "GET /product/1", 200, "{}");
	kill(getpid(), SIGTERM);
	gate_set(true);
	assert_int_equal(finish(fd), 200);
	assert_int_equal(finish(blocks[0]), 204);
	assert_int_equal(finish(blocks[1]), 204);
	wait_until_stopped();
	assert_int_equal(rows(), 1);
}

static void
test_loop__a_body_of_1_mib_passes_and_no_more(void **state)
{
	size_t size = 1024 * 1024;
	char *body = malloc(size + 1);
	int fd = open_connection();
	struct fcgi_answer a;

	(void)state;
	memset(body, 'x', size + 1);
	body[size - 1] = 'y';
	a = fcgi_ask(&run.arena, fd,
	    &(struct fcgi_request) { "POST", "/echo", body, size, NULL, 1 });
	assert_int_equal(a.status, 200);
	assert_int_equal(strlen(a.body), size);
	assert_memory_equal(a.body, body, size);
	a = fcgi_ask(&run.arena, fd,
	    &(struct fcgi_request) { "POST", "/echo", body, size + 1, NULL, 1 });
	assert_int_equal(a.status, 413);
	/* What was refused was read to its end: the connection goes on. */
	assert_int_equal(ask_on(fd, "GET", "/quick").status, 200);
	close(fd);
	free(body);
}

static void
test_loop__a_body_nobody_reads_is_not_the_next_request(void **state)
{
	int fd = open_connection();
	struct fcgi_answer a;

	(void)state;
	for (int i = 0; i < 50; i++) {
		a = fcgi_ask(&run.arena, fd,
		    &(struct fcgi_request) {
			"GET", "/quick", "{\"a\":1}", 0, NULL, 1 });
		assert_int_equal(a.status, 200);
	}
	close(fd);
}

static void
test_loop__a_long_reply_arrives_whole(void **state)
{
	struct fcgi_answer a = ask("GET", "/long");
	size_t len;

	(void)state;
	assert_int_equal(a.status, 200);
	len = strlen(a.body);
	assert_true(len > 3 * 65536);
	assert_string_equal(a.body + len - 7, ",49999]");
}

static void
test_loop__a_client_that_goes_away_disturbs_nobody(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		close(begin("GET", "/long"));
	close(begin("POST", "/block"));
	gate_set(true);
	assert_int_equal(ask("GET", "/quick").status, 200);
}

/* As after a hang, when nginx has asked the other instance long ago. */
static void
test_loop__what_nobody_waits_for_any_more_is_not_begun(void **state)
{
	int first;

	(void)state;
	fault_sync_us = 200000;
	first = begin("POST", "/write");
	wait_until_read(first);
	/* The loop waits for its disk. */
	for (int i = 0; i < 20; i++)
		close(begin("POST", "/write"));
	assert_int_equal(finish(first), 204);
	fault_sync_us = 0;
	assert_int_equal(ask("GET", "/quick").status, 200);
	assert_int_equal(rows(), 1);
}

static void
test_loop__a_stalled_peer_is_dropped_and_the_rest_served(void **state)
{
	struct buf b = fcgi_bytes(&run.arena,
	    &(struct fcgi_request) {
		"POST", "/echo", "{\"half\":true}", 0, NULL, 1 });
	char c;

	(void)state;
	/* In the middle of a record header, of the parameters, of the body. */
	static const size_t cuts[] = { 3, 40, 8 };
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		struct buf half = b;
		int fd = open_connection();

		half.len = i == 2 ? b.len - 12 : cuts[i];
		assert_true(fcgi_send(fd, &half));
		assert_int_equal(ask("GET", "/quick").status, 200);
		assert_true(recv(fd, &c, 1, 0) <= 0);
		close(fd);
	}
}

static void
test_loop__malformed_records_end_their_connection(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 18 },
		{ "\2\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0", 16 }, /* version 2 */
		{ "\1\1\0\1\0\4\0\0\0\1\0\0", 12 }, /* a short begin */
		{ "\1\1\0\1\0\10\0\0\0\11\1\0\0\0\0\0", 16 }, /* role 9 */
		{ "\1\5\0\1\0\0\0\0", 8 }, /* a body first */
		/* A parameter that ends beyond its record. */
		{ "\1\1\0\1\0\10\0\0\0\1\1\0\0\0\0\0\1\4\0\1\0\4\0\0\40\40ab"
		  "\1\4\0\1\0\0\0\0",
		    36 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = { (char *)(uintptr_t)cases[i].bytes, cases[i].len,
			0, NULL };
		int fd = open_connection();

		assert_true(fcgi_send(fd, &b));
		wait_until_read(fd);
		shutdown(fd, SHUT_WR);
		assert_int_equal(fcgi_answer(&run.arena, fd).status, 0);
		close(fd);
		assert_int_equal(ask("GET", "/quick").status, 200);
	}
}

static void
test_loop__a_length_that_lies_is_not_served(void **state)
{
	static const char *const lies[] = { "3", "99", "-1", "1e3", "x" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		int fd = open_connection();

		assert_int_equal(fcgi_ask(&run.arena, fd,
				     &(struct fcgi_request) { "POST", "/echo",
					 "{\"a\":1}", 0, lies[i], 1 })
				     .status,
		    0);
		close(fd);
	}
	assert_int_equal(ask("GET", "/quick").status, 200);
}

struct writer {
	pthread_t thread;
	int count, acknowledged, refused;
};

static void *
write_many(void *argument)
{
	struct writer *w = argument;
	struct arena a;
	int fd = open_connection();

	arena_init(&a);
	for (int i = 0; i < w->count; i++) {
		struct fcgi_answer answer = fcgi_ask(&a, fd,
		    &(struct fcgi_request) {
			.method = "POST", .path = "/write", .keep = 1 });

		w->acknowledged += answer.status == 204;
		w->refused += answer.status == 503;
		arena_reset(&a);
	}
	arena_release(&a);
	close(fd);
	return NULL;
}

static void
start_writers(struct writer *w, size_t n, int count)
{
	for (size_t i = 0; i < n; i++) {
		w[i] = (struct writer) { .count = count };
		assert_int_equal(
		    pthread_create(&w[i].thread, NULL, write_many, &w[i]), 0);
	}
}

static void
test_loop__clients_share_a_commit(void **state)
{
	struct writer w[32];
	int syncs = fault_syncs, writes = 0;

	(void)state;
	fault_sync_us = 2000; /* an ordinary disk */
	start_writers(w, ARRAY_LEN(w), 20);
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		pthread_join(w[i].thread, NULL);
		writes += w[i].acknowledged;
	}
	syncs = fault_syncs - syncs;
	print_message("%d writes by 32 clients took %d fsyncs\n", writes, syncs);
	assert_int_equal(writes, 32 * 20);
	assert_int_equal(rows(), writes);
	assert_true(syncs * 4 < writes);
}

/* While the loop waits for its disk, these all come into the next turn. */
static void
test_loop__a_failing_write_leaves_its_turn_unharmed(void **state)
{
	int first, fds[5];
	uint64_t commits;

	(void)state;
	fault_hold_syncs();
	first = begin("POST", "/write");
	fault_wait_for_sync();
	commits = db_counts.commits;
	fds[0] = begin("POST", "/write");
	fds[1] = begin("POST", "/fail");
	fds[2] = begin("POST", "/write");
	fds[3] = begin("GET", "/quick");
	fds[4] = begin("POST", "/fail");
	fault_release_syncs();
	assert_int_equal(finish(first), 204);
	assert_int_equal(finish(fds[0]), 204);
	assert_int_equal(finish(fds[1]), 410);
	assert_int_equal(finish(fds[2]), 204);
	assert_int_equal(finish(fds[3]), 200);
	assert_int_equal(finish(fds[4]), 410);
	assert_int_equal(rows(), 3);
	assert_int_equal(
	    sql_int(run.t, "SELECT count(*) FROM row WHERE name = 'f'"), 0);
	assert_int_equal(db_counts.commits - commits, 2);
}

/* More than 16 MiB of memory. */
static void
check_large_turn(const char *path, const char *body, int64_t writes)
{
	uint64_t commits;
	int first, fds[120];

	fault_hold_syncs();
	first = begin("POST", "/write");
	fault_wait_for_sync();
	commits = db_counts.commits;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		bool reads = i % 10 == 0;
		struct buf b = fcgi_bytes(&run.arena,
		    &(struct fcgi_request) { .method = reads ? "GET" : "POST",
			.path = reads ? "/quick" : path,
			.body = body,
			.keep = 1 });

		fds[i] = open_connection();
		assert_true(fcgi_send(fds[i], &b));
	}
	fault_release_syncs();
	assert_int_equal(finish(first), 204);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		assert_int_equal(finish(fds[i]), 200);
	assert_int_equal(rows(), writes);
	assert_true(db_counts.commits - commits > 2); /* first's is one */
}

static void
test_loop__a_turn_that_is_large_ends_early(void **state)
{
	char *body = malloc(150001);

	(void)state;
	check_large_turn("/list", NULL, 109); /* by replies */
	memset(body, 'x', 150000);
	body[150000] = '\0';
	check_large_turn("/list", body, 2 * 109); /* by bodies */
	for (size_t i = 0; i < 2000; i++)
		memcpy(body + 4 * i, i > 0 ? ",[ ]" : "[[ ]", 4);
	memcpy(body + 8000, "]", 2);
	check_large_turn("/json", body, 3 * 109); /* by what is made of them */
	free(body);
}

/* The client of the first does not even wait for its reply. */
static void
test_loop__who_comes_while_another_writes_goes_along(void **state)
{
	struct db *other = &worker(run.t)->db;
	uint64_t commits, waits = db_counts.waits;
	int fds[5];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = open_connection();
	assert_int_equal(ask("GET", "/quick").status, 200); /* all accepted */
	assert_int_equal(db_begin(other), OK);
	begin_on(fds[0], "POST", "/write");
	while (db_counts.waits == waits)
		sched_yield();
	for (size_t i = 1; i < ARRAY_LEN(fds); i++)
		begin_on(fds[i], "POST", i % 2 ? "/write" : "/fail");
	close(fds[0]);
	commits = db_counts.commits;
	db_rollback(other);
	for (size_t i = 1; i < ARRAY_LEN(fds); i++)
		assert_int_equal(finish(fds[i]), i % 2 ? 204 : 410);
	assert_int_equal(rows(), 3);
	assert_int_equal(db_counts.commits - commits, 1);
}

static void
test_loop__a_commit_that_fails_acknowledges_nothing(void **state)
{
	int first, fds[3];

	(void)state;
	/* The very first commit syncs the log's header before it writes. */
	assert_int_equal(ask("POST", "/write").status, 204);
	fault_hold_syncs();
	first = begin("POST", "/write");
	fault_wait_for_sync();
	for (int i = 0; i < 3; i++)
		fds[i] = begin("POST", "/write");
	fault_full = true; /* what the first wrote is written already */
	fault_release_syncs();
	assert_int_equal(finish(first), 204);
	for (int i = 0; i < 3; i++)
		assert_int_equal(finish(fds[i]), 503);
	assert_int_equal(ask("GET", "/quick").status, 200);
	fault_full = false;
	assert_int_equal(rows(), 2);
	assert_int_equal(ask("POST", "/write").status, 204);
	assert_int_equal(rows(), 3);
}

/* It comes while the turn waits for another writer, and sees the turn's row. */
static void
test_loop__a_read_of_a_turn_that_failed_is_done_again(void **state)
{
	struct db *other = &worker(run.t)->db;
	struct fcgi_answer a;
	uint64_t waits;
	int fds[2];

	(void)state;
	assert_int_equal(ask("POST", "/write").status, 204);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = open_connection();
	assert_int_equal(ask("GET", "/quick").status, 200); /* all accepted */
	assert_int_equal(db_begin(other), OK);
	waits = db_counts.waits;
	begin_on(fds[0], "POST", "/write");
	while (db_counts.waits == waits)
		sched_yield();
	begin_on(fds[1], "GET", "/quick");
	fault_full = true;
	db_rollback(other);
	assert_int_equal(finish(fds[0]), 503);
	a = fcgi_answer(&run.arena, fds[1]);
	close(fds[1]);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "{\"rows\":1}");
	fault_full = false;
}

static void
test_loop__a_disk_that_fills_under_load_loses_nothing(void **state)
{
	int acknowledged = 0, refused = 0;
	struct writer w[8];

	(void)state;
	start_writers(w, ARRAY_LEN(w), 200);
	for (int i = 0; i < 5; i++) {
		fault_full = true;
		assert_int_equal(ask("GET", "/quick").status, 200);
		while (ask("POST", "/write").status != 503)
			acknowledged++; /* a write of before is still going */
		fault_full = false;
		assert_int_equal(ask("POST", "/write").status, 204);
		acknowledged++;
	}
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		pthread_join(w[i].thread, NULL);
		acknowledged += w[i].acknowledged;
		refused += w[i].refused;
		assert_int_equal(w[i].acknowledged + w[i].refused, 200);
	}
	print_message("%d acknowledged, %d refused\n", acknowledged, refused);
	assert_int_equal(rows(), acknowledged);
}

static void
test_loop__stops_when_all_is_answered(void **state)
{
	int slow, queued[20];
	struct stat st;

	(void)state;
	slow = begin("POST", "/block");
	gate_wait_inside(1);
	fault_hold_syncs();
	queued[0] = begin("POST", "/write");
	fault_wait_for_sync();
	/* The loop waits for its disk: these stay in the backlog. */
	for (size_t i = 1; i < ARRAY_LEN(queued); i++)
		queued[i] = begin("POST", "/write");
	kill(getpid(), SIGTERM);
	fault_release_syncs();
	for (size_t i = 0; i < ARRAY_LEN(queued); i++)
		assert_int_equal(finish(queued[i]), 204);
	assert_int_equal(stat(run.path, &st), -1);
	assert_int_equal(fcgi_connect(run.path), -1);
	gate_set(true);
	assert_int_equal(finish(slow), 204);
	wait_until_stopped();
	assert_int_equal(rows(), (int)ARRAY_LEN(queued));
}

/* nginx keeps many connections, and a request now and then uses up one. */
static void
test_loop__a_trickle_does_not_keep_it_from_stopping(void **state)
{
	int kept[100];
	size_t served = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		kept[i] = open_connection();
		assert_int_equal(ask_on(kept[i], "GET", "/quick").status, 200);
	}
	kill(getpid(), SIGTERM);
	while (served < ARRAY_LEN(kept)
	    && ask_on(kept[served], "GET", "/quick").status == 200) {
		served++;
		usleep(40000);
	}
	assert_true(served > 0 && served < ARRAY_LEN(kept));
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		close(kept[i]);
	wait_until_stopped();
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* systemd, as the loop sees it. */
static int supervisor = -1;

static int
setup_supervised(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 20 };
	char pid[16];

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/coster-notify-%d",
	    (int)getpid());
	unlink(sun.sun_path);
	supervisor = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(
	    bind(supervisor, (struct sockaddr *)&sun, sizeof(sun)), 0);
	setsockopt(
	    supervisor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("NOTIFY_SOCKET", sun.sun_path, 1);
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "100000", 1);
	return setup(state);
}

static int
teardown_supervised(void **state)
{
	int rc = teardown(state);

	unlink(getenv("NOTIFY_SOCKET"));
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	close(supervisor);
	return rc;
}

/* Does a message come that begins so? Others before it are passed over. */
static bool
is_told(const char *what)
{
	char message[256];
	ssize_t n;

	while ((n = recv(supervisor, message, sizeof(message) - 1, 0)) > 0) {
		message[n] = '\0';
		if (strncmp(message, what, strlen(what)) == 0)
			return true;
	}
	return false;
}

static void
test_loop__systemd_hears_of_it_while_it_turns(void **state)
{
	struct timeval soon = { .tv_usec = 300000 }, patience = { .tv_sec = 20 };
	char message[256];
	int held;

	(void)state;
	assert_true(is_told("READY=1\nSTATUS=serving"));
	assert_true(is_told("WATCHDOG=1\nSTATUS=serving; 0 requests"));
	fault_hold_syncs();
	held = begin("POST", "/write");
	fault_wait_for_sync();
	while (recv(supervisor, message, sizeof(message), MSG_DONTWAIT) > 0)
		;
	setsockopt(supervisor, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	assert_false(is_told("WATCHDOG=1"));
	setsockopt(
	    supervisor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	fault_release_syncs();
	assert_int_equal(finish(held), 204);
	assert_true(is_told("WATCHDOG=1"));
	stop();
	assert_true(is_told("STOPPING=1"));
}

static void
test_loop__gives_its_memory_back_when_nothing_comes(void **state)
{
	(void)state;
	sql_int(run.t,
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	    " WHERE i < 1000) INSERT INTO row SELECT hex(zeroblob(1000)) FROM n"
	    " RETURNING 1");
	for (int i = 0; i < 2; i++) {
		int64_t most, before = sqlite3_memory_used();

		sqlite3_memory_highwater(1);
		assert_int_equal(ask("GET", "/quick").status, 200);
		most = sqlite3_memory_highwater(0);
		assert_true(most > before + 1000000);
		for (int n = 0; n < 2000 && sqlite3_memory_used() > most - 1000000;
		     n++)
			usleep(10000);
		assert_true(sqlite3_memory_used() <= most - 1000000);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_loop__keeps_a_connection_for_many_requests),
		LOOP_TEST(test_loop__closes_where_keeping_was_not_asked_for),
		LOOP_TEST(test_loop__idle_connections_starve_nobody),
		LOOP_TEST(
		    test_loop__quick_routes_stay_quick_while_every_worker_is_busy),
		LOOP_TEST(test_loop__clients_go_as_soon_as_a_worker_has_replied),
		LOOP_TEST(test_loop__asks_before_it_writes),
		LOOP_TEST(test_loop__whom_it_asks_for_may_go_away),
		LOOP_TEST(test_loop__asks_on_while_it_stops),
		LOOP_TEST(test_loop__a_body_of_1_mib_passes_and_no_more),
		LOOP_TEST(test_loop__a_body_nobody_reads_is_not_the_next_request),
		LOOP_TEST(test_loop__a_long_reply_arrives_whole),
		LOOP_TEST(test_loop__a_client_that_goes_away_disturbs_nobody),
		LOOP_TEST(
		    test_loop__what_nobody_waits_for_any_more_is_not_begun),
		LOOP_TEST(
		    test_loop__a_stalled_peer_is_dropped_and_the_rest_served),
		LOOP_TEST(test_loop__malformed_records_end_their_connection),
		LOOP_TEST(test_loop__a_length_that_lies_is_not_served),
		LOOP_TEST(test_loop__clients_share_a_commit),
		LOOP_TEST(test_loop__a_failing_write_leaves_its_turn_unharmed),
		LOOP_TEST(test_loop__a_turn_that_is_large_ends_early),
		LOOP_TEST(test_loop__who_comes_while_another_writes_goes_along),
		LOOP_TEST(test_loop__a_commit_that_fails_acknowledges_nothing),
		LOOP_TEST(test_loop__a_read_of_a_turn_that_failed_is_done_again),
		LOOP_TEST(test_loop__a_disk_that_fills_under_load_loses_nothing),
		LOOP_TEST(test_loop__stops_when_all_is_answered),
		LOOP_TEST(
		    test_loop__a_trickle_does_not_keep_it_from_stopping),
		cmocka_unit_test_setup_teardown(
		    test_loop__systemd_hears_of_it_while_it_turns,
		    setup_supervised, teardown_supervised),
		cmocka_unit_test_setup_teardown(
		    test_loop__gives_its_memory_back_when_nothing_comes,
		    setup_supervised, teardown_supervised),
	};

	/* Under AddressSanitizer the first call in a program may not be made by two
	 * workers at once; the programs make theirs at the start. */
	malloc_trim(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
