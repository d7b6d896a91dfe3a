/*
 * Mail to a server by SMTP (RFC 5321), through libcurl.
 *
 * TLS: smtps:// has it from the start, smtp:// by STARTTLS. COSTER_MAIL_TLS
 * says whether that is tried, in which case any certificate is better than
 * none, or required, with one that is good. A password that leaves this host
 * requires it.
 */
#include "handlers/email/transport.h"

#include <arpa/inet.h>
#include <regex.h>

#include "shared/clock.h"
#include "shared/curl.h"
#include "shared/file.h"
#include "shared/log.h"
#include "shared/text.h"

#define CONNECT_TIMEOUT_MS 10000L
#define TIMEOUT_MS 25000L /* of a mail; a stop waits as long, and is given 30 s */
#define ANSWER_TIMEOUT 30L /* seconds; of QUIT, which has no other bound */
#define IDLE_US (5 * INT64_C(1000000))
#define PORT_MAX 65535

/* Codes of RFC 5321, 4954 and 1870. */
#define REPLY_ERROR 400
#define REPLY_PERMANENT 500
#define REPLY_BAD_NAME 504 /* of ours, in EHLO */
#define REPLY_SIGN_IN_FIRST 530
#define REPLY_TOO_LARGE 552

struct smtp {
	const struct email_settings *settings;
	char *password; /* NULL: none is needed */
	bool strict;	/* TLS, with a good certificate, is required */
	CURL *curl;	/* with its connection; NULL while idle */
	int64_t used_us;
	const char *next; /* of the mail to send */
	size_t left;
	bool begun; /* the server has begun to take the mail */
	char answer[512]; /* its last refusal */
	char error[CURL_ERROR_SIZE]; /* and libcurl's */
};

/* Hands libcurl the next piece of the mail. */
static size_t
give(char *to, size_t size, size_t n, void *from)
{
	struct smtp *s = from;
	size_t len = size * n < s->left ? size * n : s->left;

	memcpy(to, s->next, len);
	s->next += len;
	s->left -= len;
	s->begun = true;
	return len;
}

/* Takes a line of what the server says. */
static size_t
hear(char *line, size_t size, size_t n, void *to)
{
	struct smtp *s = to;
	size_t len = size * n, i;

	if (len == 0 || (line[0] != '4' && line[0] != '5'))
		return len;
	for (i = 0; i < len && i < sizeof(s->answer) - 1; i++) {
		if (line[i] == '\r' || line[i] == '\n')
			break;
		s->answer[i] = line[i] >= ' ' && line[i] <= '~' ? line[i] : '?';
	}
	s->answer[i] = '\0';
	return len;
}

static bool
is_here(const char *host)
{
	struct in_addr address;

	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0
	    || (inet_pton(AF_INET, host, &address) == 1
		&& ntohl(address.s_addr) >> 24 == 127);
}

/* Of a URL that names a host and at most a port, and as its path the name that is said
 * in EHLO; NULL for any other. libcurl, which knows, too, is not loaded before there is
 * mail. The caller frees. */
static char *
host_of(const char *url)
{
	regmatch_t at[4];
	regex_t pattern;
	char *host = NULL;
	int64_t port = 0;

	if (regcomp(&pattern,
		"^smtps?://([A-Za-z0-9._-]+|\\[[0-9A-Za-z:.%]+\\])"
		"(:([0-9]{1,5}))?(/[A-Za-z0-9.-]*)?$",
		REG_EXTENDED)
	    != 0)
		abort();
	if (regexec(&pattern, url, ARRAY_LEN(at), at, 0) == 0
	    && (at[3].rm_so < 0
		|| (text_to_int(url + at[3].rm_so,
			(size_t)(at[3].rm_eo - at[3].rm_so), &port)
		    && port <= PORT_MAX)))
		host = strndup(url + at[1].rm_so,
		    (size_t)(at[1].rm_eo - at[1].rm_so));
	regfree(&pattern);
	return host;
}

static enum err
read_password(struct smtp *s)
{
	struct arena a;
	char *text;
	size_t len;

	if (*s->settings->user == '\0')
		return OK;
	if (*s->settings->password_file == '\0')
		return bad_setting("COSTER_MAIL_PASSWORD_FILE",
		    "needed with COSTER_MAIL_USER");
	arena_init(&a);
	text = file_read(&a, s->settings->password_file, &len);
	if (text != NULL && (len = strcspn(text, "\r\n")) > 0)
		s->password = strndup(text, len);
	arena_release(&a);
	if (s->password != NULL)
		return OK;
	LOG(LOG_ERROR, "no password for the mail server",
	    LOG_TEXT("path", s->settings->password_file),
	    LOG_TEXT("setting", "COSTER_MAIL_PASSWORD_FILE"));
	return ERR_NOT_FOUND;
}

static void
open_curl(struct smtp *s)
{
	CURL *c;

	curl_load();
	if ((c = s->curl = curl.easy_init()) == NULL)
		abort();
	curl.easy_setopt(c, CURLOPT_URL, s->settings->url);
	curl.easy_setopt(c, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl.easy_setopt(c, CURLOPT_PROXY, "");
	curl.easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl.easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl.easy_setopt(c, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	curl.easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, ANSWER_TIMEOUT);
	curl.easy_setopt(c, CURLOPT_USE_SSL,
	    (long)(s->strict ? CURLUSESSL_ALL : CURLUSESSL_TRY));
	curl.easy_setopt(c, CURLOPT_SSL_VERIFYPEER, s->strict ? 1L : 0L);
	curl.easy_setopt(c, CURLOPT_SSL_VERIFYHOST, s->strict ? 2L : 0L);
	curl.easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl.easy_setopt(c, CURLOPT_READFUNCTION, give);
	curl.easy_setopt(c, CURLOPT_READDATA, s);
	curl.easy_setopt(c, CURLOPT_HEADERFUNCTION, hear);
	curl.easy_setopt(c, CURLOPT_HEADERDATA, s);
	curl.easy_setopt(c, CURLOPT_ERRORBUFFER, s->error);
	if (s->password != NULL) {
		curl.easy_setopt(c, CURLOPT_USERNAME, s->settings->user);
		curl.easy_setopt(c, CURLOPT_PASSWORD, s->password);
	}
}

static void
hang_up(struct smtp *s)
{
	if (s->curl != NULL)
		curl.easy_cleanup(s->curl); /* says QUIT */
	s->curl = NULL;
}

static void
smtp_idle(void *self)
{
	struct smtp *s = self;

	if (s->curl != NULL && clock_mono_us() - s->used_us >= IDLE_US)
		hang_up(s);
}

static void
smtp_close(void *self)
{
	struct smtp *s = self;

	hang_up(s);
	free(s->password);
	free(s);
}

static enum err
smtp_open(void **self, const struct email_settings *settings)
{
	char *host = host_of(settings->url);
	struct smtp *s = calloc(1, sizeof(*s));
	enum err err;

	if (s == NULL)
		abort();
	s->settings = settings;
	s->strict = strncmp(settings->url, "smtps:", 6) == 0
	    || strcmp(settings->tls, "require") == 0
	    || (*settings->user != '\0' && host != NULL && !is_here(host));
	err = host != NULL ? read_password(s)
			   : bad_setting("COSTER_MAIL_URL",
				 "expected smtp://HOST:PORT/NAME or smtps://...");
	free(host);
	if (err)
		smtp_close(s);
	else
		*self = s;
	return err;
}

/* That we are not let send at all, or from this address. */
static bool
is_about_us(const struct smtp *s, long status)
{
	return status == REPLY_SIGN_IN_FIRST
	    || (strncmp(s->error, "MAIL", 4) == 0 && status != REPLY_TOO_LARGE);
}

/* Not that there is no such mailbox (RFC 3463 section 3.2), but that we may not write to
 * it (section 3.8), or not by way of this server. */
static bool
is_policy(const struct smtp *s, long status)
{
	const char *code = strlen(s->answer) > 4 ? s->answer + 4 : "";

	return !s->begun && strncmp(code, "5.1.", 4) != 0
	    && (status == REPLY_BAD_NAME || strncmp(code, "5.7.", 4) == 0
		|| strcasestr(code, "relay") != NULL);
}

/* A refusal is about this mail when the server had come to it. An administrator can
 * mend what is about our settings. */
static enum verdict
judge(const struct smtp *s, CURLcode code, long status)
{
	if (code == CURLE_OK)
		return VERDICT_ACCEPTED;
	if (status < REPLY_ERROR || is_about_us(s, status)
	    || (code != CURLE_SEND_ERROR && !s->begun))
		return VERDICT_UNREACHABLE;
	return status < REPLY_PERMANENT || is_policy(s, status) ? VERDICT_LATER
								: VERDICT_NEVER;
}

static enum verdict
smtp_send(void *self, struct arena *a, const struct envelope *mail,
    const char **answer)
{
	struct smtp *s = self;
	struct curl_slist *to;
	long status = 0;
	CURLcode code;

	if (s->curl == NULL)
		open_curl(s);
	to = curl.slist_append(NULL, mail->to);
	if (to == NULL)
		abort();
	s->next = mail->bytes;
	s->left = mail->len;
	s->begun = false;
	s->answer[0] = s->error[0] = '\0';
	curl.easy_setopt(s->curl, CURLOPT_MAIL_FROM, mail->from);
	curl.easy_setopt(s->curl, CURLOPT_MAIL_RCPT, to);
	curl.easy_setopt(
	    s->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)mail->len);
	code = curl.easy_perform(s->curl);
	curl.easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	curl.easy_setopt(s->curl, CURLOPT_MAIL_RCPT, NULL);
	curl.slist_free_all(to);
	s->used_us = clock_mono_us();
	*answer = arena_strdup(a,
	    s->answer[0] != '\0' ? s->answer : curl.easy_strerror(code));
	return judge(s, code, status);
}

const struct transport_kind transport_smtp
    = { smtp_open, smtp_send, smtp_idle, smtp_close };
