/*
 * A service in a test, without a socket: a request goes through route, auth,
 * field and endpoint as it would behind nginx, against a database in a folder
 * of its own. The other services are played by the test (peer()).
 *
 *     struct reply_seen rep = call(t, "PUT", "/user/1/cart/7",
 *         "{\"quantity\":0}", AS_USER(1));
 *     assert_problem(&rep, 422, "#/quantity");
 */
#ifndef COSTER_LOOPBACK_H
#define COSTER_LOOPBACK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/app.h"
#include "shared/handle.h"
#include "shared/json.h"

#define NOW INT64_C(1800000000000) /* the frozen clock: 2027-01-15T08:00:00Z */

struct as {
	enum role role;
	int64_t uid;
	bool internal; /* from the internal network */
};

#define AS_NOBODY ((struct as) { ROLE_NOBODY, 0, false })
#define AS_INTERNAL ((struct as) { ROLE_NOBODY, 0, true })
#define AS_USER(id) ((struct as) { ROLE_CUSTOMER, (id), false })
#define AS_ADMIN ((struct as) { ROLE_ADMIN, 999, false })
#define AS_SERVICE ((struct as) { ROLE_SERVICE, 0, false })

struct reply_seen {
	int status;
	const char *fields; /* the header as sent */
	const char *body;
	struct json_object *json; /* of the body, or NULL */
};

struct t;

/* For cmocka_unit_test_setup_teardown(); *state is the struct t. The program
 * under test defines struct service service. */
int loopback_setup(void **state);
int loopback_teardown(void **state);

/* path may have a query. What is returned lives until the test ends. */
struct reply_seen call(struct t *t, const char *method, const char *path,
    const char *body, struct as who);

struct call {
	const char *method, *path, *body;
	struct as who;
	const char *param[PARAM__COUNT]; /* win over what is made up */
};
struct reply_seen call_with(struct t *t, const struct call *c);

/* The Authorization of a user, good for 900 seconds from now; of no session. */
const char *bearer_of(struct t *t, struct as who);

/* The next request to another service must be this one (fnmatch(3) pattern for
 * method and path, such as "GET /products/?ids=*") and is answered so; a status
 * of 0 is a service that cannot be reached. What is left over fails the test
 * at its end, and so does a call nobody expects. */
void peer(struct t *t, const char *request, int status, const char *body);
/* From now on a call nobody expects finds its service out of reach. */
void peers_down(struct t *t);
/* Expects nothing any more, and gives back the memory of the test so far. */
void peers_forget(struct t *t);
/* The body and the Idempotency-Key that the last such request had, or NULL. */
const char *peer_got(struct t *t);
const char *peer_key(struct t *t);

/* Did the last request leave the loop? */
bool was_deferred(const struct t *t);

/* Runs a job of the service once; what it answers. */
int64_t run_job(struct t *t, const char *name);

/* Runs a command of the service; its exit status. Words up to a NULL. */
int run_command(struct t *t, const char *name, ...);

/* Time goes on. */
void advance(struct t *t, int64_t ms);

/* The connection that the service's worker threads use, for a look inside. */
struct ctx *worker(struct t *t);
struct app *app_of(struct t *t);
/* Memory that lives until the test ends. */
struct arena *test_arena(struct t *t);
/* One integer that SQL text answers, INT_NONE for NULL or no row. */
int64_t sql_int(struct t *t, const char *sql);
int64_t sql_int_in(struct db *db, const char *sql);

/* A database of the service as it was before a step of its schema (2 or later),
 * in which SQL text was executed. The caller migrates and closes it. */
void open_before_step(
    struct t *t, int step, const char *sql, struct db *db);

/* Fails unless queries, ended by NULL, have the same rows, and some, before a step of
 * the schema and after the last; before that SQL text is executed. The caller closes
 * it. */
void assert_kept(struct t *t, int step, const char *sql,
    const char *const *queries, struct db *db);
/* Fails unless SQL text ends with this extended result code. */
void assert_refused(struct db *db, int code, const char *sql);

/* Fails unless every statement of the program whose SQL matches the fnmatch(3)
 * pattern reads along an index, without a scan of a table and without sorting;
 * how many they are. */
int check_plans(struct t *t, const char *pattern);

/* The same, but for steps of a plan that are as they should be: both are
 * patterns. Ends with an empty one. */
struct plan_exception {
	const char *step, *sql;
};
int check_plans_but(
    struct t *t, const char *pattern, const struct plan_exception *except);

/* One entry of a cmocka table. */
#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, loopback_setup, loopback_teardown)

#define assert_status(rep, want) check_status((rep), (want), __FILE__, __LINE__)
void check_status(
    const struct reply_seen *rep, int want, const char *file, int line);

/* pointer: one that errors must name, or NULL. */
#define assert_problem(rep, want, pointer)                                     \
	check_problem((rep), (want), (pointer), __FILE__, __LINE__)
void check_problem(const struct reply_seen *rep, int want, const char *pointer,
    const char *file, int line);

/* A member by path, "items/0/name"; INT_NONE or NULL where there is none. */
struct json_object *member(const struct reply_seen *rep, const char *path);
int64_t int_at(const struct reply_seen *rep, const char *path);
const char *text_at(const struct reply_seen *rep, const char *path);

#endif
