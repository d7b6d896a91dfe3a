/* A whole service, linked with each in turn. An input is requests, which have
 * a line of three dashes between them:
 *
 *     POST /product/?x=1
 *     AS=admin
 *     HTTP_ACCEPT=text/csv
 *     PEER=200 {"items":[]}
 *
 *     {"sku":"tea"}
 *
 * AS is admin, user, service or nobody; PEER is what another service answers;
 * the rest are FastCGI parameters that a client can set. No request is answered with a 500, and each
 * reply is what fuzz_reply() wants. */
#include "tests/fuzz/database.h"

#include <sodium.h>

#include "shared/handle.h"

#define REQUESTS_MAX 6

static struct t *t;
static char bearer_admin[1024], bearer_user[1024];

/* Keys and passwords are good: what takes milliseconds is not what is looked
 * at here. */
int
crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
    unsigned long long len, const unsigned char *public)
{
	(void)sig, (void)m, (void)len, (void)public;
	return 0;
}

int
crypto_pwhash_str(char out[crypto_pwhash_STRBYTES], const char *password,
    unsigned long long len, unsigned long long passes, size_t memory)
{
	(void)password, (void)len, (void)passes, (void)memory;
	memcpy(out, "$argon2id$", sizeof("$argon2id$"));
	return 0;
}

int
crypto_pwhash_str_verify(
    const char *hash, const char *password, unsigned long long len)
{
	(void)hash, (void)password, (void)len;
	return 0;
}

void
fuzz_start(void)
{
	setenv("COSTER_GATEWAYS", "manual,sandbox", 1);
	t = database_start();
	peers_down(t);
	snprintf(bearer_admin, sizeof(bearer_admin), "%s",
	    bearer_of(t, AS_ADMIN));
	snprintf(
	    bearer_user, sizeof(bearer_user), "%s", bearer_of(t, AS_USER(1)));
}

static void
set_caller(struct req *r, const char *who)
{
	r->param[PARAM_AUTHORIZATION] = *who == 'a' ? bearer_admin
	    : *who == 'u'			    ? bearer_user
						    : "";
	r->param[PARAM_PEER] = *who == 's' ? "service" : "public";
}

/* What is no JSON no service says. */
static void
set_peer(const char *status, char *body)
{
	struct json_object *root;
	const char *why;

	*body++ = '\0';
	if (json_parse(FUZZ_ARENA, body, strlen(body), &root, &why) == OK)
		peer(t, "*", (int)strtol(status, NULL, 10) % 600, body);
}

/* The parameters whose value clients choose. */
static const bool is_clients[PARAM__COUNT] = {
	[PARAM_CONTENT_TYPE] = true,
	[PARAM_AUTHORIZATION] = true,
	[PARAM_ACCEPT] = true,
	[PARAM_IF_MATCH] = true,
	[PARAM_IF_NONE_MATCH] = true,
	[PARAM_IDEMPOTENCY_KEY] = true,
	[PARAM_COOKIE] = true,
	[PARAM_ORIGIN] = true,
	[PARAM_USER_AGENT] = true,
	[PARAM_CSRF_TOKEN] = true,
	[PARAM_DEADLINE_MS] = true,
	/* And two that nginx makes, of which any will do. */
	[PARAM_NETWORK] = true,
	[PARAM_REQUEST_ID] = true,
};

static void
set_line(struct req *r, const char *name, char *value)
{
	*value++ = '\0';
	if (strcmp(name, "AS") == 0)
		set_caller(r, value);
	else if (strcmp(name, "PEER") == 0 && strchr(value, ' ') != NULL)
		set_peer(value, strchr(value, ' '));
	for (size_t i = 0; i < PARAM__COUNT; i++)
		if (is_clients[i] && strcmp(param_names[i], name) == 0)
			r->param[i] = value;
}

static void
ask(char *text)
{
	char *line = fuzz_line(&text), *p;
	struct peer_answer answer;
	struct req r;

	database_request(&r);
	set_caller(&r, "admin");
	r.param[PARAM_CONTENT_TYPE] = "application/json";
	r.param[PARAM_METHOD] = line;
	if ((p = strchr(line, ' ')) != NULL) {
		*p++ = '\0';
		r.param[PARAM_PATH] = p;
		if ((p = strchr(p, '?')) != NULL) {
			*p++ = '\0';
			r.param[PARAM_QUERY] = p;
		}
	}
	while (*(line = fuzz_line(&text)) != '\0')
		if ((p = strchr(line, '=')) != NULL)
			set_line(&r, line, p);
	r.body = text;
	r.body_len = strlen(text);
	if (handle(&r) == ERR_DEFER) {
		req_ask(&r, 0, &answer);
		req_restart(&r);
		r.answer = &answer;
		assert(handle(&r) == OK);
	}
	assert(r.reply.status >= 200 && r.reply.status != 500);
	fuzz_reply(&r);
}

void
fuzz_one(char *text, size_t len)
{
	(void)len;
	database_begin();
	for (int i = 0; i < REQUESTS_MAX && text != NULL; i++) {
		char *one = text, *end = strstr(text, "\n---\n");

		text = end != NULL ? end + 5 : NULL;
		if (end != NULL)
			*end = '\0';
		ask(one);
	}
	database_end();
}
