#include "handlers/email/mime.h"

#include <sodium.h>

#include "shared/text.h"

#define LINE_BYTES 57 /* 76 columns of base64, RFC 2045 section 6.8 */
#define WORD_BYTES 39 /* behind "Subject: " 73 columns, RFC 2047 section 2 */
#define PLAIN_MAX 68  /* behind "Subject: " 77 columns */

static void
add_base64(struct buf *b, const char *p, size_t n)
{
	char text[sodium_base64_ENCODED_LEN(
	    LINE_BYTES, sodium_base64_VARIANT_ORIGINAL)];

	sodium_bin2base64(text, sizeof(text), (const unsigned char *)p, n,
	    sodium_base64_VARIANT_ORIGINAL);
	buf_adds(b, text);
}

/* Reads the same decoded and as it stands, and fits the line. */
static bool
is_plain(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++)
		if (s[i] < ' ' || s[i] > '~')
			return false;
	return len <= PLAIN_MAX && strstr(s, "=?") == NULL
	    && (len == 0 || (s[0] != ' ' && s[len - 1] != ' '));
}

/* As many bytes of s as a word takes without splitting a character. */
static size_t
word_length(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + len;
	size_t n = 0;

	while (n < len) {
		size_t step = (size_t)text_utf8(p + n, end);

		if (step == 0)
			step = 1;
		if (n + step > WORD_BYTES)
			break;
		n += step;
	}
	return n;
}

/* Encoded words, a line each; white space between them does not count. */
static void
add_words(struct buf *b, const char *s)
{
	size_t len = strlen(s), n;

	for (const char *p = s; len > 0; p += n, len -= n) {
		n = word_length(p, len);
		buf_adds(b, p == s ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
		add_base64(b, p, n);
		buf_adds(b, "?=");
	}
}

static void
put_from(struct buf *b, const struct mime *m)
{
	const char *name = m->from_name;
	bool quoted = is_plain(name) && strpbrk(name, "\"\\") == NULL;
	bool fits = quoted && strlen(name) + strlen(m->from) <= PLAIN_MAX;

	buf_adds(b, "From: ");
	if (*name == '\0') {
		buf_addf(b, "%s\r\n", m->from);
		return;
	}
	if (quoted)
		buf_addf(b, "\"%s\"", name);
	else
		add_words(b, name);
	buf_addf(b, "%s<%s>\r\n", fits ? " " : "\r\n ", m->from);
}

static void
put_subject(struct buf *b, const char *subject)
{
	buf_adds(b, "Subject: ");
	if (is_plain(subject))
		buf_adds(b, subject);
	else
		add_words(b, subject);
	buf_adds(b, "\r\n");
}

/* The names of days and months are English: no program here sets a locale. */
static void
put_date(struct buf *b, int64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	char text[40];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &tm);
	buf_addf(b, "Date: %s\r\n", text);
}

/* Lines of text end in CRLF before they are encoded: RFC 2045 section 6.8. */
static void
add_canonical(struct buf *b, const char *s)
{
	while (*s != '\0') {
		size_t n = strcspn(s, "\r\n");

		buf_add(b, s, n);
		s += n;
		if (*s == '\0')
			break;
		buf_adds(b, "\r\n");
		s += strncmp(s, "\r\n", 2) == 0 ? 2 : 1;
	}
}

static void
put_part(struct buf *b, const char *type, const char *body)
{
	struct buf lines;

	buf_init(&lines, b->arena);
	add_canonical(&lines, body);
	buf_addf(b,
	    "Content-Type: %s; charset=UTF-8\r\n"
	    "Content-Transfer-Encoding: base64\r\n\r\n",
	    type);
	for (size_t i = 0; i < lines.len; i += LINE_BYTES) {
		size_t left = lines.len - i;

		add_base64(
		    b, lines.data + i, left < LINE_BYTES ? left : LINE_BYTES);
		buf_adds(b, "\r\n");
	}
}

void
mime_write(struct buf *b, const struct mime *m)
{
	put_from(b, m);
	buf_addf(b, "To: %s\r\n", m->to);
	put_subject(b, m->subject);
	put_date(b, m->date);
	buf_addf(b, "Message-ID: <%s%s>\r\n", m->key, strchr(m->from, '@'));
	buf_adds(b, "Auto-Submitted: auto-generated\r\n" /* RFC 3834 */
		    "MIME-Version: 1.0\r\n");
	if (m->html == NULL) {
		put_part(b, "text/plain", m->text);
		return;
	}
	/* No line of base64 starts like this boundary. */
	buf_addf(b,
	    "Content-Type: multipart/alternative;\r\n"
	    " boundary=\"=_%s\"\r\n\r\n"
	    "--=_%s\r\n",
	    m->key, m->key);
	put_part(b, "text/plain", m->text);
	buf_addf(b, "--=_%s\r\n", m->key);
	put_part(b, "text/html", m->html);
	buf_addf(b, "--=_%s--\r\n", m->key);
}

bool
mime_address(const char *s)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789";
	static const char specials[] = "!#$%&'*+-/=?^_`{|}~.";
	const char *at = strchr(s, '@');

	if (at == NULL || at == s || at[1] == '\0')
		return false;
	for (const char *p = s; *p != '\0'; p++)
		if (p != at && strchr(letters, *p) == NULL
		    && strchr(p < at ? specials : "-.", *p) == NULL)
			return false;
	return *s != '.' && at[-1] != '.' && strstr(s, "..") == NULL;
}
