/* The contract of engines: members of groups, the sharing of partitions, and what groups reject (engine_member.h). */
#include "tests/lib/contract_member.h"

#include <stdatomic.h>

#include "engine/clock.h"

/* ---- time: the real one, and what the test adds ---- */

static const struct clock_ops *real_clock;
static _Atomic int64_t added_ms;

static int64_t wall(void)
{
	return real_clock->wall_ms() + atomic_load(&added_ms);
}

static int64_t mono(void)
{
	return real_clock->mono_ms() + atomic_load(&added_ms);
}

static const struct clock_ops clock_ahead = { .wall_ms = wall, .mono_ms = mono };

void members_tick(int64_t ms)
{
	if (clock_now != &clock_ahead)
		real_clock = clock_now;
	clock_now = &clock_ahead;
	atomic_fetch_add(&added_ms, ms);
}

/* ---- short forms ---- */

struct members members_make(struct contract *c, uint32_t partitions)
{
	struct members m = { .topic = contract_topic(c, "t", partitions) };

	m.group = contract_group(c, m.topic, "g");
	return m;
}

void members_put(struct contract *c, struct members *m)
{
	c->ops->put(m->group);
	c->ops->put(m->topic);
}

struct engine_object *members_add(struct contract *c, struct members *m, const char *name)
{
	struct engine_owner owner = { 1000, 100, 0750 };
	struct engine_object *member = NULL;

	assert_ok(c->ops->create(c->engine, m->group, ENGINE_MEMBER, name, &owner, &member));
	return member;
}

const char *members_owned(struct contract *c, struct engine_object *member)
{
	struct engine_member_stat stat;
	size_t used = 0;

	assert_ok(c->ops->member->member_stat(member, &stat));
	c->text[0] = '\0';
	for (uint32_t p = 0; p < ENGINE_PARTITIONS_MAX; p++) {
		if (stat.owned[p / 64] >> (p % 64) & 1)
			used += (size_t)snprintf(
			    c->text + used, sizeof(c->text) - used, "%s%" PRIu32, used > 0 ? "," : "", p);
	}
	return c->text;
}

static bool is_joined(struct contract *c, struct engine_object *member)
{
	struct engine_member_stat stat;

	assert_ok(c->ops->member->member_stat(member, &stat));
	return stat.joined;
}

static void remove_member(struct contract *c, struct engine_object *member)
{
	assert_ok(c->ops->remove(member));
	c->ops->put(member);
}

static struct engine_object *dlq_of(struct contract *c, struct members *m)
{
	return contract_lookup(c, m->group, ENGINE_QUEUE, "dlq");
}

static uint64_t count_dead(struct contract *c, struct members *m)
{
	struct engine_object *dlq = dlq_of(c, m);
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	c->ops->put(dlq);
	return stat.ready;
}

static void set_of_dlq(struct contract *c, struct members *m, const char *name, const char *value)
{
	struct engine_object *dlq = dlq_of(c, m);

	assert_ok(c->ops->set_setting(dlq, engine_setting_find(ENGINE_QUEUE, name), value));
	c->ops->put(dlq);
}

/* ---- who has what ---- */

/* Shares differ by one at most, and who keeps a partition keeps it: no more of them change hands than that needs. */
void contract_test_members_share(struct contract *c)
{
	struct members m = members_make(c, 4);
	struct engine_object *a = members_add(c, &m, "a"), *b, *d;

	assert_text(members_owned(c, a), "0,1,2,3");
	b = members_add(c, &m, "b");
	assert_text(members_owned(c, a), "0,1");
	assert_text(members_owned(c, b), "2,3");
	d = members_add(c, &m, "d");
	assert_text(members_owned(c, a), "0,1");
	assert_text(members_owned(c, b), "2");
	assert_text(members_owned(c, d), "3");
	remove_member(c, a);
	assert_text(members_owned(c, b), "0,2");
	assert_text(members_owned(c, d), "1,3");
	assert_ok(contract_set(c, m.topic, "partitions", "7"));
	assert_text(members_owned(c, b), "0,2,4,6");
	assert_text(members_owned(c, d), "1,3,5");
	remove_member(c, b);
	assert_text(members_owned(c, d), "0,1,2,3,4,5,6");
	remove_member(c, d);
	members_put(c, &m);
}

/* The group's own streams share in the same way: a stream that goes leaves the others what they have. */
void contract_test_streams_are_sticky(struct contract *c)
{
	struct members m = members_make(c, 6);
	struct engine_consumer *s[3];

	for (int i = 0; i < 3; i++)
		s[i] = contract_consumer(c, m.group, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	for (uint32_t p = 0; p < 6; p++)
		contract_send(c, m.topic, p, "a\n");
	/* 0 1 2 3 4 5; then 0 1 2 and 3 4 5; then the third gets the highest of both */
	assert_text(contract_fetch(c, s[0]), "0:0=a 1:0=a");
	assert_text(contract_fetch(c, s[1]), "3:0=a 4:0=a");
	assert_text(contract_fetch(c, s[2]), "2:0=a 5:0=a");
	c->ops->consumer_close(s[0]);
	assert_text(contract_fetch(c, s[1]), "0:0=a"); /* what it has it is not given again */
	assert_text(contract_fetch(c, s[2]), "1:0=a");
	assert_ok(c->ops->ack(m.group, 4, 0));
	c->ops->consumer_close(s[1]);
	assert_text(contract_fetch(c, s[2]), "3:0=a 0:0=a");
	c->ops->consumer_close(s[2]);
	members_put(c, &m);
}

/* Within a member its streams share what it has, each partition with one of them; ONE has to wait for that. */
void contract_test_members_streams(struct contract *c)
{
	struct members m = members_make(c, 4);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b");
	struct engine_consumer *one, *two, *other = NULL;

	for (uint32_t p = 0; p < 4; p++)
		contract_send(c, m.topic, p, "x\n");
	assert_err(c->ops->consumer_open(a, 0, ENGINE_CONSUME_STREAM, &other), EINVAL);
	one = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	two = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	assert_err(c->ops->consumer_open(a, ENGINE_ANY, ENGINE_CONSUME_ONE, &other), EBUSY);
	assert_err(c->ops->consumer_open(a, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT, &other), EBUSY);
	assert_text(contract_fetch(c, one), "0:0=x");
	assert_text(contract_fetch(c, two), "1:0=x");
	assert_text(contract_snapshot(c, b), "2:0=x 3:0=x");
	c->ops->consumer_close(two);
	assert_text(contract_fetch(c, one), "1:0=x");
	c->ops->consumer_close(one);
	assert_text(members_owned(c, a), "0,1");
	remove_member(c, a);
	remove_member(c, b);
	members_put(c, &m);
}

/* A stream of the group has a share beside the members; a stream of one partition has that one before all. */
void contract_test_members_beside_streams(struct contract *c)
{
	struct members m = members_make(c, 4);
	struct engine_object *a = members_add(c, &m, "a");
	struct engine_consumer *all = contract_consumer(c, m.group, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	struct engine_consumer *fixed;

	assert_text(members_owned(c, a), "0,1");
	fixed = contract_consumer(c, m.group, 1, ENGINE_CONSUME_STREAM);
	assert_text(members_owned(c, a), "0");
	contract_send(c, m.topic, 1, "x\n");
	contract_send(c, m.topic, 2, "y\n");
	assert_text(contract_fetch(c, fixed), "1:0=x");
	assert_text(contract_fetch(c, all), "2:0=y");
	assert_ok(c->ops->ack_all(m.group, ENGINE_ANY)); /* of its own streams */
	assert_text(contract_cursor(c, m.group, 1), "1 1 0");
	assert_err(c->ops->ack(m.group, 0, 0), ESTALE);
	c->ops->consumer_close(fixed);
	c->ops->consumer_close(all);
	assert_text(members_owned(c, a), "0,1,2,3");
	assert_err(c->ops->ack_all(m.group, ENGINE_ANY), EBUSY);
	remove_member(c, a);
	assert_ok(c->ops->ack_all(m.group, ENGINE_ANY));
	members_put(c, &m);
}

/* While there is a member, the group's own ONE and SNAPSHOT are EBUSY, those opened before it too. */
void contract_test_members_exclude_group(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_consumer *before = contract_consumer(c, m.group, ENGINE_ANY, ENGINE_CONSUME_ONE), *other = NULL;
	struct engine_object *a = members_add(c, &m, "a");
	struct engine_view view;

	contract_send(c, m.topic, 0, "x\n");
	assert_err(c->ops->consumer_fetch(before, 1, SIZE_MAX, &c->scratch, &view), EBUSY);
	assert_err(c->ops->consumer_open(m.group, ENGINE_ANY, ENGINE_CONSUME_ONE, &other), EBUSY);
	assert_err(c->ops->consumer_open(m.group, 0, ENGINE_CONSUME_SNAPSHOT, &other), EBUSY);
	assert_err(c->ops->ack(m.group, 0, 0), EBUSY);
	assert_err(c->ops->member->reject(m.group, 0, 0), EBUSY);
	remove_member(c, a);
	assert_text(contract_fetch(c, before), "0:0=x");
	c->ops->consumer_close(before);
	members_put(c, &m);
}

/* ---- acks ---- */

/* A member acks what it was given and still owns: EALREADY and ERANGE as for groups, ESTALE for what is another's. */
void contract_test_members_ack(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b");

	contract_send(c, m.topic, 0, "x\ny\n");
	contract_send(c, m.topic, 1, "z\n");
	assert_text(contract_snapshot(c, a), "0:0=x 0:1=y");
	assert_text(contract_one(c, b), "1:0=z");
	assert_err(c->ops->ack(a, 1, 0), ESTALE);
	assert_err(c->ops->ack(b, 0, 0), ESTALE);
	assert_err(c->ops->ack(a, 0, 2), ERANGE);
	assert_err(c->ops->ack(a, 2, 0), ENOENT);
	assert_err(c->ops->ack(a, ENGINE_ANY, 0), EINVAL);
	assert_ok(c->ops->ack(a, 0, 0));
	assert_err(c->ops->ack(a, 0, 0), EALREADY);
	assert_ok(c->ops->ack_all(a, ENGINE_ANY));
	assert_text(contract_cursor(c, m.group, 0), "2 2 0");
	assert_text(contract_cursor(c, m.group, 1), "0 1 0"); /* not its own */
	assert_ok(c->ops->ack_all(a, 1));                     /* nothing there is */
	assert_text(contract_cursor(c, m.group, 1), "0 1 0");
	remove_member(c, a);
	remove_member(c, b);
	members_put(c, &m);
}

/* What goes to another member begins at the stored offset; the one before may not ack it any more, and has no more of it. */
void contract_test_members_take_over(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b;
	struct engine_consumer *stream = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM), *out;

	contract_send(c, m.topic, 0, "p\n");
	contract_send(c, m.topic, 1, "x\ny\nz\n");
	assert_text(contract_fetch(c, stream), "0:0=p 1:0=x 1:1=y 1:2=z");
	assert_ok(c->ops->ack(a, 1, 0));
	b = members_add(c, &m, "b");
	assert_err(c->ops->ack(a, 1, 1), ESTALE);
	assert_text(contract_cursor(c, m.group, 1), "1 1 0");
	assert_text(contract_cursor(c, m.group, 0), "0 1 0"); /* stays, with what was given */
	out = contract_consumer(c, b, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	assert_text(contract_fetch_some(c, out, 1), "1:1=y");
	assert_ok(c->ops->ack(b, 1, 1));
	assert_text(contract_fetch(c, stream), "");
	remove_member(c, b);
	assert_text(contract_fetch(c, stream), "1:2=z");
	c->ops->consumer_close(out);
	c->ops->consumer_close(stream);
	remove_member(c, a);
	members_put(c, &m);
}

/* A SNAPSHOT gives nothing of a partition that was lost after its opening, even if it came back. */
void contract_test_members_snapshot(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b;
	struct engine_consumer *out;

	contract_send(c, m.topic, 0, "x\n");
	contract_send(c, m.topic, 1, "y\n");
	out = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	b = members_add(c, &m, "b");
	remove_member(c, b);
	assert_text(members_owned(c, a), "0,1");
	assert_text(contract_fetch(c, out), "0:0=x");
	assert_text(contract_snapshot(c, a), "0:0=x 1:0=y");
	c->ops->consumer_close(out);
	remove_member(c, a);
	members_put(c, &m);
}

/* A seek of the group takes back what was given, whoever has it; a member cannot seek. */
void contract_test_members_seek(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_object *a = members_add(c, &m, "a");
	struct engine_consumer *stream = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM);

	contract_send(c, m.topic, 0, "x\ny\n");
	assert_text(contract_fetch(c, stream), "0:0=x 0:1=y");
	assert_err(c->ops->seek(a, 0, ENGINE_SEEK_EARLIEST, 0), EINVAL);
	assert_ok(c->ops->seek(m.group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_text(contract_fetch(c, stream), "0:1=y");
	assert_ok(c->ops->ack_all(a, ENGINE_ANY));
	assert_text(contract_cursor(c, m.group, 0), "2 2 0");
	c->ops->consumer_close(stream);
	remove_member(c, a);
	members_put(c, &m);
}

/* ---- coming and going ---- */

/* The last session that is closed makes its member leave before the call returns; opening something joins again. */
void contract_test_members_sessions(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b");
	struct engine_session *one = NULL, *two = NULL;
	struct engine_consumer *stream = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM);

	assert_err(c->ops->member->session_open(m.group, &one), EINVAL);
	assert_ok(c->ops->member->session_open(a, &one));
	assert_ok(c->ops->member->session_open(a, &two));
	c->ops->member->session_close(one);
	assert_text(members_owned(c, b), "1");
	c->ops->member->session_close(two);
	cr_assert(!is_joined(c, a));
	assert_text(members_owned(c, b), "0,1");
	contract_send(c, m.topic, 0, "x\n");
	assert_text(contract_fetch(c, stream), ""); /* it is nobody's reader now */
	assert_err(c->ops->ack(a, 0, 0), ESTALE);
	assert_ok(c->ops->member->session_open(a, &one));
	assert_text(members_owned(c, a), "1"); /* b was there first now */
	contract_send(c, m.topic, 1, "y\n");
	assert_text(contract_fetch(c, stream), "1:0=y");
	c->ops->consumer_close(stream);
	c->ops->member->session_close(one);
	c->ops->member->session_close(NULL);
	assert_text(contract_one(c, a), "1:0=y"); /* opening a consumer is joining too */
	cr_assert(is_joined(c, a));
	remove_member(c, a);
	remove_member(c, b);
	members_put(c, &m);
}

/* Who has nothing open and says nothing for session.timeout.ms is no member any more, until it comes again. */
void contract_test_members_silent(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b");
	struct engine_consumer *stream = contract_consumer(c, b, ENGINE_ANY, ENGINE_CONSUME_STREAM);

	assert_ok(contract_set(c, m.group, "session.timeout.ms", "100000"));
	members_tick(90000);
	assert_ok(c->ops->ack_all(a, ENGINE_ANY)); /* a call on it */
	members_tick(90000);
	cr_assert(is_joined(c, a));
	members_tick(110000);
	cr_assert(!is_joined(c, a));
	assert_text(members_owned(c, b), "0,1"); /* it has a file open */
	c->ops->consumer_close(stream);
	members_tick(90000);
	cr_assert(is_joined(c, b));
	assert_ok(contract_set(c, m.group, "session.timeout.ms", "60000"));
	cr_assert(!is_joined(c, b));
	assert_text(contract_one(c, m.group), ""); /* nobody is there now */
	remove_member(c, a);
	remove_member(c, b);
	members_put(c, &m);
}

/* A member that is removed: its files answer EIDRM, what it had is the others'. Removing the group takes its members along. */
void contract_test_members_remove(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b"), *found = NULL;
	struct engine_consumer *stream = contract_consumer(c, b, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	struct engine_owner owner = { 0 };
	struct engine_view view;

	assert_err(c->ops->create(c->engine, m.group, ENGINE_MEMBER, "a", &owner, &found), EEXIST);
	assert_err(c->ops->create(c->engine, m.topic, ENGINE_MEMBER, "a", &owner, &found), EINVAL);
	assert_ok(c->ops->remove(b));
	assert_err(c->ops->consumer_fetch(stream, 1, SIZE_MAX, &c->scratch, &view), EIDRM);
	assert_err(c->ops->ack(b, 0, 0), EIDRM);
	assert_text(members_owned(c, a), "0,1");
	assert_ok(c->ops->rename(a, "z"));
	found = contract_lookup(c, m.group, ENGINE_MEMBER, "z");
	c->ops->put(found);
	assert_ok(c->ops->remove(m.group));
	assert_err(c->ops->ack_all(a, ENGINE_ANY), EIDRM);
	c->ops->consumer_close(stream);
	c->ops->put(a);
	c->ops->put(b);
	members_put(c, &m);
}

/* stat of a member: the lag of what it has, how many partitions these are, and its open files. */
void contract_test_members_stat(struct contract *c)
{
	struct members m = members_make(c, 3);
	struct engine_object *a = members_add(c, &m, "a"), *b = members_add(c, &m, "b");
	struct engine_consumer *stream = contract_consumer(c, a, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	struct engine_stat stat;

	contract_send(c, m.topic, 0, "x\ny\n");
	contract_send(c, m.topic, 2, "z\n");
	stat = contract_stat(c, a);
	cr_assert_eq(stat.partitions, 2);
	cr_assert_eq(stat.messages, 2);
	cr_assert_eq(stat.readers, 1);
	stat = contract_stat(c, b);
	cr_assert_eq(stat.partitions, 1);
	cr_assert_eq(stat.messages, 1);
	cr_assert_eq(stat.readers, 0);
	c->ops->consumer_close(stream);
	remove_member(c, a);
	remove_member(c, b);
	members_put(c, &m);
}

/* ---- rejects ---- */

struct dead {
	struct contract *c;
	struct engine_object *dlq;
	unsigned count;
};

static bool check_dead(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct dead *dead = ctx;
	const struct engine_props *props;
	struct engine_view view;

	(void)next;
	assert_ok(dead->c->ops->queue->message_read(dead->dlq, stat->id, &dead->c->scratch, &view));
	props = view.batch.props;
	cr_assert_eq(stat->priority, 0);
	cr_assert_not_null(props);
	cr_assert_eq(props->death_count, 1);
	cr_assert_eq(props->deaths[0].reason, ENGINE_REJECTED);
	cr_assert_eq(props->deaths[0].count, 1);
	cr_assert_eq(props->deaths[0].queue.len, strlen("t/groups/g"));
	cr_assert_eq(memcmp(props->deaths[0].queue.ptr, "t/groups/g", props->deaths[0].queue.len), 0);
	cr_assert_eq(props->key.len, 1);
	cr_assert_eq(props->key.ptr[0], 'k');
	cr_assert_eq(view.batch.cred.uid, 7);
	cr_assert_eq(view.batch.lengths[0], 1);
	cr_assert_eq(view.batch.data[0], "xyz"[dead->count++]);
	return true;
}

/* A keyed topic of one partition, with x, y and z in it by user 7. */
static void send_keyed(struct contract *c, struct members *m)
{
	struct engine_producer *producer = NULL;
	struct engine_batch batch = contract_batch("x\ny\nz\n");

	batch.cred.uid = 7;
	assert_ok(c->ops->producer_open(m->topic, ENGINE_ANY, (struct engine_span){ "k", 1 }, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

/* What is rejected is committed, and among the dead letters with its key and a death; redriving produces it again. */
void contract_test_members_reject(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_object *a = members_add(c, &m, "a"), *dlq = dlq_of(c, &m);
	struct dead dead = { .c = c, .dlq = dlq };
	struct engine_queue_stat stat;
	uint64_t cursor[2] = { 0, 0 };

	send_keyed(c, &m);
	assert_err(c->ops->member->reject(a, 0, 0), ERANGE);
	assert_text(contract_snapshot(c, a), "0:0=x 0:1=y 0:2=z");
	assert_ok(c->ops->member->reject(a, 0, 0));
	assert_err(c->ops->member->reject(a, 0, 0), EALREADY);
	assert_err(c->ops->member->reject(a, 1, 0), ENOENT);
	assert_err(c->ops->member->reject(a, ENGINE_ANY, 0), EINVAL);
	assert_text(contract_cursor(c, m.group, 0), "1 3 0");
	cr_assert_eq(c->ops->member->reject_all(a, ENGINE_ANY), 2);
	cr_assert_eq(c->ops->member->reject_all(a, 0), 0);
	assert_text(contract_cursor(c, m.group, 0), "3 3 0");
	assert_ok(c->ops->queue->message_list(dlq, ENGINE_READY, ENGINE_ANY, NULL, cursor, check_dead, &dead));
	cr_assert_eq(dead.count, 3);
	assert_err(c->ops->remove(m.group), ENOTEMPTY);
	cr_assert_eq(c->ops->queue->redrive(dlq, 0, UINT64_MAX), 3);
	cr_assert_eq(count_dead(c, &m), 0);
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.moved_out, 3);
	cr_assert_eq(c->ops->queue->redrive(dlq, 0, UINT64_MAX), 0);
	assert_text(contract_snapshot(c, a), "0:3=x 0:4=y 0:5=z");
	assert_text(contract_cursor(c, m.group, 0), "3 6 0");
	c->ops->put(dlq);
	remove_member(c, a);
	assert_ok(c->ops->remove(m.group));
	members_put(c, &m);
}

/* The group itself rejects too; all before what is rejected is committed, as by an ack. What is another's is ESTALE. */
void contract_test_members_reject_of_group(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *a, *b;

	contract_send(c, m.topic, 0, "x\ny\n");
	assert_text(contract_snapshot(c, m.group), "0:0=x 0:1=y");
	assert_ok(c->ops->member->reject(m.group, 0, 1));
	assert_text(contract_cursor(c, m.group, 0), "2 2 0");
	cr_assert_eq(count_dead(c, &m), 1);
	a = members_add(c, &m, "a");
	b = members_add(c, &m, "b");
	assert_err(c->ops->member->reject(a, 1, 0), ESTALE);
	assert_err(c->ops->remove(m.topic), ENOTEMPTY);
	remove_member(c, b);
	remove_member(c, a);
	members_put(c, &m);
}

/* No limit of the dead letters refuses a reject; drop-head makes room, and loses the oldest. */
void contract_test_members_reject_limits(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_batch own = contract_batch("own\n");
	struct engine_producer *producer = NULL;
	struct engine_object *dlq;

	contract_send(c, m.topic, 0, "long\nlonger\nlongest\n");
	set_of_dlq(c, &m, "max.length", "1");
	set_of_dlq(c, &m, "max.length.bytes", "5");
	set_of_dlq(c, &m, "max.message.bytes", "4");
	set_of_dlq(c, &m, "overflow", "reject-publish");
	assert_text(contract_snapshot(c, m.group), "0:0=long 0:1=longer 0:2=longest");
	assert_ok(c->ops->member->reject(m.group, 0, 0));
	assert_ok(c->ops->member->reject(m.group, 0, 1));
	cr_assert_eq(count_dead(c, &m), 2);
	dlq = dlq_of(c, &m); /* who publishes there by himself is refused */
	assert_ok(c->ops->queue->producer_open(dlq, ENGINE_ANY, false, &producer));
	assert_err(contract_send_batch(c, producer, &own), EDQUOT);
	c->ops->producer_close(producer);
	c->ops->put(dlq);
	cr_assert_eq(count_dead(c, &m), 2);
	set_of_dlq(c, &m, "overflow", "reject-publish-dlx");
	assert_ok(c->ops->member->reject(m.group, 0, 2));
	cr_assert_eq(count_dead(c, &m), 3);
	set_of_dlq(c, &m, "max.length.bytes", "-1");
	set_of_dlq(c, &m, "overflow", "drop-head");
	cr_assert_eq(count_dead(c, &m), 1);
	members_put(c, &m);
}

/* Many at a time, in order; a redrive goes up to what the topic refuses. Its limits of size are not asked again. */
void contract_test_members_reject_many(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_object *dlq = dlq_of(c, &m);
	char text[32];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), "message %u\n", i);
		contract_send(c, m.topic, 0, text);
	}
	contract_snapshot(c, m.group);
	cr_assert_eq(c->ops->member->reject_all(m.group, ENGINE_ANY), 200);
	assert_text(contract_cursor(c, m.group, 0), "200 200 0");
	cr_assert_eq(count_dead(c, &m), 200);
	assert_ok(contract_set(c, m.topic, "max.message.bytes", "4"));
	cr_assert_eq(c->ops->queue->redrive(dlq, 0, UINT64_MAX), 200);
	assert_ok(c->ops->seek(m.group, 0, ENGINE_SEEK_OFFSET, 397));
	assert_text(contract_snapshot(c, m.group), "0:397=message 197 0:398=message 198 0:399=message 199");
	c->ops->put(dlq);
	members_put(c, &m);
}

/* What the topic refuses stays among the dead letters, and what comes behind it; what was before it has gone back. */
void contract_test_members_redrive_refused(struct contract *c)
{
	struct members m = members_make(c, 1);
	struct engine_object *dlq = dlq_of(c, &m);

	send_keyed(c, &m);
	contract_send(c, m.topic, 0, "keyless\nlast\n");
	contract_snapshot(c, m.group);
	cr_assert_eq(c->ops->member->reject_all(m.group, ENGINE_ANY), 5);
	assert_ok(contract_set(c, m.topic, "cleanup.policy", "compact"));
	cr_assert_eq(c->ops->queue->redrive(dlq, 0, UINT64_MAX), 3);
	assert_err(c->ops->queue->redrive(dlq, 0, UINT64_MAX), EINVAL);
	cr_assert_eq(count_dead(c, &m), 2);
	assert_ok(contract_set(c, m.topic, "cleanup.policy", "delete"));
	cr_assert_eq(c->ops->queue->redrive(dlq, 0, UINT64_MAX), 2);
	assert_text(contract_snapshot(c, m.group), "0:5=x 0:6=y 0:7=z 0:8=keyless 0:9=last");
	c->ops->put(dlq);
	members_put(c, &m);
}
