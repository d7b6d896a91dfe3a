/*
 * A mail server (RFC 5321) that takes every mail and keeps none: to the shop it
 * is a relay on another host, which costs this one nothing but the talk. The
 * listening socket is standard input.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool
say(FILE *f, const char *line)
{
	return send(fileno(f), line, strlen(line), MSG_NOSIGNAL) > 0;
}

static bool
is(const char *line, const char *command)
{
	return strncasecmp(line, command, strlen(command)) == 0;
}

static void *
talk(void *connection)
{
	FILE *f = connection;
	bool goes_on = say(f, "220 sink\r\n");
	char line[1024];

	while (goes_on && fgets(line, sizeof(line), f) != NULL)
		if (is(line, "DATA")) {
			goes_on = say(f, "354 go on\r\n");
			while (goes_on && strcmp(line, ".\r\n") != 0)
				goes_on = fgets(line, sizeof(line), f) != NULL;
			goes_on = goes_on && say(f, "250 taken\r\n");
		} else {
			goes_on = say(f, is(line, "QUIT") ? "221 bye\r\n"
							  : "250 good\r\n")
			    && !is(line, "QUIT");
		}
	fclose(f);
	return NULL;
}

int
main(void)
{
	pthread_t thread;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if ((fd = accept(STDIN_FILENO, NULL, NULL)) < 0)
			abort();
		if (pthread_create(&thread, NULL, talk, fdopen(fd, "r")) != 0)
			abort();
		pthread_detach(thread);
	}
}
