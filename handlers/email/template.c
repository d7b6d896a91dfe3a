#include "handlers/email/template.h"

#include "shared/buf.h"

struct vars {
	const char *name, *number, *currency, *link;
	int64_t total; /* in minor units of the currency */
};

static const struct field welcome_vars[] = {
	/* Long enough for an address, which stands in for a name. */
	FIELD(struct vars, name, .flags = FIELD_REQUIRED | FIELD_NULLABLE,
	    .max = 254),
};

static const struct field receipt_vars[] = {
	FIELD(struct vars, number, .flags = FIELD_REQUIRED, .min = 1),
	FIELD(struct vars, total, .flags = FIELD_REQUIRED),
	FIELD(struct vars, currency, .flags = FIELD_REQUIRED,
	    .format = FORMAT_CURRENCY),
};

static const struct field link_vars[] = {
	FIELD(struct vars, link, .flags = FIELD_REQUIRED, .min = 1,
	    .max = 2000),
};

/* {{x}} stands for the variable x, escaped in the HTML. */
static const struct template {
	const char *name;
	const struct field *vars;
	size_t count;
	const char *subject, *text, *html;
	bool can_wait; /* anybody can have it sent, and often */
} templates[] = {
	{ "welcome", welcome_vars, ARRAY_LEN(welcome_vars), "Welcome",
	    "Hello {{name}},\n\n"
	    "your account is ready. Welcome to our shop!\n",
	    "<p>Hello {{name}},</p>\n"
	    "<p>your account is ready. Welcome to our shop!</p>\n",
	    .can_wait = true },
	{ "receipt", receipt_vars, ARRAY_LEN(receipt_vars),
	    "Receipt for invoice {{number}}",
	    "Thank you!\n\n"
	    "We have received {{total}} for your invoice {{number}}.\n",
	    "<p>Thank you!</p>\n"
	    "<p>We have received <b>{{total}}</b> for your invoice "
	    "{{number}}.</p>\n" },
	{ "verification", link_vars, ARRAY_LEN(link_vars),
	    "Please confirm your address",
	    "Please confirm that this address is yours:\n\n{{link}}\n\n"
	    "If you did not ask for this, ignore this mail.\n",
	    "<p><a href=\"{{link}}\">Please confirm that this address is "
	    "yours.</a></p>\n"
	    "<p>If you did not ask for this, ignore this mail.</p>\n",
	    .can_wait = true },
	{ "password_reset", link_vars, ARRAY_LEN(link_vars),
	    "Your new password",
	    "You can choose a new password here:\n\n{{link}}\n\n"
	    "If you did not ask for this, ignore this mail; "
	    "your password stays as it is.\n",
	    "<p><a href=\"{{link}}\">You can choose a new password here.</a>"
	    "</p>\n"
	    "<p>If you did not ask for this, ignore this mail; "
	    "your password stays as it is.</p>\n" },
	{ "password_changed", NULL, 0, "Your password was changed",
	    "The password of your account was changed, and you were signed "
	    "out everywhere.\n\n"
	    "If that was not you, ask for a new password on our site, and "
	    "tell us.\n",
	    "<p>The password of your account was changed, and you were signed "
	    "out everywhere.</p>\n"
	    "<p>If that was not you, ask for a new password on our site, and "
	    "tell us.</p>\n" },
	{ "address_changed", NULL, 0, "Your address was changed",
	    "Your account has another e-mail address now; this one gets no "
	    "more mail.\n\n"
	    "If that was not you, tell us at once.\n",
	    "<p>Your account has another e-mail address now; this one gets no "
	    "more mail.</p>\n"
	    "<p>If that was not you, tell us at once.</p>\n" },
};

/* ISO 4217's currencies whose minor unit is not a hundredth. */
static const struct {
	const char *codes;
	int digits;
} minor_units[] = {
	{ "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
	    0 },
	{ "BHD IQD JOD KWD LYD OMR TND", 3 },
	{ "CLF UYW", 4 },
};

static const char *
money(struct arena *a, int64_t amount, const char *currency)
{
	long long unit = 1;
	int digits = 2;

	for (size_t i = 0; i < ARRAY_LEN(minor_units); i++)
		if (strstr(minor_units[i].codes, currency) != NULL)
			digits = minor_units[i].digits;
	for (int i = 0; i < digits; i++)
		unit *= 10;
	if (digits == 0)
		return arena_printf(a, "%lld %s", (long long)amount, currency);
	return arena_printf(a, "%lld.%0*lld %s", amount / unit, digits,
	    amount % unit, currency);
}

/* The only variable that may be empty is a customer's name. */
static const char *
value_of(struct arena *a, const struct template *t, const struct vars *vars,
    const char *name, size_t len)
{
	const struct field *f = t->vars;
	const char *text;

	while (strncmp(f->name, name, len) != 0 || f->name[len] != '\0')
		f++;
	if (f->type == FIELD_INT)
		return money(a, vars->total, vars->currency);
	text = *(const char *const *)((const char *)vars + f->offset);
	return text != NULL && *text != '\0' ? text : "customer";
}

static void
add_escaped(struct buf *b, const char *s)
{
	static const struct {
		char c;
		const char *entity;
	} entities[] = { { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" },
		{ '"', "&quot;" }, { '\'', "&#39;" } };

	for (; *s != '\0'; s++) {
		size_t i = 0;

		while (i < ARRAY_LEN(entities) && entities[i].c != *s)
			i++;
		if (i < ARRAY_LEN(entities))
			buf_adds(b, entities[i].entity);
		else
			buf_addc(b, *s);
	}
}

static const char *
fill(struct arena *a, const struct template *t, const struct vars *vars,
    const char *s, void (*add)(struct buf *b, const char *s))
{
	const char *open;
	struct buf b;

	buf_init(&b, a);
	while ((open = strstr(s, "{{")) != NULL) {
		size_t len = strcspn(open + 2, "}");

		buf_add(&b, s, (size_t)(open - s));
		add(&b, value_of(a, t, vars, open + 2, len));
		s = open + 2 + len + 2;
	}
	buf_adds(&b, s);
	return b.data;
}

/* A whole number does where a text is expected. */
static void
numbers_to_text(struct json_object *vars)
{
	json_object_object_foreach(vars, name, v) {
		if (strcmp(name, "total") == 0
		    || !json_object_is_type(v, json_type_int))
			continue;
		json_object_object_add(vars, name,
		    json_object_new_string(json_object_get_string(v)));
	}
}

static bool
is_web_link(const char *s)
{
	return strncmp(s, "https://", 8) == 0 || strncmp(s, "http://", 7) == 0;
}

static void
read_vars(struct faults *f, const struct template *t, struct json_object *given,
    struct vars *vars)
{
	struct faults own;

	faults_init(&own, f->arena);
	numbers_to_text(given);
	field_read_object(&own, given, t->vars, t->count, vars);
	if (vars->link != NULL && !is_web_link(vars->link))
		faults_add(&own, "#/link", "must be an https or http URL");
	for (const struct fault *one = own.first; one; one = one->next)
		faults_add(f,
		    arena_printf(f->arena, "#/vars%s", one->pointer + 1),
		    one->detail);
}

static const struct template *
find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(templates); i++)
		if (strcmp(templates[i].name, name) == 0)
			return &templates[i];
	return NULL;
}

static void
release(void *object)
{
	json_object_put(object);
}

enum err
template_render(struct faults *f, const char *name, struct json_object *given,
    struct rendered *out)
{
	const struct template *t = find(name);
	struct arena *a = f->arena;
	struct vars vars = { 0 };

	if (t == NULL) {
		faults_add(f, "#/template", "is not known");
		return ERR_INVALID;
	}
	if (given == NULL) {
		given = json_object_new_object();
		arena_defer(a, release, given, 0);
	}
	read_vars(f, t, given, &vars);
	if (f->count > 0)
		return ERR_INVALID;
	out->subject = fill(a, t, &vars, t->subject, buf_adds);
	out->text = fill(a, t, &vars, t->text, buf_adds);
	out->html = fill(a, t, &vars, t->html, add_escaped);
	out->can_wait = t->can_wait;
	return OK;
}
