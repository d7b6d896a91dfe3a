#include "shared/token.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/file.h"
#include "shared/json.h"

#define ISSUER "https://shop.example"
#define NOW INT64_C(1800000000)

static char dir[32];
static struct arena arena;
static struct token_keys keys;
static struct token_signer signer;

static const char *
path(const char *name)
{
	return arena_printf(&arena, "%s/%s", dir, name);
}

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena);
	snprintf(dir, sizeof(dir), "/tmp/coster-test.XXXXXX");
	return token_start() != OK || mkdtemp(dir) == NULL
	    || token_keygen(dir) != OK
	    || token_load_keys(&keys, path("jwks.json")) != OK
	    || token_load_signer(&signer, path("signing.jwk")) != OK;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(path("jwks.json"));
	unlink(path("signing.jwk"));
	unlink(path("old.jwk"));
	arena_release(&arena);
	return rmdir(dir);
}

static const char *
issue(void)
{
	const struct token_claims claims = { .sub = 7,
		.role = ROLE_ADMIN,
		.iat = NOW,
		.exp = NOW + 900,
		.jti = "3.nonce" };

	return token_issue(&arena, &signer, ISSUER, &claims);
}

/* Any header and any claims, really signed. */
static const char *
sign(const char *head, const char *claims)
{
	unsigned char sig[crypto_sign_BYTES];
	const char *text = arena_printf(&arena, "%s.%s",
	    base64url_encode(&arena, head, strlen(head)),
	    base64url_encode(&arena, claims, strlen(claims)));

	crypto_sign_detached(sig, NULL, (const unsigned char *)text,
	    strlen(text), signer.secret);
	return arena_printf(&arena, "%s.%s", text,
	    base64url_encode(&arena, sig, sizeof(sig)));
}

static enum err
verify(const char *token, int64_t now, const char **why)
{
	struct token_claims claims;

	return token_verify(&arena, &keys, ISSUER, token, now, &claims, why);
}

static void
assert_refused(const char *token, const char *want)
{
	const char *why = "";

	if (verify(token, NOW, &why) != ERR_UNAUTHENTICATED)
		fail_msg("taken: %s", token);
	if (strcmp(why, want) != 0)
		fail_msg("%s: %s instead of %s", token, why, want);
}

static void
test_token__is_verified_as_it_was_issued(void **state)
{
	struct token_claims c;
	const char *why;

	(void)state;
	assert_int_equal(
	    token_verify(&arena, &keys, ISSUER, issue(), NOW, &c, &why), OK);
	assert_int_equal(c.sub, 7);
	assert_int_equal(c.role, ROLE_ADMIN);
	assert_int_equal(c.iat, NOW);
	assert_int_equal(c.exp, NOW + 900);
	assert_string_equal(c.jti, "3.nonce");
}

/* RFC 7515 section 7.1, RFC 7519 section 4.1, RFC 8037 section 3.1. */
static void
test_token__is_what_other_software_expects(void **state)
{
	const char *token = issue(), *dot = strchr(token, '.');
	struct json_object *root;
	const char *why;
	size_t len;
	char *text;

	(void)state;
	text = base64url_decode(&arena, token, (size_t)(dot - token), &len);
	assert_string_equal(text,
	    arena_printf(&arena,
		"{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"%s\"}",
		keys.key[0].kid));
	text = base64url_decode(&arena, dot + 1, strcspn(dot + 1, "."), &len);
	assert_string_equal(text,
	    "{\"iss\":\"https://shop.example\",\"sub\":\"7\",\"role\":\"admin\","
	    "\"iat\":1800000000,\"exp\":1800000900,\"jti\":\"3.nonce\"}");
	assert_int_equal(strspn(token,
			     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstu"
			     "vwxyz0123456789-_."),
	    strlen(token));
	text = (char *)(uintptr_t)token_jwks(&arena, &keys);
	assert_int_equal(json_parse(&arena, text, strlen(text), &root, &why), OK);
	assert_string_equal(text,
	    arena_printf(&arena,
		"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\","
		"\"alg\":\"EdDSA\",\"kid\":\"%s\",\"x\":\"%s\"}]}",
		keys.key[0].kid,
		base64url_encode(&arena, keys.key[0].public, 32)));
}

static void
test_token__headers_that_are_refused(void **state)
{
	static const struct {
		const char *head, *why; /* %s is the key's id */
	} cases[] = {
		{ "{\"alg\":\"none\",\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":\"HS256\",\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":\"eddsa\",\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":\"EDDSA\",\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":\"Ed25519\",\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":[\"EdDSA\"],\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":null,\"kid\":\"%s\"}", "alg" },
		{ "{\"kid\":\"%s\"}", "alg" },
		{ "{\"alg\":\"EdDSA\",\"kid\":\"%s\",\"crit\":[\"exp\"]}", "alg" },
		{ "{\"alg\":\"EdDSA\",\"kid\":\"%s\",\"crit\":[]}", "alg" },
		{ "{\"alg\":\"EdDSA\",\"kid\":\"%s\",\"crit\":null}", "alg" },
		{ "{\"alg\":\"EdDSA\",\"kid\":\"%sx\"}", "kid" },
		{ "{\"alg\":\"EdDSA\",\"kid\":\"\",\"x\":\"%s\"}", "kid" },
		{ "{\"alg\":\"EdDSA\",\"kid\":[\"%s\"]}", "kid" },
		{ "{\"alg\":\"EdDSA\",\"jwk\":\"%s\"}", "kid" },
		{ "{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\",\"kid\":\"%s\"}", "shape" },
		{ "[\"EdDSA\",\"%s\"]", "shape" },
		{ "\"EdDSA %s\"", "shape" },
		{ "null", "shape" },
		{ "", "shape" },
	};
	static const char claims[]
	    = "{\"iss\":\"https://shop.example\",\"sub\":\"7\","
	      "\"role\":\"admin\",\"iat\":1800000000,\"exp\":1800000900,"
	      "\"jti\":\"1\"}";

	const char *why, *kid = keys.key[0].kid;

	(void)state;
	assert_int_equal(
	    verify(sign(arena_printf(
			    &arena, "{\"alg\":\"EdDSA\",\"kid\":\"%s\"}", kid),
		       claims),
		NOW, &why),
	    OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *at = strstr(cases[i].head, "%s");
		const char *head = at == NULL
		    ? cases[i].head
		    : arena_printf(&arena, "%.*s%s%s",
			(int)(at - cases[i].head), cases[i].head, kid, at + 2);

		assert_refused(sign(head, claims), cases[i].why);
	}
}

static void
test_token__claims_that_are_refused(void **state)
{
#define ISS "\"iss\":\"https://shop.example\","
#define REST "\"role\":\"customer\",\"iat\":1800000000,\"exp\":1800000900"
#define JTI ",\"jti\":\"1\""
	static const struct {
		const char *claims, *why; /* NULL: taken */
	} cases[] = {
		{ "{" ISS "\"sub\":\"7\"," REST JTI "}", NULL },
		{ "{" ISS "\"sub\":\"9007199254740991\"," REST JTI "}", NULL },
		{ "{" ISS "\"sub\":\"7\"," REST JTI ",\"aud\":\"more\"}", NULL },
		{ "{" ISS "\"sub\":7," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"0\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"07\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"-7\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"+7\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\" 7\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"7 \"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"7x\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"7.0\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"9007199254740992\"," REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"99999999999999999999\"," REST JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":null," REST JTI "}", "claims" },
		{ "{" ISS REST JTI "}", "claims" },
		{ "{" ISS "\"sub\":\"7\"," REST "}", "claims" },
		{ "{" ISS "\"sub\":\"7\"," REST ",\"jti\":1}", "claims" },
		{ "{" ISS "\"sub\":\"7\"," REST ",\"jti\":\"0123456789012345678901"
		      "234567890123456789012345678901234567890123456789\"}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"iat\":1800000000,\"exp\":1800000900" JTI
		      "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"service\",\"iat\":1800000000,"
		      "\"exp\":1800000900" JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"nobody\",\"iat\":1800000000,"
		      "\"exp\":1800000900" JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"Admin\",\"iat\":1800000000,"
		      "\"exp\":1800000900" JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"admin\",\"iat\":1800000000" JTI
		      "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"admin\",\"exp\":1800000900" JTI
		      "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"admin\",\"iat\":1800000000,"
		      "\"exp\":\"1800000900\"" JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"role\":\"admin\",\"iat\":1800000000,"
		      "\"exp\":1.8e10" JTI "}",
		    "claims" },
		{ "{" ISS "\"sub\":\"7\",\"sub\":\"8\"," REST JTI "}", "claims" },
		{ "[]", "claims" },
		{ "", "claims" },
		{ "{\"sub\":\"7\"," REST JTI "}", "issuer" },
		{ "{\"iss\":\"https://shop.example/\",\"sub\":\"7\"," REST JTI "}",
		    "issuer" },
		{ "{\"iss\":\"https://other.example\",\"sub\":\"7\"," REST JTI "}",
		    "issuer" },
		{ "{\"iss\":[\"https://shop.example\"],\"sub\":\"7\"," REST JTI
		  "}",
		    "issuer" },
	};
	const char *head = arena_printf(&arena,
	    "{\"alg\":\"EdDSA\",\"kid\":\"%s\"}", keys.key[0].kid), *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (cases[i].why != NULL)
			assert_refused(
			    sign(head, cases[i].claims), cases[i].why);
		else if (verify(sign(head, cases[i].claims), NOW, &why))
			fail_msg("%s: %s", cases[i].claims, why);
}

static void
test_token__is_good_for_its_time(void **state)
{
	static const struct {
		int64_t now;
		bool good;
	} cases[] = {
		{ NOW - 31, false }, /* clocks may differ by half a minute */
		{ NOW - 30, true },
		{ NOW, true },
		{ NOW + 899, true },
		{ NOW + 900, false },
		{ NOW + 901, false },
		{ INT64_C(1) << 40, false },
	};
	const char *token = issue(), *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum err err = verify(token, cases[i].now, &why);

		assert_int_equal(err == OK, cases[i].good);
		if (err)
			assert_string_equal(why, "expired");
	}
}

static void
test_token__what_was_changed_is_refused(void **state)
{
	const char *token = issue(), *dot1 = strchr(token, '.');
	const char *dot2 = strchr(dot1 + 1, '.');
	struct token_signer other;
	const char *theirs;

	(void)state;
	/* every single character but the last, which holds four bits */
	for (const char *p = token; p[1] != '\0'; p++) {
		char *changed = arena_strdup(&arena, token);
		const char *why;

		changed[p - token] = *p == 'A' ? 'B' : 'A';
		if (verify(changed, NOW, &why) == OK)
			fail_msg("taken: %s", changed);
		if (p > dot1 && p != dot2)
			assert_string_equal(why, "signature");
	}
	/* somebody else's key with our id */
	other = signer;
	randombytes_buf(other.secret, sizeof(other.secret));
	theirs = token_issue(&arena, &other, ISSUER,
	    &(struct token_claims) { .sub = 7, .role = ROLE_ADMIN, .iat = NOW,
		.exp = NOW + 900, .jti = "1" });
	assert_refused(theirs, "signature");
	/* the signature of another token */
	assert_refused(arena_printf(&arena, "%.*s%s", (int)(dot2 - token), token,
			   strrchr(theirs, '.')),
	    "signature");
}

static void
test_token__bad_shapes_are_refused(void **state)
{
	const char *token = issue();
	const char *last = strrchr(token, '.');
	int part2 = (int)(last - token);
	char *longer;

	(void)state;
	assert_refused("", "shape");
	assert_refused("x", "shape");
	assert_refused(".", "shape");
	assert_refused("..", "shape");
	assert_refused("...", "shape");
	assert_refused(arena_printf(&arena, "%.*s", part2, token), "shape");
	assert_refused(arena_printf(&arena, "%.*s.", part2, token), "signature");
	assert_refused(arena_printf(&arena, "%s.", token), "signature");
	assert_refused(arena_printf(&arena, "%s.x", token), "signature");
	assert_refused(arena_printf(&arena, "%s=", token), "signature");
	assert_refused(arena_printf(&arena, "%s ", token), "signature");
	assert_refused(arena_printf(&arena, " %s", token), "shape");
	assert_refused(arena_printf(&arena, "+%s", token), "shape");
	/* too long to look at */
	longer = arena_alloc(&arena, TOKEN_SIZE_MAX + 2);
	memset(longer, 'A', TOKEN_SIZE_MAX + 1);
	longer[TOKEN_SIZE_MAX + 1] = '\0';
	memcpy(longer, token, strlen(token));
	assert_refused(longer, "shape");
	longer[TOKEN_SIZE_MAX] = '\0';
	assert_refused(longer, "signature");
}

static void
test_token__keygen_again_keeps_old_tokens_good(void **state)
{
	const char *old = issue(), *old_kid = keys.key[0].kid, *why;
	size_t len;
	char *set;

	(void)state;
	old_kid = arena_strdup(&arena, old_kid);
	/* not over a key that is there */
	set = file_read(&arena, path("jwks.json"), &len);
	assert_int_equal(token_keygen(dir), ERR_CONFLICT);
	assert_string_equal(file_read(&arena, path("jwks.json"), &len), set);
	assert_int_equal(rename(path("signing.jwk"), path("old.jwk")), 0);
	assert_int_equal(token_keygen(dir), OK);
	assert_int_equal(token_load_keys(&keys, path("jwks.json")), OK);
	assert_int_equal(token_load_signer(&signer, path("signing.jwk")), OK);
	assert_int_equal(keys.count, 2);
	assert_string_equal(keys.key[0].kid, signer.kid);
	assert_string_equal(keys.key[1].kid, old_kid);
	assert_string_not_equal(signer.kid, old_kid);
	assert_int_equal(verify(old, NOW, &why), OK);
	assert_int_equal(verify(issue(), NOW, &why), OK);
	/* until the old key is taken out */
	keys.count = 1;
	assert_refused(old, "kid");
	assert_int_equal(verify(issue(), NOW, &why), OK);
}

static void
test_token__keygen_stops_at_a_full_or_broken_set(void **state)
{
	size_t len;

	(void)state;
	for (int i = 2; i <= TOKEN_KEYS_MAX; i++) {
		unlink(path("signing.jwk"));
		assert_int_equal(token_keygen(dir), OK);
	}
	assert_int_equal(token_load_keys(&keys, path("jwks.json")), OK);
	assert_int_equal(keys.count, TOKEN_KEYS_MAX);
	unlink(path("signing.jwk"));
	assert_int_equal(token_keygen(dir), ERR_CONFLICT);
	unlink(path("jwks.json"));
	assert_int_equal(file_write(path("jwks.json"), "{}", 2, 0644), OK);
	assert_int_equal(token_keygen(dir), ERR_INVALID);
	assert_string_equal(file_read(&arena, path("jwks.json"), &len), "{}");
	assert_int_equal(access(path("signing.jwk"), F_OK), -1);
}

static void
test_token__keygen_leaves_no_key_that_nobody_knows(void **state)
{
	(void)state;
	unlink(path("signing.jwk"));
	/* a folder in the place of the temporary file: the set stays as it is */
	assert_int_equal(
	    mkdir(path(arena_printf(&arena, "jwks.json.%d", (int)getpid())), 0700),
	    0);
	assert_int_not_equal(token_keygen(dir), OK);
	assert_int_equal(access(path("signing.jwk"), F_OK), -1);
	rmdir(path(arena_printf(&arena, "jwks.json.%d", (int)getpid())));
}

static void
test_token__files_have_the_modes_they_need(void **state)
{
	struct stat st;
	size_t len;

	(void)state;
	assert_int_equal(stat(path("signing.jwk"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(path("jwks.json"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	/* what is public holds nothing private */
	assert_null(strstr(file_read(&arena, path("jwks.json"), &len), "\"d\""));
	assert_non_null(
	    strstr(file_read(&arena, path("signing.jwk"), &len), "\"d\""));
}

static void
test_token__bad_key_files_are_refused(void **state)
{
#define X "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""
#define HEAD "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\""
#define KEY "{" HEAD "," X "}"
	static const struct {
		const char *set;
		bool good;
	} cases[] = {
		{ "{\"keys\":[" KEY "]}", true },
		{ "{\"keys\":[" KEY "," KEY "]}", true },
		{ "{\"keys\":[]}", true }, /* where no users are known */
		{ "{\"keys\":" KEY "}", false },
		{ "{}", false },
		{ "[]", false },
		{ "null", false },
		{ "", false },
		{ "{", false },
		{ "{\"keys\":[1]}", false },
		{ "{\"keys\":[null]}", false },
		{ "{\"keys\":[{" HEAD "}]}", false },
		{ "{\"keys\":[{" HEAD ",\"x\":\"AAAA\"}]}", false },
		{ "{\"keys\":[{" HEAD ",\"x\":\"!\"}]}", false },
		{ "{\"keys\":[{" HEAD ",\"x\":1}]}", false },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"crv\":\"Ed25519\",\"kid\":\"k\"," X
		  "}]}",
		    false },
		{ "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\",\"kid\":\"k\"," X
		  "}]}",
		    false },
		{ "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"\"," X
		  "}]}",
		    false },
		{ "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\"," X "}]}",
		    false },
		{ "{\"keys\":[" KEY "," KEY "," KEY "," KEY "," KEY "," KEY "," KEY
		  "," KEY "," KEY "]}",
		    false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *set = cases[i].set;

		unlink(path("jwks.json"));
		assert_int_equal(
		    file_write(path("jwks.json"), set, strlen(set), 0644), OK);
		if ((token_load_keys(&keys, path("jwks.json")) == OK)
		    != cases[i].good)
			fail_msg("%s", set);
	}
	assert_int_not_equal(token_load_keys(&keys, path("none")), OK);
	/* a public key does not sign, nor one whose halves do not fit */
	unlink(path("signing.jwk"));
	assert_int_equal(
	    file_write(path("signing.jwk"), KEY, strlen(KEY), 0600), OK);
	assert_int_equal(
	    token_load_signer(&signer, path("signing.jwk")), ERR_INVALID);
	unlink(path("signing.jwk"));
#define MIXED                                                                  \
	"{" HEAD "," X                                                         \
	",\"d\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"
	assert_int_equal(
	    file_write(path("signing.jwk"), MIXED, strlen(MIXED), 0600), OK);
	assert_int_equal(
	    token_load_signer(&signer, path("signing.jwk")), ERR_INVALID);
}

/* RFC 4648 sections 5 and 10, and 3.5: no stray bits. */
static void
test_token__base64url(void **state)
{
	static const struct {
		const char *plain, *coded;
	} good[] = { { "", "" }, { "f", "Zg" }, { "fo", "Zm8" },
		{ "foo", "Zm9v" }, { "foob", "Zm9vYg" }, { "fooba", "Zm9vYmE" },
		{ "foobar", "Zm9vYmFy" }, { "\xfb\xff\xfe", "-__-" } };
	static const char *const bad[] = { "Z", "Zm9vY", "Zg==", "Zm8=", "Zh",
		"Zm9", "+//+", "Zm 9", "Zm9v\n", " Zm9v", "Zm\xc3\xa9", "*" };
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_string_equal(base64url_encode(&arena, good[i].plain,
					strlen(good[i].plain)),
		    good[i].coded);
		assert_string_equal(base64url_decode(&arena, good[i].coded,
					strlen(good[i].coded), &len),
		    good[i].plain);
		assert_int_equal(len, strlen(good[i].plain));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (base64url_decode(&arena, bad[i], strlen(bad[i]), &len) != NULL)
			fail_msg("taken: %s", bad[i]);
}

static void
test_token__roles(void **state)
{
	(void)state;
	assert_int_equal(role_from_name("customer"), ROLE_CUSTOMER);
	assert_int_equal(role_from_name("admin"), ROLE_ADMIN);
	/* only nginx says what is a service */
	assert_int_equal(role_from_name("service"), ROLE_NOBODY);
	assert_int_equal(role_from_name(""), ROLE_NOBODY);
	assert_string_equal(role_name(ROLE_CUSTOMER), "customer");
}

static void
test_token__random_texts_differ(void **state)
{
	const char *a = random_text(&arena, 9), *b = random_text(&arena, 9);

	(void)state;
	assert_int_equal(strlen(a), 12);
	assert_string_not_equal(a, b);
}

#define TOKEN_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TOKEN_TEST(test_token__is_verified_as_it_was_issued),
		TOKEN_TEST(test_token__is_what_other_software_expects),
		TOKEN_TEST(test_token__headers_that_are_refused),
		TOKEN_TEST(test_token__claims_that_are_refused),
		TOKEN_TEST(test_token__is_good_for_its_time),
		TOKEN_TEST(test_token__what_was_changed_is_refused),
		TOKEN_TEST(test_token__bad_shapes_are_refused),
		TOKEN_TEST(test_token__keygen_again_keeps_old_tokens_good),
		TOKEN_TEST(test_token__keygen_stops_at_a_full_or_broken_set),
		TOKEN_TEST(test_token__keygen_leaves_no_key_that_nobody_knows),
		TOKEN_TEST(test_token__files_have_the_modes_they_need),
		TOKEN_TEST(test_token__bad_key_files_are_refused),
		TOKEN_TEST(test_token__base64url),
		TOKEN_TEST(test_token__roles),
		TOKEN_TEST(test_token__random_texts_differ),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
