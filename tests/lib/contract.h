/*
 * contract - what engine.h promises, as tests that every engine has to pass.
 *
 * A test is a function that gets a fresh engine. CONTRACT_TESTS names them all; tests/engine/test_contract_NAME.c makes a
 * Criterion test of each for its engine. Those in CONTRACT_REOPEN_TESTS close the engine and open it again, and are for
 * engines that keep what they have.
 *
 * Only what engine.h says is tested: where it leaves something open (how large a batch is that a read gives, when time
 * retention looks), a test accepts any answer. What an engine does later is waited for with contract_wait().
 */
#ifndef MQFS_TESTS_CONTRACT_H
#define MQFS_TESTS_CONTRACT_H

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/lib/tmpdir.h"

#define CONTRACT_WAIT_MS 20000 /* after this long, what is waited for is taken never to happen */
#define CONTRACT_TEXT 65536
#define CONTRACT_USERS 4

struct contract {
	bool persists;     /* the store is a directory and outlives the engine */
	struct tmpdir dir; /* if it persists */
	char source[PATH_MAX + 64];
	struct engine *engine;
	const struct engine_ops *ops;
	struct engine_object *root;
	struct engine_scratch scratch;
	struct {
		pthread_mutex_t lock; /* {0} is one */
		uint64_t limit, held[CONTRACT_USERS];
	} leases; /* what struct engine_users has of users below CONTRACT_USERS; 0 has no limit */
	struct contract_user {
		struct contract *contract;
		uint64_t open, bytes; /* leases.lock */
	} users[CONTRACT_USERS];      /* their transactions, each by its number modulo CONTRACT_USERS */
	uint64_t tx_limit, tx_bytes;  /* what each may have; 0: no limit */
	uint64_t object_limit, keep_refused,
	    kept[CONTRACT_USERS]; /* the same of objects, and what each has; leases.lock */
	char text[CONTRACT_TEXT]; /* what contract_read() and contract_fetch() return */
};

/* Runs one test on a fresh engine: memory:, or local in a temporary directory if persists is set. */
void contract_run(bool persists, void (*test)(struct contract *c));

void contract_open(struct contract *c);
void contract_open_read_only(struct contract *c);
void contract_close(struct contract *c);  /* must succeed, and users must have nothing left */
void contract_reopen(struct contract *c); /* all objects must have been put */

/* ---- short forms: they fail the test if what they do does not succeed ---- */

struct engine_object *contract_topic(struct contract *c, const char *name, uint32_t partitions);
struct engine_object *contract_group(struct contract *c, struct engine_object *topic, const char *name);
struct engine_object *contract_lookup(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name);
uint64_t contract_id(struct contract *c, struct engine_object *object);
struct engine_stat contract_stat(struct contract *c, struct engine_object *object);
struct engine_partition_stat contract_partition(struct contract *c, struct engine_object *topic, uint32_t partition);

/* Sets a setting; returns what the engine returns. */
int contract_set(struct contract *c, struct engine_object *object, const char *name, const char *value);
const char *contract_get(struct contract *c, struct engine_object *object, const char *name); /* into c->text */

struct engine_producer *contract_producer(struct contract *c, struct engine_object *topic, uint32_t partition);
struct engine_consumer *contract_consumer(
    struct contract *c, struct engine_object *group, uint32_t partition, enum engine_consume how);

/* Sends a batch and waits until it is taken; returns what the engine answers in the end. */
int contract_send_batch(struct contract *c, struct engine_producer *producer, const struct engine_batch *batch);
int contract_sync(struct contract *c, struct engine_producer *producer);
int contract_sync_group(struct contract *c, struct engine_object *group);

/* A batch of the lines in text, each of which ends in '\n', produced now by nobody in particular. */
struct engine_batch contract_batch(const char *lines);

/* Sends lines through a producer of its own. Fixed: to this partition (ENGINE_ANY: whichever). */
void contract_send(struct contract *c, struct engine_object *topic, uint32_t partition, const char *lines);
void contract_send_at(
    struct contract *c, struct engine_object *topic, uint32_t partition, int64_t ts_ms, const char *lines);

/* All messages from offset to the end, as "0=a 1=b": offset and payload. Checks that the views hang together. */
const char *contract_read(struct contract *c, struct engine_object *topic, uint32_t partition, uint64_t offset);

/* What the consumer gives until it gives nothing more, as "0:0=a 1:0=b": partition, offset and payload. */
const char *contract_fetch(struct contract *c, struct engine_consumer *consumer);
const char *contract_fetch_some(struct contract *c, struct engine_consumer *consumer, uint32_t count); /* that many */

/* The same through a consumer opened for it. */
const char *contract_one(struct contract *c, struct engine_object *group);
const char *contract_snapshot(struct contract *c, struct engine_object *group);

/* "COMMITTED GIVEN LOST" of a group in one partition, into a buffer of its own. */
const char *contract_cursor(struct contract *c, struct engine_object *group, uint32_t partition);

/* Calls check until it is true; fails the test when that takes too long. */
void contract_wait(struct contract *c, bool (*check)(struct contract *c, void *ctx), void *ctx, const char *what);

/*
 * Allocations that fail: where this is set, a call under test (of assert_ok, assert_err, q_run) is made with its first
 * allocation failing, with its second, and so on, as long as it is refused with ENOMEM (q_run: or EIO, of a dead letter), which must
 * have changed nothing. For tests that are linked with the engine of tests/lib/alloc.h.
 */
extern bool contract_allocs_fail;
bool contract_again(uint64_t *n, bool refused); /* *n is 0 at first: whether to make the call (again) */
bool contract_look_again(uint64_t *n);          /* the same for what may be done again anyway: until none has failed */
void contract_called(void);                     /* what comes in the same call is not under test */
#define CONTRACT_CALL(ret_rc, expression)                                                                              \
	do {                                                                                                           \
		for (uint64_t n_ = 0; contract_again(&n_, (ret_rc) == -ENOMEM);)                                       \
			(ret_rc) = (int)(expression);                                                                  \
	} while (0)

#define assert_text(actual, expected) cr_assert_str_eq((actual), (expected))
#define assert_ok(expression)                                                                                          \
	do {                                                                                                           \
		int contract_ok_ = 0;                                                                                  \
		CONTRACT_CALL(contract_ok_, expression);                                                               \
		cr_assert_eq(contract_ok_, 0, "%s is %d: %s", #expression, contract_ok_, engine_reason());             \
	} while (0)
#define assert_err(expression, error)                                                                                  \
	do {                                                                                                           \
		int contract_rc_ = 0;                                                                                  \
		CONTRACT_CALL(contract_rc_, expression);                                                               \
		cr_assert_eq(contract_rc_, -(error), "%s is %d and not -%s", #expression, contract_rc_, #error);       \
	} while (0)

/* A waiter that counts how often it was woken. */
struct contract_waiter {
	struct engine_waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned woken;
};
void contract_waiter_init(struct contract_waiter *waiter);
bool contract_waiter_woken(struct contract_waiter *waiter); /* now */
void contract_waiter_wait(struct contract_waiter *waiter);  /* until it is */
bool contract_waiter_comes(struct contract_waiter *waiter); /* the same for threads: false if it takes too long */

/* ---- the tests ---- */

/* clang-format off */
#define CONTRACT_TESTS(T) \
	/* contract_objects.c */ \
	T(root) T(create_finds) T(create_errors) T(find_errors) T(list) T(ids_are_new) T(any_name) T(rename) \
	T(rename_errors) T(remove) T(remove_not_empty) T(remove_takes_groups) T(removed_answers_eidrm) \
	T(owners) T(references) T(defaults) T(defaults_have_settings_only) T(health) T(times) T(reasons) \
	/* contract_settings.c */ \
	T(settings_initial) T(settings_set) T(settings_refused) T(settings_of_other_kind) T(partitions_grow) \
	T(partitions_grow_under_group) T(max_message_bytes) \
	/* contract_produce.c */ \
	T(order) T(payloads) T(newlines_in_payloads) T(props) T(producer_key) T(attested) T(time_of_batch) \
	T(whole_or_none) T(send_errors) T(keys_pick_partitions) T(turns_by_send) T(turns_by_size) \
	T(turns_by_sync) T(turns_by_close) T(fixed_partition) T(large_messages) T(sync) \
	/* contract_read.c */ \
	T(read_at_every_offset) T(read_limits) T(read_errors) T(pread) T(find_time) T(purge_before) \
	T(purge_all) T(purge_every_partition) T(purge_errors) T(topic_numbers) T(many_messages) \
	T(retention_by_time) T(retention_by_bytes) \
	/* contract_group.c */ \
	T(one_repeats) T(one_takes_turns) T(one_of_partition) T(snapshot) T(snapshot_rewinds) \
	T(snapshot_is_limited) T(snapshot_of_partition) T(snapshots_take_turns) T(fetch_limits) T(ack_all) \
	T(ack_offset) T(ack_errors) T(seek) T(seek_errors) T(seek_takes_back) T(auto_commit) T(reset_latest) \
	T(reset_of_used_group) T(purge_moves_cursors) T(group_numbers) T(groups_are_apart) T(group_sync) \
	T(consumer_errors) \
	/* contract_stream.c */ \
	T(stream) T(stream_then_ack) T(stream_excludes) T(streams_share) T(streams_rebalance) \
	T(stream_of_partition) T(stream_after_seek) T(stream_after_growth) T(wake_on_produce) T(wake_on_seek) \
	T(wake_on_remove) T(wake_on_rebalance) T(arm_when_there_is_something) T(disarm) T(disarm_race) \
	T(in_parallel) \
	/* contract_member.c */ \
	T(members_share) T(streams_are_sticky) T(members_streams) T(members_beside_streams) \
	T(members_exclude_group) T(members_ack) T(members_take_over) T(members_snapshot) T(members_seek) \
	T(members_sessions) T(members_silent) T(members_remove) T(members_stat) T(members_reject) \
	T(members_reject_of_group) T(members_reject_limits) T(members_reject_many) T(members_redrive_refused) \
	/* contract_member_random.c */ \
	T(members_random) \
	/* contract_keys.c */ \
	T(keys) T(keys_tombstone) T(keys_refused) T(keys_partitions) T(keys_many) T(keys_stored) T(keys_clock)

#define CONTRACT_REOPEN_TESTS(T) \
	/* contract_reopen.c */ \
	T(reopen_objects) T(reopen_ids) T(reopen_owners) T(reopen_settings) T(reopen_messages) T(reopen_props) \
	T(reopen_partitions) T(reopen_purge) T(reopen_cursors) T(reopen_given) T(reopen_fresh_group) \
	T(reopen_removed) T(reopen_read_only) T(open_errors) \
	/* contract_keys.c */ \
	T(reopen_keys)
/* clang-format on */

#define CONTRACT_DECLARE(name) void contract_test_##name(struct contract *c);
CONTRACT_TESTS(CONTRACT_DECLARE)
CONTRACT_REOPEN_TESTS(CONTRACT_DECLARE)

#endif
