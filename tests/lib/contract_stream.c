/* The contract of engines: streams that share partitions, waiting and being woken, and many threads at once. */
#include "tests/lib/contract.h"

struct fixture {
	struct engine_object *topic, *group;
};

static struct fixture make(struct contract *c, uint32_t partitions)
{
	struct fixture f = { .topic = contract_topic(c, "t", partitions) };

	f.group = contract_group(c, f.topic, "g");
	return f;
}

static void put(struct contract *c, struct fixture *f)
{
	c->ops->put(f->group);
	c->ops->put(f->topic);
}

static struct engine_consumer *open_stream(struct contract *c, struct fixture *f, uint32_t partition)
{
	return contract_consumer(c, f->group, partition, ENGINE_CONSUME_STREAM);
}

/* A stream gives all from the stored offset on, each once, as it comes. */
void contract_test_stream(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream;

	contract_send(c, f.topic, 0, "a\nb\n");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 1));
	stream = open_stream(c, &f, ENGINE_ANY);
	assert_text(contract_fetch(c, stream), "0:1=b");
	assert_text(contract_fetch(c, stream), "");
	contract_send(c, f.topic, 0, "c\nd\n");
	assert_text(contract_fetch_some(c, stream, 1), "0:2=c");
	assert_text(contract_fetch(c, stream), "0:3=d");
	assert_text(contract_cursor(c, f.group, 0), "1 4 0");
	assert_ok(c->ops->ack(f.group, 0, 2));
	assert_text(contract_fetch(c, stream), ""); /* an ack takes nothing back */
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* What a stream was given can be acknowledged while it is open, and after it as long as no other came; the rest comes again. */
void contract_test_stream_then_ack(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);

	contract_send(c, f.topic, 0, "a\nb\nc\n");
	assert_text(contract_fetch_some(c, stream, 2), "0:0=a 0:1=b");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_fetch(c, stream), "0:2=c");
	c->ops->consumer_close(stream);
	stream = open_stream(c, &f, ENGINE_ANY);
	assert_text(contract_fetch(c, stream), "0:2=c");
	c->ops->consumer_close(stream);
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_cursor(c, f.group, 0), "3 3 0");
	put(c, &f);
}

/* While a stream is open, ONE and SNAPSHOT are EBUSY; afterwards they are not. */
void contract_test_stream_excludes(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *one = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_ONE), *none = NULL;
	struct engine_consumer *stream = open_stream(c, &f, 0); /* others being open is no obstacle to a stream */

	assert_err(c->ops->consumer_open(f.group, ENGINE_ANY, ENGINE_CONSUME_ONE, &none), EBUSY);
	assert_err(c->ops->consumer_open(f.group, 1, ENGINE_CONSUME_SNAPSHOT, &none), EBUSY);
	cr_assert_null(none);
	c->ops->consumer_close(one);
	c->ops->consumer_close(stream);
	contract_send(c, f.topic, 1, "a\n");
	assert_text(contract_one(c, f.group), "1:0=a");
	put(c, &f);
}

/* Two streams have each message of the group once between them, and neither has a partition of the other's. */
void contract_test_streams_share(struct contract *c)
{
	struct fixture f = make(c, 4);
	struct engine_consumer *one = open_stream(c, &f, ENGINE_ANY), *two = open_stream(c, &f, ENGINE_ANY);

	for (uint32_t p = 0; p < 4; p++)
		contract_send(c, f.topic, p, "a\nb\n");
	cr_assert_eq(strlen(contract_fetch(c, one)), strlen("0:0=a 0:1=b 2:0=a 2:1=b"));
	cr_assert_eq(strlen(contract_fetch(c, two)), strlen("0:0=a 0:1=b 2:0=a 2:1=b"));
	for (uint32_t p = 0; p < 4; p++)
		assert_text(contract_cursor(c, f.group, p), "0 2 0");
	cr_assert_eq(contract_stat(c, f.group).delivered_total, 8);
	assert_text(contract_fetch(c, one), "");
	assert_text(contract_fetch(c, two), "");
	c->ops->consumer_close(one);
	c->ops->consumer_close(two);
	put(c, &f);
}

/*
 * When a stream comes, partitions change hands: who gets one starts at its stored offset, and what the one before had
 * been given is taken back. When it goes, the others get its partitions. Who keeps a partition keeps its place in it.
 */
void contract_test_streams_rebalance(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *one = open_stream(c, &f, ENGINE_ANY), *two;

	contract_send(c, f.topic, 0, "a\nb\n");
	contract_send(c, f.topic, 1, "x\ny\n");
	cr_assert_eq(strlen(contract_fetch(c, one)), strlen("0:0=a 0:1=b 1:0=x 1:1=y"));
	assert_ok(c->ops->ack(f.group, 1, 0));
	two = open_stream(c, &f, ENGINE_ANY);
	assert_text(contract_cursor(c, f.group, 0), "0 2 0");
	assert_text(contract_cursor(c, f.group, 1), "1 1 0");
	assert_err(c->ops->ack(f.group, 1, 1), ERANGE);
	assert_text(contract_fetch(c, one), "");
	assert_text(contract_fetch(c, two), "1:1=y");
	c->ops->consumer_close(two);
	contract_send(c, f.topic, 0, "c\n");
	assert_text(contract_fetch_some(c, one, 2), "0:2=c 1:1=y");
	c->ops->consumer_close(one);
	put(c, &f);
}

/* A stream of one partition has it to itself; those of all partitions share the rest. */
void contract_test_stream_of_partition(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *all = open_stream(c, &f, ENGINE_ANY), *second = open_stream(c, &f, 1);

	contract_send(c, f.topic, 0, "a\n");
	contract_send(c, f.topic, 1, "b\n");
	assert_text(contract_fetch(c, all), "0:0=a");
	assert_text(contract_fetch(c, second), "1:0=b");
	c->ops->consumer_close(second);
	assert_text(contract_fetch(c, all), "1:0=b");
	c->ops->consumer_close(all);
	put(c, &f);
}

/* A seek moves an open stream as well, back and forth. */
void contract_test_stream_after_seek(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);

	contract_send(c, f.topic, 0, "a\nb\nc\nd\n");
	assert_text(contract_fetch_some(c, stream, 2), "0:0=a 0:1=b");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_text(contract_fetch_some(c, stream, 1), "0:1=b");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 3));
	assert_text(contract_fetch(c, stream), "0:3=d");
	assert_ok(c->ops->seek(f.group, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0));
	assert_text(contract_fetch(c, stream), "0:0=a 0:1=b 0:2=c 0:3=d");
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* A partition that is added is given to a stream that is open. */
void contract_test_stream_after_growth(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);

	contract_send(c, f.topic, 0, "a\n");
	assert_text(contract_fetch(c, stream), "0:0=a");
	assert_ok(contract_set(c, f.topic, "partitions", "3"));
	contract_send(c, f.topic, 2, "b\n");
	assert_text(contract_fetch(c, stream), "2:0=b");
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* ---- waiting ---- */

/* Arms a waiter for consumer, there being nothing to fetch. */
static void arm(struct contract *c, struct engine_consumer *consumer, struct contract_waiter *waiter)
{
	contract_waiter_init(waiter);
	cr_assert_eq(c->ops->consumer_arm(consumer, &waiter->waiter), 0);
}

/* Producing wakes every waiter once, those of ONE and STREAM, of one partition and of all, and of every group. */
void contract_test_wake_on_produce(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_object *other = contract_group(c, f.topic, "other");
	struct engine_consumer *consumers[3] = { contract_consumer(c, other, ENGINE_ANY, ENGINE_CONSUME_ONE),
		contract_consumer(c, other, 1, ENGINE_CONSUME_ONE), open_stream(c, &f, ENGINE_ANY) };
	struct contract_waiter waiters[4];

	for (int i = 0; i < 3; i++)
		arm(c, consumers[i], &waiters[i]);
	arm(c, consumers[2], &waiters[3]); /* a second one for the same consumer */
	contract_send(c, f.topic, 1, "a\n");
	for (int i = 0; i < 4; i++) {
		contract_waiter_wait(&waiters[i]);
		cr_assert_not(c->ops->consumer_disarm(consumers[i < 3 ? i : 2], &waiters[i].waiter), "it is too late");
	}
	contract_send(c, f.topic, 1, "b\n");
	assert_text(contract_fetch(c, consumers[0]), "1:0=a");
	assert_text(contract_fetch(c, consumers[1]), "1:0=a");
	assert_text(contract_fetch(c, consumers[2]), "1:0=a 1:1=b");
	for (int i = 0; i < 4; i++)
		cr_assert_eq(waiters[i].woken, 1);
	for (int i = 0; i < 3; i++)
		c->ops->consumer_close(consumers[i]);
	c->ops->put(other);
	put(c, &f);
}

/* A seek back wakes who waits at the end. */
void contract_test_wake_on_seek(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);
	struct contract_waiter waiter;

	contract_send(c, f.topic, 0, "a\n");
	assert_text(contract_fetch(c, stream), "0:0=a");
	arm(c, stream, &waiter);
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_EARLIEST, 0));
	contract_waiter_wait(&waiter);
	assert_text(contract_fetch(c, stream), "0:0=a");
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* Removing a group, or its topic, wakes who waits in it; the fetch then says EIDRM. */
void contract_test_wake_on_remove(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_object *other = contract_group(c, f.topic, "other");
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);
	struct engine_consumer *one = contract_consumer(c, other, 0, ENGINE_CONSUME_ONE);
	struct contract_waiter first, second;
	struct engine_view view;

	arm(c, stream, &first);
	arm(c, one, &second);
	assert_ok(c->ops->remove(f.group));
	contract_waiter_wait(&first);
	assert_err(c->ops->consumer_fetch(stream, 1, 100, &c->scratch, &view), EIDRM);
	assert_ok(c->ops->remove(f.topic));
	contract_waiter_wait(&second);
	assert_err(c->ops->consumer_fetch(one, 1, 100, &c->scratch, &view), EIDRM);
	c->ops->consumer_close(stream);
	c->ops->consumer_close(one);
	c->ops->put(other);
	put(c, &f);
}

/* A stream that gets another's partitions when that closes is woken for what is in them. */
void contract_test_wake_on_rebalance(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *one = open_stream(c, &f, ENGINE_ANY), *two = open_stream(c, &f, ENGINE_ANY);
	struct contract_waiter waiter;

	contract_send(c, f.topic, 1, "a\n");
	assert_text(contract_fetch(c, two), "1:0=a");
	arm(c, one, &waiter);
	c->ops->consumer_close(two);
	contract_waiter_wait(&waiter);
	assert_text(contract_fetch(c, one), "1:0=a");
	c->ops->consumer_close(one);
	put(c, &f);
}

/* There is nothing to wait for when something is there: arm answers 1, and the waiter is not armed. */
void contract_test_arm_when_there_is_something(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);
	struct contract_waiter waiter;

	contract_waiter_init(&waiter);
	contract_send(c, f.topic, 0, "a\n");
	cr_assert_eq(c->ops->consumer_arm(stream, &waiter.waiter), 1);
	contract_send(c, f.topic, 0, "b\n");
	cr_assert_not(contract_waiter_woken(&waiter));
	assert_text(contract_fetch(c, stream), "0:0=a 0:1=b");
	cr_assert_eq(c->ops->consumer_arm(stream, &waiter.waiter), 0);
	cr_assert(c->ops->consumer_disarm(stream, &waiter.waiter));
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* A disarmed waiter is not woken, while those beside it are, in whichever order they were disarmed; it can be armed again. */
void contract_test_disarm(struct contract *c)
{
	static const unsigned orders[][2] = { { 0, 1 }, { 0, 2 }, { 1, 0 }, { 1, 2 }, { 2, 0 }, { 2, 1 } };
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct contract_waiter waiters[3];

		for (int w = 0; w < 3; w++)
			arm(c, stream, &waiters[w]);
		for (int d = 0; d < 2; d++)
			cr_assert(c->ops->consumer_disarm(stream, &waiters[orders[i][d]].waiter));
		if (i % 2 == 0) /* once more, from the other side */
			cr_assert_eq(c->ops->consumer_arm(stream, &waiters[orders[i][1]].waiter), 0);
		contract_send(c, f.topic, 0, "a\n");
		for (unsigned w = 0; w < 3; w++) {
			bool armed = w != orders[i][0] && (w != orders[i][1] || i % 2 == 0);

			if (armed)
				contract_waiter_wait(&waiters[w]);
			cr_assert_eq(contract_waiter_woken(&waiters[w]), armed);
		}
		cr_assert_str_not_empty(contract_fetch(c, stream));
	}
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* ---- threads: nothing in them asserts, they count what went wrong ---- */

struct racer {
	struct contract *c;
	struct engine_object *topic;
	unsigned rounds, failed;
};

static void *produce_singly(void *arg)
{
	struct racer *racer = arg;
	struct engine_producer *producer = NULL;
	struct engine_batch batch = { .data = "a\n", .len = 2, .count = 1, .ts_ms = -1 };

	if (racer->c->ops->producer_open(racer->topic, 0, (struct engine_span){ NULL, 0 }, &producer) != 0) {
		racer->failed++;
		return NULL;
	}
	for (unsigned i = 0; i < racer->rounds; i++)
		racer->failed += contract_send_batch(racer->c, producer, &batch) != 0;
	racer->c->ops->producer_close(producer);
	return NULL;
}

/* However disarming and waking meet, exactly one of them happens: a waiter is disarmed or it is woken. */
void contract_test_disarm_race(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream = open_stream(c, &f, ENGINE_ANY);
	struct racer racer = { c, f.topic, 2000, 0 };
	unsigned disarmed = 0, woken = 0;
	struct engine_view view;
	uint64_t seen = 0;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, produce_singly, &racer), 0);
	while (seen < racer.rounds) {
		struct contract_waiter waiter;
		int rc;

		while ((rc = c->ops->consumer_fetch(stream, 3, SIZE_MAX, &c->scratch, &view)) == 1)
			seen += view.batch.count;
		cr_assert_eq(rc, 0);
		contract_waiter_init(&waiter);
		if (seen == racer.rounds || c->ops->consumer_arm(stream, &waiter.waiter) != 0)
			continue;
		if ((disarmed + woken) % 2 == 0 && c->ops->consumer_disarm(stream, &waiter.waiter)) {
			cr_assert_not(contract_waiter_woken(&waiter));
			disarmed++;
		} else {
			contract_waiter_wait(&waiter);
			woken++;
		}
	}
	pthread_join(thread, NULL);
	cr_assert_eq(racer.failed, 0);
	cr_assert_eq(seen, racer.rounds);
	c->ops->consumer_close(stream);
	put(c, &f);
}

#define PRODUCERS 4
#define CONSUMERS 2
#define PARTITIONS 3
#define PER_PRODUCER 2000

struct party {
	struct contract *c;
	struct engine_object *topic, *group;
	pthread_mutex_t lock;
	unsigned char times[PRODUCERS][PER_PRODUCER]; /* how often each message was given; lock */
	int last[PARTITIONS][PRODUCERS];              /* last number given per partition and producer; lock */
	unsigned given, wrong;                        /* lock */
};

struct worker {
	struct party *party;
	unsigned number;
	pthread_t thread;
	struct engine_consumer *stream;
};

static void count_wrong(struct party *party, unsigned wrong)
{
	pthread_mutex_lock(&party->lock);
	party->wrong += wrong;
	pthread_mutex_unlock(&party->lock);
}

static void *produce_numbered(void *arg)
{
	struct worker *worker = arg;
	struct party *party = worker->party;
	struct engine_producer *producer = NULL;
	unsigned wrong = 0;
	char lines[512];

	if (party->c->ops->producer_open(party->topic, ENGINE_ANY, (struct engine_span){ NULL, 0 }, &producer) != 0) {
		count_wrong(party, 1);
		return NULL;
	}
	for (unsigned i = 0; i < PER_PRODUCER;) {
		struct engine_batch batch = { .data = lines, .ts_ms = -1 };

		for (unsigned size = i % 7 + 1; batch.count < size && i < PER_PRODUCER; batch.count++, i++)
			batch.len += (size_t)snprintf(
			    lines + batch.len, sizeof(lines) - batch.len, "%u %u\n", worker->number, i);
		wrong += contract_send_batch(party->c, producer, &batch) != 0;
	}
	party->c->ops->producer_close(producer);
	count_wrong(party, wrong);
	return NULL;
}

static void note_message(struct party *party, uint32_t partition, const char *line)
{
	unsigned producer = PRODUCERS, number = PER_PRODUCER;

	if (sscanf(line, "%u %u\n", &producer, &number) != 2 || producer >= PRODUCERS || number >= PER_PRODUCER) {
		party->wrong++;
		return;
	}
	party->wrong += party->times[producer][number]++ > 0;
	party->wrong += party->last[partition][producer] >= (int)number;
	party->last[partition][producer] = (int)number;
	party->given++;
}

static bool note_view(struct party *party, const struct engine_view *view)
{
	const char *line = view->batch.data;
	bool done;

	pthread_mutex_lock(&party->lock);
	for (uint32_t i = 0; i < view->batch.count; i++, line = strchr(line, '\n') + 1)
		note_message(party, view->partition, line);
	done = party->given >= PRODUCERS * PER_PRODUCER;
	pthread_mutex_unlock(&party->lock);
	return done;
}

/* Reads until all messages were given to somebody, then removes the group, which wakes whoever else waits. */
static void *consume(void *arg)
{
	struct worker *worker = arg;
	struct party *party = worker->party;
	const struct engine_ops *ops = party->c->ops;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int rc;

	for (;;) {
		struct contract_waiter waiter;

		rc = ops->consumer_fetch(worker->stream, 10, SIZE_MAX, &scratch, &view);
		if (rc == 1 && note_view(party, &view)) {
			count_wrong(party, ops->ack_all(party->group, ENGINE_ANY) != 0);
			count_wrong(party, ops->remove(party->group) != 0);
		}
		if (rc == 1)
			continue;
		contract_waiter_init(&waiter);
		if (rc == 0)
			rc = ops->consumer_arm(worker->stream, &waiter.waiter);
		if (rc < 0)
			break;
		if (rc == 0 && !contract_waiter_comes(&waiter)) {
			ops->consumer_disarm(worker->stream, &waiter.waiter);
			break;
		}
	}
	count_wrong(party, rc != -EIDRM);
	engine_scratch_release(&scratch);
	return NULL;
}

/* Four producers and two streams at once: nothing is lost, doubled, or out of a producer's order in its partition. */
void contract_test_in_parallel(struct contract *c)
{
	struct fixture f = make(c, PARTITIONS);
	struct worker workers[PRODUCERS + CONSUMERS];
	struct party *party = calloc(1, sizeof(*party));

	cr_assert_not_null(party);
	party->c = c;
	party->topic = f.topic;
	party->group = f.group;
	pthread_mutex_init(&party->lock, NULL);
	memset(party->last, -1, sizeof(party->last));
	assert_ok(contract_set(c, f.topic, "linger.ms", "0"));
	for (unsigned i = 0; i < PRODUCERS + CONSUMERS; i++) {
		workers[i] = (struct worker){ .party = party, .number = i };
		if (i >= PRODUCERS)
			workers[i].stream = open_stream(c, &f, ENGINE_ANY);
	}
	for (unsigned i = 0; i < PRODUCERS + CONSUMERS; i++)
		cr_assert_eq(
		    pthread_create(&workers[i].thread, NULL, i < PRODUCERS ? produce_numbered : consume, &workers[i]),
		    0);
	for (unsigned i = 0; i < PRODUCERS + CONSUMERS; i++)
		pthread_join(workers[i].thread, NULL);
	cr_assert_eq(party->wrong, 0, "%u things went wrong", party->wrong);
	cr_assert_eq(party->given, PRODUCERS * PER_PRODUCER);
	cr_assert_eq(contract_stat(c, f.topic).messages, PRODUCERS * PER_PRODUCER);
	for (unsigned i = PRODUCERS; i < PRODUCERS + CONSUMERS; i++)
		c->ops->consumer_close(workers[i].stream);
	free(party);
	put(c, &f);
}
