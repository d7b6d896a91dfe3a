#include "shared/reply.h"

#include "tests/loopback.h"

#include "shared/req.h"

static handler_fn get_thing, put_thing, post_thing, delete_thing, get_long,
    get_broken;

static const struct route routes[] = {
	{ "GET", "/thing/{id}", get_thing, ROUTE_ANYONE | ROUTE_TAGGED },
	{ "PUT", "/thing/{id}", put_thing, ROUTE_ANYONE | ROUTE_TAGGED },
	{ "POST", "/thing", post_thing, ROUTE_ANYONE },
	{ "DELETE", "/thing/{id}", delete_thing, ROUTE_ANYONE },
	{ "GET", "/long", get_long, ROUTE_ANYONE | ROUTE_SLOW },
	{ "GET", "/broken", get_broken, ROUTE_ANYONE | ROUTE_SLOW },
};
static const struct route_table table = ROUTES(routes);
static const struct route_table *const tables[] = { &table };

const struct service service = { .name = "test",
	.routes = tables,
	.route_count = 1,
	.schema = "" };

#define VERSION 3
#define ROWS 20000

static size_t longest; /* a body that get_long held in memory */

static enum err
reply_thing(struct req *r, int status)
{
	struct buf *b = reply_json(r, status);

	json_open(b, NULL, '{');
	json_int(b, "id", r->id);
	json_close(b, '}');
	reply_version(r, VERSION);
	return OK;
}

static enum err
get_thing(struct req *r)
{
	r->reply.cache_control = "public, max-age=5";
	return reply_thing(r, 200);
}

static enum err
put_thing(struct req *r)
{
	enum err err;

	if ((err = req_conditions(r, VERSION)))
		return err;
	return reply_thing(r, 200);
}

static enum err
post_thing(struct req *r)
{
	r->id = 7;
	(void)!reply_thing(r, 201);
	reply_location(r, "/thing", 7);
	return OK;
}

static enum err
delete_thing(struct req *r)
{
	return reply_empty(r, 204);
}

static enum err
rows(struct req *r, int count)
{
	struct buf *b = reply_json(r, 200);
	enum err err;

	json_open(b, NULL, '[');
	for (int i = 0; i < count; i++) {
		json_int(b, NULL, i);
		if (b->len > longest)
			longest = b->len;
		if ((err = reply_flush(r)))
			return err;
	}
	json_close(b, ']');
	return OK;
}

static enum err
get_long(struct req *r)
{
	longest = 0;
	return rows(r, ROWS);
}

static enum err
get_broken(struct req *r)
{
	enum err err = rows(r, ROWS);

	return err ? err : ERR_UNAVAILABLE;
}

static void
test_reply__tags_match(void **state)
{
	static const struct {
		const char *field;
		bool matches;
	} cases[] = {
		{ "\"3\"", true },
		{ "W/\"3\"", true },
		{ "*", true },
		{ "\"1\", \"3\"", true },
		{ "\"1\",\"3\"", true },
		{ "\"3\" , \"1\"", true },
		{ "\"1\"\t,\tW/\"3\"\t", true },
		{ ", ,\"3\"", true },
		{ "\"3\",", true },
		{ "\"a,b\", \"3\"", true },
		{ "", false },
		{ "3", false },
		{ "\"3", false },
		{ "3\"", false },
		{ "\"33\"", false },
		{ "\"13\"", false },
		{ "\" 3\"", false },
		{ "\"03\"", false },
		{ "\"3\"x", false },
		{ "x\"3\"", false },
		{ "w/\"3\"", false },
		{ "W\"3\"", false },
		{ "W/W/\"3\"", false },
		{ "W/", false },
		{ "W/3", false },
		{ "\"1\", *", false },
		{ "**", false },
		{ "\"1\"", false },
		{ "\"1\" \"3\"", false },
		{ "'3'", false },
		{ "\"-3\"", false },
		{ "\"1,\"3\"", false },
		{ "\"", false },
		{ "\"1\", \"", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (etag_matches(cases[i].field, VERSION) != cases[i].matches)
			fail_msg("%s", cases[i].field);
	assert_true(etag_matches("\"9007199254740991\"", INT_MAX_EXACT));
	assert_true(etag_matches("*", INT_NONE));
	assert_false(etag_matches("\"-9223372036854775808\"", INT_NONE));
}

static void
test_reply__conditional_requests(void **state)
{
	static const struct {
		const char *method;
		enum param param;
		const char *tag;
		int status;
	} cases[] = {
		{ "GET", PARAM_IF_NONE_MATCH, "\"3\"", 304 },
		{ "GET", PARAM_IF_NONE_MATCH, "W/\"3\"", 304 },
		{ "GET", PARAM_IF_NONE_MATCH, "*", 304 },
		{ "HEAD", PARAM_IF_NONE_MATCH, "\"3\"", 304 },
		{ "GET", PARAM_IF_NONE_MATCH, "\"2\"", 200 },
		{ "GET", PARAM_IF_NONE_MATCH, "", 200 },
		{ "GET", PARAM_IF_MATCH, "\"3\"", 200 },
		{ "GET", PARAM_IF_MATCH, "\"2\"", 412 },
		{ "HEAD", PARAM_IF_MATCH, "\"2\"", 412 },
		{ "PUT", PARAM_IF_NONE_MATCH, "\"3\"", 412 },
		{ "PUT", PARAM_IF_NONE_MATCH, "*", 412 },
		{ "PUT", PARAM_IF_NONE_MATCH, "\"2\"", 200 },
		{ "PUT", PARAM_IF_MATCH, "\"3\"", 200 },
		{ "PUT", PARAM_IF_MATCH, "W/\"3\"", 200 },
		{ "PUT", PARAM_IF_MATCH, "*", 200 },
		{ "PUT", PARAM_IF_MATCH, "\"1\", \"3\"", 200 },
		{ "PUT", PARAM_IF_MATCH, "\"2\"", 412 },
		{ "PUT", PARAM_IF_MATCH, "x", 412 },
		{ "PUT", PARAM_IF_MATCH, "", 200 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct call c
		    = { .method = cases[i].method, .path = "/thing/7" };
		struct reply_seen rep;

		c.param[cases[i].param] = cases[i].tag;
		rep = call_with(*state, &c);
		assert_status(&rep, cases[i].status);
		if (cases[i].status == 412) {
			if (strcmp(cases[i].method, "HEAD") != 0)
				assert_problem(&rep, 412, NULL);
			continue;
		}
		assert_non_null(strstr(rep.fields, "ETag: \"3\"\r\n"));
		if (cases[i].status != 304)
			continue;
		/* RFC 9110 section 15.4.5 */
		assert_string_equal(rep.body, "");
		assert_null(strstr(rep.fields, "Content-Length"));
		assert_non_null(strstr(
		    rep.fields, "Cache-Control: public, max-age=5\r\n"));
	}
}

static void
test_reply__heads_as_cgi_wants_them(void **state)
{
	struct call c = { .method = "POST", .path = "/thing" };
	struct reply_seen rep;

	c.param[PARAM_TRACE] = "abc-1";
	rep = call_with(*state, &c);
	assert_string_equal(rep.fields,
	    "Status: 201 Created\r\n"
	    "Content-Type: application/json\r\n"
	    "ETag: \"3\"\r\n"
	    "Location: /thing/7\r\n"
	    "Cache-Control: private, no-store\r\n"
	    "Vary: Accept-Encoding, Origin\r\n"
	    "X-Request-Id: abc-1\r\n"
	    "Content-Length: 8\r\n");
	assert_string_equal(rep.body, "{\"id\":7}");
	/* behind a prefix */
	c.param[PARAM_SCRIPT_NAME] = "/shop";
	rep = call_with(*state, &c);
	assert_non_null(strstr(rep.fields, "Location: /shop/thing/7\r\n"));
	rep = call(*state, "DELETE", "/thing/7", NULL, AS_NOBODY);
	assert_string_equal(rep.fields,
	    "Status: 204 No Content\r\n"
	    "Cache-Control: private, no-store\r\n"
	    "Vary: Accept-Encoding, Origin\r\n"
	    "X-Request-Id: test\r\n");
	assert_string_equal(rep.body, "");
}

static void
test_reply__head_is_get_without_its_body(void **state)
{
	struct reply_seen get
	    = call(*state, "GET", "/thing/7", NULL, AS_NOBODY);
	struct reply_seen head
	    = call(*state, "HEAD", "/thing/7", NULL, AS_NOBODY);

	assert_string_equal(head.fields, get.fields);
	assert_string_equal(head.body, "");
	assert_non_null(strstr(head.fields, "Content-Length: 8\r\n"));
	/* and problems too */
	get = call(*state, "GET", "/thing/x", NULL, AS_NOBODY);
	head = call(*state, "HEAD", "/thing/x", NULL, AS_NOBODY);
	assert_string_equal(head.fields, get.fields);
	assert_int_equal(head.status, 404);
	assert_string_equal(head.body, "");
}

static void
test_reply__long_lists_go_out_in_pieces(void **state)
{
	struct reply_seen rep = call(*state, "GET", "/long", NULL, AS_NOBODY);

	assert_status(&rep, 200);
	assert_null(strstr(rep.fields, "Content-Length"));
	assert_int_equal(json_object_array_length(rep.json), ROWS);
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(json_object_get_int64(json_object_array_get_idx(
				     rep.json, (size_t)i)),
		    i);
	assert_true(longest < 40000);
	/* HEAD keeps no more of it, and says nothing of a length it forgot */
	rep = call(*state, "HEAD", "/long", NULL, AS_NOBODY);
	assert_status(&rep, 200);
	assert_string_equal(rep.body, "");
	assert_null(strstr(rep.fields, "Content-Length"));
	assert_true(longest < 40000);
}

struct deaf {
	struct sink sink;
	int writes, good; /* how many there were, and may be */
	bool full;
};

static bool
begin(struct sink *sink)
{
	return !((struct deaf *)sink)->full;
}

static bool
hear(struct sink *sink, const char *p, size_t len)
{
	struct deaf *d = (struct deaf *)sink;

	(void)p, (void)len;
	return d->writes++ < d->good;
}

static void
test_reply__stops_when_the_client_is_gone(void **state)
{
	struct t *t = *state;

	for (int good = 0; good < 3; good++) {
		struct deaf d = { .sink = { begin, hear }, .good = good };
		struct req r;

		req_init(&r, worker(t));
		r.param[PARAM_METHOD] = "GET";
		r.reply.sink = &d.sink;
		assert_int_equal(rows(&r, ROWS), ERR_UNAVAILABLE);
		assert_true(r.reply.lost);
		assert_int_equal(d.writes, good + 1);
		arena_reset(r.arena);
	}
}

static void
test_reply__that_may_not_begin_is_another(void **state)
{
	struct t *t = *state;
	struct deaf d = { .sink = { begin, hear }, .full = true };
	struct req r;

	req_init(&r, worker(t));
	r.param[PARAM_METHOD] = "GET";
	r.reply.sink = &d.sink;
	assert_int_equal(rows(&r, ROWS), ERR_UNAVAILABLE);
	assert_false(r.reply.lost);
	assert_false(r.reply.started);
	assert_int_equal(d.writes, 0);
}

static void
test_reply__what_broke_off_does_not_look_whole(void **state)
{
	struct t *t = *state;
	struct deaf d = { .sink = { begin, hear }, .good = 1000 };
	struct req r;

	req_init(&r, worker(t));
	r.param[PARAM_KEY] = app_of(t)->key;
	r.param[PARAM_METHOD] = "GET";
	r.param[PARAM_PATH] = "/broken";
	r.reply.sink = &d.sink;
	assert_int_equal(handle(&r), OK);
	assert_int_equal(r.reply.status, 200);
	assert_true(r.reply.started);
	assert_true(r.reply.lost);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reply__tags_match),
		TEST(test_reply__conditional_requests),
		TEST(test_reply__heads_as_cgi_wants_them),
		TEST(test_reply__head_is_get_without_its_body),
		TEST(test_reply__long_lists_go_out_in_pieces),
		TEST(test_reply__stops_when_the_client_is_gone),
		TEST(test_reply__that_may_not_begin_is_another),
		TEST(test_reply__what_broke_off_does_not_look_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
