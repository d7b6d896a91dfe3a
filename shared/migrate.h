/*
 * Bringing a database up to what the program needs.
 *
 * A schema is a text of steps, each under a line "-- step N: what it does" and
 * numbered from 1. The steps a database lacks are applied in one transaction
 * under the write lock, so two instances that start together do it once.
 */
#ifndef COSTER_MIGRATE_H
#define COSTER_MIGRATE_H

#include "shared/app.h"

/* Applies what is missing of the component's schema ("shared" or a service).
 * ERR_CONFLICT when the database is newer than the program or another service's;
 * the log says so. */
MUST_USE enum err migrate(struct db *db, const char *component, const char *schema);

/* The same of a whole database: what every service has, and its own. */
MUST_USE enum err migrate_service(struct db *db, const struct service *svc);

/* How many steps the database has; 0 for a new one. */
int migrate_step(struct db *db, const char *component);

/* How many steps the schema has. */
int migrate_steps(const char *schema);

#endif
