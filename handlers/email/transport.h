/*
 * How mails leave: one small interface, and the kinds that COSTER_MAIL_URL
 * chooses from. A transport belongs to one thread.
 */
#ifndef COSTER_TRANSPORT_H
#define COSTER_TRANSPORT_H

#include "handlers/email/email.h"

enum verdict {
	VERDICT_ACCEPTED,    /* it is not ours any more */
	VERDICT_LATER,	     /* refused for now */
	VERDICT_NEVER,	     /* refused for good */
	VERDICT_UNREACHABLE, /* nobody looked at it; others would fare alike */
};

struct envelope {
	const char *from, *to; /* addresses that mime_address() likes */
	const char *bytes;     /* of the message, with its header */
	size_t len;
};

/* What a kind of transport does; self is its own. */
struct transport_kind {
	/* ERR_INVALID for a bad setting, ERR_NOT_FOUND for a file that is not
	 * there; the log says more. */
	enum err (*open)(void **self, const struct email_settings *s);
	/* Unless accepted, *answer says why, in printable ASCII; arena. */
	enum verdict (*send)(void *self, struct arena *a,
	    const struct envelope *mail, const char **answer);
	/* There is nothing to send now. Called every few seconds. */
	void (*idle)(void *self);
	void (*close)(void *self);
};

extern const struct transport_kind transport_smtp, transport_maildir;

struct transport {
	const struct transport_kind *kind; /* NULL when closed */
	void *self;
};

/* Errors as the kind's. */
MUST_USE enum err transport_open(
    struct transport *t, const struct email_settings *s);
void transport_close(struct transport *t);

#endif
