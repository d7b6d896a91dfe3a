#include "shared/config.h"

#include <errno.h>
#include <inttypes.h>

/* What a URL of this form has to be and is not, or NULL. */
static const char *
url_fault(const char *url, enum setting_form form)
{
	const char *port = strncmp(url, "https://", 8) == 0 ? ":443"
	    : strncmp(url, "http://", 7) == 0		    ? ":80"
							    : NULL;
	const char *host = port != NULL ? strstr(url, "//") + 2 : url;
	size_t len = strcspn(host, "/?#");

	if (port == NULL || len == 0 || *host == ':'
	    || url[strcspn(url, " \t\r\n\v\f")] != '\0')
		return "expected a URL such as https://shop.example";
	if (form == SETTING_SITE && len > strlen(port)
	    && strncmp(host + len - strlen(port), port, strlen(port)) == 0)
		return "leave its port out, as browsers do";
	return NULL;
}

static enum err
load_text(const struct setting *s, const char *text, char *why, size_t size)
{
	const char *fault = s->form != SETTING_ANY && *text != '\0'
	    ? url_fault(text, s->form)
	    : NULL;

	if (fault == NULL)
		return OK;
	snprintf(why, size, "%s=%.60s: %s", s->name, text, fault);
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
