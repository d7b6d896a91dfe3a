/*
 * Recipients: what the user service knows of an address.
 */
#include "handlers/email/email.h"

#include "shared/client.h"
#include "shared/text.h"

static enum err
ask(struct ctx *ctx, const char *trace, const char *path,
    struct client_reply *reply)
{
	struct client_call call
	    = { .method = "GET", .path = path, .trace = trace };
	enum err err = client_call(ctx->client, &ctx->arena, &call, reply);

	if (err)
		return err;
	if (reply->status == 404 || reply->status == 410)
		return ERR_NOT_FOUND;
	return reply->status == 200 ? OK : ERR_UNAVAILABLE;
}

static enum err
find_address(struct ctx *ctx, const char *trace, const char *to)
{
	const char *path = arena_printf(&ctx->arena, "/user/?email=%s",
	    text_percent_encode(&ctx->arena, to));
	struct client_reply reply;
	struct json_object *items;
	enum err err;

	if ((err = ask(ctx, trace, path, &reply)))
		return err;
	if (!json_object_object_get_ex(reply.body, "items", &items)
	    || !json_object_is_type(items, json_type_array))
		return ERR_UNAVAILABLE;
	return json_object_array_length(items) > 0 ? OK : ERR_NOT_FOUND;
}

static enum err
find_user(struct ctx *ctx, const char *trace, int64_t id, const char **to)
{
	const char *path
	    = arena_printf(&ctx->arena, "/user/%lld", (long long)id);
	struct client_reply reply;
	struct json_object *email;
	enum err err;

	if ((err = ask(ctx, trace, path, &reply)))
		return err;
	if (!json_object_object_get_ex(reply.body, "email", &email)
	    || !json_object_is_type(email, json_type_string))
		return ERR_UNAVAILABLE;
	*to = json_object_get_string(email);
	return OK;
}

enum err
recipient_find(
    struct ctx *ctx, const char *trace, int64_t user_id, const char **to)
{
	if (*to != NULL)
		return find_address(ctx, trace, *to);
	return find_user(ctx, trace, user_id, to);
}
