#include "shared/log.h"

#include <stdbool.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/journal.h"
#include "shared/text.h"

#define LINE_MAX 2048
#define VALUE_MAX 500 /* bytes */
#define HELD_MAX 8192
#define JOURNAL_FIELDS_MAX 16
#define JOURNAL_FIELD_SIZE 256

static const char *const level_names[] = {
	[LOG_DEBUG] = "debug",
	[LOG_INFO] = "info",
	[LOG_AUDIT] = "audit",
	[LOG_WARN] = "warn",
	[LOG_ERROR] = "error",
};

static const char *log_service = "-";
static enum log_level log_least = LOG_INFO;
static bool log_to_journal;

static _Thread_local bool holding;
static _Thread_local struct {
	char text[HELD_MAX];
	size_t len;
} held;

struct line {
	char text[LINE_MAX + 1]; /* and a newline */
	size_t len;
};

/* What all lines have alike. */
static struct line origin = { "service=- instance=-", 20 };

static void
put(struct line *l, const char *s, size_t n)
{
	if (n > LINE_MAX - l->len)
		n = LINE_MAX - l->len;
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

/* Of a long value the beginning, to the end of a character. */
static size_t
value_length(const char *s)
{
	size_t n = strnlen(s, VALUE_MAX);

	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static bool
is_plain(const char *s, size_t n)
{
	static const bool special[256] = { [0 ... ' '] = true, [0x7f] = true,
		['='] = true, ['"'] = true, ['\\'] = true };

	for (size_t i = 0; i < n; i++)
		if (special[(unsigned char)s[i]])
			return false;
	return n > 0;
}

static void
put_value(struct line *l, const char *s)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = value_length(s);

	if (is_plain(s, n)) {
		put(l, s, n);
		return;
	}
	put(l, "\"", 1);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\')
			put(l, "\\", 1);
		if (c < ' ' || c == 0x7f)
			put(l, (char[]) { '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
		else
			put(l, s + i, 1);
	}
	put(l, "\"", 1);
}

/* What does not fit is left out: half a pair would spoil the line. */
static void
put_pair(struct line *l, const char *key, const char *value)
{
	size_t start = l->len;

	put(l, " ", l->len > 0);
	put(l, key, strlen(key));
	put(l, "=", 1);
	put_value(l, value);
	if (l->len == LINE_MAX)
		l->len = start;
}

void
log_init(const char *service, const char *instance, enum log_level least)
{
	log_service = service;
	log_least = least;
	log_to_journal = journal_reads_stderr();
	origin.len = 0;
	put_pair(&origin, "service", service);
	put_pair(&origin, "instance", instance);
}

static void
write_all(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(STDERR_FILENO, p, n);

		if (w <= 0)
			return; /* nobody left to tell */
		p += w;
		n -= (size_t)w;
	}
}

/* Where the journal takes our standard error, an audit event goes there as
 * fields that journalctl can match: COSTER_EVENT, COSTER_USER and so on. */
static bool
send_to_journal(const char *event, const struct log_pair *p,
    const struct line *whole)
{
	char text[JOURNAL_FIELDS_MAX][JOURNAL_FIELD_SIZE];
	struct iovec fields[JOURNAL_FIELDS_MAX + 1];
	char message[LINE_MAX + 16];
	int n = 0;

	snprintf(text[n++], JOURNAL_FIELD_SIZE, "PRIORITY=5"); /* notice */
	snprintf(text[n++], JOURNAL_FIELD_SIZE, "SYSLOG_IDENTIFIER=coster-%s",
	    log_service);
	snprintf(text[n++], JOURNAL_FIELD_SIZE, "COSTER_EVENT=%s", event);
	for (; p->key != NULL && n < JOURNAL_FIELDS_MAX; p++, n++) {
		if (p->text != NULL)
			snprintf(text[n], JOURNAL_FIELD_SIZE, "COSTER_%s=%s",
			    p->key, p->text);
		else
			snprintf(text[n], JOURNAL_FIELD_SIZE, "COSTER_%s=%lld",
			    p->key, (long long)p->number);
		for (char *c = text[n]; *c != '='; c++)
			if (*c >= 'a' && *c <= 'z')
				*c -= 'a' - 'A';
	}
	for (int i = 0; i < n; i++)
		fields[i] = (struct iovec) { text[i], strlen(text[i]) };
	snprintf(message, sizeof(message), "MESSAGE=%.*s", (int)whole->len,
	    whole->text);
	fields[n++] = (struct iovec) { message, strlen(message) };
	return journal_send(fields, n);
}

void
log_write(enum log_level level, const char *event, const struct log_pair *p)
{
	const struct log_pair *pairs = p;
	struct line l; /* not cleared: it is long */
	char text[CLOCK_TEXT_SIZE], digits[TEXT_INT_SIZE];

	if (level < log_least)
		return;
	clock_text(clock_ms(), text);
	l.len = 0;
	put(&l, "at=", 3);
	put(&l, text, CLOCK_TEXT_SIZE - 1);
	put_pair(&l, "level", level_names[level]);
	put(&l, " ", 1);
	put(&l, origin.text, origin.len);
	put_pair(&l, "event", event);
	for (; p->key != NULL; p++)
		put_pair(&l, p->key,
		    p->text != NULL ? p->text
				    : text_from_int(p->number, digits));
	if (level == LOG_AUDIT && log_to_journal
	    && send_to_journal(event, pairs, &l))
		return;
	l.text[l.len++] = '\n';
	if (held.len + l.len > sizeof(held.text))
		log_flush();
	memcpy(held.text + held.len, l.text, l.len);
	held.len += l.len;
	if (!holding || level >= LOG_WARN)
		log_flush();
}

void
log_hold(void)
{
	holding = true;
}

void
log_flush(void)
{
	if (held.len > 0)
		write_all(held.text, held.len);
	held.len = 0;
}
