/* What must be so of the record; the JSON functions are SQLite's. */
#include "handlers/stats/stats.h"
#include "shared/doctor.h"

static const struct check checks[] = {
	{ "the data of an entry are an object",
	    "SELECT id FROM entry WHERE NOT json_valid(data)"
	    " OR json_type(data) <> 'object'" },
	{ "an entry has an action and no person below 1",
	    "SELECT id FROM entry WHERE action = '' OR user_id < 1" },
	{ "no entry is from more than a day ahead",
	    "SELECT id FROM entry WHERE at > $1 + 86400000" },
};
const struct check_table stats_checks = CHECKS(checks);

/* The newest entry stays; and who has been forgotten since is to be forgotten in what
 * comes back. */
const char stats_keep_ids[]
    = "INSERT INTO entry SELECT * FROM old.entry"
      " WHERE id > (SELECT coalesce(max(id), 0) FROM main.entry)"
      " ORDER BY id DESC LIMIT 1;"
      "INSERT OR IGNORE INTO forgotten SELECT * FROM old.forgotten";
