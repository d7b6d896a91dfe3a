#include "handlers/user/throttle.h"
#include "handlers/user/user.h"

#include <arpa/inet.h>
#include <sodium.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/text.h"

#define TRUSTED_FOR (90 * CLOCK_DAY)

enum rule {
	PAIR,
	ACCOUNT,
	NETWORK,
	MAIL_TO,
	MAIL_FROM,
	REGISTER,
	MOVE,
	RULE__COUNT
};
enum { OF_ACCOUNT = 1, OF_NETWORK = 2 };

/* Within a window, attempts beyond the free ones wait: first, then twice as
 * long each time, but not longer than most, nor than the window. */
static const struct limit {
	const char *name;
	unsigned of; /* what is counted apart */
	int64_t free, window, first, most;
} limits[] = {
	[PAIR] = { "pair", OF_ACCOUNT | OF_NETWORK, 10, CLOCK_DAY, CLOCK_SECOND,
	    15 * CLOCK_MINUTE },
	[ACCOUNT] = { "account", OF_ACCOUNT, 100, 15 * CLOCK_MINUTE,
	    5 * CLOCK_SECOND, 5 * CLOCK_SECOND },
	[NETWORK] = { "network", OF_NETWORK, 100, 15 * CLOCK_MINUTE,
	    15 * CLOCK_MINUTE, 15 * CLOCK_MINUTE },
	[MAIL_TO] = { "mail to", OF_ACCOUNT, 5, CLOCK_HOUR, CLOCK_HOUR,
	    CLOCK_HOUR },
	[MAIL_FROM] = { "mail from", OF_NETWORK, 20, CLOCK_HOUR, CLOCK_HOUR,
	    CLOCK_HOUR },
	[REGISTER] = { "register", OF_NETWORK, 60, CLOCK_HOUR, CLOCK_MINUTE,
	    CLOCK_HOUR },
	[MOVE] = { "move", OF_ACCOUNT, 5, CLOCK_DAY, CLOCK_HOUR, CLOCK_DAY },
};
_Static_assert(ARRAY_LEN(limits) == RULE__COUNT, "every rule has a limit");

STMT(throttle_get,
    "SELECT count, since, last_at, good_at FROM throttle"
    " WHERE rule = $1 AND account = $2 AND network = $3");

STMT(throttle_put,
    "INSERT INTO throttle (rule, account, network, count, since, last_at,"
    " good_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (rule, account, network) DO UPDATE SET"
    " count = excluded.count, since = excluded.since,"
    " last_at = excluded.last_at, good_at = excluded.good_at,"
    " expires_at = excluded.expires_at");

STMT(throttle_drop_account,
    "DELETE FROM throttle WHERE rule IN ('pair', 'account', 'mail to')"
    " AND account = $1");

STMT(throttle_networks,
    "SELECT network, good_at FROM throttle WHERE rule = 'pair'"
    " AND account = $1 AND good_at IS NOT NULL ORDER BY network");

struct counter {
	const struct limit *limit;
	const char *account, *network;
	int64_t count, since, last_at, good_at;
};

/* Keyed with a secret that is not in the database: what was given need not be
 * an address of ours, nor an address at all. */
static const char *
account_key(const struct req *r, const char *email)
{
	const char *key = r->ctx->app->key, *text = text_lower(r->arena, email);
	unsigned char hash[16];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)text,
	    strlen(text), (const unsigned char *)key,
	    strnlen(key, crypto_generichash_KEYBYTES_MAX));
	return base64url_encode(r->arena, hash, sizeof(hash));
}

/* One customer has a whole IPv6 /64. */
static const char *
network_of(const struct req *r)
{
	const char *address = r->param[PARAM_REMOTE_ADDR];
	char text[INET6_ADDRSTRLEN];
	struct in6_addr v6;

	if (inet_pton(AF_INET6, address, &v6) != 1)
		return address;
	if (IN6_IS_ADDR_V4MAPPED(&v6))
		return arena_strdup(r->arena,
		    inet_ntop(AF_INET, &v6.s6_addr[12], text, sizeof(text)));
	memset(&v6.s6_addr[8], 0, 8);
	inet_ntop(AF_INET6, &v6, text, sizeof(text));
	return arena_printf(r->arena, "%s/64", text);
}

static enum err
load(struct req *r, enum rule rule, const char *email, struct counter *c)
{
	int64_t now = clock_ms();
	enum err err;

	*c = (struct counter) { .limit = &limits[rule],
		.account = "",
		.network = "",
		.since = now,
		.good_at = INT_NONE };
	if (c->limit->of & OF_ACCOUNT)
		c->account = account_key(r, email);
	if (c->limit->of & OF_NETWORK)
		c->network = network_of(r);
	err = db_get(r->db, &throttle_get,
	    DB_ARGS(DB_TEXT(c->limit->name), DB_TEXT(c->account),
		DB_TEXT(c->network)),
	    DB_INTO(DB_INT_TO(&c->count), DB_INT_TO(&c->since),
		DB_INT_TO(&c->last_at), DB_INT_TO(&c->good_at)));
	if (err == ERR_NOT_FOUND)
		return OK;
	/* Or the clock has been set back since. */
	if (c->since + c->limit->window <= now || c->since > now) {
		c->since = now;
		c->count = 0;
	}
	return err;
}

static enum err
store(struct db *db, const struct counter *c)
{
	int64_t expires_at = c->since + c->limit->window;

	if (c->good_at != INT_NONE && c->good_at + TRUSTED_FOR > expires_at)
		expires_at = c->good_at + TRUSTED_FOR;
	return db_exec(db, &throttle_put,
	    DB_ARGS(DB_TEXT(c->limit->name), DB_TEXT(c->account),
		DB_TEXT(c->network), DB_INT(c->count), DB_INT(c->since),
		DB_INT(c->last_at), DB_INT(c->good_at), DB_INT(expires_at)));
}

static enum err
count_one(struct db *db, struct counter *c)
{
	c->count++;
	c->last_at = clock_ms();
	return store(db, c);
}

/* Milliseconds until the next attempt; 0 when it may be now. */
static int64_t
wait_of(const struct counter *c)
{
	const struct limit *l = c->limit;
	int64_t over = c->count - l->free, wait = l->most, until;

	if (over < 0)
		return 0;
	if (over < 20 && l->first << over < l->most)
		wait = l->first << over;
	until = c->last_at + wait;
	if (until > c->since + l->window)
		until = c->since + l->window;
	return until > clock_ms() ? until - clock_ms() : 0;
}

static enum err
check(struct req *r, const struct counter *c)
{
	int64_t wait = wait_of(c);

	if (wait == 0)
		return OK;
	r->retry_after = (wait + CLOCK_SECOND - 1) / CLOCK_SECOND;
	audit(r, "throttled", r->uid, c->limit->name);
	return req_fail(r, ERR_TOO_MANY,
	    "This was tried too often; try again in %lld seconds.",
	    (long long)r->retry_after);
}

/* Checks all before it counts any. */
static enum err
count_sign_in(struct req *r, const char *email)
{
	struct counter c[NETWORK + 1];
	enum err err;

	for (enum rule rule = PAIR; rule <= NETWORK; rule++)
		if ((err = load(r, rule, email, &c[rule])))
			return err;
	if ((err = check(r, &c[PAIR])))
		return err;
	for (enum rule rule = ACCOUNT; rule <= NETWORK; rule++)
		if (c[PAIR].good_at == INT_NONE && (err = check(r, &c[rule])))
			return err;
	for (enum rule rule = PAIR; rule <= NETWORK; rule++)
		if ((err = count_one(r->db, &c[rule])))
			return err;
	return OK;
}

enum err
throttle_sign_in(struct req *r, const char *email)
{
	enum err err = db_begin(r->db);

	return err ? err : db_finish(r->db, count_sign_in(r, email));
}

enum err
throttle_trust(struct req *r, const char *email)
{
	struct counter c;
	enum err err;

	if ((err = load(r, PAIR, email, &c)))
		return err;
	c.count = 0;
	c.last_at = c.good_at = clock_ms();
	return store(r->db, &c);
}

/* One's own success does not excuse one's guesses at other accounts. */
enum err
throttle_succeeded(struct req *r, const char *email)
{
	struct counter c;
	enum err err;

	for (enum rule rule = ACCOUNT; rule <= NETWORK; rule++) {
		if ((err = load(r, rule, email, &c)))
			return err;
		c.count -= c.count > 0;
		if ((err = store(r->db, &c)))
			return err;
	}
	return throttle_trust(r, email);
}

static enum err
count_mail(struct req *r, enum rule rule, const char *email)
{
	struct counter c;
	enum err err;

	if ((err = load(r, rule, email, &c)) || (err = check(r, &c)))
		return err;
	return count_one(r->db, &c);
}

enum err
throttle_mail_from(struct req *r)
{
	return count_mail(r, MAIL_FROM, NULL);
}

enum err
throttle_mail_to(struct req *r, const char *email)
{
	return count_mail(r, MAIL_TO, email);
}

enum err
throttle_register(struct req *r)
{
	if (r->caller.role == ROLE_ADMIN || r->caller.role == ROLE_SERVICE
	    || r->caller.internal)
		return OK;
	return count_mail(r, REGISTER, NULL);
}

/* By its id: its address is another one each time. */
enum err
throttle_move(struct req *r)
{
	return count_mail(r, MOVE,
	    arena_printf(r->arena, "user %lld", (long long)r->uid));
}

enum err
throttle_forget(struct req *r, const char *email)
{
	return db_exec(r->db, &throttle_drop_account,
	    DB_ARGS(DB_TEXT(account_key(r, email))));
}

enum err
throttle_put_networks(
    struct req *r, struct buf *b, const char *key, const char *email)
{
	struct db_rows q = db_query(r->db, &throttle_networks,
	    DB_ARGS(DB_TEXT(account_key(r, email))));

	json_open(b, key, '[');
	while (db_next(&q)) {
		json_open(b, NULL, '{');
		json_text(b, "network", db_text(&q, 0));
		json_time(b, "signed_in_at", db_int(&q, 1));
		json_close(b, '}');
	}
	json_close(b, ']');
	return db_end(&q);
}
