/* The memory engine passes the contract of queues: see tests/lib/contract_queue.h, and the sentences above the tests there. */
#include "tests/lib/contract_queue.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_queue_memory, name)                                                                              \
	{                                                                                                              \
		contract_queue_run(false, contract_test_##name);                                                       \
	}

CONTRACT_QUEUE_TESTS(CONTRACT_TEST)
