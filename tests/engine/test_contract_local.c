/* The local engine passes the contract of engines: see tests/lib/contract.h, and the sentences above the tests there. */
#include "tests/lib/contract.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_local, name)                                                                                     \
	{                                                                                                              \
		contract_run(true, contract_test_##name);                                                              \
	}

CONTRACT_TESTS(CONTRACT_TEST)
CONTRACT_REOPEN_TESTS(CONTRACT_TEST)
