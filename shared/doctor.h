/*
 * What must always be so, looked at in the live database: coster-<service>
 * doctor. The shared tables' checks are in doctor.c, a service's in its own
 * folder, as data. One command is enough: a check is one statement, and sees
 * the database as it is between two transactions.
 *
 * What a service knows of another's by its id may have come apart after one of
 * them was restored: its questions ask whether that one knows it too.
 */
#ifndef COSTER_DOCTOR_H
#define COSTER_DOCTOR_H

#include "shared/app.h"

/* sql answers a row for each breach, whose first column says where it is. $1 is
 * the time, if it is there: such a check is of what running services see to.
 * Of a question it answers a row for each thing to ask for, with where it is,
 * the path to GET, a member of the reply, and what that has to be: one of some
 * values, with | between. */
struct check {
	const char *what, *sql;
};

struct check_table {
	const struct check *list;
	size_t count;
};

#define CHECKS(table) { .list = (table), .count = ARRAY_LEN(table) }

/* How far to look: whether the file is whole; also what is in it; also what
 * running services see to. */
enum doctor_look { DOCTOR_FILE, DOCTOR_COPY, DOCTOR_LIVE };

/* Prints a line for each check that holds and each breach. Do all hold? */
bool doctor_look(struct ctx *ctx, enum doctor_look look);

/* Exit status 0, or 1 when there is a breach. */
extern const struct command_table doctor_commands;

#endif
