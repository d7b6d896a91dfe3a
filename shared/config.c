#include "shared/config.h"

#include <errno.h>
#include <inttypes.h>

static bool
is_url(const char *text)
{
	size_t scheme = strncmp(text, "https://", 8) == 0 ? 8
	    : strncmp(text, "http://", 7) == 0		  ? 7
							  : 0;

	return scheme > 0 && strchr("/?#:", text[scheme]) == NULL
	    && strpbrk(text, " \t\r\n\v\f") == NULL;
}

static enum err
load_text(const struct setting *s, const char *text, char *why, size_t size)
{
	if (!s->url || *text == '\0' || is_url(text))
		return OK;
	snprintf(why, size,
	    "%s=%.60s: expected a URL such as https://shop.example", s->name,
	    text);
	return ERR_INVALID;
}

static enum err
load_one(const struct setting *s, void *into, char *why, size_t size)
{
	const char *text = getenv(s->name);
	void *member = (char *)into + s->offset;
	int64_t value;
	char *end;

	if (text == NULL || *text == '\0')
		text = s->fallback;
	if (s->type == SETTING_TEXT) {
		*(const char **)member = text;
		return load_text(s, text, why, size);
	}
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < s->min
	    || value > s->max) {
		snprintf(why, size,
		    "%s=%.40s: expected a whole number from %" PRId64
		    " to %" PRId64,
		    s->name, text, s->min, s->max);
		return ERR_INVALID;
	}
	*(int64_t *)member = value;
	return OK;
}

enum err
config_load(const struct settings *s, char *why, size_t size)
{
	enum err err;

	for (size_t i = 0; i < s->count; i++)
		if ((err = load_one(&s->table[i], s->into, why, size)))
			return err;
	return OK;
}

void
config_help(const struct settings *s, FILE *out)
{
	for (size_t i = 0; i < s->count; i++)
		fprintf(out, "  %-28s %s [%s]\n", s->table[i].name,
		    s->table[i].help, s->table[i].fallback);
}
