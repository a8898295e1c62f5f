/* The local engine passes the contract of exchanges: see tests/lib/contract_exchange.h, and the sentences above the tests there. */
#include "tests/lib/contract_exchange.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_exchange_local, name)                                                                            \
	{                                                                                                              \
		contract_queue_run(true, contract_test_##name);                                                        \
	}

CONTRACT_EXCHANGE_TESTS(CONTRACT_TEST)
CONTRACT_EXCHANGE_REOPEN_TESTS(CONTRACT_TEST)
