#include "handlers/email/mime.h"

#include "tests/loopback.h"

static const struct mime plain = { .key = "K3y_-",
	.date = NOW,
	.from = "shop@shop.example",
	.from_name = "",
	.to = "ann@shop.example",
	.subject = "Hello",
	.text = "Hi\n" };

static const char *
mail(struct arena *a, const struct mime *m)
{
	struct buf b;

	buf_init(&b, a);
	mime_write(&b, m);
	return b.data;
}

static void
test_mime__plain_text_is_one_part(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a);
	assert_string_equal(mail(&a, &plain),
	    "From: shop@shop.example\r\n"
	    "To: ann@shop.example\r\n"
	    "Subject: Hello\r\n"
	    "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
	    "Message-ID: <K3y_-@shop.example>\r\n"
	    "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=UTF-8\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "\r\n"
	    "SGkNCg==\r\n");
	arena_release(&a);
}

static void
test_mime__html_is_an_alternative(void **state)
{
	struct mime m = plain;
	struct arena a;

	(void)state;
	arena_init(&a);
	m.html = "<p>Hi</p>";
	assert_string_equal(strstr(mail(&a, &m), "MIME-Version"),
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/alternative;\r\n"
	    " boundary=\"=_K3y_-\"\r\n"
	    "\r\n"
	    "--=_K3y_-\r\n"
	    "Content-Type: text/plain; charset=UTF-8\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "\r\n"
	    "SGkNCg==\r\n"
	    "--=_K3y_-\r\n"
	    "Content-Type: text/html; charset=UTF-8\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "\r\n"
	    "PHA+SGk8L3A+\r\n"
	    "--=_K3y_---\r\n");
	arena_release(&a);
}

#define A10 "aaaaaaaaaa"
#define A60 A10 A10 A10 A10 A10 A10

static void
test_mime__subjects(void **state)
{
	static const struct {
		const char *subject, *field;
	} cases[] = {
		{ "", "Subject: " },
		{ "a b", "Subject: a b" },
		{ "Gr\xc3\xbc\xc3\x9f""e", "Subject: =?UTF-8?B?R3LDvMOfZQ==?=" },
		/* What would not come back as it was. */
		{ " a", "Subject: =?UTF-8?B?IGE=?=" },
		{ "a ", "Subject: =?UTF-8?B?YSA=?=" },
		{ "=?x", "Subject: =?UTF-8?B?PT94?=" },
		/* What the fields refuse could not break out either. */
		{ "a\r\nBcc: b", "Subject: =?UTF-8?B?YQ0KQmNjOiBi?=" },
		{ "a\x7f", "Subject: =?UTF-8?B?YX8=?=" },
		{ "\xff", "Subject: =?UTF-8?B?/w==?=" },
		/* 77 columns, and one more. */
		{ A60 "bbbbbbbb", "Subject: " A60 "bbbbbbbb" },
		{ A60 "bbbbbbbbb",
		    "Subject: =?UTF-8?B?"
		    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh?=\r\n"
		    " =?UTF-8?B?YWFhYWFhYWFhYWFhYWFhYWFhYWFhYmJiYmJiYmJi?=" },
		/* A character of two bytes that the cut would split. */
		{ "aaaaaaaa" A10 A10 A10 "\xc3\xa9",
		    "Subject: =?UTF-8?B?"
		    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=?=\r\n"
		    " =?UTF-8?B?w6k=?=" },
	};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mime m = plain;
		const char *field;

		m.subject = cases[i].subject;
		field = strstr(mail(&a, &m), "Subject: ");
		assert_string_equal(
		    arena_strndup(&a, field,
			(size_t)(strstr(field, "\r\nDate: ") - field)),
		    cases[i].field);
	}
	arena_release(&a);
}

static void
test_mime__sender_names(void **state)
{
	static const struct {
		const char *name, *field;
	} cases[] = {
		{ "The Shop", "From: \"The Shop\" <shop@shop.example>\r\nTo:" },
		{ "a, b", "From: \"a, b\" <shop@shop.example>\r\nTo:" },
		{ "\"\\", "From: =?UTF-8?B?Ilw=?=\r\n <shop@shop.example>\r\nTo:" },
		{ "Caf\xc3\xa9",
		    "From: =?UTF-8?B?Q2Fmw6k=?=\r\n <shop@shop.example>\r\nTo:" },
		{ A60, "From: \"" A60 "\"\r\n <shop@shop.example>\r\nTo:" },
	};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mime m = plain;
		const char *text;

		m.from_name = cases[i].name;
		text = mail(&a, &m);
		assert_ptr_equal(strstr(text, cases[i].field), text);
	}
	arena_release(&a);
}

static void
test_mime__lines_end_in_crlf_before_they_are_encoded(void **state)
{
	static const char *const texts[] = { "a\nb", "a\r\nb", "a\rb" };
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct mime m = plain;

		m.text = texts[i];
		assert_string_equal(
		    strstr(mail(&a, &m), "\r\n\r\n"), "\r\n\r\nYQ0KYg==\r\n");
	}
	arena_release(&a);
}

static void
test_mime__bodies_have_76_columns(void **state)
{
	struct mime m = plain;
	struct arena a;

	(void)state;
	arena_init(&a);
	m.text = A60; /* 57 bytes a line, then 3 */
	assert_string_equal(strstr(mail(&a, &m), "\r\n\r\n"),
	    "\r\n\r\n"
	    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
	    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh\r\n"
	    "YWFh\r\n");
	arena_release(&a);
}

static void
test_mime__addresses(void **state)
{
	static const struct {
		const char *address;
		bool good;
	} cases[] = {
		{ "a@b", true },
		{ "ann.o'x+shop=1@mail.shop-1.example", true },
		{ "", false },
		{ "@b", false },
		{ "a@", false },
		{ "ab", false },
		{ "a@b@c", false },
		{ ".a@b", false },
		{ "a.@b", false },
		{ "a..b@c", false },
		{ "a b@c", false },
		{ "a<b@c", false },
		{ "a@b\r\nc", false },
		{ "a@b_c", false },
		{ "\xc3\xa9@b", false },
		{ "a@\xc3\xa9", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(
		    mime_address(cases[i].address), cases[i].good);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mime__plain_text_is_one_part),
		cmocka_unit_test(test_mime__html_is_an_alternative),
		cmocka_unit_test(test_mime__subjects),
		cmocka_unit_test(test_mime__sender_names),
		cmocka_unit_test(
		    test_mime__lines_end_in_crlf_before_they_are_encoded),
		cmocka_unit_test(test_mime__bodies_have_76_columns),
		cmocka_unit_test(test_mime__addresses),
	};

	if (token_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
