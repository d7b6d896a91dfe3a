/*
 * The log: one line an event on standard error, in logfmt, which journald
 * takes from there; it gets audit events as fields too (COSTER_EVENT,
 * COSTER_USER, …). Values are quoted where they need it, so a line can be
 * neither broken nor forged by what it reports. No password, token or mail
 * body is ever given to it.
 *
 *     LOG(LOG_WARN, "delivery failed", LOG_INT("message", id),
 *         LOG_TEXT("reason", why));
 */
#ifndef COSTER_LOG_H
#define COSTER_LOG_H

#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_AUDIT, LOG_WARN, LOG_ERROR };

struct log_pair {
	const char *key;  /* NULL ends the list */
	const char *text; /* NULL when the value is the number */
	int64_t number;
};

#define LOG_TEXT(k, v) { .key = (k), .text = (v) }
#define LOG_INT(k, v) { .key = (k), .number = (v) }

/* The first, empty pair is for an event without any. */
#define LOG(level, event, ...)                                                 \
	log_write((level), (event),                                            \
	    (const struct log_pair[]) { { 0 }, ##__VA_ARGS__, { 0 } } + 1)

/* Written into every line from now on; borrows both strings. */
void log_init(const char *service, const char *instance, enum log_level least);

void log_write(enum log_level level, const char *event,
    const struct log_pair *pairs);

/* From the first call on, lines of this thread are gathered and go out
 * together at log_flush(), when they fill a page, or with a warning. */
void log_hold(void);
void log_flush(void);

#endif
