#include "shared/problem.h"

#include "shared/auth.h"
#include "shared/json.h"
#include "shared/req.h"

static const struct {
	int status;
	const char *title, *detail;
} problems[] = {
	[OK] = { 200, "OK", "" },
	[ERR_MALFORMED] = { 400, "Bad Request", "The request is malformed." },
	[ERR_UNAUTHENTICATED] = { 401, "Unauthorized",
	    "Sign in and send the token as a bearer." },
	[ERR_DECLINED] = { 402, "Payment Required", "The payment was declined." },
	[ERR_FORBIDDEN] = { 403, "Forbidden", "You may not do this." },
	[ERR_NOT_FOUND] = { 404, "Not Found", "There is nothing here." },
	[ERR_METHOD] = { 405, "Method Not Allowed",
	    "This resource does not have this method; see Allow." },
	[ERR_NOT_ACCEPTABLE] = { 406, "Not Acceptable",
	    "There is no representation that Accept allows." },
	[ERR_CONFLICT] = { 409, "Conflict",
	    "This does not fit what is there already." },
	[ERR_GONE] = { 410, "Gone", "It was here and is deleted." },
	[ERR_PRECONDITION] = { 412, "Precondition Failed",
	    "It has changed since you read it." },
	[ERR_TOO_LARGE] = { 413, "Content Too Large", "The body is too large." },
	[ERR_MEDIA_TYPE] = { 415, "Unsupported Media Type",
	    "This type of body is not understood." },
	[ERR_INVALID] = { 422, "Unprocessable Content",
	    "Some members are not acceptable; see errors." },
	[ERR_TOO_MANY] = { 429, "Too Many Requests",
	    "You have reached a limit; try again later." },
	[ERR_INTERNAL] = { 500, "Internal Server Error",
	    "Something went wrong here; the log has the details." },
	[ERR_UNAVAILABLE] = { 503, "Service Unavailable",
	    "This cannot be done just now; try again." },
	[ERR_DEFER] = { 503, "Service Unavailable",
	    "This cannot be done just now; try again." },
};
_Static_assert(ARRAY_LEN(problems) == ERR__COUNT, "every error has a status");

static const struct {
	int status;
	const char *title;
} successes[] = {
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 204, "No Content" },
	{ 304, "Not Modified" },
};

const char *
status_title(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(successes); i++)
		if (successes[i].status == status)
			return successes[i].title;
	for (size_t i = 0; i < ARRAY_LEN(problems); i++)
		if (problems[i].status == status)
			return problems[i].title;
	return "Unknown";
}

static void
put_faults(struct buf *b, const struct faults *f)
{
	if (f->count == 0)
		return;
	json_open(b, "errors", '[');
	for (const struct fault *fault = f->first; fault; fault = fault->next) {
		json_open(b, NULL, '{');
		json_text(b, "pointer", fault->pointer);
		json_text(b, "detail", fault->detail);
		json_close(b, '}');
	}
	json_close(b, ']');
}

/* Header fields that a status is to have: RFC 6750 section 3, RFC 9110, and of a
 * patch RFC 5789 section 3.1. */
static void
put_fields(struct req *r, enum err err)
{
	switch (err) {
	case ERR_UNAUTHENTICATED:
		reply_field(r, "WWW-Authenticate", "Bearer realm=\"coster\"%s",
		    auth_bearer(r) != NULL ? ", error=\"invalid_token\""
					   : "");
		break;
	case ERR_METHOD:
		reply_field(r, "Allow", "%s", r->allow);
		break;
	case ERR_MEDIA_TYPE:
		if (strcmp(r->param[PARAM_METHOD], "PATCH") == 0)
			reply_field(r, "Accept-Patch", "application/json, %s",
			    MERGE_PATCH);
		else
			reply_field(r, "Accept", "application/json");
		break;
	case ERR_TOO_MANY:
	case ERR_UNAVAILABLE:
	case ERR_DEFER:
		if (r->retry_after == 0)
			r->retry_after = 1;
		break;
	default:
		break;
	}
	if (r->retry_after > 0)
		reply_field(r, "Retry-After", "%lld", (long long)r->retry_after);
}

void
problem_reply(struct req *r, enum err err)
{
	struct buf *b = reply_type(r, problems[err].status,
	    "application/problem+json");

	r->reply.cache_control = "no-store"; /* the endpoint may have had others */
	put_fields(r, err);
	json_open(b, NULL, '{');
	json_text(b, "type",
	    r->problem_type != NULL
		? arena_printf(r->arena, "urn:coster:problem:%s", r->problem_type)
		: "about:blank");
	json_text(b, "title", problems[err].title);
	json_int(b, "status", problems[err].status);
	json_text(b, "detail",
	    r->problem_detail != NULL ? r->problem_detail : problems[err].detail);
	json_text(b, "instance",
	    arena_printf(
		r->arena, "urn:coster:request:%s", r->param[PARAM_TRACE]));
	put_faults(b, &r->faults);
	if (r->problem_members != NULL) {
		buf_addc(b, ',');
		buf_adds(b, r->problem_members);
	}
	json_close(b, '}');
}
