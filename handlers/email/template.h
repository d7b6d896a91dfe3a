/*
 * Templates: the mails that the shop writes by itself, each with a subject, a
 * text and the same in HTML. They are one table in template.c.
 */
#ifndef COSTER_TEMPLATE_H
#define COSTER_TEMPLATE_H

#include "shared/field.h"

struct rendered {
	const char *subject, *text, *html; /* arena */
	bool can_wait; /* see cap_take() */
};

/* ERR_INVALID with faults of #/template and #/vars/…; vars may be NULL. */
MUST_USE enum err template_render(struct faults *f, const char *name,
    struct json_object *vars, struct rendered *out);

#endif
