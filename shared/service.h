/*
 * A service as a program: settings, keys, database, commands, exit statuses.
 *
 * A folder under handlers/ defines the one struct service of its program;
 * main() hands it to service_main().
 */
#ifndef COSTER_SERVICE_H
#define COSTER_SERVICE_H

#include "shared/app.h"

extern const struct service service;

/* The whole program. Exit statuses are those of sysexits.h: EX_USAGE (64)
 * unknown option or command, EX_DATAERR (65) the database is newer than the
 * program or another service's, EX_NOINPUT (66) a key is missing or bad,
 * EX_SOFTWARE (70) a fault in the program, EX_OSFILE (72) standard input is no
 * listening socket, EX_IOERR (74) the database cannot be opened, or there is none,
 * EX_CONFIG (78) a bad setting. */
int service_main(int argc, char **argv, const struct service *svc);

/* Its tables of routes, then that of every service; NULL behind the last. */
const struct route_table *service_table(const struct service *svc, size_t i);

/* The parts of it that tests use too. Each answers an exit status. */
int app_configure(struct app *app, const struct service *svc);
int app_open(struct app *app); /* keys, migrated database, routes */
void app_close(struct app *app);

#endif
