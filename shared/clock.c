#include "shared/clock.h"

#include <stdatomic.h>

#include "shared/err.h"

#define YEAR_0_MS INT64_C(-62167219200000)
#define YEAR_9999_END_MS INT64_C(253402300799999)

static _Atomic int64_t frozen;

int64_t
clock_ms(void)
{
	struct timespec ts;
	int64_t ms = frozen;

	if (ms != 0)
		return ms;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
clock_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void
clock_freeze(int64_t ms)
{
	frozen = ms;
}

static void
put_digits(char *out, int value, int width)
{
	for (int i = width - 1; i >= 0; i--, value /= 10)
		out[i] = (char)('0' + value % 10);
}

void
clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* Most times that a thread writes are of a day as one before. */
static const char *
date_text(int64_t day)
{
	struct date {
		int64_t day;
		char text[sizeof("0000-00-00")];
	};
	static _Thread_local struct date dates[8];
	struct date *d = &dates[(uint64_t)day % ARRAY_LEN(dates)];
	struct tm tm;

	if (d->day != day || d->text[0] == '\0') {
		gmtime_r(&(time_t) { day * (CLOCK_DAY / 1000) }, &tm);
		memcpy(d->text, "0000-00-00", sizeof(d->text));
		put_digits(d->text, tm.tm_year + 1900, 4);
		put_digits(d->text + 5, tm.tm_mon + 1, 2);
		put_digits(d->text + 8, tm.tm_mday, 2);
		d->day = day;
	}
	return d->text;
}

void
clock_text(int64_t ms, char out[CLOCK_TEXT_SIZE])
{
	int rest;

	if (ms < YEAR_0_MS)
		ms = YEAR_0_MS;
	if (ms > YEAR_9999_END_MS)
		ms = YEAR_9999_END_MS;
	/* From the year 0, so that nothing is negative. */
	rest = (int)((ms - YEAR_0_MS) % CLOCK_DAY);
	memcpy(out, date_text((ms - rest) / CLOCK_DAY), 10);
	memcpy(out + 10, "T00:00:00.000Z", CLOCK_TEXT_SIZE - 10);
	put_digits(out + 11, rest / CLOCK_HOUR, 2);
	put_digits(out + 14, rest / CLOCK_MINUTE % 60, 2);
	put_digits(out + 17, rest / 1000 % 60, 2);
	put_digits(out + 20, rest % 1000, 3);
}

/* Reads exactly width digits between min and max and moves *s behind them. */
static bool
take_digits(const char **s, int width, int min, int max, int *value)
{
	int v = 0;

	for (int i = 0; i < width; i++) {
		if ((*s)[i] < '0' || (*s)[i] > '9')
			return false;
		v = v * 10 + ((*s)[i] - '0');
	}
	*s += width;
	*value = v;
	return v >= min && v <= max;
}

static bool
take_char(const char **s, const char *any)
{
	if (**s == '\0' || strchr(any, **s) == NULL)
		return false;
	(*s)++;
	return true;
}

static bool
take_date(const char **s, struct tm *tm)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	int year, month, day;
	bool leap;

	if (!take_digits(s, 4, 0, 9999, &year) || !take_char(s, "-")
	    || !take_digits(s, 2, 1, 12, &month) || !take_char(s, "-")
	    || !take_digits(s, 2, 1, 31, &day))
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (day > days[month - 1] + (month == 2 && leap))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return true;
}

static bool
take_fraction(const char **s, int *milli)
{
	int scale = 100;

	if (**s != '.')
		return true;
	for ((*s)++; **s >= '0' && **s <= '9'; (*s)++, scale /= 10)
		*milli += (**s - '0') * scale;
	return scale != 100;
}

static bool
take_offset(const char **s, int *minutes)
{
	int hour, minute, sign = **s == '-' ? -1 : 1;

	if (take_char(s, "Zz"))
		return true;
	if (!take_char(s, "+-") || !take_digits(s, 2, 0, 23, &hour)
	    || !take_char(s, ":") || !take_digits(s, 2, 0, 59, &minute))
		return false;
	*minutes = sign * (hour * 60 + minute);
	return true;
}

bool
clock_parse(const char *s, int64_t *ms)
{
	struct tm tm = { 0 };
	int milli = 0, offset = 0;

	if (!take_date(&s, &tm))
		return false;
	if (*s != '\0'
	    && (!take_char(&s, "Tt ") || !take_digits(&s, 2, 0, 23, &tm.tm_hour)
		|| !take_char(&s, ":") || !take_digits(&s, 2, 0, 59, &tm.tm_min)
		|| !take_char(&s, ":") || !take_digits(&s, 2, 0, 60, &tm.tm_sec)
		|| !take_fraction(&s, &milli) || !take_offset(&s, &offset)
		|| *s != '\0'))
		return false;
	*ms = (int64_t)timegm(&tm) * 1000 + milli - offset * CLOCK_MINUTE;
	return true;
}
