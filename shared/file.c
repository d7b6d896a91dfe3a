#include "shared/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "shared/log.h"

char *
file_read(struct arena *a, const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	off_t size;

	if (fd < 0)
		return NULL;
	size = lseek(fd, 0, SEEK_END);
	if (size >= 0 && size <= FILE_SIZE_MAX) {
		text = arena_alloc(a, (size_t)size + 1);
		text[size] = '\0';
		*len = (size_t)size;
		if (pread(fd, text, *len, 0) != size)
			text = NULL;
	}
	close(fd);
	return text;
}

enum err
file_write(const char *path, const void *p, size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	bool exists = fd < 0 && errno == EEXIST;

	if (fd >= 0 && write(fd, p, len) == (ssize_t)len && fsync(fd) == 0) {
		close(fd);
		return OK;
	}
	LOG(LOG_ERROR, "cannot write", LOG_TEXT("path", path),
	    LOG_TEXT("reason", strerror(errno)));
	if (fd >= 0) {
		close(fd);
		unlink(path); /* or half of it would stand in the way */
	}
	return exists ? ERR_CONFLICT : ERR_UNAVAILABLE;
}

enum err
file_replace(struct arena *a, const char *path, const void *p, size_t len,
    mode_t mode)
{
	const char *temporary = arena_printf(a, "%s.%d", path, (int)getpid());
	enum err err;

	if ((err = file_write(temporary, p, len, mode)))
		return err;
	if (rename(temporary, path) == 0)
		return OK;
	LOG(LOG_ERROR, "cannot replace", LOG_TEXT("path", path),
	    LOG_TEXT("reason", strerror(errno)));
	unlink(temporary);
	return ERR_UNAVAILABLE;
}
