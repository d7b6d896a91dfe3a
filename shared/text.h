/*
 * Text: UTF-8 (RFC 3629) and percent-encoding (RFC 3986).
 */
#ifndef COSTER_TEXT_H
#define COSTER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"

/* Bytes of the UTF-8 character at p, 1 to 4; 0 when it is none. */
int text_utf8(const unsigned char *p, const unsigned char *end);

/* Characters in s, or -1 when it is not UTF-8. */
int64_t text_length(const char *s, size_t len);

/* Decodes %XX, and + as a space; arena. NULL for an encoding that is broken,
 * not UTF-8 inside, or hides a NUL. */
char *text_percent_decode(struct arena *a, const char *s, size_t len);

/* Encodes what is not a letter, a digit or one of -._~ (RFC 3986 section 2.3):
 * a value for a query; arena. */
char *text_percent_encode(struct arena *a, const char *s);

#define TEXT_INT_SIZE 21 /* of any integer */

/* In decimal; answers where in out it begins. Its end is that of out. */
const char *text_from_int(int64_t v, char out[TEXT_INT_SIZE]);

/* A whole decimal number without sign, blanks or leading zeros. */
bool text_to_int(const char *s, size_t len, int64_t *out);

/* s in lower case, ASCII letters only; arena. */
char *text_lower(struct arena *a, const char *s);

#endif
