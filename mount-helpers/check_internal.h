/*
 * check_internal - what check.c, which reads each part of a store, gathers for check_across.c, which compares them.
 */
#ifndef MQFS_HELPERS_CHECK_INTERNAL_H
#define MQFS_HELPERS_CHECK_INTERNAL_H

#include <stddef.h>

#include "engine/catalog.h"
#include "engine/journal.h"
#include "engine/plog.h"
#include "mount-helpers/check.h"

/* A log, the object that names it, which of its logs it is, and what was seen of it. */
struct known_log {
	uint64_t log_id, object_id;
	uint32_t index;
	bool read; /* it could be opened, and ends there */
	uint64_t start, end;
	struct plog_known known; /* where it ended once */
};

struct known_object {
	struct catalog_object row;
	unsigned named, listed; /* how many rows say so */
	bool has_dlq;
	uint32_t logs, last_log; /* how many it has, and the highest number of them */
};

/* The journal has the end of a log, which a mount writes to it. */
struct noted_end {
	uint64_t log_id, end;
	uint64_t base;  /* offset at which its segment begins */
	bool was_there; /* that was on disk in the log's own files */
};

struct noted_cursor {
	struct journal_cursor cursor;
	size_t order; /* the last of one group and partition counts */
};

struct list {
	void *items;
	size_t count, room;
};

struct check_logs {
	struct list logs, objects; /* known_log, known_object: by id */
	struct list ends;          /* noted_end; when logs are looked at, by log */
	struct list cursors;       /* noted_cursor: in the order of the journal */
	struct list cuts;          /* uint64_t: ids of queues of which the journal says where a lane was cut */
	uint64_t greatest_message; /* id */
};

/* Damage if err is not 0, else what a mount finishes. */
void check_problem(struct check *check, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Neither: it hurts nothing, and is no part of the store. */
void check_remark(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *check_kind_name(enum engine_kind kind);
struct known_object *check_find_object(const struct check_logs *known, uint64_t id); /* NULL: there is none */
struct known_log *check_find_log(const struct check_logs *known, uint64_t log_id);   /* the same */
int check_list_add(struct list *list, const void *item, size_t size);                /* ENOMEM */

/* Compares all that was gathered. Errors: those of the catalog, and what keeps directories from being listed. */
int check_across(struct check *check);

#endif
