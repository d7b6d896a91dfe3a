#include "shared/json.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* So many of json-c's next calls for more memory fail. */
static int failures;

void *
realloc(void *p, size_t n)
{
	static void *(*next)(void *p, size_t n);

	if (next == NULL)
		next = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	if (failures == 0)
		return next(p, n);
	failures--;
	return NULL;
}

static struct arena arena;

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

/* A copy without a NUL behind it, so that reading on is seen. */
static enum err
parse(const char *text, size_t len, struct json_object **root, const char **why)
{
	char *copy = malloc(len + (len == 0));
	enum err err;

	memcpy(copy, text, len);
	err = json_parse(&arena, copy, len, root, why);
	free(copy);
	return err;
}

static void
test_json__good_texts_come_back_as_they_were(void **state)
{
	static const struct {
		const char *text, *back; /* NULL: the same */
	} cases[] = {
		{ "{}", NULL },
		{ "[]", NULL },
		{ "null", NULL },
		{ "true", NULL },
		{ "false", NULL },
		{ "0", NULL },
		{ "7", NULL },
		{ "-7", NULL },
		{ "\"\"", NULL },
		{ " \t\r\n[ 1 , 2 ] \t\r\n", "[1,2]" },
		{ " 12 ", "12" },
		{ "{ \"a\" : { \"b\" : [ null , true ] } }",
		    "{\"a\":{\"b\":[null,true]}}" },
		{ "[1.5,0.1,-0.25,1e3,1E+3,2e-7,0e0]", NULL },
		{ "[1.0,100000000000000000000.0,1e400]", NULL },
		{ "9007199254740991", NULL },
		{ "-9007199254740991", NULL },
		{ "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" },
		{ "\"\\u00e9\\u00E9\"", "\"\xc3\xa9\xc3\xa9\"" },
		{ "\"\\u0001\"", NULL },
		{ "\"\x7f\"", NULL },
		{ "\"\\ud83c\\udf75\"", "\"\xf0\x9f\x8d\xb5\"" },
		{ "\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\"", NULL },
		{ "{\"\":1}", NULL },
		{ "{\"a\":1,\"A\":2,\"a \":3}", NULL },
		{ "{\"a\":{\"a\":1},\"b\":{\"a\":1}}", NULL },
		{ "[{\"a\":1},{\"a\":1}]", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = cases[i].text, *why = "";
		const char *want = cases[i].back != NULL ? cases[i].back : text;
		struct json_object *root;
		struct buf b;

		if (parse(text, strlen(text), &root, &why))
			fail_msg("%s: %s", text, why);
		buf_init(&b, &arena);
		json_tree(&b, NULL, root);
		assert_string_equal(b.data, want);
	}
}

static void
test_json__what_rfc_8259_does_not_allow_is_refused(void **state)
{
	static const struct {
		const char *text, *why; /* a word of it */
	} cases[] = {
		{ "", "neither" },
		{ " ", "neither" },
		{ "\xef\xbb\xbf{}", "neither" }, /* a byte order mark */
		{ "NaN", "neither" },
		{ "nan", "neither" },
		{ "[NaN]", "neither" },
		{ "-NaN", "neither" },
		{ "Infinity", "neither" },
		{ "-Infinity", "neither" },
		{ "[-Infinity]", "neither" },
		{ "a digit", "neither" },
		{ "True", "neither" },
		{ "TRUE", "neither" },
		{ "NULL", "neither" },
		{ "nul", "neither" },
		{ "truefalse", "follows" },
		{ "undefined", "neither" },
		{ "'a'", "neither" },
		{ "{'a':1}", "not a string" },
		{ "{a:1}", "not a string" },
		{ "{1:1}", "not a string" },
		{ "{\"a\"}", "colon" },
		{ "{\"a\" 1}", "colon" },
		{ "{\"a\":}", "neither" },
		{ "{\"a\":1,}", "not a string" },
		{ "{,}", "not a string" },
		{ "{\"a\":1;\"b\":2}", "not closed" },
		{ "[1,]", "neither" },
		{ "[,1]", "neither" },
		{ "[1 2]", "not closed" },
		{ "[", "neither" },
		{ "[1", "not closed" },
		{ "{", "not a string" },
		{ "{\"a\":1", "not closed" },
		{ "]", "neither" },
		{ "[}", "neither" },
		{ "[1}", "not closed" },
		{ "{} {}", "follows" },
		{ "{}x", "follows" },
		{ "1 2", "follows" },
		{ "[1]]", "follows" },
		{ "/* c */ 1", "neither" },
		{ "1 // c", "follows" },
		{ "# c\n1", "neither" },
		/* numbers */
		{ "01", "leading zero" },
		{ "-01", "leading zero" },
		{ "00", "leading zero" },
		{ "+1", "neither" },
		{ ".5", "neither" },
		{ "-.5", "neither" },
		{ "5.", "decimal point" },
		{ "1.e3", "decimal point" },
		{ "1e", "exponent" },
		{ "1e+", "exponent" },
		{ "1ee3", "exponent" },
		{ "1e1.5", "follows" },
		{ "1.2.3", "follows" },
		{ "-", "neither" },
		{ "--1", "neither" },
		{ "- 1", "neither" },
		{ "0x10", "follows" },
		{ "1_000", "follows" },
		{ "1,000", "follows" },
		{ "9007199254740992", "2^53" },
		{ "-9007199254740992", "2^53" },
		{ "9223372036854775807", "2^53" },
		{ "18446744073709551617", "2^53" },
		{ "100000000000000000000000000000000000000000000000", "2^53" },
		/* strings */
		{ "\"", "no end" },
		{ "\"a", "no end" },
		{ "\"\\", "no end" },
		{ "\"\\\"", "no end" },
		{ "\"\\x41\"", "unknown escape" },
		{ "\"\\'\"", "unknown escape" },
		{ "\"\\0\"", "unknown escape" },
		{ "\"\\U0041\"", "unknown escape" },
		{ "\"\\\n\"", "unknown escape" },
		{ "\"\\u\"", "hex" },
		{ "\"\\u00e\"", "hex" },
		{ "\"\\u00eg\"", "hex" },
		{ "\"\\u+0e9\"", "hex" },
		{ "\"\\u00", "hex" },
		{ "\"a\tb\"", "control" },
		{ "\"a\nb\"", "control" },
		{ "\"\x1f\"", "control" },
		{ "{\"a\tb\":1}", "control" },
		{ "\"\\u0000\"", "U+0000" },
		{ "{\"\\u0000\":1}", "U+0000" },
		{ "\"\\ud800\"", "surrogate" },
		{ "\"\\udbff\"", "surrogate" },
		{ "\"\\udc00\"", "surrogate" },
		{ "\"\\udfff\"", "surrogate" },
		{ "\"\\udc00\\ud800\"", "surrogate" },
		{ "\"\\ud800\\ud800\"", "surrogate" },
		{ "\"\\ud800\\u0041\"", "surrogate" },
		{ "\"\\ud800x\"", "surrogate" },
		{ "\"\\ud800\\n\"", "surrogate" },
		{ "\"\\ud800", "surrogate" },
		/* UTF-8, whose traps test_text has one by one */
		{ "\"\x80\"", "UTF-8" },
		{ "\"\xc0\xaf\"", "UTF-8" },
		{ "\"\xc3\"", "UTF-8" },
		{ "\"\xe2\x82\"", "UTF-8" },
		{ "\"\xed\xa0\x80\"", "UTF-8" },
		{ "\"\xf4\x90\x80\x80\"", "UTF-8" },
		{ "\"\xff\"", "UTF-8" },
		{ "{\"\xff\":1}", "UTF-8" },
		{ "\"\xf0\x9f\x8d", "UTF-8" },
		{ "\xc3\xa9", "neither" },
		/* twice the same name */
		{ "{\"a\":1,\"a\":2}", "same name" },
		{ "{\"a\":1,\"b\":2,\"a\":1}", "same name" },
		{ "{\"a\":1,\"\\u0061\":2}", "same name" },
		{ "{\"\":1,\"\":2}", "same name" },
		{ "[[{\"x\":{\"a\":null,\"a\":null}}]]", "same name" },
		{ "{\"a\":{\"b\":1},\"a\":{\"b\":1}}", "same name" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = cases[i].text, *why = "";
		struct json_object *root;

		if (parse(text, strlen(text), &root, &why) != ERR_MALFORMED)
			fail_msg("taken: %s", text);
		if (strstr(why, cases[i].why) == NULL)
			fail_msg("%s: %s", text, why);
	}
}

static void
test_json__nul_is_no_white_space(void **state)
{
	struct json_object *root;
	const char *why;

	(void)state;
	assert_int_equal(parse("{}\0", 3, &root, &why), ERR_MALFORMED);
	assert_int_equal(parse("\0{}", 3, &root, &why), ERR_MALFORMED);
	assert_int_equal(parse("\"a\0b\"", 5, &root, &why), ERR_MALFORMED);
	assert_int_equal(parse("[1,\0]", 5, &root, &why), ERR_MALFORMED);
	assert_int_equal(parse("\"\\\0\"", 4, &root, &why), ERR_MALFORMED);
}

/* A text of n times the one, the middle, and n times the other. */
static const char *
around(const char *left, size_t n, const char *middle, const char *right)
{
	struct buf b;

	buf_init(&b, &arena);
	for (size_t i = 0; i < n; i++)
		buf_adds(&b, left);
	buf_adds(&b, middle);
	for (size_t i = 0; i < n; i++)
		buf_adds(&b, right);
	return b.data;
}

static void
test_json__one_member_is_found_without_a_tree(void **state)
{
	static const struct {
		const char *text;
		int64_t want;
	} cases[] = {
		{ "{\"id\":7}", 7 },
		{ "{\"id\":-7}", -7 },
		{ "{\"id\":0,\"a\":1}", 0 },
		{ " { \"a\" : [ { \"id\" : 1 } ] , \"id\" : 9007199254740991 } ",
		    INT_MAX_EXACT },
		{ "{\"a\":{\"id\":1},\"b\":\"id\"}", INT_NONE },
		{ "[{\"id\":1}]", INT_NONE },
		{ "{\"ID\":1,\"i\":2,\"idx\":3,\"\":4}", INT_NONE },
		{ "{\"id\":1.0}", INT_NONE },
		{ "{\"id\":1e2}", INT_NONE },
		{ "{\"id\":\"1\"}", INT_NONE },
		{ "{\"id\":[1]}", INT_NONE },
		{ "{\"id\":null}", INT_NONE },
		{ "{}", INT_NONE },
		{ "7", INT_NONE },
	};
	static const char *const bad[] = { "", "{\"id\":1", "{\"id\":1}x",
		"{\"id\":01}", "{\"id\":1,\"id\":1}", "{\"id\":9007199254740992}",
		"{\"id\":1,\"a\":NaN}" };
	const char *why;
	int64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = cases[i].text;

		if (json_find_int(text, strlen(text), "id", &v, &why)
		    || v != cases[i].want)
			fail_msg("%s", text);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		why = NULL;
		assert_int_equal(json_find_int(bad[i], strlen(bad[i]), "id", &v,
				     &why),
		    ERR_MALFORMED);
		assert_non_null(why);
		assert_int_equal(v, INT_NONE);
	}
}

static void
test_json__limits(void **state)
{
	const struct {
		const char *text, *why; /* NULL: taken */
	} cases[] = {
		{ around("[", JSON_DEPTH_MAX, "", "]"), NULL },
		{ around("[", JSON_DEPTH_MAX, "1", "]"), NULL },
		{ around("[", JSON_DEPTH_MAX + 1, "", "]"), "too deep" },
		{ around("{\"a\":", JSON_DEPTH_MAX, "1", "}"), NULL },
		{ around("{\"a\":", JSON_DEPTH_MAX + 1, "1", "}"), "too deep" },
		{ around("[", 100000, "", ""), "too deep" },
		{ around("[{\"a\":", JSON_DEPTH_MAX / 2, "\"x\"", "}]"), NULL },
		/* the outermost array counts too */
		{ around("[", 1, around("{},", JSON_CONTAINERS_MAX - 2, "[]", ""),
		      "]"),
		    NULL },
		{ around("[", 1, around("{},", JSON_CONTAINERS_MAX - 1, "[]", ""),
		      "]"),
		    "too many objects" },
		{ around("[", 1, around("1,", JSON_VALUES_MAX - 2, "2", ""), "]"),
		    NULL },
		{ around("[", 1, around("1,", JSON_VALUES_MAX - 1, "2", ""), "]"),
		    "too many values" },
	};
	struct json_object *root;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *why = NULL;
		enum err err = parse(
		    cases[i].text, strlen(cases[i].text), &root, &why);

		assert_int_equal(err, cases[i].why ? ERR_MALFORMED : OK);
		if (cases[i].why != NULL)
			assert_non_null(strstr(why, cases[i].why));
	}
}

/* For want of it json-c leaves something out, without a word. */
static void
test_json__nothing_is_missing_for_want_of_memory(void **state)
{
	const char *texts[] = {
		around("[", 1, around("null,", 100, "null", ""), "]"),
		around("\"", 1, around("\\u00e9", 100000, "x", ""), "\""),
	};
	struct json_object *root;
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		size_t len = strlen(texts[i]);
		enum err err;

		failures = INT_MAX;
		err = parse(texts[i], len, &root, &why);
		assert_int_not_equal(failures, INT_MAX);
		failures = 1;
		assert_int_not_equal(err, OK);
		assert_int_equal(parse(texts[i], len, &root, &why), OK);
		assert_int_equal(failures, 0);
	}
}

static void
test_json__a_refusal_leaves_no_trace(void **state)
{
	struct json_object *root;
	const char *why;

	(void)state;
	assert_int_equal(parse("[{\"a\":1,\"a\":2}]", 16, &root, &why),
	    ERR_MALFORMED);
	assert_int_equal(parse("[1", 2, &root, &why), ERR_MALFORMED);
	assert_int_equal(parse("[2]", 3, &root, &why), OK);
	assert_int_equal(json_object_array_length(root), 1);
}

static const char *
merged(const char *target, const char *patch)
{
	struct json_object *into, *by;
	const char *why;

	assert_int_equal(parse(target, strlen(target), &into, &why), OK);
	assert_int_equal(parse(patch, strlen(patch), &by, &why), OK);
	json_merge(into, by);
	return json_tree_text(into);
}

/* Those of RFC 7396 appendix A that patch an object with one, and more. */
static void
test_json__merges_as_rfc_7396_says(void **state)
{
	static const struct {
		const char *target, *patch, *want;
	} cases[] = {
		{ "{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}" },
		{ "{\"a\":\"b\"}", "{\"b\":\"c\"}",
		    "{\"a\":\"b\",\"b\":\"c\"}" },
		{ "{\"a\":\"b\"}", "{\"a\":null}", "{}" },
		{ "{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}",
		    "{\"b\":\"c\"}" },
		{ "{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}" },
		{ "{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}" },
		{ "{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		    "{\"a\":{\"b\":\"d\"}}" },
		{ "{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}" },
		{ "{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}" },
		{ "{}", "{\"a\":{\"bb\":{\"ccc\":null}}}",
		    "{\"a\":{\"bb\":{}}}" },
		{ "{\"a\":1}", "{\"a\":{\"b\":null,\"c\":2}}",
		    "{\"a\":{\"c\":2}}" },
		{ "{\"a\":{\"b\":1}}", "{\"a\":{}}", "{\"a\":{\"b\":1}}" },
		{ "{\"a\":{\"b\":1}}", "{\"a\":7}", "{\"a\":7}" },
		{ "{}", "{\"a\":[{\"b\":null}]}", "{\"a\":[{\"b\":null}]}" },
		{ "{\"a\":1.50}", "{\"\\u00e9\\n\":2e3}",
		    "{\"a\":1.50,\"\xc3\xa9\\n\":2e3}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(
		    merged(cases[i].target, cases[i].patch), cases[i].want);
}

static void
test_json__a_part_has_limits_of_its_own(void **state)
{
	static const struct json_limits few
	    = { .depth = 2, .values = 4, .containers = 3 };
	static const struct {
		const char *text;
		bool within;
	} cases[] = {
		{ "7", true },
		{ "[[]]", true },
		{ "[[[]]]", false },
		{ "[[],{}]", true },
		{ "[[],{},[]]", false },
		{ "{\"a\":1,\"b\":2,\"c\":3}", true },
		{ "{\"a\":1,\"b\":2,\"c\":3,\"d\":4}", false },
		{ "[", false },
		{ "1 2", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (json_within(cases[i].text, strlen(cases[i].text), &few)
		    != cases[i].within)
			fail_msg("%s", cases[i].text);
}

static void *
parse_something(void *unused)
{
	struct json_object *root;
	struct arena own;
	const char *why;
	enum err err;

	(void)unused;
	arena_init(&own);
	err = json_parse(&own, "[1,{}]", 6, &root, &why);
	arena_release(&own);
	return err == OK ? &arena : NULL;
}

/* The address sanitizer would say what it leaves. */
static void
test_json__a_thread_that_ends_leaves_nothing(void **state)
{
	pthread_t thread;
	void *good;

	(void)state;
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, parse_something, NULL);
		pthread_join(thread, &good);
		assert_non_null(good);
	}
}

/* However far it is into the words of eight bytes that are looked at. */
static void
test_json__a_bad_byte_is_found_at_each_place(void **state)
{
	static const struct {
		char byte;
		const char *why;
	} cases[] = {
		{ '\x80', "UTF-8" },
		{ '\xff', "UTF-8" },
		{ '\x1f', "control" },
		{ '\n', "control" },
		{ '"', "follows" },
	};
	char text[] = "\"aaaaaaaaaaaaaaaaaaaaaaaa\"";
	struct json_object *root;
	const char *why;

	(void)state;
	for (char *p = text + 1; *p != '"'; p++)
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			*p = cases[i].byte;
			assert_int_equal(parse(text, strlen(text), &root, &why),
			    ERR_MALFORMED);
			assert_non_null(strstr(why, cases[i].why));
			*p = 'a';
		}
}

static void
test_json__writer_escapes_what_it_must(void **state)
{
	char all[128], one[] = "\xc3\xa9 aaaaaaaaaaaaaa";
	struct json_object *root;
	const char *why;
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	json_text(&b, NULL, "a\"b\\c/d\ne\tf\x01\x1f\x7f\xc3\xa9");
	assert_string_equal(b.data,
	    "\"a\\\"b\\\\c/d\\ne\\u0009f\\u0001\\u001f\x7f\xc3\xa9\"");
	/* every character but NUL, together and at each place, read by json-c */
	for (int i = 1; i < 128; i++) {
		all[i - 1] = (char)i;
		for (char *p = one + 3; *p != '\0'; p++) {
			*p = (char)i;
			buf_clear(&b);
			json_text(&b, NULL, one);
			assert_int_equal(parse(b.data, b.len, &root, &why), OK);
			assert_string_equal(json_object_get_string(root), one);
			*p = 'a';
		}
	}
	all[127] = '\0';
	buf_clear(&b);
	json_text(&b, NULL, all);
	assert_int_equal(parse(b.data, b.len, &root, &why), OK);
	assert_string_equal(json_object_get_string(root), all);
}

static void
test_json__writer_puts_commas_and_nulls(void **state)
{
	struct json_object *root;
	const char *why;
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	json_open(&b, NULL, '{');
	json_open(&b, "empty", '[');
	json_close(&b, ']');
	json_open(&b, "list", '[');
	json_text(&b, NULL, "[");
	json_text(&b, NULL, "{");
	json_int(&b, NULL, -3);
	json_open(&b, NULL, '{');
	json_close(&b, '}');
	json_boolean(&b, NULL, true);
	json_close(&b, ']');
	json_int(&b, "n", INT_MAX_EXACT);
	json_int(&b, "none", INT_NONE);
	json_text(&b, "no", NULL);
	json_textn(&b, "cut", "abc", 2);
	json_boolean(&b, "b", false);
	json_time(&b, "at", 1800000000000);
	json_time(&b, "never", INT_NONE);
	json_raw(&b, "raw", "{\"x\":1}");
	json_raw(&b, "raw2", NULL);
	json_null(&b, "null");
	json_close(&b, '}');
	assert_string_equal(b.data,
	    "{\"empty\":[],\"list\":[\"[\",\"{\",-3,{},true],"
	    "\"n\":9007199254740991,\"none\":null,\"no\":null,\"cut\":\"ab\","
	    "\"b\":false,\"at\":\"2027-01-15T08:00:00.000Z\",\"never\":null,"
	    "\"raw\":{\"x\":1},\"raw2\":null,\"null\":null}");
	assert_int_equal(parse(b.data, b.len, &root, &why), OK);
}

static void
test_json__lines_need_no_comma(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, &arena);
	for (int i = 1; i <= 2; i++) {
		json_open(&b, NULL, '{');
		json_int(&b, "n", i);
		json_close(&b, '}');
		buf_addc(&b, '\n');
	}
	assert_string_equal(b.data, "{\"n\":1}\n{\"n\":2}\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json__good_texts_come_back_as_they_were),
		cmocka_unit_test(
		    test_json__what_rfc_8259_does_not_allow_is_refused),
		cmocka_unit_test(test_json__nul_is_no_white_space),
		cmocka_unit_test(test_json__one_member_is_found_without_a_tree),
		cmocka_unit_test(test_json__limits),
		cmocka_unit_test(
		    test_json__nothing_is_missing_for_want_of_memory),
		cmocka_unit_test(test_json__a_refusal_leaves_no_trace),
		cmocka_unit_test(test_json__merges_as_rfc_7396_says),
		cmocka_unit_test(test_json__a_part_has_limits_of_its_own),
		cmocka_unit_test(test_json__a_thread_that_ends_leaves_nothing),
		cmocka_unit_test(test_json__a_bad_byte_is_found_at_each_place),
		cmocka_unit_test(test_json__writer_escapes_what_it_must),
		cmocka_unit_test(test_json__writer_puts_commas_and_nulls),
		cmocka_unit_test(test_json__lines_need_no_comma),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
