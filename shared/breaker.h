/*
 * Leaving a peer alone that keeps failing, and not having all threads wait for
 * the same one.
 *
 * A peer is another service, named by the first segment of a path that it
 * answers. After BREAKER_FAILURES failures in a row it is left alone for a
 * second; then one caller finds out how it is. While that fails, too, the pause
 * doubles, to half a minute at most. One success ends it.
 *
 * No more than so many callers are with one peer at a time. The next one waits
 * BREAKER_PATIENCE_MS for a place and is turned away then: a peer that hangs
 * holds that many threads of the process, and the rest serve on.
 *
 * Times are milliseconds from a moment of the caller's.
 */
#ifndef COSTER_BREAKER_H
#define COSTER_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"

#define BREAKER_FAILURES 3
#define BREAKER_PAUSE_FIRST 1000
#define BREAKER_PAUSE_MOST 30000
#define BREAKER_PATIENCE_MS 250

struct breaker;

/* most: callers at a time with one peer. Lives as long as the process. */
struct breaker *breaker_new(size_t most);

/* The peer that a path belongs to; arena. */
const char *breaker_peer(struct arena *a, const char *path);

/* A call that may be made. */
struct breaker_pass {
	struct peer *peer;
	bool probe; /* it finds out how a peer is that was left alone */
};

/* ERR_UNAVAILABLE, and *why a reason for the log, when the peer is not to be
 * called now; else a breaker_leave() must follow. Any thread may call. */
MUST_USE enum err breaker_enter(struct breaker *b, const char *peer,
    int64_t now, struct breaker_pass *pass, const char **why);

/* How the call went; BREAKER_UNKNOWN when that says nothing of the peer. */
enum breaker_verdict { BREAKER_GOOD, BREAKER_BAD, BREAKER_UNKNOWN };
void breaker_leave(struct breaker *b, const struct breaker_pass *pass,
    int64_t now, enum breaker_verdict verdict);

/* For how long the peer is left alone yet; 0 when it may be called. */
int64_t breaker_pause(struct breaker *b, const char *peer, int64_t now);

#endif
