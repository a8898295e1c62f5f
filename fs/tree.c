/*
 * tree - the table itself. Read it from top to bottom: it is the interface, in the order of INTERFACE.
 *
 * `owner` is the rule of who may do what: all that produces into a topic shares the owner and mode of its `in`, so that
 * chmod a-w in stops every producer; all that consumes in one directory shares those of its `ack`.
 */
#include "fs/tree.h"

#include <string.h>

#include "fs/class.h"

#define LINE FRAMING_BIT(FRAME_LINE)
#define TEXT LINE
#define PRODUCED (LINE | FRAMING_BIT(FRAME_JSON) | FRAMING_BIT(FRAME_NUL))
#define CONSUMED (LINE | FRAMING_BIT(FRAME_JSON) | FRAMING_BIT(FRAME_NUL))
#define ONE_MESSAGE (CONSUMED | FRAMING_BIT(FRAME_RAW))

#define D(bits) (S_IFDIR | (bits))
#define F(bits) (S_IFREG | (bits))
#define L (S_IFLNK | 0777)

/* What consumes: a link that is listed, and the file behind it that is not. */
#define CONSUMING(dir, link, file, framings, how)                                                                      \
	{ dir, link, MATCH_LITERAL, FILE_LINK, L, framings, NULL, 0, TREE_UNMASKED | TREE_FIXED, NULL },               \
	{                                                                                                              \
		dir, file, MATCH_LITERAL, FILE_PLAIN, F(0600), framings, "ack", how,                                   \
		    TREE_HIDDEN | TREE_FRESH | TREE_UNMASKED, &class_reader                                            \
	}
#define CONSUMING_ALL(dir)                                                                                             \
	CONSUMING(dir, "next", ".next", ONE_MESSAGE, ENGINE_CONSUME_ONE),                                              \
	    CONSUMING(dir, "wait", ".wait", ONE_MESSAGE, ENGINE_CONSUME_WAIT),                                         \
	    CONSUMING(dir, "out", ".out", CONSUMED, ENGINE_CONSUME_SNAPSHOT),                                          \
	    CONSUMING(dir, "stream", ".stream", CONSUMED, ENGINE_CONSUME_STREAM)

/* What a group commits to its dead letters instead. */
#define REJECTING(dir)                                                                                                 \
	{                                                                                                              \
		dir, "reject", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 1, TREE_UNMASKED | TREE_STAGED,        \
		    &class_ack                                                                                         \
	}

/* A queue has one more, and what settles. */
#define SETTLING(dir, name, how)                                                                                       \
	{                                                                                                              \
		dir, name, MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", how, TREE_UNMASKED | TREE_STAGED,          \
		    &class_settle                                                                                      \
	}
#define CONSUMING_QUEUE(dir)                                                                                           \
	CONSUMING_ALL(dir), CONSUMING(dir, "take", ".take", ONE_MESSAGE, READER_TAKE),                                 \
	    SETTLING(dir, "ack", ENGINE_ACK), SETTLING(dir, "nack", ENGINE_NACK),                                      \
	    SETTLING(dir, "reject", ENGINE_REJECT)

const struct tree_row tree_root = { DIR_ROOT, "", MATCH_LITERAL, DIR_ROOT, D(0755), 0, "/", 0, 0, NULL };

const struct tree_row tree_rows[] = {
	/* where, name, matched how, what, first mode, framings, shares owner of, arg, flags, class */
	{ DIR_ROOT, "README", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, TREE_FIXED, &class_readme },
	{ DIR_ROOT, "topics", MATCH_LITERAL, DIR_TOPICS, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_ROOT, "queues", MATCH_LITERAL, DIR_QUEUES, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_ROOT, "exchanges", MATCH_LITERAL, DIR_EXCHANGES, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_ROOT, "tx", MATCH_LITERAL, DIR_TXS, D(01777), 0, NULL, 0, TREE_UNMASKED, NULL },
	{ DIR_ROOT, "config", MATCH_LITERAL, DIR_DEFAULTS, D(0755), 0, NULL, 0, TREE_FIXED, NULL },
	{ DIR_ROOT, "status", MATCH_LITERAL, DIR_STATUS, D(0755), 0, NULL, 0, TREE_FIXED, NULL },

	/* topics/TOPIC: a log, many readers */
	{ DIR_TOPICS, "TOPIC", MATCH_OBJECT, DIR_TOPIC, D(0777), 0, "/", ENGINE_TOPIC, TREE_STAGED, NULL },
	{ DIR_TOPIC, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH | TREE_STAGED,
	    &class_channel },
	{ DIR_TOPIC, "put", MATCH_LITERAL, DIR_PUT, D(0777), 0, "/in", 0, TREE_STAGED, NULL },
	{ DIR_PUT, "NAME", MATCH_SPOOL, FILE_SPOOL, F(0666), LINE, NULL, 0, TREE_UNMASKED | TREE_STAGED, &class_spool },
	{ DIR_TOPIC, "keys", MATCH_LITERAL, DIR_KEYS, D(0777), 0, "/in", 0, TREE_STAGED, NULL },
	{ DIR_KEYS, "KEY", MATCH_KEY, FILE_PLAIN, F(0666), LINE, "/in", 0, TREE_FRESH | TREE_STAGED, &class_key },
	{ DIR_TOPIC, "PARTITION", MATCH_PARTITION, DIR_PARTITION, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	{ DIR_PARTITION, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH | TREE_STAGED,
	    &class_channel },
	{ DIR_PARTITION, "log", MATCH_LITERAL, FILE_PLAIN, F(0444), CONSUMED, NULL, 0, 0, &class_log },
	{ DIR_PARTITION, "at", MATCH_LITERAL, DIR_AT, D(0777), 0, NULL, 0, TREE_FIXED, NULL },
	{ DIR_AT, "OFFSET", MATCH_OFFSET, FILE_PLAIN, F(0444), ONE_MESSAGE & ~FRAMING_BIT(FRAME_NUL), "../log", 0, 0,
	    &class_message },
	{ DIR_PARTITION, "purge", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_purge },
	{ DIR_TOPIC, "groups", MATCH_LITERAL, DIR_GROUPS, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	{ DIR_TOPIC, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_TOPIC, TREE_FIXED, NULL },
	{ DIR_TOPIC, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },
	{ DIR_TOPIC, "purge", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_purge },

	/* topics/TOPIC/groups/GROUP: a consumer group */
	{ DIR_GROUPS, "GROUP", MATCH_OBJECT, DIR_GROUP, D(0777), 0, "/", ENGINE_GROUP, TREE_STAGED, NULL },
	CONSUMING_ALL(DIR_GROUP),
	{ DIR_GROUP, "ack", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED | TREE_STAGED,
	    &class_ack },
	REJECTING(DIR_GROUP),
	{ DIR_GROUP, "offset", MATCH_LITERAL, FILE_PLAIN, F(0644), TEXT, NULL, 0, TREE_STAGED, &class_offset },
	{ DIR_GROUP, "PARTITION", MATCH_PARTITION, DIR_GROUP_PARTITION, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	CONSUMING_ALL(DIR_GROUP_PARTITION),
	{ DIR_GROUP_PARTITION, "ack", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED | TREE_STAGED,
	    &class_ack },
	REJECTING(DIR_GROUP_PARTITION),
	{ DIR_GROUP_PARTITION, "offset", MATCH_LITERAL, FILE_PLAIN, F(0644), TEXT, NULL, 0, TREE_STAGED,
	    &class_offset },
	{ DIR_GROUP, "members", MATCH_LITERAL, DIR_MEMBERS, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	{ DIR_GROUP, "dlq", MATCH_DLQ, DIR_DLQ, D(0777), 0, "/", ENGINE_QUEUE, 0, NULL },
	{ DIR_GROUP, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_GROUP, TREE_FIXED, NULL },
	{ DIR_GROUP, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },

	/* topics/TOPIC/groups/GROUP/members/MEMBER: a member with a name */
	{ DIR_MEMBERS, "MEMBER", MATCH_OBJECT, DIR_MEMBER, D(0777), 0, "/", ENGINE_MEMBER, TREE_STAGED, NULL },
	CONSUMING_ALL(DIR_MEMBER),
	{ DIR_MEMBER, "ack", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED | TREE_STAGED,
	    &class_ack },
	REJECTING(DIR_MEMBER),
	{ DIR_MEMBER, "session", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED, &class_session },

	/* queues/QUEUE: work to share, each message to one consumer */
	{ DIR_QUEUES, "QUEUE", MATCH_OBJECT, DIR_QUEUE, D(0777), 0, "/", ENGINE_QUEUE, TREE_STAGED, NULL },
	{ DIR_QUEUE, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH | TREE_STAGED,
	    &class_channel },
	{ DIR_QUEUE, "put", MATCH_LITERAL, DIR_PUT, D(0777), 0, "/in", 0, TREE_STAGED, NULL },
	{ DIR_QUEUE, "head", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", CHANNEL_HEAD,
	    TREE_FRESH | TREE_STAGED, &class_channel },
	{ DIR_QUEUE, "priority", MATCH_LITERAL, DIR_PRIORITIES, D(0777), 0, NULL, 0, TREE_FIXED | TREE_STAGED, NULL },
	{ DIR_PRIORITIES, "PRIORITY", MATCH_PRIORITY, DIR_PRIORITY, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	{ DIR_PRIORITY, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH | TREE_STAGED,
	    &class_channel },
	{ DIR_PRIORITY, "ready", MATCH_LITERAL, DIR_MESSAGES, D(0777), 0, "/ready", ENGINE_READY, 0, NULL },
	CONSUMING_QUEUE(DIR_QUEUE),
	{ DIR_QUEUE, "consumers", MATCH_LITERAL, DIR_CONSUMERS, D(0777), 0, NULL, 0, TREE_STAGED, NULL },
	{ DIR_QUEUE, "ready", MATCH_LITERAL, DIR_MESSAGES, D(0777), 0, "/ready", ENGINE_READY, 0, NULL },
	{ DIR_QUEUE, "unacked", MATCH_LITERAL, DIR_MESSAGES, D(0777), 0, NULL, ENGINE_UNACKED, 0, NULL },
	{ DIR_QUEUE, "delayed", MATCH_LITERAL, DIR_MESSAGES, D(0777), 0, NULL, ENGINE_DELAYED, 0, NULL },
	{ DIR_MESSAGES, "ID", MATCH_ID, FILE_PLAIN, F(0666), ONE_MESSAGE & ~FRAMING_BIT(FRAME_NUL), "/ready", 0, 0,
	    &class_message },
	{ DIR_QUEUE, "dlq", MATCH_DLQ, DIR_DLQ, D(0777), 0, "/", ENGINE_QUEUE, TREE_NOT_DLQ, NULL },
	{ DIR_DLQ, "redrive", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_redrive },
	{ DIR_QUEUE, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_QUEUE, TREE_FIXED, NULL },
	{ DIR_QUEUE, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },
	{ DIR_QUEUE, "purge", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_purge },

	/* queues/QUEUE/consumers/CONSUMER: a consumer with a name */
	{ DIR_CONSUMERS, "CONSUMER", MATCH_OBJECT, DIR_CONSUMER, D(0777), 0, "/", ENGINE_CONSUMER, TREE_STAGED, NULL },
	CONSUMING_QUEUE(DIR_CONSUMER),
	{ DIR_CONSUMER, "session", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED, &class_session },
	{ DIR_CONSUMER, "unacked", MATCH_LITERAL, DIR_MESSAGES, D(0777), 0, NULL, ENGINE_UNACKED, 0, NULL },
	{ DIR_CONSUMER, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_CONSUMER, TREE_FIXED, NULL },

	/* exchanges/EXCHANGE: where a message goes by its routing key */
	{ DIR_EXCHANGES, "EXCHANGE", MATCH_OBJECT, DIR_EXCHANGE, D(0777), 0, "/", ENGINE_EXCHANGE, TREE_STAGED, NULL },
	{ DIR_EXCHANGE, "type", MATCH_LITERAL, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_type },
	{ DIR_EXCHANGE, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), FRAMING_BIT(FRAME_JSON), "/in", 0,
	    TREE_FRESH | TREE_STAGED, &class_channel },
	{ DIR_EXCHANGE, "keys", MATCH_LITERAL, DIR_KEYS, D(0777), 0, "/in", 0, TREE_STAGED, NULL },
	{ DIR_EXCHANGE, "bindings", MATCH_LITERAL, DIR_BINDINGS, D(0777), 0, "/bindings", 0, 0, NULL },
	{ DIR_BINDINGS, "PATTERN", MATCH_PATTERN, DIR_PATTERN, D(0777), 0, "/bindings", 0, 0, NULL },
	{ DIR_PATTERN, "NAME", MATCH_BINDING, FILE_BINDING, L, 0, "/bindings", 0, TREE_UNMASKED, NULL },
	{ DIR_EXCHANGE, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_EXCHANGE, TREE_FIXED, NULL },
	{ DIR_EXCHANGE, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },

	/* tx/NAME: a transaction; in its directories is what is TREE_STAGED, see node.h */
	{ DIR_TXS, "NAME", MATCH_OBJECT, DIR_TX, D(0700), 0, "/", ENGINE_TX, 0, NULL },
	{ DIR_TX, "state", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, NULL, 0, TREE_UNMASKED, &class_tx_state },
	{ DIR_TX, "topics", MATCH_LITERAL, DIR_TOPICS, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_TX, "queues", MATCH_LITERAL, DIR_QUEUES, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_TX, "exchanges", MATCH_LITERAL, DIR_EXCHANGES, D(0755), 0, NULL, 0, 0, NULL },

	/* settings: of an object, and the defaults of new ones */
	{ DIR_CONFIG, "SETTING", MATCH_SETTING, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_setting },
	{ DIR_DEFAULTS, "topics", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_TOPIC, TREE_FIXED, NULL },
	{ DIR_DEFAULTS, "queues", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_QUEUE, TREE_FIXED, NULL },
	{ DIR_DEFAULTS, "groups", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_GROUP, TREE_FIXED, NULL },
	{ DIR_DEFAULTS, "exchanges", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_EXCHANGE, TREE_FIXED,
	    NULL },
	{ DIR_DEFAULTS, "tx", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_TX, TREE_FIXED, NULL },
	{ DIR_DEFAULTS_KIND, "SETTING", MATCH_SETTING, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_setting },

	/* status: what is going on */
	{ DIR_STATUS, "health", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_health },
	{ DIR_STATUS, "metrics", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_metrics },
	{ DIR_STATUS, "dashboard.html", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_dashboard },
	{ DIR_STATUS, "errors", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_errors },
	{ DIR_STATUS, "version", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_version },
	{ DIR_STATUS, "events", MATCH_LITERAL, FILE_LINK, L, LINE, NULL, 0, TREE_UNMASKED | TREE_FIXED, NULL },
	{ DIR_STATUS, ".events", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, TREE_HIDDEN | TREE_FRESH,
	    &class_events },
	{ .name = NULL },
};

static bool matches_form(const struct tree_row *row, const char *name)
{
	size_t digits = strspn(name, "0123456789");
	bool number = digits > 0 && name[digits] == '\0';
	switch (row->match) {
	case MATCH_LITERAL: return strcmp(name, row->name) == 0;
	case MATCH_PARTITION: return number && digits <= 10;
	case MATCH_OFFSET:
	case MATCH_ID: return number && digits <= 20;
	case MATCH_PRIORITY: return number && digits == 1;
	case MATCH_DLQ: return strcmp(name, row->name) == 0;
	default: return true;
	}
}

bool tree_stands_in(const struct tree_row *row, enum tree_kind where)
{
	return row->where == where || (where == DIR_DLQ && row->where == DIR_QUEUE && !(row->flags & TREE_NOT_DLQ));
}

const struct tree_row *tree_find_row(
    enum tree_kind where, const char *name, enum framing *ret_framing, char ret_stem[ENGINE_KEY_MAX + 1])
{
	for (const struct tree_row *row = tree_rows; row->name; row++) {
		if (!tree_stands_in(row, where))
			continue;
		enum framing framing = FRAME_LINE;
		char stem[ENGINE_KEY_MAX + 1];
		if (strlen(name) > ENGINE_KEY_MAX)
			return NULL;
		if (row->match == MATCH_KEY || row->match == MATCH_SPOOL || row->match == MATCH_OBJECT ||
		    row->framings == 0)
			strcpy(stem, name); /* every name is one: no suffix is a framing here */
		else if (!name_split(name, row->framings, stem, &framing))
			continue;
		if (!matches_form(row, stem))
			continue;
		*ret_framing = framing;
		strcpy(ret_stem, stem);
		return row;
	}
	return NULL;
}
