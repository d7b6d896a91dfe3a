/*
 * The systemd journal, apart from log.c: its header brings syslog.h, whose
 * LOG_INFO and the like are other numbers than ours.
 */
#ifndef COSTER_JOURNAL_H
#define COSTER_JOURNAL_H

#include <stdbool.h>
#include <sys/uio.h>

/* Is standard error read by the journal? */
bool journal_reads_stderr(void);

/* Writes an entry of "NAME=value" fields; false when it cannot be. */
bool journal_send(const struct iovec *fields, int count);

#endif
