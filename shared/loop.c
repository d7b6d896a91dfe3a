#include "shared/loop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/fcgi.h"
#include "shared/handle.h"
#include "shared/jobs.h"
#include "shared/log.h"
#include "shared/metrics.h"
#include "shared/pool.h"
#include "shared/problem.h"

#define TURN_EVENTS 128
#define TURN_MEMORY ((size_t)16 * 1024 * 1024) /* then a turn ends early */
#define IDLE_MS 5000 /* without systemd's watchdog */
#define QUIET_MS 100
#define STOP_US 1000000 /* that nginx has to use up what it keeps open */

/* A request and the connection that its reply goes to. */
struct exchange {
	struct conn *conn;
	struct req *r;
};

struct loop {
	struct ctx ctx;
	struct pool *pool;
	int epoll, listen, signals;
	_Atomic bool stopping;
	int64_t stop_due_us;
	int64_t beat_us, beat_due_us; /* for systemd's watchdog; 0 without */
	bool idle; /* has given its memory back */
	struct arena sent; /* with the turn's requests */
	/* Those that are read and wait to be handled, and those whose replies wait
	 * for the commit. A turn reads at most twice, and so many of each kind. */
	struct exchange writes[2 * TURN_EVENTS], held[4 * TURN_EVENTS];
	size_t write_count, held_count;
	int answers[2]; /* a pipe of pointers to tasks that have theirs */
	size_t asked;	/* whose answers are yet to come */
	/* Connections by descriptor: the pool's threads drop theirs too. */
	pthread_mutex_t lock;
	struct conn **conns;
	size_t conns_size;
};

static void
remember(struct loop *l, int fd, struct conn *c)
{
	pthread_mutex_lock(&l->lock);
	if ((size_t)fd >= l->conns_size) {
		size_t size = (size_t)fd * 2 + 64;

		l->conns = realloc(l->conns, size * sizeof(*l->conns));
		if (l->conns == NULL)
			abort();
		memset(l->conns + l->conns_size, 0,
		    (size - l->conns_size) * sizeof(*l->conns));
		l->conns_size = size;
	}
	l->conns[fd] = c;
	pthread_mutex_unlock(&l->lock);
}

static void
drop(struct loop *l, struct conn *c)
{
	remember(l, conn_fd(c), NULL);
	conn_free(c); /* closing takes it out of epoll too */
}

static bool
watch(struct loop *l, int fd, void *what)
{
	struct epoll_event ev
	    = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = what };

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static void
accept_all(struct loop *l)
{
	int fd;

	while ((fd = accept4(l->listen, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct conn *c = conn_new(fd);

		remember(l, fd, c);
		if (!watch(l, fd, c))
			drop(l, c);
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
		LOG(LOG_ERROR, "cannot accept", LOG_TEXT("reason", strerror(errno)),
		    LOG_TEXT("do", "raise LimitNOFILE of the unit"));
		usleep(10000); /* the listener stays ready: do not spin */
	}
}

/* Of a request in hand, which came back from the pool or was not taken by it.
 * False when it cannot be, and is dropped. */
static bool
watch_again(struct loop *l, struct conn *c)
{
	if (watch(l, conn_fd(c), c))
		return true;
	metrics.in_flight--;
	drop(l, c);
	return false;
}

/* On a worker: the connection comes back to the loop, which may hear of its end,
 * and drop it, before the call that does so is over. Until then the kernel keeps the
 * entry of a closed one: the loop's drop() waits for the lock. */
static void
came_back(struct conn *c, bool good, void *arg)
{
	struct loop *l = arg;
	bool back;

	metrics.pool_busy--;
	metrics.in_flight--;
	pthread_mutex_lock(&l->lock);
	back = good && !l->stopping && watch(l, conn_fd(c), c);
	pthread_mutex_unlock(&l->lock);
	if (!back)
		drop(l, c);
}

static void
reply(struct loop *l, struct conn *c, struct req *r)
{
	bool good = conn_send(c, r);

	handle_log(r);
	metrics.in_flight--;
	/* While stopping nginx is to open its next connection elsewhere. */
	if (!good || l->stopping)
		drop(l, c);
}

/* On a worker: the loop goes on with the request. */
static void
answered(struct task *t, void *arg)
{
	struct loop *l = arg;

	metrics.pool_busy--;
	if (write(l->answers[1], &t, sizeof(t)) != sizeof(t))
		abort(); /* it waits if there is no room: the loop reads on */
}

static void
defer(struct loop *l, struct conn *c, struct req *r)
{
	bool asks = r->question != NULL;

	assert(r->answer == NULL); /* it goes with the turn that it came in */
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, conn_fd(c), NULL);
	metrics.pool_busy++;
	l->asked += asks;
	if (pool_submit(l->pool, c, r))
		return;
	l->asked -= asks;
	metrics.pool_busy--;
	metrics.refused++;
	problem_reply(r, ERR_UNAVAILABLE);
	if (watch_again(l, c))
		reply(l, c, r);
}

static void
run(struct loop *l, struct conn *c, struct req *r)
{
	if (handle(r) == ERR_DEFER)
		defer(l, c, r);
	else if (l->ctx.db.open) /* even a read: it may have seen a write */
		l->held[l->held_count++] = (struct exchange) { c, r };
	else
		reply(l, c, r);
}

/* A GET is answered at once, so that nginx has something to do. The others wait
 * until all are read: each step finds its code in the processor's cache then, and
 * another instance does not wait for the lock while this one reads. */
static void
take(struct loop *l, struct conn *c, struct req *r)
{
	if (strcmp(r->param[PARAM_METHOD], "GET") == 0)
		run(l, c, r);
	else
		l->writes[l->write_count++] = (struct exchange) { c, r };
}

static void
serve(struct loop *l, struct conn *c)
{
	struct req *r = arena_alloc(&l->sent, sizeof(*r));

	req_init(r, &l->ctx);
	if (conn_read(c, r, &l->sent)) {
		drop(l, c);
		return;
	}
	metrics.in_flight++;
	take(l, c, r);
}

static void
free_task(void *task)
{
	struct task *t = task;

	json_object_put(t->answer.reply.body);
	free(t);
}

/* To go on with the request; what the task has lives as long as that. */
static void
take_answered(struct loop *l, struct task *t)
{
	struct req *r = arena_alloc(&l->sent, sizeof(*r));

	arena_defer(&l->sent, free_task, t, sizeof(*t) + t->size);
	req_resume(r, &l->ctx, &t->sent);
	r->answer = &t->answer;
	l->asked--;
	if (watch_again(l, t->conn))
		take(l, t->conn, r);
}

static void
take_all_answered(struct loop *l)
{
	struct task *tasks[TURN_EVENTS];
	ssize_t size = read(l->answers[0], tasks, sizeof(tasks));

	for (ssize_t i = 0; i < size / (ssize_t)sizeof(tasks[0]); i++)
		take_answered(l, tasks[i]);
}

/* What it logs of its effects is there twice then. */
static void
handle_again(struct req *r)
{
	enum err err;

	req_restart(r);
	if ((err = handle(r)))
		problem_reply(r, err);
}

/* The turn's commit failed. A read may have seen what is gone now, and is
 * answered anew; whether a write is on disk is not known. */
static void
refuse(struct req *r, enum err err)
{
	if (r->route != NULL && strcmp(r->route->method, "GET") == 0)
		handle_again(r);
	else
		problem_reply(r, err);
}

static void
end_turn(struct loop *l)
{
	bool wrote = l->ctx.db.open;
	enum err err;

	if (wrote)
		CRASH_POINT("before-turn-commit");
	if (db_turn_undo(&l->ctx.db))
		for (size_t i = 0; i < l->held_count; i++)
			handle_again(l->held[i].r);
	err = db_turn_end(&l->ctx.db);
	if (wrote && err == OK)
		CRASH_POINT("after-turn-commit");
	for (size_t i = 0; i < l->held_count; i++) {
		if (err)
			refuse(l->held[i].r, err);
		reply(l, l->held[i].conn, l->held[i].r);
	}
	l->held_count = 0;
	arena_reset(&l->ctx.arena);
	log_flush();
}

/* nginx is to find another instance for its next connection. A path that is gone
 * leaves those in the backlog to be served. TCP has no such thing: whoever comes
 * between the two calls is refused, and asks the other instance. */
static void
turn_away(struct loop *l)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun) - 1;

	if (getsockname(l->listen, (struct sockaddr *)&sun, &len) != 0)
		return;
	if (sun.sun_family == AF_UNIX) {
		if (sun.sun_path[0] == '/')
			unlink(sun.sun_path);
		return;
	}
	accept_all(l);
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->listen, NULL);
	shutdown(l->listen, SHUT_RDWR);
}

static void
stop(struct loop *l)
{
	struct signalfd_siginfo info;

	while (read(l->signals, &info, sizeof(info)) > 0)
		;
	if (l->stopping)
		return;
	l->stopping = true;
	l->stop_due_us = clock_mono_us() + STOP_US;
	LOG(LOG_INFO, "stopping");
	sd_notify(0, "STOPPING=1\nSTATUS=finishing what is in hand");
	turn_away(l);
}

/* Who has gone reads no reply: nginx, for a client that waits no more or after
 * it has asked the other instance. What it had sent is not begun any more. */
static void
meet(struct loop *l, struct conn *c, uint32_t events)
{
	if (conn_is_busy(c)) /* its reply waits for the commit of this turn */
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		drop(l, c);
	else
		serve(l, c);
}

static size_t
memory(const struct loop *l)
{
	return l->sent.used + l->ctx.arena.used;
}

/* Serves all that are ready; how many they were. */
static int
serve_ready(struct loop *l, int wait_ms)
{
	struct epoll_event ready[TURN_EVENTS];
	int n = epoll_wait(l->epoll, ready, TURN_EVENTS, wait_ms);

	if (n > 1 && !l->ctx.db.open)
		db_turn_start(&l->ctx.db);
	for (int i = 0; i < n && memory(l) <= TURN_MEMORY; i++) {
		void *what = ready[i].data.ptr;

		if (what == &l->listen)
			accept_all(l);
		else if (what == &l->signals)
			stop(l);
		else if (what == &l->answers)
			take_all_answered(l);
		else
			meet(l, what, ready[i].events);
	}
	for (size_t i = 0; i < l->write_count; i++) {
		run(l, l->writes[i].conn, l->writes[i].r);
		if (l->ctx.arena.used > TURN_MEMORY)
			end_turn(l);
	}
	l->write_count = 0;
	return n;
}

/* One turn; false when it was quiet for as long as it waited. Those who came
 * while it waited for another writer's commit go with its own. */
static bool
turn(struct loop *l, int wait_ms)
{
	int n = serve_ready(l, wait_ms);

	if (l->ctx.db.open && l->ctx.db.waited)
		serve_ready(l, 0);
	end_turn(l);
	arena_reset(&l->sent);
	return n != 0;
}

/* Tells systemd now and then that the loop turns, and what it did. */
static void
beat(struct loop *l)
{
	char status[128];
	int64_t now;

	if (l->beat_us == 0 || l->stopping
	    || (now = clock_mono_us()) < l->beat_due_us)
		return;
	l->beat_due_us = now + l->beat_us;
	metrics_status(status, sizeof(status));
	sd_notifyf(0, "WATCHDOG=1\nSTATUS=%s", status);
}

/* Twice within the watchdog's time at the least: when one is almost due, a turn may
 * wait for as long again. */
static void
start_beat(struct loop *l)
{
	uint64_t us;

	if (sd_watchdog_enabled(0, &us) > 0)
		l->beat_us = (int64_t)us / 4;
}

static int
timeout_ms(const struct loop *l)
{
	if (l->stopping)
		return QUIET_MS;
	if (l->beat_us > 0)
		return (int)(l->beat_us / 1000);
	return l->idle ? -1 : IDLE_MS;
}

/* Nothing came: the memory is for others until something does. */
static void
idle(struct loop *l)
{
	if (l->idle || l->stopping)
		return;
	db_shrink(&l->ctx.db);
	malloc_trim(0);
	l->idle = true;
}

/* False at the end: it has been quiet, or a trickle of requests comes by kept
 * connections, of which nginx has hundreds. What it sends by one that closes, it
 * sends to the other instance then. */
static bool
goes_on(struct loop *l)
{
	bool served = turn(l, timeout_ms(l));

	if (served)
		l->idle = false;
	else
		idle(l);
	return !l->stopping || l->asked > 0 || pool_busy(l->pool) > 0
	    || (served && clock_mono_us() < l->stop_due_us);
}

static enum err
set_up(struct loop *l, const struct app *app, int listen_fd)
{
	sigset_t set;
	enum err err;

	*l = (struct loop) { .listen = listen_fd };
	arena_init(&l->sent);
	pthread_mutex_init(&l->lock, NULL);
	if ((err = ctx_open(&l->ctx, app, DB_GROUPED)))
		return err;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	l->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
	if (l->signals < 0 || l->epoll < 0 || !watch(l, listen_fd, &l->listen)
	    || !watch(l, l->signals, &l->signals)
	    || pipe2(l->answers, O_CLOEXEC) != 0
	    || !watch(l, l->answers[0], &l->answers)) {
		LOG(LOG_ERROR, "cannot wait for connections",
		    LOG_TEXT("reason", strerror(errno)));
		return ERR_UNAVAILABLE;
	}
	l->pool = pool_new(app,
	    &(struct pool_events) {
		.replied = came_back, .answered = answered, .arg = l });
	return OK;
}

static void
tear_down(struct loop *l)
{
	pool_free(l->pool);
	for (size_t i = 0; i < l->conns_size; i++)
		if (l->conns[i] != NULL)
			conn_free(l->conns[i]);
	free(l->conns);
	close(l->signals);
	close(l->answers[0]);
	close(l->answers[1]);
	close(l->epoll);
	arena_release(&l->sent);
	ctx_close(&l->ctx);
	pthread_mutex_destroy(&l->lock);
}

enum err
loop_run(const struct app *app, int listen_fd)
{
	struct loop *l = malloc(sizeof(*l));
	enum err err;

	if (l == NULL)
		abort();
	if ((err = set_up(l, app, listen_fd))) {
		free(l);
		return err;
	}
	log_hold();
	LOG(LOG_INFO, "serving");
	log_flush();
	start_beat(l);
	sd_notify(0, "READY=1\nSTATUS=serving");
	while (goes_on(l))
		beat(l);
	tear_down(l);
	free(l);
	LOG(LOG_INFO, "stopped");
	log_flush();
	return OK;
}
