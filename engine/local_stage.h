/*
 * local_stage - staging files of the embedded engine: what its files ask of each other.
 *
 *   stage_file.c           the bytes of a staging file's header; names
 *   stage_cut.c            bytes to a batch
 *   local_stage.c          a channel gets one, and gives it back; readers have them taken in
 *   local_stage_target.c   topics and queues: what differs
 *   local_stage_take.c     messages go from the file to the log, once: the protocol is at its head
 *   local_stage_recover.c  what the daemon before left
 *   local_stage_watch.c    when to take: inotify and the thread that looks
 *
 * Locks: stages.lock guards the lists and is a leaf; stage.lock guards one file and is held over the taking of it, above
 * partition.lock and queue.lock, below local.checkpoint_lock. A struct stage lives until the engine is closed.
 */
#ifndef MQFS_LOCAL_STAGE_H
#define MQFS_LOCAL_STAGE_H

#include "engine/deadline.h"
#include "engine/local_internal.h"
#include "engine/stage_cut.h"
#include "engine/stage_file.h"

#define STAGE_PIECE (256u << 10)      /* bytes taken at a time: they stay in a core's cache from read to write */
#define STAGE_PIECE_BEHIND (4u << 20) /* of what a daemon before has left: each piece takes a sync of the journal */
#ifndef STAGE_PUNCH                   /* a test has less */
#define STAGE_PUNCH (4u << 20)        /* taken bytes that are left in a file before their room is given back */
#endif
#define STAGE_REUSE_MAX (64u << 10) /* a file with more than this is emptied when it is given back */
/* Open at a time, at most half of the descriptors there are, and what logs can do without; a writer beyond writes through the daemon. */
#define STAGE_FILES_MAX 16384u
#define STAGE_FILES_SHARE 2u
/* Free bytes, or share of the disk, below which a channel gets no file: then a full disk refuses a write as it is made. */
#define STAGE_ROOM (64u << 20)
#define STAGE_ROOM_SHARE 4u
/* The same, below which a write may have been cut short by a full disk: what ext4 keeps from everyone, and a bit. */
#define STAGE_FULL (20u << 20)
#define STAGE_FULL_SHARE 8u
#define STAGE_IDLE_MS 1000 /* then an idle file is emptied */
#define STAGE_RETRY_MS 200 /* until what could not be taken is tried again */

#define STAGE_WORDS (ENGINE_PARTITIONS_MAX / 64)
static inline bool stage_has_any(const uint64_t words[STAGE_WORDS])
{
	for (size_t i = 0; i < STAGE_WORDS; i++) {
		if (words[i] != 0)
			return true;
	}
	return false;
}

/* What a file is for just now. */
enum stage_use {
	STAGE_IDLE,   /* for the next channel; all in it is taken */
	STAGE_OPEN,   /* a channel has it */
	STAGE_ENDED,  /* its channel is closed, and something could not be taken: it is tried again */
	STAGE_ORPHAN, /* of a daemon before this one; it may have a writer */
	STAGE_GONE,   /* it had none and was removed; or it is just being made ready */
	STAGE_KEPT,   /* its channel ended with the mount, a writer may be left: for the next opening */
};

/* How the thread learns that something was written. */
enum stage_watching {
	STAGE_UNWATCHED,
	STAGE_POLLED, /* it looks every few milliseconds */
	STAGE_ARMED,  /* inotify tells */
};

struct stage {
	struct engine_stage base; /* first */
	struct local *local;
	uint64_t number; /* its name; never changes */
	int fd;          /* changes by stage.lock only; of an orphan for reading */

	pthread_mutex_t lock; /* all that follows, unless it says otherwise */
	struct stage_header header;
	struct object *target;    /* a topic or queue: a reference while it is in use; else NULL */
	struct producer producer; /* of a topic: whose turns it takes */
	uint64_t taken;           /* what is below is in the log or was dropped */
	uint64_t scanned;         /* from taken up to here there is no delimiter */
	uint64_t punched;         /* what is below takes no room */
	bool skipping;            /* within a message that is too long */
	bool emptied;             /* since the last checkpoint */
	bool orphan;              /* as use says */
	bool behind;              /* ORPHAN that was not taken in yet: it may be on disk, whole */
	bool retract;             /* a record of an append that failed stands: it is to be taken back first */
	bool finishing;           /* ENDED: the part is a message */
	uint64_t recover_end; /* ORPHAN after a power cut: what is from here on was never written; else UINT64_MAX */
	uint64_t refused;     /* messages that were too long, not told by take() yet */
	int err;              /* of the last take */
	uint64_t owed[STAGE_WORDS]; /* partitions, or priorities, whose waiters are to be woken */
	_Atomic bool owes;          /* there are such; written under lock */
	_Atomic uint64_t
	    seen; /* size of the file at the last take that took all; written under lock, after the append */
	_Atomic int64_t retry_ms; /* when to try again what failed; 0: nothing did */

	enum stage_use use;           /* stages.lock */
	enum stage_watching watching; /* stages.lock */
	int wd;                       /* stages.lock */
	struct stage *next_of_target; /* stages.lock */
	struct stage *next_idle;      /* stages.lock */
	int64_t idle_ms;              /* since when it is idle; stages.lock */
	struct deadline due;          /* when the thread comes to it; stages.lock */
	UT_hash_handle hh;            /* by wd, if that is not -1; stages.lock */
	_Atomic uint32_t quiet;       /* looks that found nothing */
	_Atomic int64_t looked_ms;    /* the last of them */
	_Atomic int64_t burst_ms;     /* since when something waits; 0: nothing does */
};

/* The state of a staging file, whole, as a record of the journal has it. */
struct stage_state {
	uint64_t id; /* of the header */
	uint64_t taken;
	bool skipping;
	uint64_t to; /* an append was begun that takes what is below this; 0: none was */
	uint64_t log_id, offset;
	uint32_t len, crc, partition; /* or priority; crc: stage_crc() */
};
#define STAGE_RECORD 56u
#define STAGE_CRC_BYTES 4096u /* of the piece: enough to know it from another */

struct stage_replayed; /* uthash */

struct stages {
	int dirfd; /* -1: none, a read-only store */
	pthread_mutex_t lock;
	struct stage **all;              /* lock */
	size_t count, room;              /* lock */
	struct stage *idle;              /* the last one given back first; lock */
	uint64_t next_number;            /* lock */
	uint64_t next_id;                /* lock */
	size_t limit;                    /* never changes */
	struct stage_replayed *replayed; /* after the start: of files that could not be taken in */
	struct {
		pthread_mutex_t lock;
		struct stage_scratch mem;
	} scratch; /* of whoever takes first; others have their own */
	struct {
		int inotify_fd, event_fd; /* -1: cannot be had */
		pthread_t thread;
		bool running;               /* life only */
		bool stop;                  /* lock */
		struct deadlines deadlines; /* lock */
		struct stage *armed;        /* uthash, by wd: these and some that were; lock */
		int64_t wakes_ms;           /* the thread sleeps until then, 0: it does not; lock */
	} watch;
};

/* -- local_stage.c -- */
int stages_init(struct local *local); /* before the journal is replayed */
int stages_start(struct local *local);
void stages_stop(struct local *local); /* no thread any more; files that are not needed are removed */
void stages_release(struct local *local);
struct stage *stage_new(struct local *local, uint64_t number, int fd); /* in the list, UNWATCHED; NULL: no memory */
/* What its header says it is for; takes over a reference. stage.lock */
void stage_bind(struct stage *stage, struct object *target);
void stage_attach(
    struct stage *stage, struct object *target, enum stage_use use); /* readers of target take it in now */
void stage_detach(struct stage *stage, enum stage_use use);
/* Before anyone looks at what a topic or queue has (NULL: at all): what was written and is complete goes to the log. No lock */
void stages_take_slowly(struct local *local, struct object *target);
static inline void stages_take(struct object *target)
{
	if (atomic_load_explicit(&target->staged, memory_order_acquire) > 0)
		stages_take_slowly(local_of(target), target);
}
/* Are so many bytes free on the disk, or such a share (1/share) of a small one? */
bool stage_has_room(const struct stages *stages, uint64_t bytes, uint64_t share);
int stages_checkpoint(struct local *local);                /* their state into the journal's new file */
void stages_clean(struct local *local, int64_t before_ms); /* empties those that are idle since before that */

/* -- local_stage_target.c -- */
/* What the producer's messages go to, and in *ret_header how; NULL: none that may be staged. No reference */
struct object *target_of_producer(struct engine_producer *handle, struct stage_header *ret_header);
/* Its settings let messages linger, and refuse none for more than its size. */
bool target_lingers(const struct object *target);
/* Has the disk failed of a log that messages may come to? index: the partition, ENGINE_ANY: any; of a queue whichever. */
bool target_has_failed(struct object *target, uint32_t index);
int64_t target_linger_ms(const struct object *target, int64_t *ret_batch_size);
size_t target_limit(const struct object *target); /* max.message.bytes */
bool target_is_awaited(struct object *target);    /* does anybody wait for a message of it? */
/* Before stage.lock: logs are opened and made. *ret_priority: of a queue, where messages with header.partition go. */
int target_prepare(struct object *target, uint32_t partition, uint32_t *ret_priority);
/* As partition_append(). index: of the partition, or the priority. stage.lock */
int target_append(
    struct object *target, uint32_t index, const struct engine_batch *batch, const struct append_note *note, bool lent);
/* Something came to those in `woken`: what follows from that. No lock */
void target_arrived(struct object *target);
bool target_has_waiters(struct object *target, const uint64_t woken[STAGE_WORDS]);
void target_wake(struct object *target, const uint64_t woken[STAGE_WORDS]); /* no lock */
void target_left(struct object *target); /* a staging file of it went back; no lock */
/* The log that a record speaks of. ENOENT: there is none; those of opening it */
int target_find_log(struct object *target, const struct stage_state *state, struct plog **ret_plog);
/* All its logs that may be to sync: at most ENGINE_PARTITIONS_MAX. */
size_t target_sync_points(struct object *target, struct sync_point **points);

/* -- local_stage_take.c -- */
/* How a file is taken in. */
enum stage_how {
	STAGE_WHOLE,      /* complete messages */
	STAGE_FINISH,     /* the part as well */
	STAGE_FOR_READER, /* as WHOLE, for one who may hold locks of its own: others who wait are woken by the thread */
};
int stage_take(struct stage *stage, enum stage_how how); /* no lock held. As take() of the contract */
uint64_t stage_size(const struct stage *stage);
uint32_t stage_crc(const char *data, size_t len);
void stage_encode_state(uint8_t out[STAGE_RECORD], const struct stage_state *state);
bool stage_decode_state(const void *record, size_t size, struct stage_state *ret_state);
int stage_note(struct stage *stage, const struct stage_state *state); /* stage.lock */
struct stage_state stage_state_of(const struct stage *stage);         /* as it is between appends; stage.lock */
int stage_drop(struct stage *stage, uint64_t pos);                    /* what is below is dropped; stage.lock */

/* -- local_stage_recover.c -- */
int stage_replay(struct local *local, const void *record, size_t size);
int stages_recheckpoint(struct local *local);                 /* what was replayed and not looked at yet */
void stages_forget_replayed(struct stages *stages, bool all); /* else those that were used */
int stages_recover(struct local *local);
bool stages_are_left(struct local *local); /* files are there; before any was made */
/* Of an orphan: takes it in, and removes it when its writer is gone; then true. */
bool stage_look_after(struct stage *stage);

/* -- local_stage_watch.c -- */
int watch_init(struct local *local);
int watch_start(struct local *local);
void watch_stop(struct local *local);
void watch_release(struct stages *stages); /* what it knows of them */
void watch_begin(struct stage *stage);     /* it was just opened */
/* Somebody is about to wait for messages of target, and counts among its waiters: what is written does not linger. */
void watch_hurry(struct object *target);
/* The thread comes to it then, unless it does before. stages.lock */
void watch_due(struct stage *stage, int64_t ms);
void watch_now(struct stage *stage); /* the same, at once; not with stages.lock */

extern const struct engine_stage_ops local_stage_ops;

#endif
