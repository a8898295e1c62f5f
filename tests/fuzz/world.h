/*
 * world - the tree over the memory engine, and a kernel that sends it requests, without a mount: what the fuzzer of the request stream
 * and the test of failing allocations share.
 *
 * It remembers nodes and files that answers gave; it names none it was not given, and releases each file once.
 */
#ifndef MQFS_TEST_WORLD_H
#define MQFS_TEST_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/fs.h"

#define NODES_MAX 256u
#define FILES_MAX 64u
#define REQUEST_MAX (64u << 10)

struct world {
	struct fs fs;
	struct fuse_session *session;
	struct {
		uint64_t id, lookups;
		uint32_t mode;
	} nodes[NODES_MAX];
	size_t node_count;
	struct {
		uint64_t fh, node;
		uint32_t flags;
		bool dir;
	} files[FILES_MAX];
	size_t file_count;
	uint64_t unique;
	unsigned wanted; /* answers that have not come */
	unsigned told;   /* notifications that came: what the kernel is to forget, or to ask for again */
	struct {
		bool came;
		int error;
		size_t size;
		uint8_t body[REQUEST_MAX];
	} answer;     /* to the last request */
	bool refuses; /* the next answer: who waited for it was interrupted */
	uint32_t pid; /* of who asks; 0: this process */
	bool of_root; /* requests are root's; else they are of one user and of another */
};
extern struct world world;

void world_begin(void);
void world_begin_at(const char *source); /* over the engine of this source */
void world_end(void);                    /* releases and forgets all; every request has had its answer */

/* A request: head and tail are what comes after its header. The answer to it is in world.answer, unless it waits. */
void world_send(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len);
bool world_answered(void); /* without an error */
/*
 * The node at a path, or, with all false, of its directory; 0: there is none. Each part is asked for by ask, which is world_send or does as
 * it does. ret_name: the last part.
 */
uint64_t world_walk(const char *path, bool all,
    void (*ask)(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len),
    char ret_name[256]);

/* What the answer gave becomes a node, or a file (skip: bytes before it), that can be used. */
void world_keep_entry(void);
void world_keep_file(uint64_t node, uint32_t flags, bool dir, size_t skip);
void world_release(size_t file);
void world_forget(size_t node);

#endif
