#include "shared/field.h"

#include <assert.h>
#include <inttypes.h>

#include "shared/clock.h"
#include "shared/text.h"

#define FIELDS_MAX 64 /* bits of what is given */
#define NAME_SHOWN 100

void
faults_init(struct faults *f, struct arena *a)
{
	*f = (struct faults) { .arena = a };
	f->end = &f->first;
}

void
faults_add(struct faults *f, const char *pointer, const char *detail)
{
	struct fault *fault;

	if (f->count++ >= FAULTS_MAX)
		return;
	fault = arena_alloc(f->arena, sizeof(*fault));
	*fault = (struct fault) { .pointer = pointer, .detail = detail };
	*f->end = fault;
	f->end = &fault->next;
}

/* C0, DEL, and in UTF-8 C1: to a terminal U+009B is what ESC [ is. */
static bool
is_control(const char *s)
{
	unsigned char c = (unsigned char)*s;

	return c < ' ' || c == 0x7f
	    || (c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

static bool
is_line(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (is_control(s + i))
			return false;
	return true;
}

static bool
is_paragraphs(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (is_control(s + i) && strchr("\t\n\r", s[i]) == NULL)
			return false;
	return true;
}

/* Strict enough to be safe in a header and useful as a key: RFC 5321's
 * dot-string or UTF-8 (RFC 6531) before the @, labels of a domain behind it. */
static bool
is_email(const char *s, size_t len)
{
	const char *at = memchr(s, '@', len), *end = s + len;

	if (at == NULL || at == s || at - s > 64 || len > 254
	    || at[-1] == '.' || *s == '.')
		return false;
	for (const char *p = s; p < at; p++)
		if (*p == ' ' || is_control(p)
		    || strchr("()<>[]:;,\\\"", *p) != NULL
		    || (p[0] == '.' && p[1] == '.'))
			return false;
	for (const char *p = at + 1; p < end; p++)
		if (!((unsigned char)*p >= 0x80 || (*p >= '0' && *p <= '9')
			|| ((*p | 32) >= 'a' && (*p | 32) <= 'z')
			|| ((*p == '-' || *p == '.') && p > at + 1 && p < end - 1
			    && p[-1] != '.' && !(*p == '.' && p[-1] == '-'))))
			return false;
	return end > at + 1;
}

static bool
is_currency(const char *s, size_t len)
{
	return len == 3 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A'
	    && s[1] <= 'Z' && s[2] >= 'A' && s[2] <= 'Z';
}

static bool
is_name(const char *s, size_t len)
{
	return len > 0
	    && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

static const struct {
	bool (*ok)(const char *s, size_t len);
	const char *fault;
} formats[] = {
	[FORMAT_LINE] = { is_line, "must not contain control characters" },
	[FORMAT_PARAGRAPHS] = { is_paragraphs,
	    "must not contain control characters other than tab and newline" },
	[FORMAT_EMAIL] = { is_email, "must be an e-mail address" },
	[FORMAT_CURRENCY] = { is_currency,
	    "must be a currency of ISO 4217, such as EUR" },
	[FORMAT_TIME] = { NULL,
	    "must be a time of RFC 3339, such as 2026-01-31T12:00:00Z" },
	[FORMAT_NAME] = { is_name,
	    "must consist of a-z, 0-9, dot, dash and underscore" },
};
_Static_assert(ARRAY_LEN(formats) == FORMAT__COUNT, "every format has a check");

/* Where a value is: by its name, or as an element of a list by its number. */
struct place {
	const struct place *in; /* NULL: it is all of the body, or of the query */
	const char *name;	/* NULL: an element */
	size_t index;
};

static const struct place whole_body = { .name = "#" };
static const struct place whole_query = { .name = "?" };

/* Bytes of a name that are repeated to the client: whole characters. */
static size_t
shown(const char *name)
{
	size_t len = strnlen(name, NAME_SHOWN);

	while (((unsigned char)name[len] & 0xc0) == 0x80)
		len--;
	return len;
}

/* A JSON pointer's reference token, RFC 6901 section 3, as it stands in a URI
 * fragment: what is not plain is percent-encoded. */
static const char *
join_pointer(struct arena *a, const char *base, const char *name)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t len = shown(name), n = strlen(base);
	char *out = arena_alloc(a, n + 1 + len * 3 + 1), *p = out + n;

	memcpy(out, base, n);
	*p++ = '/';
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c == '~' || c == '/') {
			*p++ = '~';
			*p++ = c == '~' ? '0' : '1';
		} else if (c > ' ' && c < 0x7f
		    && strchr("\"#%<>[\\]^`{|}", c) == NULL) {
			*p++ = (char)c;
		} else {
			*p++ = '%';
			*p++ = hex[c >> 4];
			*p++ = hex[c & 15];
		}
	}
	*p = '\0';
	return out;
}

static const char *
pointer_to(struct arena *a, const struct place *p)
{
	const char *base;

	if (p->in == NULL)
		return p->name;
	base = pointer_to(a, p->in);
	if (p->name == NULL)
		return arena_printf(a, "%s/%zu", base, p->index);
	if (p->in == &whole_query)
		return arena_printf(a, "?%.*s", (int)shown(p->name), p->name);
	return join_pointer(a, base, p->name);
}

static void
fault_at(struct faults *f, const struct place *at, const char *detail)
{
	faults_add(f, pointer_to(f->arena, at), detail);
}

/* One value that is being read. */
struct slot {
	struct faults *f;
	const struct field *field;
	struct place at;
	void *to;
};

static void
fault(const struct slot *s, const char *detail)
{
	fault_at(s->f, &s->at, detail);
}

static void
fault_range(const struct slot *s, int64_t min, int64_t max, const char *unit)
{
	fault(s,
	    arena_printf(s->f->arena,
		"must be from %" PRId64 " to %" PRId64 "%s", min, max, unit));
}

int64_t
field_max(const struct field *field)
{
	if (field->max != 0)
		return field->max;
	switch (field->type) {
	case FIELD_TEXT:
		return 200;
	case FIELD_LIST:
		return 100;
	default:
		return INT_MAX_EXACT;
	}
}

static void
store_int(const struct slot *s, int64_t v)
{
	int64_t max = field_max(s->field);

	if (v < s->field->min || v > max)
		fault_range(s, s->field->min, max, "");
	else
		*(int64_t *)s->to = v;
}

static void
store_time(const struct slot *s, const char *text)
{
	if (!clock_parse(text, s->to))
		fault(s, formats[FORMAT_TIME].fault);
}

static bool
is_choice(const char *const *choices, const char *text)
{
	for (; *choices != NULL; choices++)
		if (strcmp(*choices, text) == 0)
			return true;
	return false;
}

static const char *
join_choices(struct arena *a, const char *const *choices)
{
	const char *all = *choices;

	while (*++choices != NULL)
		all = arena_printf(a, "%s, %s", all, *choices);
	return arena_printf(a, "must be one of: %s", all);
}

static void
store_text(const struct slot *s, const char *text, size_t len)
{
	const struct field *d = s->field;
	int64_t max = field_max(d), n = text_length(text, len);

	if (d->choices != NULL && !is_choice(d->choices, text))
		fault(s, join_choices(s->f->arena, d->choices));
	else if (n < d->min || n > max)
		fault_range(s, d->min, max, " characters long");
	else if (!formats[d->format].ok(text, len))
		fault(s, formats[d->format].fault);
	else
		*(const char **)s->to = text;
}

static void
store_null(const struct slot *s)
{
	if (!(s->field->flags & FIELD_NULLABLE))
		fault(s, "must not be null");
	else if (s->field->type == FIELD_INT)
		*(int64_t *)s->to = INT_NONE;
	else if (s->field->type == FIELD_LIST)
		*(struct field_list *)s->to = (struct field_list) { 0 };
	else
		*(void **)s->to = NULL;
}

static void read_object(struct faults *f, const struct place *at,
    struct json_object *body, const struct field *table, size_t count,
    void *into);

static void
store_list(const struct slot *s, struct json_object *v)
{
	const struct field *d = s->field;
	struct field_list *list = s->to;
	size_t n = json_object_array_length(v);
	int64_t max = field_max(d);

	if ((int64_t)n < d->min || (int64_t)n > max) {
		fault_range(s, d->min, max, " items long");
		return;
	}
	list->items = arena_zalloc(s->f->arena, n * d->item_size + 1);
	list->count = n;
	for (size_t i = 0; i < n; i++) {
		char *item = (char *)list->items + i * d->item_size;

		if (d->item_default != NULL)
			memcpy(item, d->item_default, d->item_size);
		read_object(s->f, &(struct place) { .in = &s->at, .index = i },
		    json_object_array_get_idx(v, i), d->items->list,
		    d->items->count, item);
	}
}

static void
store_json(const struct slot *s, struct json_object *v)
{
	static const struct {
		enum json_type type;
		const char *fault;
	} expected[] = {
		[FIELD_INT] = { json_type_int, "must be a whole number" },
		[FIELD_TEXT] = { json_type_string, "must be a string" },
		[FIELD_BOOL] = { json_type_boolean, "must be true or false" },
		[FIELD_JSON] = { json_type_object, "must be an object" },
		[FIELD_LIST] = { json_type_array, "must be an array" },
	};
	bool time = s->field->format == FORMAT_TIME;
	enum field_type type = time ? FIELD_TEXT : s->field->type;

	if (v == NULL) {
		store_null(s);
		return;
	}
	if (!json_object_is_type(v, expected[type].type)) {
		fault(s, time ? formats[FORMAT_TIME].fault : expected[type].fault);
		return;
	}
	switch (type) {
	case FIELD_INT:
		store_int(s, json_object_get_int64(v));
		break;
	case FIELD_TEXT:
		if (time)
			store_time(s, json_object_get_string(v));
		else
			store_text(s, json_object_get_string(v),
			    (size_t)json_object_get_string_len(v));
		break;
	case FIELD_BOOL:
		*(bool *)s->to = json_object_get_boolean(v);
		break;
	case FIELD_JSON:
		*(struct json_object **)s->to = v;
		break;
	case FIELD_LIST:
		store_list(s, v);
		break;
	}
}

static size_t
find(const struct field *table, size_t count, const char *name)
{
	size_t i = 0;

	while (i < count && strcmp(table[i].name, name) != 0)
		i++;
	return i;
}

static void
check_required(struct faults *f, const struct place *in,
    const struct field *table, size_t count, uint64_t given)
{
	for (size_t i = 0; i < count; i++)
		if ((table[i].flags & FIELD_REQUIRED) && !(given >> i & 1))
			fault_at(f,
			    &(struct place) { .in = in, .name = table[i].name },
			    "is required");
}

static void
read_object(struct faults *f, const struct place *at, struct json_object *body,
    const struct field *table, size_t count, void *into)
{
	uint64_t given = 0;

	assert(count <= FIELDS_MAX);
	if (!json_object_is_type(body, json_type_object)) {
		fault_at(f, at, "must be an object");
		return;
	}
	json_object_object_foreach(body, name, v) {
		size_t i = find(table, count, name);
		struct slot s = { .f = f, .at = { .in = at, .name = name } };

		if (i == count) {
			fault(&s, "is not known here");
			continue;
		}
		s.field = &table[i];
		s.to = (char *)into + table[i].offset;
		given |= UINT64_C(1) << i;
		store_json(&s, v);
	}
	check_required(f, at, table, count, given);
}

void
field_read_object(struct faults *f, struct json_object *body,
    const struct field *table, size_t count, void *into)
{
	read_object(f, &whole_body, body, table, count, into);
}

void
field_read_array(struct faults *f, struct json_object *body,
    const struct field *list, struct field_list *into)
{
	struct slot s = { .f = f, .field = list, .at = whole_body, .to = into };

	store_json(&s, body);
}

static void
store_parameter(const struct slot *s, const char *text)
{
	int64_t v;

	switch (s->field->type) {
	case FIELD_INT:
		if (s->field->format == FORMAT_TIME)
			store_time(s, text);
		else if (!text_to_int(text, strlen(text), &v))
			fault(s, "must be a whole number");
		else
			store_int(s, v);
		break;
	case FIELD_BOOL:
		if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
			*(bool *)s->to = *text == 't';
		else
			fault(s, "must be true or false");
		break;
	default:
		store_text(s, text, strlen(text));
	}
}

static void
read_parameter(struct faults *f, const char *p, size_t len,
    const struct field *table, size_t count, void *into, uint64_t *given)
{
	const char *eq = memchr(p, '=', len);
	size_t name_len = eq != NULL ? (size_t)(eq - p) : len;
	const char *value = eq != NULL ? eq + 1 : p + len;
	char *name = text_percent_decode(f->arena, p, name_len);
	struct slot s = { .f = f, .at = { .in = &whole_query, .name = name } };
	size_t i;

	value = text_percent_decode(f->arena, value, (size_t)(p + len - value));
	if (name == NULL || value == NULL) {
		faults_add(f, "?", "a parameter is not percent-encoded UTF-8");
		return;
	}
	i = find(table, count, name);
	if (i == count) {
		fault(&s, "is not known here");
		return;
	}
	if (*given >> i & 1) {
		fault(&s, "is given more than once");
		return;
	}
	*given |= UINT64_C(1) << i;
	s.field = &table[i];
	s.to = (char *)into + table[i].offset;
	store_parameter(&s, value);
}

void
field_read_query(struct faults *f, const char *query, const struct field *table,
    size_t count, void *into)
{
	uint64_t given = 0;

	assert(count <= FIELDS_MAX);
	while (*query != '\0') {
		size_t len = strcspn(query, "&");

		if (len > 0)
			read_parameter(f, query, len, table, count, into, &given);
		query += len;
		query += *query == '&';
	}
	check_required(f, &whole_query, table, count, given);
}
