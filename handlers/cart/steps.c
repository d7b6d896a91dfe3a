/*
 * The steps of a checkout: the call that each makes, and what its answer means.
 */
#include "handlers/cart/cart.h"
#include "handlers/cart/checkout.h"
#include "shared/client.h"
#include "shared/crash.h"
#include "shared/json.h"
#include "shared/log.h"

/* payment extends it for an invoice that is not paid within a minute; an outage
 * may lie between. */
#define HOLD_SECONDS 3600
#define IN_FLIGHT CLOCK_MINUTE /* longer than a call can be on its way */

#define URN "urn:coster:problem:"
#define KEY_REUSED URN "idempotency-key-reused"

/* Where a step calls, and what makes its Idempotency-Key. */
static const struct target {
	const char *path, *suffix;
} reservations = { "/product/reservations", "reserve" },
  invoices = { "/invoices", "invoice" };

static enum err
call(struct ctx *ctx, const struct checkout *c, const struct target *target,
    const char *body, struct db *sync, struct client_reply *reply)
{
	return client_call(ctx->client, &ctx->arena,
	    &(struct client_call) { .method = "POST",
		.path = target->path,
		.body = body,
		.key = arena_printf(
		    &ctx->arena, "%s-%s", c->id, target->suffix),
		.trace = c->trace,
		.sync = sync,
		.unread = true },
	    reply);
}

/* Notes why a checkout cannot be; returns ERR_CONFLICT. */
static enum err
refuse(struct checkout *c, const char *problem, const char *detail)
{
	c->problem = problem;
	c->detail = detail;
	return ERR_CONFLICT;
}

static enum err
refuse_late(struct checkout *c)
{
	return refuse(c, "checkout-expired",
	    "the checkout took too long and was undone: look at the cart, then "
	    "try again");
}

static bool
is_late(const struct checkout *c, int64_t limit)
{
	return clock_ms() - c->created_at > limit;
}

static bool
has_type(const struct client_reply *reply, const char *urn)
{
	const char *type = json_member_text(reply->body, "type");

	return type != NULL && strcmp(type, urn) == 0;
}

/* A key that was used refuses no cart: what is asked for is there, and was asked for
 * in other words, by another version, with another COSTER_KEY, or before a restore.
 * That does not change, and payment's doctor tells of an invoice that lost its goods. */
static enum err
give_up(struct checkout *c)
{
	if (!is_late(c, CHECKOUT_GIVE_UP + IN_FLIGHT))
		return ERR_UNAVAILABLE;
	LOG(LOG_ERROR, "a checkout is given up that may have an invoice",
	    LOG_TEXT("checkout", c->id), LOG_INT("user", c->user_id),
	    LOG_TEXT("do", "void the user's invoice of this time, if it is open"));
	return refuse_late(c);
}

/* What an answer means for the checkout; *id is of what was made. */
static enum err
judge(struct checkout *c, const struct target *target,
    const struct client_reply *reply, int64_t *id)
{
	const char *why;

	if (reply->status == 201
	    && json_find_int(reply->text, reply->len, "id", id, &why) == OK
	    && *id > 0)
		return OK;
	*id = INT_NONE;
	LOG(LOG_WARN, "a call of a checkout is refused",
	    LOG_TEXT("checkout", c->id), LOG_TEXT("path", target->path),
	    LOG_INT("status", reply->status));
	if (has_type(reply, KEY_REUSED))
		return give_up(c);
	if (!client_refused(reply->status))
		return ERR_UNAVAILABLE;
	return refuse(c, "checkout-refused",
	    "this cart cannot be checked out as it is");
}

/* A product has one line in a cart: the lines are summed per product. */
static const char *
reserve_body(struct arena *a, const struct checkout *c)
{
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '{');
	json_open(&b, "lines", '[');
	for (size_t i = 0; i < c->line_count; i++) {
		json_open(&b, NULL, '{');
		json_int(&b, "product_id", c->lines[i].product_id);
		json_int(&b, "quantity", c->lines[i].quantity);
		json_int(&b, "price", c->lines[i].price);
		json_text(&b, "currency", c->lines[i].currency);
		json_close(&b, '}');
	}
	json_close(&b, ']');
	json_int(&b, "expires_in", HOLD_SECONDS);
	json_close(&b, '}');
	return b.data;
}

static const char *
invoice_body(struct arena *a, const struct checkout *c)
{
	struct buf b;

	buf_init(&b, a);
	json_open(&b, NULL, '{');
	json_int(&b, "user_id", c->user_id);
	json_text(&b, "currency", c->lines[0].currency);
	json_open(&b, "lines", '[');
	for (size_t i = 0; i < c->line_count; i++) {
		json_open(&b, NULL, '{');
		json_int(&b, "product_id", c->lines[i].product_id);
		json_text(&b, "description", c->lines[i].name);
		json_int(&b, "quantity", c->lines[i].quantity);
		json_int(&b, "price", c->lines[i].price);
		json_close(&b, '}');
	}
	json_close(&b, ']');
	json_int(&b, "reservation_id", c->reservation_id);
	json_close(&b, '}');
	return b.data;
}

static int64_t
item_of_product(const struct checkout *c, int64_t product_id)
{
	for (size_t i = 0; i < c->line_count; i++)
		if (c->lines[i].product_id == product_id)
			return c->lines[i].item_id;
	return INT_NONE;
}

/* product's lines, with the items of the cart that they are about. */
static const char *
refused_lines(
    struct arena *a, const struct checkout *c, struct json_object *lines)
{
	static const char *const members[]
	    = { "product_id", "reason", "price", "available" };
	struct json_object *v;
	struct buf b;

	buf_init(&b, a);
	json_open(&b, "lines", '[');
	for (size_t i = 0; i < json_object_array_length(lines); i++) {
		struct json_object *line = json_object_array_get_idx(lines, i);
		int64_t id = item_of_product(c, json_member_int(line, "product_id"));

		if (id == INT_NONE)
			continue;
		json_open(&b, NULL, '{');
		json_int(&b, "item_id", id);
		for (size_t m = 0; m < ARRAY_LEN(members); m++)
			if (json_object_object_get_ex(line, members[m], &v))
				json_tree(&b, members[m], v);
		json_close(&b, '}');
	}
	json_close(&b, ']');
	return b.data;
}

/* What product refuses because of the cart is passed on; else OK. */
static enum err
pass_on(struct ctx *ctx, struct checkout *c, const struct client_reply *reply)
{
	static const char *const known[]
	    = { URN "price-changed", URN "out-of-stock" };
	struct json_object *lines;

	if (reply->status != 409
	    || !json_object_object_get_ex(reply->body, "lines", &lines)
	    || !json_object_is_type(lines, json_type_array))
		return OK;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (has_type(reply, known[i])) {
			c->members = refused_lines(&ctx->arena, c, lines);
			return refuse(c, known[i] + strlen(URN),
			    "these cannot be had as wanted; see lines");
		}
	return OK;
}

/* A late one goes on only when there is an invoice already, of which the answer
 * never came. payment says so without making one: a key it knows is refused with
 * another body, and with one it does not know this body is. */
static enum err
check_time(struct ctx *ctx, struct checkout *c)
{
	struct client_reply reply;
	enum err err;

	if (!is_late(c, CHECKOUT_GIVE_UP))
		return OK;
	if (!is_late(c, CHECKOUT_GIVE_UP + IN_FLIGHT))
		return ERR_UNAVAILABLE;
	if ((err = call(ctx, c, &invoices, "{}", NULL, &reply)))
		return err;
	if (reply.status != 422)
		return ERR_UNAVAILABLE;
	return has_type(&reply, KEY_REUSED) ? OK : refuse_late(c);
}

/* That the cart is frozen goes to disk meanwhile. A reservation of which the answer
 * never came, and which is never asked for again, expires by itself. */
enum err
step_reserve(struct ctx *ctx, struct checkout *c)
{
	struct client_reply reply;
	enum err err;

	if ((err = check_time(ctx, c)))
		return err;
	err = call(ctx, c, &reservations, reserve_body(&ctx->arena, c),
	    &ctx->db, &reply);
	CRASH_POINT("after-reserve");
	if (err || (err = pass_on(ctx, c, &reply)))
		return err;
	return judge(c, &reservations, &reply, &c->reservation_id);
}

enum err
step_invoice(struct ctx *ctx, struct checkout *c)
{
	struct client_reply reply;
	enum err err;

	if ((err = check_time(ctx, c)))
		return err;
	err = call(ctx, c, &invoices, invoice_body(&ctx->arena, c), NULL,
	    &reply);
	CRASH_POINT("after-invoice");
	if (err || (err = judge(c, &invoices, &reply, &c->invoice_id)))
		return err;
	c->invoice = reply.text;
	return OK;
}
