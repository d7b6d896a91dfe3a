#include "shared/text.h"

#include "shared/err.h"

int
text_utf8(const unsigned char *p, const unsigned char *end)
{
	unsigned char lead = *p, low = 0x80, high = 0xbf;
	int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4 || end - p <= more)
		return 0;
	if (lead == 0xe0)
		low = 0xa0; /* shorter forms exist below */
	else if (lead == 0xed)
		high = 0x9f; /* surrogates above */
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	if (p[1] < low || p[1] > high)
		return 0;
	for (int i = 2; i <= more; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return more + 1;
}

int64_t
text_length(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + len;
	int64_t n = 0;
	int step;

	for (; p < end; p += step, n++)
		if ((step = text_utf8(p, end)) == 0)
			return -1;
	return n;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *
text_percent_decode(struct arena *a, const char *s, size_t len)
{
	char *out = arena_alloc(a, len + 1), *p = out;

	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (s[i] != '%') {
			*p++ = s[i] == '+' ? ' ' : s[i];
			continue;
		}
		if (len - i < 3 || (high = hex_digit(s[i + 1])) < 0
		    || (low = hex_digit(s[i + 2])) < 0 || high + low == 0)
			return NULL;
		*p++ = (char)(high * 16 + low);
		i += 2;
	}
	*p = '\0';
	return text_length(out, (size_t)(p - out)) < 0 ? NULL : out;
}

char *
text_percent_encode(struct arena *a, const char *s)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = arena_alloc(a, strlen(s) * 3 + 1), *p = out;

	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s, letter = c | 32;

		if ((letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9')
		    || strchr("-._~", c) != NULL) {
			*p++ = *s;
		} else {
			*p++ = '%';
			*p++ = hex[c >> 4];
			*p++ = hex[c & 15];
		}
	}
	*p = '\0';
	return out;
}

bool
text_to_int(const char *s, size_t len, int64_t *out)
{
	int64_t v = 0;

	if (len == 0 || len > 16 || (s[0] == '0' && len > 1))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (s[i] - '0');
	}
	*out = v;
	return v <= INT_MAX_EXACT;
}

const char *
text_from_int(int64_t v, char out[TEXT_INT_SIZE])
{
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	char *p = out + TEXT_INT_SIZE - 1;

	*p = '\0';
	do
		*--p = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	if (v < 0)
		*--p = '-';
	return p;
}

char *
text_lower(struct arena *a, const char *s)
{
	char *out = arena_strdup(a, s);

	for (char *p = out; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p |= 32;
	return out;
}
