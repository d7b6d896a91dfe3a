/*
 * A disk that remembers: all that SQLite writes, in its order, and what of it
 * was synced by when. From that a file is made as it would be after a power cut
 * at any moment: what was synced is there, and of the rest each sector is as it
 * was, or new, or torn.
 *
 * What SQLite calls to write and to sync is defined here instead of in the C
 * library, and goes on to the real files. One thread at a time.
 */
#ifndef COSTER_RECORD_H
#define COSTER_RECORD_H

#include <stddef.h>

/* Remembers what is done to the files in a folder, from nothing on. */
void record_start(const char *folder);
void record_stop(void);

/* Notes that number n is acknowledged now. */
void record_acknowledge(long n);

/* Moments to cut at: after each thing that is remembered. */
size_t record_moments(void);

/* The last number that was acknowledged before a moment; 0 for none. */
long record_acknowledged(size_t moment);

/* Makes, in an empty folder, the files as a cut at this moment may leave them;
 * seed decides on what was not synced. */
void record_replay(size_t moment, unsigned seed, const char *folder);

#endif
