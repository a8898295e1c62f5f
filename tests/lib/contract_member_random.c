/*
 * The contract of engines: random joins, leaves, fetches, acks, rejects, seeks and growth of the topic, with Kafka's guarantees
 * checked after each step. MQFS_MEMBER_SEED in the environment chooses another run, 0 a new one each time.
 *
 * What is checked. Each partition has one owner if there is a member, and shares differ by one at most. When members come
 * or go or the topic grows, no more partitions change hands than that needs. No stored offset moves back but by a
 * seek, and what a member acked stays acked. A message is given by the owner of its partition only, in order, from the
 * stored offset on. At the end one member that is left is given all that was not acked.
 */
#include "tests/lib/contract_member.h"

#include <time.h>

#define SEED 5
#define STEPS 4000u
#define NAMES 5u
#define PARTITIONS_MAX 12u
#define NOBODY UINT32_MAX

/* Of one partition. */
struct part {
	uint64_t end;       /* messages sent */
	uint64_t committed; /* as the test has seen it last */
	uint64_t next;      /* what its owner's stream is given next */
	uint32_t owner;     /* index of the member, or NOBODY */
};

struct run {
	struct contract *c;
	struct members m;
	uint64_t seed, random;
	unsigned step;
	uint32_t partitions;
	struct part parts[PARTITIONS_MAX];
	struct engine_object *members[NAMES]; /* NULL: there is none */
	struct engine_consumer *streams[NAMES];
	struct engine_session *sessions[NAMES];
	uint64_t rejected;
};

static uint32_t pick(struct run *r, uint32_t count)
{
	r->random = r->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(r->random >> 33) % count;
}

#define check(r, condition)                                                                                            \
	cr_assert((condition), "MQFS_MEMBER_SEED=%" PRIu64 ", step %u: %s", (r)->seed, (r)->step, #condition)

static struct engine_member_stat stat_of(struct run *r, uint32_t i)
{
	struct engine_member_stat stat = { 0 };

	if (r->members[i] != NULL)
		assert_ok(r->c->ops->member->member_stat(r->members[i], &stat));
	return stat;
}

/* ---- what is checked ---- */

static struct engine_cursor_stat cursor_of(struct run *r, uint32_t p)
{
	struct engine_cursor_stat stat;

	assert_ok(r->c->ops->cursor_stat(r->m.group, p, &stat));
	return stat;
}

/* Who has each partition now; at most one does. Returns how many are members. */
static uint32_t find_owners(struct run *r, uint32_t owners[PARTITIONS_MAX], uint32_t shares[NAMES], bool joined[NAMES])
{
	uint32_t count = 0;

	for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
		owners[p] = NOBODY;
	for (uint32_t i = 0; i < NAMES; i++) {
		struct engine_member_stat stat = stat_of(r, i);

		joined[i] = stat.joined;
		count += stat.joined;
		shares[i] = 0;
		for (uint32_t p = 0; p < PARTITIONS_MAX; p++) {
			if (!(stat.owned[0] >> p & 1))
				continue;
			check(r, stat.joined);
			check(r, p < r->partitions);
			check(r, owners[p] == NOBODY);
			owners[p] = i;
			shares[i]++;
		}
	}
	return count;
}

/* How many partitions must leave a member that stays: what it had above the share it may keep. */
static uint32_t least_moves(struct run *r, const bool joined[NAMES], uint32_t members)
{
	uint32_t least = r->partitions / members, extra = r->partitions % members, moves = 0;

	for (uint32_t i = 0; i < NAMES; i++) {
		uint32_t had = 0;

		for (uint32_t p = 0; joined[i] && p < r->partitions; p++)
			had += r->parts[p].owner == i;
		if (had <= least)
			continue;
		moves += had - least - (extra > 0);
		extra -= extra > 0;
	}
	return moves;
}

/* The sharing, after what may have changed it. */
static void check_sharing(struct run *r)
{
	uint32_t owners[PARTITIONS_MAX], shares[NAMES], members, moves = 0;
	bool joined[NAMES];

	members = find_owners(r, owners, shares, joined);
	for (uint32_t p = 0; p < r->partitions; p++) {
		struct part *part = &r->parts[p];

		check(r, (owners[p] == NOBODY) == (members == 0));
		if (owners[p] == part->owner)
			continue;
		moves += part->owner != NOBODY && joined[part->owner];
	}
	for (uint32_t i = 0; i < NAMES; i++)
		check(r, !joined[i] || shares[i] - r->partitions / members <= 1);
	if (members > 0)
		check(r, moves <= least_moves(r, joined, members));
	for (uint32_t p = 0; p < r->partitions; p++) {
		if (owners[p] != r->parts[p].owner)
			r->parts[p].next = r->parts[p].committed;
		r->parts[p].owner = owners[p];
	}
}

static void check_offsets(struct run *r)
{
	for (uint32_t p = 0; p < r->partitions; p++) {
		struct engine_cursor_stat stat = cursor_of(r, p);

		check(r, stat.committed == r->parts[p].committed);
		check(r, stat.given >= stat.committed && stat.end == r->parts[p].end);
	}
}

/* ---- steps ---- */

static void come_or_go(struct run *r, uint32_t i)
{
	char name[8];

	snprintf(name, sizeof(name), "m%" PRIu32, i);
	if (r->members[i] == NULL) {
		r->members[i] = members_add(r->c, &r->m, name);
		return;
	}
	r->c->ops->member->session_close(r->sessions[i]);
	r->c->ops->consumer_close(r->streams[i]);
	assert_ok(r->c->ops->remove(r->members[i]));
	r->c->ops->put(r->members[i]);
	r->members[i] = NULL;
	r->sessions[i] = NULL;
	r->streams[i] = NULL;
}

static void use_session(struct run *r, uint32_t i)
{
	if (r->sessions[i] != NULL) {
		r->c->ops->member->session_close(r->sessions[i]);
		check(r, !stat_of(r, i).joined);
		r->sessions[i] = NULL;
	} else {
		assert_ok(r->c->ops->member->session_open(r->members[i], &r->sessions[i]));
		check(r, stat_of(r, i).joined);
	}
}

/* A stream that is opened begins at the stored offsets of what it gets; one that is closed leaves what was given. */
static void use_stream(struct run *r, uint32_t i)
{
	if (r->streams[i] != NULL) {
		r->c->ops->consumer_close(r->streams[i]);
		r->streams[i] = NULL;
		return;
	}
	r->streams[i] = contract_consumer(r->c, r->members[i], ENGINE_ANY, ENGINE_CONSUME_STREAM);
	check_sharing(r); /* it may have joined by it */
	for (uint32_t p = 0; p < r->partitions; p++) {
		if (r->parts[p].owner == i)
			r->parts[p].next = r->parts[p].committed;
	}
}

static void fetch(struct run *r, uint32_t i)
{
	struct engine_view view;
	int rc;

	if (r->streams[i] == NULL)
		return;
	rc = r->c->ops->consumer_fetch(r->streams[i], 1 + pick(r, 3), SIZE_MAX, &r->c->scratch, &view);
	check(r, rc == 0 || rc == 1);
	if (rc == 1) {
		struct part *part = &r->parts[view.partition];

		check(r, part->owner == i); /* nobody else is given anything of it */
		check(r, view.offset == part->next);
		part->next += view.batch.count;
		check(r, part->next <= part->end);
		return;
	}
	for (uint32_t p = 0; p < r->partitions; p++) /* nothing is left out */
		check(r, r->parts[p].owner != i || r->parts[p].next == r->parts[p].end);
}

/* Of any offset, by any member: what may be acked is said by the cursor and the owner. */
static void settle(struct run *r, uint32_t i, bool reject)
{
	uint32_t p = pick(r, r->partitions);
	struct part *part = &r->parts[p];
	struct engine_cursor_stat before = cursor_of(r, p);
	uint64_t offset = before.committed + pick(r, 4);
	int rc;

	offset -= offset > 0 && pick(r, 4) == 0;
	rc = reject ? r->c->ops->member->reject(r->members[i], p, offset) : r->c->ops->ack(r->members[i], p, offset);
	if (part->owner != i)
		check(r, rc == -ESTALE);
	else if (offset < before.committed)
		check(r, rc == -EALREADY);
	else if (offset >= before.given)
		check(r, rc == -ERANGE);
	else
		check(r, rc == 0);
	if (rc < 0)
		return;
	part->committed = offset + 1;
	part->next = part->next > offset ? part->next : offset + 1;
	r->rejected += reject;
}

static void settle_all(struct run *r, uint32_t i)
{
	for (uint32_t p = 0; p < r->partitions; p++) {
		if (r->parts[p].owner == i)
			r->parts[p].committed = cursor_of(r, p).given;
	}
	assert_ok(r->c->ops->ack_all(r->members[i], ENGINE_ANY));
}

static void seek(struct run *r)
{
	uint32_t p = pick(r, r->partitions);
	uint64_t offset = pick(r, (uint32_t)r->parts[p].end + 1);

	assert_ok(r->c->ops->seek(r->m.group, p, ENGINE_SEEK_OFFSET, (int64_t)offset));
	r->parts[p].committed = r->parts[p].next = offset;
}

static void grow(struct run *r)
{
	char value[8];

	if (r->partitions == PARTITIONS_MAX)
		return;
	r->parts[r->partitions++] = (struct part){ .owner = NOBODY };
	snprintf(value, sizeof(value), "%" PRIu32, r->partitions);
	assert_ok(contract_set(r->c, r->m.topic, "partitions", value));
}

static void send(struct run *r)
{
	uint32_t p = pick(r, r->partitions), count = 1 + pick(r, 3);

	contract_send(r->c, r->m.topic, p, count == 1 ? "a\n" : count == 2 ? "a\nb\n" : "a\nb\nc\n");
	r->parts[p].end += count;
}

static void one_step(struct run *r)
{
	uint32_t dice = pick(r, 100), i = pick(r, NAMES);

	if (dice < 5)
		come_or_go(r, i);
	else if (dice < 20)
		send(r);
	else if (dice < 22)
		seek(r);
	else if (dice < 23)
		grow(r);
	else if (r->members[i] == NULL)
		return;
	else if (dice < 30)
		use_session(r, i);
	else if (dice < 40)
		use_stream(r, i);
	else if (dice < 75)
		fetch(r, i);
	else if (dice < 96)
		settle(r, i, dice < 80);
	else
		settle_all(r, i);
}

/* ---- the run ---- */

static uint64_t seed_of(void)
{
	const char *text = getenv("MQFS_MEMBER_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : SEED;

	return seed != 0 ? seed : (uint64_t)time(NULL);
}

/* One that is left is given all that nobody acked. */
static void read_rest(struct run *r)
{
	for (uint32_t i = 0; i < NAMES; i++) {
		if (r->members[i] != NULL)
			come_or_go(r, i);
	}
	come_or_go(r, 0);
	check_sharing(r);
	use_stream(r, 0);
	for (uint32_t p = 0; p < r->partitions; p++) {
		while (r->parts[p].next < r->parts[p].end)
			fetch(r, 0);
	}
	settle_all(r, 0);
	for (uint32_t p = 0; p < r->partitions; p++)
		check(r, cursor_of(r, p).committed == r->parts[p].end);
	come_or_go(r, 0);
}

static void check_dead(struct run *r)
{
	struct engine_object *dlq = contract_lookup(r->c, r->m.group, ENGINE_QUEUE, "dlq");
	struct engine_queue_stat stat;

	assert_ok(r->c->ops->queue->queue_stat(dlq, &stat));
	check(r, stat.ready == r->rejected);
	r->c->ops->put(dlq);
}

void contract_test_members_random(struct contract *c)
{
	struct run *r = calloc(1, sizeof(*r));

	cr_assert_not_null(r);
	r->c = c;
	r->m = members_make(c, 3);
	r->partitions = 3;
	for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
		r->parts[p].owner = NOBODY;
	r->seed = r->random = seed_of();
	fprintf(stderr, "MQFS_MEMBER_SEED=%" PRIu64 "\n", r->seed);
	for (r->step = 0; r->step < STEPS; r->step++) {
		one_step(r);
		check_sharing(r);
		check_offsets(r);
	}
	read_rest(r);
	check_dead(r);
	members_put(c, &r->m);
	free(r);
}
