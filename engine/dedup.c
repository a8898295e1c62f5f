/*
 * dedup - see dedup.h.
 *
 * Open addressing with linear probing in 64 parts, each of which grows by itself: a table is never copied as a whole, and
 * its room follows its size closely. A slot holds 96 bits of the hash and the time, in milliseconds after base_ms. A slot
 * whose time is over may be taken by another id; it ends no search. When a part is full, it is made anew without those.
 */
#include "engine/dedup.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define PARTS 64u
#define ROOM_MIN 16u
#define AT_EMPTY 0u
#define AT_OVER 1u /* forgotten */
#define AT_FIRST 2u

struct slot {
	uint32_t a, b, c; /* of the hash */
	uint32_t at;
};

struct part {
	struct slot *slots;
	uint32_t room, used; /* used: not empty */
};

struct dedup {
	int64_t window_ms, base_ms;
	struct part parts[PARTS];
};

static _Atomic uint64_t bytes_of_all; /* of all tables */

struct dedup_hash dedup_hash_of(struct engine_span id)
{
	XXH128_hash_t hash = XXH3_128bits(id.ptr, id.len);

	return (struct dedup_hash){ hash.low64, hash.high64 };
}

struct dedup *dedup_new(int64_t window_ms, int64_t now_ms)
{
	struct dedup *dedup = calloc(1, sizeof(*dedup));

	if (dedup == NULL)
		return NULL;
	dedup->window_ms = window_ms;
	dedup->base_ms = now_ms - window_ms - AT_FIRST;
	return dedup;
}

static void drop_slots(struct part *part)
{
	atomic_fetch_sub(&bytes_of_all, (uint64_t)part->room * sizeof(*part->slots));
	free(part->slots);
	*part = (struct part){ 0 };
}

void dedup_free(struct dedup *dedup)
{
	if (dedup == NULL)
		return;
	for (uint32_t i = 0; i < PARTS; i++)
		drop_slots(&dedup->parts[i]);
	free(dedup);
}

static struct slot slot_of(struct dedup_hash hash)
{
	return (struct slot){ (uint32_t)hash.low, (uint32_t)(hash.low >> 32), (uint32_t)hash.high, AT_EMPTY };
}

static struct part *part_of(const struct dedup *dedup, const struct slot *key)
{
	return (struct part *)&dedup->parts[key->a % PARTS];
}

static bool is_over(const struct dedup *dedup, const struct slot *slot, int64_t now_ms)
{
	return slot->at < AT_FIRST || now_ms - (dedup->base_ms + slot->at) >= dedup->window_ms;
}

/* The slot of key, or, if it has none, the first it may take (NULL: there is none). */
static struct slot *find(const struct dedup *dedup, const struct slot *key, int64_t now_ms, bool *ret_found)
{
	const struct part *part = part_of(dedup, key);
	struct slot *free_slot = NULL;
	uint32_t i = (uint32_t)((uint64_t)key->b * part->room >> 32);

	*ret_found = false;
	for (uint32_t tries = 0; tries < part->room; tries++) {
		struct slot *slot = &part->slots[i];

		if (slot->at != AT_EMPTY && slot->a == key->a && slot->b == key->b && slot->c == key->c) {
			*ret_found = true;
			return slot;
		}
		if (free_slot == NULL && is_over(dedup, slot, now_ms))
			free_slot = slot;
		if (slot->at == AT_EMPTY)
			break;
		i = i + 1 < part->room ? i + 1 : 0;
	}
	return free_slot;
}

bool dedup_has(const struct dedup *dedup, struct dedup_hash hash, int64_t now_ms)
{
	struct slot key = slot_of(hash);
	bool found;
	const struct slot *slot = find(dedup, &key, now_ms, &found);

	return found && !is_over(dedup, slot, now_ms);
}

void dedup_forget(struct dedup *dedup, struct dedup_hash hash)
{
	struct slot key = slot_of(hash);
	bool found;
	struct slot *slot = find(dedup, &key, INT64_MIN / 2, &found);

	if (found)
		slot->at = AT_OVER;
}

/* Makes the part anew, without what is over and with room for at least one more. */
static int remake(const struct dedup *dedup, struct part *part, int64_t now_ms)
{
	struct part fresh = { 0 };
	uint32_t live = 0;
	int64_t more;

	for (uint32_t i = 0; i < part->room; i++)
		live += !is_over(dedup, &part->slots[i], now_ms);
	fresh.room = live + live * 2 / 5 + ROOM_MIN;
	more = ((int64_t)fresh.room - (int64_t)part->room) * (int64_t)sizeof(*part->slots);
	if (more > 0 && atomic_load(&bytes_of_all) + (uint64_t)more > DEDUP_BYTES_MAX)
		return engine_explain(-EDQUOT,
		    "dedup.window.ms has the ids of so many messages remembered that they fill the %u MiB there are "
		    "for "
		    "them; a shorter window needs less",
		    DEDUP_BYTES_MAX >> 20);
	fresh.slots = calloc(fresh.room, sizeof(*fresh.slots));
	if (fresh.slots == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < part->room; i++) {
		uint32_t at = (uint32_t)((uint64_t)part->slots[i].b * fresh.room >> 32);

		if (is_over(dedup, &part->slots[i], now_ms))
			continue;
		while (fresh.slots[at].at != AT_EMPTY)
			at = at + 1 < fresh.room ? at + 1 : 0;
		fresh.slots[at] = part->slots[i];
		fresh.used++;
	}
	atomic_fetch_add(&bytes_of_all, (uint64_t)fresh.room * sizeof(*fresh.slots));
	drop_slots(part);
	*part = fresh;
	return 0;
}

/* Moves base_ms up, so that times after it fit into a slot. Nothing that is not over is older than the new one. */
static void rebase(struct dedup *dedup, int64_t now_ms)
{
	int64_t base_ms = now_ms - dedup->window_ms - AT_FIRST, shift = base_ms - dedup->base_ms;

	for (uint32_t p = 0; p < PARTS; p++) {
		for (uint32_t i = 0; i < dedup->parts[p].room; i++) {
			struct slot *slot = &dedup->parts[p].slots[i];

			if (slot->at != AT_EMPTY && is_over(dedup, slot, now_ms))
				slot->at = AT_OVER;
			else if (slot->at != AT_EMPTY) /* at the most: the clock was set back by weeks */
				slot->at = slot->at - shift < UINT32_MAX ? (uint32_t)(slot->at - shift) : UINT32_MAX;
		}
	}
	dedup->base_ms = base_ms;
}

int dedup_put(struct dedup *dedup, struct dedup_hash hash, int64_t ts_ms, int64_t now_ms)
{
	struct slot key = slot_of(hash), *slot;
	struct part *part = part_of(dedup, &key);
	bool found;
	int rc;

	if (ts_ms > now_ms)
		ts_ms = now_ms; /* the clock was set back */
	if (now_ms - ts_ms >= dedup->window_ms)
		return 0;
	if (now_ms - dedup->base_ms >= UINT32_MAX || ts_ms - dedup->base_ms < AT_FIRST)
		rebase(dedup, now_ms);
	slot = find(dedup, &key, now_ms, &found);
	if (!found && (slot == NULL || slot->at == AT_EMPTY) &&
	    (uint64_t)(part->used + 1) * 100 > (uint64_t)part->room * 85) {
		rc = remake(dedup, part, now_ms);
		if (rc < 0)
			return rc;
		slot = find(dedup, &key, now_ms, &found);
	}
	key.at = (uint32_t)(ts_ms - dedup->base_ms);
	if (found && !is_over(dedup, slot, now_ms) && slot->at > key.at)
		return 0;
	part->used += slot->at == AT_EMPTY;
	*slot = key;
	return 0;
}

uint64_t dedup_sweep(struct dedup *dedup, int64_t now_ms)
{
	uint64_t left = 0;

	for (uint32_t p = 0; p < PARTS; p++) {
		struct part *part = &dedup->parts[p];
		uint32_t live = 0;

		for (uint32_t i = 0; i < part->room; i++)
			live += !is_over(dedup, &part->slots[i], now_ms);
		left += live;
		if (live == 0)
			drop_slots(part);
		else if (live < part->room / 2)
			(void)remake(dedup, part, now_ms);
	}
	return left;
}

int dedup_take(struct dedup *dedup, const struct dedup *from, int64_t now_ms)
{
	int rc = 0;

	for (uint32_t p = 0; p < PARTS; p++) {
		for (uint32_t i = 0; i < from->parts[p].room && rc == 0; i++) {
			const struct slot *slot = &from->parts[p].slots[i];
			const struct dedup_hash hash = { slot->a | (uint64_t)slot->b << 32, slot->c };

			if (slot->at >= AT_FIRST)
				rc = dedup_put(dedup, hash, from->base_ms + slot->at, now_ms);
		}
	}
	return rc;
}

/* ---- batches ---- */

bool dedup_batch_has_ids(const struct engine_batch *batch)
{
	for (uint32_t i = 0; batch->props != NULL && i < batch->count; i++) {
		if (batch->props[i].id.ptr != NULL)
			return true;
	}
	return false;
}

/* Notes message i, or says that it is to be left out. */
static int note(struct dedup *dedup, const struct engine_batch *batch, uint32_t i, int64_t now_ms,
    struct dedup_pass *pass, bool *ret_drop)
{
	struct dedup_hash hash;
	int rc;

	*ret_drop = false;
	if (batch->props[i].id.ptr == NULL)
		return 0;
	hash = dedup_hash_of(batch->props[i].id);
	*ret_drop = dedup_has(dedup, hash, now_ms);
	if (*ret_drop) {
		pass->dropped++;
		return 0;
	}
	rc = dedup_put(dedup, hash, now_ms, now_ms);
	if (rc == 0)
		pass->noted[pass->noted_count++] = hash;
	return rc;
}

/* Length of message i with its delimiter, which begins at data; 0: the batch contradicts itself. */
static size_t message_size(const struct engine_batch *batch, uint32_t i, const char *data, size_t left)
{
	const char *end;

	if (batch->lengths != NULL)
		return batch->lengths[i] < left && data[batch->lengths[i]] == '\n' ? (size_t)batch->lengths[i] + 1 : 0;
	end = left > 0 ? memchr(data, '\n', left) : NULL;
	return end != NULL ? (size_t)(end - data) + 1 : 0;
}

/* The batch without the messages that are to be dropped. */
static int leave_out(struct dedup_pass *pass, const struct engine_batch *batch, const bool *drop)
{
	uint32_t count = batch->count - pass->dropped, at = 0;
	struct engine_props *props;
	uint32_t *lengths;
	const char *from = batch->data;
	size_t left = batch->len, used = 0;
	char *data;

	pass->mem = malloc(count * (sizeof(*props) + sizeof(*lengths)) + batch->len);
	if (pass->mem == NULL)
		return -ENOMEM;
	props = pass->mem;
	lengths = (uint32_t *)(props + count);
	data = (char *)(lengths + count);
	for (uint32_t i = 0; i < batch->count; i++) {
		size_t size = message_size(batch, i, from, left);

		if (size == 0)
			return -EINVAL;
		if (!drop[i]) {
			memcpy(data + used, from, size);
			used += size;
			lengths[at] = (uint32_t)(size - 1);
			props[at++] = batch->props[i];
		}
		from += size;
		left -= size;
	}
	pass->batch.data = data;
	pass->batch.len = used;
	pass->batch.count = count;
	pass->batch.lengths = batch->lengths != NULL ? lengths : NULL;
	pass->batch.props = props;
	return left == 0 ? 0 : -EINVAL;
}

int dedup_pass_begin(struct dedup *dedup, const struct engine_batch *batch, int64_t now_ms, struct dedup_pass *ret_pass)
{
	struct dedup_pass pass = { .batch = *batch };
	bool *drop = calloc(batch->count, sizeof(*drop));
	int rc = 0;

	pass.noted = malloc(batch->count * sizeof(*pass.noted));
	if (drop == NULL || pass.noted == NULL)
		rc = -ENOMEM;
	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = note(dedup, batch, i, now_ms, &pass, &drop[i]);
	if (rc == 0 && pass.dropped > 0)
		rc = leave_out(&pass, batch, drop);
	free(drop);
	if (rc < 0) {
		dedup_pass_undo(dedup, &pass);
		dedup_pass_end(&pass);
		return rc;
	}
	*ret_pass = pass;
	return 0;
}

void dedup_pass_undo(struct dedup *dedup, const struct dedup_pass *pass)
{
	for (uint32_t i = 0; i < pass->noted_count; i++)
		dedup_forget(dedup, pass->noted[i]);
}

void dedup_pass_redo(struct dedup *dedup, const struct engine_props *props, uint32_t count, int64_t now_ms)
{
	for (uint32_t i = 0; i < count; i++) {
		/* It takes the place it had: that needs no room. */
		if (props[i].id.ptr != NULL)
			(void)dedup_put(dedup, dedup_hash_of(props[i].id), now_ms, now_ms);
	}
}

void dedup_pass_end(struct dedup_pass *pass)
{
	free(pass->noted);
	free(pass->mem);
}
