/* The contract of engines: groups that read and acknowledge. */
#include "tests/lib/contract.h"

#include <time.h>

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

/* ONE gives one message and then nothing ever; the same message again until it is acknowledged. */
void contract_test_one_repeats(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *one;

	assert_text(contract_one(c, f.group), "");
	contract_send(c, f.topic, 0, "a\nb\n");
	assert_text(contract_one(c, f.group), "0:0=a");
	assert_text(contract_one(c, f.group), "0:0=a");
	assert_text(contract_cursor(c, f.group, 0), "0 1 0");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_one(c, f.group), "0:1=b");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	one = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_ONE);
	assert_text(contract_fetch(c, one), "");
	contract_send(c, f.topic, 0, "c\nd\n");
	assert_text(contract_fetch(c, one), "0:2=c"); /* nothing before was not for ever: it had given none */
	assert_text(contract_fetch(c, one), "");
	c->ops->consumer_close(one);
	c->ops->consumer_close(NULL);
	put(c, &f);
}

/* With several partitions, reading and acknowledging one by one reaches all of them, and each in its order. */
void contract_test_one_takes_turns(struct contract *c)
{
	struct fixture f = make(c, 3);
	uint64_t next[3] = { 0 };

	contract_send(c, f.topic, 0, "a\nb\n");
	contract_send(c, f.topic, 1, "c\n");
	contract_send(c, f.topic, 2, "d\ne\nf\n");
	for (int i = 0; i < 6; i++) {
		char first[64];
		unsigned partition = 9;
		uint64_t offset = 99;

		snprintf(first, sizeof(first), "%s", contract_one(c, f.group));
		assert_text(contract_one(c, f.group), first);
		cr_assert_eq(sscanf(first, "%u:%" SCNu64 "=", &partition, &offset), 2, "%s", first);
		cr_assert_lt(partition, 3);
		cr_assert_eq(offset, next[partition]);
		next[partition]++;
		assert_ok(c->ops->ack(f.group, partition, offset));
		cr_assert(i != 2 || (next[0] > 0 && next[1] > 0 && next[2] > 0), "three turns, three partitions");
	}
	assert_text(contract_one(c, f.group), "");
	put(c, &f);
}

/* A consumer of one partition sees that partition. */
void contract_test_one_of_partition(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *one = contract_consumer(c, f.group, 1, ENGINE_CONSUME_ONE);

	contract_send(c, f.topic, 0, "a\n");
	assert_text(contract_fetch(c, one), "");
	contract_send(c, f.topic, 1, "b\n");
	assert_text(contract_fetch(c, one), "1:0=b");
	assert_ok(c->ops->ack_all(f.group, 0));
	assert_text(contract_cursor(c, f.group, 1), "0 1 0");
	assert_ok(c->ops->ack_all(f.group, 1));
	assert_text(contract_cursor(c, f.group, 1), "1 1 0");
	c->ops->consumer_close(one);
	put(c, &f);
}

/* SNAPSHOT gives what was there when it was opened, whatever comes or is acknowledged meanwhile; then nothing ever. */
void contract_test_snapshot(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *snapshot;

	assert_text(contract_snapshot(c, f.group), "");
	contract_send(c, f.topic, 0, "a\nb\n");
	contract_send(c, f.topic, 1, "c\n");
	snapshot = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	contract_send(c, f.topic, 0, "late\n");
	assert_text(contract_fetch_some(c, snapshot, 1), "0:0=a");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_fetch(c, snapshot), "0:1=b 1:0=c");
	contract_send(c, f.topic, 1, "late\n");
	assert_text(contract_fetch(c, snapshot), "");
	c->ops->consumer_close(snapshot);
	assert_text(contract_cursor(c, f.group, 0), "1 2 0");
	assert_text(contract_cursor(c, f.group, 1), "0 1 0");
	put(c, &f);
}

/* A snapshot starts over at its first message, though that may be acknowledged by then. */
void contract_test_snapshot_rewinds(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *snapshot;

	contract_send(c, f.topic, 0, "a\nb\nc\n");
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 0:2=c");
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 0:2=c");
	snapshot = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	assert_text(contract_fetch_some(c, snapshot, 2), "0:0=a 0:1=b");
	assert_ok(c->ops->consumer_rewind(snapshot));
	assert_text(contract_fetch(c, snapshot), "0:0=a 0:1=b 0:2=c");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	contract_send(c, f.topic, 0, "d\n");
	assert_ok(c->ops->consumer_rewind(snapshot));
	assert_text(contract_fetch(c, snapshot), "0:0=a 0:1=b 0:2=c");
	assert_text(contract_cursor(c, f.group, 0), "3 3 0");
	c->ops->consumer_close(snapshot);
	put(c, &f);
}

/* max.poll.records bounds a snapshot over all its partitions; 0 does not. */
void contract_test_snapshot_is_limited(struct contract *c)
{
	struct fixture f = make(c, 2);

	contract_send(c, f.topic, 0, "a\nb\n");
	contract_send(c, f.topic, 1, "c\nd\n");
	assert_ok(contract_set(c, f.group, "max.poll.records", "3"));
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 1:0=c");
	assert_ok(contract_set(c, f.group, "max.poll.records", "1"));
	assert_text(contract_snapshot(c, f.group), "0:0=a");
	assert_ok(contract_set(c, f.group, "max.poll.records", "0"));
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 1:0=c 1:1=d");
	put(c, &f);
}

/* A snapshot of one partition has no other's messages. */
void contract_test_snapshot_of_partition(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *snapshot;

	contract_send(c, f.topic, 0, "a\n");
	contract_send(c, f.topic, 1, "b\nc\n");
	snapshot = contract_consumer(c, f.group, 1, ENGINE_CONSUME_SNAPSHOT);
	assert_text(contract_fetch(c, snapshot), "1:0=b 1:1=c");
	c->ops->consumer_close(snapshot);
	assert_text(contract_cursor(c, f.group, 0), "0 0 0");
	put(c, &f);
}

/* Snapshots that are limited, each acknowledged, reach every partition though one has more than they take. */
void contract_test_snapshots_take_turns(struct contract *c)
{
	struct fixture f = make(c, 3);

	for (uint32_t p = 0; p < 3; p++)
		contract_send(c, f.topic, p, "a\nb\nc\nd\n");
	assert_ok(contract_set(c, f.group, "max.poll.records", "2"));
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(strlen(contract_snapshot(c, f.group)), strlen("0:0=a 0:1=b"));
		assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	}
	for (uint32_t p = 0; p < 3; p++)
		assert_text(contract_cursor(c, f.group, p), "2 2 0");
	put(c, &f);
}

/* A fetch keeps to max_count and max_bytes, but gives one message even if that is larger. */
void contract_test_fetch_limits(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *stream;
	struct engine_view view;
	uint32_t seen = 0;

	contract_send(c, f.topic, 0, "aaaa\nb\nccc\ndddddddd\ne\nf\n");
	stream = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	while (c->ops->consumer_fetch(stream, 2, 6, &c->scratch, &view) == 1) {
		cr_assert_eq(view.offset, seen);
		cr_assert_leq(view.batch.count, 2);
		cr_assert(view.batch.count == 1 || view.batch.len <= 6);
		seen += view.batch.count;
	}
	cr_assert_eq(seen, 6);
	cr_assert_eq(contract_stat(c, f.group).delivered_total, 6);
	c->ops->consumer_close(stream);
	put(c, &f);
}

/* ack_all commits what was given, in one partition or in all, no more, and is no error when there is nothing. */
void contract_test_ack_all(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *snapshot;

	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	contract_send(c, f.topic, 0, "a\nb\nc\n");
	contract_send(c, f.topic, 1, "d\n");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_cursor(c, f.group, 0), "0 0 0");
	snapshot = contract_consumer(c, f.group, 0, ENGINE_CONSUME_SNAPSHOT);
	assert_text(contract_fetch_some(c, snapshot, 2), "0:0=a 0:1=b");
	c->ops->consumer_close(snapshot);
	assert_ok(c->ops->ack_all(f.group, 1));
	assert_text(contract_cursor(c, f.group, 0), "0 2 0");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_cursor(c, f.group, 0), "2 2 0");
	assert_text(contract_cursor(c, f.group, 1), "0 0 0");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	cr_assert_eq(contract_stat(c, f.group).acked_total, 2);
	put(c, &f);
}

/* An ack of one message is an ack of all before it in its partition. */
void contract_test_ack_offset(struct contract *c)
{
	struct fixture f = make(c, 2);

	contract_send(c, f.topic, 0, "a\nb\nc\nd\n");
	contract_send(c, f.topic, 1, "x\n");
	contract_snapshot(c, f.group);
	assert_ok(c->ops->ack(f.group, 0, 1));
	assert_text(contract_cursor(c, f.group, 0), "2 4 0");
	assert_text(contract_cursor(c, f.group, 1), "0 1 0");
	assert_ok(c->ops->ack(f.group, 0, 2));
	assert_ok(c->ops->ack(f.group, 0, 3));
	assert_text(contract_cursor(c, f.group, 0), "4 4 0");
	cr_assert_eq(contract_stat(c, f.group).acked_total, 4);
	put(c, &f);
}

/* Below the stored offset: EALREADY; never given: ERANGE; no such partition: ENOENT. Each says why and moves nothing. */
void contract_test_ack_errors(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *snapshot;

	contract_send(c, f.topic, 0, "a\nb\nc\n");
	assert_err(c->ops->ack(f.group, 0, 0), ERANGE);
	snapshot = contract_consumer(c, f.group, 0, ENGINE_CONSUME_SNAPSHOT);
	contract_fetch_some(c, snapshot, 2);
	c->ops->consumer_close(snapshot);
	assert_ok(c->ops->ack(f.group, 0, 0));
	assert_err(c->ops->ack(f.group, 0, 0), EALREADY);
	cr_assert_str_not_empty(engine_reason());
	assert_err(c->ops->ack(f.group, 0, 2), ERANGE);
	cr_assert_str_not_empty(engine_reason());
	assert_err(c->ops->ack(f.group, 0, 1000), ERANGE);
	assert_err(c->ops->ack(f.group, 0, UINT64_MAX), ERANGE);
	assert_err(c->ops->ack(f.group, 1, 0), ENOENT);
	assert_err(c->ops->ack_all(f.group, 1), ENOENT);
	assert_text(contract_cursor(c, f.group, 0), "1 2 0");
	put(c, &f);
}

/* A cursor goes to an offset, to either end, to a time, or by a distance; back as well as forth. */
void contract_test_seek(struct contract *c)
{
	struct fixture f = make(c, 2);

	assert_ok(contract_set(c, f.topic, "retention.ms", "-1"));
	contract_send_at(c, f.topic, 0, 1000, "a\nb\n");
	contract_send_at(c, f.topic, 0, 2000, "c\nd\n");
	contract_send_at(c, f.topic, 1, 2000, "x\n");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 3));
	assert_text(contract_snapshot(c, f.group), "0:3=d 1:0=x");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 4));
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, -2));
	assert_text(contract_snapshot(c, f.group), "0:2=c 0:3=d 1:0=x");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, 1));
	assert_text(contract_cursor(c, f.group, 0), "3 3 0");
	assert_ok(c->ops->seek(f.group, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0));
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 0:2=c 0:3=d 1:0=x");
	assert_ok(c->ops->seek(f.group, ENGINE_ANY, ENGINE_SEEK_LATEST, 0));
	assert_text(contract_snapshot(c, f.group), "");
	assert_ok(c->ops->seek(f.group, ENGINE_ANY, ENGINE_SEEK_TIME, 1500));
	assert_text(contract_snapshot(c, f.group), "0:2=c 0:3=d 1:0=x");
	assert_ok(c->ops->seek(f.group, 1, ENGINE_SEEK_TIME, 2001));
	assert_text(contract_cursor(c, f.group, 1), "1 1 0");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_EARLIEST, 0));
	assert_text(contract_cursor(c, f.group, 0), "0 0 0");
	assert_text(contract_cursor(c, f.group, 1), "1 1 0");
	put(c, &f);
}

/* Out of earliest..end is ERANGE, however far out; no such partition ENOENT; the cursor stays. */
void contract_test_seek_errors(struct contract *c)
{
	struct fixture f = make(c, 1);

	contract_send(c, f.topic, 0, "a\nb\nc\nd\n");
	assert_ok(c->ops->partition_purge(f.topic, 0, 1));
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 2));
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 0), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 5), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, -1), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, INT64_MAX), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, -2), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, 3), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, INT64_MAX), ERANGE);
	assert_err(c->ops->seek(f.group, 0, ENGINE_SEEK_RELATIVE, INT64_MIN), ERANGE);
	assert_err(c->ops->seek(f.group, 1, ENGINE_SEEK_EARLIEST, 0), ENOENT);
	assert_text(contract_cursor(c, f.group, 0), "2 2 0");
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 4));
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 1));
	put(c, &f);
}

/* A seek takes back what was given: it can no longer be acknowledged. */
void contract_test_seek_takes_back(struct contract *c)
{
	struct fixture f = make(c, 1);

	contract_send(c, f.topic, 0, "a\nb\nc\n");
	contract_snapshot(c, f.group);
	assert_ok(c->ops->seek(f.group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_text(contract_cursor(c, f.group, 0), "1 1 0");
	assert_err(c->ops->ack(f.group, 0, 2), ERANGE);
	assert_err(c->ops->ack(f.group, 0, 0), EALREADY);
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_snapshot(c, f.group), "0:1=b 0:2=c");
	put(c, &f);
}

/* Under auto.commit a fetch commits what it gives, and nothing else. */
void contract_test_auto_commit(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_consumer *snapshot;

	contract_send(c, f.topic, 0, "a\nb\nc\nd\n");
	assert_ok(contract_set(c, f.group, "auto.commit", "true"));
	assert_text(contract_one(c, f.group), "0:0=a");
	assert_text(contract_cursor(c, f.group, 0), "1 1 0");
	assert_text(contract_one(c, f.group), "0:1=b");
	snapshot = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	assert_text(contract_cursor(c, f.group, 0), "2 2 0");
	assert_text(contract_fetch_some(c, snapshot, 1), "0:2=c");
	assert_text(contract_cursor(c, f.group, 0), "3 3 0");
	assert_ok(c->ops->consumer_rewind(snapshot));
	assert_text(contract_fetch(c, snapshot), "0:2=c 0:3=d");
	assert_text(contract_cursor(c, f.group, 0), "4 4 0");
	c->ops->consumer_close(snapshot);
	assert_ok(contract_set(c, f.group, "auto.commit", "false"));
	contract_send(c, f.topic, 0, "e\n");
	assert_text(contract_one(c, f.group), "0:4=e");
	assert_text(contract_one(c, f.group), "0:4=e");
	put(c, &f);
}

/* A group starts where auto.offset.reset says, also when that is set before the group was given anything. */
void contract_test_reset_latest(struct contract *c)
{
	struct fixture f = make(c, 2);

	contract_send(c, f.topic, 0, "a\nb\n");
	contract_send(c, f.topic, 1, "c\n");
	assert_ok(contract_set(c, f.group, "auto.offset.reset", "latest"));
	assert_text(contract_cursor(c, f.group, 0), "2 2 0");
	assert_text(contract_snapshot(c, f.group), "");
	assert_ok(contract_set(c, f.group, "auto.offset.reset", "earliest"));
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b 1:0=c");
	put(c, &f);
}

/* A group that was given, or has committed, something stays where it is. */
void contract_test_reset_of_used_group(struct contract *c)
{
	struct fixture f = make(c, 1);

	contract_send(c, f.topic, 0, "a\nb\n");
	assert_text(contract_one(c, f.group), "0:0=a");
	assert_ok(contract_set(c, f.group, "auto.offset.reset", "latest"));
	assert_text(contract_cursor(c, f.group, 0), "0 1 0");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_ok(contract_set(c, f.group, "auto.offset.reset", "earliest"));
	assert_text(contract_cursor(c, f.group, 0), "1 1 0");
	put(c, &f);
}

/* A group that a purge overtakes goes on at the earliest message; one that is ahead stays. */
void contract_test_purge_moves_cursors(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_object *ahead = contract_group(c, f.topic, "ahead");
	struct engine_cursor_stat stat;

	contract_send(c, f.topic, 0, "a\nb\nc\nd\n");
	assert_ok(c->ops->seek(ahead, 0, ENGINE_SEEK_OFFSET, 3));
	assert_text(contract_one(c, f.group), "0:0=a");
	assert_ok(c->ops->partition_purge(f.topic, 0, 2));
	assert_ok(c->ops->cursor_stat(f.group, 0, &stat));
	cr_assert(stat.committed == 2 && stat.given == 2 && stat.earliest == 2 && stat.end == 4);
	assert_text(contract_cursor(c, ahead, 0), "3 3 0");
	assert_err(c->ops->ack(f.group, 0, 0), EALREADY);
	assert_text(contract_snapshot(c, f.group), "0:2=c 0:3=d");
	c->ops->put(ahead);
	put(c, &f);
}

/* Stat of a group: its lag, what it was given and has acknowledged, and who reads. */
void contract_test_group_numbers(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *consumer;
	struct engine_stat stat;

	contract_send(c, f.topic, 0, "a\nb\nc\n");
	contract_send(c, f.topic, 1, "d\n");
	cr_assert_eq(contract_stat(c, f.group).messages, 4);
	contract_snapshot(c, f.group);
	contract_snapshot(c, f.group);
	assert_ok(c->ops->ack(f.group, 0, 1));
	consumer = contract_consumer(c, f.group, ENGINE_ANY, ENGINE_CONSUME_ONE);
	stat = contract_stat(c, f.group);
	cr_assert_eq(stat.messages, 2, "the lag counts from the stored offset");
	cr_assert_eq(stat.partitions, 2);
	cr_assert_eq(stat.delivered_total, 8);
	cr_assert_eq(stat.acked_total, 2);
	cr_assert_eq(stat.readers, 1);
	cr_assert_eq(stat.lost, 0);
	c->ops->consumer_close(consumer);
	cr_assert_eq(contract_stat(c, f.group).readers, 0);
	put(c, &f);
}

/* What one group reads and acknowledges is nothing to another. */
void contract_test_groups_are_apart(struct contract *c)
{
	struct fixture f = make(c, 1);
	struct engine_object *other = contract_group(c, f.topic, "other");

	contract_send(c, f.topic, 0, "a\nb\n");
	assert_text(contract_snapshot(c, f.group), "0:0=a 0:1=b");
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_text(contract_cursor(c, other, 0), "0 0 0");
	assert_text(contract_snapshot(c, other), "0:0=a 0:1=b");
	assert_text(contract_read(c, f.topic, 0, 0), "0=a 1=b");
	c->ops->put(other);
	put(c, &f);
}

/* A sync of a group completes, with something to sync and without. */
void contract_test_group_sync(struct contract *c)
{
	struct fixture f = make(c, 1);

	assert_ok(contract_sync_group(c, f.group));
	contract_send(c, f.topic, 0, "a\n");
	contract_one(c, f.group);
	assert_ok(c->ops->ack_all(f.group, ENGINE_ANY));
	assert_ok(contract_sync_group(c, f.group));
	assert_ok(contract_sync_group(c, f.group));
	put(c, &f);
}

/* A partition that is not there is ENOENT for consumers and cursors. */
void contract_test_consumer_errors(struct contract *c)
{
	struct fixture f = make(c, 2);
	struct engine_consumer *consumer = NULL;
	struct engine_cursor_stat stat;

	for (int how = ENGINE_CONSUME_ONE; how <= ENGINE_CONSUME_STREAM; how++)
		assert_err(c->ops->consumer_open(f.group, 2, (enum engine_consume)how, &consumer), ENOENT);
	cr_assert_null(consumer);
	assert_err(c->ops->cursor_stat(f.group, 2, &stat), ENOENT);
	cr_assert_eq(contract_stat(c, f.group).readers, 0);
	put(c, &f);
}
