/*
 * Places at which a test has the process die, as kill -9 would: between two
 * steps that must both happen, or neither. They are there in a build of the
 * kind crash (make BUILD=build/crash), and nothing in any other.
 *
 *     CRASH_POINT("after-reserve");
 *
 * COSTER_CRASH_POINT names the place to die at, "after-reserve", or
 * "after-reserve:3" for the third time that the process comes there. Or it is
 * the path of a folder; the file in it that is called as the program then names
 * the place, and is removed by the one process that dies there.
 */
#ifndef COSTER_CRASH_H
#define COSTER_CRASH_H

#include "shared/app.h"

#ifdef CRASH_POINTS

struct crash_point {
	const char *name;
	_Atomic int passes; /* while it was the one to die at */
};

void crash_here(struct crash_point *point);

#define CRASH_POINT(text)                                                      \
	do {                                                                   \
		static struct crash_point crash_point_                         \
		    __attribute__((section("coster_crash"),                    \
			aligned(sizeof(void *))))                              \
		    = { .name = (text) };                                      \
		crash_here(&crash_point_);                                     \
	} while (0)

#else
#define CRASH_POINT(text) ((void)0)
#endif

/* crash-points lists the places; empty in other builds. */
extern const struct command_table crash_commands;

#endif
