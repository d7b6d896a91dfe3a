#include "tests/loopback.h"

#include "handlers/user/password.h"

/* Every line of the list is found, and nothing beside them. */
static void
test_password__the_most_common_are_refused(void **state)
{
	struct t *t = *state;
	FILE *list = fopen("handlers/user/common_passwords.txt", "r");
	char line[200], other[210], upper[200];
	int n = 0;

	assert_non_null(list);
	while (fgets(line, sizeof(line), list) != NULL) {
		size_t len = strcspn(line, "\n");

		line[len] = '\0';
		for (size_t i = 0; i <= len; i++)
			upper[i] = line[i] >= 'a' && line[i] <= 'z'
			    ? (char)(line[i] - 32)
			    : line[i];
		snprintf(other, sizeof(other), "%s\n", line);
		if (password_fault(test_arena(t), line, "a@b.c") == NULL
		    || password_fault(test_arena(t), upper, "a@b.c") == NULL)
			fail_msg("%s is not found", line);
		assert_null(password_fault(test_arena(t), other, "a@b.c"));
		n++;
	}
	fclose(list);
	assert_int_equal(n, 10000);
}

static void
test_password__others_are_not(void **state)
{
	static const char *const good[] = { "", "\n", "!", "~~~~~~~~~", "zzzz1z",
		"passwo", "password1234567", "correct horse battery staple",
		"\xc3\xa9t\xc3\xa9 \xe2\x82\xac", " password" };
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_null(password_fault(test_arena(t), good[i], "a@b.c"));
	assert_non_null(password_fault(test_arena(t), "Ann@a.org", "ann@A.org"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_password__the_most_common_are_refused),
		TEST(test_password__others_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
