/*
 * Mail into a Maildir: a file a message, written in tmp/ and moved into new/
 * when it is whole and on disk. For trying things out, and for hosts where
 * another program sends what it finds there.
 */
#include "handlers/email/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/file.h"

struct maildir {
	char *path;
	char host[65];
	unsigned sent; /* by this process */
};

static enum err
make_folders(const char *path)
{
	static const char *const folders[] = { "", "/tmp", "/new", "/cur" };
	char folder[512];
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int n = snprintf(
		    folder, sizeof(folder), "%s%s", path, folders[i]);

		if (n >= (int)sizeof(folder))
			return bad_setting(
			    "COSTER_MAIL_URL", "the folder's name is too long");
		if ((mkdir(folder, 0700) == 0 || errno == EEXIST)
		    && stat(folder, &st) == 0 && S_ISDIR(st.st_mode)
		    && access(folder, W_OK | X_OK) == 0)
			continue;
		return bad_setting("COSTER_MAIL_URL",
		    "the Maildir cannot be made or written to");
	}
	return OK;
}

static enum err
maildir_open(void **self, const struct email_settings *s)
{
	const char *path = s->url + strlen("maildir:");
	struct maildir *d;
	enum err err;

	if (*path != '/')
		return bad_setting(
		    "COSTER_MAIL_URL", "expected maildir:/a/folder");
	if ((err = make_folders(path)))
		return err;
	if ((d = calloc(1, sizeof(*d))) == NULL
	    || (d->path = strdup(path)) == NULL)
		abort();
	if (gethostname(d->host, sizeof(d->host) - 1) != 0)
		snprintf(d->host, sizeof(d->host), "localhost");
	*self = d;
	return OK;
}

static bool
sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool good = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return good;
}

static enum verdict
maildir_send(void *self, struct arena *a, const struct envelope *mail,
    const char **answer)
{
	struct maildir *d = self;
	int64_t us = clock_mono_us();
	const char *name = arena_printf(a, "%lld.M%lldP%dQ%u.%s",
	    (long long)(clock_ms() / 1000), (long long)us, (int)getpid(),
	    d->sent++, d->host);
	const char *tmp = arena_printf(a, "%s/tmp/%s", d->path, name);
	const char *folder = arena_printf(a, "%s/new", d->path);

	if (file_write(tmp, mail->bytes, mail->len, 0600) == OK
	    && rename(tmp, arena_printf(a, "%s/%s", folder, name)) == 0
	    && sync_folder(folder))
		return VERDICT_ACCEPTED;
	*answer = arena_printf(
	    a, "cannot write to the Maildir: %s", strerror(errno));
	unlink(tmp);
	return VERDICT_UNREACHABLE;
}

static void
maildir_idle(void *self)
{
	(void)self;
}

static void
maildir_close(void *self)
{
	struct maildir *d = self;

	free(d->path);
	free(d);
}

const struct transport_kind transport_maildir
    = { maildir_open, maildir_send, maildir_idle, maildir_close };
