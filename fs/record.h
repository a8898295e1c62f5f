/*
 * record - a line of in.json becomes a message.
 *
 * A record is one JSON object. `payload` (text) or `payload_base64` (any bytes) is required, all else is optional:
 *
 *	key, key_base64      the key, at most ENGINE_KEY_MAX bytes; null is none, as kcat -J prints it
 *	headers              object whose values are strings
 *	id                   string: for idempotent producing. A number is the id a message had in a queue: ignored
 *	ts                   Unix time in ms, >= 0
 *	priority             0 to 9
 *	ttl_ms, delay_ms     >= 0
 *	partition            0 to ENGINE_PARTITIONS_MAX - 1
 *	routing_key          at most ENGINE_KEY_MAX bytes
 *
 * Fields that only a reader gets (topic, queue, offset, redelivered, deliveries, uid, gid, pid, deaths) are ignored, so
 * that what a .json file gives can be written back; any other is EINVAL, since a mistyped field must not go unnoticed.
 *
 * The records of one write are gathered in a struct record_batch, which owns every byte of them.
 */
#ifndef MQFS_FS_RECORD_H
#define MQFS_FS_RECORD_H

#include "engine/engine.h"
#include "fs/buffer.h"

#define RECORD_REASON_MAX 160u /* bytes of a sentence, with its NUL */
#define RECORD_ID_MAX 255u     /* bytes of an id */
#define RECORD_HEADERS_MAX 1000u
#define RECORD_HEADERS_BYTES_MAX (64u << 10) /* of all names and values of one message: metadata is not the payload */

/*
 * The longest line that a record with a payload of at most limit bytes needs: every byte of it may be written as \u0001,
 * and there are the other fields. Not more than a gibibyte, since jansson counts in int; nobody spells 512 MiB in escapes.
 */
#define RECORD_LINE_MAX(limit) ((limit) > (170u << 20) ? (size_t)1 << 30 : 6 * (size_t)(limit) + (512u << 10))

struct record_block;

/* All zero is an empty one. Private, but for reading count and line_of. Not thread-safe. */
struct record_batch {
	struct buffer data; /* payloads, each followed by '\n' */
	uint32_t count, cap;
	uint32_t *lengths;
	struct engine_props *props;
	uint32_t *line_of; /* of each message: how many lines, blank ones too, came before it */
	uint32_t line_count;
	struct record_block *blocks; /* strings and header arrays, which stay where they are */
};

/*
 * Parses one line (without its delimiter) and appends the message. limit: the longest payload.
 * Returns 1 if a message was appended; 0 for a blank line, which is passed over. On failure nothing is appended and
 * reason is a sentence that names the field: EINVAL (no record), ERANGE (a value out of range), EMSGSIZE (the
 * payload is over limit), ENOMEM. reason is always NUL-terminated, and safe to print.
 */
int record_batch_add_line(
    struct record_batch *batch, const char *line, size_t len, size_t limit, char reason[RECORD_REASON_MAX]);

/*
 * Looks at the beginning of a line, or a whole one without its newline. 0 if it is not whole, and may become a record; 1 if it is
 * whole: then its message is appended, unless it is so long that to read it with each write were too much to ask; else as above.
 */
int record_check_part(
    struct record_batch *batch, const char *part, size_t len, size_t limit, char reason[RECORD_REASON_MAX]);

/*
 * Appends a message made elsewhere (put/ and its filename header); payload and everything props points to are copied.
 * props may be NULL. ENOMEM.
 */
int record_batch_add(struct record_batch *batch, struct engine_span payload, const struct engine_props *props);

/*
 * The batch for the engine, count >= 1 required; ts_ms is -1, cred is zero: for the caller to set. Points into batch and
 * is valid until that is changed.
 */
void record_batch_get(const struct record_batch *batch, struct engine_batch *ret_batch);

void record_batch_clear(struct record_batch *batch);   /* empty again; keeps some memory for the next */
void record_batch_release(struct record_batch *batch); /* frees all; empty again */

#endif
