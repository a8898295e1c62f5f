/*
 * partitioner - the partition of a key, the same as Kafka's default partitioner picks.
 *
 * A key that Kafka's Java client (or kcat with partitioner=murmur2_random) would put in partition p of n goes to p of n
 * here as well, so that topics can be copied between the two without breaking the order within a key. The hash is
 * org.apache.kafka.common.utils.Utils.murmur2, which is Austin Appleby's public-domain MurmurHash2 with a fixed seed; its
 * published vectors are in tests/engine/test_partitioner.c. The sign bit is masked off (Utils.toPositive), not negated.
 *
 * As in Kafka, growing a topic moves keys: the same key may go to another partition from then on.
 *
 * Pure functions: no state, any thread.
 */
#ifndef MQFS_PARTITIONER_H
#define MQFS_PARTITIONER_H

#include <stddef.h>
#include <stdint.h>

/* key may be NULL if size is 0. */
int32_t partitioner_murmur2(const void *key, size_t size);

/* The partition, below partitions (at least 1). */
uint32_t partitioner_pick(const void *key, size_t size, uint32_t partitions);

#endif
