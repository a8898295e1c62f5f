/*
 * class - what a kind of file does: one struct of functions for each, named in the tree's rows.
 *
 * A function that takes a fuse_req_t answers it, now or later, exactly once, through reply.h. Functions that are NULL have
 * the plain answer: nothing to read, EPERM on write, 0 on fsync, always ready on poll.
 */
#ifndef MQFS_FS_CLASS_H
#define MQFS_FS_CLASS_H

#include "fs/fuse.h"
#include "fs/handle.h"

/* Beside enum engine_consume: one message, acknowledged as it is delivered. */
#define READER_TAKE (ENGINE_CONSUME_WAIT + 1)
/* A channel that puts to the head of a queue. */
#define CHANNEL_HEAD 1

struct file_class {
	/* Makes a handle (handle_init done). O_TRUNC is in flags and means nothing. */
	int (*open)(struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred,
	    struct handle **ret_handle);
	void (*read)(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags);
	void (*write)(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset);
	/* The kernel may send its writes elsewhere, see staged.h: true, and fi says where. NULL: it may not. */
	bool (*pass)(struct handle *handle, fuse_req_t req, struct fuse_file_info *fi);
	/* A holder closed its descriptor; pid may be that of a process that is dying. Returns what close is to tell, or 0. */
	int (*flush)(struct handle *handle, uint32_t pid);
	void (*fsync)(struct handle *handle, fuse_req_t req);
	/* Would release do something, as things are, that others can see? NULL: it would. See owed.h */
	bool (*owes)(struct handle *handle);
	/* The last holder closed it: frees the handle. */
	void (*release)(struct handle *handle);
	/* Returns the events that are ready; takes ph and will notify it if none is. */
	unsigned (*poll)(struct handle *handle, struct fuse_pollhandle *ph);
	/* Puts size, blocks and times of the file into st, whose other fields are set. May be NULL: size 0. */
	int (*attr)(struct fs *fs, const struct node *node, struct stat *st);
};

extern const struct file_class class_ack;
extern const struct file_class class_channel;
extern const struct file_class class_dashboard;
extern const struct file_class class_errors;
extern const struct file_class class_events;
extern const struct file_class class_health;
extern const struct file_class class_info;
extern const struct file_class class_key;
extern const struct file_class class_log;
extern const struct file_class class_message;
extern const struct file_class class_metrics;
extern const struct file_class class_offset;
extern const struct file_class class_purge;
extern const struct file_class class_reader;
extern const struct file_class class_readme;
extern const struct file_class class_redrive;
extern const struct file_class class_session;
extern const struct file_class class_setting;
extern const struct file_class class_settle;
extern const struct file_class class_spool;
extern const struct file_class class_type;
extern const struct file_class class_tx_state;
extern const struct file_class class_version;

#endif
