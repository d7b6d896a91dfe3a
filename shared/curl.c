#include "shared/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "shared/log.h"

#define LIBRARY "libcurl.so.4"

struct curl curl;

static void *
find(void *library, const char *name)
{
	void *function = library != NULL ? dlsym(library, name) : NULL;

	if (function == NULL) {
		LOG(LOG_ERROR, "cannot load libcurl",
		    LOG_TEXT("reason", dlerror()));
		abort();
	}
	return function;
}

static void
load(void)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

#define FIND(name) curl.name = find(library, "curl_" #name);
	CURL_FUNCTIONS(FIND)
#undef FIND
}

void
curl_load(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
}
