/*
 * name - which names the tree takes, and what their endings mean.
 *
 * There are three rules. An object (a topic, a group) has a name people type, list and glob: UTF-8, no control
 * characters, no leading dot, and none of the litter editors leave, so that a stray `vi` makes no topic. A key is data
 * that happens to be a file name: anything that is UTF-8 without control characters. A name in put/ is a key as well,
 * but one that says "not yet" keeps its message back until it is renamed.
 *
 * A name may end in a framing (out.json); which endings count depends on the file, so name_split() is told.
 * Names are never normalised nor folded: case twins and NFC/NFD twins are different names. What a terminal would act
 * on rather than show goes through name_escape().
 */
#ifndef MQFS_FS_NAME_H
#define MQFS_FS_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/engine.h"

enum framing {
	FRAME_LINE, /* no ending: one message per line */
	FRAME_JSON, /* .json: one JSON object per line */
	FRAME_NUL,  /* .nul: each message ends in a NUL byte */
	FRAME_RAW,  /* .raw: one message, its exact bytes */
	FRAME_COUNT
};
#define FRAMING_BIT(framing) (1u << (framing))

/*
 * May an object have this name? max is in bytes (ENGINE_NAME_MAX). ENAMETOOLONG: longer than max. EINVAL: empty,
 * not UTF-8, a control character (C0, DEL, C1), a '/', a leading dot, or what editors leave behind: *~, *.swp, 4913.
 */
int name_check(const char *name, size_t max);

/*
 * May a key, a routing key or a file in put/ have this name? 1 to ENGINE_KEY_MAX bytes of UTF-8 without control
 * characters and '/', and not "." or "..". ENAMETOOLONG, EINVAL.
 */
int key_check(const char *key);

/* A name in put/ whose message waits for a rename: a leading dot, or an ending .tmp or .part. */
bool name_waits(const char *name);

/*
 * Splits a name by the framings (FRAMING_BIT()s) that its directory knows: "out.json" is ("out", FRAME_JSON) if JSON is
 * among them, else ("out.json", FRAME_LINE). False: nothing fits (no ending of these, and FRAME_LINE is not among them),
 * or the name is longer than ENGINE_KEY_MAX. A stem is never empty: ".json" is a plain name.
 */
bool name_split(const char *name, unsigned framings, char ret_stem[ENGINE_KEY_MAX + 1], enum framing *ret_framing);

/* ".json" for FRAME_JSON and so on; "" for FRAME_LINE. */
const char *name_suffix(enum framing framing);

/*
 * Makes len bytes safe to show on a terminal and in a line: control characters, quotes (' and "), backslashes, line and
 * paragraph separators, characters that turn the direction of writing, and bytes that are not UTF-8 become \xNN,
 * byte by byte. Writes at most size bytes with the NUL, never half a character or escape; returns the length
 * written. size >= 1. 4 * len + 1 is always enough.
 */
size_t name_escape(const char *in, size_t len, char *out, size_t size);

/* The same for a sentence that may have such bytes in it: quotes and backslashes stay, and each C0 control is a blank. */
size_t name_escape_text(const char *in, size_t len, char *out, size_t size);

#endif
