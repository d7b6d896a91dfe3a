/* A query string against a table with every type and format: what is taken is
 * within its bounds, and what is not gives a problem that is JSON. */
#include "tests/fuzz/fuzz.h"

#include "shared/json.h"
#include "shared/problem.h"
#include "shared/text.h"

struct in {
	int64_t number, at, small;
	const char *line, *text, *email, *currency, *name, *choice;
	bool flag;
};

static const char *const choices[] = { "id", "name", "-price", NULL };

static const struct field fields[] = {
	FIELD(struct in, number),
	FIELD(struct in, small, .min = 1, .max = 200),
	FIELD(struct in, at, .format = FORMAT_TIME),
	FIELD(struct in, line, .min = 1, .max = 20),
	FIELD(struct in, text, .format = FORMAT_PARAGRAPHS),
	FIELD(struct in, email, .format = FORMAT_EMAIL),
	FIELD(struct in, currency, .format = FORMAT_CURRENCY),
	FIELD(struct in, name, .format = FORMAT_NAME, .flags = FIELD_REQUIRED),
	FIELD(struct in, choice, .choices = choices),
	FIELD(struct in, flag),
};

void
fuzz_start(void)
{
}

static void
check_text(const char *s, int64_t max)
{
	int64_t n;

	if (s == NULL)
		return;
	n = text_length(s, strlen(s));
	assert(n >= 0 && n <= max);
	assert(strcmp(text_percent_decode(FUZZ_ARENA,
			  text_percent_encode(FUZZ_ARENA, s),
			  strlen(text_percent_encode(FUZZ_ARENA, s))),
		   s)
	    == 0);
}

void
fuzz_one(char *text, size_t len)
{
	struct in in = { .small = 1 };
	struct req r;
	enum err err;

	(void)len;
	fuzz_request(&r);
	r.param[PARAM_QUERY] = text;
	field_read_query(
	    &r.faults, r.param[PARAM_QUERY], fields, ARRAY_LEN(fields), &in);
	err = r.faults.count > 0 ? ERR_INVALID : OK;
	assert(in.number >= 0 && in.number <= INT_MAX_EXACT);
	assert(in.small >= 1 && in.small <= 200);
	assert(err || in.name != NULL);
	check_text(in.line, 20);
	check_text(in.text, 200);
	check_text(in.email, 200);
	check_text(in.currency, 3);
	check_text(in.name, 200);
	if (err)
		problem_reply(&r, err);
	fuzz_reply(&r);
}
