#include "tests/faults.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

_Atomic int fault_syncs, fault_sync_us;
_Atomic bool fault_full, fault_sync;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool holding, waiting;

void
fault_hold_syncs(void)
{
	pthread_mutex_lock(&lock);
	holding = true;
	waiting = false;
	pthread_mutex_unlock(&lock);
}

void
fault_wait_for_sync(void)
{
	pthread_mutex_lock(&lock);
	while (!waiting)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

void
fault_release_syncs(void)
{
	pthread_mutex_lock(&lock);
	holding = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Of fdatasync() and fsync() alike. */
static int
sync_by(long call, int fd)
{
	fault_syncs++;
	if (fault_sync_us > 0)
		usleep((useconds_t)fault_sync_us);
	pthread_mutex_lock(&lock);
	while (holding) {
		waiting = true;
		pthread_cond_broadcast(&changed);
		pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	if (!fault_sync)
		return (int)syscall(call, fd);
	errno = EIO;
	return -1;
}

int
fdatasync(int fd)
{
	return sync_by(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	return sync_by(SYS_fsync, fd);
}

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	if (fault_full) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, p, n, at);
}
