/*
 * ask - requests to a tree without a mount (tests/fuzz/world.h), by path. Each returns 0 or the negative errno of the answer, 1 if none came;
 * what an answer gives, a node or an open file, is kept. Reads, writes and the close are of the file that was opened last.
 *
 * What libfuse would tell the kernel of a staging file comes here: __wrap_fuse_passthrough_open, which is linked by --wrap.
 */
#ifndef MQFS_TEST_ASK_H
#define MQFS_TEST_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern int ask_backing; /* what the kernel has as backing file, of the last open */
extern int ask_refusal; /* errno by which the kernel refuses a backing file; 0: it takes it */

int ask(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len);

/* The node at a path, or, with all false, of its directory; 0: there is none. ret_name: its last part. */
uint64_t ask_walk(const char *path, bool all, char ret_name[256]);

int ask_mkdir(const char *path);
int ask_remove(const char *path, bool directory);
int ask_rename(const char *path, const char *new_path);
int ask_link(const char *path, const char *target); /* ln -s target path */

int ask_open(const char *path, uint32_t flags);
int ask_create(const char *path);
int ask_write(const char *text, uint64_t offset);
int ask_read(void); /* from the beginning; the bytes are in world.answer */
int ask_flush(void);
int ask_close(void);                                    /* the answer is that of the flush, as of close(2) */
int ask_write_file(const char *path, const char *text); /* open, write, close; the first error */
uint64_t ask_node(void);                                /* of the open file */
bool ask_is_staged(void);                               /* the open that was just answered */

#endif
