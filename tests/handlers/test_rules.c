/*
 * Who may call what. This file is linked with each service in turn: its routes
 * must be those of the table below, no more and no fewer, and each is called
 * by every kind of caller.
 */
#include "tests/loopback.h"

#include <regex.h>

#include "shared/req.h"
#include "shared/service.h"

enum { OWNER_ID = 7, OTHER_ID = 8 };

/* As design section 8 has it; every route of every service. */
static const struct {
	const char *service, *route, *who;
} rules[] = {
	{ "user", "POST /user", "anyone" },
	{ "user", "GET /user", "admin service" },
	{ "user", "GET /user/{uid}", "self admin service" },
	{ "user", "PUT /user/{uid}", "self admin" },
	{ "user", "PATCH /user/{uid}", "self admin" },
	{ "user", "DELETE /user/{uid}", "self admin" },
	{ "user", "GET /user/{uid}/export", "self admin" },
	{ "user", "POST /user/{uid}/verification", "self admin" },
	{ "user", "POST /user/verification", "anyone" },
	{ "user", "POST /password_reset", "anyone" },
	{ "user", "POST /password_reset/{word}", "anyone" },
	{ "user", "POST /session", "anyone" },
	{ "user", "POST /session/refresh", "anyone" },
	{ "user", "GET /session", "user" },
	{ "user", "DELETE /session", "user" },
	{ "user", "DELETE /session/{id}", "user" },
	{ "user", "GET /.well-known/jwks.json", "anyone" },

	{ "email", "POST /send_email", "admin service" },
	{ "email", "GET /send_email", "admin service" },
	{ "email", "GET /send_email/{id}", "admin service" },
	{ "email", "DELETE /send_email", "service" },

	{ "product", "POST /product", "admin" },
	{ "product", "GET /product/{id}", "anyone" },
	{ "product", "PUT /product/{id}", "admin" },
	{ "product", "PATCH /product/{id}", "admin" },
	{ "product", "DELETE /product/{id}", "admin" },
	{ "product", "GET /products", "anyone" },
	{ "product", "POST /product/reservations", "service" },
	{ "product", "GET /product/reservations/{id}", "service" },
	{ "product", "PATCH /product/reservations/{id}", "service" },
	{ "product", "DELETE /product/reservations/{id}", "service" },
	{ "product", "POST /product/reservations/{id}/commit", "service" },

	{ "cart", "POST /user/{uid}/cart", "self admin" },
	{ "cart", "GET /user/{uid}/cart", "self admin service" },
	{ "cart", "DELETE /user/{uid}/cart", "self admin service" },
	{ "cart", "GET /user/{uid}/cart/{id}", "self admin" },
	{ "cart", "PUT /user/{uid}/cart/{id}", "self admin" },
	{ "cart", "PATCH /user/{uid}/cart/{id}", "self admin" },
	{ "cart", "DELETE /user/{uid}/cart/{id}", "self admin" },
	{ "cart", "POST /user/{uid}/cart/checkout", "self admin" },

	{ "payment", "POST /invoices", "admin service" },
	{ "payment", "GET /invoices", "user service" },
	{ "payment", "GET /invoices/{id}", "user service" },
	{ "payment", "POST /invoices/{id}/pay", "user" },
	{ "payment", "POST /invoices/{id}/void", "admin" },
	{ "payment", "POST /invoices/{id}/refund", "admin" },

	{ "stats", "POST /log", "anyone" },
	{ "stats", "GET /log", "admin service internal" },
	{ "stats", "GET /log/{id}", "admin service internal" },
	{ "stats", "GET /log/summary", "admin service internal" },
	{ "stats", "DELETE /log", "service" },
};

static const char *
rule_of(const struct route *route)
{
	char text[128];

	snprintf(text, sizeof(text), "%s %s", route->method, route->pattern);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (strcmp(rules[i].service, service.name) == 0
		    && strcmp(rules[i].route, text) == 0)
			return rules[i].who;
	fail_msg("%s is in no table: who may call it?", text);
	return "";
}

/* The pattern with a user, an object and a word put in; arena. */
static const char *
path_of(struct t *t, const struct route *route)
{
	static const struct {
		const char *name, *value;
	} names[] = { { "{uid}", "7" }, { "{id}", "1" }, { "{word}", "abc" } };
	const char *path = route->pattern, *at;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if ((at = strstr(path, names[i].name)) != NULL)
			path = arena_printf(test_arena(t), "%.*s%s%s",
			    (int)(at - path), path, names[i].value,
			    at + strlen(names[i].name));
	return path;
}

static bool
has(const char *who, const char *word)
{
	return strstr(who, word) != NULL;
}

/* What a caller that is not let in hears; 0 for one that is. */
static int
refusal(const char *who, struct as as)
{
	bool user = as.role == ROLE_CUSTOMER || as.role == ROLE_ADMIN;

	if (has(who, "anyone") || (has(who, "user") && user)
	    || (has(who, "self") && user && as.uid == OWNER_ID)
	    || (has(who, "admin") && as.role == ROLE_ADMIN)
	    || (has(who, "service") && as.role == ROLE_SERVICE)
	    || (has(who, "internal") && as.internal))
		return 0;
	if (as.role == ROLE_NOBODY)
		return 401;
	return has(who, "self") && user ? 404 : 403;
}

static const struct {
	const char *name;
	struct as as;
} callers[] = {
	{ "nobody", { ROLE_NOBODY, 0, false } },
	{ "the internal network", { ROLE_NOBODY, 0, true } },
	{ "another customer", { ROLE_CUSTOMER, OTHER_ID, false } },
	{ "the owner", { ROLE_CUSTOMER, OWNER_ID, false } },
	{ "an administrator", { ROLE_ADMIN, 999, false } },
	{ "a service", { ROLE_SERVICE, 0, false } },
};

static void
test_rules__each_route_lets_in_whom_it_should(void **state)
{
	struct t *t = *state;
	size_t n = 0;

	peers_down(t);
	for (size_t i = 0; i < service.route_count; i++)
		for (size_t j = 0; j < service.routes[i]->count; j++) {
			const struct route *route = &service.routes[i]->list[j];
			const char *who = rule_of(route);

			for (size_t c = 0; c < ARRAY_LEN(callers); c++, n++) {
				int want = refusal(who, callers[c].as);
				struct reply_seen rep
				    = call(t, route->method, path_of(t, route),
					NULL, callers[c].as);

				/* Who is let in finds no such object, or
				 * faults in the empty body. */
				if (want != 0 ? rep.status != want
					      : rep.status == 403)
					fail_msg("%s %s by %s: %d %s",
					    route->method, route->pattern,
					    callers[c].name, rep.status,
					    rep.body);
			}
		}
	assert_true(n > 0);
}

/* Without a good token nobody is anybody, whatever the route; only those that
 * give a new token do not mind an old one. */
static void
test_rules__a_token_that_is_over_opens_nothing(void **state)
{
	struct t *t = *state;
	const char *old = bearer_of(t, AS_ADMIN);

	peers_down(t);
	advance(t, 900 * 1000);
	for (size_t i = 0; i < service.route_count; i++)
		for (size_t j = 0; j < service.routes[i]->count; j++) {
			const struct route *route = &service.routes[i]->list[j];
			struct call c = { route->method, path_of(t, route), NULL,
				AS_INTERNAL, { [PARAM_AUTHORIZATION] = old } };
			struct reply_seen rep = call_with(t, &c);
			unsigned renewing = ROUTE_ANYONE | ROUTE_SECRET;
			bool minds = (route->flags & renewing) != renewing;

			if (minds && rep.status != 401)
				fail_msg("%s %s: %d", route->method,
				    route->pattern, rep.status);
		}
}

static bool
is_served(const char *text)
{
	char route[128];

	for (size_t i = 0; i < service.route_count; i++)
		for (size_t j = 0; j < service.routes[i]->count; j++) {
			const struct route *have = &service.routes[i]->list[j];

			snprintf(route, sizeof(route), "%s %s", have->method,
			    have->pattern);
			if (strcmp(route, text) == 0)
				return true;
		}
	return false;
}

static void
test_rules__no_route_is_missing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (strcmp(rules[i].service, service.name) == 0
		    && !is_served(rules[i].route))
			fail_msg("%s is not served", rules[i].route);
}

/* Whatever a table grows to: no statement reads all of it, or sorts it. */
static void
test_rules__each_statement_reads_along_an_index(void **state)
{
	static const struct plan_exception as_it_should_be[] = {
		/* Short, or read from one end to the first that fits. */
		{ "SCAN outbox*", "*" },
		{ "SCAN invoice_number", "*" },
		{ "SCAN extension", "*" },
		{ "SCAN checkout", "DELETE*ORDER BY nr LIMIT 500*" },
		{ "SCAN reservation", "DELETE*ORDER BY id LIMIT 500*" },
		{ "SCAN oldest", "DELETE*LIMIT 500*" },
		{ "SCAN reset_request", "*LIMIT 1)*" },
		{ "SCAN checkout USING INDEX*", "*LIMIT 1" },
		{ "USE TEMP B-TREE*", "*FROM former_address WHERE user_id*" },
		/* All is what it is asked for: coster-user list. */
		{ "SCAN account", "SELECT id, role, email*" },
		/* Full-text search, and the ids of the query: what is sorted
		 * is what was found. */
		{ "SCAN product_search VIRTUAL*", "*" },
		{ "SCAN s VIRTUAL*", "*product_search MATCH*" },
		{ "SCAN json_each VIRTUAL*", "*" },
		{ "USE TEMP B-TREE*", "*product_search MATCH*" },
		{ "USE TEMP B-TREE*", "*json_each*" },
		/* Recursion from one key of an index to the next. */
		{ "SCAN q", "*" },
		{ "SCAN span", "*" },
		{ "SCAN each_action", "*" },
		{ "SCAN CONSTANT ROW", "*" },
		/* Would undo a violated key: none is deferred here. */
		{ "SCAN refund", "INSERT INTO attempt*" },
		{ NULL, NULL },
	};

	assert_true(check_plans_but(*state, "*", as_it_should_be) > 10);
}

/* SQLite makes a list of three and more into a table, at each write that it checks. */
static void
test_rules__no_check_has_a_list(void **state)
{
	sqlite3 *db = worker(*state)->db.handle;
	sqlite3_stmt *s;
	regex_t list;

	assert_int_equal(regcomp(&list, "CHECK \\([^)]* IN \\([^)]*,[^)]*,",
			     REG_EXTENDED | REG_NOSUB),
	    0);
	assert_int_equal(sqlite3_prepare_v2(db,
			     "SELECT sql FROM sqlite_schema"
			     " WHERE type = 'table'",
			     -1, &s, NULL),
	    SQLITE_OK);
	while (sqlite3_step(s) == SQLITE_ROW) {
		const char *sql = (const char *)sqlite3_column_text(s, 0);

		if (regexec(&list, sql, 0, NULL, 0) == 0)
			fail_msg("in a CHECK of %s", sql);
	}
	sqlite3_finalize(s);
	regfree(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rules__each_route_lets_in_whom_it_should),
		TEST(test_rules__a_token_that_is_over_opens_nothing),
		TEST(test_rules__no_route_is_missing),
		TEST(test_rules__each_statement_reads_along_an_index),
		TEST(test_rules__no_check_has_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
