/*
 * contract_tx - what engine_tx.h promises, as tests that every engine has to pass. Those about queues are
 * scripts, see contract_queue.h: "in t send q a" stages.
 */
#ifndef MQFS_TESTS_CONTRACT_TX_H
#define MQFS_TESTS_CONTRACT_TX_H

#include "tests/lib/contract_queue.h"

/* clang-format off */
#define CONTRACT_TX_TESTS(T) \
	T(tx_life) T(tx_ends) T(tx_timeout) T(tx_kept) T(tx_sends) T(tx_settles) T(tx_settle_errors) \
	T(tx_pins) T(tx_pin_ends) T(tx_conflict) T(tx_full) T(tx_many_sends) T(tx_removed_target) \
	T(tx_topics) T(tx_cursors) T(tx_cursor_conflict) T(tx_seek) T(tx_rejects) T(tx_lists) T(tx_exchanges) T(tx_wakes) \
	T(tx_refuses) T(tx_many) T(tx_reject_limits) \
	/* contract_tx_errors.c */ \
	T(tx_partitions) T(tx_staging_ended) T(tx_members) T(tx_producers) T(tx_names) \
	/* contract_tx_gone.c */ \
	T(tx_users) T(tx_forgotten) T(tx_nobody_asks) T(tx_gone) T(tx_what_it_settles_is_gone) T(tx_lists_some) T(tx_unroutable) \
	T(tx_seeks) T(tx_taken_back) T(tx_large) T(tx_priorities)
#define CONTRACT_TX_REOPEN_TESTS(T) T(tx_reopen) T(tx_reopen_forgotten) T(tx_reopen_committed) T(tx_crash_of_what_is_gone) \
	T(tx_reopen_late) T(tx_reopen_read_only)
/* clang-format on */

CONTRACT_TX_TESTS(CONTRACT_DECLARE)
CONTRACT_TX_REOPEN_TESTS(CONTRACT_DECLARE)

#endif
