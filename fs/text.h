/*
 * text - an open control or report file: text made when it is opened, and lines that are commands.
 *
 * What is read is a snapshot taken at open, so a reader of any buffer size sees one state. What is written is cut into lines,
 * each executed by the class as it is complete (command.h says how a part is treated); or, for a setting, each
 * write(2) is one whole value, as in sysfs.
 */
#ifndef MQFS_FS_TEXT_H
#define MQFS_FS_TEXT_H

#include "fs/buffer.h"
#include "fs/class.h"

#define TEXT_REASON_MAX 256u

struct text_calls {
	/* Appends the content; NULL: empty. */
	int (*generate)(struct fs *fs, const struct node *node, struct buffer *out);
	/* Executes a line without its newline; NULL: nothing can be written. reason: a sentence, or left empty. */
	int (*line)(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX]);
	/* Can this still become a line? Whoever has lines that are not whole has it. */
	int (*part)(struct handle *handle, const char *part, size_t len, char reason[TEXT_REASON_MAX]);
	bool whole; /* each write is one line, with or without newline */
	/* fsync: NULL is 0. */
	int (*sync)(struct handle *handle, struct engine_done *done);
};

int text_open(struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred,
    const struct text_calls *calls, struct handle **ret_handle);
void text_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags);
void text_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset);
void text_fsync(struct handle *handle, fuse_req_t req);
bool text_owes(struct handle *handle);
void text_release(struct handle *handle);

/* The rest of a class whose open is text_open with some calls. */
#define TEXT_CLASS                                                                                                     \
	.read = text_read, .write = text_write, .fsync = text_fsync, .owes = text_owes, .release = text_release

#endif
