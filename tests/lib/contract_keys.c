/* The contract of engines: keys of compacted topics. */
#include "tests/lib/contract.h"

enum { MANY = 3000, ROUND = 100 };

static struct engine_span span(const char *text)
{
	return (struct engine_span){ text, strlen(text) };
}

/*
 * Produces "KEY=VALUE", or "KEY" as a tombstone, or "=VALUE" without a key, as of ts_ms (-1: now); returns what the
 * engine says.
 */
static int put_at(struct contract *c, struct engine_object *topic, uint32_t partition, int64_t ts_ms, const char *word)
{
	const char *value = strchr(word, '=');
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_producer *producer = contract_producer(c, topic, partition);
	struct engine_batch batch;
	char line[300];
	int rc;

	snprintf(line, sizeof(line), "%s\n", value != NULL ? value + 1 : "");
	batch = contract_batch(line);
	batch.ts_ms = ts_ms;
	if (value != word)
		props.key = (struct engine_span){ word, value != NULL ? (size_t)(value - word) : strlen(word) };
	props.tombstone = value == NULL;
	batch.props = &props;
	rc = contract_send_batch(c, producer, &batch);
	c->ops->producer_close(producer);
	return rc;
}

static int put(struct contract *c, struct engine_object *topic, uint32_t partition, const char *word)
{
	return put_at(c, topic, partition, -1, word);
}

static struct engine_object *compacted(struct contract *c, const char *name, uint32_t partitions)
{
	struct engine_object *topic = contract_topic(c, name, partitions);

	assert_ok(contract_set(c, topic, "cleanup.policy", "compact"));
	return topic;
}

struct listing {
	struct contract *c;
	unsigned left;
	size_t used;
};

static bool add_key(void *ctx, const struct engine_key *key)
{
	struct listing *listing = ctx;

	listing->used += (size_t)snprintf(listing->c->text + listing->used, CONTRACT_TEXT - listing->used,
	    "%s%.*s@%" PRIu32 ":%" PRIu64, listing->used > 0 ? " " : "", (int)key->key.len, key->key.ptr,
	    key->partition, key->offset);
	return --listing->left > 0;
}

/* "KEY@PARTITION:OFFSET ..." of at most count keys above `after`, or of all. */
static const char *list(struct contract *c, struct engine_object *topic, const char *after, unsigned count)
{
	struct engine_span none = { NULL, 0 };
	struct listing listing = { c, count, 0 };

	c->text[0] = '\0';
	assert_ok(c->ops->key_list(topic, after != NULL ? span(after) : none, add_key, &listing));
	return c->text;
}

static const char *find(struct contract *c, struct engine_object *topic, const char *name)
{
	struct engine_key key;
	int rc = c->ops->key_find(topic, span(name), &key);

	if (rc < 0)
		snprintf(c->text, CONTRACT_TEXT, "%s", strerrorname_np(-rc));
	else
		snprintf(c->text, CONTRACT_TEXT, "%" PRIu32 ":%" PRIu64, key.partition, key.offset);
	return c->text;
}

/* A key has the message that came last for its value, until a tombstone takes it away; keys are listed by their bytes. */
void contract_test_keys(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 1);

	assert_text(list(c, topic, NULL, 100), "");
	assert_text(find(c, topic, "b"), "ENOENT");
	assert_ok(put(c, topic, ENGINE_ANY, "b=1"));
	assert_ok(put(c, topic, ENGINE_ANY, "a=2"));
	assert_ok(put(c, topic, ENGINE_ANY, "b=3"));
	assert_ok(put(c, topic, ENGINE_ANY, "ab=4"));
	assert_text(list(c, topic, NULL, 100), "a@0:1 ab@0:3 b@0:2");
	assert_text(list(c, topic, NULL, 2), "a@0:1 ab@0:3");
	assert_text(list(c, topic, "ab", 100), "b@0:2");
	assert_text(list(c, topic, "aa", 100), "ab@0:3 b@0:2");
	assert_text(list(c, topic, "b", 100), "");
	assert_text(find(c, topic, "b"), "0:2");
	assert_ok(put(c, topic, ENGINE_ANY, "b"));
	assert_text(find(c, topic, "b"), "ENOENT");
	assert_text(list(c, topic, NULL, 100), "a@0:1 ab@0:3");
	assert_ok(put(c, topic, ENGINE_ANY, "b="));
	assert_text(find(c, topic, "b"), "0:5");
	assert_text(find(c, topic, ""), "ENOENT");
	c->ops->put(topic);
}

/* A tombstone is read as one, with an empty payload, and an empty payload is not one. */
void contract_test_keys_tombstone(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 1);
	struct engine_view view;

	assert_ok(put(c, topic, ENGINE_ANY, "k"));
	assert_ok(put(c, topic, ENGINE_ANY, "k="));
	assert_ok(c->ops->partition_read(topic, 0, 0, 1, &c->scratch, &view));
	cr_assert(view.batch.props[0].tombstone && view.batch.lengths[0] == 0);
	assert_ok(c->ops->partition_read(topic, 0, 1, 1, &c->scratch, &view));
	cr_assert(!view.batch.props[0].tombstone && view.batch.lengths[0] == 0);
	assert_text(find(c, topic, "k"), "0:1");
	c->ops->put(topic);
}

/* What has no key is refused, with nothing taken; a tombstone needs a key everywhere. The setting holds at once. */
void contract_test_keys_refused(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch plain = contract_batch("x\n"), batch = contract_batch("x\ny\n");

	assert_ok(contract_send_batch(c, producer, &plain));
	assert_ok(put(c, topic, ENGINE_ANY, "k=1"));
	assert_text(find(c, topic, "k"), "ENOENT");
	assert_text(list(c, topic, NULL, 100), "");
	assert_ok(contract_set(c, topic, "cleanup.policy", "compact"));
	assert_text(find(c, topic, "k"), "0:1");
	assert_err(contract_send_batch(c, producer, &plain), EINVAL);
	cr_assert_neq(engine_reason()[0], '\0');
	props[0].key = span("k");
	batch.props = props;
	assert_err(contract_send_batch(c, producer, &batch), EINVAL);
	cr_assert_eq(contract_partition(c, topic, 0).end, 2);
	props[1].key = span("k");
	props[1].tombstone = true;
	assert_err(contract_send_batch(c, producer, &batch), EINVAL);
	assert_ok(contract_set(c, topic, "cleanup.policy", "compact,delete"));
	assert_text(find(c, topic, "k"), "0:1");
	assert_err(contract_send_batch(c, producer, &plain), EINVAL);
	assert_ok(contract_set(c, topic, "cleanup.policy", "delete"));
	assert_text(find(c, topic, "k"), "ENOENT");
	assert_ok(contract_send_batch(c, producer, &plain));
	plain.props = props + 1;
	props[1] = ENGINE_PROPS_INIT;
	props[1].tombstone = true;
	plain.data = "\n", plain.len = 1;
	assert_err(contract_send_batch(c, producer, &plain), EINVAL);
	assert_err(contract_set(c, topic, "cleanup.policy", "shrink"), EINVAL);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* Of what a key has in several partitions the latest is its value; what was purged is none. */
void contract_test_keys_partitions(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 3);

	assert_ok(put(c, topic, 0, "k=1"));
	assert_ok(put(c, topic, 2, "k=2"));
	assert_ok(put(c, topic, 1, "l=3"));
	assert_text(find(c, topic, "k"), "2:0");
	assert_text(list(c, topic, NULL, 100), "k@2:0 l@1:0");
	assert_ok(c->ops->partition_purge(topic, 2, ENGINE_OFFSET_NONE));
	assert_text(find(c, topic, "k"), "0:0");
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_text(find(c, topic, "k"), "ENOENT");
	assert_text(list(c, topic, NULL, 100), "");
	assert_ok(put(c, topic, 1, "k=4"));
	assert_text(list(c, topic, NULL, 100), "k@1:1");
	c->ops->put(topic);
}

static bool count_key(void *ctx, const struct engine_key *key)
{
	struct listing *listing = ctx;
	char due[16];

	snprintf(due, sizeof(due), "key-%05zu", listing->used++);
	cr_assert(key->key.len == strlen(due) && memcmp(key->key.ptr, due, key->key.len) == 0, "%.*s instead of %s",
	    (int)key->key.len, key->key.ptr, due);
	return true;
}

/* Produces key-00000 and so on, not in that order, to one partition or to ENGINE_ANY; the time is 1. */
static void put_many(struct contract *c, struct engine_object *topic, uint32_t partition)
{
	struct engine_producer *producer = contract_producer(c, topic, partition);

	for (int i = 0; i < MANY; i += ROUND) {
		struct engine_props props[ROUND];
		char names[ROUND][16], lines[2 * ROUND + 1];
		struct engine_batch batch;

		for (int k = 0; k < ROUND; k++) {
			props[k] = ENGINE_PROPS_INIT;
			snprintf(names[k], sizeof(names[k]), "key-%05d", (i + k) * 7 % MANY);
			props[k].key = span(names[k]);
			memcpy(lines + 2 * k, "v\n", 3);
		}
		batch = contract_batch(lines);
		batch.props = props;
		batch.ts_ms = 1;
		assert_ok(contract_send_batch(c, producer, &batch));
	}
	c->ops->producer_close(producer);
}

/* Very many keys are all listed, in order, each once. */
void contract_test_keys_many(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 2);
	struct listing listing = { c, 0, 0 };

	put_many(c, topic, ENGINE_ANY);
	assert_ok(c->ops->key_list(topic, (struct engine_span){ NULL, 0 }, count_key, &listing));
	cr_assert_eq(listing.used, MANY);
	c->ops->put(topic);
}

/*
 * What is known of a key is the same wherever the engine has it by now: so many keys are not in memory alone. A list goes
 * on after a key that others begin with, and of two messages of one time that in the higher partition is the later.
 */
void contract_test_keys_stored(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 3);
	struct listing listing = { c, 0, 0 };

	assert_ok(put_at(c, topic, 0, 1, "a=1"));
	assert_ok(put_at(c, topic, 2, 1, "b=1"));
	assert_ok(put_at(c, topic, 0, 1, "ab=1"));
	assert_ok(put_at(c, topic, 0, 1, "abc=1"));
	put_many(c, topic, 0);
	assert_ok(c->ops->key_list(topic, span("key"), count_key, &listing));
	cr_assert_eq(listing.used, MANY);
	assert_ok(put_at(c, topic, 1, 1, "a=2"));
	assert_ok(put_at(c, topic, 1, 1, "b=2"));
	assert_text(find(c, topic, "a"), "1:0");
	assert_text(find(c, topic, "b"), "2:0");
	assert_text(list(c, topic, NULL, 4), "a@1:0 ab@0:1 abc@0:2 b@2:0");
	assert_text(list(c, topic, "a", 3), "ab@0:1 abc@0:2 b@2:0");
	assert_text(list(c, topic, "ab", 2), "abc@0:2 b@2:0");
	c->ops->put(topic);
}

/* Within a partition the later message is the later offset, whatever clock its time is of. */
void contract_test_keys_clock(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 2);

	assert_ok(put_at(c, topic, 0, 2000, "k=1"));
	assert_ok(put_at(c, topic, 0, 1000, "k=2"));
	assert_text(find(c, topic, "k"), "0:1");
	assert_ok(put_at(c, topic, 1, 1500, "k=3"));
	assert_text(find(c, topic, "k"), "1:0");
	assert_text(list(c, topic, NULL, 2), "k@1:0");
	c->ops->put(topic);
}

/* Keys have their values again after a restart, those too that came after the index was written. */
void contract_test_reopen_keys(struct contract *c)
{
	struct engine_object *topic = compacted(c, "t", 2);

	for (int i = 0; i < 3; i++) {
		assert_ok(put(c, topic, 0, "a=1"));
		assert_ok(put(c, topic, 0, "b"));
		assert_ok(put(c, topic, 1, "c=1"));
		if (i == 1)
			assert_ok(contract_set(c, topic, "delete.retention.ms", "1000000")); /* has the cleaner look */
		c->ops->put(topic);
		contract_reopen(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	}
	assert_text(list(c, topic, NULL, 100), "a@0:4 c@1:2");
	assert_text(find(c, topic, "b"), "ENOENT");
	c->ops->put(topic);
}
