#include "handlers/payment/payment.h"
#include "shared/clock.h"
#include "shared/service.h"
#include "tests/loopback.h"

#define INVOICE                                                                \
	"{\"user_id\":7,\"currency\":\"EUR\",\"reservation_id\":12,"           \
	"\"lines\":[{\"product_id\":3,\"description\":\"Tea\","                \
	"\"quantity\":2,\"price\":450}]}"
#define BY(token) "{\"method\":\"sandbox\",\"token\":\"" token "\"}"

/* An invoice of user 7 over 900. */
static void
make_invoice(struct t *t)
{
	struct reply_seen rep
	    = call(t, "POST", "/invoices", INVOICE, AS_SERVICE);

	assert_status(&rep, 201);
}

static struct reply_seen
pay(struct t *t, const char *body)
{
	return call(t, "POST", "/invoices/1/pay", body, AS_USER(7));
}

static struct reply_seen
refund(struct t *t, const char *body)
{
	return call(t, "POST", "/invoices/1/refund", body, AS_ADMIN);
}

static void
change(struct t *t, const char *sql)
{
	char *why = NULL;

	if (sqlite3_exec(worker(t)->db.handle, sql, NULL, NULL, &why)
	    != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
}

static void
check_conflict(const struct reply_seen *rep, const char *type)
{
	assert_problem(rep, 409, NULL);
	assert_string_equal(text_at(rep, "type") + strlen("urn:coster:problem:"),
	    type);
}

static void
check_invoice(struct t *t, const char *status, int64_t paid, int64_t refunded)
{
	struct reply_seen rep
	    = call(t, "GET", "/invoices/1", NULL, AS_USER(7));

	assert_string_equal(text_at(&rep, "status"), status);
	assert_int_equal(int_at(&rep, "amount_paid"), paid);
	assert_int_equal(int_at(&rep, "amount_refunded"), refunded);
}

/* How many rows of a table there are with a status, NULL for any. */
static int64_t
count(struct t *t, const char *table, const char *status)
{
	const char *which = status != NULL
	    ? arena_printf(&worker(t)->arena, "status = '%s'", status)
	    : "true";

	return sql_int(t,
	    arena_printf(&worker(t)->arena,
		"SELECT count(*) FROM %s WHERE %s", table, which));
}

static int64_t
charges(struct t *t)
{
	return sql_int(t, "SELECT count(*) FROM sandbox_charge");
}

static void
test_payment__tells_the_other_services(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	advance(t, CLOCK_MINUTE);
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "status"), "paid");
	assert_int_equal(int_at(&rep, "amount_paid"), 900);
	assert_string_equal(
	    text_at(&rep, "paid_at"), "2027-01-15T08:01:00.000Z");
	assert_int_equal(int_at(&rep, "version"), 2);
	assert_non_null(strstr(rep.fields, "ETag: \"2\"\r\n"));
	assert_int_equal(sql_int(t,
			     "SELECT body = '{\"at\":"
			     "\"2027-01-15T08:01:00.000Z\",\"user_id\":7,"
			     "\"action\":\"invoice.paid\",\"data\":"
			     "{\"invoice_id\":1,\"total\":900,"
			     "\"currency\":\"EUR\"}}'"
			     " FROM outbox WHERE path = '/log'"),
	    1);
	assert_int_equal(sql_int(t,
			     "SELECT body = '{\"user_id\":7,"
			     "\"template\":\"receipt\",\"vars\":"
			     "{\"number\":1,\"total\":900,"
			     "\"currency\":\"EUR\"}}'"
			     " FROM outbox WHERE path = '/send_email/'"),
	    1);
	peer(t, "POST /log", 201, "{}");
	peer(t, "POST /product/reservations/12/commit", 200, "{}");
	peer(t, "POST /send_email/", 202, "{}");
	run_job(t, "outbox");
	assert_int_equal(count(t, "outbox", NULL), 0);
}

static void
test_payment__mail_that_is_down_holds_nothing_up(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
	peer(t, "POST /log", 201, "{}");
	peer(t, "POST /product/reservations/12/commit", 0, NULL);
	peer(t, "POST /send_email/", 0, NULL);
	run_job(t, "outbox");
	assert_int_equal(count(t, "outbox", NULL), 2);
}

static void
test_payment__declined_may_be_tried_again(void **state)
{
	static const char *const bodies[] = { BY("tok_decline"), BY("tok_other"),
		"{\"method\":\"sandbox\"}",
		"{\"method\":\"sandbox\",\"token\":null}" };
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		rep = pay(t, bodies[i]);
		assert_problem(&rep, 402, NULL);
	}
	assert_int_equal(count(t, "attempt", "declined"), 4);
	check_invoice(t, "open", 0, 0);
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
}

static void
test_payment__declined_too_often_waits(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	for (int i = 0; i < 20; i++) {
		rep = pay(t, BY("tok_declined"));
		assert_status(&rep, 402);
		advance(t, CLOCK_MINUTE);
	}
	rep = pay(t, BY("tok_ok"));
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 2400\r\n"));
	advance(t, 40 * CLOCK_MINUTE);
	rep = pay(t, BY("tok_declined"));
	assert_status(&rep, 402);
	rep = pay(t, BY("tok_ok"));
	assert_problem(&rep, 429, NULL);
	assert_non_null(strstr(rep.fields, "Retry-After: 60\r\n"));
	/* A bank transfer that has come is no try. */
	rep = call(t, "POST", "/invoices/1/pay", "{\"method\":\"manual\"}", AS_ADMIN);
	assert_status(&rep, 200);
}

static void
test_payment__declined_may_be_tried_again_with_its_key(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/invoices/1/pay", BY("tok_decline"),
		AS_USER(7), { [PARAM_IDEMPOTENCY_KEY] = "k" } };
	struct reply_seen rep;

	make_invoice(t);
	rep = call_with(t, &c);
	assert_problem(&rep, 402, NULL);
	c.body = BY("tok_ok");
	rep = call_with(t, &c);
	assert_status(&rep, 200);
}

/* What the gateway could see of the attempt while it charged. */
static void
test_payment__is_recorded_before_the_gateway_is_told(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	change(t,
	    "CREATE TABLE seen (status, wait);"
	    "CREATE TRIGGER look AFTER INSERT ON sandbox_charge BEGIN"
	    " INSERT INTO seen SELECT status, due_at - created_at FROM attempt"
	    " WHERE key = NEW.key; END");
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
	assert_int_equal(
	    sql_int(t, "SELECT wait FROM seen WHERE status = 'started'"),
	    CLOCK_MINUTE);
}

static void
test_payment__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{}", "#/method" },
		{ "{\"method\":\"cash\"}", "#/method" },
		{ "{\"method\":\"\"}", "#/method" },
		{ "{\"method\":1}", "#/method" },
		{ "{\"method\":\"sandbox\",\"token\":\"\"}", "#/token" },
		{ "{\"method\":\"sandbox\",\"amount\":1}", "#/amount" },
	};
	struct t *t = *state;

	make_invoice(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = pay(t, cases[i].body);

		assert_problem(&rep, 422, cases[i].pointer);
	}
	assert_int_equal(count(t, "attempt", NULL), 0);
}

static void
test_payment__only_by_what_is_offered(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	assert_int_equal(gateway_offer("manual"), OK);
	rep = pay(t, BY("tok_ok"));
	assert_problem(&rep, 422, "#/method");
}

static void
test_payment__only_known_gateways_are_offered(void **state)
{
	static const struct {
		const char *names;
		enum err err;
	} cases[] = {
		{ "manual", OK },
		{ "sandbox", OK },
		{ "sandbox,manual", OK },
		{ "", ERR_INVALID },
		{ "man", ERR_INVALID },
		{ "manual,", ERR_INVALID },
		{ "manual,paypal", ERR_INVALID },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		payment_settings.gateways = cases[i].names;
		assert_int_equal(service.start(app_of(t)), cases[i].err);
	}
}

static void
test_payment__who_may_pay(void **state)
{
	static const struct {
		const char *path, *body;
		struct as who;
		int status;
	} cases[] = {
		{ "/invoices/1/pay", BY("tok_ok"), AS_NOBODY, 401 },
		{ "/invoices/1/pay", BY("tok_ok"), AS_SERVICE, 403 },
		{ "/invoices/1/pay", BY("tok_ok"), AS_USER(8), 404 },
		{ "/invoices/1/pay", "{\"method\":\"manual\"}", AS_USER(8), 404 },
		{ "/invoices/1/pay", "{\"method\":\"manual\"}", AS_USER(7), 403 },
		{ "/invoices/2/pay", BY("tok_ok"), AS_ADMIN, 404 },
		{ "/invoices/1/pay", BY("tok_decline"), AS_ADMIN, 402 },
		{ "/invoices/1/refund", NULL, AS_NOBODY, 401 },
		{ "/invoices/1/refund", NULL, AS_USER(7), 403 },
		{ "/invoices/1/refund", NULL, AS_SERVICE, 403 },
		{ "/invoices/2/refund", NULL, AS_ADMIN, 404 },
	};
	struct t *t = *state;

	make_invoice(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = call(
		    t, "POST", cases[i].path, cases[i].body, cases[i].who);

		assert_problem(&rep, cases[i].status, NULL);
	}
	check_invoice(t, "open", 0, 0);
}

static void
test_payment__manual_keeps_the_reference(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = call(t, "POST", "/invoices/1/pay",
	    "{\"method\":\"manual\",\"token\":\"statement 4\"}", AS_ADMIN);
	assert_status(&rep, 200);
	assert_int_equal(
	    sql_int(t, "SELECT reference = 'statement 4' FROM attempt"), 1);
	rep = refund(t, NULL);
	assert_status(&rep, 200);
	check_invoice(t, "refunded", 900, 900);
}

static void
test_payment__only_an_open_invoice_is_paid(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_ok"));
	rep = pay(t, BY("tok_ok"));
	check_conflict(&rep, "invoice-paid");
	rep = call(t, "POST", "/invoices/1/void", NULL, AS_ADMIN);
	check_conflict(&rep, "invoice-paid");
	rep = refund(t, NULL);
	assert_status(&rep, 200);
	rep = pay(t, BY("tok_ok"));
	check_conflict(&rep, "invoice-refunded");
	change(t, "UPDATE invoice SET status = 'void'");
	rep = pay(t, BY("tok_ok"));
	check_conflict(&rep, "invoice-void");
	assert_int_equal(charges(t), 2);
	assert_int_equal(count(t, "attempt", NULL), 1);
}

static void
test_payment__of_an_older_version_is_refused(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = call_with(t,
	    &(struct call) { "POST", "/invoices/1/pay", BY("tok_ok"), AS_USER(7),
		{ [PARAM_IF_MATCH] = "\"2\"" } });
	assert_problem(&rep, 412, NULL);
	assert_int_equal(charges(t), 0);
}

static void
test_payment__same_key_charges_once(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/invoices/1/pay", BY("tok_ok"), AS_USER(7),
		{ [PARAM_IDEMPOTENCY_KEY] = "k" } };
	struct reply_seen rep;

	make_invoice(t);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	assert_non_null(strstr(rep.fields, "Idempotent-Replayed: true\r\n"));
	assert_int_equal(charges(t), 1);
}

static void
test_payment__without_an_answer_is_asked_about(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_timeout"));
	assert_status(&rep, 202);
	assert_string_equal(text_at(&rep, "status"), "open");
	assert_non_null(strstr(rep.fields, "Retry-After: 2\r\n"));
	rep = pay(t, BY("tok_ok"));
	check_conflict(&rep, "payment-in-progress");
	advance(t, 2 * CLOCK_SECOND - 1);
	assert_int_not_equal(run_job(t, "settle attempts"), 0);
	assert_int_equal(count(t, "attempt", "unknown"), 1);
	advance(t, 1);
	assert_int_equal(run_job(t, "settle attempts"), 0);
	check_invoice(t, "paid", 900, 0);
	assert_int_not_equal(run_job(t, "settle attempts"), 0);
	assert_int_equal(charges(t), 1);
	assert_int_equal(count(t, "attempt", NULL), 1);
	/* Also told to the others: commit, receipt, log. */
	assert_int_equal(count(t, "outbox", NULL), 3);
}

static void
test_payment__is_asked_about_when_the_clock_is_set_back(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_timeout"));
	assert_status(&rep, 202);
	advance(t, -CLOCK_DAY);
	assert_int_equal(run_job(t, "settle attempts"), 0);
	check_invoice(t, "paid", 900, 0);
	/* Also behind one that is due. */
	make_invoice(t);
	sql_int(t,
	    "INSERT INTO attempt (invoice_id, gateway, key, amount, status, due_at,"
	    " created_at) VALUES (1, 'gone', 'k1', 900, 'unknown', 7, 7),"
	    " (2, 'gone', 'k2', 900, 'unknown', 1800000000000, 7)");
	assert_int_equal(run_job(t, "settle attempts"), 0);
	assert_true(sql_int(t, "SELECT max(due_at) FROM attempt")
	    < NOW - CLOCK_DAY + CLOCK_HOUR);
}

static void
test_payment__declined_late_may_be_tried_again(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_timeout_decline"));
	assert_status(&rep, 202);
	advance(t, 2 * CLOCK_SECOND);
	assert_int_equal(run_job(t, "settle attempts"), 0);
	assert_int_equal(count(t, "attempt", "declined"), 1);
	check_invoice(t, "open", 0, 0);
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
}

/* What a gateway does not know yet it may hear of any moment. */
static void
test_payment__lost_is_declined_when_it_cannot_arrive_any_more(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_lost"));
	assert_status(&rep, 202);
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(count(t, "attempt", "unknown"), 1);
		advance(t, CLOCK_MINUTE);
		assert_int_equal(run_job(t, "settle attempts"), 0);
	}
	assert_int_equal(count(t, "attempt", "declined"), 1);
	check_invoice(t, "open", 0, 0);
	assert_int_equal(charges(t), 0);
}

static void
test_payment__silent_gateway_is_asked_ever_more_slowly(void **state)
{
	static const int64_t waits[]
	    = { 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600 };
	struct t *t = *state;

	make_invoice(t);
	change(t,
	    "INSERT INTO attempt (invoice_id, gateway, key, amount, status,"
	    " due_at, created_at) VALUES (1, 'gone', 'k', 900, 'unknown', 0, 0)");
	for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
		assert_int_equal(run_job(t, "settle attempts"), 0);
		advance(t, waits[i] * CLOCK_SECOND - 1);
		assert_int_not_equal(run_job(t, "settle attempts"), 0);
		advance(t, 1);
	}
	assert_int_equal(count(t, "attempt", "unknown"), 1);
}

/* As if the process had died after the attempt was on disk. */
static void
die_paying(struct t *t, const char *gateway, const char *origin)
{
	change(t,
	    arena_printf(&worker(t)->arena,
		"INSERT INTO attempt (invoice_id, gateway, key, amount, origin,"
		" due_at, created_at) VALUES (1, '%s', 'k', 900, '%s',"
		" %lld + 60000, %lld)",
		gateway, origin, (long long)NOW, (long long)NOW));
}

static void
test_payment__interrupted_is_settled_after_a_minute(void **state)
{
	static const struct {
		const char *gateway, *charge, *attempt, *invoice;
	} cases[] = {
		{ "sandbox", NULL, "unknown", "open" },
		{ "sandbox", "0", "declined", "open" },
		{ "sandbox", "1", "succeeded", "paid" },
		{ "manual", NULL, "succeeded", "paid" },
	};
	struct t *t = *state;

	make_invoice(t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		die_paying(t, cases[i].gateway, "r");
		if (cases[i].charge != NULL)
			change(t,
			    arena_printf(&worker(t)->arena,
				"INSERT INTO sandbox_charge (key, token, amount,"
				" currency, succeeded)"
				" VALUES ('k', 'tok_ok', 900, 'EUR', %s)",
				cases[i].charge));
		advance(t, CLOCK_MINUTE - 1);
		assert_int_not_equal(run_job(t, "settle attempts"), 0);
		assert_int_equal(count(t, "attempt", "started"), 1);
		advance(t, 1);
		assert_int_equal(run_job(t, "settle attempts"), 0);
		assert_int_equal(count(t, "attempt", cases[i].attempt), 1);
		check_invoice(t, cases[i].invoice,
		    cases[i].invoice[0] == 'p' ? 900 : 0, 0);
		advance(t, -CLOCK_MINUTE);
		change(t,
		    "DELETE FROM attempt; DELETE FROM sandbox_charge;"
		    "UPDATE invoice SET status = 'open', amount_paid = 0");
	}
}

static void
test_payment__repeated_request_goes_on_with_its_attempt(void **state)
{
	struct t *t = *state;
	struct call c = { "POST", "/invoices/1/pay", BY("tok_ok"), AS_USER(7),
		{ [PARAM_REQUEST_ID] = "other" } };
	struct reply_seen rep;

	make_invoice(t);
	die_paying(t, "sandbox", "r");
	rep = call_with(t, &c);
	check_conflict(&rep, "payment-in-progress");
	assert_int_equal(charges(t), 0);
	c.param[PARAM_REQUEST_ID] = "r";
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "status"), "paid");
	assert_int_equal(charges(t), 1);
	assert_int_equal(count(t, "attempt", "succeeded"), 1);
	assert_int_equal(count(t, "attempt", NULL), 1);
}

/* The gateway had charged when the process died. */
static void
test_payment__repeated_request_gets_the_first_outcome(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	die_paying(t, "sandbox", "7 key");
	change(t,
	    "INSERT INTO sandbox_charge (key, token, amount, currency, succeeded)"
	    " VALUES ('k', 'tok_ok', 900, 'EUR', 1)");
	rep = call_with(t,
	    &(struct call) { "POST", "/invoices/1/pay", BY("tok_decline"),
		AS_USER(7), { [PARAM_IDEMPOTENCY_KEY] = "key" } });
	assert_status(&rep, 200);
	check_invoice(t, "paid", 900, 0);
	assert_int_equal(charges(t), 1);
}

static void
test_payment__repeated_request_keeps_to_its_gateway(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	die_paying(t, "sandbox", "999 key");
	rep = call_with(t,
	    &(struct call) { "POST", "/invoices/1/pay",
		"{\"method\":\"manual\",\"token\":\"tok_decline\"}", AS_ADMIN,
		{ [PARAM_IDEMPOTENCY_KEY] = "key" } });
	assert_problem(&rep, 402, NULL);
	check_invoice(t, "open", 0, 0);
}

/* The job was quicker than the client who tries again. */
static void
test_payment__repeated_request_finds_what_was_settled(void **state)
{
	static const struct {
		const char *status;
		int want;
	} cases[] = { { "unknown", 202 }, { "succeeded", 200 } };
	struct t *t = *state;

	make_invoice(t);
	die_paying(t, "sandbox", "r");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		change(t,
		    arena_printf(&worker(t)->arena,
			"DELETE FROM idempotency; UPDATE attempt SET status = '%s'",
			cases[i].status));
		rep = call_with(t,
		    &(struct call) { "POST", "/invoices/1/pay", BY("tok_ok"),
			AS_USER(7), { [PARAM_REQUEST_ID] = "r" } });
		assert_status(&rep, cases[i].want);
	}
	assert_int_equal(charges(t), 0);
	assert_int_equal(count(t, "attempt", NULL), 1);
}

static void
test_payment__late_success_wins_over_void(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, BY("tok_timeout"));
	assert_status(&rep, 202);
	rep = call(t, "POST", "/invoices/1/void", NULL, AS_ADMIN);
	assert_status(&rep, 200);
	advance(t, 2 * CLOCK_SECOND);
	assert_int_equal(run_job(t, "settle attempts"), 0);
	check_invoice(t, "paid", 900, 0);
	peer(t, "POST /log", 201, "{}");
	peer(t, "DELETE /product/reservations/12", 204, NULL);
	peer(t, "POST /send_email/", 202, "{}");
	run_job(t, "outbox");
	peer(t, "POST /product/reservations/12/commit", 200, "{}");
	run_job(t, "outbox");
}

/* A process that was held up so long that the job took its charge for lost. */
static void
test_payment__late_success_wins_over_declined(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	change(t,
	    "CREATE TRIGGER lost AFTER INSERT ON sandbox_charge BEGIN"
	    " UPDATE attempt SET status = 'declined' WHERE key = NEW.key; END");
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
	check_invoice(t, "paid", 900, 0);
	assert_int_equal(count(t, "attempt", "succeeded"), 1);
}

static void
test_payment__that_is_one_too_many_changes_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	change(t,
	    "CREATE TRIGGER other AFTER INSERT ON sandbox_charge BEGIN"
	    " UPDATE invoice SET status = 'paid', amount_paid = total; END");
	rep = pay(t, BY("tok_ok"));
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "version"), 1);
	check_invoice(t, "paid", 900, 0);
	assert_int_equal(count(t, "attempt", "succeeded"), 1);
	assert_int_equal(count(t, "outbox", NULL), 0);
}

static void
make_paid(struct t *t, const char *body)
{
	struct reply_seen rep;

	make_invoice(t);
	rep = pay(t, body);
	assert_status(&rep, 200);
}

static void
test_refund__in_parts_until_all_is_given_back(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_paid(t, BY("tok_ok"));
	rep = refund(t, "{\"amount\":300}");
	assert_status(&rep, 200);
	assert_int_equal(int_at(&rep, "version"), 3);
	check_invoice(t, "paid", 900, 300);
	rep = refund(t, "{\"amount\":601}");
	assert_problem(&rep, 422, "#/amount");
	rep = refund(t, "{\"amount\":600}");
	assert_status(&rep, 200);
	check_invoice(t, "refunded", 900, 900);
	rep = refund(t, "{\"amount\":1}");
	check_conflict(&rep, "invoice-refunded");
	assert_int_equal(sql_int(t,
			     "SELECT sum(amount) FROM sandbox_charge"
			     " WHERE refund_of IS NOT NULL"),
	    900);
}

static void
test_refund__without_an_amount_is_of_all_that_is_left(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_paid(t, BY("tok_ok"));
	rep = refund(t, "{\"amount\":1}");
	assert_status(&rep, 200);
	rep = refund(t, "{}");
	assert_status(&rep, 200);
	check_invoice(t, "refunded", 900, 900);
	assert_int_equal(sql_int(t, "SELECT max(amount) FROM refund"), 899);
}

static void
test_refund__bad_bodies_are_refused(void **state)
{
	static const struct {
		const char *body, *pointer;
	} cases[] = {
		{ "{\"amount\":0}", "#/amount" },
		{ "{\"amount\":-1}", "#/amount" },
		{ "{\"amount\":901}", "#/amount" },
		{ "{\"amount\":\"1\"}", "#/amount" },
		{ "{\"reason\":\"x\"}", "#/reason" },
	};
	struct t *t = *state;

	make_paid(t, BY("tok_ok"));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep = refund(t, cases[i].body);

		assert_problem(&rep, 422, cases[i].pointer);
	}
	assert_int_equal(count(t, "refund", NULL), 0);
}

static void
test_refund__needs_a_payment(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_invoice(t);
	rep = refund(t, NULL);
	check_conflict(&rep, "invoice-open");
	change(t, "UPDATE invoice SET status = 'paid'");
	rep = refund(t, NULL);
	check_conflict(&rep, "nothing-to-refund");
}

static void
test_refund__uses_a_gateway_that_is_no_longer_offered(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_paid(t, BY("tok_ok"));
	assert_int_equal(gateway_offer("manual"), OK);
	rep = refund(t, NULL);
	assert_status(&rep, 200);
	assert_int_equal(charges(t), 2);
}

static void
test_refund__that_is_declined_changes_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_paid(t, BY("tok_refund_decline"));
	rep = refund(t, NULL);
	check_conflict(&rep, "refund-declined");
	check_invoice(t, "paid", 900, 0);
	assert_int_equal(count(t, "refund", "declined"), 1);
}

static void
test_refund__without_an_answer_is_asked_about(void **state)
{
	static const struct {
		const char *pay, *status, *invoice;
		int64_t refunded, charges;
		int questions;
	} cases[] = {
		{ BY("tok_refund_timeout"), "succeeded", "refunded", 900, 2, 1 },
		{ BY("tok_refund_lost"), "declined", "paid", 0, 1, 3 },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reply_seen rep;

		make_paid(t, cases[i].pay);
		rep = refund(t, NULL);
		assert_status(&rep, 202);
		assert_non_null(strstr(rep.fields, "Retry-After: 2\r\n"));
		check_invoice(t, "paid", 900, 0);
		rep = refund(t, "{\"amount\":1}");
		check_conflict(&rep, "refund-in-progress");
		for (int n = 0; n < cases[i].questions; n++) {
			advance(t, CLOCK_MINUTE);
			assert_int_equal(run_job(t, "settle attempts"), 0);
		}
		assert_int_not_equal(run_job(t, "settle attempts"), 0);
		check_invoice(t, cases[i].invoice, 900, cases[i].refunded);
		assert_int_equal(count(t, "refund", cases[i].status), 1);
		assert_int_equal(charges(t), cases[i].charges);
		change(t,
		    "DELETE FROM refund; DELETE FROM attempt;"
		    "DELETE FROM sandbox_charge; DELETE FROM invoice_line;"
		    "DELETE FROM invoice; DELETE FROM outbox");
	}
}

/* The process died when the gateway had given the money back, and a job found
 * that out before the administrator tried again. */
static void
test_refund__same_key_refunds_once(void **state)
{
	static const char *const statuses[] = { "started", "succeeded" };
	struct t *t = *state;
	struct call c = { "POST", "/invoices/1/refund", "{\"amount\":300}",
		AS_ADMIN, { [PARAM_IDEMPOTENCY_KEY] = "key" } };
	struct reply_seen rep;

	make_paid(t, BY("tok_ok"));
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		change(t,
		    arena_printf(&worker(t)->arena,
			"DELETE FROM idempotency; UPDATE refund SET status = '%s';"
			"UPDATE invoice SET amount_refunded = %d",
			statuses[i], i == 0 ? 0 : 300));
		rep = call_with(t, &c);
		assert_status(&rep, 200);
		check_invoice(t, "paid", 900, 300);
		assert_int_equal(charges(t), 2);
	}
	advance(t, CLOCK_DAY);
	rep = call_with(t, &c);
	assert_status(&rep, 200);
	check_invoice(t, "paid", 900, 600);
}

static void
test_refund__that_is_one_too_many_changes_nothing(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	make_paid(t, BY("tok_ok"));
	change(t,
	    "CREATE TRIGGER other AFTER INSERT ON sandbox_charge BEGIN"
	    " UPDATE invoice SET amount_refunded = 1; END");
	rep = refund(t, "{\"amount\":900}");
	assert_status(&rep, 200);
	check_invoice(t, "paid", 900, 1);
	assert_int_equal(count(t, "refund", "succeeded"), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_payment__tells_the_other_services),
		TEST(test_payment__mail_that_is_down_holds_nothing_up),
		TEST(test_payment__declined_may_be_tried_again),
		TEST(test_payment__declined_too_often_waits),
		TEST(test_payment__declined_may_be_tried_again_with_its_key),
		TEST(test_payment__is_recorded_before_the_gateway_is_told),
		TEST(test_payment__bad_bodies_are_refused),
		TEST(test_payment__only_by_what_is_offered),
		TEST(test_payment__only_known_gateways_are_offered),
		TEST(test_payment__who_may_pay),
		TEST(test_payment__manual_keeps_the_reference),
		TEST(test_payment__only_an_open_invoice_is_paid),
		TEST(test_payment__of_an_older_version_is_refused),
		TEST(test_payment__same_key_charges_once),
		TEST(test_payment__without_an_answer_is_asked_about),
		TEST(test_payment__is_asked_about_when_the_clock_is_set_back),
		TEST(test_payment__declined_late_may_be_tried_again),
		TEST(test_payment__lost_is_declined_when_it_cannot_arrive_any_more),
		TEST(test_payment__silent_gateway_is_asked_ever_more_slowly),
		TEST(test_payment__interrupted_is_settled_after_a_minute),
		TEST(test_payment__repeated_request_goes_on_with_its_attempt),
		TEST(test_payment__repeated_request_gets_the_first_outcome),
		TEST(test_payment__repeated_request_keeps_to_its_gateway),
		TEST(test_payment__repeated_request_finds_what_was_settled),
		TEST(test_payment__late_success_wins_over_void),
		TEST(test_payment__late_success_wins_over_declined),
		TEST(test_payment__that_is_one_too_many_changes_nothing),
		TEST(test_refund__in_parts_until_all_is_given_back),
		TEST(test_refund__without_an_amount_is_of_all_that_is_left),
		TEST(test_refund__bad_bodies_are_refused),
		TEST(test_refund__needs_a_payment),
		TEST(test_refund__uses_a_gateway_that_is_no_longer_offered),
		TEST(test_refund__that_is_declined_changes_nothing),
		TEST(test_refund__without_an_answer_is_asked_about),
		TEST(test_refund__same_key_refunds_once),
		TEST(test_refund__that_is_one_too_many_changes_nothing),
	};

	setenv("COSTER_GATEWAYS", "manual,sandbox", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
