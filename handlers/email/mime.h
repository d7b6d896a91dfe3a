/*
 * A mail as bytes: RFC 5322, MIME (RFC 2045 to 2047), lines that end in CRLF.
 *
 * Bodies are base64, and what is not plain ASCII in a header field becomes
 * encoded words, so that no text, whatever it holds, can break a line or forge
 * a field. The same mail gives the same bytes every time.
 */
#ifndef COSTER_MIME_H
#define COSTER_MIME_H

#include <stdbool.h>

#include "shared/buf.h"

struct mime {
	const char *key; /* unique, of base64url's characters */
	int64_t date;	 /* milliseconds since 1970 */
	const char *from, *to;	  /* addresses that mime_address() likes */
	const char *from_name;	  /* or "" */
	const char *subject, *text;
	const char *html; /* the same as text, or NULL */
};

void mime_write(struct buf *b, const struct mime *m);

/* Can this stand in a header field and in an SMTP command as it is? ASCII, a
 * dot-atom before the @ and a domain behind it. */
bool mime_address(const char *s);

#endif
