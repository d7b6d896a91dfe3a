/*
 * Functions that have no place here, made compile errors. Included by force
 * before every source, so the headers that declare them come first.
 */
#ifndef COSTER_BANNED_H
#define COSTER_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* No bound, no error, or static storage shared by all threads. */
#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok
#pragma GCC poison atoi atol atoll gmtime localtime ctime asctime

#endif
