/*
 * work - random works on a store, of which it is known at each moment what is sure: producing to topics (segments which roll), past
 * the daemon through a staging file, to queues, through an exchange to both, in transactions; leases and acks, cursors of a
 * group, purges and retention, checkpoints, making and removing topics, closing and opening; in some, members of the group and what
 * they reject; in some, a queue that lingers.
 *
 * Moments are counts of changes of files. What begins is written down before the engine is asked, so that whoever shares the memory
 * of a work that was killed knows of it. state.c says what must be so after a crash.
 */
#ifndef MQFS_TEST_WORK_H
#define MQFS_TEST_WORK_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tests/lib/powercut.h"
#include "tests/lib/tmpdir.h"

#define NEVER SIZE_MAX
#define COPIES 32768u
#define NAMES 512u
#define SEEKS 2048u
#define MEMBERS 3u
#define STAGINGS 3u
#define GOES_ON 999999u /* number of the message that each state takes at the end */

enum target {
	T,
	U,
	R,
	S,
	Q,
	L,
	D,
	TARGETS
}; /* S, and the queue L, linger, and are produced to through staging files; D: dlq of the group of T */
extern const char *const work_targets[TARGETS];

/* A message in one target. */
struct copy {
	enum target target;
	unsigned number, pair; /* pair: index of the copy in another target, +1; 0: none */
	bool tx;               /* in a transaction */
	uint32_t part;         /* D: where it was in T */
	uint64_t offset;
	size_t begin, accepted, confirmed;
	size_t moved;                           /* it was asked for, first, that it goes to another priority */
	size_t gone_begin, gone_accepted, gone; /* purged or settled: asked for, answered, and confirmed */
};

struct name {
	size_t make, made, remove, removed;
};

struct seek {
	uint64_t committed;
	size_t begin, accepted, confirmed;
};

/* Of the group; its name is that of its number in work.names. */
struct member {
	struct engine_object *object;
	struct engine_session *session;
	unsigned name;
	bool there;
};

/* Shared between the children. */
struct figures {
	_Atomic uint64_t tried, distinct, recovery, works, violations;
};

struct work {
	char source[PATH_MAX + 16];
	struct engine *engine;
	const struct engine_ops *ops;
	struct engine_object *root, *targets[TARGETS], *group, *exchange;
	struct {
		struct engine_stage *stage; /* or NULL */
		int writer;                 /* of it */
	} staging[STAGINGS];                /* of S, and of two priorities of L */
	struct engine_scratch scratch;
	struct powercut *cut;      /* NULL: moments are not counted */
	const char *segment_bytes; /* of topics */
	bool is_long;              /* it is closed and checkpointed rarely */
	bool has_members, lingers; /* the group; L, and S is synced */
	uint64_t random, seed;
	struct copy copies[COPIES];
	uint16_t of_number[TARGETS][COPIES]; /* index of the copy, +1 */
	size_t count;
	struct name names[NAMES]; /* of topics and members */
	struct member members[MEMBERS];
	unsigned name_count;
	struct seek seeks[2][SEEKS];
	unsigned seek_count[2];
	unsigned next;
	struct figures *figures;
};

/* -- work.c -- */
void work_must(bool ok, const char *what);
#define OK(call) work_must((call) >= 0, #call)
uint64_t work_environment(const char *name, uint64_t otherwise);
unsigned work_pick(struct work *w, unsigned count);
size_t work_now(const struct work *w);
void work_open(struct work *w); /* and makes the store, if there is none */
void work_set_up(struct work *w);
void work_find_objects(struct work *w);
void work_put_objects(struct work *w);
void work_close(struct work *w);

struct wait {
	struct engine_done done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
	int result;
};
void work_over(struct engine_done *done, int result);
int work_wait(struct wait *wait, int rc);
#define WAIT ((struct wait){ { work_over }, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 })

size_t work_payload(unsigned number, char out[512]);
struct engine_batch work_batch(struct work *w, unsigned count, char *data);
struct engine_producer *work_producer(struct work *w, enum target target, uint32_t part);
struct copy *work_find(struct work *w, enum target target, unsigned number);
struct copy *work_add(struct work *w, enum target target, unsigned number);
void work_accept(struct work *w, size_t first, bool confirmed); /* all from this one on were answered */

/* -- work_steps.c -- */
void work_step(struct work *w);                   /* by chance */
void work_fill(struct work *w, unsigned batches); /* sends to each target, and confirms it */
/* Of one of the kinds there are. */
extern const unsigned work_kinds;
void work_step_of(struct work *w, unsigned kind);

/* -- work_group.c -- */
void work_move_cursor(struct work *w);
void work_confirm_cursors(struct work *w, size_t before);
void work_sync_group(struct work *w);
void work_group_step(struct work *w);
void work_group_ack(struct work *w); /* of each partition: takes some, and acks them, if somebody may */
void work_group_reject(struct work *w);
void work_change_members(struct work *w);
void work_find_members(struct work *w);
void work_put_members(struct work *w);

/* -- work_stage.c -- */
void work_stage_send(struct work *w, unsigned which, unsigned first, const struct engine_batch *batch);
void work_stage_take(struct work *w);
void work_stage_close(struct work *w);
void work_stage_end(struct work *w, unsigned which);

/* -- state.c -- */
void state_boot(bool another); /* the machine was started anew since the work, or not */
/* Opens and closes the store in this directory; goes_on: with a message more in t and q. */
bool state_recover(struct work *w, const char *path, bool goes_on, const char *what);
/* What a crash after n changes left: of a kill, or of a power cut. */
void state_check(struct work *w, size_t n, bool kill, bool goes_on, int dirfd, const char *what);

#endif
