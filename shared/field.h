/*
 * What comes from outside, read against a table into a C struct.
 *
 * A table of fields says name, type and bounds of each member of a JSON body
 * or of each query parameter. Reading checks everything and collects every
 * fault; members that are not given leave the struct as it was, so a change
 * is read over what is stored, and defaults are what the struct held before.
 *
 *     struct item { int64_t product_id, quantity; const char *note; };
 *
 *     static const struct field_table item_fields = FIELDS(
 *         FIELD(struct item, product_id, .flags = FIELD_REQUIRED, .min = 1),
 *         FIELD(struct item, quantity, .min = 1, .max = 999),
 *         FIELD(struct item, note, .flags = FIELD_NULLABLE, .max = 100));
 */
#ifndef COSTER_FIELD_H
#define COSTER_FIELD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"

enum field_type {
	FIELD_INT,
	FIELD_TEXT,
	FIELD_BOOL,
	FIELD_JSON, /* an object, handed on as json-c's tree */
	FIELD_LIST, /* an array of objects, each read against a table */
};

enum field_format {
	FORMAT_LINE, /* text without control characters */
	FORMAT_PARAGRAPHS, /* text that may also have tabs and newlines */
	FORMAT_EMAIL,	   /* an address, RFC 5321's length limits */
	FORMAT_CURRENCY,   /* ISO 4217: three capital letters */
	FORMAT_TIME,	   /* RFC 3339 into an integer of milliseconds */
	FORMAT_NAME,	   /* of a-z 0-9 _ . -, as an action or a template */
	FORMAT__COUNT
};

enum field_flags {
	FIELD_REQUIRED = 1,
	FIELD_NULLABLE = 2, /* null is INT_NONE, NULL, no items; not of a bool */
};

struct field {
	const char *name;
	enum field_type type;
	enum field_format format;
	unsigned flags;
	size_t offset; /* in the struct */
	/* Of an integer, of a text's characters, of a list's items. A max of 0
	 * is 2^53 - 1, 200 characters, or 100 items. */
	int64_t min, max;
	const char *const *choices; /* the texts allowed, up to a NULL */
	const struct field_table *items; /* of a list */
	size_t item_size;
	const void *item_default; /* what an item is before; NULL: all zero */
};

/* All that one body or query may have. */
struct field_table {
	const struct field *list;
	size_t count;
};
#define FIELDS(...)                                                            \
	{                                                                      \
		(const struct field[]) { __VA_ARGS__ },                        \
		    ARRAY_LEN(((const struct field[]) { __VA_ARGS__ }))        \
	}

struct field_list {
	void *items; /* arena */
	size_t count;
};

/* The member's C type decides the field's type. */
#define FIELD(S, member, ...) FIELD_AS(S, member, #member, __VA_ARGS__)
#define FIELD_AS(S, member, as, ...)                                           \
	{                                                                      \
		.name = (as), .offset = offsetof(S, member),                   \
		.type = _Generic(((S *)0)->member, int64_t                     \
				 : FIELD_INT, const char *                     \
				 : FIELD_TEXT, bool                            \
				 : FIELD_BOOL, struct json_object *            \
				 : FIELD_JSON, struct field_list               \
				 : FIELD_LIST),                                \
		__VA_ARGS__                                                    \
	}
/* How a FIELD_LIST says what its items are. */
#define FIELD_ITEMS(S, table)                                                  \
	.items = &(table), .item_size = sizeof(S)

struct fault {
	struct fault *next;
	const char *pointer; /* "#/lines/0/price", or "?limit" of a query */
	const char *detail;
};

struct faults {
	struct arena *arena;
	struct fault *first, **end;
	size_t count;
};

#define FAULTS_MAX 32 /* more are counted, not kept */

void faults_init(struct faults *f, struct arena *a);
void faults_add(struct faults *f, const char *pointer, const char *detail);

/* The bound that counts: max, or the usual one. */
int64_t field_max(const struct field *field);

/* Each adds what it finds wrong to the faults. Texts and trees are borrowed
 * from the body, or live in the faults' arena. */
void field_read_object(struct faults *f, struct json_object *body,
    const struct field *table, size_t count, void *into);
/* A body that is an array: list says what its items are, as of a member. */
void field_read_array(struct faults *f, struct json_object *body,
    const struct field *list, struct field_list *into);
void field_read_query(struct faults *f, const char *query,
    const struct field *table, size_t count, void *into);

#endif
