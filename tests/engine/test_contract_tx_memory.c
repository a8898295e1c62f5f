/* The memory engine passes the contract of transactions: see tests/lib/contract_tx.h, and the sentences above the tests there. */
#include "tests/lib/contract_tx.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_tx_memory, name)                                                                                 \
	{                                                                                                              \
		contract_queue_run(false, contract_test_##name);                                                       \
	}

CONTRACT_TX_TESTS(CONTRACT_TEST)
