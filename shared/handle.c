#include "shared/handle.h"

#include "shared/auth.h"
#include "shared/clock.h"
#include "shared/idempotency.h"
#include "shared/log.h"
#include "shared/problem.h"

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

static bool
is_read(const struct req *r)
{
	return strcmp(r->route->method, "GET") == 0;
}

/* Ends what the endpoint left open. */
static enum err
end_transaction(struct req *r, enum err err)
{
	if (!db_in_transaction(r->db))
		return err;
	if (err == OK)
		return db_commit(r->db);
	db_rollback(r->db);
	return err;
}

/* overtaken: the other instance has finished the same request meanwhile, and
 * what this one did is undone. */
static enum err
run_once(struct req *r, bool *overtaken)
{
	bool slow = r->route->flags & ROUTE_SLOW;
	enum idempotency what;
	enum err err;

	if (!slow && (err = db_begin(r->db)))
		return err;
	err = idempotency_start(r, &what);
	if (err || what == IDEMPOTENCY_REPLAYED)
		return end_transaction(r, err);
	err = r->route->fn(r);
	if (err == OK && !db_in_transaction(r->db))
		err = db_begin(r->db);
	if (err == OK) {
		err = idempotency_store(r);
		*overtaken = err == ERR_CONFLICT;
	}
	err = end_transaction(r, err);
	if (err)
		idempotency_forget(r);
	return err;
}

static enum err
run_write(struct req *r)
{
	bool overtaken = false;
	enum err err = run_once(r, &overtaken);

	/* Then its reply is stored, and found this time. */
	return overtaken ? run_once(r, &overtaken) : err;
}

enum err
handle(struct req *r)
{
	bool on_loop = r->db->kind == DB_GROUPED;
	enum err err;

	if ((err = auth_origin(r)))
		goto out;
	err = find_route(r);
	if (err == ERR_METHOD && strcmp(r->param[PARAM_METHOD], "OPTIONS") == 0) {
		err = reply_empty(r, 204);
		reply_field(r, "Allow", "%s", r->allow);
		goto out;
	}
	if (err || (err = auth_caller(r)) || (err = auth_route(r)))
		goto out;
	if (on_loop && (r->route->flags & ROUTE_SLOW))
		return ERR_DEFER;
	if (is_read(r))
		err = end_transaction(r, r->route->fn(r));
	else
		err = run_write(r);
	if (on_loop && err == ERR_DEFER)
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
	LOG(LOG_INFO, "request", LOG_TEXT("request", r->param[PARAM_TRACE]),
	    LOG_TEXT("method", r->param[PARAM_METHOD]),
	    LOG_TEXT("route", r->route != NULL ? r->route->pattern : "-"),
	    LOG_INT("status", r->reply.status),
	    LOG_INT("us", clock_mono_us() - r->started_us));
}
