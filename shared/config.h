/*
 * Settings: environment variables, read once at start against a table into a
 * struct. The table is also what --help prints. systemd gives the variables
 * from /etc/coster/coster.env and /etc/coster/<service>.env.
 */
#ifndef COSTER_CONFIG_H
#define COSTER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shared/err.h"

enum setting_type { SETTING_TEXT, SETTING_INT };

struct setting {
	const char *name;     /* of the environment variable */
	const char *fallback; /* its value when unset or empty */
	const char *help;
	enum setting_type type;
	bool url; /* of a text: empty, or a URL of http or https */
	size_t offset;	  /* in the struct */
	int64_t min, max; /* of an integer */
};

/* The member's type, const char * or int64_t, decides the setting's. */
#define SETTING(S, member, env, dflt, text, ...)                               \
	{                                                                      \
		.name = (env), .fallback = (dflt), .help = (text),             \
		.type = _Generic(((S *)0)->member, const char *                \
				 : SETTING_TEXT, int64_t                       \
				 : SETTING_INT),                               \
		.offset = offsetof(S, member), __VA_ARGS__                     \
	}

struct settings {
	const struct setting *table;
	size_t count;
	void *into; /* the struct */
};

/* Texts borrow the environment. On ERR_INVALID why, of size bytes, says which
 * variable is wrong and how. */
MUST_USE enum err config_load(const struct settings *s, char *why, size_t size);

void config_help(const struct settings *s, FILE *out);

#endif
