/*
 * assign - who has which partition: sharing that is balanced, and moves no more than that needs (Kafka's cooperative
 * sticky assignor).
 *
 * Units are numbered in the order of joining. Both engines share the partitions of a group among its members by this, and
 * those of a member among its streams.
 */
#ifndef MQFS_ASSIGN_H
#define MQFS_ASSIGN_H

#include <stdint.h>

#define ASSIGN_FREE UINT32_MAX       /* nobody has the partition */
#define ASSIGN_NOT (UINT32_MAX - 1u) /* it is not to be shared */

/*
 * owners[p] is who has partition p: a unit below `units`, ASSIGN_FREE or ASSIGN_NOT. Changes it so that no ASSIGN_FREE is
 * left (if there are units) and shares differ by one at most. Who has too many gives up those with the highest numbers, the unit
 * that joined last first; what is free goes, in ascending order, to who has fewest, the one that joined first among equals.
 */
void assign_sticky(uint32_t *owners, uint32_t partitions, uint32_t units);

#endif
