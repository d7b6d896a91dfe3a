#include "shared/journal.h"

#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

/* JOURNAL_STREAM is handed on to children; only what it names counts
 * (systemd.exec(5)). */
bool
journal_reads_stderr(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	// NOLINTNEXTLINE(cert-err34-c): systemd has written it
	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2
	    && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev
	    && st.st_ino == ino;
}

bool
journal_send(const struct iovec *fields, int count)
{
	return sd_journal_sendv(fields, count) == 0;
}
