/*
 * render - messages become the bytes a reader gets.
 *
 * By line and by NUL, each payload is followed by its delimiter; raw is the payload alone; JSON is one object per line:
 *
 *	{"topic":"orders","partition":0,"offset":17,"ts":1732300000000,"key":"k","headers":{"a":"b"},"uid":1000,"gid":1000,
 *	"pid":4711,"payload":"text"}
 *
 * key is there if the message has one, and between it and headers stand id, routing_key, priority, ttl_ms and delay_ms
 * if they are set. headers is always there. A payload or key that is not UTF-8 comes as payload_base64 or key_base64;
 * in anything else, which can only have come from JSON, bytes that are not UTF-8 become U+FFFD. Control characters are
 * escaped, so an object is always one line; all other characters are left as they are.
 *
 * in.json takes every such line as it is, and gives the same message (record.h).
 */
#ifndef MQFS_FS_RENDER_H
#define MQFS_FS_RENDER_H

#include "engine/engine.h"
#include "fs/buffer.h"
#include "fs/name.h"

/*
 * Appends messages first .. first + count - 1 of view to out. FRAME_RAW takes exactly one. topic: its name, for JSON.
 * view->batch.data must not be NULL. 0 or -ENOMEM; then out is as before.
 */
int render_view(enum framing framing, const struct engine_view *view, const char *topic, uint32_t first, uint32_t count,
    struct buffer *out);

/* Appends text as a JSON string with its quotes, bytes that are not UTF-8 as U+FFFD. */
void render_json_string(struct buffer *out, const char *text, size_t len);

#endif
