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

enum err
gateway_offer(const char *names)
{
	memset(offered, 0, sizeof(offered));
	for (;;) {
		size_t len = strcspn(names, ","), i = find(names, len);

		if (i == NONE) {
			LOG(LOG_ERROR, "bad setting: no such gateway",
			    LOG_TEXT("COSTER_GATEWAYS", names));
			return ERR_INVALID;
		}
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
