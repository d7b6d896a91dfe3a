#include "shared/crash.h"

#ifdef CRASH_POINTS

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

extern struct crash_point __start_coster_crash[] __attribute__((weak));
extern struct crash_point __stop_coster_crash[] __attribute__((weak));

#define WANTED_SIZE 64

/* The file of this program, if COSTER_CRASH_POINT is a folder. */
static bool
find_file(const char *setting, char *path, size_t size)
{
	return setting[0] == '/'
	    && snprintf(path, size, "%s/%s", setting,
		   program_invocation_short_name)
	    < (int)size;
}

static void
read_file(const char *path, char wanted[WANTED_SIZE])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, wanted, WANTED_SIZE - 1) : 0;

	if (fd >= 0)
		close(fd);
	wanted[n > 0 ? n : 0] = '\0';
	wanted[strcspn(wanted, "\n")] = '\0';
}

static bool
is_time(struct crash_point *point, const char *wanted)
{
	size_t len = strlen(point->name);
	long passes = 1;

	if (strncmp(wanted, point->name, len) != 0
	    || (wanted[len] != '\0' && wanted[len] != ':'))
		return false;
	if (wanted[len] == ':')
		passes = strtol(wanted + len + 1, NULL, 10);
	return ++point->passes == passes;
}

void
crash_here(struct crash_point *point)
{
	const char *setting = getenv("COSTER_CRASH_POINT");
	char path[256], wanted[WANTED_SIZE];
	bool in_file;

	if (setting == NULL)
		return;
	in_file = find_file(setting, path, sizeof(path));
	if (in_file)
		read_file(path, wanted);
	else
		snprintf(wanted, sizeof(wanted), "%s", setting);
	/* Of several that come here at once, one removes it. */
	if (is_time(point, wanted) && (!in_file || unlink(path) == 0))
		kill(getpid(), SIGKILL);
}

static int
list(struct ctx *ctx, int argc, char **argv)
{
	(void)ctx, (void)argc, (void)argv;
	for (struct crash_point *p = __start_coster_crash;
	     p < __stop_coster_crash; p++)
		printf("%s\n", p->name);
	return EX_OK;
}

static const struct command commands[] = {
	{ "crash-points", "", "list where COSTER_CRASH_POINT may kill it", list,
	    COMMAND_ALONE },
};
const struct command_table crash_commands = COMMANDS(commands);

#else
const struct command_table crash_commands = { NULL, 0 };
#endif
