/*
 * local_commit - batches for several topics and queues, which get all of it or none.
 *
 * A commit has parts; a part is a batch and its targets, each of which gets all its messages or some of them, in their order.
 * It is done in two steps.
 *
 * Claiming asks all targets: what one may refuse it refuses now, and then nothing has happened. Queues that are limited keep
 * the room; logs are opened and lanes made; every message has its place, a lane or a partition, from here on.
 *
 * Running takes what was claimed. With several targets it is first noted in the journal, whole: that is the moment when it
 * has happened. Where the logs end is read just before; no trim comes between that and the sending (commit_await). Each
 * message carries a mark, a number of its own, into the logs. If the daemon dies in between, the start
 * finds the note and gives each target those of its messages whose mark is not in its logs. What a target could not take at
 * once (its disk is full, or failed) it is given at a checkpoint, or at the next start; the caller is told of success, as
 * the message will come, and status/errors tells the rest.
 *
 * Publishing through an exchange is one user of it (local_route.c).
 *
 * After the machine's death: a log that has marked messages is synced after the journal, so what a sync brought to disk has
 * its note there. Pages that the kernel wrote by itself, before any sync, can come back without it: local_commit_lost.c.
 */
#ifndef MQFS_LOCAL_COMMIT_H
#define MQFS_LOCAL_COMMIT_H

#include "engine/local_internal.h"
#include "engine/local_queue.h"

/* A log that a part goes to: of a queue by priority, of a topic by partition; and where it ended when it was noted. */
struct commit_log {
	uint32_t index;
	uint64_t end; /* by commit_find_ends() */
};

struct commit_target {
	struct object *object; /* a queue or a topic; a reference */
	bool head;             /* a queue: to the front of its priority */
	uint32_t *which;       /* the messages it gets, by their index in the part, rising; NULL: all */
	uint32_t count, room;  /* of which; of all of them if it is NULL */
	/* By claiming, which leaves out what dedup.window.ms says was seen: */
	struct dedup_send dedup;
	struct engine_batch batch;  /* what it gets: the part's own, or copies, as the next three */
	struct engine_props *props; /* of its messages */
	char *data;                 /* owned, or NULL */
	uint32_t *lengths;          /* the same */
	uint32_t *places;           /* of each of its messages: lane or partition */
	struct commit_log *logs;
	uint32_t log_count;
	struct queue_claim claim; /* of a queue */
};

struct commit_part {
	struct engine_batch
	    batch; /* lengths and props are not NULL, ts_ms is resolved; the caller's, as long as the commit */
	struct engine_props
	    *props; /* batch.props, to be marked. partition: ENGINE_ANY, or a topic's; priority: a queue's */
	struct commit_target *targets;
	uint32_t target_count, target_room, claimed;
	bool noted; /* by running */
	bool again; /* as that of the commit */
};

/* A message of a queue that a commit takes away, as it is noted. */
struct commit_take {
	struct lane *lane;
	uint64_t offset, id;
	struct span_facts facts;
};

#define ROUTE_LETTERS 64u

/* A dead letter that goes on through an exchange: see route_dead(). */
struct route_letter {
	struct engine_scratch scratch; /* of the view */
	struct engine_view view;       /* of one, ts_ms is resolved */
	struct engine_props props;     /* it is published with these */
	struct commit_take take;
	size_t targets; /* by route_dead(): how many it went to */
};

struct commit {
	struct local *local;
	bool again;                      /* it was accepted before: room, sizes and ids that were seen do not matter */
	const struct commit_take *takes; /* of one queue; READY, all of them, else ENOENT. Only if all is noted */
	uint32_t take_count;
	struct commit_part *parts;
	uint32_t part_count, part_room;
	const uint8_t *tail; /* what else is done with it: of a transaction (local_tx.h); the caller's, or NULL */
	uint32_t tail_size;
	uint64_t number; /* by noting: of the note */
	uint64_t owed;   /* its share of local.commits.owed */
	bool takes_back; /* its one target takes its part whole or not at all: what fails has not happened */
};

void commit_init(struct commit *commit, struct local *local);
/* Gives targets and their references back, and what is still claimed; batches stay with the caller. */
void commit_release(struct commit *commit);

/* A new part without targets. ENOMEM. The pointer lasts until the next part. */
int commit_add_part(
    struct commit *commit, const struct engine_batch *batch, struct engine_props *props, struct commit_part **ret_part);
/* A target of all messages of the part: takes a reference. ENOMEM. */
int commit_add_target(struct commit_part *part, struct object *object, bool head);
/* A target of the messages that are added to it, or, if it is there, one message more; indices only rise. ENOMEM. */
int commit_add_message(struct commit_part *part, struct object *object, uint32_t index);

/*
 * What a producer_send may be refused with by any of the targets. Nobody may remove them until it was run; queue_catch_up() was
 * called before, as it is not here: that may remove queues. No lock of an object may be held. Messages whose id a target has
 * seen are not for that target any more. It holds send_locks (local_dedup.h) until the release: so an object is a target of
 * one part only.
 */
int commit_claim(struct commit *commit);
/*
 * What was claimed. Parts with one target are just sent, and their errors are told, unless `noted`. An error of the note: nothing
 * has happened. May take as long as appending to the page cache.
 */
int commit_run(struct commit *commit, bool noted);

/* ---- local_commit_journal.c ---- */

/*
 * Held (shared) from before the note until all targets were served: a checkpoint waits for it, so that it drops no note whose
 * messages are not in their logs. Taken after `routes`, before all locks of objects.
 */
void commit_enter(struct local *local);
void commit_leave(struct local *local);
/* Where the logs end that it goes to. Within commit_enter, before the note; no lock of an object may be held. */
void commit_find_ends(struct commit *commit);
/*
 * Waits for those that are within commit_enter. Who trims a log reads its end, waits, and trims no further than that: what a
 * note says of the log is then never behind the trim, unless all targets were served. No lock of commit_enter or behind it.
 */
void commit_await(struct local *local);

/* Notes the parts that have several targets, or all of them, and the tail; messages are marked by it. */
int commit_note(struct commit *commit, bool all);
/* Takes what was claimed and noted, as commit_run does. */
int commit_send(struct commit *commit);
/* What was noted last has not happened. */
int commit_cancel(struct commit *commit);
/* A target did not take its part: it is given it later. ENOMEM is reported, and stops checkpoints. */
void commit_keep(struct commit *commit, const struct commit_part *part);

/* ---- local_commit_lost.c ---- */

/* Before a note that is not synced itself, within commit_enter: once for each checkpoint, it syncs the journal. */
int commit_begin(struct local *local);
struct commit_pending;
int commit_replay_from(struct local *local, uint64_t from);
int commit_replay_marks(struct local *local, const struct commit_pending *pending); /* a note that is whole */
/*
 * At the start, behind the replay: which notes there are. From then on, until commit_open_all(), which opens all logs if need be,
 * logs are cut where they are opened (the calls of struct plog_options).
 */
int commit_find_marks(struct local *local);
void commit_open_all(struct local *local);
void commit_forget_marks(struct local *local);
bool commit_lost(void *local, uint64_t mark); /* in the replay, too: by the notes that came before */
int commit_before_sync(void *local);

bool commit_keeps_some(struct local *local); /* what is kept so, the journal has only */

int commit_replay(struct local *local, const void *record, size_t size);
int commit_finish(struct local *local); /* gives targets what they miss (local_commit_recover.c) */
/* Where a log ended before what it still misses: what is trimmed behind that would be taken to have been there. UINT64_MAX: none. */
uint64_t commit_missed_from(struct local *local, uint64_t id, uint32_t index);
void commit_forget(struct local *local);
/*
 * A checkpoint has begun a new file of the journal: waits for the commits that are noted in the old ones, and sees to what their
 * targets still miss. After it, commit_sync() sees that all of that is on disk (queues do so for themselves).
 */
int commit_checkpoint(struct local *local);
int commit_sync(struct local *local);

/* The lowest mark of a message that may be asked for at the next start, of those noted before the last checkpoint. */
uint64_t commit_lowest_mark(struct local *local);

#endif
