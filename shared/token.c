#include "shared/token.h"

#include <sodium.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/file.h"
#include "shared/json.h"
#include "shared/log.h"

#define LEEWAY 30 /* seconds that clocks may differ */

static const char *const role_names[] = {
	[ROLE_NOBODY] = "nobody",
	[ROLE_CUSTOMER] = "customer",
	[ROLE_ADMIN] = "admin",
	[ROLE_SERVICE] = "service",
};

const char *
role_name(enum role role)
{
	return role_names[role];
}

enum role
role_from_name(const char *name)
{
	if (strcmp(name, "customer") == 0)
		return ROLE_CUSTOMER;
	if (strcmp(name, "admin") == 0)
		return ROLE_ADMIN;
	return ROLE_NOBODY;
}

enum err
token_start(void)
{
	if (sodium_init() >= 0)
		return OK;
	LOG(LOG_ERROR, "libsodium does not start");
	return ERR_INTERNAL;
}

char *
base64url_encode(struct arena *a, const void *p, size_t len)
{
	size_t size = sodium_base64_encoded_len(
	    len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	char *out = arena_alloc(a, size);

	return sodium_bin2base64(
	    out, size, p, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void *
base64url_decode(struct arena *a, const char *s, size_t slen, size_t *len)
{
	unsigned char *out = arena_alloc(a, slen / 4 * 3 + 4);

	/* libsodium 1.0.18 takes what is not ASCII for a digit. */
	for (size_t i = 0; i < slen; i++)
		if ((unsigned char)s[i] > 0x7f)
			return NULL;
	if (sodium_base642bin(out, slen / 4 * 3 + 3, s, slen, NULL, len, NULL,
		sodium_base64_VARIANT_URLSAFE_NO_PADDING)
	    != 0)
		return NULL;
	out[*len] = '\0';
	return out;
}

char *
random_text(struct arena *a, size_t n)
{
	unsigned char *p = arena_alloc(a, n);

	randombytes_buf(p, n);
	return base64url_encode(a, p, n);
}

static bool
text_is(struct json_object *o, const char *name, const char *want)
{
	const char *s = json_member_text(o, name);

	return s != NULL && strcmp(s, want) == 0;
}

/* The 32 bytes that a member of a key holds. */
static bool
key_bytes(struct arena *a, struct json_object *jwk, const char *name,
    unsigned char out[32])
{
	const char *text = json_member_text(jwk, name);
	size_t len;
	void *p;

	if (text == NULL
	    || (p = base64url_decode(a, text, strlen(text), &len)) == NULL
	    || len != 32)
		return false;
	memcpy(out, p, 32);
	return true;
}

static bool
key_id(struct json_object *jwk, char kid[TOKEN_KID_SIZE])
{
	const char *s = json_member_text(jwk, "kid");

	if (s == NULL || *s == '\0' || strlen(s) >= TOKEN_KID_SIZE
	    || !text_is(jwk, "kty", "OKP") || !text_is(jwk, "crv", "Ed25519"))
		return false;
	memcpy(kid, s, strlen(s) + 1);
	return true;
}

static enum err
parse_file(struct arena *a, const char *path, struct json_object **root)
{
	const char *why = "cannot be read";
	const char *text;
	size_t len;

	if ((text = file_read(a, path, &len)) != NULL
	    && json_parse(a, text, len, root, &why) == OK)
		return OK;
	LOG(LOG_ERROR, "bad key file", LOG_TEXT("path", path),
	    LOG_TEXT("reason", why),
	    LOG_TEXT("do", "make one with: coster-user keygen DIRECTORY"));
	return ERR_INVALID;
}

enum err
token_load_keys(struct token_keys *keys, const char *path)
{
	struct json_object *root, *list;
	struct arena a;
	enum err err;

	arena_init(&a);
	*keys = (struct token_keys) { 0 };
	if ((err = parse_file(&a, path, &root)))
		goto out;
	err = ERR_INVALID;
	if (!json_object_is_type(root, json_type_object)
	    || !json_object_object_get_ex(root, "keys", &list)
	    || !json_object_is_type(list, json_type_array)
	    || json_object_array_length(list) > TOKEN_KEYS_MAX)
		goto bad;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *jwk = json_object_array_get_idx(list, i);
		struct token_key *key = &keys->key[keys->count++];

		if (!key_id(jwk, key->kid)
		    || !key_bytes(&a, jwk, "x", key->public))
			goto bad;
	}
	err = OK;
bad:
	if (err)
		LOG(LOG_ERROR, "not a set of up to 8 Ed25519 keys",
		    LOG_TEXT("path", path));
out:
	arena_release(&a);
	return err;
}

enum err
token_load_signer(struct token_signer *s, const char *path)
{
	unsigned char seed[32], public[32], given[32];
	struct json_object *root;
	struct arena a;
	enum err err;

	arena_init(&a);
	if ((err = parse_file(&a, path, &root)))
		goto out;
	if (!key_id(root, s->kid) || !key_bytes(&a, root, "d", seed)
	    || !key_bytes(&a, root, "x", given)
	    || crypto_sign_seed_keypair(public, s->secret, seed) != 0
	    || memcmp(public, given, sizeof(public)) != 0) {
		LOG(LOG_ERROR, "not a private Ed25519 key",
		    LOG_TEXT("path", path));
		err = ERR_INVALID;
	}
out:
	sodium_memzero(seed, sizeof(seed));
	arena_release(&a);
	return err;
}

static void
put_jwk(struct buf *b, const char *kid, const unsigned char *public,
    const unsigned char *seed)
{
	json_open(b, NULL, '{');
	json_text(b, "kty", "OKP");
	json_text(b, "crv", "Ed25519");
	json_text(b, "use", "sig");
	json_text(b, "alg", "EdDSA");
	json_text(b, "kid", kid);
	json_text(b, "x", base64url_encode(b->arena, public, 32));
	if (seed != NULL)
		json_text(b, "d", base64url_encode(b->arena, seed, 32));
	json_close(b, '}');
}

const char *
token_jwks(struct arena *a, const struct token_keys *keys)
{
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '{');
	json_open(&b, "keys", '[');
	for (size_t i = 0; i < keys->count; i++)
		put_jwk(&b, keys->key[i].kid, keys->key[i].public, NULL);
	json_close(&b, ']');
	json_close(&b, '}');
	return b.data;
}

enum err
token_keygen(const char *dir)
{
	unsigned char public[32], secret[64], seed[32];
	struct token_keys keys = { 0 };
	struct arena a;
	const char *set, *private;
	struct buf b;
	enum err err;

	arena_init(&a);
	buf_init(&b, &a);
	set = arena_printf(&a, "%s/jwks.json", dir);
	private = arena_printf(&a, "%s/signing.jwk", dir);
	if (access(set, F_OK) == 0 && (err = token_load_keys(&keys, set)))
		goto out;
	if (keys.count == TOKEN_KEYS_MAX) {
		LOG(LOG_ERROR, "the key set is full", LOG_TEXT("path", set),
		    LOG_TEXT("do", "take its oldest key out"));
		err = ERR_CONFLICT;
		goto out;
	}
	crypto_sign_keypair(public, secret);
	crypto_sign_ed25519_sk_to_seed(seed, secret);
	memmove(keys.key + 1, keys.key, keys.count * sizeof(keys.key[0]));
	keys.count++;
	memcpy(keys.key[0].public, public, 32);
	snprintf(keys.key[0].kid, TOKEN_KID_SIZE, "%s", random_text(&a, 9));
	put_jwk(&b, keys.key[0].kid, public, seed);
	if ((err = file_write(private, b.data, b.len, 0600)) == OK) {
		const char *text = token_jwks(&a, &keys);

		err = file_replace(&a, set, text, strlen(text), 0644);
		if (err)
			unlink(private); /* nobody could verify with it */
	}
out:
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(seed, sizeof(seed));
	arena_release(&a);
	return err;
}

const char *
token_issue(struct arena *a, const struct token_signer *s, const char *issuer,
    const struct token_claims *c)
{
	unsigned char sig[crypto_sign_BYTES];
	struct buf head, body, out;

	buf_init(&head, a);
	json_open(&head, NULL, '{');
	json_text(&head, "alg", "EdDSA");
	json_text(&head, "typ", "JWT");
	json_text(&head, "kid", s->kid);
	json_close(&head, '}');

	buf_init(&body, a);
	json_open(&body, NULL, '{');
	json_text(&body, "iss", issuer);
	/* RFC 7519 section 4.1.2: sub is a string. */
	json_text(&body, "sub", arena_printf(a, "%lld", (long long)c->sub));
	json_text(&body, "role", role_name(c->role));
	json_int(&body, "iat", c->iat);
	json_int(&body, "exp", c->exp);
	json_text(&body, "jti", c->jti);
	json_close(&body, '}');

	buf_init(&out, a);
	buf_adds(&out, base64url_encode(a, head.data, head.len));
	buf_addc(&out, '.');
	buf_adds(&out, base64url_encode(a, body.data, body.len));
	crypto_sign_detached(sig, NULL, (const unsigned char *)out.data, out.len,
	    s->secret);
	buf_addc(&out, '.');
	buf_adds(&out, base64url_encode(a, sig, sizeof(sig)));
	return out.data;
}

static struct json_object *
decode_part(struct arena *a, const char *from, const char *to)
{
	struct json_object *root;
	const char *why;
	size_t len;
	char *text = base64url_decode(a, from, (size_t)(to - from), &len);

	if (text == NULL || json_parse(a, text, len, &root, &why)
	    || !json_object_is_type(root, json_type_object))
		return NULL;
	return root;
}

static const struct token_key *
find_key(const struct token_keys *keys, struct json_object *head)
{
	const char *kid = json_member_text(head, "kid");

	for (size_t i = 0; kid != NULL && i < keys->count; i++)
		if (strcmp(keys->key[i].kid, kid) == 0)
			return &keys->key[i];
	return NULL;
}

static bool
read_claims(struct json_object *body, struct token_claims *c)
{
	const char *sub = json_member_text(body, "sub"),
		   *role = json_member_text(body, "role"),
		   *jti = json_member_text(body, "jti");
	char *end;

	if (sub == NULL || role == NULL || jti == NULL
	    || strlen(jti) >= TOKEN_JTI_SIZE || *sub < '1' || *sub > '9')
		return false;
	c->iat = json_member_int(body, "iat");
	c->exp = json_member_int(body, "exp");
	c->sub = strtoll(sub, &end, 10);
	c->role = role_from_name(role);
	memcpy(c->jti, jti, strlen(jti) + 1);
	return *end == '\0' && c->sub <= INT_MAX_EXACT
	    && c->iat != INT_NONE && c->exp != INT_NONE
	    && c->role != ROLE_NOBODY;
}

bool
token_is_current(const struct token_claims *c, int64_t now)
{
	return now < c->exp && c->iat <= now + LEEWAY;
}

enum err
token_verify(struct arena *a, const struct token_keys *keys, const char *issuer,
    const char *token, int64_t now, struct token_claims *c, const char **why)
{
	struct json_object *head, *body, *crit;
	const struct token_key *key;
	const char *dot1, *dot2;
	unsigned char *sig;
	size_t len;

	*why = "shape";
	if (strlen(token) > TOKEN_SIZE_MAX
	    || (dot1 = strchr(token, '.')) == NULL
	    || (dot2 = strchr(dot1 + 1, '.')) == NULL
	    || (head = decode_part(a, token, dot1)) == NULL)
		return ERR_UNAUTHENTICATED;
	*why = "alg";
	if (!text_is(head, "alg", "EdDSA")
	    || json_object_object_get_ex(head, "crit", &crit))
		return ERR_UNAUTHENTICATED;
	*why = "kid";
	if ((key = find_key(keys, head)) == NULL)
		return ERR_UNAUTHENTICATED;
	*why = "signature";
	sig = base64url_decode(a, dot2 + 1, strlen(dot2 + 1), &len);
	if (sig == NULL || len != crypto_sign_BYTES
	    || crypto_sign_verify_detached(sig, (const unsigned char *)token,
		   (unsigned long long)(dot2 - token), key->public)
		!= 0)
		return ERR_UNAUTHENTICATED;
	*why = "claims";
	if ((body = decode_part(a, dot1 + 1, dot2)) == NULL
	    || !read_claims(body, c))
		return ERR_UNAUTHENTICATED;
	*why = "issuer";
	if (!text_is(body, "iss", issuer))
		return ERR_UNAUTHENTICATED;
	*why = "expired";
	return token_is_current(c, now) ? OK : ERR_UNAUTHENTICATED;
}
