#include "tests/fuzz/fuzz.h"

#include <sqlite3.h>

#include "shared/log.h"
#include "shared/text.h"

static struct ctx empty;
struct ctx *fuzz_ctx = &empty;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t len);

char *
fuzz_line(char **text)
{
	char *line = *text, *end = strchr(line, '\n');

	if (end == NULL) {
		*text = line + strlen(line);
	} else {
		*end = '\0';
		*text = end + 1;
	}
	return line;
}

void
fuzz_request(struct req *r)
{
	req_init(r, fuzz_ctx);
	r->param[PARAM_METHOD] = "GET";
	r->param[PARAM_PATH] = "/fuzz";
	r->param[PARAM_TRACE] = "fuzz";
}

static void
check_head(const struct buf *head)
{
	const char *p = head->data;

	assert(strlen(p) == head->len);
	while (*p != '\0') {
		size_t n = strcspn(p, "\r\n");

		for (size_t i = 0; i < n; i++)
			assert(((unsigned char)p[i] >= ' ' && p[i] != 0x7f)
			    || p[i] == '\t');
		assert(strncmp(p + n, "\r\n", 2) == 0);
		p += n + 2;
		if (strcmp(p, "\r\n") == 0)
			return;
		assert(n > 0 && strchr(p, ':') != NULL);
	}
	assert(!"a head without its end");
}

/* SQLite says so, for it has not the fuzzer's flags: by json_parse() it took
 * half of the time of all. */
static bool
is_json(const struct buf *text)
{
	static sqlite3_stmt *valid;
	static sqlite3 *db;
	bool is;

	if (valid == NULL)
		assert(sqlite3_open(":memory:", &db) == SQLITE_OK
		    && sqlite3_prepare_v2(
			   db, "SELECT json_valid(?)", -1, &valid, NULL)
			== SQLITE_OK);
	sqlite3_bind_text(valid, 1, text->data, (int)text->len, SQLITE_STATIC);
	is = sqlite3_step(valid) == SQLITE_ROW && sqlite3_column_int(valid, 0);
	sqlite3_reset(valid);
	return is;
}

void
fuzz_reply(struct req *r)
{
	const char *fields = r->reply.fields.data;
	struct buf head;

	if (r->reply.status == 0)
		return;
	reply_finish(r, &head);
	check_head(&head);
	if (r->reply.body.len > 0
	    && (strstr(fields, "/json\r\n") != NULL
		|| strstr(fields, "+json\r\n") != NULL))
		assert(is_json(&r->reply.body)
		    && text_length(r->reply.body.data, r->reply.body.len) >= 0);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	arena_init(FUZZ_ARENA);
	log_init("fuzz", "1", LOG_ERROR + 1); /* nothing is worth a line */
	fuzz_start();
	return 0;
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t len)
{
	fuzz_one(arena_strndup(FUZZ_ARENA, (const char *)data, len), len);
	arena_reset(FUZZ_ARENA);
	return 0;
}
