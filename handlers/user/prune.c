/*
 * What is over is dropped, some rows at a time.
 */
#include "handlers/user/user.h"

#include "shared/clock.h"

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

static enum err
drop(struct db *db, int64_t *dropped)
{
	enum err err;

	*dropped = 0;
	for (size_t i = 0; i < ARRAY_LEN(drops); i++) {
		if ((err = db_exec(db, &drops[i], DB_ARGS(DB_INT(clock_ms())))))
			return err;
		*dropped += db_changes(db);
	}
	return OK;
}

int64_t
prune_run(struct ctx *ctx)
{
	struct db *db = &ctx->db;
	int64_t dropped;

	if (db_begin(db))
		return PRUNE_EVERY;
	if (drop(db, &dropped)) {
		db_rollback(db);
		return PRUNE_EVERY;
	}
	return db_commit(db) == OK && dropped > 0 ? 0 : PRUNE_EVERY;
}
