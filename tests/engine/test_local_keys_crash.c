/*
 * What a crash leaves of a compacted topic: at every change of a file of a run with updates, tombstones, compactions, checkpoints
 * and a reopening the daemon dies, or the machine does. Then each key has a value that was sent, and not before its last confirmed
 * one; what was removed and confirmed stays gone; the list of keys says what the log says; every message is where it was; and
 * a compaction after that changes none of it.
 */

#include "engine/local_cleaner.h"
#include "engine/local_internal.h"
#include "engine/partitioner.h"
#include "tests/lib/contract.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define PARTITIONS 2u
#define KEYS 7u
#define ROUNDS 24u
#define BATCH 5u
#define UPDATES (ROUNDS * BATCH)
#define SIZE 400u /* of a value: a segment has some ten */

/* Of what was sent; the places count changes of files. */
struct update {
	unsigned key;
	bool tombstone;
	uint32_t partition;
	uint64_t offset;
	size_t begun, sent, confirmed; /* SIZE_MAX: never */
};

struct history {
	struct update updates[UPDATES];
	unsigned count;
	uint64_t ends[PARTITIONS];
};

/* ---- the run ---- */

/* From now on nothing happens but what is called here. */
static void alone(struct contract *c)
{
	struct local *local = (struct local *)c->engine;

	timers_stop(local);
	cleaner_stop(local);
	atomic_store(&local->cleaner.stop, false);
}

static void compact(struct engine_object *topic)
{
	cleaner_run(topic_of_object((struct object *)topic));
}

static size_t key_name(unsigned key, char out[8])
{
	return (size_t)snprintf(out, 8, "k%u", key);
}

static void plan(struct history *h, struct update *update, unsigned round, unsigned i)
{
	char name[8];
	size_t len;

	update->key = (round * 3 + i * i) % KEYS;
	update->tombstone = (round + i) % 4 == 3 || (round > ROUNDS / 2 && update->key == 0);
	len = key_name(update->key, name);
	update->partition = partitioner_pick(name, len, PARTITIONS);
	update->offset = h->ends[update->partition]++;
	update->begun = update->sent = update->confirmed = SIZE_MAX;
}

static void send(struct contract *c, struct history *h, struct engine_producer *producer, struct powercut *cut)
{
	static char data[BATCH * (SIZE + 8)];
	struct engine_props props[BATCH];
	char names[BATCH][8], ids[BATCH][8], *at = data;
	uint32_t lengths[BATCH];
	struct engine_batch batch = { .data = data, .count = BATCH, .props = props, .lengths = lengths, .ts_ms = -1 };
	struct update *updates = &h->updates[h->count];

	for (unsigned i = 0; i < BATCH; i++) {
		plan(h, &updates[i], h->count / BATCH, i);
		props[i] = ENGINE_PROPS_INIT;
		props[i].key = (struct engine_span){ names[i], key_name(updates[i].key, names[i]) };
		/* ends in what is no digit: it is read by atoi */
		props[i].id = (struct engine_span){ ids[i], (size_t)sprintf(ids[i], "%u,", h->count + i) };
		props[i].tombstone = updates[i].tombstone;
		lengths[i] = updates[i].tombstone ? 0 : (uint32_t)sprintf(at, "%-*u", (int)SIZE, h->count + i);
		at += lengths[i];
		*at++ = '\n';
		updates[i].begun = powercut_count(cut);
	}
	batch.len = (size_t)(at - data);
	assert_ok(contract_send_batch(c, producer, &batch));
	h->count += BATCH;
	for (unsigned i = 0; i < BATCH; i++)
		updates[i].sent = powercut_count(cut);
}

static void confirm(struct contract *c, struct history *h, struct engine_producer *producer, struct powercut *cut)
{
	assert_ok(contract_sync(c, producer));
	for (unsigned i = 0; i < h->count; i++) {
		if (h->updates[i].confirmed == SIZE_MAX)
			h->updates[i].confirmed = powercut_count(cut);
	}
}

static void work(struct contract *c, struct history *h, struct powercut *cut, unsigned from, unsigned to)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);

	alone(c);
	for (unsigned round = from; round < to; round++) {
		send(c, h, producer, cut);
		if (round % 3 == 1)
			confirm(c, h, producer, cut);
		if (round % 6 == 4)
			compact(topic);
		if (round % 8 == 5)
			assert_ok(checkpoint_run((struct local *)c->engine));
		if (round == ROUNDS / 2)
			assert_ok(contract_set(c, topic, "delete.retention.ms", "0"));
	}
	compact(topic);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* ---- what is there ---- */

struct looking {
	struct contract *c;
	const struct history *h;
	struct engine_object *topic;
	const char *what;
	size_t n;
	bool kill;
	const struct update *last[KEYS]; /* in the log */
	uint64_t places[KEYS];           /* where they are */
	unsigned listed[KEYS];
	bool found[KEYS];
};

/* Whether it cannot be lost any more. */
static bool is_safe(const struct looking *l, const struct update *update)
{
	return (l->kill ? update->sent : update->confirmed) <= l->n;
}

/*
 * The message at an offset is one that was sent, there if it is safe; where a power cut took what came before it,
 * it may have moved up.
 */
static const struct update *look_at(struct looking *l, uint32_t partition, uint64_t offset,
    const struct engine_props *props, const char *data, uint32_t length)
{
	unsigned number = props->id.ptr != NULL ? (unsigned)atoi(props->id.ptr) : UPDATES;
	const struct update *update = &l->h->updates[number];
	char name[8];

	cr_assert(number < l->h->count && update->begun < l->n && update->partition == partition,
	    "%s: %u is at %" PRIu32 ":%" PRIu64, l->what, number, partition, offset);
	cr_assert(is_safe(l, update) || l->kill ? update->offset == offset : update->offset >= offset,
	    "%s: %u has moved to %" PRIu32 ":%" PRIu64, l->what, number, partition, offset);
	cr_assert(props->key.len == key_name(update->key, name) && memcmp(props->key.ptr, name, props->key.len) == 0,
	    "%s: %u has another key", l->what, number);
	cr_assert_eq(props->tombstone, update->tombstone, "%s: is %u a tombstone?", l->what, number);
	cr_assert(length == (update->tombstone ? 0 : SIZE) && (length == 0 || atoi(data) == (int)number),
	    "%s: %u has another value", l->what, number);
	return update;
}

static void look_at_view(struct looking *l, uint32_t partition, const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		const struct update *update =
		    look_at(l, partition, view->offset + i, &view->batch.props[i], data, view->batch.lengths[i]);

		data += view->batch.lengths[i] + 1;
		cr_assert(l->last[update->key] < update, "%s: %s", l->what, "in another order, or twice");
		l->last[update->key] = update;
		l->places[update->key] = view->offset + i;
	}
}

static void read_log(struct looking *l)
{
	memset(l->last, 0, sizeof(l->last));
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		struct engine_partition_stat stat = contract_partition(l->c, l->topic, p);
		struct engine_view view;
		uint64_t offset = stat.earliest;
		int rc;

		while ((rc = l->c->ops->partition_read(l->topic, p, offset, UINT32_MAX, &l->c->scratch, &view)) == 0) {
			look_at_view(l, p, &view);
			offset = view.offset + view.batch.count;
		}
		cr_assert_eq(rc, -ENODATA, "%s: a read gives %d", l->what, rc);
		for (unsigned u = 0; u < l->h->count; u++) {
			const struct update *update = &l->h->updates[u];

			cr_assert(update->partition != p || update->offset < stat.end || !is_safe(l, update),
			    "%s: the log ends at %" PRIu64 ", and %" PRIu64 " was confirmed", l->what, stat.end,
			    update->offset);
		}
	}
}

/* Whether a key that has the value `value`, or none (NULL), is what may be left of it. */
static bool may_be(const struct looking *l, unsigned key, const struct update *value)
{
	bool may = value == NULL; /* as if nothing was sent */

	for (unsigned u = 0; u < l->h->count; u++) {
		const struct update *update = &l->h->updates[u];

		if (update->key != key || update->begun >= l->n)
			continue;
		if (is_safe(l, update))
			may = false; /* all before it is over */
		if (value != NULL ? update == value : update->tombstone)
			may = true;
	}
	return may;
}

static bool count_key(void *ctx, const struct engine_key *key)
{
	struct looking *l = ctx;
	unsigned number = KEYS;

	cr_assert_eq(key->key.len, 2);
	number = (unsigned)(key->key.ptr[1] - '0');
	cr_assert_lt(number, KEYS);
	l->listed[number]++;
	return true;
}

/* Returns a hash of what the keys have. */
static uint64_t check(struct looking *l)
{
	uint64_t hash = 0;

	read_log(l);
	memset(l->listed, 0, sizeof(l->listed));
	assert_ok(l->c->ops->key_list(l->topic, (struct engine_span){ NULL, 0 }, count_key, l));
	for (unsigned k = 0; k < KEYS; k++) {
		const struct update *last = l->last[k] != NULL && !l->last[k]->tombstone ? l->last[k] : NULL;
		struct engine_key key;
		char name[8];
		int rc = l->c->ops->key_find(l->topic, (struct engine_span){ name, key_name(k, name) }, &key);

		cr_assert_eq(rc, last != NULL ? 0 : -ENOENT, "%s: %s is %d, not as in the log", l->what, name, rc);
		cr_assert(rc < 0 || (key.partition == last->partition && key.offset == l->places[k]),
		    "%s: %s is at %" PRIu32 ":%" PRIu64 ", not as in the log", l->what, name, key.partition,
		    key.offset);
		cr_assert_eq(l->listed[k], rc == 0, "%s: %s is listed %u times", l->what, name, l->listed[k]);
		cr_assert(
		    may_be(l, k, last), "%s: %s has %s", l->what, name, last != NULL ? "an old value" : "no value");
		hash = hash * 1000003 + (last != NULL ? (uint64_t)(last - l->h->updates) + 1 : 0);
		l->found[k] = l->found[k] || last != NULL;
	}
	return hash;
}

/* ---- every moment ---- */

/* Opened, compacted, opened again: it stays what it is. */
static void check_moment(struct contract *c, const struct history *h, const struct powercut *cut, size_t n,
    uint64_t seed, bool kill, bool found[KEYS + 1])
{
	struct looking l = { .c = c, .h = h, .n = n, .kill = kill };
	char what[64];
	uint64_t hash = 0;

	snprintf(what, sizeof(what), "%s after %zu changes, seed %" PRIu64, kill ? "kill" : "power cut", n, seed);
	l.what = what;
	crash_make(c, cut, n, seed, kill);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t now;

		contract_open(c);
		alone(c);
		l.topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		now = check(&l);
		cr_assert(i == 0 || now == hash, "%s: another start makes another thing of it", what);
		hash = now;
		compact(l.topic);
		cr_assert_eq(check(&l), hash, "%s: a compaction makes another thing of it", what);
		c->ops->put(l.topic);
		contract_close(c);
	}
	for (unsigned k = 0; k < KEYS; k++)
		found[k] = found[k] || l.found[k];
	found[KEYS] = found[KEYS] || hash == 0;
	tmpdir_remove(&c->dir);
}

static struct powercut *record(struct contract *c, struct history *h)
{
	struct engine_object *topic;
	struct powercut *cut;

	tmpdir_make(&c->dir);
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	contract_open(c);
	topic = contract_topic(c, "t", PARTITIONS);
	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	assert_ok(contract_set(c, topic, "cleanup.policy", "compact"));
	alone(c);
	assert_ok(checkpoint_run((struct local *)c->engine)); /* all so far is on disk */
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	work(c, h, cut, 0, ROUNDS / 2);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		cr_assert_eq(contract_partition(c, topic, p).end, h->ends[p]);
	c->ops->put(topic);
	contract_reopen(c);
	work(c, h, cut, ROUNDS / 2, ROUNDS);
	powercut_stop(cut);
	contract_close(c);
	tmpdir_remove(&c->dir);
	return cut;
}

Test(local_keys_crash, every_change, .timeout = 240)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct history h = { .count = 0 };
	bool found[KEYS + 1] = { false };
	struct powercut *cut;

	tmpdir_in_memory();
	nosync_install();
	cut = record(c, &h);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 4; seed++)
			check_moment(c, &h, cut, n, seed < 2 ? seed : n * 4 + seed, seed == 3, found);
	}
	for (unsigned k = 0; k <= KEYS; k++)
		cr_assert(found[k], "key %u was never there", k);
	engine_scratch_release(&c->scratch);
	powercut_free(cut);
	free(c);
}
