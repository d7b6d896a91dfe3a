#include "shared/fcgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shared/log.h"
#include "shared/text.h"

/* FastCGI 1.0, section 8. */
enum { VERSION = 1, END_REQUEST = 3, STDOUT = 6, HEADER_SIZE = 8 };

#define RECORD_MAX 65528 /* the most that needs no padding */
#define IOV_MAX_RECORDS 32

/* A request that stops halfway holds up the loop for this long. */
#define RECEIVE_TIMEOUT_S 1
#define SEND_TIMEOUT_S 1
#define STREAM_TIMEOUT_S 30 /* a slow client, on a worker thread */

struct conn {
	FCGX_Request fcgx;
	int fd;
	struct sink sink;
	bool busy, streaming;
};

static void
set_timeout(int fd, int option, int seconds)
{
	struct timeval tv = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

static size_t name_lengths[PARAM__COUNT];

/* Replies that go out piece by piece, each as quick as its client, and how many may. */
static _Atomic int streams;
static int streams_max;

enum err
fcgi_start(int64_t workers)
{
	streams_max = workers > 1 ? (int)workers / 2 : 1;
	for (size_t i = 0; i < PARAM__COUNT; i++)
		name_lengths[i] = strlen(param_names[i]);
	return FCGX_Init() == 0 ? OK : ERR_INTERNAL;
}

int
conn_fd(const struct conn *c)
{
	return c->fd;
}

bool
conn_is_busy(const struct conn *c)
{
	return c->busy;
}

/* The records of one write, gathered. */
struct gather {
	struct iovec iov[2 * IOV_MAX_RECORDS + 2];
	unsigned char headers[IOV_MAX_RECORDS][HEADER_SIZE];
	unsigned char end[HEADER_SIZE + 8];
	int iovs, records;
};

static void
put_header(unsigned char h[HEADER_SIZE], int type, int id, size_t len)
{
	h[0] = VERSION;
	h[1] = (unsigned char)type;
	h[2] = (unsigned char)(id >> 8);
	h[3] = (unsigned char)id;
	h[4] = (unsigned char)(len >> 8);
	h[5] = (unsigned char)len;
	h[6] = h[7] = 0;
}

static bool
send_all(int fd, struct gather *g)
{
	struct msghdr msg = { .msg_iov = g->iov, .msg_iovlen = (size_t)g->iovs };

	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		while (msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base
			    = (char *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	g->iovs = g->records = 0;
	return true;
}

static bool
put_stdout(struct conn *c, struct gather *g, const char *p, size_t len)
{
	while (len > 0) {
		size_t n = len < RECORD_MAX ? len : RECORD_MAX;
		unsigned char *h;

		if (g->records == IOV_MAX_RECORDS && !send_all(c->fd, g))
			return false;
		h = g->headers[g->records++];
		put_header(h, STDOUT, c->fcgx.requestId, n);
		g->iov[g->iovs++] = (struct iovec) { h, HEADER_SIZE };
		g->iov[g->iovs++] = (struct iovec) { (void *)(uintptr_t)p, n };
		p += n;
		len -= n;
	}
	return true;
}

/* Section 5.5. Before it, a stream that was used ends with an empty record,
 * which nginx does not ask for and section 3.3 wants. */
static void
put_end(struct conn *c, struct gather *g)
{
	put_header(g->end, END_REQUEST, c->fcgx.requestId, 8);
	memset(g->end + HEADER_SIZE, 0, 8);
	g->iov[g->iovs++] = (struct iovec) { g->end, sizeof(g->end) };
}

static struct conn *
conn_of(struct sink *sink)
{
	return (struct conn *)((char *)sink - offsetof(struct conn, sink));
}

static bool
begin_stream(struct sink *sink)
{
	struct conn *c = conn_of(sink);

	if (++streams > streams_max) {
		streams--;
		return false;
	}
	c->streaming = true;
	set_timeout(c->fd, SO_SNDTIMEO, STREAM_TIMEOUT_S);
	return true;
}

static bool
stream(struct sink *sink, const char *p, size_t len)
{
	struct conn *c = conn_of(sink);
	struct gather g = { .iovs = 0 };

	return put_stdout(c, &g, p, len) && send_all(c->fd, &g);
}

struct conn *
conn_new(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		abort();
	set_timeout(fd, SO_RCVTIMEO, RECEIVE_TIMEOUT_S);
	set_timeout(fd, SO_SNDTIMEO, SEND_TIMEOUT_S);
	/* A listening socket of -1: FCGX_Accept_r may use this connection and
	 * no other, and closes it first unless it is to be kept. */
	FCGX_InitRequest(&c->fcgx, -1, FCGI_FAIL_ACCEPT_ON_INTR);
	c->fd = c->fcgx.ipcFd = fd;
	c->fcgx.keepConnection = 1;
	c->fcgx.detached = 1;
	c->sink = (struct sink) { begin_stream, stream };
	return c;
}

void
conn_free(struct conn *c)
{
	FCGX_Free(&c->fcgx, 0);
	/* libfcgi closes a connection by itself when a request fails. */
	if (c->fcgx.ipcFd >= 0)
		close(c->fd);
	free(c);
}

/* libfcgi's list begins with FCGI_ROLE; the rest comes in the order of
 * enum param, so looking on from the last hit finds the next soon. */
static void
read_params(struct req *r, char **envp, struct arena *a)
{
	size_t next = 0;

	for (; *envp != NULL; envp++)
		for (size_t tries = 0; tries < PARAM__COUNT; tries++) {
			size_t i = (next + tries) % PARAM__COUNT;
			size_t len = name_lengths[i];

			if (strncmp(*envp, param_names[i], len) != 0
			    || (*envp)[len] != '=')
				continue;
			r->param[i] = arena_strdup(a, *envp + len + 1);
			next = i + 1;
			break;
		}
}

/* Reads the body to its end whatever its length, else the rest would be taken
 * for the next request. */
static bool
read_body(struct conn *c, struct req *r, struct arena *a)
{
	const char *text = r->param[PARAM_CONTENT_LENGTH];
	size_t size = 0, len = 0;
	int64_t announced = 0;
	char rest[4096], *body;
	int n;

	text += strspn(text, "0"); /* RFC 9110 section 8.6 lets them lead */
	if (*text != '\0' && !text_to_int(text, strlen(text), &announced))
		return false;
	r->body_too_large = announced > (int64_t)FCGI_BODY_MAX;
	if (!r->body_too_large)
		size = (size_t)announced;
	body = arena_alloc(a, size + 1);
	while (len < size
	    && (n = FCGX_GetStr(body + len, (int)(size - len), c->fcgx.in)) > 0)
		len += (size_t)n;
	body[len] = '\0';
	r->body = body;
	r->body_len = len;
	while ((n = FCGX_GetStr(rest, sizeof(rest), c->fcgx.in)) > 0)
		if (!r->body_too_large)
			return false; /* more than was announced */
	return FCGX_GetError(c->fcgx.in) == 0
	    && (len == size || r->body_too_large);
}

enum err
conn_read(struct conn *c, struct req *r, struct arena *a)
{
	if (FCGX_Accept_r(&c->fcgx) != 0)
		return ERR_UNAVAILABLE;
	/* It takes parameters that were cut off for all of them. */
	if (FCGX_GetError(c->fcgx.in) != 0)
		return ERR_UNAVAILABLE;
	read_params(r, c->fcgx.envp, a);
	if (!read_body(c, r, a))
		return ERR_UNAVAILABLE;
	/* The next connection's request has the use of its buffers then, which are
	 * in the processor's cache; and nothing is left that writes by itself. */
	FCGX_Free(&c->fcgx, 0);
	r->reply.sink = &c->sink;
	c->busy = true;
	return OK;
}

bool
conn_send(struct conn *c, struct req *r)
{
	struct gather g = { .iovs = 0 };
	struct buf head;
	bool good;

	reply_finish(r, &head);
	good = !r->reply.lost && put_stdout(c, &g, head.data, head.len)
	    && put_stdout(c, &g, r->reply.body.data, r->reply.body.len);
	if (good) {
		put_end(c, &g);
		good = send_all(c->fd, &g);
	}
	if (c->streaming) {
		streams--;
		set_timeout(c->fd, SO_SNDTIMEO, SEND_TIMEOUT_S);
	}
	c->busy = c->streaming = false;
	return good && c->fcgx.keepConnection;
}
