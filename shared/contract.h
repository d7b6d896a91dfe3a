/*
 * What a service answers, read off its tables: its routes and who may call
 * them, coster-<service> routes, and the same with the fields of each body and
 * query as JSON Schema, coster-<service> contract. The tests hold
 * nginx/html/openapi.json against that.
 */
#ifndef COSTER_CONTRACT_H
#define COSTER_CONTRACT_H

#include "shared/app.h"

extern const struct command_table contract_commands;

#endif
