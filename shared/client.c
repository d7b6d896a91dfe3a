#include "shared/client.h"

#include <pthread.h>

#include "shared/breaker.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/curl.h"
#include "shared/json.h"
#include "shared/log.h"

#define MARGIN_MS 50 /* for our own reply, out of what a request has left */

struct client {
	CURL *curl;
	const struct ctx *ctx;
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

/* At its first call: many threads never make one. */
static void
open_curl(struct client *c)
{
	const char *path = c->ctx->app->settings.internal_socket;

	if (c->curl != NULL)
		return;
	curl_load();
	if ((c->curl = curl.easy_init()) == NULL)
		abort();
	curl.easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, path);
	curl.easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl.easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, 1000L);
	curl.easy_setopt(c->curl, CURLOPT_PROXY, "");
	curl.easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 0L);
}

void
client_free(struct client *c)
{
	if (c == NULL)
		return;
	if (c->curl != NULL)
		curl.easy_cleanup(c->curl);
	free(c);
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

static struct curl_slist *
header(struct curl_slist *list, struct arena *a, const char *name,
    const char *value)
{
	if (value != NULL)
		list = curl.slist_append(
		    list, arena_printf(a, "%s: %s", name, value));
	if (list == NULL)
		abort();
	return list;
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
all_headers(struct arena *a, const struct client_call *call, int64_t ms)
{
	struct curl_slist *list = NULL;

	list = header(list, a, "Content-Type",
	    call->body != NULL ? "application/json" : "");
	list = header(list, a, "Expect", "");
	list = header(list, a, "Idempotency-Key", call->key);
	list = header(list, a, "X-Request-Id", call->trace);
	return header(list, a, "X-Deadline-Ms",
	    arena_printf(a, "%lld", (long long)ms));
}

/* Why the service gave no answer that is one, or NULL. */
static const char *
perform(struct client *c, struct arena *a, const struct client_call *call,
    int64_t ms, struct buf *body, int *status)
{
	const char *url = arena_printf(a, "http://coster%s", call->path);
	struct curl_slist *headers;
	CURLcode code;
	long got = 0;

	open_curl(c);
	headers = all_headers(a, call, ms);
	curl.easy_setopt(c->curl, CURLOPT_URL, url);
	curl.easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
	curl.easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, call->method);
	if (call->body != NULL)
		curl.easy_setopt(c->curl, CURLOPT_POSTFIELDS, call->body);
	curl.easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl.easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl.easy_setopt(c->curl, CURLOPT_WRITEDATA, body);
	curl.easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)ms);
	code = curl.easy_perform(c->curl);
	curl.slist_free_all(headers);
	curl.easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &got);
	*status = (int)got;
	if (code != CURLE_OK)
		return curl.easy_strerror(code);
	return got >= 502 && got <= 504 ? "not available" : NULL;
}

/* The same, unless the service is left alone. A call whose time the request at
 * hand cut short says nothing of the service when it fails. */
static const char *
attempt(struct client *c, struct arena *a, const struct client_call *call,
    struct buf *body, int *status)
{
	int64_t own = call->timeout_ms > 0 ? call->timeout_ms
					   : CLIENT_TIMEOUT_MS;
	struct breaker_pass pass;
	const char *why;
	int64_t ms;

	if (breaker_enter(breaker, breaker_peer(a, call->path),
		clock_mono_us() / 1000, &pass, &why))
		return why;
	ms = time_for(c, own);
	why = ms > 0 ? perform(c, a, call, ms, body, status)
		     : "the time is over";
	breaker_leave(breaker, &pass, clock_mono_us() / 1000,
	    why == NULL	    ? BREAKER_GOOD
		: ms == own ? BREAKER_BAD
			    : BREAKER_UNKNOWN);
	return why;
}

enum err
client_call(struct client *c, struct arena *a, const struct client_call *call,
    struct client_reply *reply)
{
	struct buf body;
	const char *why;

	*reply = (struct client_reply) { 0 };
	buf_init(&body, a);
	why = attempt(c, a, call, &body, &reply->status);
	if (why == NULL
	    && (body.len == 0
		|| json_parse(a, body.data, body.len, &reply->body, &why) == OK))
		return OK;
	/* Without the query: an address may stand there. */
	LOG(LOG_WARN, "call failed", LOG_TEXT("method", call->method),
	    LOG_TEXT("path",
		arena_strndup(a, call->path, strcspn(call->path, "?"))),
	    LOG_INT("status", reply->status), LOG_TEXT("reason", why),
	    LOG_TEXT("request", call->trace != NULL ? call->trace : "-"));
	return ERR_UNAVAILABLE;
}

int64_t
client_pause(struct client *c, struct arena *a, const char *path)
{
	(void)c;
	return breaker_pause(
	    breaker, breaker_peer(a, path), clock_mono_us() / 1000);
}
