#include "tests/fuzz/fuzz.h"

#include "shared/log.h"

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

struct json_object *
fuzz_reply(struct req *r)
{
	struct json_object *root = NULL;
	const char *why = NULL, *fields = r->reply.fields.data;
	struct buf head;

	if (r->reply.status == 0)
		return NULL;
	reply_finish(r, &head);
	check_head(&head);
	if (r->reply.body.len > 0
	    && (strstr(fields, "/json\r\n") != NULL
		|| strstr(fields, "+json\r\n") != NULL))
		assert(json_parse(FUZZ_ARENA, r->reply.body.data,
			   r->reply.body.len, &root, &why)
		    == OK);
	return root;
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
