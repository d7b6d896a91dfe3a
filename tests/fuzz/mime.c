/* Mails. An input is an address, a sender's name, a subject, a text, and
 * perhaps a text in HTML, each up to a byte 1. Whatever they hold, the header
 * has the fields that it is to have, and the texts come back. */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>

#include "handlers/email/mime.h"

#define LINE_MAX_BYTES 998 /* RFC 5322 section 2.1.1 */

void
fuzz_start(void)
{
	assert(sodium_init() >= 0);
}

static char *
part(char **text)
{
	char *from = *text, *end = strchr(from, '\1');

	*text = end != NULL ? end + 1 : from + strlen(from);
	if (end != NULL)
		*end = '\0';
	return from;
}

/* ASCII in lines that end in CRLF, whole. */
static void
check_lines(const struct buf *b)
{
	size_t column = 0;

	assert(strlen(b->data) == b->len);
	for (size_t i = 0; i < b->len; i++) {
		unsigned char c = (unsigned char)b->data[i];

		if (c == '\r') {
			assert(b->data[i + 1] == '\n');
			column = 0;
			i++;
			continue;
		}
		assert(c >= ' ' && c <= '~');
		column++;
		assert(column <= LINE_MAX_BYTES);
	}
	assert(column == 0);
}

static const char *
check_field(const char *p, const char *name)
{
	assert(strncmp(p, name, strlen(name)) == 0);
	do
		p = strstr(p, "\r\n") + 2;
	while (*p == ' ');
	return p;
}

/* The text that the base64 at p stands for, up to an empty line's or a
 * boundary's start; the same but for the ends of its lines. */
static const char *
check_text(const char *p, const char *text)
{
	size_t size = strlen(p) + 1, len;
	char *out = arena_alloc(FUZZ_ARENA, size), *to = out;
	const char *end;

	assert(sodium_base642bin((unsigned char *)out, size, p, strlen(p), "\r\n",
		   &len, &end, sodium_base64_VARIANT_ORIGINAL)
	    == 0 || *end == '-' || *end == '=');
	out[len] = '\0';
	for (; *to != '\0'; text++) {
		if (*text != '\r' && *text != '\n') {
			assert(*to == *text);
			to++;
			continue;
		}
		assert(strncmp(to, "\r\n", 2) == 0);
		to += 2;
		text += strncmp(text, "\r\n", 2) == 0;
	}
	assert(*text == '\0');
	return end;
}

void
fuzz_one(char *text, size_t len)
{
	static const char *const names[]
	    = { "From: ", "To: ", "Subject: ", "Date: ", "Message-ID: ",
		      "Auto-Submitted: ", "MIME-Version: ", "Content-Type: " };
	struct mime m = { .key = "key", .date = 1, .from = "shop@shop.example" };
	const char *p;
	struct buf b;

	(void)len;
	m.to = part(&text);
	m.from_name = part(&text);
	m.subject = part(&text);
	m.text = part(&text);
	m.html = *text != '\0' ? part(&text) : NULL;
	if (!mime_address(m.to))
		return;
	buf_init(&b, FUZZ_ARENA);
	mime_write(&b, &m);
	check_lines(&b);
	p = b.data;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		p = check_field(p, names[i]);
	p = strstr(b.data, "base64\r\n\r\n");
	assert(p != NULL);
	p = check_text(p + strlen("base64\r\n\r\n"), m.text);
	if (m.html == NULL)
		return;
	p = strstr(p, "base64\r\n\r\n");
	assert(p != NULL);
	check_text(p + strlen("base64\r\n\r\n"), m.html);
}
