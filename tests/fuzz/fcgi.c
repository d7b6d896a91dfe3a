/* The front: what arrives on a connection, read as requests and answered until
 * it breaks. */
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "shared/fcgi.h"
#include "shared/problem.h"

#define INPUT_MAX ((size_t)64 * 1024) /* a socket takes that without waiting */

void
fuzz_start(void)
{
	assert(fcgi_start(4) == OK);
}

static void
check_request(const struct req *r)
{
	assert(r->body_len <= FCGI_BODY_MAX && r->body[r->body_len] == '\0');
	for (size_t i = 0; i < PARAM__COUNT; i++)
		assert(r->param[i] != NULL);
	/* Whole, so that AddressSanitizer looks at all of them. */
	for (size_t i = 0; i < PARAM__COUNT; i++)
		assert(strlen(r->param[i]) <= INPUT_MAX);
}

/* Replies are records of ours and nothing else. */
static void
drain(int fd)
{
	unsigned char reply[4096];
	ssize_t n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT);

	assert(n < 8 || (reply[0] == 1 && reply[1] >= 3 && reply[1] <= 11));
	while (n > 0)
		n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT);
}

void
fuzz_one(char *text, size_t len)
{
	struct conn *c;
	struct req r;
	int fd[2];

	if (len > INPUT_MAX
	    || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
		return;
	assert(send(fd[0], text, len, MSG_NOSIGNAL) == (ssize_t)len);
	shutdown(fd[0], SHUT_WR);
	c = conn_new(fd[1]);
	for (;;) {
		bool good;

		req_init(&r, fuzz_ctx);
		if (conn_read(c, &r, r.arena))
			break;
		check_request(&r);
		problem_reply(&r, ERR_NOT_FOUND);
		good = conn_send(c, &r);
		drain(fd[0]);
		if (!good)
			break;
	}
	conn_free(c);
	close(fd[0]);
}
