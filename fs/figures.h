/*
 * figures - the state and the totals of all objects, collected once for a report (status/metrics, status/dashboard.html).
 *
 * What is removed while it is collected is left out. The figures of one object are of one moment, those of two are not.
 */
#ifndef MQFS_FS_FIGURES_H
#define MQFS_FS_FIGURES_H

#include "fs/find.h"

struct figures_topic {
	uint64_t id;
	char name[ENGINE_NAME_MAX + 1];
	struct engine_stat stat;
	uint32_t groups;
};

struct figures_group {
	uint64_t id;
	char topic[ENGINE_NAME_MAX + 1], name[ENGINE_NAME_MAX + 1];
	struct engine_stat stat;
	uint64_t dead; /* in its dlq */
};

/* A queue, or dead letters: of each group, and of a queue that ever had one. */
struct figures_queue {
	uint64_t id;
	char name[FIND_RECORD_NAME_MAX]; /* as in a record: jobs, jobs/dlq, orders/groups/billing/dlq */
	bool is_dlq;
	struct engine_queue_stat stat;
};

struct figures_exchange {
	char name[ENGINE_NAME_MAX + 1];
	struct engine_exchange_stat stat;
};

struct figures {
	struct figures_topic *topics;
	struct figures_group *groups; /* those of a topic one after the other */
	struct figures_queue *queues;
	struct figures_exchange *exchanges;
	uint64_t transactions[ENGINE_TX_ABORTED + 1]; /* by state: those whose names are there */
	size_t topic_count, group_count, queue_count, exchange_count;
	size_t topic_cap, group_cap, queue_cap, exchange_cap; /* private */
};

/* ENOMEM, EIO. figures_release() in any case. */
int figures_collect(struct fs *fs, struct figures *ret_figures);
void figures_release(struct figures *figures);

/* How long ago that was, 0 for a time of 0 or one that is to come. */
int64_t figures_age_ms(int64_t then_ms);

#endif
