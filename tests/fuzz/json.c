/* JSON: what the strict reader takes, json-c builds and the writer writes, is
 * taken again and written the same. */
#include "tests/fuzz/fuzz.h"

#include "shared/json.h"

void
fuzz_start(void)
{
}

static struct buf
written(struct json_object *root)
{
	struct buf b;

	buf_init(&b, FUZZ_ARENA);
	json_tree(&b, NULL, root);
	return b;
}

void
fuzz_one(char *text, size_t len)
{
	struct json_object *root, *again;
	const char *why = NULL;
	struct buf once;
	enum err err = json_parse(FUZZ_ARENA, text, len, &root, &why);

	assert(err == OK || (err == ERR_MALFORMED && why != NULL));
	if (err)
		return;
	once = written(root);
	err = json_parse(FUZZ_ARENA, once.data, once.len, &again, &why);
	assert(err == OK);
	assert(strcmp(written(again).data, once.data) == 0);
}
