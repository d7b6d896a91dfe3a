#include "handlers/payment/gateway.h"

#include "shared/log.h"

static const struct gateway *const gateways[] = {
	&manual_gateway,
	&sandbox_gateway,
};

#define NONE ARRAY_LEN(gateways)

static bool offered[ARRAY_LEN(gateways)];

static size_t
find(const char *name, size_t len)
{
	size_t i = 0;

	while (i < NONE
	    && (strlen(gateways[i]->name) != len
		|| strncmp(gateways[i]->name, name, len) != 0))
		i++;
	return i;
}

static enum err
refuse(const char *names)
{
	char why[200];
	int n = snprintf(why, sizeof(why),
	    "COSTER_GATEWAYS=%.60s: expected some, with commas between, of:",
	    names);

	for (size_t i = 0; i < NONE && n < (int)sizeof(why); i++)
		n += snprintf(why + n, sizeof(why) - (size_t)n, " %s",
		    gateways[i]->name);
	LOG(LOG_ERROR, "bad setting", LOG_TEXT("setting", why));
	return ERR_INVALID;
}

enum err
gateway_offer(const char *names)
{
	const char *all = names;

	memset(offered, 0, sizeof(offered));
	for (;;) {
		size_t len = strcspn(names, ","), i = find(names, len);

		if (i == NONE)
			return refuse(all);
		offered[i] = true;
		if (names[len] == '\0')
			return OK;
		names += len + 1;
	}
}

const struct gateway *
gateway_offered(const char *name)
{
	size_t i = find(name, strlen(name));

	return i != NONE && offered[i] ? gateways[i] : NULL;
}

const struct gateway *
gateway_find(const char *name)
{
	size_t i = find(name, strlen(name));

	return i != NONE ? gateways[i] : NULL;
}
