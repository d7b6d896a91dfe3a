/*
 * Mail to a server by SMTP (RFC 5321), through libcurl.
 *
 * TLS: smtps:// has it from the start, smtp:// by STARTTLS. COSTER_MAIL_TLS
 * says whether that is tried, in which case any certificate is better than
 * none, or required, with one that is good. A password that leaves this host
 * requires it.
 */
#include "handlers/email/transport.h"

#include "shared/clock.h"
#include "shared/curl.h"
#include "shared/file.h"
#include "shared/log.h"

#define CONNECT_TIMEOUT_MS 10000L
#define TIMEOUT_MS 30000L /* of a mail; also bounds how long a stop waits */
#define ANSWER_TIMEOUT 30L /* seconds; of QUIT, which has no other bound */
#define IDLE_US (5 * INT64_C(1000000))

/* Codes of RFC 5321 and 4954. */
#define REPLY_ERROR 400
#define REPLY_PERMANENT 500
#define REPLY_SIGN_IN_FIRST 530

struct smtp {
	CURL *settings; /* never connects; what connects is a copy */
	CURL *live;	/* with its connection; NULL while idle */
	int64_t used_us;
	const char *next; /* of the mail to send */
	size_t left;
	bool begun; /* the server has begun to take the mail */
	char answer[512]; /* its last refusal */
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
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0
	    || strncmp(host, "127.", 4) == 0;
}

/* The URL names a host and at most a port; *here when that is this one. */
static enum err
check_url(const char *text, bool *here)
{
	CURLU *url = curl.url();
	char *host = NULL, *path = NULL, *none = NULL;
	bool good;

	good = url != NULL
	    && curl.url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK
	    && curl.url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK
	    && curl.url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK
	    && strcmp(path, "/") == 0
	    && curl.url_get(url, CURLUPART_USER, &none, 0) == CURLUE_NO_USER
	    && curl.url_get(url, CURLUPART_QUERY, &none, 0) == CURLUE_NO_QUERY;
	*here = good && is_here(host);
	curl.free(host);
	curl.free(path);
	curl.free(none);
	curl.url_cleanup(url);
	return good ? OK
		    : bad_setting("COSTER_MAIL_URL",
			"expected smtp://HOST:PORT or smtps://HOST:PORT");
}

static enum err
set_login(CURL *c, const struct email_settings *s)
{
	struct arena a;
	char *text;
	size_t len;
	enum err err = OK;

	if (*s->user == '\0')
		return OK;
	if (*s->password_file == '\0')
		return bad_setting("COSTER_MAIL_PASSWORD_FILE",
		    "needed with COSTER_MAIL_USER");
	arena_init(&a);
	text = file_read(&a, s->password_file, &len);
	if (text != NULL && (len = strcspn(text, "\r\n")) > 0) {
		text[len] = '\0';
		curl.easy_setopt(c, CURLOPT_USERNAME, s->user);
		curl.easy_setopt(c, CURLOPT_PASSWORD, text);
	} else {
		LOG(LOG_ERROR, "no password for the mail server",
		    LOG_TEXT("path", s->password_file),
		    LOG_TEXT("setting", "COSTER_MAIL_PASSWORD_FILE"));
		err = ERR_NOT_FOUND;
	}
	arena_release(&a);
	return err;
}

static void
set_options(CURL *c, struct smtp *s, const char *url, bool strict)
{
	curl.easy_setopt(c, CURLOPT_URL, url);
	curl.easy_setopt(c, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl.easy_setopt(c, CURLOPT_PROXY, "");
	curl.easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl.easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl.easy_setopt(c, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	curl.easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, ANSWER_TIMEOUT);
	curl.easy_setopt(c, CURLOPT_USE_SSL,
	    (long)(strict ? CURLUSESSL_ALL : CURLUSESSL_TRY));
	curl.easy_setopt(c, CURLOPT_SSL_VERIFYPEER, strict ? 1L : 0L);
	curl.easy_setopt(c, CURLOPT_SSL_VERIFYHOST, strict ? 2L : 0L);
	curl.easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl.easy_setopt(c, CURLOPT_READFUNCTION, give);
	curl.easy_setopt(c, CURLOPT_READDATA, s);
	curl.easy_setopt(c, CURLOPT_HEADERFUNCTION, hear);
	curl.easy_setopt(c, CURLOPT_HEADERDATA, s);
}

static void
smtp_idle(void *self)
{
	struct smtp *s = self;

	if (s->live == NULL || clock_mono_us() - s->used_us < IDLE_US)
		return;
	curl.easy_cleanup(s->live); /* says QUIT */
	s->live = NULL;
}

static void
smtp_close(void *self)
{
	struct smtp *s = self;

	curl.easy_cleanup(s->live);
	curl.easy_cleanup(s->settings);
	free(s);
}

static enum err
smtp_open(void **self, const struct email_settings *settings)
{
	bool here, strict;
	struct smtp *s;
	enum err err;

	curl_load();
	if ((err = check_url(settings->url, &here)))
		return err;
	strict = strncmp(settings->url, "smtps:", 6) == 0
	    || strcmp(settings->tls, "require") == 0
	    || (*settings->user != '\0' && !here);
	if ((s = calloc(1, sizeof(*s))) == NULL
	    || (s->settings = curl.easy_init()) == NULL)
		abort();
	set_options(s->settings, s, settings->url, strict);
	if ((err = set_login(s->settings, settings))) {
		smtp_close(s);
		return err;
	}
	*self = s;
	return OK;
}

/* A refusal is about this mail when the server had come to it; one to sign in
 * first is about our settings. */
static enum verdict
judge(const struct smtp *s, CURLcode code, long status)
{
	if (code == CURLE_OK)
		return VERDICT_ACCEPTED;
	if (status < REPLY_ERROR || status == REPLY_SIGN_IN_FIRST
	    || (code != CURLE_SEND_ERROR && !s->begun))
		return VERDICT_UNREACHABLE;
	return status >= REPLY_PERMANENT ? VERDICT_NEVER : VERDICT_LATER;
}

static enum verdict
smtp_send(void *self, struct arena *a, const struct envelope *mail,
    const char **answer)
{
	struct smtp *s = self;
	struct curl_slist *to = curl.slist_append(NULL, mail->to);
	long status = 0;
	CURLcode code;

	if (s->live == NULL)
		s->live = curl.easy_duphandle(s->settings);
	if (to == NULL || s->live == NULL)
		abort();
	s->next = mail->bytes;
	s->left = mail->len;
	s->begun = false;
	s->answer[0] = '\0';
	curl.easy_setopt(s->live, CURLOPT_MAIL_FROM, mail->from);
	curl.easy_setopt(s->live, CURLOPT_MAIL_RCPT, to);
	curl.easy_setopt(
	    s->live, CURLOPT_INFILESIZE_LARGE, (curl_off_t)mail->len);
	code = curl.easy_perform(s->live);
	curl.easy_getinfo(s->live, CURLINFO_RESPONSE_CODE, &status);
	curl.easy_setopt(s->live, CURLOPT_MAIL_RCPT, NULL);
	curl.slist_free_all(to);
	s->used_us = clock_mono_us();
	*answer = arena_strdup(a,
	    s->answer[0] != '\0' ? s->answer : curl.easy_strerror(code));
	return judge(s, code, status);
}

const struct transport_kind transport_smtp
    = { smtp_open, smtp_send, smtp_idle, smtp_close };
