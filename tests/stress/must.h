/*
 * must - what has to be so in a program that is a test by itself: it ends with the place, the condition and the engine's reason.
 */
#ifndef MQFS_TEST_MUST_H
#define MQFS_TEST_MUST_H

#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, engine_reason());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#endif
