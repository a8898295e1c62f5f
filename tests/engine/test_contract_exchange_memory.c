/* The memory engine passes the contract of exchanges: see tests/lib/contract_exchange.h, and the sentences above the tests there. */
#include "tests/lib/contract_exchange.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_exchange_memory, name)                                                                           \
	{                                                                                                              \
		contract_queue_run(false, contract_test_##name);                                                       \
	}

CONTRACT_EXCHANGE_TESTS(CONTRACT_TEST)
