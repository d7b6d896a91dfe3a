#include "shared/field.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "shared/json.h"

struct part {
	int64_t size;
	const char *tag;
};

struct line {
	int64_t id;
	const char *note;
	struct field_list parts;
};

struct in {
	int64_t count, from, at, any;
	const char *line, *text, *email, *currency, *name, *pick, *odd;
	bool on;
	struct json_object *data;
	struct field_list lines;
};

static const char *const picks[] = { "red", "green", NULL };

static const struct field_table part_fields = FIELDS(
	FIELD(struct part, size, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct part, tag));

static const struct field_table line_fields = FIELDS(
	FIELD(struct line, id, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct line, note, .flags = FIELD_NULLABLE),
	FIELD(struct line, parts, FIELD_ITEMS(struct part, part_fields)));

static const struct field fields[] = {
	FIELD(struct in, count, .flags = FIELD_NULLABLE, .min = 1, .max = 999),
	FIELD(struct in, from, .min = -5, .max = -1),
	FIELD(struct in, any),
	FIELD(struct in, at, .format = FORMAT_TIME, .flags = FIELD_NULLABLE),
	FIELD(struct in, line, .flags = FIELD_NULLABLE, .min = 2, .max = 4),
	FIELD(struct in, text, .format = FORMAT_PARAGRAPHS),
	FIELD(struct in, email, .format = FORMAT_EMAIL, .max = 300),
	FIELD(struct in, currency, .format = FORMAT_CURRENCY),
	FIELD(struct in, name, .format = FORMAT_NAME),
	FIELD(struct in, pick, .choices = picks),
	FIELD_AS(struct in, odd, "a/b~c d"),
	FIELD(struct in, on),
	FIELD(struct in, data, .flags = FIELD_NULLABLE),
	FIELD(struct in, lines, .flags = FIELD_NULLABLE, .min = 1, .max = 3,
	    FIELD_ITEMS(struct line, line_fields)),
};

static struct arena arena;
static struct faults faults;

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static void
read_with(const struct field *table, size_t count, const char *text, void *into)
{
	struct json_object *root;
	const char *why;

	if (json_parse(&arena, text, strlen(text), &root, &why))
		fail_msg("%s: %s", text, why);
	faults_init(&faults, &arena);
	field_read_object(&faults, root, table, count, into);
}

static void
read_in(const char *text, struct in *in)
{
	read_with(fields, ARRAY_LEN(fields), text, in);
}

/* "pointer: detail" of every fault, a line each. */
static const char *
all_faults(void)
{
	struct buf b;

	buf_init(&b, &arena);
	for (const struct fault *f = faults.first; f != NULL; f = f->next)
		buf_addf(&b, "%s: %s\n", f->pointer, f->detail);
	return b.data;
}

static void
test_field__every_type_is_read(void **state)
{
	struct in in = { 0 };
	struct line *lines;
	struct part *parts;

	(void)state;
	read_in("{\"count\":999,\"from\":-5,\"any\":9007199254740991,"
		"\"at\":\"2027-01-15T09:00:00+01:00\",\"line\":\"t\xc3\xa9\xf0\x9f\x8d\xb5z\","
		"\"text\":\"a\\n\\tb\\r\",\"email\":\"a@b.example\","
		"\"currency\":\"EUR\",\"name\":\"a.b-c_9\",\"pick\":\"green\","
		"\"a/b~c d\":\"x\",\"on\":true,\"data\":{\"k\":[1]},"
		"\"lines\":[{\"id\":1,\"note\":null,\"parts\":[]},"
		"{\"id\":2,\"parts\":[{\"size\":3,\"tag\":\"t\"},{\"size\":4}]}]}",
	    &in);
	assert_string_equal(all_faults(), "");
	assert_int_equal(in.count, 999);
	assert_int_equal(in.from, -5);
	assert_int_equal(in.any, INT_MAX_EXACT);
	assert_int_equal(in.at, 1800000000000);
	assert_string_equal(in.line, "t\xc3\xa9\xf0\x9f\x8d\xb5z");
	assert_string_equal(in.text, "a\n\tb\r");
	assert_string_equal(in.email, "a@b.example");
	assert_string_equal(in.currency, "EUR");
	assert_string_equal(in.name, "a.b-c_9");
	assert_string_equal(in.pick, "green");
	assert_string_equal(in.odd, "x");
	assert_true(in.on);
	assert_string_equal(
	    json_object_to_json_string_ext(in.data, JSON_C_TO_STRING_PLAIN),
	    "{\"k\":[1]}");
	assert_int_equal(in.lines.count, 2);
	lines = in.lines.items;
	assert_int_equal(lines[0].id, 1);
	assert_null(lines[0].note);
	assert_int_equal(lines[0].parts.count, 0);
	assert_int_equal(lines[1].id, 2);
	assert_int_equal(lines[1].parts.count, 2);
	parts = lines[1].parts.items;
	assert_int_equal(parts[0].size, 3);
	assert_string_equal(parts[0].tag, "t");
	assert_int_equal(parts[1].size, 4);
	assert_null(parts[1].tag);
}

static void
test_field__what_is_not_given_stays(void **state)
{
	struct in in = { .count = 7, .line = "kept", .on = true };

	(void)state;
	read_in("{}", &in);
	assert_int_equal(faults.count, 0);
	assert_int_equal(in.count, 7);
	assert_string_equal(in.line, "kept");
	assert_true(in.on);
}

static void
test_field__null_takes_away(void **state)
{
	struct line line;
	struct in in = { .count = 7, .at = 8, .line = "x",
		.lines = { &line, 1 } };

	(void)state;
	read_in("{\"count\":null,\"at\":null,\"line\":null,\"data\":null,"
		"\"lines\":null}",
	    &in);
	assert_string_equal(all_faults(), "");
	assert_int_equal(in.count, INT_NONE);
	assert_int_equal(in.at, INT_NONE);
	assert_null(in.line);
	assert_null(in.data);
	assert_null(in.lines.items);
	assert_int_equal(in.lines.count, 0);
}

static void
test_field__each_fault_is_told(void **state)
{
	static const struct {
		const char *body, *fault;
	} cases[] = {
		/* types: nothing is converted */
		{ "[]", "#: must be an object" },
		{ "null", "#: must be an object" },
		{ "\"a\"", "#: must be an object" },
		{ "{\"count\":\"1\"}", "#/count: must be a whole number" },
		{ "{\"count\":1.0}", "#/count: must be a whole number" },
		{ "{\"count\":1e2}", "#/count: must be a whole number" },
		{ "{\"count\":true}", "#/count: must be a whole number" },
		{ "{\"count\":[]}", "#/count: must be a whole number" },
		{ "{\"any\":null}", "#/any: must not be null" },
		{ "{\"line\":12}", "#/line: must be a string" },
		{ "{\"line\":{}}", "#/line: must be a string" },
		{ "{\"text\":null}", "#/text: must not be null" },
		{ "{\"on\":1}", "#/on: must be true or false" },
		{ "{\"on\":\"true\"}", "#/on: must be true or false" },
		{ "{\"on\":null}", "#/on: must not be null" },
		{ "{\"data\":[]}", "#/data: must be an object" },
		{ "{\"data\":\"{}\"}", "#/data: must be an object" },
		{ "{\"lines\":{}}", "#/lines: must be an array" },
		{ "{\"at\":1800000000000}", "#/at: must be a time of RFC 3339" },
		{ "{\"at\":\"tomorrow\"}", "#/at: must be a time of RFC 3339" },
		/* bounds */
		{ "{\"count\":0}", "#/count: must be from 1 to 999" },
		{ "{\"count\":1000}", "#/count: must be from 1 to 999" },
		{ "{\"from\":-6}", "#/from: must be from -5 to -1" },
		{ "{\"from\":0}", "#/from: must be from -5 to -1" },
		{ "{\"any\":-1}", "#/any: must be from 0 to 9007199254740991" },
		{ "{\"line\":\"a\"}", "#/line: must be from 2 to 4 characters" },
		{ "{\"line\":\"\xc3\xa9\"}",
		    "#/line: must be from 2 to 4 characters" },
		{ "{\"line\":\"abcde\"}",
		    "#/line: must be from 2 to 4 characters" },
		{ "{\"lines\":[]}", "#/lines: must be from 1 to 3 items" },
		{ "{\"lines\":[{},{},{},{}]}",
		    "#/lines: must be from 1 to 3 items" },
		/* choices and formats */
		{ "{\"pick\":\"Red\"}", "#/pick: must be one of: red, green" },
		{ "{\"pick\":\"\"}", "#/pick: must be one of: red, green" },
		{ "{\"line\":\"a\\nb\"}", "#/line: must not contain control" },
		{ "{\"line\":\"a\\u007f\"}", "#/line: must not contain control" },
		{ "{\"text\":\"a\\u0007\"}", "#/text: must not contain control" },
		{ "{\"text\":\"a\\u001b\"}", "#/text: must not contain control" },
		{ "{\"line\":\"a\\u009b\"}", "#/line: must not contain control" },
		{ "{\"text\":\"a\\u0080\"}", "#/text: must not contain control" },
		{ "{\"currency\":\"eur\"}", "#/currency: must be a currency" },
		{ "{\"currency\":\"EU\"}", "#/currency: must be a currency" },
		{ "{\"currency\":\"EURO\"}", "#/currency: must be a currency" },
		{ "{\"currency\":\"E1R\"}", "#/currency: must be a currency" },
		{ "{\"name\":\"\"}", "#/name: must consist of" },
		{ "{\"name\":\"A\"}", "#/name: must consist of" },
		{ "{\"name\":\"a b\"}", "#/name: must consist of" },
		/* unknown members */
		{ "{\"color\":1}", "#/color: is not known here" },
		{ "{\"Count\":1}", "#/Count: is not known here" },
		{ "{\"\":1}", "#/: is not known here" },
		{ "{\"count \":1}", "#/count%20: is not known here" },
		/* RFC 6901 section 6: a pointer in a fragment */
		{ "{\"a/b\":1}", "#/a~1b: is not" },
		{ "{\"~\":1}", "#/~0: is not" },
		{ "{\"~1\":1}", "#/~01: is not" },
		{ "{\"c%d\":1}", "#/c%25d: is not" },
		{ "{\"e^f|g\\\\i\\\"j\":1}", "#/e%5Ef%7Cg%5Ci%22j: is not" },
		{ "{\"m\xc3\xa9\":1}", "#/m%C3%A9: is not" },
		{ "{\"a#b\":1}", "#/a%23b: is not" },
		{ "{\"\\n\":1}", "#/%0A: is not" },
		{ "{\"a/b~c d\":1}", "#/a~1b~0c%20d: must be a string" },
		/* lists */
		{ "{\"lines\":[1]}", "#/lines/0: must be an object" },
		{ "{\"lines\":[null]}", "#/lines/0: must be an object" },
		{ "{\"lines\":[{\"id\":1},{}]}", "#/lines/1/id: is required" },
		{ "{\"lines\":[{\"id\":1,\"no/te\":1}]}",
		    "#/lines/0/no~1te: is not known here" },
		{ "{\"lines\":[{\"id\":1,\"parts\":[{\"size\":1},{\"size\":0}]}]}",
		    "#/lines/0/parts/1/size: must be from 1" },
	};
	const struct in before = { .count = 3, .line = "x", .text = "y" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct in in = before;

		read_in(cases[i].body, &in);
		if (faults.count != 1
		    || strncmp(all_faults(), cases[i].fault,
			   strlen(cases[i].fault))
			!= 0)
			fail_msg("%s: %s", cases[i].body, all_faults());
		assert_int_equal(in.count, 3);
		assert_string_equal(in.line, "x");
		assert_string_equal(in.text, "y");
	}
}

static void
test_field__email_addresses(void **state)
{
#define L16 "abcdefghijklmnop"
#define L64 L16 L16 L16 L16
	static const struct {
		const char *address;
		bool good;
	} cases[] = {
		{ "a@b", true },
		{ "a.b+c_d-e@x-y.example", true },
		{ "!#$%&'*/=?^`{|}~@b.example", true },
		{ "a@xn--bcher-kva.example", true },
		{ "a@1.2.example", true },
		{ "J\xc3\xb6rg@b\xc3\xbc" "cher.example", true },
		{ L64 "@b.example", true },
		{ L64 "x@b.example", false },
		{ "a@" L64 "." L64 "." L64 ".abcdefghijklmnopqrstuvwxyz"
		  "abcdefghijklmnopqrstuvwxyzabcde", true }, /* 254 */
		{ "a@" L64 "." L64 "." L64 ".abcdefghijklmnopqrstuvwxyz"
		  "abcdefghijklmnopqrstuvwxyzabcdef", false },
		{ "", false },
		{ "a", false },
		{ "@", false },
		{ "@b", false },
		{ "a@", false },
		{ "a@@b", false },
		{ "a@b@c", false },
		{ ".a@b", false },
		{ "a.@b", false },
		{ "a..b@c", false },
		{ "a b@c", false },
		{ " a@b", false },
		{ "a@b ", false },
		{ "a@b.", false },
		{ "a@.b", false },
		{ "a@b..c", false },
		{ "a@-b", false },
		{ "a@b-", false },
		{ "a@b.-c", false },
		{ "a@b-.c", false },
		{ "a@b_c", false },
		{ "a@[127.0.0.1]", false },
		{ "\\\"a\\\"@b", false },
		{ "a,b@c", false },
		{ "a;b@c", false },
		{ "a:b@c", false },
		{ "<a@b>", false },
		{ "A <a@b>", false },
		{ "a(c)@b", false },
		{ "a\\\\b@c", false },
		{ "a@b\\r\\nBcc: c@d", false },
		{ "a\\n@b", false },
		{ "a@b,c@d", false },
		{ "a\\u007f@b", false },
	};
	struct in in = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		read_in(arena_printf(&arena, "{\"email\":\"%s\"}",
			    cases[i].address),
		    &in);
		if ((faults.count == 0) != cases[i].good)
			fail_msg("%s: %s", cases[i].address, all_faults());
	}
}

static void
test_field__all_faults_at_once(void **state)
{
	struct in in = { 0 };

	(void)state;
	read_in("{\"count\":0,\"x\":1,\"line\":\"abcde\",\"lines\":"
		"[{\"note\":1},{\"id\":0,\"parts\":[{}]},7]}",
	    &in);
	assert_string_equal(all_faults(),
	    "#/count: must be from 1 to 999\n"
	    "#/x: is not known here\n"
	    "#/line: must be from 2 to 4 characters long\n"
	    "#/lines/0/note: must be a string\n"
	    "#/lines/0/id: is required\n"
	    "#/lines/1/id: must be from 1 to 9007199254740991\n"
	    "#/lines/1/parts/0/size: is required\n"
	    "#/lines/2: must be an object\n");
}

static void
test_field__faults_are_kept_up_to_a_limit(void **state)
{
	struct in in = { 0 };
	struct buf b;
	size_t kept = 0;

	(void)state;
	buf_init(&b, &arena);
	json_open(&b, NULL, '{');
	for (int i = 0; i < 1000; i++)
		json_int(&b, arena_printf(&arena, "x%d", i), i);
	json_close(&b, '}');
	read_in(b.data, &in);
	assert_int_equal(faults.count, 1000);
	for (const struct fault *f = faults.first; f != NULL; f = f->next)
		kept++;
	assert_int_equal(kept, FAULTS_MAX);
}

/* However a name is cut, what is shown of it must be UTF-8 for the reply. */
static void
test_field__long_names_are_cut_between_characters(void **state)
{
	struct in in = { 0 };
	struct buf b;
	const char *p;

	(void)state;
	for (int before = 94; before <= 101; before++) {
		buf_init(&b, &arena);
		for (int i = 0; i < before; i++)
			buf_addc(&b, 'x');
		buf_adds(&b, "\xf0\x9f\x8d\xb5tea");
		faults_init(&faults, &arena);
		field_read_query(
		    &faults, b.data, fields, ARRAY_LEN(fields), &in);
		p = faults.first->pointer;
		assert_int_equal(strspn(p + 1, "x"), before < 100 ? before : 100);
		assert_true(strlen(p) <= 101);
		p += strlen(p);
		if (before <= 96)
			assert_memory_equal(p - (96 - before) - 4,
			    "\xf0\x9f\x8d\xb5", 4);
		else
			assert_int_equal(p[-1], 'x');
		read_in(arena_printf(&arena, "{\"%s\":1}", b.data), &in);
		p = strchr(faults.first->pointer, '%');
		if (before <= 96)
			assert_memory_equal(p, "%F0%9F%8D%B5", 12);
		else
			assert_null(p);
	}
}

static void
test_field__required_members(void **state)
{
	static const struct field required[] = {
		FIELD(struct line, id, .flags = FIELD_REQUIRED),
		FIELD(struct line, note,
		    .flags = FIELD_REQUIRED | FIELD_NULLABLE),
	};
	struct line line = { 0 };

	(void)state;
	read_with(required, 2, "{}", &line);
	assert_string_equal(
	    all_faults(), "#/id: is required\n#/note: is required\n");
	read_with(required, 2, "{\"note\":null,\"id\":null}", &line);
	assert_string_equal(all_faults(), "#/id: must not be null\n");
	faults_init(&faults, &arena);
	field_read_query(&faults, "id=1", required, 2, &line);
	assert_string_equal(all_faults(), "?note: is required\n");
}

static void
test_field__queries(void **state)
{
	static const struct {
		const char *query, *faults;
	} cases[] = {
		{ "", "" },
		{ "&", "" },
		{ "&&count=7&", "" },
		{ "count=7", "" },
		{ "%63ount=7", "" },
		{ "count=%37", "" },
		{ "on=true&count=7", "" },
		{ "line=a+b", "" },
		{ "line=a%2Bb", "" },
		{ "line=%C3%A9%C3%A9", "" },
		{ "line=a=b", "" },
		{ "at=2027-01-15T08:00:00Z", "" },
		{ "at=2027-01-15T09:00:00%2B01:00", "" },
		{ "a%2Fb%7Ec+d=x", "" },
		{ "odd=1", "?odd: is not known here\n" },
		{ "count", "?count: must be a whole number\n" },
		{ "count=", "?count: must be a whole number\n" },
		{ "count=x", "?count: must be a whole number\n" },
		{ "count=+7", "?count: must be a whole number\n" },
		{ "count=07", "?count: must be a whole number\n" },
		{ "count=7.0", "?count: must be a whole number\n" },
		{ "count=99999999999999999999", "?count: must be a whole number\n" },
		{ "count=0", "?count: must be from 1 to 999\n" },
		{ "count=1000", "?count: must be from 1 to 999\n" },
		{ "count=7&count=7", "?count: is given more than once\n" },
		{ "count=7&%63ount=8", "?count: is given more than once\n" },
		{ "on=1", "?on: must be true or false\n" },
		{ "on=TRUE", "?on: must be true or false\n" },
		{ "on", "?on: must be true or false\n" },
		{ "line", "?line: must be from 2 to 4 characters long\n" },
		{ "line=", "?line: must be from 2 to 4 characters long\n" },
		{ "line=a%0Ab", "?line: must not contain control characters\n" },
		{ "line=a\x01z", "?line: must not contain control characters\n" },
		{ "pick=blue", "?pick: must be one of: red, green\n" },
		{ "at=now", "?at: must be a time of RFC 3339, such as "
			    "2026-01-31T12:00:00Z\n" },
		/* a plus is a space here */
		{ "at=2027-01-15T09:00:00+01:00",
		    "?at: must be a time of RFC 3339, such as "
		    "2026-01-31T12:00:00Z\n" },
		{ "line=%", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "line=%4", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "line=%zz", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "line=a%00b", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "line=%FF", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "line=\xff", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "%=1", "?: a parameter is not percent-encoded UTF-8\n" },
		{ "=1", "?: is not known here\n" },
		{ "x=1&count=0&y",
		    "?x: is not known here\n?count: must be from 1 to 999\n"
		    "?y: is not known here\n" },
		{ "count=7;on=true", "?count: must be a whole number\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct in in = { 0 };

		faults_init(&faults, &arena);
		field_read_query(&faults, cases[i].query, fields,
		    ARRAY_LEN(fields), &in);
		if (strcmp(all_faults(), cases[i].faults) != 0)
			fail_msg("%s: %s", cases[i].query, all_faults());
		if (*cases[i].faults == '\0'
		    && strstr(cases[i].query, "count=") != NULL)
			assert_int_equal(in.count, 7);
		if (*cases[i].faults == '\0'
		    && strstr(cases[i].query, "at=") != NULL)
			assert_int_equal(in.at, 1800000000000);
	}
}

static void
test_field__query_values_are_decoded(void **state)
{
	struct in in = { 0 };

	(void)state;
	faults_init(&faults, &arena);
	field_read_query(&faults, "line=a+%2B&text=%0A&a%2Fb%7Ec%20d=%26%3D&on=false",
	    fields, ARRAY_LEN(fields), &in);
	assert_string_equal(all_faults(), "");
	assert_string_equal(in.line, "a +");
	assert_string_equal(in.text, "\n");
	assert_string_equal(in.odd, "&=");
	assert_false(in.on);
}

static void
test_field__an_array_starts_each_item_from_its_default(void **state)
{
	static const struct part part_default = { .size = 7, .tag = "none" };
	static const struct field list = { .type = FIELD_LIST,
		.min = 1,
		.max = 2,
		FIELD_ITEMS(struct part, part_fields),
		.item_default = &part_default };
	static const struct {
		const char *text, *faults;
	} cases[] = {
		{ "[{\"size\":1},{\"size\":2,\"tag\":\"x\"}]", "" },
		{ "[{\"size\":1},{\"size\":0}]",
		    "#/1/size: must be from 1 to 9007199254740991\n" },
		{ "[{}]", "#/0/size: is required\n" },
		{ "[7]", "#/0: must be an object\n" },
		{ "[]", "#: must be from 1 to 2 items long\n" },
		{ "[{},{},{}]", "#: must be from 1 to 2 items long\n" },
		{ "{}", "#: must be an array\n" },
		{ "null", "#: must not be null\n" },
	};
	struct json_object *root;
	struct field_list got;
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = cases[i].text;

		assert_int_equal(
		    json_parse(&arena, text, strlen(text), &root, &why), OK);
		faults_init(&faults, &arena);
		field_read_array(&faults, root, &list, &got);
		assert_string_equal(all_faults(), cases[i].faults);
		if (i == 0) {
			const struct part *parts = got.items;

			assert_int_equal(got.count, 2);
			assert_int_equal(parts[0].size, 1);
			assert_string_equal(parts[0].tag, "none");
			assert_int_equal(parts[1].size, 2);
			assert_string_equal(parts[1].tag, "x");
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_field__every_type_is_read),
		cmocka_unit_test(test_field__what_is_not_given_stays),
		cmocka_unit_test(test_field__null_takes_away),
		cmocka_unit_test(test_field__each_fault_is_told),
		cmocka_unit_test(test_field__email_addresses),
		cmocka_unit_test(test_field__all_faults_at_once),
		cmocka_unit_test(test_field__faults_are_kept_up_to_a_limit),
		cmocka_unit_test(
		    test_field__long_names_are_cut_between_characters),
		cmocka_unit_test(test_field__required_members),
		cmocka_unit_test(test_field__queries),
		cmocka_unit_test(test_field__query_values_are_decoded),
		cmocka_unit_test(
		    test_field__an_array_starts_each_item_from_its_default),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
