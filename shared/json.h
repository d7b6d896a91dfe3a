/*
 * JSON, RFC 8259: a strict reader on top of json-c, and a writer that puts
 * text straight into a buffer.
 *
 * json-c takes more than the standard allows (NaN, single quotes, raw control
 * characters, duplicate members, clamped integers) and lets small texts grow
 * into much memory. json_parse() checks the text first, so what json-c builds
 * is exactly what was written, and bounded.
 *
 * The writer needs no state: a comma is due unless the buffer is empty or ends
 * in an opening bracket or, between the texts of x-ndjson, in a newline; no
 * value can end in one of these.
 *
 *     json_open(b, NULL, '{');
 *     json_int(b, "id", 7);
 *     json_text(b, "name", "Tea");
 *     json_close(b, '}');
 */
#ifndef COSTER_JSON_H
#define COSTER_JSON_H

#include <json-c/json.h>
#include <stdbool.h>

#include "shared/buf.h"
#include "shared/err.h"

#define JSON_DEPTH_MAX 16	 /* brackets inside brackets */
#define JSON_VALUES_MAX 65536	 /* in one text */
#define JSON_CONTAINERS_MAX 4096 /* objects and arrays; each costs 1 KiB */

/* A tree that lives as long as the arena. Refuses as ERR_MALFORMED, with *why a
 * sentence: anything RFC 8259 does not allow, invalid UTF-8, lone surrogates,
 * U+0000, duplicate members, integers beyond 2^53, and texts over the limits
 * above. ERR_UNAVAILABLE when there is no memory for it. */
MUST_USE enum err json_parse(struct arena *a, const char *text, size_t len,
    struct json_object **root, const char **why);

/* The same check, and no tree: *v is the member of this name, INT_NONE when the text
 * is no object with such an integer. Other members may come twice. */
MUST_USE enum err json_find_int(const char *text, size_t len, const char *name,
    int64_t *v, const char **why);

/* A member of an object; INT_NONE or NULL when it is not there or of another type, or
 * the value no object. */
int64_t json_member_int(struct json_object *object, const char *name);
const char *json_member_text(struct json_object *object, const char *name);

/* What a part of a text may have, so that the whole is not over the limits above. */
struct json_limits {
	int depth;
	size_t values, containers;
};

/* Is a text good JSON that has no more than that? */
bool json_within(const char *text, size_t len, const struct json_limits *max);

/* Patches an object with an object, RFC 7396: objects are merged, a null takes
 * the member away, and anything else replaces it. */
void json_merge(struct json_object *into, struct json_object *patch);

/* A key of NULL writes an element of an array, or the outermost value. In others
 * there is nothing to escape: they are the program's own. */
void json_open(struct buf *b, const char *key, char bracket);
void json_close(struct buf *b, char bracket);
void json_text(struct buf *b, const char *key, const char *text);
void json_textn(struct buf *b, const char *key, const char *text, size_t len);
void json_int(struct buf *b, const char *key, int64_t v); /* INT_NONE: null */
void json_boolean(struct buf *b, const char *key, bool v);
void json_time(struct buf *b, const char *key, int64_t ms); /* RFC 3339 */
void json_null(struct buf *b, const char *key);

/* text is JSON already; NULL writes null. */
void json_raw(struct buf *b, const char *key, const char *text);

/* A tree's text, compact. Alone it belongs to the tree. */
void json_tree(struct buf *b, const char *key, struct json_object *v);
const char *json_tree_text(struct json_object *v);

#endif
