/* What must be so of accounts and sessions. */
#include "handlers/user/user.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "nothing tells of the person of a deleted account",
	    "SELECT id FROM account WHERE deleted_at IS NOT NULL"
	    " AND (email IS NOT NULL OR email_key IS NOT NULL"
	    "  OR name IS NOT NULL OR password IS NOT NULL)" },
	{ "every other account has an address and a password",
	    "SELECT id FROM account WHERE deleted_at IS NULL"
	    " AND (email IS NULL OR email_key IS NULL"
	    "  OR email_key <> lower(email) OR password IS NULL)" },
	{ "nobody is signed in to an account that may not be used",
	    "SELECT session.id FROM session JOIN account"
	    " ON account.id = session.user_id WHERE session.expires_at > $1"
	    " AND (account.deleted_at IS NOT NULL"
	    "  OR account.disabled_at IS NOT NULL)" },
	{ "no link is good for a deleted account",
	    "SELECT user_id FROM proof JOIN account"
	    " ON account.id = proof.user_id WHERE account.deleted_at"
	    " IS NOT NULL" },
	{ "a verified address is nobody's former one",
	    "SELECT id FROM account WHERE verified_at IS NOT NULL"
	    " AND email_key IN (SELECT email_key FROM former_address)" },
};
const struct check_table user_checks = CHECKS(checks);

/* A session or link that ended since the backup is not to be good again. */
const char user_restored[] = "UPDATE session SET expires_at = 0,"
			     " address = NULL, agent = NULL;"
			     "DELETE FROM proof;"
			     "DELETE FROM reset_request";

/* An account that is deleted, and a session of it that is over, with ids beyond
 * all that were given; and versions. */
const char user_keep_ids[]
    = "INSERT INTO account (id, role, created_at, updated_at, deleted_at)"
      " SELECT id + 1, 'customer', updated_at, updated_at, updated_at"
      " FROM old.account"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.account)"
      " ORDER BY id DESC LIMIT 1;"
      "UPDATE account SET version = o.version + 1 FROM old.account o"
      " WHERE o.id = account.id AND o.version > account.version;"
      "INSERT INTO session (id, user_id, family, token, created_at,"
      " last_used_at, expires_at)"
      " SELECT id + 1, (SELECT max(id) FROM main.account),"
      " hex(randomblob(18)), '', created_at, created_at, created_at FROM old.session"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.session)"
      " ORDER BY id DESC LIMIT 1";
