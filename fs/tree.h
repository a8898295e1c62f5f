/*
 * tree - the whole interface as one table.
 *
 * tree_rows in tree.c has one row for every kind of file and directory there is below the mount: where it stands, what
 * it is called, what it does when it is opened, its first mode, its framings, and whose owner and mode it shares. Lookup,
 * listing, attributes and opening all go by that table; to add a file to the interface is to add a row and, if it does
 * something new, a class (class.h).
 *
 * A name in the table is literal, or it is matched: a topic, a partition number, a key. A framing suffix (in.json) is
 * found by lookup wherever the row has that framing, and is not listed. A row that is HIDDEN is found and not listed: the
 * real names behind the symbolic links of what consumes (next -> .next).
 */
#ifndef MQFS_FS_TREE_H
#define MQFS_FS_TREE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "engine/engine.h"
#include "fs/name.h"

struct file_class;

/* What a node is. Directories come first: they are what `where` of a row may be. */
enum tree_kind {
	DIR_ROOT,
	DIR_TOPICS,
	DIR_TOPIC,
	DIR_PUT,
	DIR_KEYS,
	DIR_PARTITION,
	DIR_AT,
	DIR_GROUPS,
	DIR_GROUP,
	DIR_GROUP_PARTITION,
	DIR_MEMBERS,
	DIR_MEMBER,
	DIR_CONFIG,        /* of a topic or a group */
	DIR_DEFAULTS,      /* config/ at the root */
	DIR_DEFAULTS_KIND, /* config/topics, config/groups */
	DIR_STATUS,
	DIR_QUEUES,
	DIR_QUEUE,
	DIR_DLQ, /* of a queue: all that a queue has and is not TREE_NOT_DLQ */
	DIR_PRIORITIES,
	DIR_PRIORITY,
	DIR_CONSUMERS,
	DIR_CONSUMER,
	DIR_TXS,
	DIR_TX,
	DIR_EXCHANGES,
	DIR_EXCHANGE,
	DIR_BINDINGS,
	DIR_PATTERN,
	DIR_MESSAGES, /* ready, unacked, delayed: messages in the state arg */
	DIR_COUNT,
	FILE_PLAIN = DIR_COUNT, /* does what its class says */
	FILE_LINK,              /* symbolic link to the same name with a dot in front */
	FILE_SPOOL,             /* a message being written in put/ */
	FILE_BINDING,           /* symbolic link to what is bound */
};

/* How the name of a row is matched. */
enum tree_match {
	MATCH_LITERAL,
	MATCH_OBJECT,    /* the name of an object of kind arg */
	MATCH_PARTITION, /* the number of a partition */
	MATCH_OFFSET,    /* the offset of a retained message */
	MATCH_KEY,       /* any key; exists only to be created */
	MATCH_SETTING,   /* a setting of kind arg */
	MATCH_SPOOL,     /* a name in put/ */
	MATCH_PRIORITY,  /* 0 to 9: then the node's partition is the priority */
	MATCH_ID,        /* the id of a message that is in the directory's state */
	MATCH_DLQ,       /* the queue's dead letters: an object, whatever it is called */
	MATCH_PATTERN,   /* a pattern of an exchange */
	MATCH_BINDING,   /* a binding under a pattern; variant is the id of its target */
};

enum tree_flag {
	TREE_HIDDEN = 1 << 0,   /* found, not listed */
	TREE_FRESH = 1 << 1,    /* every lookup makes a node of its own, see node.h */
	TREE_UNMASKED = 1 << 2, /* first mode is as given, whatever the object's own mode was */
	TREE_FIXED = 1 << 3,    /* attributes change by chmod and chown only: may be cached */
	TREE_NOT_DLQ = 1 << 4,  /* a queue has it, its dead letters have not */
	TREE_STAGED = 1 << 5,   /* it is there below tx/NAME/, too */
};

struct tree_row {
	enum tree_kind where;
	const char *name; /* literal name, or what stands for it in the manual */
	enum tree_match match;
	enum tree_kind what;
	mode_t mode; /* with the type; permissions before masking */
	unsigned
	    framings; /* FRAMING_BIT()s; 0 for directories and links of their own; without LINE the name itself is none */
	const char *owner; /* whose owner and mode it shares: "/in" of the object, "/" the object itself, "ack" in
	                                            the same directory, "../log" in the one above; NULL: its own */
	int arg;           /* enum engine_kind or enum engine_consume, for the match or the class */
	unsigned flags;
	const struct file_class *class;
};

extern const struct tree_row tree_rows[]; /* ends with a row whose name is NULL */
extern const struct tree_row tree_root;

/* Is a row one of a directory's? The dead letters of a queue have most of what a queue has. */
bool tree_stands_in(const struct tree_row *row, enum tree_kind where);

/* The row of a plain name in a directory: literal rows first, then those that match by form. NULL: no such name. */
const struct tree_row *tree_find_row(
    enum tree_kind where, const char *name, enum framing *ret_framing, char ret_stem[ENGINE_KEY_MAX + 1]);

#endif
