/* JSON: what the strict reader takes, json-c builds and the writer writes, is
 * taken again and written the same; and a member that is found in the text is the one
 * of the tree. */
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

static void
check_member(struct json_object *root, int64_t found)
{
	struct json_object *v;

	if (found == INT_NONE)
		return;
	assert(json_object_object_get_ex(root, "id", &v));
	assert(json_object_is_type(v, json_type_int));
	assert(json_object_get_int64(v) == found);
}

void
fuzz_one(char *text, size_t len)
{
	struct json_object *root, *again;
	const char *why = NULL;
	int64_t found;
	struct buf once;
	enum err err = json_parse(FUZZ_ARENA, text, len, &root, &why);

	assert(err == OK || (err == ERR_MALFORMED && why != NULL));
	if (json_find_int(text, len, "id", &found, &why))
		assert(err == ERR_MALFORMED);
	if (err)
		return;
	check_member(root, found);
	once = written(root);
	err = json_parse(FUZZ_ARENA, once.data, once.len, &again, &why);
	assert(err == OK);
	assert(strcmp(written(again).data, once.data) == 0);
}
