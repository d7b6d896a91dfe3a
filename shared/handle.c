#include "shared/handle.h"

#include "shared/auth.h"
#include "shared/clock.h"
#include "shared/crash.h"
#include "shared/idempotency.h"
#include "shared/log.h"
#include "shared/metrics.h"
#include "shared/problem.h"
#include "shared/text.h"

#define TIME_MS 25000 /* that a request may take; nginx waits for 30 s */

static enum err
find_route(struct req *r)
{
	struct route_match m;
	enum err err;

	err = router_find(r->ctx->app->router, r->arena, r->param[PARAM_METHOD],
	    r->param[PARAM_PATH], &m);
	r->route = m.route;
	r->uid = m.uid;
	r->id = m.id;
	r->word = m.word;
	r->allow = m.allow;
	return err;
}

/* A service says for how long it waits. Nobody is there any more to read the
 * reply to a request whose time is over: it stood in a queue too long. One that
 * has its answer was begun in time. */
static enum err
set_deadline(struct req *r)
{
	const char *text = r->param[PARAM_DEADLINE_MS];
	int64_t ms = TIME_MS, asked;

	if (r->caller.role == ROLE_SERVICE
	    && text_to_int(text, strlen(text), &asked) && asked < ms)
		ms = asked;
	r->ctx->deadline_us = r->started_us + ms * 1000;
	if (r->answer != NULL || clock_mono_us() < r->ctx->deadline_us)
		return OK;
	return req_fail(r, ERR_UNAVAILABLE, "The time for this is over.");
}

static bool
is_read(const struct req *r)
{
	return strcmp(r->route->method, "GET") == 0;
}

/* A browser asks before it sends what a page of another origin wants sent. */
static void
reply_options(struct req *r)
{
	(void)reply_empty(r, 204);
	reply_field(r, "Allow", "%s", r->allow);
	if (*r->param[PARAM_CORS] == '\0')
		return;
	reply_field(r, "Access-Control-Allow-Methods", "%s", r->allow);
	reply_field(r, "Access-Control-Allow-Headers", "%s",
	    "Authorization, Content-Type, Idempotency-Key, If-Match,"
	    " If-None-Match, X-Request-Id");
	reply_field(r, "Access-Control-Max-Age", "600");
}

/* All that the table knows of a request, before its endpoint is asked. */
static enum err
check_request(struct req *r)
{
	enum err err;

	if ((err = auth_caller(r)) || (err = auth_route(r))
	    || (err = req_negotiate(r)))
		return err;
	return r->route->flags & ROUTE_TAGGED ? OK
					      : req_conditions(r, INT_NONE);
}

/* Ends what the endpoint left open. */
static enum err
end_transaction(struct req *r, enum err err)
{
	if (!db_in_transaction(r->db))
		return err;
	if (err == OK) {
		CRASH_POINT("before-commit");
		err = db_commit(r->db);
		if (err == OK && r->db->kind == DB_SINGLE)
			CRASH_POINT("after-commit");
		return err;
	}
	db_rollback(r->db);
	return err;
}

/* Of a repeated request it may fail: that may be what ended its session. */
static enum err
check_new(struct req *r)
{
	const struct service *svc = r->ctx->app->service;
	enum err err = svc->check_caller != NULL ? svc->check_caller(r) : OK;

	/* The other routes read theirs. */
	return err || r->route->query != NULL ? err : req_query(r, NULL);
}

static enum err
run_endpoint(struct req *r)
{
	enum err err = check_new(r);

	return err ? err : r->route->fn(r);
}

static enum err
begin(struct req *r)
{
	unsigned flags = r->route->flags;

	if (!(flags & ROUTE_SLOW))
		return db_begin(r->db);
	return flags & ROUTE_BEGUN ? db_begin_relaxed(r->db) : OK;
}

static enum err
try_write(struct req *r)
{
	enum idempotency what;
	enum err err;

	if ((err = begin(r)))
		return err;
	err = idempotency_start(r, &what);
	if (err || what == IDEMPOTENCY_REPLAYED)
		return end_transaction(r, err);
	err = run_endpoint(r);
	if (err == OK && !db_in_transaction(r->db))
		err = db_begin(r->db);
	if (err == OK)
		err = idempotency_store(r);
	err = end_transaction(r, err);
	if (err)
		idempotency_forget(r);
	return err;
}

/* Before anything is locked. A repeated request needs no answer any more. */
static enum err
ask(struct req *r, enum idempotency *what)
{
	enum err err;

	if (r->route->question == NULL || r->answer != NULL)
		return OK;
	if ((err = idempotency_start(r, what)) || *what == IDEMPOTENCY_REPLAYED)
		return err;
	if ((err = check_new(r)) || (err = r->route->question(r)))
		return err;
	return r->question != NULL ? ERR_DEFER : OK;
}

static enum err
run_read(struct req *r)
{
	enum err err = end_transaction(r, run_endpoint(r));

	if (err == OK && (r->route->flags & ROUTE_TAGGED))
		err = req_conditions(r, r->reply.version);
	return err;
}

static enum err
run_write(struct req *r)
{
	enum err err = try_write(r);

	return err && idempotency_recall(r) ? OK : err;
}

enum err
handle(struct req *r)
{
	bool on_loop = r->db->kind == DB_GROUPED;
	enum idempotency what = IDEMPOTENCY_NEW;
	enum err err;

	if ((err = auth_origin(r)))
		goto out;
	err = find_route(r);
	if (err == ERR_METHOD && strcmp(r->param[PARAM_METHOD], "OPTIONS") == 0) {
		reply_options(r);
		err = OK;
		goto out;
	}
	if (err || (err = check_request(r)) || (err = set_deadline(r)))
		goto out;
	if (on_loop && (r->route->flags & ROUTE_SLOW))
		return ERR_DEFER;
	if ((err = ask(r, &what)) == OK && what == IDEMPOTENCY_NEW)
		err = is_read(r) ? run_read(r) : run_write(r);
	if (err == ERR_DEFER)
		return ERR_DEFER;
out:
	if (err && r->reply.started)
		r->reply.lost = true; /* what is cut short must not look whole */
	else if (err)
		problem_reply(r, err);
	return OK;
}

void
handle_log(const struct req *r)
{
	metrics_request(r);
	LOG(LOG_INFO, "request", LOG_TEXT("request", r->param[PARAM_TRACE]),
	    LOG_TEXT("method", r->param[PARAM_METHOD]),
	    LOG_TEXT("route", r->route != NULL ? r->route->pattern : "-"),
	    LOG_INT("status", r->reply.status),
	    LOG_INT("us", clock_mono_us() - r->started_us),
	    { .key = r->reply.lost ? "reply" : NULL, .text = "cut short" });
}
