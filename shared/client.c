#include "shared/client.h"

#include <curl/curl.h>

#include "shared/buf.h"
#include "shared/json.h"
#include "shared/log.h"

struct client {
	CURL *curl;
};

struct client *
client_new(const struct app *app)
{
	struct client *c = malloc(sizeof(*c));

	if (c == NULL || (c->curl = curl_easy_init()) == NULL)
		abort();
	curl_easy_setopt(
	    c->curl, CURLOPT_UNIX_SOCKET_PATH, app->settings.internal_socket);
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, 1000L);
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 0L);
	return c;
}

void
client_free(struct client *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
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
		list = curl_slist_append(
		    list, arena_printf(a, "%s: %s", name, value));
	if (list == NULL)
		abort();
	return list;
}

enum err
client_call(struct client *c, struct arena *a, const struct client_call *call,
    struct client_reply *reply)
{
	const char *url = arena_printf(a, "http://coster%s", call->path);
	struct curl_slist *headers = NULL;
	const char *why = NULL;
	struct buf body;
	CURLcode code;
	long status = 0;

	*reply = (struct client_reply) { 0 };
	buf_init(&body, a);
	headers = header(headers, a, "Content-Type",
	    call->body != NULL ? "application/json" : "");
	headers = header(headers, a, "Expect", "");
	headers = header(headers, a, "Idempotency-Key", call->key);
	headers = header(headers, a, "X-Request-Id", call->trace);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, call->method);
	if (call->body != NULL)
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, call->body);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &body);
	curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS,
	    (long)(call->timeout_ms > 0 ? call->timeout_ms : CLIENT_TIMEOUT_MS));
	code = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	reply->status = (int)status;
	if (code != CURLE_OK)
		why = curl_easy_strerror(code);
	else if (status >= 502 && status <= 504)
		why = "not available";
	else if (body.len > 0
	    && json_parse(a, body.data, body.len, &reply->body, &why) == OK)
		why = NULL;
	if (why == NULL)
		return OK;
	/* Without the query: an address may stand there. */
	LOG(LOG_WARN, "call failed", LOG_TEXT("method", call->method),
	    LOG_TEXT("path",
		arena_strndup(a, call->path, strcspn(call->path, "?"))),
	    LOG_INT("status", status),
	    LOG_TEXT("reason", why),
	    LOG_TEXT("request", call->trace != NULL ? call->trace : "-"));
	return ERR_UNAVAILABLE;
}
