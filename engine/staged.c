/*
 * staged - see staged.h.
 */
#include "engine/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/io.h"

void staged_init(struct staged *staged, int dirfd)
{
	*staged = (struct staged){ .dirfd = dirfd, .fd = -1 };
}

void staged_release(struct staged *staged)
{
	if (staged->fd >= 0)
		close(staged->fd);
	free(staged->sends);
	free(staged->settles);
	free(staged->cursors);
	for (size_t i = 0; i < staged->object_count; i++)
		free(staged->objects[i].name);
	free(staged->objects);
	free(staged->bytes);
	if (staged->users != NULL)
		staged->users->charge(staged->user, &staged->charged, 0);
	staged_init(staged, staged->dirfd);
}

/* Room for `more` items of `size` bytes. */
static int reserve(void *items, size_t count, size_t *room, size_t more, size_t size)
{
	void *grown, **list = items;
	size_t want = *room > 0 ? *room : 4;

	while (want < count + more)
		want *= 2;
	if (want == *room)
		return 0;
	grown = realloc(*list, want * size);
	if (grown == NULL)
		return -ENOMEM;
	*list = grown;
	*room = want;
	return 0;
}

/* ---- objects ---- */

/* Where it is, or would be. */
static size_t object_index(const struct staged *staged, uint64_t id)
{
	size_t low = 0, high = staged->object_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (staged->objects[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct staged_object *find_object(const struct staged *staged, uint64_t id)
{
	size_t i = object_index(staged, id);

	return i < staged->object_count && staged->objects[i].id == id ? &staged->objects[i] : NULL;
}

static int add_object(struct staged *staged, uint64_t id)
{
	size_t i = object_index(staged, id);
	int rc;

	if (find_object(staged, id) != NULL)
		return 0;
	rc = reserve(&staged->objects, staged->object_count, &staged->object_room, 1, sizeof(*staged->objects));
	if (rc < 0)
		return rc;
	memmove(&staged->objects[i + 1], &staged->objects[i], (staged->object_count - i) * sizeof(*staged->objects));
	staged->objects[i] = (struct staged_object){ .id = id };
	staged->object_count++;
	return 0;
}

/* ---- what its user is charged ---- */

/* What there is, and so much more, is to be charged. EDQUOT */
static int charge(struct staged *staged, size_t more)
{
	uint64_t bytes = staged->byte_count + staged->send_count * sizeof(*staged->sends) +
			 staged->settle_count * sizeof(*staged->settles) +
			 staged->cursor_count * sizeof(*staged->cursors) + staged->name_bytes + more;

	return staged->users != NULL ? staged->users->charge(staged->user, &staged->charged, bytes) : 0;
}

/* ---- names ---- */

bool staged_wants_name(const struct staged *staged, uint64_t id)
{
	const struct staged_object *object = find_object(staged, id);

	return object != NULL && object->name == NULL;
}

/* Without memory, or beyond what its user may have, it stays without: the sentence is for that. */
void staged_name(struct staged *staged, uint64_t id, enum engine_kind kind, const char *name)
{
	struct staged_object *object = find_object(staged, id);
	const char *word = engine_kind_word(kind);
	size_t size = strlen(word) + strlen(name) + 2;
	char *text;

	if (charge(staged, size) < 0)
		return;
	text = malloc(size);
	if (text == NULL)
		return;
	snprintf(text, size, "%s %s", word, name);
	object->name = text;
	staged->name_bytes += size;
}

int staged_gone(const struct staged *staged, uint64_t id)
{
	const struct staged_object *object = find_object(staged, id);

	return engine_explain(-EIDRM, "the %s was removed since something was staged for it",
	    object != NULL && object->name != NULL ? object->name : "target");
}

/* ---- bytes ---- */

static int move_to_file(struct staged *staged)
{
	int fd = io_open_unnamed(staged->dirfd, ".", "mqfs-tx"), rc;

	if (fd < 0)
		return fd;
	rc = io_pwrite_all(fd, staged->bytes, staged->byte_count, 0);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	free(staged->bytes);
	staged->bytes = NULL;
	staged->byte_room = 0;
	staged->fd = fd;
	return 0;
}

static int put_bytes(struct staged *staged, const uint8_t *bytes, size_t size)
{
	int rc = 0;

	if (staged->fd < 0 && staged->dirfd >= 0 && staged->byte_count + size > STAGED_MEMORY)
		rc = move_to_file(staged);
	if (rc == 0 && staged->fd < 0)
		rc = reserve(&staged->bytes, staged->byte_count, &staged->byte_room, size, 1);
	if (rc < 0)
		return rc;
	if (staged->fd < 0)
		memcpy(staged->bytes + staged->byte_count, bytes, size);
	else
		rc = io_pwrite_all(staged->fd, bytes, size, (off_t)staged->byte_count);
	if (rc == 0)
		staged->byte_count += size;
	return rc;
}

/* ---- messages ---- */

static int add_one(struct staged *staged, const struct staged_send *like, const struct engine_batch *batch)
{
	struct staged_send send = *like;
	uint8_t *bytes = NULL;
	int rc = reserve(&staged->sends, staged->send_count, &staged->send_room, 1, sizeof(*staged->sends));

	if (rc == 0)
		rc = packed_make(batch, &bytes, &send.size);
	if (rc < 0)
		return rc;
	send.pos = staged->byte_count;
	send.count = batch->count;
	send.payload = batch->len - batch->count;
	rc = put_bytes(staged, bytes, send.size);
	free(bytes);
	if (rc < 0)
		return rc;
	staged->sends[staged->send_count++] = send;
	staged->messages += batch->count;
	staged->message_bytes += send.payload;
	return 0;
}

/* One send for each message. */
static int add_apart(struct staged *staged, const struct staged_send *like, const struct engine_batch *batch)
{
	const char *data = batch->data;
	uint32_t *lengths;
	int rc = packed_lengths(batch, &lengths);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < batch->count && rc == 0; i++) {
		struct staged_send send = *like;
		struct engine_batch one = *batch;

		one.data = data;
		one.len = (size_t)lengths[i] + 1;
		one.count = 1;
		one.lengths = &lengths[i];
		one.props = batch->props != NULL ? &batch->props[i] : NULL;
		if (one.props != NULL && one.props->partition != ENGINE_ANY && send.partition == ENGINE_ANY)
			send.partition = one.props->partition;
		rc = add_one(staged, &send, &one);
		data += one.len;
	}
	free(lengths);
	return rc;
}

int staged_add_send(struct staged *staged, const struct staged_send *like, const struct engine_batch *batch, bool apart)
{
	size_t sends = staged->send_count, bytes = staged->byte_count;
	uint64_t messages = staged->messages, message_bytes = staged->message_bytes;
	int rc = add_object(staged, like->target);

	for (uint32_t i = 0; i < batch->count && batch->props != NULL && !apart; i++)
		apart = batch->props[i].partition != ENGINE_ANY;
	if (rc == 0 && staged->message_bytes + batch->len > ENGINE_TX_BYTES_MAX)
		rc = engine_explain(
		    -EFBIG, "a transaction holds at most %u bytes of messages", (unsigned int)ENGINE_TX_BYTES_MAX);
	if (rc == 0)
		rc = apart ? add_apart(staged, like, batch) : add_one(staged, like, batch);
	if (rc == 0)
		rc = charge(staged, 0);
	if (rc < 0) {
		staged->send_count = sends;
		staged->byte_count = bytes;
		staged->messages = messages;
		staged->message_bytes = message_bytes;
	}
	return rc;
}

void staged_drop_last_send(struct staged *staged)
{
	const struct staged_send *send = &staged->sends[--staged->send_count];

	staged->byte_count = send->pos;
	staged->messages -= send->count;
	staged->message_bytes -= send->payload;
	charge(staged, 0);
}

int staged_read(const struct staged *staged, const struct staged_send *send, int64_t ts_ms, uint8_t **ret_bytes,
    struct packed_batch *ret_packed)
{
	uint8_t *bytes = malloc(send->size);
	int rc = 0;

	if (bytes == NULL)
		return -ENOMEM;
	if (staged->fd < 0)
		memcpy(bytes, staged->bytes + send->pos, send->size);
	else
		rc = io_pread_all(staged->fd, bytes, send->size, (off_t)send->pos);
	if (rc == 0)
		rc = packed_open(bytes, send->size, ts_ms, ret_packed);
	if (rc < 0) {
		free(bytes);
		return rc == -EBADMSG || rc == -ENODATA ? -EIO : rc;
	}
	*ret_bytes = bytes;
	return 0;
}

/* ---- what is settled, and cursors ---- */

static size_t settle_index(const struct staged *staged, uint64_t id)
{
	size_t low = 0, high = staged->settle_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (staged->settles[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct staged_settle *staged_find_settle(const struct staged *staged, uint64_t id)
{
	size_t i = settle_index(staged, id);

	return i < staged->settle_count && staged->settles[i].id == id ? &staged->settles[i] : NULL;
}

int staged_add_settle(struct staged *staged, const struct staged_settle *settle)
{
	size_t i = settle_index(staged, settle->id);
	int rc = add_object(staged, settle->consumer);

	if (rc == 0)
		rc = reserve(&staged->settles, staged->settle_count, &staged->settle_room, 1, sizeof(*staged->settles));
	if (rc == 0)
		rc = charge(staged, sizeof(*settle));
	if (rc < 0)
		return rc;
	memmove(&staged->settles[i + 1], &staged->settles[i], (staged->settle_count - i) * sizeof(*staged->settles));
	staged->settles[i] = *settle;
	staged->settle_count++;
	return 0;
}

const struct staged_cursor *staged_find_cursor(const struct staged *staged, uint64_t group, uint32_t partition)
{
	for (size_t i = 0; i < staged->cursor_count; i++) {
		if (staged->cursors[i].group == group && staged->cursors[i].partition == partition)
			return &staged->cursors[i];
	}
	return NULL;
}

int staged_put_cursor(struct staged *staged, const struct staged_cursor *cursor)
{
	struct staged_cursor *there =
	    (struct staged_cursor *)(uintptr_t)staged_find_cursor(staged, cursor->group, cursor->partition);
	int rc = add_object(staged, staged_owner(cursor));

	if (rc == 0 && there == NULL)
		rc = reserve(&staged->cursors, staged->cursor_count, &staged->cursor_room, 1, sizeof(*staged->cursors));
	if (rc == 0 && there == NULL)
		rc = charge(staged, sizeof(*cursor));
	if (rc < 0)
		return rc;
	if (there != NULL)
		*there = *cursor;
	else
		staged->cursors[staged->cursor_count++] = *cursor;
	return 0;
}
