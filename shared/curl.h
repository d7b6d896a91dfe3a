/*
 * libcurl, loaded when it is first needed. It brings some thirty libraries,
 * which cost a process a megabyte even if it never calls anybody, as most
 * instances do not most of the time.
 *
 *     curl_load();
 *     c = curl.easy_init();
 */
#ifndef COSTER_CURL_H
#define COSTER_CURL_H

#include <curl/curl.h>

/* What is used of it, each under its own name less "curl_". */
#define CURL_FUNCTIONS(X)                                                      \
	X(easy_cleanup)                                                        \
	X(easy_getinfo)                                                        \
	X(easy_init)                                                           \
	X(easy_perform)                                                        \
	X(easy_setopt)                                                         \
	X(easy_strerror)                                                       \
	X(multi_add_handle)                                                    \
	X(multi_cleanup)                                                       \
	X(multi_info_read)                                                     \
	X(multi_init)                                                          \
	X(multi_perform)                                                       \
	X(multi_poll)                                                          \
	X(multi_remove_handle)                                                 \
	X(slist_append)                                                        \
	X(slist_free_all)

#define CURL_MEMBER(name) __typeof__(curl_##name) *name;
extern struct curl {
	CURL_FUNCTIONS(CURL_MEMBER)
} curl;
#undef CURL_MEMBER

/* Before the first use of curl in a thread; ends the process without it. */
void curl_load(void);

#endif
