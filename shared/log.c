#include "shared/log.h"

#include <stdbool.h>
#include <unistd.h>

#include "shared/clock.h"

#define LINE_MAX 1024
#define HELD_MAX 8192

static const char *const level_names[] = {
	[LOG_DEBUG] = "debug",
	[LOG_INFO] = "info",
	[LOG_AUDIT] = "audit",
	[LOG_WARN] = "warn",
	[LOG_ERROR] = "error",
};

static const char *log_service = "-", *log_instance = "-";
static enum log_level log_least = LOG_INFO;

static _Thread_local bool holding;
static _Thread_local struct {
	char text[HELD_MAX];
	size_t len;
} held;

struct line {
	char text[LINE_MAX + 1]; /* and a newline */
	size_t len;
};

void
log_init(const char *service, const char *instance, enum log_level least)
{
	log_service = service;
	log_instance = instance;
	log_least = least;
}

static void
put(struct line *l, const char *s, size_t n)
{
	if (n > LINE_MAX - l->len)
		n = LINE_MAX - l->len;
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void
put_value(struct line *l, const char *s)
{
	static const char hex[] = "0123456789abcdef";

	if (*s != '\0' && s[strcspn(s, " =\"\\")] == '\0') {
		const char *p = s;

		while ((unsigned char)*p > ' ' && *p != 0x7f)
			p++;
		if (*p == '\0') {
			put(l, s, (size_t)(p - s));
			return;
		}
	}
	put(l, "\"", 1);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			put(l, "\\", 1);
		if (c < ' ' || c == 0x7f)
			put(l, (char[]) { '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
		else
			put(l, s, 1);
	}
	put(l, "\"", 1);
}

static void
put_pair(struct line *l, const char *key, const char *value)
{
	put(l, l->len > 0 ? " " : "", l->len > 0);
	put(l, key, strlen(key));
	put(l, "=", 1);
	put_value(l, value);
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

void
log_write(enum log_level level, const char *event, const struct log_pair *p)
{
	struct line l = { .len = 0 };
	char text[CLOCK_TEXT_SIZE];

	if (level < log_least)
		return;
	clock_text(clock_ms(), text);
	put_pair(&l, "at", text);
	put_pair(&l, "level", level_names[level]);
	put_pair(&l, "service", log_service);
	put_pair(&l, "instance", log_instance);
	put_pair(&l, "event", event);
	for (; p->key != NULL; p++) {
		char digits[24];

		snprintf(digits, sizeof(digits), "%lld", (long long)p->number);
		put_pair(&l, p->key, p->text != NULL ? p->text : digits);
	}
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
