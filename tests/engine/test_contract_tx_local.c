/* The local engine passes the contract of transactions: see tests/lib/contract_tx.h, and the sentences above the tests there. */
#include "tests/lib/contract_tx.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_tx_local, name)                                                                                  \
	{                                                                                                              \
		contract_queue_run(true, contract_test_##name);                                                        \
	}

CONTRACT_TX_TESTS(CONTRACT_TEST)
CONTRACT_TX_REOPEN_TESTS(CONTRACT_TEST)
