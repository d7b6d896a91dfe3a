/*
 * A disk whose every fsync takes 2 ms more, as an ordinary one's does: for
 * LD_PRELOAD under the services. What else is started by the same environment
 * is spared.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void
delay(void)
{
	struct timespec ms2 = { .tv_nsec = 2000000 };

	if (strncmp(program_invocation_short_name, "coster-", 7) == 0)
		nanosleep(&ms2, NULL);
}

int
fdatasync(int fd)
{
	delay();
	return (int)syscall(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	delay();
	return (int)syscall(SYS_fsync, fd);
}
