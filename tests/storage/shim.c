/*
 * A disk, or a memory, that fails: for LD_PRELOAD under the real programs.
 *
 * COSTER_FAULTS is a file of four 32-bit integers that the test and all
 * programs share: what fails, every how many calls, how many calls there were,
 * and how many have failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, FULL = 2, SYNC = 4, MEMORY = 8 };

struct control {
	_Atomic uint32_t what, every, calls, failed;
};

static struct control *control;

/* curl, bash and nginx are started by the same environment, and spared. */
__attribute__((constructor)) static void
start(void)
{
	const char *path = getenv("COSTER_FAULTS");
	void *p;
	int fd;

	if (strncmp(program_invocation_short_name, "coster-", 7) != 0
	    || path == NULL || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
		return;
	p = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	    0);
	close(fd);
	if (p != MAP_FAILED)
		control = p;
}

static int
fails(uint32_t kind)
{
	if (control == NULL || !(control->what & kind)
	    || ++control->calls % control->every != 0)
		return 0;
	control->failed++;
	errno = kind == FULL ? ENOSPC : kind == MEMORY ? ENOMEM : EIO;
	return 1;
}

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	if (fails(WRITE) || fails(FULL))
		return -1;
	return syscall(SYS_pwrite64, fd, p, n, at);
}

int
ftruncate64(int fd, off64_t len)
{
	if (fails(WRITE) || fails(FULL))
		return -1;
	return (int)syscall(SYS_ftruncate, fd, len);
}

int
fdatasync(int fd)
{
	return fails(SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	return fails(SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

/* glibc's own, under the names that it keeps for this. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

void *
malloc(size_t n)
{
	return fails(MEMORY) ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return fails(MEMORY) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return fails(MEMORY) ? NULL : __libc_realloc(p, n);
}
