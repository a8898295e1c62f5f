/*
 * staging - the writer of a staging file, as tests are one: it appends to the file that the engine names, as the kernel does for a
 * process with passthrough.
 */
#ifndef MQFS_TESTS_STAGING_H
#define MQFS_TESTS_STAGING_H

#include <limits.h>
#include <stdatomic.h>

#include "tests/lib/contract.h"

extern const struct engine_cred staging_cred; /* who opens */

/* What the engine answers to an opening by this producer, which is closed. */
int staging_open(struct contract *c, struct engine_producer *producer, char delimiter, const struct engine_cred *by,
    struct engine_stage **ret_stage);
struct engine_object *staging_topic(struct contract *c); /* "t", of one partition, in which messages linger */
struct engine_stage *staging_channel(struct contract *c, struct engine_object *topic, char delimiter);
int staging_writer(struct contract *c, struct engine_stage *stage); /* a descriptor */
void staging_put(int writer, const char *text, size_t len);
void staging_text(int writer, const char *text);
void staging_number(int writer, uint64_t *next); /* a message */
/* What the topic has, "0=0 1=1 ..." up to count - 1: every message once, in order. */
void staging_check(struct contract *c, struct engine_object *topic, uint64_t count, const char *what);
/* The writer closes it, and nobody else has it open; returns what the engine answers. */
int staging_end(struct contract *c, struct engine_stage *stage, int writer);

size_t staging_files(struct contract *c);
bool staging_no_files(struct contract *c, void *ctx); /* for contract_wait() */

/* Of the process of an engine, which is killed, and of one that writes on. */
struct staging_shared {
	char path[PATH_MAX];      /* of the staging file, after a '>' as soon as it is there */
	_Atomic uint64_t written; /* messages: numbers from 0 */
	_Atomic bool stop;
};

struct staging_shared *staging_share(void); /* goes with munmap() */
/* Takes in as fast as it can until it is killed. */
_Noreturn void staging_take_until_killed(struct contract *c, struct engine_stage *stage, struct staging_shared *shared);
/*
 * One round: `run` opens the engine in a process of its own and takes in; a writer begins, the engine is killed at any moment, and the
 * engine is opened here, before the writer ends (late) or after.
 */
void staging_kill(struct contract *c, struct staging_shared *shared,
    void (*run)(struct contract *c, struct staging_shared *shared), bool late);

#endif
