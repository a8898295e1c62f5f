/* The contract of engines: idempotent producing. The clock is the test's. */
#include "tests/lib/contract_queue.h"

#define MESSAGES 8

/* A batch of messages "ID=PAYLOAD", or "PAYLOAD" without an id. */
struct sent {
	struct engine_batch batch;
	struct engine_props props[MESSAGES];
	char data[256];
};

static void fill(struct sent *sent, const char *words)
{
	const char *p = words;
	size_t used = 0;

	*sent = (struct sent){ .batch = { .ts_ms = -1, .data = sent->data, .props = sent->props } };
	while (*p != '\0') {
		size_t len = strcspn(p, " "), id = strcspn(p, "= ");
		struct engine_props *props = &sent->props[sent->batch.count++];

		*props = ENGINE_PROPS_INIT;
		if (id < len)
			props->id = (struct engine_span){ p, id };
		id = id < len ? id + 1 : 0;
		memcpy(sent->data + used, p + id, len - id);
		used += len - id;
		sent->data[used++] = '\n';
		p += len + strspn(p + len, " ");
	}
	sent->batch.len = used;
}

static int send_to(struct contract *c, struct engine_producer *producer, const char *words)
{
	struct sent sent;

	fill(&sent, words);
	return contract_send_batch(c, producer, &sent.batch);
}

/* A producer of topic t or queue q, made with this window. */
static struct engine_producer *open_topic(struct contract *c, struct engine_object **ret_topic, uint32_t partitions)
{
	*ret_topic = contract_topic(c, "t", partitions);
	assert_ok(contract_set(c, *ret_topic, "dedup.window.ms", "1000"));
	return contract_producer(c, *ret_topic, ENGINE_ANY);
}

static struct engine_producer *open_queue(struct contract *c)
{
	struct engine_object *queue;
	struct engine_producer *producer = NULL;

	if (c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "q", &queue) < 0)
		Q_SCRIPT(c, "queue q", "set q dedup.window.ms 1000 => ok");
	else
		c->ops->put(queue);
	queue = q_object(c, "q");
	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	c->ops->put(queue);
	return producer;
}

/* A topic takes an id once within the window, whoever sends it; messages without ids are not looked at. */
void contract_test_dedup_topic(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *one = open_topic(c, &topic, 1), *two = contract_producer(c, topic, 0);

	assert_ok(send_to(c, one, "x=a"));
	assert_ok(send_to(c, two, "x=b"));
	assert_ok(send_to(c, one, "a a y=c"));
	q_tick(999);
	assert_ok(send_to(c, two, "x=d"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=a 2=a 3=c");
	cr_assert_eq(contract_stat(c, topic).deduplicated, 2);
	cr_assert_eq(contract_stat(c, topic).published_total, 4);
	q_tick(1); /* a repetition does not begin the window anew */
	assert_ok(send_to(c, two, "x=e x=f"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=a 2=a 3=c 4=e");
	c->ops->producer_close(one);
	c->ops->producer_close(two);
	c->ops->put(topic);
}

/* Ids are of the topic and not of a partition, and of one topic only. */
void contract_test_dedup_partitions(struct contract *c)
{
	struct engine_object *topic, *other = contract_topic(c, "other", 1);
	struct engine_producer *any = open_topic(c, &topic, 3), *first = contract_producer(c, topic, 0);
	struct engine_producer *second = contract_producer(c, topic, 1), *away = contract_producer(c, other, 0);

	assert_ok(contract_set(c, other, "dedup.window.ms", "1000"));
	assert_ok(send_to(c, first, "x=a y=b"));
	assert_ok(send_to(c, second, "y=c z=d x=e"));
	assert_ok(send_to(c, away, "x=a"));
	assert_ok(send_to(c, any, "z=f"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	assert_text(contract_read(c, topic, 1, 0), "0=d");
	assert_text(contract_read(c, topic, 2, 0), "");
	assert_text(contract_read(c, other, 0, 0), "0=a");
	c->ops->producer_close(any);
	c->ops->producer_close(first);
	c->ops->producer_close(second);
	c->ops->producer_close(away);
	c->ops->put(other);
	c->ops->put(topic);
}

/* A queue remembers an id though its message was consumed, discarded or purged. */
void contract_test_dedup_queue(struct contract *c)
{
	struct engine_producer *producer = open_queue(c);

	assert_ok(send_to(c, producer, "x=a y=b z=c w=d"));
	Q_SCRIPT(c, "show q => a,b,c,d |  | ", "take q => a", "rm q ready b", "show q => c,d |  | ", "purge q");
	assert_ok(send_to(c, producer, "x=e y=f z=g w=h v=i"));
	Q_SCRIPT(c, "show q => i |  | ", "tick 1000");
	assert_ok(send_to(c, producer, "x=j"));
	Q_SCRIPT(c, "show q => i,j |  | ");
	c->ops->producer_close(producer);
}

/* Within a batch the first of two counts, and payloads with newlines stay what they are when others are left out. */
void contract_test_dedup_batches(struct contract *c)
{
	static const uint32_t lengths[] = { 1, 3, 0, 2 };
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1);
	struct engine_props props[4] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = {
		.data = "a\nb\nc\n\n\nd\n", .len = 10, .count = 4, .lengths = lengths, .ts_ms = -1
	};
	char buf[32] = "";

	batch.props = props;
	props[0].id = props[3].id = (struct engine_span){ "same", 4 };
	props[1].id = (struct engine_span){ "", 0 }; /* an empty one is one, too */
	assert_ok(contract_send_batch(c, producer, &batch));
	cr_assert_eq(contract_partition(c, topic, 0).end, 3);
	assert_ok(contract_send_batch(c, producer, &batch));
	cr_assert_eq(contract_partition(c, topic, 0).end, 4);
	cr_assert_eq(c->ops->partition_pread(topic, 0, 0, buf, sizeof(buf)), 8);
	assert_text(buf, "a\nb\nc\n\n\n");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* What was refused is not remembered: not one id of it. */
void contract_test_dedup_refused(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1), *of_queue = open_queue(c);

	assert_ok(contract_set(c, topic, "max.message.bytes", "3"));
	assert_err(send_to(c, producer, "x=a y=long"), EMSGSIZE);
	assert_ok(send_to(c, producer, "x=a y=b"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	cr_assert_eq(contract_stat(c, topic).deduplicated, 0);
	Q_SCRIPT(c, "set q overflow reject-publish => ok", "set q max.length 1 => ok");
	assert_err(send_to(c, of_queue, "x=a y=b"), EDQUOT);
	assert_ok(send_to(c, of_queue, "x=a"));
	assert_ok(send_to(c, of_queue, "x=b")); /* dropped, so it needs no room */
	Q_SCRIPT(c, "show q => a |  | ", "room q 1 =x => ok", "room q 1 =y => EDQUOT", "set q max.length 2 => ok");
	assert_ok(send_to(c, of_queue, "y=b")); /* nor is one that was only asked about */
	Q_SCRIPT(c, "show q => a,b |  | ");
	c->ops->producer_close(of_queue);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* The setting takes effect at once: 0 looks at no ids, a longer window still knows those of a shorter one. */
void contract_test_dedup_setting(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1);

	assert_ok(send_to(c, producer, "x=a"));
	assert_ok(contract_set(c, topic, "dedup.window.ms", "5000"));
	q_tick(2000);
	assert_ok(send_to(c, producer, "x=b"));
	assert_text(contract_read(c, topic, 0, 0), "0=a");
	assert_ok(contract_set(c, topic, "dedup.window.ms", "1000"));
	assert_ok(send_to(c, producer, "x=c"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=c");
	assert_ok(contract_set(c, topic, "dedup.window.ms", "0"));
	assert_ok(send_to(c, producer, "x=d x=e"));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=c 2=d 3=e");
	assert_err(contract_set(c, topic, "dedup.window.ms", "-1"), ERANGE);
	assert_err(contract_set(c, topic, "dedup.window.ms", "2147483648"), ERANGE);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* ---- several users ---- */

#define FLOOD 1000

/* Sends so many ids of a user, numbered from `from` on, at once. */
static int send_ids(struct contract *c, struct engine_producer *producer, uint32_t uid, unsigned from, unsigned count)
{
	static struct engine_props props[FLOOD];
	static char ids[FLOOD][16], data[FLOOD];
	struct engine_batch batch = {
		.data = data, .len = count, .count = count, .props = props, .cred = { uid, uid, 1 }, .ts_ms = -1
	};

	for (unsigned i = 0; i < count; i++) {
		props[i] = ENGINE_PROPS_INIT;
		props[i].id =
		    (struct engine_span){ ids[i], (size_t)snprintf(ids[i], sizeof(ids[i]), "%u-%u", uid, from + i) };
		data[i] = '\n';
	}
	return contract_send_batch(c, producer, &batch);
}

/* Who floods is refused; another user's ids, and those of the flood, stay known, and another's new ones are taken. */
void contract_test_dedup_users(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1);
	unsigned sent = 0;
	uint64_t end;
	int rc;

	assert_ok(contract_set(c, topic, "dedup.window.ms", "600000"));
	assert_ok(send_ids(c, producer, 2, 0, 10));
	while ((rc = send_ids(c, producer, 1, sent, FLOOD)) == 0)
		sent += FLOOD;
	cr_assert_eq(rc, -EDQUOT);
	cr_assert(sent > 700000 && sent < 900000, "%u", sent);
	end = contract_partition(c, topic, 0).end;
	assert_ok(send_ids(c, producer, 2, 0, 10));
	assert_ok(send_ids(c, producer, 1, 0, FLOOD));
	assert_ok(send_ids(c, producer, 1, sent - FLOOD, FLOOD));
	cr_assert_eq(contract_partition(c, topic, 0).end, end);
	for (unsigned i = 0; i < 100; i++)
		assert_ok(send_ids(c, producer, 2, 10 + i * FLOOD, FLOOD));
	cr_assert_eq(contract_partition(c, topic, 0).end, end + 100000);
	assert_ok(send_ids(c, producer, 2, 0, FLOOD));
	assert_ok(send_ids(c, producer, 0, 0, FLOOD)); /* root's share is all */
	assert_err(send_ids(c, producer, 1, sent, FLOOD), EDQUOT);
	cr_assert_eq(contract_partition(c, topic, 0).end, end + 101000);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* ---- several at once ---- */

#define WRITERS 4
#define ROUNDS 200

struct writer {
	struct contract *c;
	struct engine_object *topic;
	int error;
};

/* All writers send the same ids, in batches that overlap. */
static void *write_all(void *arg)
{
	struct writer *w = arg;
	struct engine_producer *producer = NULL;
	char words[64];

	w->error = w->c->ops->producer_open(w->topic, ENGINE_ANY, (struct engine_span){ NULL, 0 }, &producer);
	for (int i = 0; i < ROUNDS && w->error == 0; i++) {
		struct sent sent;

		snprintf(words, sizeof(words), "i%d=%d i%d=%d i%d=%d", i, i, i + 1, i + 1, i + 2, i + 2);
		fill(&sent, words);
		w->error = w->c->ops->producer_send(producer, &sent.batch, NULL);
	}
	w->c->ops->producer_close(producer);
	return NULL;
}

/* Of many producers that send the same at the same time each message is taken once, in order. */
void contract_test_dedup_parallel(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1);
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];

	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ c, topic, 0 };
		cr_assert_eq(pthread_create(&threads[i], NULL, write_all, &writers[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(writers[i].error, 0);
	}
	cr_assert_eq(contract_partition(c, topic, 0).end, ROUNDS + 2);
	cr_assert_eq(contract_stat(c, topic).deduplicated, WRITERS * ROUNDS * 3 - (ROUNDS + 2));
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* ---- over restarts ---- */

/* What was seen is known after a restart, with the time that is left of its window: in topics and in queues, consumed or not. */
void contract_test_reopen_dedup(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 2), *of_queue = open_queue(c);

	assert_ok(send_to(c, producer, "x=a y=b"));
	assert_ok(send_to(c, of_queue, "x=a y=b"));
	Q_SCRIPT(c, "take q => a");
	c->ops->producer_close(of_queue);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	q_tick(500);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	producer = contract_producer(c, topic, 1);
	of_queue = open_queue(c);
	assert_ok(send_to(c, producer, "x=c z=d y=e"));
	assert_ok(send_to(c, of_queue, "x=c z=d y=e"));
	assert_text(contract_read(c, topic, 1, 0), "0=d");
	Q_SCRIPT(c, "show q => b,d |  | ", "tick 500");
	assert_ok(send_to(c, producer, "x=f z=g"));
	assert_ok(send_to(c, of_queue, "x=f z=g"));
	assert_text(contract_read(c, topic, 1, 0), "0=d 1=f");
	Q_SCRIPT(c, "show q => b,d,f |  | ");
	c->ops->producer_close(of_queue);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* So is what was purged, however often, and whether or not anything is left of the log it was in. */
void contract_test_reopen_dedup_purged(struct contract *c)
{
	struct engine_object *topic;
	struct engine_producer *producer = open_topic(c, &topic, 1);

	for (int i = 0; i < 5; i++) {
		char words[64];

		snprintf(words, sizeof(words), "i%d=a j%d=b", i, i);
		assert_ok(send_to(c, producer, words));
		assert_ok(c->ops->partition_purge(topic, 0, i % 2 == 0 ? ENGINE_OFFSET_NONE : (uint64_t)i * 2 + 1));
		q_tick(100);
	}
	for (int i = 0; i < 2; i++) {
		assert_ok(send_to(c, producer, "i0=a j0=a i1=a j1=a i2=a j2=a i3=a"));
		assert_ok(send_to(c, producer, "j3=a i4=a j4=a"));
		cr_assert_eq(contract_partition(c, topic, 0).end, 10);
		c->ops->producer_close(producer);
		c->ops->put(topic);
		contract_reopen(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		producer = contract_producer(c, topic, 0);
	}
	q_tick(600); /* 1,000 after i1, 900 after i2 */
	assert_ok(send_to(c, producer, "i0=a i1=b i2=c"));
	assert_text(contract_read(c, topic, 0, 10), "10=a 11=b");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}
