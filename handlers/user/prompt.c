/*
 * A line of standard input that is secret: where a person types it, it is asked for,
 * and not shown.
 */
#include "handlers/user/user.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

/* What ends the program while it waits. */
static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };

static struct termios shown;

/* What was typed goes too: the shell would read and show it. */
static void
show_again(void)
{
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
}

static void
show_and_end(int sig)
{
	show_again();
	raise(sig); /* SA_RESETHAND: now it ends the program */
}

static void
hide(void)
{
	struct sigaction end
	    = { .sa_handler = show_and_end, .sa_flags = (int)SA_RESETHAND };
	struct termios hidden = shown;

	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		sigaction(ends[i], &end, NULL);
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	hidden.c_lflag |= ECHONL;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
}

static const char *
first_line(struct arena *a)
{
	char line[1024]; /* more than the longest password */

	if (fgets(line, sizeof(line), stdin) == NULL)
		*line = '\0';
	return arena_strndup(a, line, strcspn(line, "\r\n"));
}

const char *
secret_line(struct arena *a, const char *prompt)
{
	const char *line;
	sigset_t stop, old;

	if (tcgetattr(fileno(stdin), &shown) != 0)
		return first_line(a); /* no terminal */
	/* Stopped in between, it would go on with what is typed being shown. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	sigprocmask(SIG_BLOCK, &stop, &old);
	hide();
	fprintf(stderr, "%s: ", prompt);
	line = first_line(a);
	show_again();
	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		signal(ends[i], SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return line;
}
