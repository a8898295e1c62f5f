/*
 * checker - what is in a store, by mqfs-format(5) alone: it shares no code with the engine, so that it does not share its errors.
 *
 * It reads a store that no daemon has: FORMAT, every segment's index, data and meta, the journal, and the catalog (by LMDB's own
 * library). Checksums, uuids, ids and numbers must all be right and go on from each other without gaps. The store is one that was
 * closed: what a crash leaves is for the recovery, and what that leaves is for the checker.
 */
#ifndef MQFS_TEST_CHECKER_H
#define MQFS_TEST_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum checker_kind { CHECKER_TOPIC = 1, CHECKER_GROUP = 2, CHECKER_QUEUE = 3 };

/* A message that is retained. */
struct checker_message {
	enum checker_kind kind; /* of what it is in: topic or queue */
	const char *name, *parent;
	uint32_t index; /* partition or priority */
	uint64_t offset;
	const char *payload;
	size_t size;
	bool live; /* false: of a queue, and settled */
};

struct checker {
	void (*message)(struct checker *checker, const struct checker_message *message);
	/* Every object but the root; and every cursor of a group. */
	void (*object)(struct checker *checker, int kind, const char *name, const char *parent);
	void (*cursor)(struct checker *checker, const char *group, uint32_t partition, uint64_t committed);
	void *ctx;
	unsigned wrong;  /* how many things */
	char text[1024]; /* the first of them */
};

/* Payloads with newlines in them are taken as several: write none. */
void checker_store(struct checker *checker, int dirfd);
void checker_wrong(struct checker *checker, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
