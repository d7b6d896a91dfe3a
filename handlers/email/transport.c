#include "handlers/email/transport.h"

static const struct {
	const char *prefix;
	const struct transport_kind *kind;
} kinds[] = {
	{ "smtp://", &transport_smtp },
	{ "smtps://", &transport_smtp },
	{ "maildir:", &transport_maildir },
};

enum err
transport_open(struct transport *t, const struct email_settings *s)
{
	enum err err;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *prefix = kinds[i].prefix;

		if (strncmp(s->url, prefix, strlen(prefix)) != 0)
			continue;
		if ((err = kinds[i].kind->open(&t->self, s)) == OK)
			t->kind = kinds[i].kind;
		return err;
	}
	return bad_setting(
	    "COSTER_MAIL_URL", "expected smtp://, smtps:// or maildir:");
}

void
transport_close(struct transport *t)
{
	if (t->kind != NULL)
		t->kind->close(t->self);
	*t = (struct transport) { 0 };
}
