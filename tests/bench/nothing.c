/*
 * A FastCGI program that does nothing but answer: as fast as any program
 * behind nginx can be. One epoll, one read and one write a request; the
 * listening socket is standard input, as with spawn-fcgi.
 *
 * nginx sends one request at a time on a connection, so a request is over when
 * what was read ends with the empty record that ends a body (FastCGI 1.0,
 * section 5.3).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 128
#define BODY "{}\n"
#define HEAD                                                                   \
	"Status: 200 OK\r\nContent-Type: application/json\r\n"                 \
	"Content-Length: 3\r\n\r\n"

static const unsigned char body_end[8] = { 1, 5, 0, 1, 0, 0, 0, 0 };

/* Section 3.3: a STDOUT record, then END_REQUEST. */
static const struct {
	unsigned char out[8];
	char text[sizeof(HEAD BODY) - 1];
	unsigned char end[16];
} reply = {
	{ 1, 6, 0, 1, 0, sizeof(HEAD BODY) - 1, 0, 0 },
	HEAD BODY,
	{ 1, 3, 0, 1, 0, 8 },
};

static void
watch(int epoll, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
		abort();
}

static void
answer(int fd)
{
	static unsigned char text[65536];
	ssize_t n = read(fd, text, sizeof(text));

	if (n <= 0)
		close(fd);
	else if (n >= 8 && memcmp(text + n - 8, body_end, 8) == 0
	    && send(fd, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply))
		close(fd);
}

int
main(void)
{
	struct epoll_event ready[EVENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC), fd;

	watch(epoll, STDIN_FILENO);
	for (;;) {
		int n = epoll_wait(epoll, ready, EVENTS, -1);

		for (int i = 0; i < n; i++)
			if (ready[i].data.fd != STDIN_FILENO)
				answer(ready[i].data.fd);
			else if ((fd = accept(STDIN_FILENO, NULL, NULL)) >= 0)
				watch(epoll, fd);
	}
}
