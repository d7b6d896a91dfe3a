/*
 * A disk that remembers: all that SQLite writes, in its order, and what of it
 * was synced by when. From that the files are made as they may be after a power
 * cut at any moment. What was synced is there; each sector of the rest is as it
 * was, or new, or torn, whatever came before or after it; a file's end is lost,
 * or is there without its contents; and a file is there for sure only once its
 * folder was synced, too.
 *
 * That is on files what a log of the sectors written to a device would show, and
 * is harder on SQLite, since no file system keeps any of it in order: a device
 * under ext4 loses only what ext4 would. What it does not show is the kernel's
 * own part, and writers at the same instant: tests/http/test_disk.py cuts the
 * power of a real ext4 under the whole shop.
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
