/*
 * dedup - see dedup.h.
 *
 * Open addressing with linear probing in 64 parts, each of which grows by itself: a table is never copied as a whole, and
 * its room follows its size closely. A slot holds 96 bits of the hash and the time, in milliseconds after base_ms. A slot
 * whose time is over may be taken by another id; it ends no search. When a part is full, it is made anew without those.
 *
 * An id is looked for in the tables of all users of the object, which are few; beyond USERS_MAX they share one. What a user has in
 * all objects is in an account; accounts_lock guards these, a leaf.
 */
#define HASH_NONFATAL_OOM 1

#include "engine/dedup.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define PARTS 64u
#define ROOM_MIN 16u
#define USERS_MAX 64u
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

/* What one user has in all tables of the process. */
struct account {
	uint32_t uid;   /* the key */
	uint32_t count; /* of its tables */
	uint64_t bytes;
	UT_hash_handle hh;
};

static pthread_mutex_t accounts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct account *accounts;
static uint64_t bytes_of_all;

/* The ids of one user in one object. */
struct table {
	struct account *account;
	int64_t base_ms;
	struct part parts[PARTS];
};

struct dedup {
	int64_t window_ms;
	const struct engine_users *users;
	struct table **tables;
	uint32_t count;
};

struct dedup_hash dedup_hash_of(struct engine_span id)
{
	XXH128_hash_t hash = XXH3_128bits(id.ptr, id.len);

	return (struct dedup_hash){ hash.low64, hash.high64 };
}

/* ---- accounts ---- */

static struct account *account_of(uint32_t uid)
{
	struct account *account;

	HASH_FIND(hh, accounts, &uid, sizeof(uid), account);
	if (account != NULL)
		return account;
	account = calloc(1, sizeof(*account));
	if (account == NULL)
		return NULL;
	account->uid = uid;
	HASH_ADD(hh, accounts, uid, sizeof(account->uid), account);
	if (account->hh.tbl != NULL)
		return account;
	free(account);
	return NULL;
}

static struct account *account_enter(uint32_t uid)
{
	struct account *account;

	pthread_mutex_lock(&accounts_lock);
	account = account_of(uid);
	if (account != NULL)
		account->count++;
	pthread_mutex_unlock(&accounts_lock);
	return account;
}

static void account_leave(struct account *account)
{
	pthread_mutex_lock(&accounts_lock);
	if (--account->count == 0) {
		HASH_DEL(accounts, account);
		free(account);
	}
	pthread_mutex_unlock(&accounts_lock);
}

static void give_back(struct account *account, uint64_t bytes)
{
	pthread_mutex_lock(&accounts_lock);
	account->bytes -= bytes;
	bytes_of_all -= bytes;
	pthread_mutex_unlock(&accounts_lock);
}

/* shared: at most as much as is then left. EDQUOT */
static int charge(struct account *account, uint64_t bytes, bool shared)
{
	bool all_is_full, share_is;

	pthread_mutex_lock(&accounts_lock);
	all_is_full = bytes_of_all + bytes > DEDUP_BYTES_MAX;
	share_is = shared && !all_is_full && account->bytes + bytes > DEDUP_BYTES_MAX - (bytes_of_all + bytes);
	if (!all_is_full && !share_is) {
		account->bytes += bytes;
		bytes_of_all += bytes;
	}
	pthread_mutex_unlock(&accounts_lock);
	if (all_is_full)
		return engine_explain(-EDQUOT,
		    "dedup.window.ms has the ids of so many messages remembered that they fill the %u MiB there are "
		    "for them; a shorter window needs less",
		    DEDUP_BYTES_MAX >> 20);
	if (share_is)
		return engine_explain(-EDQUOT,
		    "dedup.window.ms has the ids of so many messages of the user remembered that they take as much of "
		    "the "
		    "%u MiB there are as is left for others; a shorter window needs less",
		    DEDUP_BYTES_MAX >> 20);
	return 0;
}

/* ---- tables ---- */

struct dedup *dedup_new(int64_t window_ms, const struct engine_users *users)
{
	struct dedup *dedup = calloc(1, sizeof(*dedup));

	if (dedup == NULL)
		return NULL;
	dedup->window_ms = window_ms;
	dedup->users = users;
	return dedup;
}

static void drop_slots(struct table *table, struct part *part)
{
	give_back(table->account, (uint64_t)part->room * sizeof(*part->slots));
	free(part->slots);
	*part = (struct part){ 0 };
}

static void free_table(struct table *table)
{
	for (uint32_t i = 0; i < PARTS; i++)
		drop_slots(table, &table->parts[i]);
	give_back(table->account, sizeof(*table));
	account_leave(table->account);
	free(table);
}

void dedup_free(struct dedup *dedup)
{
	if (dedup == NULL)
		return;
	for (uint32_t i = 0; i < dedup->count; i++)
		free_table(dedup->tables[i]);
	free(dedup->tables);
	free(dedup);
}

static bool is_shared(const struct dedup *dedup, uint32_t uid)
{
	const struct engine_users *users = dedup->users;

	return users != NULL && users->unlimited != NULL && (uid == DEDUP_NOBODY || !users->unlimited(users->ctx, uid));
}

static int add_table(struct dedup *dedup, uint32_t uid, int64_t now_ms, bool shared, struct table **ret_table)
{
	struct table **tables = realloc(dedup->tables, (dedup->count + 1) * sizeof(struct table *)), *table;
	int rc;

	if (tables == NULL)
		return -ENOMEM;
	dedup->tables = tables;
	table = calloc(1, sizeof(*table));
	if (table == NULL)
		return -ENOMEM;
	table->account = account_enter(uid);
	rc = table->account != NULL ? charge(table->account, sizeof(*table), shared) : -ENOMEM;
	if (rc < 0) {
		if (table->account != NULL)
			account_leave(table->account);
		free(table);
		return rc;
	}
	table->base_ms = now_ms - dedup->window_ms - AT_FIRST;
	tables[dedup->count++] = table;
	*ret_table = table;
	return 0;
}

static int table_of(struct dedup *dedup, uint32_t uid, int64_t now_ms, bool shared, struct table **ret_table)
{
	for (uint32_t i = 0; i < dedup->count; i++) {
		if (dedup->tables[i]->account->uid != uid)
			continue;
		*ret_table = dedup->tables[i];
		return 0;
	}
	if (dedup->count >= USERS_MAX && uid != DEDUP_NOBODY)
		return table_of(dedup, DEDUP_NOBODY, now_ms, shared, ret_table);
	return add_table(dedup, uid, now_ms, shared, ret_table);
}

static struct slot slot_of(struct dedup_hash hash)
{
	return (struct slot){ (uint32_t)hash.low, (uint32_t)(hash.low >> 32), (uint32_t)hash.high, AT_EMPTY };
}

static bool is_over(const struct dedup *dedup, const struct table *table, const struct slot *slot, int64_t now_ms)
{
	return slot->at < AT_FIRST || now_ms - (table->base_ms + slot->at) >= dedup->window_ms;
}

/* The slot of key, or, if it has none, the first it may take (NULL: there is none). */
static struct slot *find(
    const struct dedup *dedup, struct table *table, const struct slot *key, int64_t now_ms, bool *ret_found)
{
	const struct part *part = &table->parts[key->a % PARTS];
	struct slot *free_slot = NULL;
	uint32_t i = (uint32_t)((uint64_t)key->b * part->room >> 32);

	*ret_found = false;
	for (uint32_t tries = 0; tries < part->room; tries++) {
		struct slot *slot = &part->slots[i];

		if (slot->at != AT_EMPTY && slot->a == key->a && slot->b == key->b && slot->c == key->c) {
			*ret_found = true;
			return slot;
		}
		if (free_slot == NULL && is_over(dedup, table, slot, now_ms))
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

	for (uint32_t i = 0; i < dedup->count; i++) {
		bool found;
		const struct slot *slot = find(dedup, dedup->tables[i], &key, now_ms, &found);

		if (found && !is_over(dedup, dedup->tables[i], slot, now_ms))
			return true;
	}
	return false;
}

void dedup_forget(struct dedup *dedup, struct dedup_hash hash)
{
	struct slot key = slot_of(hash);

	for (uint32_t i = 0; i < dedup->count; i++) {
		bool found;
		struct slot *slot = find(dedup, dedup->tables[i], &key, INT64_MIN / 2, &found);

		if (found)
			slot->at = AT_OVER;
	}
}

/* Makes the part anew, without what is over and with room for at least one more. */
static int remake(const struct dedup *dedup, struct table *table, struct part *part, int64_t now_ms, bool shared)
{
	struct part fresh = { 0 };
	uint64_t more;
	uint32_t live = 0;
	int rc;

	for (uint32_t i = 0; i < part->room; i++)
		live += !is_over(dedup, table, &part->slots[i], now_ms);
	fresh.room = live + live * 2 / 5 + ROOM_MIN;
	more = fresh.room > part->room ? (uint64_t)(fresh.room - part->room) * sizeof(*part->slots) : 0;
	rc = more > 0 ? charge(table->account, more, shared) : 0;
	if (rc < 0)
		return rc;
	fresh.slots = calloc(fresh.room, sizeof(*fresh.slots));
	if (fresh.slots == NULL) {
		give_back(table->account, more);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < part->room; i++) {
		uint32_t at = (uint32_t)((uint64_t)part->slots[i].b * fresh.room >> 32);

		if (is_over(dedup, table, &part->slots[i], now_ms))
			continue;
		while (fresh.slots[at].at != AT_EMPTY)
			at = at + 1 < fresh.room ? at + 1 : 0;
		fresh.slots[at] = part->slots[i];
		fresh.used++;
	}
	if (part->room > fresh.room)
		give_back(table->account, (uint64_t)(part->room - fresh.room) * sizeof(*part->slots));
	free(part->slots);
	*part = fresh;
	return 0;
}

/* Moves base_ms up, so that times after it fit into a slot. Nothing that is not over is older than the new one. */
static void rebase(const struct dedup *dedup, struct table *table, int64_t now_ms)
{
	int64_t base_ms = now_ms - dedup->window_ms - AT_FIRST, shift = base_ms - table->base_ms;

	for (uint32_t p = 0; p < PARTS; p++) {
		for (uint32_t i = 0; i < table->parts[p].room; i++) {
			struct slot *slot = &table->parts[p].slots[i];

			if (slot->at != AT_EMPTY && is_over(dedup, table, slot, now_ms))
				slot->at = AT_OVER;
			else if (slot->at != AT_EMPTY) /* at the most: the clock was set back by weeks */
				slot->at = slot->at - shift < UINT32_MAX ? (uint32_t)(slot->at - shift) : UINT32_MAX;
		}
	}
	table->base_ms = base_ms;
}

static int put(struct dedup *dedup, struct dedup_hash hash, uint32_t uid, int64_t ts_ms, int64_t now_ms, bool shared)
{
	struct slot key = slot_of(hash), *slot;
	struct table *table = NULL;
	struct part *part;
	bool found;
	int rc;

	if (ts_ms > now_ms)
		ts_ms = now_ms; /* the clock was set back */
	if (now_ms - ts_ms >= dedup->window_ms)
		return 0;
	rc = table_of(dedup, uid, now_ms, shared, &table);
	if (rc < 0)
		return rc;
	if (now_ms - table->base_ms >= UINT32_MAX || ts_ms - table->base_ms < AT_FIRST)
		rebase(dedup, table, now_ms);
	part = &table->parts[key.a % PARTS];
	slot = find(dedup, table, &key, now_ms, &found);
	if (!found && (slot == NULL || slot->at == AT_EMPTY) &&
	    (uint64_t)(part->used + 1) * 100 > (uint64_t)part->room * 85) {
		rc = remake(dedup, table, part, now_ms, shared);
		if (rc < 0)
			return rc;
		slot = find(dedup, table, &key, now_ms, &found);
	}
	key.at = (uint32_t)(ts_ms - table->base_ms);
	if (found && !is_over(dedup, table, slot, now_ms) && slot->at > key.at)
		return 0;
	part->used += slot->at == AT_EMPTY;
	*slot = key;
	return 0;
}

int dedup_put(struct dedup *dedup, struct dedup_hash hash, uint32_t uid, int64_t ts_ms, int64_t now_ms)
{
	return put(dedup, hash, uid, ts_ms, now_ms, false);
}

int dedup_note(struct dedup *dedup, struct dedup_hash hash, uint32_t uid, int64_t now_ms)
{
	return put(dedup, hash, uid, now_ms, now_ms, is_shared(dedup, uid));
}

static uint64_t sweep_table(const struct dedup *dedup, struct table *table, int64_t now_ms)
{
	uint64_t left = 0;

	for (uint32_t p = 0; p < PARTS; p++) {
		struct part *part = &table->parts[p];
		uint32_t live = 0;

		for (uint32_t i = 0; i < part->room; i++)
			live += !is_over(dedup, table, &part->slots[i], now_ms);
		left += live;
		if (live == 0)
			drop_slots(table, part);
		else if (live < part->room / 2)
			(void)remake(dedup, table, part, now_ms, false);
	}
	return left;
}

uint64_t dedup_sweep(struct dedup *dedup, int64_t now_ms)
{
	uint64_t left = 0;

	for (uint32_t i = dedup->count; i-- > 0;) {
		uint64_t of_table = sweep_table(dedup, dedup->tables[i], now_ms);

		left += of_table;
		if (of_table > 0)
			continue;
		free_table(dedup->tables[i]);
		dedup->tables[i] = dedup->tables[--dedup->count];
	}
	return left;
}

static int take_table(struct dedup *dedup, const struct table *from, int64_t now_ms)
{
	int rc = 0;

	for (uint32_t p = 0; p < PARTS; p++) {
		for (uint32_t i = 0; i < from->parts[p].room && rc == 0; i++) {
			const struct slot *slot = &from->parts[p].slots[i];
			const struct dedup_hash hash = { slot->a | (uint64_t)slot->b << 32, slot->c };

			if (slot->at >= AT_FIRST)
				rc = dedup_put(dedup, hash, from->account->uid, from->base_ms + slot->at, now_ms);
		}
	}
	return rc;
}

int dedup_take(struct dedup *dedup, const struct dedup *from, int64_t now_ms)
{
	int rc = 0;

	for (uint32_t i = 0; i < from->count && rc == 0; i++)
		rc = take_table(dedup, from->tables[i], now_ms);
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
	rc = dedup_note(dedup, hash, batch->cred.uid, now_ms);
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

void dedup_pass_redo(
    struct dedup *dedup, const struct engine_props *props, uint32_t count, uint32_t uid, int64_t now_ms)
{
	for (uint32_t i = 0; i < count; i++) {
		/* It takes the place it had: that needs no room. */
		if (props[i].id.ptr != NULL)
			(void)dedup_put(dedup, dedup_hash_of(props[i].id), uid, now_ms, now_ms);
	}
}

void dedup_pass_end(struct dedup_pass *pass)
{
	free(pass->noted);
	free(pass->mem);
}
