/*
 * check - looking through a whole store, changing nothing: for fsck.mqfs.
 *
 * The store is opened read-only, under its lock. Its parts are read with the code that reads them in the daemon: the catalog row
 * by row, the journal record by record, each log as its recovery leaves it and then batch by batch. So what passes here is
 * what a mount would find, and what a mount would report is reported here. Beyond that it is compared what no part can know of the
 * others: logs nobody names, names without a log.
 */
#ifndef MQFS_HELPERS_CHECK_H
#define MQFS_HELPERS_CHECK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "mount-helpers/progress.h"

struct catalog;
struct store;

struct check {
	const char *path;
	bool verbose, show_progress;
	int progress_fd;
	FILE *dump; /* what is there, line by line; NULL: nothing */

	uint64_t objects, logs, messages, bytes, records;
	uint64_t unfinished; /* what a crash left and a mount finishes */
	uint64_t damaged;    /* what is lost or wrong, and stays so */

	/* Of a damaged catalog. */
	bool no_format;       /* nothing was looked at: it has no FORMAT, which can be made anew */
	bool unusable;        /* a mount would refuse it */
	bool restorable;      /* it can be made anew from its copy */
	uint64_t greatest_id; /* of the logs there are */

	/* private */
	struct progress progress;
	struct catalog *catalog;
	struct store *store;
	struct check_logs *known; /* logs that objects name */
	const char *part;         /* what is being looked at, for problems */
};

extern volatile sig_atomic_t check_cancelled; /* set by a signal: the walk ends early */

/* 0, or what kept it from being checked (engine_reason() has the sentence); what was found is in the counters. */
int check_store(struct check *check);

#endif
