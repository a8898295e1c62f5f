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
	    CONSUMING(dir, "wait", ".wait", ONE_MESSAGE, READER_WAIT),                                                 \
	    CONSUMING(dir, "out", ".out", CONSUMED, ENGINE_CONSUME_SNAPSHOT),                                          \
	    CONSUMING(dir, "stream", ".stream", CONSUMED, ENGINE_CONSUME_STREAM)

const struct tree_row tree_root = { DIR_ROOT, "", MATCH_LITERAL, DIR_ROOT, D(0755), 0, "/", 0, 0, NULL };

const struct tree_row tree_rows[] = {
	/* where, name, matched how, what, first mode, framings, shares owner of, arg, flags, class */
	{ DIR_ROOT, "README", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, TREE_FIXED, &class_readme },
	{ DIR_ROOT, "topics", MATCH_LITERAL, DIR_TOPICS, D(0755), 0, NULL, 0, 0, NULL },
	{ DIR_ROOT, "config", MATCH_LITERAL, DIR_DEFAULTS, D(0755), 0, NULL, 0, TREE_FIXED, NULL },
	{ DIR_ROOT, "status", MATCH_LITERAL, DIR_STATUS, D(0755), 0, NULL, 0, TREE_FIXED, NULL },

	/* topics/TOPIC: a log, many readers */
	{ DIR_TOPICS, "TOPIC", MATCH_OBJECT, DIR_TOPIC, D(0777), 0, "/", ENGINE_TOPIC, 0, NULL },
	{ DIR_TOPIC, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH, &class_channel },
	{ DIR_TOPIC, "put", MATCH_LITERAL, DIR_PUT, D(0777), 0, "/in", 0, 0, NULL },
	{ DIR_PUT, "NAME", MATCH_SPOOL, FILE_SPOOL, F(0666), LINE, NULL, 0, TREE_UNMASKED, &class_spool },
	{ DIR_TOPIC, "keys", MATCH_LITERAL, DIR_KEYS, D(0777), 0, "/in", 0, 0, NULL },
	{ DIR_KEYS, "KEY", MATCH_KEY, FILE_PLAIN, F(0666), LINE, "/in", 0, TREE_FRESH, &class_channel },
	{ DIR_TOPIC, "PARTITION", MATCH_PARTITION, DIR_PARTITION, D(0777), 0, NULL, 0, 0, NULL },
	{ DIR_PARTITION, "in", MATCH_LITERAL, FILE_PLAIN, F(0666), PRODUCED, "/in", 0, TREE_FRESH, &class_channel },
	{ DIR_PARTITION, "log", MATCH_LITERAL, FILE_PLAIN, F(0444), CONSUMED, NULL, 0, 0, &class_log },
	{ DIR_PARTITION, "at", MATCH_LITERAL, DIR_AT, D(0777), 0, NULL, 0, TREE_FIXED, NULL },
	{ DIR_AT, "OFFSET", MATCH_OFFSET, FILE_PLAIN, F(0444), ONE_MESSAGE & ~FRAMING_BIT(FRAME_NUL), "../log", 0, 0,
	    &class_message },
	{ DIR_PARTITION, "purge", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_purge },
	{ DIR_TOPIC, "groups", MATCH_LITERAL, DIR_GROUPS, D(0777), 0, NULL, 0, 0, NULL },
	{ DIR_TOPIC, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_TOPIC, TREE_FIXED, NULL },
	{ DIR_TOPIC, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },
	{ DIR_TOPIC, "purge", MATCH_LITERAL, FILE_PLAIN, F(0200), TEXT, NULL, 0, TREE_UNMASKED, &class_purge },

	/* topics/TOPIC/groups/GROUP: a consumer group */
	{ DIR_GROUPS, "GROUP", MATCH_OBJECT, DIR_GROUP, D(0777), 0, "/", ENGINE_GROUP, 0, NULL },
	CONSUMING_ALL(DIR_GROUP),
	{ DIR_GROUP, "ack", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED, &class_ack },
	{ DIR_GROUP, "offset", MATCH_LITERAL, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_offset },
	{ DIR_GROUP, "PARTITION", MATCH_PARTITION, DIR_GROUP_PARTITION, D(0777), 0, NULL, 0, 0, NULL },
	CONSUMING_ALL(DIR_GROUP_PARTITION),
	{ DIR_GROUP_PARTITION, "ack", MATCH_LITERAL, FILE_PLAIN, F(0600), TEXT, "ack", 0, TREE_UNMASKED, &class_ack },
	{ DIR_GROUP_PARTITION, "offset", MATCH_LITERAL, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_offset },
	{ DIR_GROUP, "config", MATCH_LITERAL, DIR_CONFIG, D(0777), 0, NULL, ENGINE_GROUP, TREE_FIXED, NULL },
	{ DIR_GROUP, "info", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_info },

	/* settings: of an object, and the defaults of new ones */
	{ DIR_CONFIG, "SETTING", MATCH_SETTING, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_setting },
	{ DIR_DEFAULTS, "topics", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_TOPIC, TREE_FIXED, NULL },
	{ DIR_DEFAULTS, "groups", MATCH_LITERAL, DIR_DEFAULTS_KIND, D(0755), 0, NULL, ENGINE_GROUP, TREE_FIXED, NULL },
	{ DIR_DEFAULTS_KIND, "SETTING", MATCH_SETTING, FILE_PLAIN, F(0644), TEXT, NULL, 0, 0, &class_setting },

	/* status: what is going on */
	{ DIR_STATUS, "health", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_health },
	{ DIR_STATUS, "metrics", MATCH_LITERAL, FILE_PLAIN, F(0444), TEXT, NULL, 0, 0, &class_metrics },
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
	case MATCH_OFFSET: return number && digits <= 20;
	default: return true;
	}
}

const struct tree_row *tree_find(
    enum tree_kind where, const char *name, enum framing *ret_framing, char ret_stem[ENGINE_KEY_MAX + 1])
{
	for (const struct tree_row *row = tree_rows; row->name; row++) {
		if (row->where != where)
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
