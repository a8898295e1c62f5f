/*
 * crc32c - the checksum of everything in a store: CRC-32C (Castagnoli), as in iSCSI (RFC 3720 B.4), ext4 and Kafka.
 *
 * With SSE4.2 the processor's instruction is used, three streams at a time where there is enough to do (the instruction
 * takes three cycles but one can be started every cycle); without, tables, eight bytes at a time. Which of the two is
 * found out once, before main().
 */
#ifndef MQFS_CRC32C_H
#define MQFS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin with) over size more bytes: crc32c(crc32c(0, a), b) is the CRC of a and b together. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t size);

/* The same by tables, whatever the processor has; for comparison. */
uint32_t crc32c_portable(uint32_t crc, const void *buf, size_t size);

#endif
