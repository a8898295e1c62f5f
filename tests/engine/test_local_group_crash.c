/*
 * What a crash leaves of groups, their members and what they reject: random works on a topic of two partitions and its group are
 * recorded, and at every change of a file the daemon dies, or the machine does.
 *
 * The works: producing, with and without a sync; members that come, go and have sessions; reading; acks, rejects, redrives,
 * confirms and checkpoints. After each of them it is written down where the group stands and where each message is. What is
 * found after a crash must be what one of these says, from the last one that was durable (killed: that was over) to the one
 * under way; for each cursor and each message by itself, as a power cut may keep a record and not the one before it. So:
 *   - a cursor that was confirmed does not move back, none goes beyond what was acked, what was acked stays so;
 *   - a message is pending, or a dead letter, or settled: never two of these; what was produced and confirmed is never none;
 *   - the members are given all that is pending, in order, and nothing else; what is rejected and redriven then comes back once.
 *
 * MQFS_GROUP_SEED (0, the first), MQFS_GROUP_WORKS (3), MQFS_GROUP_SECONDS (0: no bound). The last line of stdout is: groups STATES DISTINCT WORKS
 * FIRST-SEED LAST-SEED.
 */
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define PARTITIONS 2u
#define MESSAGES 160u
#define MEMBERS 3u
#define STEPS 45u
#define IMAGES 6u /* of each change */
#define HASHES 256u

static const struct engine_owner owner = { 1, 2, 0755 };
static const char *const names[MEMBERS] = { "a", "b", "d" };

/* Where all is at one time. */
struct where {
	uint64_t committed[PARTITIONS], end[PARTITIONS];
	uint8_t pending[MESSAGES], dead[MESSAGES];
};

struct step {
	size_t begin, end; /* changes of files */
	bool all, durable; /* so is what was done to the group before; or just what it changed itself */
	unsigned action;
	struct where after;
};

struct work {
	struct contract c;
	uint64_t random, seed;
	struct powercut *cut;
	struct engine_object *topic, *group, *dlq, *members[MEMBERS];
	struct engine_session *sessions[MEMBERS];
	unsigned next;                /* message */
	uint32_t partition[MESSAGES]; /* that it was sent to */
	size_t synced[MESSAGES];      /* the change when its log was */
	size_t confirmed[MESSAGES];   /* the same, or when it became a dead letter */
	struct step steps[STEPS + 1];
	size_t count;
};

struct figures {
	uint64_t states, distinct, works;
};

static unsigned pick(struct work *w, unsigned count)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(w->random >> 33) % count;
}

/* ---- where all is ---- */

static unsigned number_of(const char *data, const char *what)
{
	unsigned number = MESSAGES;

	cr_assert(sscanf(data, "m%u\n", &number) == 1 && number < MESSAGES, "%s: a message nobody sent", what);
	return number;
}

struct looking {
	struct contract *c;
	struct engine_object *dlq;
	struct where *where;
	const char *what;
};

static bool look_at_dead(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct looking *l = ctx;
	const struct engine_props *props;
	struct engine_view view;

	(void)next;
	assert_ok(l->c->ops->queue->message_read(l->dlq, stat->id, &l->c->scratch, &view));
	props = view.batch.props;
	cr_assert(props != NULL && props->death_count == 1 && props->deaths[0].reason == ENGINE_REJECTED,
	    "%s: a dead letter without its death", l->what);
	l->where->dead[number_of(view.batch.data, l->what)]++;
	return true;
}

static void look_at_partition(struct contract *c, struct engine_object *topic, struct engine_object *group,
    uint32_t partition, struct where *where, const char *what)
{
	struct engine_cursor_stat stat;
	struct engine_view view;
	uint64_t offset;

	assert_ok(c->ops->cursor_stat(group, partition, &stat));
	where->committed[partition] = stat.committed;
	where->end[partition] = stat.end;
	cr_assert(stat.committed <= stat.given && stat.given <= stat.end, "%s: %" PRIu64 " %" PRIu64 " %" PRIu64, what,
	    stat.committed, stat.given, stat.end);
	for (offset = stat.committed; offset < stat.end; offset++) {
		assert_ok(c->ops->partition_read(topic, partition, offset, 1, &c->scratch, &view));
		where->pending[number_of(view.batch.data, what)]++;
	}
}

static struct where look(struct contract *c, const char *what)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	struct engine_object *group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	struct where where = { 0 };
	struct looking l = { c, contract_lookup(c, group, ENGINE_QUEUE, "dlq"), &where, what };

	for (uint32_t p = 0; p < PARTITIONS; p++)
		look_at_partition(c, topic, group, p, &where, what);
	for (unsigned state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };

		assert_ok(c->ops->queue->message_list(
		    l.dlq, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, look_at_dead, &l));
	}
	c->ops->put(l.dlq);
	c->ops->put(group);
	c->ops->put(topic);
	return where;
}

/* ---- the works ---- */

static void find(struct work *w)
{
	struct contract *c = &w->c;

	w->topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	w->group = contract_lookup(c, w->topic, ENGINE_GROUP, "g");
	w->dlq = contract_lookup(c, w->group, ENGINE_QUEUE, "dlq");
}

static void put_all(struct work *w)
{
	struct contract *c = &w->c;

	for (unsigned i = 0; i < MEMBERS; i++) {
		c->ops->member->session_close(w->sessions[i]);
		c->ops->put(w->members[i]);
		w->sessions[i] = NULL;
		w->members[i] = NULL;
	}
	c->ops->put(w->dlq);
	c->ops->put(w->group);
	c->ops->put(w->topic);
}

static void produce(struct work *w, uint32_t partition)
{
	char text[64] = "";
	unsigned count = 1 + pick(w, 3);

	for (unsigned i = 0; i < count && w->next < MESSAGES; i++, w->next++) {
		w->partition[w->next] = partition;
		w->synced[w->next] = w->confirmed[w->next] = SIZE_MAX;
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "m%u\n", w->next);
	}
	if (text[0] != '\0')
		contract_send(&w->c, w->topic, partition, text);
}

static void sync_topic(struct work *w)
{
	struct engine_producer *producer = contract_producer(&w->c, w->topic, ENGINE_ANY);

	assert_ok(contract_sync(&w->c, producer));
	w->c.ops->producer_close(producer);
	for (unsigned m = 0; m < w->next; m++) {
		if (w->synced[m] == SIZE_MAX)
			w->synced[m] = powercut_count(w->cut);
		if (w->confirmed[m] == SIZE_MAX)
			w->confirmed[m] = w->synced[m];
	}
}

static void change_members(struct work *w)
{
	struct contract *c = &w->c;
	unsigned i = pick(w, MEMBERS);

	if (w->members[i] == NULL) {
		assert_ok(c->ops->create(c->engine, w->group, ENGINE_MEMBER, names[i], &owner, &w->members[i]));
	} else if (w->sessions[i] == NULL && pick(w, 2) == 0) {
		assert_ok(c->ops->member->session_open(w->members[i], &w->sessions[i]));
	} else if (w->sessions[i] != NULL) {
		c->ops->member->session_close(w->sessions[i]);
		w->sessions[i] = NULL;
	} else {
		assert_ok(c->ops->remove(w->members[i]));
		c->ops->put(w->members[i]);
		w->members[i] = NULL;
	}
}

/* Who has the partition: a member, or the group itself if it has none; NULL: nobody. */
static struct engine_object *owner_of(struct work *w, uint32_t partition)
{
	struct engine_member_stat stat;
	bool some = false;

	for (unsigned i = 0; i < MEMBERS; i++) {
		if (w->members[i] == NULL)
			continue;
		assert_ok(w->c.ops->member->member_stat(w->members[i], &stat));
		if (stat.owned[0] >> partition & 1)
			return w->members[i];
		some = some || stat.joined;
	}
	return some ? NULL : w->group;
}

static void take_some(struct work *w, struct engine_object *who)
{
	struct engine_consumer *consumer = contract_consumer(&w->c, who, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	struct engine_view view;

	for (unsigned n = 1 + pick(w, 5); n > 0; n--) {
		if (w->c.ops->consumer_fetch(consumer, 1, SIZE_MAX, &w->c.scratch, &view) != 1)
			break;
	}
	w->c.ops->consumer_close(consumer);
}

static void settle_one(struct work *w, struct engine_object *who, uint32_t partition, bool reject)
{
	struct engine_cursor_stat stat;
	uint64_t offset;

	assert_ok(w->c.ops->cursor_stat(w->group, partition, &stat));
	if (stat.given == stat.committed)
		return;
	offset = stat.committed + (pick(w, 3) == 0 ? pick(w, (unsigned)(stat.given - stat.committed)) : 0);
	assert_ok(reject ? w->c.ops->member->reject(who, partition, offset) : w->c.ops->ack(who, partition, offset));
}

enum action { PRODUCE, SYNC, MEMBERS_CHANGE, TAKE, ACK, ACK_ALL, REJECT, REJECT_ALL, REDRIVE, CONFIRM, CHECKPOINT };
static const struct {
	const char *name;
	unsigned weight;
} actions[] = { { "produce", 18 }, { "sync", 6 }, { "members", 9 }, { "take", 22 }, { "ack", 8 }, { "ack all", 4 },
	{ "reject", 11 }, { "reject all", 6 }, { "redrive", 7 }, { "confirm", 6 }, { "checkpoint", 3 } };

static enum action pick_action(struct work *w)
{
	unsigned dice = pick(w, 100);
	enum action action = PRODUCE;

	while (dice >= actions[action].weight)
		dice -= actions[action++].weight;
	return action;
}

/* The work of seed 0: what came back is acked, and that confirmed, before its log was synced. */
static const enum action script[] = { PRODUCE, PRODUCE, PRODUCE, SYNC, TAKE, REJECT_ALL, TAKE, REJECT_ALL, REJECT_ALL,
	CHECKPOINT, REDRIVE, TAKE, TAKE, ACK_ALL, CONFIRM, PRODUCE };

static void act(struct work *w, enum action action)
{
	uint32_t partition = pick(w, PARTITIONS);
	struct engine_object *who = owner_of(w, partition);
	struct contract *c = &w->c;

	if (who == NULL && action >= TAKE && action <= REJECT_ALL)
		return;
	switch (action) {
	case PRODUCE: produce(w, partition); break;
	case SYNC: sync_topic(w); break;
	case MEMBERS_CHANGE: change_members(w); break;
	case TAKE: take_some(w, who); break;
	case ACK: settle_one(w, who, partition, false); break;
	case ACK_ALL: assert_ok(c->ops->ack_all(who, ENGINE_ANY)); break;
	case REJECT: settle_one(w, who, partition, true); break;
	case REJECT_ALL: cr_assert_geq(c->ops->member->reject_all(who, partition), 0); break;
	case REDRIVE: cr_assert_geq(c->ops->queue->redrive(w->dlq, 0, UINT64_MAX), 0); break;
	case CONFIRM: assert_ok(contract_sync_group(c, w->group)); break;
	case CHECKPOINT: assert_ok(checkpoint_run((struct local *)c->engine)); break;
	}
}

static void one_step(struct work *w, enum action action)
{
	struct step *step = &w->steps[++w->count];

	step->begin = powercut_count(w->cut);
	step->action = action;
	act(w, action);
	step->end = powercut_count(w->cut);
	step->all = action == CONFIRM || action == CHECKPOINT;
	step->durable = action == REJECT || action == REJECT_ALL || action == REDRIVE;
	step->after = look(&w->c, "before any crash");
	for (unsigned m = 0; m < w->next; m++) {
		cr_assert_leq(step->after.pending[m] + step->after.dead[m], 1, "m%u is there twice after %s", m,
		    actions[action].name);
		if (w->confirmed[m] == SIZE_MAX && step->after.dead[m] > 0)
			w->confirmed[m] = step->end;
	}
}

/* ---- what may be there ---- */

struct moment {
	struct work *work;
	size_t n, first, last; /* steps: the last that is over, and the one that may be under way */
	bool kill;
	char what[120];
};

static struct moment moment_of(struct work *w, size_t n, bool kill, uint64_t seed)
{
	struct moment m = { .work = w, .n = n, .kill = kill };

	while (m.first < w->count && w->steps[m.first + 1].end <= n)
		m.first++;
	m.last = m.first < w->count && w->steps[m.first + 1].begin < n ? m.first + 1 : m.first;
	snprintf(m.what, sizeof(m.what), "seed %" PRIu64 ", %s after %zu changes (%" PRIu64 "), %s %zu", w->seed,
	    kill ? "kill" : "power cut", n, seed, actions[w->steps[m.last].action].name, m.last);
	return m;
}

static bool changes_message(const struct step *step, unsigned m)
{
	return step[0].after.pending[m] != step[-1].after.pending[m] || step[0].after.dead[m] != step[-1].after.dead[m];
}

static bool is_sure(const struct step *step, bool changes)
{
	return step->all || (step->durable && changes);
}

/* As one of the steps says that may be the last of which the disk knows. */
static void check_message(const struct moment *at, const struct where *where, unsigned m)
{
	struct work *w = at->work;
	bool right = !at->kill && w->confirmed[m] > at->n && where->pending[m] == 0 && where->dead[m] == 0;

	for (size_t i = at->last;; i--) {
		const struct step *step = &w->steps[i];

		right = right || (where->pending[m] == step->after.pending[m] && where->dead[m] == step->after.dead[m]);
		if (i == 0 || (i <= at->first && (at->kill || is_sure(step, changes_message(step, m)))))
			break;
	}
	cr_assert(
	    right, "%s: m%u is pending %u times and dead %u times", at->what, m, where->pending[m], where->dead[m]);
}

/*
 * A power cut may take messages of a partition whose log was not synced, dead letters too: then its cursor goes back to the end that
 * is left, before what a redrive brings.
 */
static bool lost_some(const struct moment *at, uint32_t partition)
{
	bool some = false;

	for (unsigned m = 0; m < at->work->next && !at->kill; m++)
		some = some || (at->work->partition[m] == partition && at->work->synced[m] > at->n);
	return some;
}

static void check_cursor(const struct moment *at, const struct where *where, uint32_t p)
{
	struct work *w = at->work;
	uint64_t least, most = w->steps[at->last].after.committed[p];
	size_t i = at->first;

	while (i > 0 && !at->kill &&
	       !is_sure(&w->steps[i], w->steps[i].after.committed[p] != w->steps[i - 1].after.committed[p]))
		i--;
	least = lost_some(at, p) ? 0 : w->steps[i].after.committed[p];
	cr_assert(where->committed[p] >= least && where->committed[p] <= most,
	    "%s: the cursor of %u is %" PRIu64 ", not %" PRIu64 " to %" PRIu64, at->what, p, where->committed[p], least,
	    most);
}

static void check_where(const struct moment *at, const struct where *where)
{
	for (unsigned m = 0; m < MESSAGES; m++)
		check_message(at, where, m);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		check_cursor(at, where, p);
}

/* ---- after the crash it goes on ---- */

/* A member that is there, or the group. */
static struct engine_object *first_member(struct work *w, unsigned i)
{
	struct engine_object *member = NULL;

	w->c.ops->lookup(w->c.engine, w->group, ENGINE_MEMBER, names[i], &member);
	return member;
}

/* All who share the partitions are given all that is pending, in order. */
static void check_given(struct work *on, const struct where *where, const char *what)
{
	uint64_t next[PARTITIONS] = { where->committed[0], where->committed[1] };
	bool some = false;

	for (unsigned i = 0; i <= MEMBERS; i++) {
		struct engine_object *who = i < MEMBERS ? on->members[i] : some ? NULL : on->group;
		struct engine_consumer *consumer;
		struct engine_view view;

		if (who == NULL)
			continue;
		some = true;
		consumer = contract_consumer(&on->c, who, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
		while (on->c.ops->consumer_fetch(consumer, 1, SIZE_MAX, &on->c.scratch, &view) == 1) {
			cr_assert_eq(view.offset, next[view.partition], "%s: given is %" PRIu64 ", not %" PRIu64, what,
			    view.offset, next[view.partition]);
			next[view.partition]++;
		}
		on->c.ops->consumer_close(consumer);
	}
	for (uint32_t p = 0; p < PARTITIONS; p++)
		cr_assert_eq(next[p], where->end[p], "%s: of %u was given up to %" PRIu64 " of %" PRIu64, what, p,
		    next[p], where->end[p]);
}

/* All that is pending is rejected, and all that is dead redriven: then all is pending, once. */
static void go_on(struct work *on, const struct where *before, const char *what)
{
	struct where where;

	for (uint32_t p = 0; p < PARTITIONS; p++)
		cr_assert_geq(on->c.ops->member->reject_all(owner_of(on, p), p), 0);
	where = look(&on->c, what);
	for (unsigned m = 0; m < MESSAGES; m++)
		cr_assert(where.pending[m] == 0 && where.dead[m] == before->pending[m] + before->dead[m],
		    "%s: m%u is %u and %u once all is rejected", what, m, where.pending[m], where.dead[m]);
	cr_assert_geq(on->c.ops->queue->redrive(on->dlq, 0, UINT64_MAX), 0);
	where = look(&on->c, what);
	for (unsigned m = 0; m < MESSAGES; m++)
		cr_assert(where.dead[m] == 0 && where.pending[m] == before->pending[m] + before->dead[m],
		    "%s: m%u is %u and %u once all is redriven", what, m, where.pending[m], where.dead[m]);
}

static void check_store(struct contract *c, const struct moment *at)
{
	struct work *on = calloc(1, sizeof(*on));
	struct where where = look(c, at->what), again;

	check_where(at, &where);
	contract_reopen(c);
	again = look(c, at->what);
	cr_assert_eq(memcmp(&where, &again, sizeof(where)), 0, "%s: another start makes another thing of it", at->what);
	on->c = *c;
	find(on);
	for (unsigned i = 0; i < MEMBERS; i++)
		on->members[i] = first_member(on, i);
	check_given(on, &where, at->what);
	go_on(on, &where, at->what);
	put_all(on);
	c->scratch = on->c.scratch;
	free(on);
}

/* ---- every moment ---- */

static bool is_new(uint64_t *hashes, size_t *count, uint64_t hash)
{
	for (size_t i = 0; i < *count && i < HASHES; i++) {
		if (hashes[i] == hash)
			return false;
	}
	hashes[(*count)++ % HASHES] = hash; /* the last ones are enough: images repeat where nothing was written */
	return true;
}

static void check_moment(struct work *w, size_t n, unsigned image, struct figures *figures)
{
	static uint64_t hashes[HASHES];
	static size_t count;
	bool kill = image == IMAGES - 1;
	uint64_t seed = kill ? 1 : image < 2 ? image : (w->seed << 32) + n * IMAGES + image;
	struct moment at = moment_of(w, n, kill, seed);
	struct contract *c = calloc(1, sizeof(*c));
	uint64_t hash = 0;

	if (n == 0 && image == 0)
		count = 0;
	q_prepare(c, true);
	hash = crash_make(c, w->cut, n, seed, kill);
	contract_open(c);
	figures->states++;
	if (kill || is_new(hashes, &count, hash)) {
		figures->distinct++;
		check_store(c, &at);
	}
	q_close(c);
	free(c);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static struct work *record(uint64_t seed)
{
	struct work *w = calloc(1, sizeof(*w));
	struct engine_object *topic;

	w->seed = w->random = seed;
	q_open(&w->c, true);
	topic = contract_topic(&w->c, "t", PARTITIONS);
	w->c.ops->put(contract_group(&w->c, topic, "g"));
	w->c.ops->put(topic);
	find(w);
	assert_ok(checkpoint_run((struct local *)w->c.engine)); /* all so far is on disk */
	timers_stop((struct local *)w->c.engine);
	w->cut = powercut_start_store(((struct local *)w->c.engine)->store.dirfd, "catalog", "reserve");
	w->steps[0].all = true;
	for (unsigned i = 0; seed == 0 && i < sizeof(script) / sizeof(script[0]); i++)
		one_step(w, script[i]);
	for (unsigned i = 0; seed > 0 && i < STEPS; i++)
		one_step(w, pick_action(w));
	powercut_stop(w->cut);
	put_all(w);
	q_close(&w->c);
	return w;
}

Test(local_group_crash, every_change)
{
	uint64_t first = from_environment("MQFS_GROUP_SEED", 0), works = from_environment("MQFS_GROUP_WORKS", 3);
	uint64_t seconds = from_environment("MQFS_GROUP_SECONDS", 0), seed = first;
	time_t until = seconds > 0 ? time(NULL) + (time_t)seconds : 0;
	struct figures f = { 0 };

	tmpdir_in_memory();
	nosync_install();
	for (; seed < first + works && (until == 0 || time(NULL) < until); seed++) {
		struct work *w = record(seed);

		for (size_t n = 0; n <= powercut_count(w->cut); n++) {
			for (unsigned image = 0; image < IMAGES; image++)
				check_moment(w, n, image, &f);
		}
		f.works++;
		powercut_free(w->cut);
		free(w);
	}
	printf("groups %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f.states, f.distinct, f.works,
	    first, seed - 1);
	fflush(stdout);
}

/* ---- every change fails once ---- */

static const char *describe(struct contract *c, char text[64])
{
	struct where where = look(c, "after a fault");
	size_t used = (size_t)snprintf(text, 64, "%" PRIu64, where.committed[0]);

	for (unsigned m = 0; m < 3; m++)
		used += (size_t)snprintf(text + used, 64 - used, " %u/%u", where.pending[m], where.dead[m]);
	return text;
}

/* A reject of m0 and m1, or a redrive of them. Returns false if the n-th change was never reached. */
static bool check_fault(uint64_t n, int err, bool sticky, bool redrives)
{
	const char *before = redrives ? "2 0/1 0/1 1/0" : "0 1/0 1/0 1/0";
	const char *after = redrives ? "2 1/0 1/0 1/0" : "2 0/1 0/1 1/0";
	struct work *w = calloc(1, sizeof(*w));
	struct contract *c = &w->c;
	char what[64], text[64];
	uint64_t counted;
	int64_t rc;

	snprintf(what, sizeof(what), "change %" PRIu64 " of a %s fails with %s", n, redrives ? "redrive" : "reject",
	    strerrorname_np(err));
	q_open(c, true);
	w->topic = contract_topic(c, "t", PARTITIONS);
	w->group = contract_group(c, w->topic, "g");
	w->dlq = contract_lookup(c, w->group, ENGINE_QUEUE, "dlq");
	contract_send(c, w->topic, 0, "m0\nm1\n");
	contract_snapshot(c, w->group);
	contract_send(c, w->topic, 0, "m2\n");
	if (redrives)
		cr_assert_eq(c->ops->member->reject_all(w->group, 0), 2);
	timers_stop((struct local *)c->engine);
	fault_arm(FAULT_ANY, n, err, sticky);
	rc = redrives ? c->ops->queue->redrive(w->dlq, 0, UINT64_MAX) : c->ops->member->reject_all(w->group, 0);
	counted = fault_disarm();
	cr_assert(rc == 2 || rc == -err || rc == -EIO || rc == -EROFS, "%s: %" PRId64, what, rc);
	describe(c, text);
	cr_assert(strcmp(text, rc < 0 ? before : after) == 0 || rc == 2, "%s: %" PRId64 ", and %s", what, rc, text);
	put_all(w);
	c->ops->put(c->root);
	c->ops->close(c->engine); /* what does not work any more may say so */
	contract_open(c);
	describe(c, text);
	cr_assert(strcmp(text, after) == 0 || (rc < 0 && strcmp(text, before) == 0), "%s: %" PRId64 ", then %s", what,
	    rc, text);
	q_close(c);
	free(w);
	return counted >= n;
}

/* What is refused has not happened, or (if the sync of the journal failed) has, as the next start shows; nothing in between. */
Test(local_group_crash, every_fault)
{
	tmpdir_in_memory();
	nosync_install();
	for (int redrives = 0; redrives < 2; redrives++) {
		for (uint64_t n = 1; check_fault(n, EIO, false, redrives); n++)
			;
		for (uint64_t n = 1; check_fault(n, ENOSPC, true, redrives); n++)
			;
	}
}
