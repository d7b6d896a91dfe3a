/*
 * What can go wrong, in the few kinds that a caller can act on.
 *
 * Every function that can fail returns an enum err; zero is success. Only
 * problem.c knows which HTTP status and title each one has.
 */
#ifndef COSTER_ERR_H
#define COSTER_ERR_H

enum err {
	OK = 0,
	ERR_MALFORMED,	     /* not HTTP, not JSON, not UTF-8 */
	ERR_UNAUTHENTICATED, /* nobody, or a token that is not good */
	ERR_DECLINED,	     /* the gateway refused the payment */
	ERR_FORBIDDEN,
	ERR_NOT_FOUND,
	ERR_METHOD,
	ERR_NOT_ACCEPTABLE,
	ERR_CONFLICT,
	ERR_GONE,
	ERR_PRECONDITION,
	ERR_TOO_LARGE,
	ERR_MEDIA_TYPE,
	ERR_INVALID,	 /* understood, but with faults in it */
	ERR_TOO_MANY,	 /* a limit of this client's is reached */
	ERR_INTERNAL,	 /* a fault of ours; the log says more */
	ERR_UNAVAILABLE, /* try again: busy, full, a peer is down */
	ERR_DEFER,	 /* not an error: run this again on a worker thread */
	ERR__COUNT
};

#define MUST_USE __attribute__((warn_unused_result))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Ids, versions and quantities stay below 2^53, where a double is exact. */
#define INT_MAX_EXACT ((INT64_C(1) << 53) - 1)

/* The value of an optional integer that is not there; SQL's NULL. */
#define INT_NONE INT64_MIN

#endif
