/*
 * fuzz - what the fuzz targets share.
 *
 * A target is one function that takes any bytes and must neither crash, nor leak, nor break what it states by assertions. Each is linked
 * twice: with libFuzzer by `make fuzz`, which looks for new inputs, and with replay.c by `make check`, which gives it those in
 * tests/fuzz/corpus/NAME: every input that has ever found something, and a few of each kind.
 */
#ifndef MQFS_TEST_FUZZ_H
#define MQFS_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert(3) is off in some builds. */
#define FUZZ_ASSERT(what)                                                                                              \
	do {                                                                                                           \
		if (!(what)) {                                                                                         \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what);                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Input that is taken piece by piece; zeros when there is no more. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

/* At most max bytes, as many as the next byte says. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t max, size_t *ret_size)
{
	size_t size = fuzz_byte(input);
	const uint8_t *bytes = input->data;

	if (size > max)
		size = max;
	if (size > input->size)
		size = input->size;
	input->data += size;
	input->size -= size;
	*ret_size = size;
	return bytes;
}

#endif
