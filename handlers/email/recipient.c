/*
 * Recipients: what the user service knows of an address.
 */
#include "handlers/email/email.h"

#include "shared/json.h"
#include "shared/text.h"

const char *
recipient_question(struct arena *a, int64_t user_id, const char *to)
{
	if (to != NULL)
		return arena_printf(
		    a, "/user/?email=%s", text_percent_encode(a, to));
	return arena_printf(a, "/user/%lld", (long long)user_id);
}

enum err
recipient_answer(const struct client_reply *reply, const char **to)
{
	struct json_object *found;

	if (reply->status == 404 || reply->status == 410)
		return ERR_NOT_FOUND;
	if (reply->status != 200)
		return ERR_UNAVAILABLE;
	if (*to != NULL) {
		if (!json_object_object_get_ex(reply->body, "items", &found)
		    || !json_object_is_type(found, json_type_array))
			return ERR_UNAVAILABLE;
		return json_object_array_length(found) > 0 ? OK : ERR_NOT_FOUND;
	}
	*to = json_member_text(reply->body, "email");
	return *to != NULL ? OK : ERR_UNAVAILABLE;
}
