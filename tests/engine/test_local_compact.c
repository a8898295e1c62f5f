/* Compaction in the embedded engine: the cleaner, the key index, producers and readers meanwhile. */
#include "tests/lib/contract.h"

#include <stdatomic.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"

static struct engine_object *compacted(struct contract *c, const char *segment_bytes)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(contract_set(c, topic, "segment.bytes", segment_bytes));
	assert_ok(contract_set(c, topic, "cleanup.policy", "compact"));
	return topic;
}

/* One batch of updates: number i is the value of key i % keys. */
static void update(struct contract *c, struct engine_producer *producer, uint64_t from, unsigned count, unsigned keys)
{
	struct engine_props *props = calloc(count, sizeof(*props));
	char(*names)[16] = calloc(count, sizeof(*names)), *data = malloc(count * 24), *p = data;
	struct engine_batch batch = { .data = data, .count = count, .props = props, .ts_ms = -1 };

	for (unsigned i = 0; i < count; i++) {
		props[i] = ENGINE_PROPS_INIT;
		props[i].key = (struct engine_span){ names[i],
			(size_t)snprintf(names[i], sizeof(names[i]), "k%06u", (unsigned)((from + i) % keys)) };
		p += snprintf(p, 24, "%" PRIu64 "\n", from + i);
	}
	batch.len = (size_t)(p - data);
	assert_ok(contract_send_batch(c, producer, &batch));
	free(props);
	free(names);
	free(data);
}

/* Reads the whole topic through a group: each key's last value is `count` - keys + its number, in order of offsets. */
static uint64_t check_last(struct contract *c, struct engine_object *topic, uint64_t count, unsigned keys)
{
	struct engine_object *group = contract_group(c, topic, "reader");
	struct engine_consumer *consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	uint64_t *last = calloc(keys, sizeof(*last)), messages = 0, next = 0;
	struct engine_view view;
	int rc;

	while ((rc = c->ops->consumer_fetch(consumer, UINT32_MAX, SIZE_MAX, &c->scratch, &view)) == 1) {
		const char *data = view.batch.data;

		cr_assert_geq(view.offset, next);
		for (uint32_t i = 0; i < view.batch.count; i++) {
			uint64_t value = strtoull(data, NULL, 10);

			cr_assert_eq(value, view.offset + i);
			cr_assert_geq(value + 1, last[value % keys]);
			last[value % keys] = value + 1;
			data += view.batch.lengths[i] + 1;
			messages++;
		}
		next = view.offset + view.batch.count;
	}
	cr_assert_eq(rc, 0);
	for (unsigned k = 0; k < keys; k++)
		cr_assert_geq(last[k] + keys, count + 1, "key %u has %" PRIu64, k, last[k]);
	free(last);
	c->ops->consumer_close(consumer);
	assert_ok(c->ops->remove(group));
	c->ops->put(group);
	return messages;
}

static bool is_small(struct contract *c, void *ctx)
{
	struct engine_partition_stat stat = contract_partition(c, ctx, 0);

	return stat.end_pos - stat.start_pos < 3000000;
}

static void million(struct contract *c)
{
	enum { UPDATES = 1000000, KEYS = 1000, BATCH = 2000 };
	struct engine_object *topic = compacted(c, "1000000");
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_key key;

	for (uint64_t i = 0; i < UPDATES; i += BATCH)
		update(c, producer, i, BATCH, KEYS);
	cr_assert_eq(contract_partition(c, topic, 0).end, UPDATES);
	contract_wait(c, is_small, topic, "compaction");
	cr_assert_lt(check_last(c, topic, UPDATES, KEYS), UPDATES / 2);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_lt(check_last(c, topic, UPDATES, KEYS), UPDATES / 2);
	assert_ok(c->ops->key_find(topic, (struct engine_span){ "k000123", 7 }, &key));
	cr_assert_eq(key.offset, UPDATES - KEYS + 123);
	c->ops->put(topic);
}

/* A million updates of a thousand keys: whoever reads, at any time, finds each key's last value, and little else is kept. */
Test(local_compact, a_million_updates, .timeout = 120)
{
	contract_run(true, million);
}

/* ---- producers and readers meanwhile ---- */

struct crowd {
	struct contract *c;
	struct engine_object *topic;
	_Atomic bool stop;
	_Atomic uint64_t reads;
	char error[128];
};

/* Reads from the start, again and again: what it gets has the value that its offset says, and only rises. */
static void *read_on(void *arg)
{
	struct crowd *crowd = arg;
	struct engine_scratch scratch = { 0 };

	while (!atomic_load(&crowd->stop) && crowd->error[0] == '\0') {
		struct engine_partition_stat stat;
		struct engine_view view;
		uint64_t offset, end_pos;
		char buf[64];
		int rc;

		crowd->c->ops->partition_stat(crowd->topic, 0, &stat);
		offset = stat.earliest;
		while (
		    (rc = crowd->c->ops->partition_read(crowd->topic, 0, offset, UINT32_MAX, &scratch, &view)) == 0) {
			if (view.offset < offset || strtoull(view.batch.data, NULL, 10) != view.offset)
				snprintf(crowd->error, sizeof(crowd->error), "offset %" PRIu64 " has %.20s",
				    view.offset, view.batch.data);
			offset = view.offset + view.batch.count;
		}
		if (rc != -ENODATA)
			snprintf(crowd->error, sizeof(crowd->error), "a read gave %d", rc);
		end_pos = stat.end_pos;
		rc = (int)crowd->c->ops->partition_pread(crowd->topic, 0, end_pos, buf, sizeof(buf));
		crowd->c->ops->partition_stat(crowd->topic, 0, &stat);
		/* ESTALE: all that was there is in another place by now. */
		if (rc < 0 && (rc != -ESTALE || stat.start_pos <= end_pos))
			snprintf(crowd->error, sizeof(crowd->error), "a read of bytes gave %d", rc);
		atomic_fetch_add(&crowd->reads, 1);
	}
	engine_scratch_release(&scratch);
	return NULL;
}

static void meanwhile(struct contract *c)
{
	enum { UPDATES = 60000, KEYS = 50, BATCH = 20 };
	struct crowd crowd = { .c = c, .topic = compacted(c, "20000") };
	struct engine_producer *producer = contract_producer(c, crowd.topic, ENGINE_ANY);
	struct engine_key key;
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, read_on, &crowd), 0);
	for (uint64_t i = 0; i < UPDATES; i += BATCH) {
		update(c, producer, i, BATCH, KEYS);
		if (i % 2000 == 0) {
			assert_ok(c->ops->key_find(crowd.topic, (struct engine_span){ "k000007", 7 }, &key));
			cr_assert_eq(key.offset % KEYS, 7);
			cr_assert_gt(key.offset + KEYS, i);
		}
	}
	contract_wait(c, is_small, crowd.topic, "compaction");
	atomic_store(&crowd.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(crowd.error[0], '\0', "%s", crowd.error);
	cr_assert_gt(crowd.reads, 0);
	check_last(c, crowd.topic, UPDATES, KEYS);
	c->ops->producer_close(producer);
	c->ops->put(crowd.topic);
}

/* Producers and readers go on while it is compacted, and nothing is reordered or torn. */
Test(local_compact, meanwhile, .timeout = 120)
{
	contract_run(true, meanwhile);
}

/* ---- tombstones ---- */

static bool has_no_tombstone(struct contract *c, void *ctx)
{
	struct engine_view view;
	uint64_t offset = 0;

	while (c->ops->partition_read(ctx, 0, offset, UINT32_MAX, &c->scratch, &view) == 0) {
		for (uint32_t i = 0; i < view.batch.count; i++) {
			if (view.batch.props[i].tombstone)
				return false;
		}
		offset = view.offset + view.batch.count;
	}
	return true;
}

static void tombstones(struct contract *c)
{
	struct engine_object *topic = compacted(c, "4096");
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = { .data = "\n", .len = 1, .count = 1, .props = &props, .ts_ms = -1 };
	struct engine_key key;

	update(c, producer, 0, 1000, 10);
	props.key = (struct engine_span){ "k000003", 7 };
	props.tombstone = true;
	assert_ok(contract_send_batch(c, producer, &batch));
	for (int i = 1001; i < 20001; i += 1000)
		update(c, producer, 10, 1000, 1); /* of k000000 only */
	cr_assert_not(has_no_tombstone(c, topic));
	assert_ok(contract_set(c, topic, "delete.retention.ms", "0"));
	contract_wait(c, has_no_tombstone, topic, "the tombstone to go");
	assert_err(c->ops->key_find(topic, props.key, &key), ENOENT);
	assert_ok(c->ops->key_find(topic, (struct engine_span){ "k000004", 7 }, &key));
	cr_assert_eq(key.offset, 994);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	assert_err(c->ops->key_find(topic, props.key, &key), ENOENT);
	assert_ok(c->ops->key_find(topic, (struct engine_span){ "k000004", 7 }, &key));
	cr_assert_eq(key.offset, 994);
	c->ops->put(topic);
}

static struct {
	struct contract *c;
	struct engine_object *topic;
	atomic_bool done;
} to_set;

/* In the thread that compacts, which has decided what stays. */
static int rename_and_set(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	if (strcmp(new_name, "swap") == 0 && !atomic_exchange(&to_set.done, true))
		assert_ok(contract_set(to_set.c, to_set.topic, "delete.retention.ms", "0"));
	return io_posix.rename(old_dirfd, old_name, new_dirfd, new_name);
}

/* delete.retention.ms is changed while tombstones are being looked at, and no other message comes. */
static void changed_meanwhile(struct contract *c)
{
	static struct io_ops setting;
	struct engine_object *topic = compacted(c, "4096");
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = { .data = "\n", .len = 1, .count = 1, .props = &props, .ts_ms = -1 };

	to_set.c = c;
	to_set.topic = topic;
	setting = io_posix;
	setting.rename = rename_and_set;
	io = &setting;
	update(c, producer, 0, 10, 10);
	props.key = (struct engine_span){ "k000003", 7 };
	props.tombstone = true;
	assert_ok(contract_send_batch(c, producer, &batch));
	update(c, producer, 11, 1000, 1);
	update(c, producer, 1011, 1000, 1);
	contract_wait(c, has_no_tombstone, topic, "the tombstone to go");
	cr_assert(atomic_load(&to_set.done));
	io = &io_posix;
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

Test(local_compact, retention_of_tombstones_is_changed_meanwhile, .timeout = 60)
{
	contract_run(true, changed_meanwhile);
}

/* A tombstone goes when delete.retention.ms is over, and what it removed does not come back. */
Test(local_compact, tombstones, .timeout = 60)
{
	contract_run(true, tombstones);
}
