#include "tests/storage/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR 512
#define FILES_MAX 4
#define FOLDER (-2) /* the one they are in, as a file */
#define FILE_SIZE_MAX ((size_t)64 * 1024 * 1024)

enum kind { CREATE, WRITE, TRUNCATE, SYNC, UNLINK, ACKNOWLEDGE };

struct op {
	enum kind kind;
	int file;
	size_t at, len; /* of a write; len of a truncation */
	char *bytes;
	long number; /* the last that was acknowledged */
};

static struct {
	char folder[128];
	char files[FILES_MAX][64]; /* names */
	int file_count;
	struct op *ops;
	size_t count, size;
	bool on;
} disk;

void
record_start(const char *folder)
{
	for (size_t i = 0; i < disk.count; i++)
		free(disk.ops[i].bytes);
	disk.count = 0;
	disk.file_count = 0;
	snprintf(disk.folder, sizeof(disk.folder), "%s/", folder);
	disk.on = true;
}

void
record_stop(void)
{
	disk.on = false;
}

static struct op *
add(enum kind kind, int file)
{
	struct op *op;

	if (disk.count == disk.size) {
		disk.size = disk.size * 2 + 1024;
		disk.ops = realloc(disk.ops, disk.size * sizeof(*disk.ops));
		if (disk.ops == NULL)
			abort();
	}
	op = &disk.ops[disk.count];
	*op = (struct op) { .kind = kind, .file = file,
		.number = disk.count > 0 ? op[-1].number : 0 };
	disk.count++;
	return op;
}

/* Which of the files a path is; -1 for one that is not remembered. The shared
 * memory beside a log need not survive. */
static int
file_of(const char *path)
{
	size_t len = strlen(disk.folder);
	const char *name = path + len;

	if (!disk.on || strncmp(path, disk.folder, len) != 0
	    || strstr(name, "-shm") != NULL || *name == '\0')
		return -1;
	for (int i = 0; i < disk.file_count; i++)
		if (strcmp(disk.files[i], name) == 0)
			return i;
	if (disk.file_count == FILES_MAX)
		abort();
	snprintf(disk.files[disk.file_count], sizeof(disk.files[0]), "%s", name);
	return disk.file_count++;
}

static int
file_of_fd(int fd)
{
	char link[32], path[256];
	ssize_t n;

	if (!disk.on)
		return -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (n > 0 && strncmp(disk.folder, path, (size_t)n) == 0)
		return FOLDER;
	return file_of(path);
}

void
record_acknowledge(long n)
{
	add(ACKNOWLEDGE, -1)->number = n;
}

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	int file = file_of_fd(fd);

	if (file >= 0) {
		struct op *op = add(WRITE, file);

		op->at = (size_t)at;
		op->len = n;
		if ((op->bytes = malloc(n)) == NULL)
			abort();
		memcpy(op->bytes, p, n);
	}
	return syscall(SYS_pwrite64, fd, p, n, at);
}

int
ftruncate64(int fd, off64_t len)
{
	int file = file_of_fd(fd);

	if (file >= 0)
		add(TRUNCATE, file)->len = (size_t)len;
	return (int)syscall(SYS_ftruncate, fd, len);
}

/* What is in the folder: that a file was made is not seen otherwise. */
static void
note_files(void)
{
	char path[sizeof(disk.folder) + sizeof(((struct dirent *)0)->d_name)];
	DIR *folder = opendir(disk.folder);
	struct dirent *entry;

	if (folder == NULL)
		abort();
	while ((entry = readdir(folder)) != NULL) {
		snprintf(path, sizeof(path), "%s%s", disk.folder, entry->d_name);
		if (entry->d_type == DT_REG && file_of(path) >= 0)
			add(CREATE, file_of(path));
	}
	closedir(folder);
}

static void
synced(int fd)
{
	int file = file_of_fd(fd);

	if (file == FOLDER)
		note_files();
	if (file >= 0 || file == FOLDER)
		add(SYNC, file);
}

int
fdatasync(int fd)
{
	synced(fd);
	return (int)syscall(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	synced(fd);
	return (int)syscall(SYS_fsync, fd);
}

int
unlink(const char *path)
{
	int file = file_of(path);

	if (file >= 0)
		add(UNLINK, file);
	return (int)syscall(SYS_unlink, path);
}

size_t
record_moments(void)
{
	return disk.count;
}

long
record_acknowledged(size_t moment)
{
	return moment > 0 ? disk.ops[moment - 1].number : 0;
}

/* A file as it is after a cut. */
struct image {
	char *bytes;
	size_t len;
	bool exists;
};

static void
put(struct image *f, size_t at, const char *bytes, size_t len)
{
	if (at + len > FILE_SIZE_MAX)
		abort();
	if (at + len > f->len)
		f->len = at + len;
	memcpy(f->bytes + at, bytes, len);
	f->exists = true;
}

static void
cut_to(struct image *f, size_t len)
{
	if (len < f->len)
		memset(f->bytes + len, 0, f->len - len);
	f->len = len;
}

static void
apply(struct image *f, const struct op *op)
{
	switch (op->kind) {
	case CREATE:
		f->exists = true;
		break;
	case WRITE:
		put(f, op->at, op->bytes, op->len);
		break;
	case TRUNCATE:
		cut_to(f, op->len);
		break;
	case UNLINK:
		cut_to(f, 0);
		f->exists = false;
		break;
	case SYNC:
	case ACKNOWLEDGE:
		break;
	}
}

/* How much of what was not synced a cut leaves. */
enum fate { NOTHING, ALL, SOME, FATE__COUNT };

static void
apply_sectors(struct image *f, const struct op *op, unsigned *seed)
{
	for (size_t done = 0, len; done < op->len; done += len) {
		len = SECTOR - (op->at + done) % SECTOR;
		if (len > op->len - done)
			len = op->len - done;
		switch (rand_r(seed) % 8) {
		case 0: /* torn */
			put(f, op->at + done, op->bytes + done,
			    (size_t)rand_r(seed) % len);
			break;
		case 1: /* never written, but the file is as long */
			if (op->at + done + len > f->len)
				f->len = op->at + done + len;
			break;
		case 2:
		case 3: /* never written */
			break;
		default:
			put(f, op->at + done, op->bytes + done, len);
		}
	}
}

static void
apply_maybe(struct image *f, const struct op *op, enum fate fate, unsigned *seed)
{
	if (fate == ALL || (fate == SOME && op->kind != WRITE && rand_r(seed) % 2))
		apply(f, op);
	else if (fate == SOME && op->kind == WRITE)
		apply_sectors(f, op, seed);
}

/* Where what is sure of a file ends: its last sync. A sync of the folder makes it
 * sure that the file is there, or is gone; nothing is sure of it before. */
static size_t
sure_end(int file, size_t moment)
{
	bool exists = false, listed = false;
	size_t end = 0;

	for (size_t i = 0; i < moment; i++) {
		const struct op *op = &disk.ops[i];

		if (op->file == file)
			exists = op->kind != UNLINK;
		if (op->file == FOLDER)
			listed = exists;
		if (op->kind == SYNC
		    && (op->file == file || (op->file == FOLDER && !exists)))
			end = i + 1;
	}
	return listed || !exists ? end : 0;
}

static void
write_image(const struct image *f, const char *folder, const char *name)
{
	char path[256];
	size_t done = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	while (fd >= 0 && done < f->len) {
		ssize_t n = write(fd, f->bytes + done, f->len - done);

		if (n <= 0)
			abort();
		done += (size_t)n;
	}
	close(fd);
}

void
record_replay(size_t moment, unsigned seed, const char *folder)
{
	static char *bytes;
	struct image f;

	if (bytes == NULL && (bytes = calloc(1, FILE_SIZE_MAX)) == NULL)
		abort();
	for (int file = 0; file < disk.file_count; file++) {
		size_t sure = sure_end(file, moment);
		enum fate fate = (enum fate)(rand_r(&seed) % FATE__COUNT);

		f = (struct image) { .bytes = bytes };
		for (size_t i = 0; i < moment; i++) {
			if (disk.ops[i].file != file)
				continue;
			if (i < sure)
				apply(&f, &disk.ops[i]);
			else
				apply_maybe(&f, &disk.ops[i], fate, &seed);
		}
		if (f.exists)
			write_image(&f, folder, disk.files[file]);
		cut_to(&f, 0);
	}
}
