#include "shared/problem.h"

#include "tests/loopback.h"

#include "shared/req.h"

const struct service service = { .name = "test", .schema = "" };

static void
begin(struct req *r, struct t *t, const char *method)
{
	req_init(r, worker(t));
	r->param[PARAM_METHOD] = method;
	r->param[PARAM_TRACE] = "trace-1";
}

static struct json_object *
body_of(struct req *r)
{
	struct json_object *root;
	const char *why;

	if (json_parse(
		r->arena, r->reply.body.data, r->reply.body.len, &root, &why))
		fail_msg("%s: %s", r->reply.body.data, why);
	return root;
}

static const char *
text(struct json_object *o, const char *name)
{
	struct json_object *v;

	return json_object_object_get_ex(o, name, &v) ? json_object_get_string(v)
						      : NULL;
}

static void
test_problem__every_error_has_its_status(void **state)
{
	static const struct {
		int status;
		const char *title;
	} want[] = {
		[ERR_MALFORMED] = { 400, "Bad Request" },
		[ERR_UNAUTHENTICATED] = { 401, "Unauthorized" },
		[ERR_DECLINED] = { 402, "Payment Required" },
		[ERR_FORBIDDEN] = { 403, "Forbidden" },
		[ERR_NOT_FOUND] = { 404, "Not Found" },
		[ERR_METHOD] = { 405, "Method Not Allowed" },
		[ERR_NOT_ACCEPTABLE] = { 406, "Not Acceptable" },
		[ERR_CONFLICT] = { 409, "Conflict" },
		[ERR_GONE] = { 410, "Gone" },
		[ERR_PRECONDITION] = { 412, "Precondition Failed" },
		[ERR_TOO_LARGE] = { 413, "Content Too Large" },
		[ERR_MEDIA_TYPE] = { 415, "Unsupported Media Type" },
		[ERR_INVALID] = { 422, "Unprocessable Content" },
		[ERR_TOO_MANY] = { 429, "Too Many Requests" },
		[ERR_INTERNAL] = { 500, "Internal Server Error" },
		[ERR_UNAVAILABLE] = { 503, "Service Unavailable" },
		[ERR_DEFER] = { 503, "Service Unavailable" },
	};

	for (enum err e = OK + 1; e < ERR__COUNT; e++) {
		struct req r;
		struct json_object *o;

		begin(&r, *state, "GET");
		r.allow = "GET, HEAD, OPTIONS";
		problem_reply(&r, e);
		o = body_of(&r);
		assert_int_equal(r.reply.status, want[e].status);
		assert_string_equal(text(o, "type"), "about:blank");
		assert_string_equal(text(o, "title"), want[e].title);
		assert_string_equal(
		    text(o, "status"), arena_printf(r.arena, "%d", want[e].status));
		assert_true(strlen(text(o, "detail")) > 10);
		assert_string_equal(
		    text(o, "instance"), "urn:coster:request:trace-1");
		assert_null(text(o, "errors"));
		assert_int_equal(json_object_object_length(o), 5);
		assert_non_null(strstr(r.reply.fields.data,
		    "Content-Type: application/problem+json\r\n"));
		assert_string_equal(status_title(want[e].status), want[e].title);
	}
	assert_string_equal(status_title(201), "Created");
	assert_string_equal(status_title(304), "Not Modified");
	assert_string_equal(status_title(299), "Unknown");
}

static void
test_problem__header_fields(void **state)
{
	static const struct {
		enum err err;
		const char *authorization;
		int64_t retry_after;
		const char *want; /* NULL: neither of these */
	} cases[] = {
		{ ERR_UNAUTHENTICATED, "", 0,
		    "WWW-Authenticate: Bearer realm=\"coster\"\r\n" },
		{ ERR_UNAUTHENTICATED, "Basic x", 0,
		    "WWW-Authenticate: Bearer realm=\"coster\"\r\n" },
		{ ERR_UNAUTHENTICATED, "Bearer x", 0,
		    "WWW-Authenticate: Bearer realm=\"coster\", "
		    "error=\"invalid_token\"\r\n" },
		{ ERR_METHOD, "", 0, "Allow: GET, HEAD, OPTIONS\r\n" },
		{ ERR_UNAVAILABLE, "", 0, "Retry-After: 1\r\n" },
		{ ERR_UNAVAILABLE, "", 30, "Retry-After: 30\r\n" },
		{ ERR_TOO_MANY, "", 0, "Retry-After: 1\r\n" },
		{ ERR_TOO_MANY, "", 3600, "Retry-After: 3600\r\n" },
		{ ERR_CONFLICT, "", 2, "Retry-After: 2\r\n" },
		{ ERR_CONFLICT, "", 0, NULL },
		{ ERR_FORBIDDEN, "Bearer x", 0, NULL },
		{ ERR_NOT_FOUND, "", 0, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct req r;
		const char *fields;

		begin(&r, *state, "GET");
		r.allow = "GET, HEAD, OPTIONS";
		r.param[PARAM_AUTHORIZATION] = cases[i].authorization;
		r.retry_after = cases[i].retry_after;
		problem_reply(&r, cases[i].err);
		fields = r.reply.fields.data;
		if (cases[i].want != NULL)
			assert_non_null(strstr(fields, cases[i].want));
		else
			assert_string_equal(fields,
			    "Content-Type: application/problem+json\r\n");
	}
}

static void
test_problem__says_what_the_endpoint_said(void **state)
{
	struct req r;

	begin(&r, *state, "POST");
	(void)!req_fail_as(&r, ERR_CONFLICT, "out-of-stock",
	    "only %d \"%s\" left", 2, "TEA");
	r.problem_members = "\"lines\":[{\"product_id\":7}],\"more\":true";
	problem_reply(&r, ERR_CONFLICT);
	assert_string_equal(r.reply.body.data,
	    "{\"type\":\"urn:coster:problem:out-of-stock\","
	    "\"title\":\"Conflict\",\"status\":409,"
	    "\"detail\":\"only 2 \\\"TEA\\\" left\","
	    "\"instance\":\"urn:coster:request:trace-1\","
	    "\"lines\":[{\"product_id\":7}],\"more\":true}");
	(void)body_of(&r);
}

static void
test_problem__names_every_fault_up_to_a_limit(void **state)
{
	struct req r;
	struct json_object *errors, *one;

	begin(&r, *state, "POST");
	(void)!req_fault(&r, "#/name", "must not be %s", "empty");
	for (int i = 1; i < FAULTS_MAX + 5; i++)
		(void)!req_fault(&r, "?limit", "%d", i);
	problem_reply(&r, ERR_INVALID);
	assert_true(
	    json_object_object_get_ex(body_of(&r), "errors", &errors));
	assert_int_equal(json_object_array_length(errors), FAULTS_MAX);
	one = json_object_array_get_idx(errors, 0);
	assert_string_equal(text(one, "pointer"), "#/name");
	assert_string_equal(text(one, "detail"), "must not be empty");
	assert_string_equal(
	    text(json_object_array_get_idx(errors, 1), "pointer"), "?limit");
}

static void
test_problem__takes_the_place_of_a_reply_begun(void **state)
{
	struct req r;
	struct buf head;

	begin(&r, *state, "GET");
	json_text(reply_json(&r, 200), NULL, "half of it");
	reply_field(&r, "X-Half", "yes");
	reply_version(&r, 7);
	r.reply.cache_control = "public, max-age=60";
	r.param[PARAM_IF_NONE_MATCH] = "\"7\"";
	problem_reply(&r, ERR_UNAVAILABLE);
	reply_finish(&r, &head);
	assert_int_equal(r.reply.status, 503);
	assert_null(strstr(head.data, "X-Half"));
	assert_null(strstr(head.data, "ETag"));
	assert_null(strstr(head.data, "public"));
	assert_non_null(strstr(head.data, "no-store\r\n"));
	(void)body_of(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_problem__every_error_has_its_status),
		TEST(test_problem__header_fields),
		TEST(test_problem__says_what_the_endpoint_said),
		TEST(test_problem__names_every_fault_up_to_a_limit),
		TEST(test_problem__takes_the_place_of_a_reply_begun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
