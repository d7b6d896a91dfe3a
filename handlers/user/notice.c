/*
 * What the other services are told of a user, by the outbox, so that none of
 * them needs to be up.
 */
#include "handlers/user/user.h"

#include <string.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/outbox.h"
#include "shared/text.h"

static const char *
subject(struct db *db, int64_t id, const char *about)
{
	return arena_printf(db->arena, "user %lld, %s", (long long)id, about);
}

static enum err
tell(struct db *db, int64_t id, const char *about, struct outbox_message m)
{
	m.subject = subject(db, id, about);
	return outbox_put(db, &m);
}

/* Templates whose mails have a subject of their own, so that one that email lets wait
 * holds up no other; and the subject of all other mails. */
enum { MAIL_WELCOME = PROOF__COUNT, MAIL_OTHER, MAIL__COUNT };
static const char *const mails[MAIL__COUNT] = {
	[PROOF_VERIFICATION] = "verification",
	[PROOF_RESET] = "password_reset",
	[MAIL_WELCOME] = "welcome",
	[MAIL_OTHER] = "email",
};

/* To the address that the user has by then: one that was left meanwhile is no
 * user's, and refused. */
static enum err
mail(struct db *db, int64_t id, size_t which, const char *var,
    const char *value)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_int(&b, "user_id", id);
	json_text(&b, "template", mails[which]);
	json_open(&b, "vars", '{');
	json_text(&b, var, value);
	json_close(&b, '}');
	json_close(&b, '}');
	return tell(db, id, mails[which],
	    (struct outbox_message) {
		.method = "POST", .path = "/send_email/", .body = b.data });
}

static enum err
record(struct db *db, int64_t id, const char *action)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_int(&b, "user_id", id);
	json_text(&b, "action", action);
	json_close(&b, '}');
	return tell(db, id, "stats",
	    (struct outbox_message) {
		.method = "POST", .path = "/log", .body = b.data });
}

/* Anybody can have a mail sent to anybody by registering: not one that leads to another
 * site by what is said to be a name. */
static bool
is_plain_name(const char *name)
{
	const char *dot;

	if (strpbrk(name, ":/@") != NULL)
		return false;
	for (dot = name; (dot = strchr(dot, '.')) != NULL; dot++)
		if (dot[1] != '\0' && dot[1] != ' ')
			return false;
	return true;
}

enum err
notice_registered(
    struct db *db, int64_t id, const char *email, const char *name)
{
	bool plain = name != NULL && is_plain_name(name);
	enum err err = mail(db, id, MAIL_WELCOME, "name", plain ? name : email);

	return err ? err : record(db, id, "user.registered");
}

enum err
notice_link(struct db *db, int64_t id, enum proof kind, const char *link)
{
	return mail(db, id, kind, "link", link);
}

enum err
notice_password_changed(struct db *db, int64_t id)
{
	return tell(db, id, mails[MAIL_OTHER],
	    (struct outbox_message) { .method = "POST",
		.path = "/send_email/",
		.body = arena_printf(db->arena,
		    "{\"user_id\":%lld,\"template\":\"password_changed\"}",
		    (long long)id) });
}

/* To the address that was left: its owner may not know of the other one. */
enum err
notice_address_changed(struct db *db, int64_t id, const char *left)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_text(&b, "to", left);
	json_text(&b, "template", "address_changed");
	json_close(&b, '}');
	return tell(db, id, mails[MAIL_OTHER],
	    (struct outbox_message) {
		.method = "POST", .path = "/send_email/", .body = b.data });
}

/* Those until then, or with INT_NONE now, and what was on its way to email: later
 * ones are of who has the address. */
enum err
notice_forget_mails(
    struct db *db, int64_t id, const char *email, int64_t until)
{
	struct buf b;

	buf_init(&b, db->arena);
	json_open(&b, NULL, '{');
	json_time(&b, "before",
	    (until == INT_NONE ? clock_ms() : until) + MAIL_ON_ITS_WAY);
	json_close(&b, '}');
	return tell(db, id, mails[MAIL_OTHER],
	    (struct outbox_message) { .method = "DELETE",
		.path = arena_printf(db->arena, "/send_email/?to=%s",
		    text_percent_encode(db->arena, email)),
		.body = b.data });
}

/* All who know something of the user are to forget it; what email was not told
 * yet, it need not know. */
enum err
notice_deleted(struct db *db, int64_t id)
{
	long long n = id;
	enum err err;

	for (size_t i = 0; i < ARRAY_LEN(mails); i++)
		if ((err = outbox_drop(
			 db, subject(db, id, mails[i]), INT_NONE)))
			return err;
	if ((err = tell(db, id, "cart",
		    (struct outbox_message) { .method = "DELETE",
			.path = arena_printf(
			    db->arena, "/user/%lld/cart/", n) })))
		return err;
	return tell(db, id, "stats",
	    (struct outbox_message) { .method = "DELETE",
		.path = arena_printf(db->arena, "/log?user_id=%lld", n) });
}
