#include "shared/seen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define ISSUER "https://shop.example"
#define NOW INT64_C(1800000000)

static struct arena arena;
static struct token_keys keys;
static const struct token_keys no_keys;
static struct token_signer signer;
static struct seen *seen;

static int
set_up(void **state)
{
	char dir[] = "/tmp/coster-test.XXXXXX", set[64], private[64];
	int bad;

	(void)state;
	arena_init(&arena);
	if (token_start() || mkdtemp(dir) == NULL || token_keygen(dir))
		return 1;
	snprintf(set, sizeof(set), "%s/jwks.json", dir);
	snprintf(private, sizeof(private), "%s/signing.jwk", dir);
	bad = token_load_keys(&keys, set) != OK
	    || token_load_signer(&signer, private) != OK;
	unlink(set);
	unlink(private);
	seen = seen_new();
	return bad || rmdir(dir) != 0;
}

static int
tear_down(void **state)
{
	(void)state;
	seen_free(seen);
	arena_release(&arena);
	return 0;
}

static char *
issue(int64_t sub)
{
	const struct token_claims claims = { .sub = sub,
		.role = ROLE_CUSTOMER,
		.iat = NOW,
		.exp = NOW + 900,
		.jti = "3.nonce" };

	return (char *)(uintptr_t)token_issue(&arena, &signer, ISSUER, &claims);
}

static enum err
verify(const struct token_keys *with, const char *token, int64_t now,
    struct token_claims *c)
{
	const char *why;

	return seen_verify(seen, &arena, with, ISSUER, token, now, c, &why);
}

/* Without keys nothing can be verified: what is good then was remembered. */
static void
test_seen__a_token_is_verified_once(void **state)
{
	const char *token = issue(7), *other = issue(8);
	struct token_claims c;

	(void)state;
	assert_int_equal(verify(&no_keys, token, NOW, &c), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(&keys, token, NOW, &c), OK);
	c = (struct token_claims) { 0 };
	assert_int_equal(verify(&no_keys, token, NOW, &c), OK);
	assert_int_equal(c.sub, 7);
	assert_int_equal(c.role, ROLE_CUSTOMER);
	assert_int_equal(c.exp, NOW + 900);
	assert_string_equal(c.jti, "3.nonce");
	assert_int_equal(verify(&no_keys, other, NOW, &c), ERR_UNAUTHENTICATED);
}

static void
test_seen__a_token_that_is_over_is_not_good(void **state)
{
	const char *token = issue(7);
	struct token_claims c;

	(void)state;
	assert_int_equal(verify(&keys, token, NOW + 899, &c), OK);
	assert_int_equal(verify(&keys, token, NOW + 900, &c), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(&keys, token, NOW + 899, &c), OK);
}

static void
test_seen__each_changed_character_counts(void **state)
{
	char *token = issue(7);
	struct token_claims c;

	(void)state;
	assert_int_equal(verify(&keys, token, NOW, &c), OK);
	for (char *p = token; *p != '\0'; p++) {
		*p ^= 1;
		assert_int_equal(
		    verify(&keys, token, NOW, &c), ERR_UNAUTHENTICATED);
		*p ^= 1;
	}
}

/* Places are drawn by chance: two of so few have the same one more often than not. */
static void
test_seen__few_at_once_are_all_remembered(void **state)
{
	char *tokens[SEEN_PLACES / 16];
	struct token_claims c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		tokens[i] = issue((int64_t)i + 1);
		assert_int_equal(verify(&keys, tokens[i], NOW, &c), OK);
	}
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		assert_int_equal(verify(&no_keys, tokens[i], NOW, &c), OK);
		assert_int_equal(c.sub, i + 1);
	}
}

/* Each is the caller's own, whoever had its place before. */
static void
test_seen__more_tokens_than_places(void **state)
{
	char *tokens[3 * SEEN_PLACES];
	struct token_claims c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
		tokens[i] = issue((int64_t)i + 1);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
			assert_int_equal(verify(&keys, tokens[i], NOW, &c), OK);
			assert_int_equal(c.sub, i + 1);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_seen__a_token_is_verified_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_seen__a_token_that_is_over_is_not_good, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(
		    test_seen__each_changed_character_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_seen__few_at_once_are_all_remembered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_seen__more_tokens_than_places, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
