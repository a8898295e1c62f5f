/*
 * The local engine keeps its contract while allocations fail: each call that a test makes is made with its first allocation
 * failing, then with its second, and so on, until it is not refused (tests/lib/contract.h, contract_allocs_fail). What was refused
 * has changed nothing, or the test would see that. Only allocations of the engine itself fail, not those of LMDB.
 *
 * What the tests are about that are not here, and comes out otherwise when there was no memory:
 *
 * - what happens by time, or in the wake of a call, and is tried again later: what expires, is over a limit, dies of that, comes back from who is gone;
 * - a range that is settled up to the message that there was no memory for;
 * - sharing partitions out, which is tried again when somebody comes or goes;
 * - the partition whose turn it is, and counters of refusals.
 */

#include <fcntl.h>
#include <unistd.h>

#include "engine/journal_internal.h"
#include "engine/stage_cut.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/nosync.h"

/* clang-format off */
#define TOPIC_TESTS(T) \
	T(root) T(create_finds) T(create_errors) T(find_errors) T(list) T(ids_are_new) T(any_name) T(rename) \
	T(rename_errors) T(remove) T(remove_not_empty) T(remove_takes_groups) T(removed_answers_eidrm) T(owners) \
	T(references) T(defaults) T(defaults_have_settings_only) T(health) T(times) T(reasons) T(settings_initial) \
	T(settings_set) T(settings_refused) T(settings_of_other_kind) T(partitions_grow) \
	T(partitions_grow_under_group) T(max_message_bytes) T(order) T(payloads) T(newlines_in_payloads) T(props) \
	T(producer_key) T(attested) T(time_of_batch) T(whole_or_none) T(send_errors) T(keys_pick_partitions) \
	T(turns_by_sync) T(turns_by_close) T(fixed_partition) T(large_messages) T(sync) T(read_at_every_offset) \
	T(read_limits) T(read_errors) T(pread) T(find_time) T(purge_before) T(purge_all) T(purge_every_partition) \
	T(purge_errors) T(topic_numbers) T(many_messages) T(retention_by_time) T(retention_by_bytes) T(one_repeats) \
	T(one_takes_turns) T(one_of_partition) T(snapshot) T(snapshot_rewinds) T(snapshot_is_limited) \
	T(snapshot_of_partition) T(snapshots_take_turns) T(fetch_limits) T(ack_all) T(ack_offset) T(ack_errors) \
	T(seek) T(seek_errors) T(seek_takes_back) T(auto_commit) T(reset_latest) T(reset_of_used_group) \
	T(purge_moves_cursors) T(group_numbers) T(groups_are_apart) T(group_sync) T(consumer_errors) T(stream) \
	T(stream_then_ack) T(stream_excludes) T(streams_share) T(streams_rebalance) T(stream_of_partition) \
	T(stream_after_seek) T(wake_on_produce) T(wake_on_seek) T(wake_on_remove) T(wake_on_rebalance) \
	T(arm_when_there_is_something) T(disarm) T(disarm_race) T(in_parallel) T(streams_are_sticky) \
	T(members_streams) T(members_beside_streams) T(members_exclude_group) T(members_ack) T(members_take_over) \
	T(members_snapshot) T(members_seek) T(members_sessions) T(members_silent) T(members_remove) T(members_stat) \
	T(members_reject_of_group) T(keys_tombstone) T(keys_refused) T(keys_partitions) T(reopen_objects) \
	T(reopen_ids) T(reopen_owners) T(reopen_settings) T(reopen_messages) T(reopen_props) T(reopen_partitions) \
	T(reopen_purge) T(reopen_given) T(reopen_cursors) T(reopen_fresh_group) T(reopen_removed) T(reopen_read_only) T(open_errors) \
	T(reopen_keys)

#define QUEUE_TESTS(T) \
	T(reopen_dedup) T(reopen_dedup_purged) \
	T(q_lifecycle) T(q_refused) T(q_settle_errors) T(q_settle_ranges) T(q_late_acks) T(q_objects) T(q_remove) \
	T(q_settings) T(q_consumer_settings) T(q_props) T(q_order) T(q_head) T(q_priorities) T(q_max_priority) \
	T(q_comes_back_in_place) T(q_one) T(q_snapshot) T(q_stream) T(q_take) T(q_auto_ack) T(q_prefetch) \
	T(q_prefetch_of_consumer) T(q_single_active) T(q_list) T(q_delay) T(q_lease) T(q_touch) T(q_sessions) \
	T(q_stream_holds) T(q_consumer_timeout) T(q_redelivery_delay) T(q_wakes_in_time) T(q_dead_letter_to) T(q_dlq) \
	T(q_reject_publish) T(q_reject_publish_dlx) T(q_moves_to_limits) T(q_purge) T(q_conservation) T(q_in_parallel) \
	T(dedup_topic) T(dedup_partitions) T(dedup_queue) T(dedup_batches) T(dedup_refused) T(dedup_setting) \
	T(dedup_parallel) T(q_reopen_states) T(q_reopen_order) T(q_reopen_leases) T(q_reopen_holders) T(q_reopen_removed_holder) \
	T(q_reopen_totals) T(q_reopen_settings) T(x_objects) \
	T(x_types) T(x_patterns) T(x_bindings) T(x_bind_errors) T(x_circles) T(x_removal) T(x_topic) T(x_direct) \
	T(x_fanout) T(x_headers) T(x_one_copy) T(x_exchanges) T(x_alternate) T(x_all_or_none) T(x_batches) \
	T(x_renamed) T(x_renamed_circle) T(x_props) T(x_sync) T(x_eidrm) T(x_dedup) T(x_dead_settings) T(x_reopen) T(x_reopen_published) \
	T(x_reopen_read_only) T(x_reopen_dead) T(tx_life) T(tx_ends) T(tx_timeout) T(tx_kept) T(tx_sends) \
	T(tx_settle_errors) T(tx_pins) T(tx_pin_ends) T(tx_conflict) T(tx_full) T(tx_removed_target) \
	T(tx_topics) T(tx_cursors) T(tx_cursor_conflict) T(tx_seek) T(tx_lists) T(tx_exchanges) T(tx_wakes) \
	T(tx_refuses) T(tx_many) T(tx_reopen) T(tx_reopen_committed) T(tx_producers) T(tx_members) T(tx_partitions) T(tx_staging_ended) \
	T(tx_gone) T(tx_what_it_settles_is_gone) T(tx_lists_some) T(tx_unroutable) T(tx_seeks) T(tx_taken_back) \
	T(tx_priorities) T(tx_users) T(tx_forgotten) T(tx_reopen_read_only)
/* clang-format on */

static void run(void (*contract)(bool persists, void (*test)(struct contract *c)), void (*test)(struct contract *c))
{
	tmpdir_in_memory();
	nosync_install();
	contract_allocs_fail = true;
	contract(true, test);
}

#define ALLOC_TEST(runner, name)                                                                                       \
	Test(local_alloc, name)                                                                                        \
	{                                                                                                              \
		run(runner, contract_test_##name);                                                                     \
	}
#define TOPIC_TEST(name) ALLOC_TEST(contract_run, name)
#define QUEUE_TEST(name) ALLOC_TEST(contract_queue_run, name)

TOPIC_TESTS(TOPIC_TEST)
QUEUE_TESTS(QUEUE_TEST)

/* ---- what no call of the contract comes to with each of its allocations failing ---- */

Test(local_alloc, pieces_of_staging)
{
	static const char bytes[] = "a\nb;c;";
	struct stage_scratch scratch = { 0 };
	struct engine_span key = { "k", 1 };
	struct stage_cut cut;

	alloc_arm(1);
	cr_assert_eq(stage_scratch_reserve(&scratch, 64), -ENOMEM);
	alloc_disarm();
	assert_ok(stage_scratch_reserve(&scratch, 64));
	for (uint64_t n = 1; n <= 2; n++) { /* lengths; keys */
		memcpy(scratch.buf, bytes, sizeof(bytes));
		alloc_arm(n);
		cr_assert_eq(stage_cut(&scratch, sizeof(bytes) - 1, ';', 10, 100, key, &cut), -ENOMEM);
		alloc_disarm();
	}
	memcpy(scratch.buf, bytes, sizeof(bytes));
	assert_ok(stage_cut(&scratch, sizeof(bytes) - 1, ';', 10, 100, key, &cut));
	cr_assert_eq(cut.batch.count, 2);
	cr_assert_eq(cut.batch.lengths[0], 3);
	cr_assert_eq(cut.batch.props[1].key.len, 1);
	stage_scratch_release(&scratch);
}

Test(local_alloc, files_of_the_journal)
{
	enum { FILES = 17 }; /* there is room for 16 at first */
	char name[JOURNAL_NAME_SIZE];
	struct tmpdir dir;
	uint64_t *numbers, n;
	size_t count = 0;
	int fd;

	tmpdir_in_memory();
	tmpdir_make(&dir);
	fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < FILES; i++) {
		journal_file_name(name, 10 + i);
		close(openat(fd, name, O_WRONLY | O_CREAT, 0600));
	}
	close(openat(fd, "00000000000000xa", O_WRONLY | O_CREAT, 0600));
	alloc_arm(1);
	cr_assert_eq(journal_list(fd, &numbers, &count), -ENOMEM);
	alloc_disarm();
	for (n = 1; alloc_arm_reads(n, EIO), journal_list(fd, &numbers, &count) < 0; n++)
		alloc_disarm_reads();
	alloc_disarm_reads();
	cr_assert_gt(n, 3);
	cr_assert_eq(count, FILES);
	cr_assert_eq(numbers[FILES - 1], 10 + FILES - 1);
	free(numbers);
	close(fd);
	tmpdir_remove(&dir);
}
