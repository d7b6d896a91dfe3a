#include "shared/client.h"

#include <pthread.h>

#include "shared/breaker.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/curl.h"
#include "shared/json.h"
#include "shared/log.h"

#define MARGIN_MS 50 /* for our own reply, out of what a request has left */
#define POLL_MS 1000 /* libcurl wakes up earlier for its own times */

/* A call in hand. */
struct transfer {
	CURL *curl; /* with the options that are the same for all; or NULL */
	struct buf body;
	CURLcode code;
	int status;
	const char *why; /* there is no answer that is one; or NULL */
};

struct client {
	const struct ctx *ctx;
	CURLM *multi; /* waits for them, and has their connections */
	struct transfer transfers[CLIENT_CALLS_MAX];
	enum err synced; /* in the call at hand */
};

/* What all clients of the process know of the services. */
static struct breaker *breaker;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

struct client *
client_new(const struct ctx *ctx)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		abort();
	pthread_mutex_lock(&making);
	if (breaker == NULL)
		breaker
		    = breaker_new((size_t)ctx->app->settings.workers / 2);
	pthread_mutex_unlock(&making);
	c->ctx = ctx;
	return c;
}

static size_t
take_body(char *p, size_t size, size_t n, void *to)
{
	struct buf *b = to;

	if (b->len + size * n > CLIENT_REPLY_MAX)
		return 0;
	buf_add(b, p, size * n);
	return size * n;
}

/* At its first call: many threads never make one. */
static void
open_curl(struct client *c, struct transfer *t)
{
	const char *path = c->ctx->app->settings.internal_socket;

	if (t->curl != NULL)
		return;
	curl_load();
	if ((t->curl = curl.easy_init()) == NULL
	    || (c->multi == NULL && (c->multi = curl.multi_init()) == NULL))
		abort();
	curl.easy_setopt(t->curl, CURLOPT_PRIVATE, t);
	curl.easy_setopt(t->curl, CURLOPT_URL, "http://coster");
	curl.easy_setopt(t->curl, CURLOPT_UNIX_SOCKET_PATH, path);
	curl.easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
	curl.easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT_MS, 1000L);
	curl.easy_setopt(t->curl, CURLOPT_NOPROXY, "*");
	curl.easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl.easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl.easy_setopt(t->curl, CURLOPT_WRITEDATA, &t->body);
}

void
client_free(struct client *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < CLIENT_CALLS_MAX; i++)
		if (c->transfers[i].curl != NULL)
			curl.easy_cleanup(c->transfers[i].curl);
	if (c->multi != NULL)
		curl.multi_cleanup(c->multi);
	free(c);
}

/* A list with one more field, if there is a value; in the arena. */
static struct curl_slist *
field(struct arena *a, const char *name, const char *value,
    struct curl_slist *list)
{
	struct curl_slist *l;
	struct buf b;

	if (value == NULL)
		return list;
	buf_init(&b, a);
	buf_adds(&b, name);
	buf_adds(&b, ": ");
	buf_adds(&b, value);
	l = arena_alloc(a, sizeof(*l));
	*l = (struct curl_slist) { .data = b.data, .next = list };
	return l;
}

/* How long a call may take; 0 when the request at hand has no time left. */
static int64_t
time_for(const struct client *c, int64_t own)
{
	int64_t left;

	if (c->ctx->deadline_us == 0)
		return own;
	left = (c->ctx->deadline_us - clock_mono_us()) / 1000 - MARGIN_MS;
	return left < 0 ? 0 : left < own ? left : own;
}

static struct curl_slist *
all_fields(struct arena *a, const struct client_call *call, int64_t ms)
{
	struct curl_slist *list = NULL;
	struct buf left;

	buf_init(&left, a);
	buf_addint(&left, ms);
	list = field(a, "X-Deadline-Ms", left.data, list);
	list = field(a, "X-Request-Id", call->trace, list);
	list = field(a, "Idempotency-Key", call->key, list);
	return field(a, "Content-Type",
	    call->body != NULL ? "application/json" : "", list);
}

static void
begin(struct client *c, struct transfer *t, struct arena *a,
    const struct client_call *call, int64_t ms)
{
	open_curl(c, t);
	buf_init(&t->body, a);
	curl.easy_setopt(t->curl, CURLOPT_REQUEST_TARGET, call->path);
	curl.easy_setopt(t->curl, CURLOPT_HTTPGET, 1L);
	curl.easy_setopt(t->curl, CURLOPT_CUSTOMREQUEST, call->method);
	if (call->body != NULL)
		curl.easy_setopt(t->curl, CURLOPT_POSTFIELDS, call->body);
	curl.easy_setopt(
	    t->curl, CURLOPT_HTTPHEADER, all_fields(a, call, ms));
	curl.easy_setopt(t->curl, CURLOPT_TIMEOUT_MS, (long)ms);
	t->code = CURLE_FAILED_INIT;
	curl.multi_add_handle(c->multi, t->curl);
}

static void
end(struct client *c, struct transfer *t)
{
	long status = 0;

	curl.multi_remove_handle(c->multi, t->curl);
	curl.easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	t->status = (int)status;
	if (t->code == CURLE_WRITE_ERROR)
		t->why = "its reply is too large";
	else if (t->code != CURLE_OK)
		t->why = curl.easy_strerror(t->code);
	else if (status >= 502 && status <= 504)
		t->why = "not available";
}

/* The disk is at work while the service is. */
static void
perform(struct client *c, struct arena *a, const struct client_call *calls,
    size_t count, int64_t ms)
{
	int running = 0, left;
	struct transfer *t;
	CURLMsg *m;

	for (size_t i = 0; i < count; i++)
		begin(c, &c->transfers[i], a, &calls[i], ms);
	curl.multi_perform(c->multi, &running);
	if (calls->sync != NULL)
		c->synced = db_sync(calls->sync);
	while (running > 0
	    && curl.multi_poll(c->multi, NULL, 0, POLL_MS, NULL) == CURLM_OK
	    && curl.multi_perform(c->multi, &running) == CURLM_OK)
		;
	while ((m = curl.multi_info_read(c->multi, &left)) != NULL) {
		curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
		t->code = m->data.result;
	}
	for (size_t i = 0; i < count; i++)
		end(c, &c->transfers[i]);
}

static void
log_failure(struct arena *a, const struct client_call *call, int status,
    const char *why)
{
	/* Without the query: an address may stand there. */
	LOG(LOG_WARN, "call failed", LOG_TEXT("method", call->method),
	    LOG_TEXT("path",
		arena_strndup(a, call->path, strcspn(call->path, "?"))),
	    LOG_INT("status", status), LOG_TEXT("reason", why),
	    LOG_TEXT("request", call->trace != NULL ? call->trace : "-"));
}

/* What becomes of the calls is in the transfers then. One that is answered tells that
 * the service is well, also with more than is taken; those whose time the request at
 * hand cut short say nothing of it when they fail. */
static void
attempt(struct client *c, struct arena *a, const struct client_call *calls,
    size_t count)
{
	int64_t own = calls->timeout_ms > 0 ? calls->timeout_ms
					    : CLIENT_TIMEOUT_MS;
	struct breaker_pass pass;
	bool entered = false, answered = false;
	int64_t ms = time_for(c, own);
	const char *why = NULL;

	c->synced = OK;
	if (ms > 0)
		entered = breaker_enter(breaker, breaker_peer(a, calls->path),
			      clock_mono_us() / 1000, &pass, &why)
		    == OK;
	/* It may have waited for others. */
	if (why == NULL && (ms = time_for(c, own)) == 0)
		why = "the time is over";
	for (size_t i = 0; i < count; i++) {
		c->transfers[i].status = 0;
		c->transfers[i].code = CURLE_OK;
		c->transfers[i].why = why;
	}
	if (why == NULL)
		perform(c, a, calls, count, ms);
	for (size_t i = 0; i < count; i++)
		answered |= c->transfers[i].why == NULL
		    || c->transfers[i].code == CURLE_WRITE_ERROR;
	if (entered)
		breaker_leave(breaker, &pass, clock_mono_us() / 1000,
		    answered	    ? BREAKER_GOOD
			: ms == own ? BREAKER_BAD
				    : BREAKER_UNKNOWN);
}

static enum err
read_reply(struct arena *a, const struct client_call *call,
    const struct buf *body, struct client_reply *reply, const char **why)
{
	if (body->len == 0)
		return OK;
	if (!call->unread || reply->status / 100 != 2)
		return json_parse(
		    a, body->data, body->len, &reply->body, why);
	reply->text = body->data;
	reply->len = body->len;
	return OK;
}

enum err
client_call(struct client *c, struct arena *a, const struct client_call *call,
    struct client_reply *reply)
{
	struct transfer *t = &c->transfers[0];
	const char *why;

	attempt(c, a, call, 1);
	*reply = (struct client_reply) { .status = t->status };
	why = t->why;
	if (why == NULL && read_reply(a, call, &t->body, reply, &why) == OK)
		return c->synced;
	log_failure(a, call, t->status, why);
	return ERR_UNAVAILABLE;
}

void
client_call_all(struct client *c, struct arena *a,
    const struct client_call *calls, size_t count, int *statuses)
{
	attempt(c, a, calls, count);
	for (size_t i = 0; i < count; i++) {
		const struct transfer *t = &c->transfers[i];

		statuses[i] = t->why == NULL ? t->status : 0;
		if (t->why != NULL)
			log_failure(a, &calls[i], t->status, t->why);
	}
}

int64_t
client_pause(struct client *c, struct arena *a, const char *path)
{
	(void)c;
	return breaker_pause(
	    breaker, breaker_peer(a, path), clock_mono_us() / 1000);
}
