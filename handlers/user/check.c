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
};
const struct check_table user_checks = CHECKS(checks);
