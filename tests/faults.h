/*
 * A disk that tests can look at and break. What SQLite calls to write and to
 * sync is defined here instead of in the C library; a program that uses one of
 * these has them all.
 */
#ifndef COSTER_FAULTS_H
#define COSTER_FAULTS_H

#include <stdbool.h>

extern _Atomic int fault_syncs;	  /* so far */
extern _Atomic int fault_sync_us; /* each takes so long */
extern _Atomic bool fault_full;	  /* every write fails with ENOSPC */
extern _Atomic bool fault_sync;	  /* every sync fails with EIO */

/* From now on a sync waits; the second waits until one does. */
void fault_hold_syncs(void);
void fault_wait_for_sync(void);
void fault_release_syncs(void);

#endif
