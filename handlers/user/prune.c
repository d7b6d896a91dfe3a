/*
 * What is over is dropped, some rows at a time.
 */
#include "handlers/user/user.h"

#include "shared/clock.h"
#include "shared/jobs.h"

#define PRUNE_EVERY (10 * CLOCK_MINUTE)

/* $1 now. Of the sessions the newest stays, or its id would be given again. */
STMT_ARRAY(drops[]) = {
	{ "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE"
	  " expires_at <= $1 AND id < (SELECT max(id) FROM session) LIMIT 500)" },
	{ "DELETE FROM proof WHERE token IN"
	  " (SELECT token FROM proof WHERE expires_at <= $1 LIMIT 500)" },
	{ "DELETE FROM throttle WHERE (rule, account, network) IN"
	  " (SELECT rule, account, network FROM throttle"
	  "  WHERE expires_at <= $1 LIMIT 500)" },
};

int64_t
prune_run(struct ctx *ctx)
{
	return job_drop(&ctx->db, drops, ARRAY_LEN(drops),
	    DB_ARGS(DB_INT(clock_ms())), PRUNE_EVERY);
}
