/*
 * Times. The wall clock counts milliseconds since 1970 in UTC, which is also
 * what the databases hold; clients see RFC 3339 section 5.6 with milliseconds.
 */
#ifndef COSTER_CLOCK_H
#define COSTER_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define CLOCK_SECOND INT64_C(1000)
#define CLOCK_MINUTE (60 * CLOCK_SECOND)
#define CLOCK_HOUR (60 * CLOCK_MINUTE)
#define CLOCK_DAY (24 * CLOCK_HOUR)

#define CLOCK_TEXT_SIZE 25 /* "2026-01-31T23:59:59.999Z" and a NUL */

int64_t clock_ms(void);

/* Microseconds from some fixed moment; only differences mean anything. */
int64_t clock_mono_us(void);

/* A condition whose timed waits go by that clock, CLOCK_MONOTONIC. */
void clock_cond_init(pthread_cond_t *cond);

/* Years 0 to 9999; others are clamped. */
void clock_text(int64_t ms, char out[CLOCK_TEXT_SIZE]);

/* RFC 3339 with any offset and fraction, or a bare date (midnight UTC).
 * False, and *ms untouched, for everything else. */
bool clock_parse(const char *text, int64_t *ms);

/* For tests: makes clock_ms() answer ms until it is called with 0. */
void clock_freeze(int64_t ms);

#endif
