/*
 * Small files, whole: keys, secrets and the settings beside them.
 */
#ifndef COSTER_FILE_H
#define COSTER_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "shared/arena.h"
#include "shared/err.h"

#define FILE_SIZE_MAX (1024 * 1024)

/* The text of a file up to FILE_SIZE_MAX bytes, or NULL; arena. */
char *file_read(struct arena *a, const char *path, size_t *len);

/* Makes a new file, its bytes on disk when it returns, or none at all.
 * ERR_CONFLICT for one that exists; the log says so. */
MUST_USE enum err file_write(
    const char *path, const void *p, size_t len, mode_t mode);

/* Puts a file in the place of another at once. */
MUST_USE enum err file_replace(struct arena *a, const char *path, const void *p,
    size_t len, mode_t mode);

#endif
