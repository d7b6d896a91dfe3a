/*
 * What must always be so, looked at in the live database: coster-<service>
 * doctor. The shared tables' checks are in doctor.c, a service's in its own
 * folder, as data. One command is enough: a check is one statement, and sees
 * the database as it is between two transactions.
 */
#ifndef COSTER_DOCTOR_H
#define COSTER_DOCTOR_H

#include "shared/app.h"

/* sql answers a row for each breach, whose first column says where it is. $1 is
 * the time, if it is there. */
struct check {
	const char *what, *sql;
};

struct check_table {
	const struct check *list;
	size_t count;
};

#define CHECKS(table) { .list = (table), .count = ARRAY_LEN(table) }

/* Prints a line for each check that holds and each breach; 0, or 1 when there
 * is one. */
extern const struct command_table doctor_commands;

#endif
