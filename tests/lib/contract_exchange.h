/*
 * contract_exchange - what engine_exchange.h promises, as tests that every engine with exchanges has to pass. They are scripts, as
 * those of contract_queue.h, with some more commands, which are at x_run() in contract_exchange_script.c.
 */
#ifndef MQFS_TESTS_CONTRACT_EXCHANGE_H
#define MQFS_TESTS_CONTRACT_EXCHANGE_H

#include "tests/lib/contract_queue.h"

/* One command about exchanges; appends what it answers. False: it is none. */
bool x_run(struct contract *c, char *const *words, char *answer, size_t size);

/* clang-format off */
#define CONTRACT_EXCHANGE_TESTS(T) \
	T(x_objects) T(x_types) T(x_patterns) T(x_bindings) T(x_counted) T(x_rebind) T(x_bind_errors) T(x_circles) T(x_removal) T(x_topic) \
	T(x_direct) T(x_fanout) T(x_headers) T(x_one_copy) T(x_exchanges) T(x_alternate) T(x_mandatory) \
	T(x_all_or_none) T(x_batches) T(x_renamed) T(x_renamed_circle) T(x_props) T(x_counters) T(x_expires) T(x_limits) T(x_sync) T(x_eidrm) T(x_dedup) T(x_dead_letters) T(x_dead_circles) T(x_dead_settings) \
	T(x_dead_names) T(x_dead_priorities) T(x_due_before)

#define CONTRACT_EXCHANGE_REOPEN_TESTS(T) T(x_reopen) T(x_reopen_counted) T(x_reopen_published) T(x_reopen_read_only) T(x_reopen_dead)
/* clang-format on */

CONTRACT_EXCHANGE_TESTS(CONTRACT_DECLARE)
CONTRACT_EXCHANGE_REOPEN_TESTS(CONTRACT_DECLARE)

#endif
