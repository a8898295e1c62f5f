/*
 * contract_queue - what engine_queue.h promises, as tests that every engine with queues has to pass.
 *
 * Most of them are scripts: a line is a command, "=>" and what it answers. Messages are called by their payloads, which are
 * unique in a script; queues "q", dead letters "q/dlq", named consumers "q/w1". The clock is the test's: it stands until a
 * script lets time go by. The commands are at q_run() in contract_queue.c.
 */
#ifndef MQFS_TESTS_CONTRACT_QUEUE_H
#define MQFS_TESTS_CONTRACT_QUEUE_H

#include "tests/lib/contract.h"

/* contract_run() with the clock of the test, which is at this time; says SKIP if the engine has no queues. */
void contract_queue_run(bool persists, void (*test)(struct contract *c));

/* The same in two steps, for up to two engines at a time. */
void q_open(struct contract *c, bool persists);
void q_prepare(struct contract *c, bool persists); /* before contract_open(), of a store that is made otherwise */
void q_close(struct contract *c);
void q_lenient(struct contract *c); /* a message that was never seen has the id 0 */

void q_tick(int64_t ms);
int64_t q_now(void);
/* Time goes by for the calling thread alone: nothing that is due is done but by its calls. */
void q_own_time(bool own);

/* Runs the lines of a script up to a NULL; the first that answers something else fails the test. */
void q_script(struct contract *c, const char *const *lines);
#define Q_SCRIPT(c, ...) q_script((c), (const char *const[]){ __VA_ARGS__, NULL })

/* One command; what it answers lasts until the next. */
const char *q_run(struct contract *c, const char *command);
const char *q_answer(void); /* the last one */
void q_forget(void);        /* payloads that were seen may come again, as other messages */

/* "q", "q/dlq" or "q/w1", a topic or an exchange: to be put. */
struct engine_object *q_object(struct contract *c, const char *path);

/* clang-format off */
#define CONTRACT_QUEUE_TESTS(T) \
	/* contract_queue_states.c */ \
	T(q_lifecycle) T(q_transitions) T(q_refused) T(q_settle_errors) T(q_settle_moved) T(q_settle_ranges) \
	T(q_late_acks) T(q_late_acks_purged) T(q_late_acks_redriven) T(q_objects) T(q_remove) T(q_settings) T(q_consumer_settings) T(q_props) \
	/* contract_queue_order.c */ \
	T(q_order) T(q_head) T(q_priorities) T(q_max_priority) T(q_comes_back_in_place) T(q_one) \
	T(q_snapshot) T(q_snapshot_of_moved) T(q_stream) T(q_take) T(q_auto_ack) T(q_prefetch) T(q_prefetch_of_consumer) \
	T(q_single_active) T(q_single_active_holds) T(q_single_active_of_several) T(q_list) T(q_list_while_it_changes) \
	/* contract_queue_time.c */ \
	T(q_delay) T(q_ttl) T(q_ttl_not_in_order) T(q_ttl_comes_back) T(q_ttl_of_delayed) T(q_lease) T(q_touch) \
	T(q_session) T(q_session_too_late) T(q_sessions) T(q_stream_holds) T(q_consumer_timeout) T(q_redelivery_delay) \
	T(q_expires) T(q_due_before) T(q_wakes) T(q_wakes_in_time) \
	/* contract_queue_dead.c */ \
	T(q_deaths) T(q_delivery_limit) T(q_dead_letter_to) T(q_circle) T(q_dead_before_lengths) T(q_dlq) T(q_redrive) T(q_redrive_to_limits) \
	T(q_max_length) T(q_max_length_bytes) T(q_reject_publish) T(q_reject_publish_dlx) \
	T(q_moves) T(q_moves_and_priorities) T(q_move_errors) T(q_moves_to_limits) T(q_purge) T(q_conservation) \
	T(q_in_parallel) \
	/* contract_queue_users.c */ \
	T(q_users) T(q_users_ends) T(q_users_moves) T(q_users_own) T(q_users_waits) \
	/* contract_dedup.c */ \
	T(dedup_topic) T(dedup_partitions) T(dedup_queue) T(dedup_batches) T(dedup_refused) T(dedup_setting) \
	T(dedup_users) T(dedup_parallel)

#define CONTRACT_QUEUE_REOPEN_TESTS(T) \
	/* contract_queue_reopen.c */ \
	T(q_reopen_states) T(q_reopen_order) T(q_reopen_snapshot) T(q_reopen_leases) T(q_reopen_lease_setting) T(q_reopen_after_delay) T(q_reopen_removed_holder) T(q_reopen_holders) \
	T(q_crash_holders) T(q_crash_holders_delay) T(q_crash_holders_limit) \
	T(q_reopen_users) T(q_reopen_times) T(q_reopen_not_in_order) T(q_reopen_dead) T(q_reopen_totals) T(q_reopen_settings) \
	/* contract_dedup.c */ \
	T(reopen_dedup) T(reopen_dedup_purged)
/* clang-format on */

CONTRACT_QUEUE_TESTS(CONTRACT_DECLARE)
CONTRACT_QUEUE_REOPEN_TESTS(CONTRACT_DECLARE)

#endif
