/*
 * Delivery, into a Maildir and to an SMTP server that lives in this file.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/email/email.h"
#include "shared/clock.h"
#include "shared/file.h"
#include "shared/jobs.h"
#include "shared/service.h"
#include "tests/faults.h"
#include "tests/loopback.h"

#define TO(address)                                                            \
	"{\"to\":\"" address "\",\"subject\":\"Hi\",\"text\":\"Hello\\n\"}"
#define OF_USER "{\"user_id\":7,\"subject\":\"a\",\"text\":\"b\"}"

/* How the server answers the recipient whose name is before the @. */
static const struct {
	const char *name, *to_rcpt, *to_data;
} manners[] = {
	{ "later", "451 4.7.1 Come back", NULL },
	{ "never", "550-5.1.1 A line before\r\n550 5.1.1 Nobody \xe9here", NULL },
	{ "spam", "250 OK", "554 5.7.1 Spam" },
	{ "full", "250 OK", "452 4.2.2 Mailbox full" },
	{ "sign", "530 5.7.0 Must issue STARTTLS first", NULL },
	{ "relay", "554 5.7.1 Access denied", NULL },
	{ "exim", "550 relay not permitted", NULL },
	{ "gone", "550 5.1.1 User unknown in relay recipient table", NULL },
	{ "name", "504 Need a full name", NULL },
	{ "drop", NULL, NULL }, /* hangs up */
};

static struct {
	int listener, port;
	pthread_t thread;
	_Atomic int peer; /* descriptor of the connection */
	int connections, mails;
	char message[4096]; /* the last one, as sent */
	char login[128];    /* what AUTH PLAIN (RFC 4616) gave */
	char name[128];	    /* as which the client came */
	const char *to_mail; /* the sender is refused so; or NULL */
} server;

static const char *
answer_of(const char *line, bool data)
{
	for (size_t i = 0; i < ARRAY_LEN(manners); i++)
		if (strstr(line, manners[i].name) != NULL)
			return data ? manners[i].to_data : manners[i].to_rcpt;
	return "250 OK";
}

/* One mail's lines up to the dot. */
static void
take_message(FILE *f)
{
	char line[1100];
	size_t len = 0;

	while (fgets(line, sizeof(line), f) != NULL
	    && strcmp(line, ".\r\n") != 0)
		len += (size_t)snprintf(server.message + len,
		    sizeof(server.message) - len, "%s", line);
	server.mails++;
}

static void
converse(FILE *f)
{
	char line[1100], rcpt[1100] = "";
	const char *answer;

	fprintf(f, "220 test\r\n");
	while (fgets(line, sizeof(line), f) != NULL) {
		answer = "250 OK";
		if (strncmp(line, "EHLO", 4) == 0) {
			answer = "250-test\r\n250-AUTH PLAIN\r\n250 SIZE 1000000";
			snprintf(server.name, sizeof(server.name), "%.100s", line);
		} else if (strncmp(line, "MAIL", 4) == 0
		    && server.to_mail != NULL) {
			answer = server.to_mail;
		} else if (strncmp(line, "AUTH", 4) == 0) {
			fprintf(f, "334 \r\n");
			if (fgets(server.login, sizeof(server.login), f) == NULL)
				return;
			answer = "235 OK";
		} else if (strncmp(line, "RCPT", 4) == 0) {
			snprintf(rcpt, sizeof(rcpt), "%s", line);
			if ((answer = answer_of(rcpt, false)) == NULL)
				return;
		} else if (strncmp(line, "DATA", 4) == 0) {
			fprintf(f, "354 go\r\n");
			take_message(f);
			answer = answer_of(rcpt, true);
		}
		fprintf(f, "%s\r\n", answer);
		if (strncmp(line, "QUIT", 4) == 0)
			return;
	}
}

static void *
serve(void *unused)
{
	(void)unused;
	while ((server.peer = accept(server.listener, NULL, NULL)) >= 0) {
		FILE *f = fdopen(server.peer, "r+");

		setvbuf(f, NULL, _IOLBF, 2000);
		server.connections++;
		converse(f);
		fclose(f);
	}
	return NULL;
}

static int
smtp_setup(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);
	char url[64];

	memset(&server, 0, sizeof(server));
	server.peer = -1;
	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(
	    bind(server.listener, (struct sockaddr *)&at, len), 0);
	assert_return_code(listen(server.listener, 5), 0);
	getsockname(server.listener, (struct sockaddr *)&at, &len);
	server.port = ntohs(at.sin_port);
	pthread_create(&server.thread, NULL, serve, NULL);
	snprintf(url, sizeof(url), "smtp://127.0.0.1:%d", server.port);
	setenv("COSTER_MAIL_URL", url, 1);
	return loopback_setup(state);
}

static int
smtp_teardown(void **state)
{
	/* A connection that is kept open ends with the listener. */
	shutdown(server.listener, SHUT_RDWR);
	if (server.peer >= 0)
		shutdown(server.peer, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.listener);
	return loopback_teardown(state);
}

static char maildir[64];

static int
maildir_setup(void **state)
{
	char url[80];

	snprintf(maildir, sizeof(maildir), "/tmp/coster-mail.XXXXXX");
	assert_non_null(mkdtemp(maildir));
	snprintf(url, sizeof(url), "maildir:%s", maildir);
	setenv("COSTER_MAIL_URL", url, 1);
	return loopback_setup(state);
}

/* Calls fn for each file of a folder of the Maildir; how many there are. */
static int
each_file(const char *folder, void (*fn)(const char *path))
{
	char path[512];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", maildir, folder);
	assert_non_null(d = opendir(path));
	while ((e = readdir(d)) != NULL) {
		if (*e->d_name == '.')
			continue;
		n++;
		snprintf(path, sizeof(path), "%s/%s/%s", maildir, folder,
		    e->d_name);
		if (fn != NULL)
			fn(path);
	}
	closedir(d);
	return n;
}

static void
delete_file(const char *path)
{
	unlink(path);
}

static int
maildir_teardown(void **state)
{
	static const char *const folders[] = { "tmp", "new", "cur", "" };
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", maildir, folders[i]);
		if (i < 3 && access(path, F_OK) == 0)
			each_file(folders[i], delete_file);
		rmdir(path);
	}
	return loopback_teardown(state);
}

static int64_t
post(struct t *t, const char *body)
{
	struct reply_seen rep = call(t, "POST", "/send_email/", body,
	    strstr(body, "user_id") != NULL ? AS_SERVICE : AS_ADMIN);

	assert_status(&rep, 202);
	return int_at(&rep, "id");
}

/* Sends all that is due; what the job answers then. */
static int64_t
deliver(struct t *t)
{
	int64_t wait;

	while ((wait = run_job(t, "deliver")) == 0)
		;
	/* It sent the last; or the next is due by then, by chance. */
	if (wait == JOB_GATHER_MS)
		wait = run_job(t, "deliver");
	return wait;
}

static void
assert_mail(struct t *t, int64_t id, const char *status, int64_t attempts,
    const char *last_error)
{
	char path[40];
	struct reply_seen rep;

	snprintf(path, sizeof(path), "/send_email/%d", (int)id);
	rep = call(t, "GET", path, NULL, AS_SERVICE);
	assert_status(&rep, 200);
	assert_string_equal(text_at(&rep, "status"), status);
	assert_int_equal(int_at(&rep, "attempts"), attempts);
	assert_int_equal(
	    text_at(&rep, "sent_at") != NULL, strcmp(status, "sent") == 0);
	if (last_error == NULL)
		assert_null(text_at(&rep, "last_error"));
	else
		assert_string_equal(text_at(&rep, "last_error"), last_error);
}

static void
check_file(const char *path)
{
	struct arena a;
	char *text;
	size_t len;

	arena_init(&a);
	assert_non_null(text = file_read(&a, path, &len));
	assert_non_null(strstr(text, "To: ann@shop.example\r\n"));
	assert_non_null(strstr(text, "\r\n\r\nSGVsbG8NCg==\r\n"));
	arena_release(&a);
}

static void
test_deliver__a_maildir_gets_whole_messages(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("ann@shop.example"));

	post(t, TO("ann@shop.example"));
	assert_int_equal(deliver(t), 2 * CLOCK_SECOND);
	assert_mail(t, id, "sent", 1, NULL);
	assert_int_equal(each_file("new", check_file), 2);
	assert_int_equal(each_file("tmp", NULL), 0);
	/* What was sent is not kept. */
	assert_int_equal(sql_int(t,
	    "SELECT count(*) FROM mail WHERE text IS NULL AND html IS NULL"
	    " AND recipient = 'ann@shop.example' AND subject = 'Hi'"), 2);
}

static void
test_deliver__a_maildir_that_fails_is_tried_again(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("ann@shop.example"));
	char path[80], away[80];

	snprintf(path, sizeof(path), "%s/new", maildir);
	snprintf(away, sizeof(away), "%s/gone", maildir);
	assert_return_code(rename(path, away), 0);
	assert_int_equal(run_job(t, "deliver"), 2 * CLOCK_SECOND);
	assert_mail(t, id, "queued", 1,
	    "cannot write to the Maildir: No such file or directory");
	assert_int_equal(each_file("tmp", NULL), 0);
	assert_return_code(rename(away, path), 0);
	advance(t, 5 * CLOCK_SECOND);
	deliver(t);
	assert_mail(t, id, "sent", 2, NULL);
}

static void
test_deliver__an_unknown_user_gets_nothing(void **state)
{
	struct t *t = *state;
	int64_t id;

	peer(t, "GET /user/7", 0, NULL);
	id = post(t, OF_USER);
	peer(t, "GET /user/7", 404, "{}");
	deliver(t);
	assert_mail(t, id, "failed", 1, "no such user");
	assert_int_equal(each_file("new", NULL), 0);
	assert_int_equal(
	    sql_int(t, "SELECT count(*) FROM mail WHERE text IS NULL"
		       " AND subject IS NULL AND user_id IS NULL"),
	    1);
}

static void
test_deliver__waits_for_user_without_losing_tries(void **state)
{
	struct t *t = *state;
	int64_t id;

	peer(t, "GET /user/7", 0, NULL);
	id = post(t, OF_USER);
	peer(t, "GET /user/7", 0, NULL);
	post(t, OF_USER);
	/* One look is enough to put both off, and lets others pass. */
	post(t, TO("ann@shop.example"));
	for (int i = 0; i < 50; i++) {
		peer(t, "GET /user/7", 0, NULL);
		deliver(t);
		advance(t, 15 * CLOCK_SECOND);
	}
	assert_mail(t, id, "queued", 0, "user cannot be asked");
	assert_int_equal(each_file("new", NULL), 1);
	peer(t, "GET /user/7", 200, "{\"email\":\"bob@shop.example\"}");
	peer(t, "GET /user/7", 200, "{\"email\":\"bob@shop.example\"}");
	deliver(t);
	assert_mail(t, id, "sent", 1, NULL);
	assert_int_equal(each_file("new", NULL), 3);
	assert_int_equal(sql_int(t,
	    "SELECT count(*) FROM mail WHERE recipient = 'bob@shop.example'"), 2);
}

static void
test_deliver__an_address_is_checked_late_too(void **state)
{
	struct t *t = *state;
	struct reply_seen rep;

	peer(t, "GET /user/[?]email=ann%40shop.example", 0, NULL);
	rep = call(t, "POST", "/send_email/", TO("ann@shop.example"), AS_SERVICE);
	assert_status(&rep, 202);
	peer(t, "GET /user/[?]email=ann%40shop.example", 200, "{\"items\":[]}");
	deliver(t);
	assert_mail(t, 1, "failed", 1, "no such user");
}

static void
test_deliver__only_ascii_addresses_can_be_written_to(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("\xc3\xa9@shop.example"));

	deliver(t);
	assert_mail(
	    t, id, "failed", 1, "only addresses in ASCII can be written to");
}

static void
test_deliver__what_is_erased_is_not_sent(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("ann@shop.example"));
	struct reply_seen rep = call(
	    t, "DELETE", "/send_email/?to=ann@shop.example", NULL, AS_SERVICE);

	assert_status(&rep, 204);
	deliver(t);
	assert_mail(t, id, "failed", 0, "erased");
	assert_int_equal(each_file("new", NULL), 0);
}

static void
test_deliver__many_mails_share_a_connection(void **state)
{
	struct t *t = *state;
	int syncs;

	for (int i = 0; i < 5; i++)
		post(t, TO("ann@shop.example"));
	deliver(t);
	assert_int_equal(server.mails, 5);
	assert_int_equal(server.connections, 1);
	assert_mail(t, 5, "sent", 1, NULL);
	assert_ptr_equal(strstr(server.message, "From: shop@localhost\r\n"),
	    server.message);
	/* Later ones too, while the connection is not idle for long; and a wait
	 * for the disk. */
	for (int i = 0; i < 3; i++)
		post(t, TO("bob@shop.example"));
	syncs = fault_syncs;
	deliver(t);
	assert_int_equal(fault_syncs - syncs, 1);
	assert_int_equal(server.mails, 8);
	assert_int_equal(server.connections, 1);
}

static void
test_deliver__what_the_server_says_decides(void **state)
{
	static const struct {
		const char *body, *status, *last_error;
	} cases[] = {
		{ TO("later@b"), "queued", "451 4.7.1 Come back" },
		{ TO("never@b"), "failed", "550 5.1.1 Nobody ?here" },
		{ TO("spam@b"), "failed", "554 5.7.1 Spam" },
		{ TO("full@b"), "queued", "452 4.2.2 Mailbox full" },
		{ TO("sign@b"), "queued", "530 5.7.0 Must issue STARTTLS first" },
		{ TO("relay@b"), "queued", "554 5.7.1 Access denied" },
		{ TO("exim@b"), "queued", "550 relay not permitted" },
		{ TO("gone@b"), "failed",
		    "550 5.1.1 User unknown in relay recipient table" },
		{ TO("name@b"), "queued", "504 Need a full name" },
		{ TO("ann@b"), "sent", NULL },
	};
	struct t *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t id = post(t, cases[i].body);

		deliver(t);
		assert_mail(t, id, cases[i].status, 1, cases[i].last_error);
	}
}

/* A setting of ours, such as the sender's address, is not to cost the mails. */
static void
test_deliver__a_refused_sender_loses_nothing(void **state)
{
	struct t *t = *state;
	int64_t first = post(t, TO("ann@b")), second = post(t, TO("bob@b"));

	server.to_mail = "550 5.7.1 Sender address rejected";
	assert_int_equal(run_job(t, "deliver"), 2 * CLOCK_SECOND);
	assert_mail(t, first, "queued", 1, "550 5.7.1 Sender address rejected");
	assert_mail(t, second, "queued", 0, NULL);
	/* But one that is too large is so itself. */
	server.to_mail = "552 5.3.4 Too large";
	deliver(t);
	assert_mail(t, second, "failed", 1, "552 5.3.4 Too large");
	server.to_mail = NULL;
	advance(t, 5 * CLOCK_SECOND);
	deliver(t);
	assert_mail(t, first, "sent", 2, NULL);
}

static void
test_deliver__a_server_that_hangs_up_is_tried_again(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("drop@b"));
	struct reply_seen rep;

	assert_int_equal(run_job(t, "deliver"), 2 * CLOCK_SECOND);
	rep = call(t, "GET", "/send_email/1", NULL, AS_SERVICE);
	assert_string_equal(text_at(&rep, "status"), "queued");
	assert_non_null(text_at(&rep, "last_error"));
	id = post(t, TO("ann@b"));
	deliver(t);
	assert_mail(t, id, "sent", 1, NULL);
}

/* Each wait is half to whole of 5 seconds times a power of two. */
static void
test_deliver__backs_off_and_gives_up(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("later@b")), wait = 5 * CLOCK_SECOND;

	email_settings.tries = 3;
	deliver(t);
	for (int tries = 2; tries <= 3; tries++, wait *= 2) {
		advance(t, wait / 2 - 1);
		deliver(t);
		assert_mail(t, id, "queued", tries - 1, "451 4.7.1 Come back");
		advance(t, wait / 2 + 1);
		deliver(t);
	}
	assert_mail(t, id, "failed", 3, "451 4.7.1 Come back");
	advance(t, CLOCK_DAY);
	deliver(t);
	assert_mail(t, id, "failed", 3, "451 4.7.1 Come back");
}

static void
assert_gauges(struct t *t, int waiting, int oldest, int failed)
{
	struct reply_seen rep
	    = call(t, "GET", "/_metrics", NULL, AS_INTERNAL);
	const char *want = arena_printf(test_arena(t),
	    "\ncoster_mail_waiting %d\n", waiting);

	assert_non_null(strstr(rep.body, want));
	want = arena_printf(test_arena(t),
	    "\ncoster_mail_oldest_age_seconds %d\n", oldest);
	assert_non_null(strstr(rep.body, want));
	want = arena_printf(
	    test_arena(t), "\ncoster_mail_failed %d\n", failed);
	assert_non_null(strstr(rep.body, want));
}

static void
test_deliver__an_operator_sees_that_mail_does_not_go_out(void **state)
{
	struct t *t = *state;

	assert_gauges(t, 0, 0, 0);
	post(t, TO("later@b"));
	advance(t, CLOCK_MINUTE);
	post(t, TO("later@b"));
	assert_gauges(t, 2, 60, 0);
	email_settings.tries = 1;
	deliver(t);
	assert_gauges(t, 0, 0, 2);
	advance(t, CLOCK_DAY);
	assert_gauges(t, 0, 0, 0);
	assert_int_equal(check_plans(t, "SELECT count(*), ($1*"), 1);
}

static void
test_deliver__nothing_waits_for_a_clock_that_was_set_back(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("later@b")), other;

	deliver(t);
	assert_mail(t, id, "queued", 1, "451 4.7.1 Come back");
	advance(t, -CLOCK_DAY);
	deliver(t);
	assert_mail(t, id, "queued", 2, "451 4.7.1 Come back");
	/* Also behind one that is due. */
	advance(t, -CLOCK_DAY);
	other = post(t, TO("ann@b"));
	deliver(t);
	assert_mail(t, other, "sent", 1, NULL);
	assert_mail(t, id, "queued", 3, "451 4.7.1 Come back");
}

static void
test_deliver__a_dead_instance_holds_its_mail_for_its_lease(void **state)
{
	struct t *t = *state;
	int64_t id = post(t, TO("ann@b"));

	/* As an instance leaves it that dies while it sends. */
	sql_int(t, "UPDATE mail SET due_at = due_at + 120000, attempts = 1");
	advance(t, 2 * CLOCK_MINUTE - 1);
	assert_int_equal(run_job(t, "deliver"), 1);
	assert_mail(t, id, "queued", 1, NULL);
	advance(t, 1);
	deliver(t);
	assert_mail(t, id, "sent", 2, NULL);
}

/* The lease of this one runs out just as it begins, and another has the mail. */
static void
test_deliver__who_lost_a_mail_says_nothing_but_that_it_is_sent(void **state)
{
	static const struct {
		const char *body, *status;
	} cases[] = {
		{ TO("later@b"), "queued" },
		{ TO("never@b"), "queued" },
		{ TO("ann@b"), "sent" },
	};
	struct t *t = *state;

	sql_int(t,
	    "CREATE TRIGGER other AFTER UPDATE OF attempts ON mail"
	    " WHEN NEW.attempts = 1 BEGIN"
	    " UPDATE mail SET attempts = 2, due_at = due_at + 1"
	    " WHERE id = NEW.id; END");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t id = post(t, cases[i].body);

		run_job(t, "deliver");
		assert_mail(t, id, cases[i].status, 2, NULL);
	}
	/* Nor is it due before the other's lease is over. */
	assert_int_equal(sql_int(t, "SELECT count(*) FROM mail WHERE"
	    " status = 'queued' AND due_at <> 120001 + created_at"), 0);
}

static void
test_deliver__a_server_that_is_away_stops_the_rest(void **state)
{
	struct t *t = *state;

	shutdown(server.listener, SHUT_RDWR);
	post(t, TO("ann@b"));
	post(t, TO("ann@b"));
	assert_int_equal(run_job(t, "deliver"), 2 * CLOCK_SECOND);
	assert_mail(t, 1, "queued", 1, "Couldn't connect to server");
	assert_mail(t, 2, "queued", 0, NULL);
}

static void
test_deliver__signs_in_where_it_is_to(void **state)
{
	struct t *t = *state;

	post(t, TO("ann@shop.example"));
	deliver(t);
	assert_string_equal(server.login, "");
	email_settings.user = "shop";
	email_settings.password_file = getenv("COSTER_KEY_FILE");
	assert_int_equal(service.start(app_of(t)), OK);
	post(t, TO("ann@shop.example"));
	deliver(t);
	assert_int_equal(server.mails, 2);
	/* base64 of: NUL, shop, NUL, the line of the file */
	assert_string_equal(server.login,
	    "AHNob3AAMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\n");
}

static void
test_deliver__says_the_name_that_it_is_told(void **state)
{
	struct t *t = *state;

	email_settings.url = arena_printf(
	    test_arena(t), "%s/mail.shop.example", email_settings.url);
	assert_int_equal(service.start(app_of(t)), OK);
	post(t, TO("ann@shop.example"));
	deliver(t);
	assert_string_equal(server.name, "EHLO mail.shop.example\r\n");
}

static void
test_deliver__what_waits_costs_a_transaction_a_mail(void **state)
{
	struct t *t = *state;
	uint64_t commits;

	for (int i = 0; i < 3; i++)
		post(t, TO("ann@shop.example"));
	commits = db_counts.commits;
	assert_int_equal(run_job(t, "deliver"), JOB_GATHER_MS);
	assert_int_equal(each_file("new", NULL), 3);
	assert_int_equal(db_counts.commits - commits, 1 + 3);
	assert_mail(t, 3, "sent", 1, NULL);
}

static void
test_deliver__bad_settings_stop_the_start(void **state)
{
	static const struct {
		const char **setting, *value;
		enum err err;
	} cases[] = {
		{ &email_settings.url, "smtp://localhost", OK },
		{ &email_settings.url, "smtps://mail.example:465", OK },
		{ &email_settings.url, "smtp://[::1]:25", OK },
		{ &email_settings.url, "", ERR_INVALID },
		{ &email_settings.url, "http://localhost", ERR_INVALID },
		{ &email_settings.url, "smtp://", ERR_INVALID },
		{ &email_settings.url, "smtp://a:b@localhost", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost:99999", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost/mail.shop.example", OK },
		{ &email_settings.url, "smtp://localhost/a/b", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost/a%0Ab", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost?a=b", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost:25/", OK },
		{ &email_settings.url, "smtp://local host", ERR_INVALID },
		{ &email_settings.url, "smtp://localhost:65536", ERR_INVALID },
		{ &email_settings.url, "smtp://[::1", ERR_INVALID },
		{ &email_settings.url, "maildir:", ERR_INVALID },
		{ &email_settings.url, "maildir:relative", ERR_INVALID },
		{ &email_settings.url, "maildir:/proc/none", ERR_INVALID },
		{ &email_settings.url, "maildir:/dev/null", ERR_INVALID },
		{ &email_settings.from, "shop", ERR_INVALID },
		{ &email_settings.from, "a@b\nBcc: c", ERR_INVALID },
		{ &email_settings.tls, "require", OK },
		{ &email_settings.tls, "yes", ERR_INVALID },
		{ &email_settings.password_file, "", ERR_INVALID },
		{ &email_settings.password_file, "/nowhere", ERR_NOT_FOUND },
		{ &email_settings.password_file, "/dev/null", ERR_NOT_FOUND },
	};
	struct t *t = *state;
	struct email_settings good = email_settings;

	good.user = "shop";
	good.password_file = getenv("COSTER_KEY_FILE"); /* a file with a line */
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		email_settings = good;
		*cases[i].setting = cases[i].value;
		if (cases[i].err == OK)
			assert_int_equal(service.start(app_of(t)), OK);
		else if (service.start(app_of(t)) != cases[i].err)
			fail_msg("taken: %s", cases[i].value);
	}
}

#define MAILDIR_TEST(f)                                                        \
	cmocka_unit_test_setup_teardown(f, maildir_setup, maildir_teardown)
#define SMTP_TEST(f)                                                           \
	cmocka_unit_test_setup_teardown(f, smtp_setup, smtp_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		MAILDIR_TEST(test_deliver__a_maildir_gets_whole_messages),
		MAILDIR_TEST(test_deliver__a_maildir_that_fails_is_tried_again),
		MAILDIR_TEST(test_deliver__what_waits_costs_a_transaction_a_mail),
		SMTP_TEST(test_deliver__signs_in_where_it_is_to),
		SMTP_TEST(test_deliver__says_the_name_that_it_is_told),
		MAILDIR_TEST(test_deliver__an_unknown_user_gets_nothing),
		MAILDIR_TEST(test_deliver__waits_for_user_without_losing_tries),
		MAILDIR_TEST(test_deliver__an_address_is_checked_late_too),
		MAILDIR_TEST(
		    test_deliver__only_ascii_addresses_can_be_written_to),
		MAILDIR_TEST(test_deliver__what_is_erased_is_not_sent),
		SMTP_TEST(test_deliver__many_mails_share_a_connection),
		SMTP_TEST(test_deliver__what_the_server_says_decides),
		SMTP_TEST(test_deliver__a_refused_sender_loses_nothing),
		SMTP_TEST(test_deliver__a_server_that_hangs_up_is_tried_again),
		SMTP_TEST(test_deliver__backs_off_and_gives_up),
		SMTP_TEST(
		    test_deliver__an_operator_sees_that_mail_does_not_go_out),
		SMTP_TEST(
		    test_deliver__nothing_waits_for_a_clock_that_was_set_back),
		SMTP_TEST(
		    test_deliver__a_dead_instance_holds_its_mail_for_its_lease),
		SMTP_TEST(
		    test_deliver__who_lost_a_mail_says_nothing_but_that_it_is_sent),
		SMTP_TEST(test_deliver__a_server_that_is_away_stops_the_rest),
		SMTP_TEST(test_deliver__bad_settings_stop_the_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
