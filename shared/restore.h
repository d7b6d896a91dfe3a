/*
 * coster-<service> restore FILE: a backup becomes the database again, while the
 * instances run.
 *
 * The file is copied, looked at, migrated and mended as a copy of its own. Then
 * it is put into the database in one transaction: readers and writers see all
 * of what was there before, or all of the copy, and a crash leaves one of them.
 * Nobody can write between the moment the old database is kept beside it and
 * that transaction.
 *
 * Ids are what the other services know a row by. Those that were given since
 * the backup are not given again, as far as the old database can tell them: see
 * struct service.
 */
#ifndef COSTER_RESTORE_H
#define COSTER_RESTORE_H

#include "shared/app.h"

extern const struct command_table restore_commands;

#endif
