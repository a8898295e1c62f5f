/* The local engine passes the contract of transactions: see tests/lib/contract_tx.h, and the sentences above the tests there. */
#include "engine/local_tx.h"
#include "tests/lib/contract_tx.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_tx_local, name)                                                                                  \
	{                                                                                                              \
		contract_queue_run(true, contract_test_##name);                                                        \
	}

/* The tables of calls that wait for a commit leave none out. */
Test(contract_tx_local, no_call_is_missing)
{
	const struct {
		const void *table;
		size_t size;
	} tables[] = { { &look_queue_ops, sizeof(look_queue_ops) }, { &look_member_ops, sizeof(look_member_ops) },
		{ &look_exchange_ops, sizeof(look_exchange_ops) }, { &local_tx_ops, sizeof(local_tx_ops) } };

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (size_t at = 0; at < tables[i].size; at += sizeof(void *))
			cr_assert_not_null(
			    ((void *const *)tables[i].table)[at / sizeof(void *)], "table %zu, %zu", i, at);
	}
}

CONTRACT_TX_TESTS(CONTRACT_TEST)
CONTRACT_TX_REOPEN_TESTS(CONTRACT_TEST)
