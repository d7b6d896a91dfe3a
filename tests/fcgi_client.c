#include "tests/fcgi_client.h"

#include <fastcgi.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define KEY "0123456789abcdef0123456789abcdef" /* as the loopback's */

int
fcgi_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	return fd;
}

static void
record(struct buf *b, int type, const char *p, size_t len)
{
	unsigned char h[8] = { FCGI_VERSION_1, (unsigned char)type, 0, 1,
		(unsigned char)(len >> 8), (unsigned char)len, 0, 0 };

	buf_add(b, h, sizeof(h));
	buf_add(b, p, len);
}

static void
param(struct buf *b, const char *name, const char *value)
{
	size_t n = strlen(value);

	buf_addc(b, (char)strlen(name));
	if (n < 128)
		buf_addc(b, (char)n);
	else
		buf_add(b,
		    (char[]) { (char)(0x80 | n >> 24), (char)(n >> 16),
			(char)(n >> 8), (char)n },
		    4);
	buf_adds(b, name);
	buf_adds(b, value);
}

struct buf
fcgi_bytes(struct arena *a, const struct fcgi_request *r)
{
	unsigned char begin[8] = { 0, FCGI_RESPONDER, r->keep ? 1 : 0 };
	size_t len = r->body_len > 0 ? r->body_len
	    : r->body != NULL	     ? strlen(r->body)
				     : 0;
	struct buf b, params;

	buf_init(&b, a);
	buf_init(&params, a);
	record(&b, FCGI_BEGIN_REQUEST, (char *)begin, sizeof(begin));
	param(&params, "COSTER_KEY", KEY);
	param(&params, "COSTER_PEER", "public");
	param(&params, "COSTER_NETWORK", "internal");
	param(&params, "REQUEST_METHOD", r->method);
	param(&params, "PATH_INFO", r->path);
	param(&params, "QUERY_STRING", "");
	param(&params, "CONTENT_TYPE", len > 0 ? "application/json" : "");
	param(&params, "CONTENT_LENGTH",
	    r->announce != NULL ? r->announce : arena_printf(a, "%zu", len));
	param(&params, "HTTP_X_REQUEST_ID", "test");
	record(&b, FCGI_PARAMS, params.data, params.len);
	record(&b, FCGI_PARAMS, "", 0);
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < 32768 ? len - at : 32768;
		record(&b, FCGI_STDIN, r->body + at, n);
	}
	record(&b, FCGI_STDIN, "", 0);
	return b;
}

int
fcgi_send(int fd, const struct buf *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = send(fd, b->data + at, b->len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return 0;
		at += (size_t)n;
	}
	return 1;
}

static int
receive(int fd, void *p, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = recv(fd, (char *)p + at, len - at, 0);

		if (n <= 0)
			return 0;
		at += (size_t)n;
	}
	return 1;
}

struct fcgi_answer
fcgi_answer(struct arena *a, int fd)
{
	struct fcgi_answer answer = { 0 };
	unsigned char h[8];
	struct buf out;
	char *end;

	buf_init(&out, a);
	for (;;) {
		size_t len;
		char *p;

		if (!receive(fd, h, sizeof(h)))
			return answer;
		len = (size_t)h[4] << 8 | h[5];
		p = arena_alloc(a, len + 256);
		if (!receive(fd, p, len + h[6]))
			return answer;
		if (h[1] == FCGI_END_REQUEST)
			break;
		if (h[1] == FCGI_STDOUT)
			buf_add(&out, p, len);
	}
	end = strstr(out.data, "\r\n\r\n");
	if (end == NULL || strncmp(out.data, "Status: ", 8) != 0)
		return answer;
	answer.status = (int)strtol(out.data + 8, NULL, 10);
	*end = '\0';
	answer.head = out.data;
	answer.body = end + 4;
	return answer;
}

struct fcgi_answer
fcgi_ask(struct arena *a, int fd, const struct fcgi_request *r)
{
	struct buf b = fcgi_bytes(a, r);

	if (!fcgi_send(fd, &b))
		return (struct fcgi_answer) { 0 };
	return fcgi_answer(a, fd);
}
