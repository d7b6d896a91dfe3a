#include "shared/json.h"

#include <pthread.h>

#include "shared/clock.h"
#include "shared/text.h"

/* What json-c takes for one, about; with its place in an object or array. */
#define CONTAINER_SIZE 1024
#define VALUE_SIZE 128

/* A walk over the text that accepts RFC 8259 and counts as it goes. */
struct scan {
	const unsigned char *p, *end;
	size_t values, containers;
	size_t bytes; /* of the strings and names, without escapes */
	int depth;
	const struct json_limits *max;
	const char *why;
	const char *wanted; /* the outermost object's member, or NULL */
	const unsigned char *found; /* its value */
};

static const struct json_limits text_max = { .depth = JSON_DEPTH_MAX,
	.values = JSON_VALUES_MAX,
	.containers = JSON_CONTAINERS_MAX };

static const char twice[] = "an object has two members of the same name";

static bool scan_value(struct scan *s);

static bool
fail(struct scan *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
	return false;
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end
	    && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
}

static bool
take(struct scan *s, char c)
{
	if (s->p == s->end || *s->p != (unsigned char)c)
		return false;
	s->p++;
	return true;
}

static bool
fail_value(struct scan *s)
{
	return fail(s, "a value is neither object, array, string, "
		       "number, true, false nor null");
}

static bool
take_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fail_value(s);
	s->p += n;
	return true;
}

static bool
scan_hex4(struct scan *s, unsigned *unit)
{
	*unit = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		unsigned c = s->p < s->end ? *s->p : 0;

		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			c = (c | 32) - 'a' + 10;
		else
			return fail(s, "\\u is not followed by four hex digits");
		*unit = *unit * 16 + c;
	}
	return true;
}

static bool
scan_escape(struct scan *s)
{
	unsigned unit, low;

	if (s->p == s->end)
		return fail(s, "a string has no end");
	if (*s->p != 'u') {
		if (*s->p == '\0' || strchr("\"\\/bfnrt", *s->p) == NULL)
			return fail(s, "a string has an unknown escape");
		s->p++;
		s->bytes++;
		return true;
	}
	s->p++;
	if (!scan_hex4(s, &unit))
		return false;
	if (unit == 0)
		return fail(s, "a string contains U+0000");
	if (unit < 0xd800 || unit > 0xdfff) {
		s->bytes += unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
		return true;
	}
	s->bytes += 4;
	if (unit > 0xdbff || !take(s, '\\') || !take(s, 'u')
	    || !scan_hex4(s, &low) || low < 0xdc00 || low > 0xdfff)
		return fail(s, "a string has a surrogate without its pair");
	return true;
}

/* Bytes in a word: what is done to all of them is one step. */
#define EIGHT sizeof(uint64_t)
#define EACH(byte) (UINT64_MAX / 255 * (byte))

static uint64_t
eight(const void *p)
{
	uint64_t v;

	memcpy(&v, p, EIGHT);
	return v;
}

/* Is a byte of these eight below ' ', '"' or '\\'? What is subtracted from a byte
 * that is smaller sets its highest bit, unless it was set before. */
static bool
has_escape(uint64_t v)
{
	uint64_t quote = v ^ EACH('"'), backslash = v ^ EACH('\\');

	return (((v - EACH(' ')) & ~v) | ((quote - EACH(1)) & ~quote)
		   | ((backslash - EACH(1)) & ~backslash))
	    & EACH(0x80);
}

/* Eight bytes at once, while they are plain ASCII. */
static void
skip_plain(struct scan *s)
{
	const unsigned char *from = s->p;

	while ((size_t)(s->end - s->p) >= EIGHT && !(eight(s->p) & EACH(0x80))
	    && !has_escape(eight(s->p)))
		s->p += EIGHT;
	s->bytes += (size_t)(s->p - from);
}

static bool
scan_string(struct scan *s)
{
	if (!take(s, '"'))
		return fail(s, "a member's name is not a string");
	skip_plain(s);
	while (s->p < s->end) {
		unsigned char c = *s->p;

		if (c == '"') {
			s->p++;
			return true;
		}
		if (c < 0x20)
			return fail(s, "a string has a raw control character");
		if (c == '\\') {
			s->p++;
			if (!scan_escape(s))
				return false;
		} else {
			int n = text_utf8(s->p, s->end);

			if (n == 0)
				return fail(s, "a string is not UTF-8");
			s->p += n;
			s->bytes += (size_t)n;
		}
	}
	return fail(s, "a string has no end");
}

static size_t
skip_digits(struct scan *s)
{
	const unsigned char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - from);
}

static bool
scan_number(struct scan *s)
{
	const unsigned char *digits;
	bool whole = true;
	int64_t v = 0;

	take(s, '-');
	digits = s->p;
	if (skip_digits(s) == 0)
		return fail_value(s);
	if (*digits == '0' && s->p - digits > 1)
		return fail(s, "a number has a leading zero");
	for (const unsigned char *p = digits; p < s->p; p++)
		if (v <= INT_MAX_EXACT)
			v = v * 10 + (*p - '0');
	if (take(s, '.')) {
		whole = false;
		if (skip_digits(s) == 0)
			return fail(s, "a number ends in its decimal point");
	}
	if (take(s, 'e') || take(s, 'E')) {
		whole = false;
		if (!take(s, '-'))
			take(s, '+');
		if (skip_digits(s) == 0)
			return fail(s, "a number has an empty exponent");
	}
	if (whole && v > INT_MAX_EXACT)
		return fail(s, "an integer is beyond 2^53");
	return true;
}

/* Is this name, with its quotes, the one that is wanted? */
static bool
is_wanted(const struct scan *s, const unsigned char *name, size_t len)
{
	return s->wanted != NULL && s->depth == 1 && strlen(s->wanted) == len - 2
	    && memcmp(name + 1, s->wanted, len - 2) == 0;
}

static bool
scan_member(struct scan *s)
{
	const unsigned char *name;
	bool wanted;

	skip_space(s);
	name = s->p;
	if (!scan_string(s))
		return false;
	wanted = is_wanted(s, name, (size_t)(s->p - name));
	skip_space(s);
	if (!take(s, ':'))
		return fail(s, "a member has no colon");
	skip_space(s);
	if (wanted && s->found != NULL)
		return fail(s, twice);
	if (wanted)
		s->found = s->p;
	return scan_value(s);
}

static bool
scan_container(struct scan *s, char close, bool (*element)(struct scan *))
{
	s->p++;
	if (++s->containers > s->max->containers)
		return fail(s, "too many objects and arrays");
	if (++s->depth > s->max->depth)
		return fail(s, "nested too deep");
	skip_space(s);
	if (!take(s, close)) {
		do
			if (!element(s))
				return false;
		while (take(s, ','));
		if (!take(s, close))
			return fail(s, "an object or array is not closed");
	}
	s->depth--;
	return true;
}

static bool
scan_value(struct scan *s)
{
	bool good;

	if (++s->values > s->max->values)
		return fail(s, "too many values");
	skip_space(s);
	switch (s->p < s->end ? *s->p : '\0') {
	case '{':
		good = scan_container(s, '}', scan_member);
		break;
	case '[':
		good = scan_container(s, ']', scan_value);
		break;
	case '"':
		good = scan_string(s);
		break;
	case 't':
		good = take_word(s, "true");
		break;
	case 'f':
		good = take_word(s, "false");
		break;
	case 'n':
		good = take_word(s, "null");
		break;
	default:
		good = scan_number(s);
	}
	skip_space(s);
	return good;
}

/* What a tree holds: its values, and the bytes of its strings and names. */
static size_t
measure(struct json_object *v)
{
	size_t n = 1;

	if (json_object_is_type(v, json_type_string)) {
		n += (size_t)json_object_get_string_len(v);
	} else if (json_object_is_type(v, json_type_object)) {
		json_object_object_foreach(v, name, member)
			n += strlen(name) + measure(member);
	} else if (json_object_is_type(v, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(v); i++)
			n += measure(json_object_array_get_idx(v, i));
	}
	return n;
}

static void
put_tree(void *root)
{
	json_object_put(root);
}

/* One a thread, and gone with it: it costs more to make than a small body to
 * parse. */
static pthread_key_t tokener_key;

static void
free_tokener(void *tok)
{
	json_tokener_free(tok);
}

static void
make_tokener_key(void)
{
	if (pthread_key_create(&tokener_key, free_tokener) != 0)
		abort();
}

static struct json_tokener *
tokener(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct json_tokener *tok;

	pthread_once(&once, make_tokener_key);
	tok = pthread_getspecific(tokener_key);
	if (tok == NULL) {
		tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
		if (tok == NULL || pthread_setspecific(tokener_key, tok) != 0)
			abort();
		json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	}
	json_tokener_reset(tok);
	return tok;
}

/* The tree of a text that was scanned. json-c keeps the last of two members of
 * one name, and what it has no memory for it may leave out: less arrives than
 * was written. */
static enum err
build(struct arena *a, const char *text, size_t len, const struct scan *s,
    struct json_object **root, const char **why)
{
	struct json_tokener *tok = tokener();

	*root = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) == json_tokener_continue)
		*root = json_tokener_parse_ex(tok, "", -1); /* a bare number */
	if (json_tokener_get_error(tok) != json_tokener_success) {
		*why = "there is no memory for it now";
		return ERR_UNAVAILABLE;
	}
	if (*root != NULL)
		arena_defer(a, put_tree, *root,
		    s->containers * CONTAINER_SIZE + s->values * VALUE_SIZE
			+ s->bytes);
	if (measure(*root) != s->values + s->bytes) {
		*why = twice;
		return ERR_MALFORMED;
	}
	return OK;
}

static enum err
scan_text(struct scan *s, const char *text, size_t len, const char **why)
{
	s->p = (const unsigned char *)text;
	s->end = s->p + len;
	if (scan_value(s) && s->p == s->end)
		return OK;
	*why = s->why != NULL ? s->why : "something follows the value";
	return ERR_MALFORMED;
}

enum err
json_find_int(const char *text, size_t len, const char *name, int64_t *v,
    const char **why)
{
	struct scan s = { .max = &text_max, .wanted = name };
	enum err err = scan_text(&s, text, len, why);
	char *end;

	*v = INT_NONE;
	if (err || s.found == NULL)
		return err;
	*v = strtoll((const char *)s.found, &end, 10); /* the object's '}' follows */
	if (end == (const char *)s.found || strchr(".eE", *end) != NULL)
		*v = INT_NONE;
	return OK;
}

enum err
json_parse(struct arena *a, const char *text, size_t len,
    struct json_object **root, const char **why)
{
	struct scan s = { .max = &text_max };
	enum err err;

	if ((err = scan_text(&s, text, len, why)))
		return err;
	/* What is missing a second time was not a want of memory. */
	if ((err = build(a, text, len, &s, root, why)))
		err = build(a, text, len, &s, root, why);
	return err;
}

bool
json_within(const char *text, size_t len, const struct json_limits *max)
{
	struct scan s = { .max = max };
	const char *why;

	return scan_text(&s, text, len, &why) == OK;
}

static void
put_member(
    struct json_object *into, const char *name, struct json_object *take)
{
	if (json_object_object_add(into, name, take) != 0)
		abort();
}

/* The object to merge into: a new one where there is none. */
static struct json_object *
object_at(struct json_object *in, const char *name)
{
	struct json_object *v = json_object_object_get(in, name);

	if (json_object_is_type(v, json_type_object))
		return v;
	if ((v = json_object_new_object()) == NULL)
		abort();
	put_member(in, name, v);
	return v;
}

void
json_merge(struct json_object *into, struct json_object *patch)
{
	json_object_object_foreach(patch, name, v) {
		if (v == NULL)
			json_object_object_del(into, name);
		else if (json_object_is_type(v, json_type_object))
			json_merge(object_at(into, name), v);
		else
			put_member(into, name, json_object_get(v));
	}
}

/* How a byte of a string is written: 0 as it is, 'u' as \u00XX, any other
 * behind a backslash. */
static const char escapes[256] = {
	[0 ... '\n' - 1] = 'u',
	['\n'] = 'n',
	['\n' + 1 ... ' ' - 1] = 'u',
	['"'] = '"',
	['\\'] = '\\',
};

static void
put_escape(struct buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	if (escapes[c] == 'u')
		buf_add(b,
		    (char[]) { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] },
		    6);
	else
		buf_add(b, (char[]) { '\\', escapes[c] }, 2);
}

/* How much of it is written as it is. */
static size_t
plain_length(const char *s, size_t len)
{
	size_t n = 0;

	while (len - n >= EIGHT && !has_escape(eight(s + n)))
		n += EIGHT;
	while (n < len && !escapes[(unsigned char)s[n]])
		n++;
	return n;
}

/* With nothing in it to escape. */
static void
put_plain(struct buf *b, const char *s, size_t len)
{
	char *p;

	buf_reserve(b, len + 2);
	p = b->data + b->len;
	*p++ = '"';
	memcpy(p, s, len);
	p += len;
	*p++ = '"';
	*p = '\0';
	b->len += len + 2;
}

static void
put_string(struct buf *b, const char *s, size_t len)
{
	size_t n = plain_length(s, len);

	if (n == len) {
		put_plain(b, s, len);
		return;
	}
	buf_addc(b, '"');
	for (; n < len; n = plain_length(s, len)) {
		buf_add(b, s, n);
		put_escape(b, (unsigned char)s[n]);
		s += n + 1;
		len -= n + 1;
	}
	buf_add(b, s, len);
	buf_addc(b, '"');
}

/* A comma if one is due, and the key. */
static void
put_key(struct buf *b, const char *key)
{
	char last = b->len > 0 ? b->data[b->len - 1] : '{';

	if (last != '{' && last != '[' && last != '\n')
		buf_addc(b, ',');
	if (key != NULL) {
		put_plain(b, key, strlen(key));
		buf_addc(b, ':');
	}
}

void
json_open(struct buf *b, const char *key, char bracket)
{
	put_key(b, key);
	buf_addc(b, bracket);
}

void
json_close(struct buf *b, char bracket)
{
	buf_addc(b, bracket);
}

void
json_textn(struct buf *b, const char *key, const char *text, size_t len)
{
	put_key(b, key);
	put_string(b, text, len);
}

void
json_text(struct buf *b, const char *key, const char *text)
{
	if (text == NULL)
		json_null(b, key);
	else
		json_textn(b, key, text, strlen(text));
}

void
json_int(struct buf *b, const char *key, int64_t v)
{
	if (v == INT_NONE) {
		json_null(b, key);
		return;
	}
	put_key(b, key);
	buf_addint(b, v);
}

void
json_boolean(struct buf *b, const char *key, bool v)
{
	json_raw(b, key, v ? "true" : "false");
}

void
json_time(struct buf *b, const char *key, int64_t ms)
{
	char text[CLOCK_TEXT_SIZE];

	if (ms == INT_NONE) {
		json_null(b, key);
		return;
	}
	clock_text(ms, text);
	put_key(b, key);
	put_plain(b, text, CLOCK_TEXT_SIZE - 1);
}

void
json_null(struct buf *b, const char *key)
{
	json_raw(b, key, NULL);
}

void
json_raw(struct buf *b, const char *key, const char *text)
{
	put_key(b, key);
	buf_adds(b, text != NULL ? text : "null");
}

const char *
json_tree_text(struct json_object *v)
{
	return json_object_to_json_string_ext(
	    v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

void
json_tree(struct buf *b, const char *key, struct json_object *v)
{
	json_raw(b, key, json_tree_text(v));
}

int64_t
json_member_int(struct json_object *object, const char *name)
{
	struct json_object *v;

	if (json_object_object_get_ex(object, name, &v)
	    && json_object_is_type(v, json_type_int))
		return json_object_get_int64(v);
	return INT_NONE;
}

const char *
json_member_text(struct json_object *object, const char *name)
{
	struct json_object *v;

	if (json_object_object_get_ex(object, name, &v)
	    && json_object_is_type(v, json_type_string))
		return json_object_get_string(v);
	return NULL;
}
