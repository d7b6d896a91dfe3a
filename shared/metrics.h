/*
 * What an operator watches: GET /_health and GET /_metrics of one instance, for
 * the internal network and the services alone (nginx/locations/operate.conf).
 *
 * Every instance counts for itself, from its start; Prometheus adds up. The
 * counters of a route are found by its place in the service's tables, so to
 * count a request takes no lock.
 */
#ifndef COSTER_METRICS_H
#define COSTER_METRICS_H

#include "shared/app.h"

/* Kept up to date by the loop. */
struct metrics {
	_Atomic uint64_t requests, failed; /* failed: answered 5xx, or cut short */
	_Atomic uint64_t refused;	   /* of failed: the queue was full */
	_Atomic int64_t in_flight;	   /* read, and not yet answered */
	_Atomic int64_t pool_busy;	   /* of them with the workers */
};
extern struct metrics metrics;

/* Begins anew, with the routes of a service. Borrows the service. */
void metrics_open(const struct service *svc);
void metrics_close(void);

/* Counts a request that has its reply; any thread. */
void metrics_request(const struct req *r);

/* What systemctl status shows, in size bytes. */
void metrics_status(char *text, size_t size);

extern const struct route_table metrics_routes;

#endif
