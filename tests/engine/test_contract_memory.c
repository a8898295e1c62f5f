/* The memory engine passes the contract of engines: see tests/lib/contract.h, and the sentences above the tests there. */
#include "tests/lib/contract.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_memory, name)                                                                                    \
	{                                                                                                              \
		contract_run(false, contract_test_##name);                                                             \
	}

CONTRACT_TESTS(CONTRACT_TEST)
