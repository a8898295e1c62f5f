/*
 * Power loss, many times: random works on a store are recorded, the disks that a power cut or a kill could leave at each of their
 * changes are made, opened by the real recovery, closed, and looked at by a checker that shares no code with the engine.
 *
 * The works: producing to topics (segments of 4 KiB, which roll), to queues, through an exchange to both, in transactions;
 * leases and acks, cursors of a group, purges and retention, checkpoints, making and removing topics, closing and opening. Of each
 * message it is known when its call began and returned, and when a sync confirmed it. In every state then:
 *   - what was confirmed (killed only: accepted) is there, whole, once, in its place; what was purged is not;
 *   - nothing is there that was not sent; messages of a partition or priority are in order;
 *   - what was settled and confirmed is not live; what nobody settled is;
 *   - what a transaction or an exchange gave to two targets is in both or in none;
 *   - objects that were made are there, those removed are not; cursors are where they were put;
 *   - every checksum and number in every file is right, and what is produced then is there after the next closing.
 * From some states the recovery is recorded, too, and cut, and the same holds of what the next one makes of that.
 *
 * MQFS_POWER_STATES (distinct ones, by a hash of the image; 3000), MQFS_POWER_SECONDS (0: no bound), MQFS_POWER_SEED (1, the first of
 * the works), MQFS_POWER_FROM (0: the change of each to begin at), MQFS_POWER_JOBS (1); MQFS_POWER_KEEP: stop at the first violation,
 * with the store as it was before its recovery in /dev/shm/long-before. The last line is: power STATES DISTINCT RECOVERY WORKS VIOLATIONS FIRST-SEED LAST-SEED.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/local_internal.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"
#include "tests/lib/tmpdir.h"
#include "tests/long/checker.h"

#define NEVER SIZE_MAX
#define COPIES 4096u
#define NAMES 64u
#define STEPS 90u
#define SEEDS 14u /* images for each change */
#define RECOVERIES_ONE_OF 8u
#define RECOVERY_CUTS 6u
#define GOES_ON 999999u /* number of the message that each state takes at the end */

enum target { T, U, R, Q, TARGETS };
static const char *const target_names[TARGETS] = { "t", "u", "r", "q" };

/* A message in one target. Moments are counts of changes. */
struct copy {
	enum target target;
	unsigned number, pair; /* pair: index of the copy in another target, +1; 0: none */
	bool tx;               /* in a transaction */
	size_t begin, accepted, confirmed;
	size_t gone_begin, gone; /* purged or settled: asked for, and confirmed */
	uint64_t id;             /* of the queue's */
};

struct name {
	size_t make, made, remove, removed;
};

struct seek {
	uint64_t committed;
	size_t begin, accepted, confirmed;
};

/* Shared between the children. */
struct figures {
	_Atomic uint64_t tried, distinct, recovery, works, violations, last_seed;
};

struct work {
	struct tmpdir dir;
	char source[PATH_MAX + 16];
	struct engine *engine;
	const struct engine_ops *ops;
	struct engine_object *root, *targets[TARGETS], *group, *exchange;
	struct engine_scratch scratch;
	struct powercut *cut;
	uint64_t random, seed;
	struct copy copies[COPIES];
	size_t count;
	struct name names[NAMES];
	unsigned name_count;
	struct seek seeks[2][STEPS + 1];
	unsigned seek_count[2];
	unsigned next;
	struct figures *figures;
	uint64_t *hashes;
	size_t hash_room;
};

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s (%s)\n", what, strerror(errno), engine_reason());
		abort();
	}
}
#define OK(call) must((call) >= 0, #call)

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static unsigned pick(struct work *w, unsigned count)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(w->random >> 33) % count;
}

static size_t now(const struct work *w)
{
	return w->cut != NULL ? powercut_count(w->cut) : 0;
}

/* ---- the works ---- */

struct wait {
	struct engine_done done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
	int result;
};

static void over(struct engine_done *done, int result)
{
	struct wait *wait = (struct wait *)done;

	pthread_mutex_lock(&wait->lock);
	wait->over = true;
	wait->result = result;
	pthread_cond_signal(&wait->changed);
	pthread_mutex_unlock(&wait->lock);
}

static int wait_for(struct wait *wait, int rc)
{
	if (rc != ENGINE_PENDING)
		return rc;
	pthread_mutex_lock(&wait->lock);
	while (!wait->over)
		pthread_cond_wait(&wait->changed, &wait->lock);
	pthread_mutex_unlock(&wait->lock);
	return wait->result;
}
#define WAIT ((struct wait){ { over }, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 })

static size_t payload(unsigned number, char out[512])
{
	size_t len = (size_t)sprintf(out, "m%u ", number), filler = number * 2654435761u >> 8 & 255;

	for (size_t i = 0; i < filler; i++)
		out[len++] = (char)('a' + (number + i) % 26);
	return len;
}

static struct copy *add_copy(struct work *w, enum target target, unsigned number, size_t begin)
{
	must(w->count < COPIES, "too many messages");
	w->copies[w->count] = (struct copy){ .target = target,
		.number = number,
		.begin = begin,
		.accepted = now(w),
		.confirmed = NEVER,
		.gone_begin = NEVER,
		.gone = NEVER };
	return &w->copies[w->count++];
}

static struct engine_batch make_batch(struct work *w, unsigned count, char *data)
{
	struct engine_batch batch = { .data = data, .count = count, .cred = { 1, 2, 3 }, .ts_ms = -1 };

	for (unsigned i = 0; i < count; i++) {
		batch.len += payload(w->next + i, data + batch.len);
		data[batch.len++] = '\n';
	}
	return batch;
}

static struct engine_producer *producer(struct work *w, enum target target, uint32_t part)
{
	struct engine_producer *p = NULL;

	if (target == Q)
		OK(w->ops->queue->producer_open(w->targets[Q], part, false, &p));
	else
		OK(w->ops->producer_open(w->targets[target], part, (struct engine_span){ NULL, 0 }, &p));
	return p;
}

static void send_batch(struct work *w, enum target target)
{
	struct engine_producer *p = producer(w, target,
	    target == T   ? pick(w, 2)
	    : target == Q ? pick(w, 3)
			  : ENGINE_ANY);
	char data[4096];
	unsigned count = 1 + pick(w, 5);
	struct engine_batch batch = make_batch(w, count, data);
	struct wait wait = WAIT;
	size_t begin = now(w);

	OK(wait_for(&wait, w->ops->producer_send(p, &batch, &wait.done)));
	for (unsigned i = 0; i < count; i++)
		add_copy(w, target, w->next++, begin);
	w->ops->producer_close(p);
}

static void pair_up(struct work *w, unsigned count, size_t begin, bool confirmed)
{
	for (unsigned i = 0; i < count; i++, w->next++) {
		struct copy *u = add_copy(w, U, w->next, begin), *q = add_copy(w, Q, w->next, begin);

		u->pair = (unsigned)(q - w->copies) + 1;
		q->pair = (unsigned)(u - w->copies) + 1;
		u->tx = q->tx = confirmed;
		if (confirmed)
			u->confirmed = q->confirmed = u->accepted;
	}
}

static void publish(struct work *w)
{
	struct engine_producer *p = NULL;
	struct wait wait = WAIT;
	char data[4096];
	unsigned count = 1 + pick(w, 3);
	struct engine_batch batch = make_batch(w, count, data);
	size_t begin = now(w);

	OK(w->ops->producer_open(w->exchange, ENGINE_ANY, (struct engine_span){ "k", 1 }, &p));
	OK(wait_for(&wait, w->ops->producer_send(p, &batch, &wait.done)));
	w->ops->producer_close(p);
	pair_up(w, count, begin, false);
}

static void transact(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *tx = NULL;
	char data[4096], name[32];
	unsigned count = 1 + pick(w, 3);
	struct engine_batch batch = make_batch(w, count, data);
	size_t begin = now(w);

	snprintf(name, sizeof(name), "tx%u", w->next);
	OK(w->ops->create(w->engine, w->root, ENGINE_TX, name, &owner, &tx));
	for (int i = 0; i < 2; i++) {
		struct engine_producer *p = NULL;

		OK(w->ops->tx->producer_open(
		    tx, w->targets[i == 0 ? U : Q], ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, &p));
		OK(w->ops->producer_send(p, &batch, NULL));
		w->ops->producer_close(p);
	}
	OK(w->ops->tx->commit(tx));
	w->ops->put(tx);
	pair_up(w, count, begin, true);
}

static void confirm(struct work *w, enum target target, size_t before)
{
	for (size_t i = 0; i < w->count; i++) {
		struct copy *c = &w->copies[i];

		if (c->target == target && c->accepted <= before && c->confirmed == NEVER)
			c->confirmed = now(w);
	}
}

static void sync_target(struct work *w, enum target target)
{
	struct engine_producer *p = producer(w, target, ENGINE_ANY);
	struct wait wait = WAIT, settle = WAIT;
	size_t before = now(w);

	OK(wait_for(&wait, w->ops->producer_sync(p, &wait.done)));
	w->ops->producer_close(p);
	confirm(w, target, before);
	if (target != Q)
		return;
	before = now(w);
	OK(wait_for(&settle, w->ops->queue->settle_sync(w->targets[Q], &settle.done)));
	for (size_t i = 0; i < w->count; i++)
		if (w->copies[i].target == Q && w->copies[i].gone_begin < before && w->copies[i].gone == NEVER)
			w->copies[i].gone = now(w);
}

static struct copy *find_copy(struct work *w, enum target target, unsigned number)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->copies[i].target == target && w->copies[i].number == number)
			return &w->copies[i];
	return NULL;
}

static void lease(struct work *w)
{
	struct engine_consumer *consumer = NULL;
	struct engine_view view;
	bool settles = pick(w, 4) > 0;

	OK(w->ops->queue->consumer_open(w->targets[Q], ENGINE_CONSUME_SNAPSHOT, false, &consumer));
	while (w->ops->consumer_fetch(consumer, 1 + pick(w, 3), SIZE_MAX, &w->scratch, &view) == 1 && pick(w, 3) > 0) {
		const char *data = view.batch.data;

		for (unsigned i = 0; i < view.batch.count && settles; i++) {
			struct copy *c = find_copy(w, Q, (unsigned)strtoul(data + 1, NULL, 10));
			size_t begin = now(w);

			must(c != NULL, "a message nobody sent");
			data += view.batch.lengths[i] + 1;
			c->gone_begin = begin;
			OK(w->ops->queue->settle(
			    w->targets[Q], ENGINE_ACK, view.deliveries[i].id, view.deliveries[i].id));
		}
	}
	w->ops->consumer_close(consumer);
}

static void move_cursor(struct work *w)
{
	struct engine_consumer *consumer = NULL;
	struct engine_cursor_stat stat;
	struct engine_view view;

	OK(w->ops->consumer_open(w->group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT, &consumer));
	for (unsigned n = 1 + pick(w, 4); n > 0; n--)
		if (w->ops->consumer_fetch(consumer, 2, SIZE_MAX, &w->scratch, &view) != 1)
			break;
	w->ops->consumer_close(consumer);
	for (uint32_t p = 0; p < 2; p++) {
		struct seek *seek = &w->seeks[p][w->seek_count[p]];

		if (w->seek_count[p] >= STEPS)
			continue;
		OK(w->ops->cursor_stat(w->group, p, &stat));
		*seek = (struct seek){ stat.given, now(w), 0, NEVER };
		OK(w->ops->ack_all(w->group, p));
		seek->accepted = now(w);
		w->seek_count[p]++;
	}
}

static void confirm_cursors(struct work *w, size_t before)
{
	for (uint32_t p = 0; p < 2; p++)
		for (unsigned i = 0; i < w->seek_count[p]; i++)
			if (w->seeks[p][i].accepted <= before && w->seeks[p][i].confirmed == NEVER)
				w->seeks[p][i].confirmed = now(w);
}

static void sync_group(struct work *w)
{
	struct wait wait = WAIT;
	size_t before = now(w);

	OK(wait_for(&wait, w->ops->group_sync(w->group, &wait.done)));
	confirm_cursors(w, before);
}

/* All of u, or some of it: what went is found by looking at what is left. */
static void purge(struct work *w)
{
	struct engine_partition_stat stat;
	uint64_t before;
	struct engine_view view;
	unsigned left = UINT32_MAX;
	size_t begin = now(w);

	OK(w->ops->partition_stat(w->targets[U], 0, &stat));
	before = stat.earliest + (stat.end > stat.earliest ? pick(w, (unsigned)(stat.end - stat.earliest) + 1) : 0);
	if (before < stat.end) {
		OK(w->ops->partition_read(w->targets[U], 0, before, 1, &w->scratch, &view));
		left = (unsigned)strtoul(view.batch.data + 1, NULL, 10);
	}
	OK(w->ops->partition_purge(w->targets[U], 0, before));
	for (size_t i = 0; i < w->count; i++) {
		struct copy *c = &w->copies[i];

		if (c->target == U && c->number < left && c->gone_begin == NEVER) {
			c->gone_begin = begin;
			c->gone = now(w);
		}
	}
}

static void make_topic(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *topic = NULL;
	struct name *n = &w->names[w->name_count];
	char name[16];

	if (w->name_count >= NAMES)
		return;
	snprintf(name, sizeof(name), "x%u", w->name_count++);
	*n = (struct name){ now(w), NEVER, NEVER, NEVER };
	OK(w->ops->create(w->engine, w->root, ENGINE_TOPIC, name, &owner, &topic));
	n->made = now(w);
	if (pick(w, 2) == 0) {
		n->remove = now(w);
		OK(w->ops->remove(topic));
		n->removed = now(w);
	}
	w->ops->put(topic);
}

static void set(
    struct work *w, struct engine_object *object, enum engine_kind kind, const char *name, const char *value)
{
	OK(w->ops->set_setting(object, engine_setting_find(kind, name), value));
}

static void open_engine(struct work *w)
{
	struct engine_options options = { .create = true, .root_owner = { 1, 2, 0755 } };

	OK(engine_open(w->source, &options, &w->engine));
	w->ops = w->engine->ops;
	OK(w->ops->get(w->engine, ENGINE_ROOT_ID, &w->root));
}

static void find_objects(struct work *w)
{
	for (int i = 0; i < TARGETS; i++)
		OK(w->ops->lookup(
		    w->engine, w->root, i == Q ? ENGINE_QUEUE : ENGINE_TOPIC, target_names[i], &w->targets[i]));
	OK(w->ops->lookup(w->engine, w->targets[T], ENGINE_GROUP, "g", &w->group));
	OK(w->ops->lookup(w->engine, w->root, ENGINE_EXCHANGE, "e", &w->exchange));
}

static void close_engine(struct work *w)
{
	for (int i = 0; i < TARGETS; i++)
		w->ops->put(w->targets[i]);
	w->ops->put(w->group);
	w->ops->put(w->exchange);
	w->ops->put(w->root);
	OK(w->ops->close(w->engine));
}

static void reopen(struct work *w)
{
	size_t before = now(w);

	close_engine(w);
	for (int i = 0; i < TARGETS; i++)
		confirm(w, (enum target)i, before);
	confirm_cursors(w, before);
	for (size_t i = 0; i < w->count; i++)
		if (w->copies[i].gone_begin < before && w->copies[i].gone == NEVER)
			w->copies[i].gone = now(w);
	open_engine(w);
	find_objects(w);
}

static void set_up(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };

	for (int i = 0; i < TARGETS; i++) {
		enum engine_kind kind = i == Q ? ENGINE_QUEUE : ENGINE_TOPIC;

		OK(w->ops->create(w->engine, w->root, kind, target_names[i], &owner, &w->targets[i]));
		if (kind == ENGINE_TOPIC)
			set(w, w->targets[i], kind, "segment.bytes", "4096");
	}
	set(w, w->targets[T], ENGINE_TOPIC, "partitions", "2");
	set(w, w->targets[R], ENGINE_TOPIC, "retention.bytes", "6000");
	OK(w->ops->create(w->engine, w->targets[T], ENGINE_GROUP, "g", &owner, &w->group));
	OK(w->ops->create(w->engine, w->root, ENGINE_EXCHANGE, "e", &owner, &w->exchange));
	OK(w->ops->exchange->set_type(w->exchange, ENGINE_FANOUT));
	OK(w->ops->exchange->pattern_add(w->exchange, "all"));
	OK(w->ops->exchange->bind(w->exchange, "all", "u", w->targets[U]));
	OK(w->ops->exchange->bind(w->exchange, "all", "q", w->targets[Q]));
}

static void one_step(struct work *w)
{
	unsigned dice = pick(w, 100);

	if (dice < 12)
		send_batch(w, T);
	else if (dice < 22)
		send_batch(w, U);
	else if (dice < 32)
		send_batch(w, R);
	else if (dice < 46)
		send_batch(w, Q);
	else if (dice < 53)
		publish(w);
	else if (dice < 57)
		transact(w);
	else if (dice < 71)
		sync_target(w, (enum target)pick(w, TARGETS));
	else if (dice < 81)
		lease(w);
	else if (dice < 86)
		move_cursor(w);
	else if (dice < 88)
		sync_group(w);
	else if (dice < 91)
		purge(w);
	else if (dice < 94)
		make_topic(w);
	else if (dice < 98)
		OK(checkpoint_run((struct local *)w->engine));
	else
		reopen(w);
}

/* ---- a state ---- */

struct state {
	struct checker checker;
	struct work *work;
	size_t n;
	bool kill, goes_on;
	uint8_t seen[COPIES], live[COPIES];
	unsigned last[TARGETS][10];
	bool names[NAMES], topics[TARGETS], went_on[2];
	uint64_t committed[2];
	unsigned lowest; /* of r */
};

static void on_message(struct checker *checker, const struct checker_message *m)
{
	struct state *s = checker->ctx;
	unsigned number = 0, target = 0;
	struct copy *c;
	char want[512];

	while (target < TARGETS && strcmp(target_names[target], m->name) != 0)
		target++;
	if (target == TARGETS || sscanf(m->payload, "m%u ", &number) != 1) {
		checker_wrong(checker, "%s: offset %" PRIu64 ": %.*s", m->name, m->offset, (int)m->size, m->payload);
		return;
	}
	if (payload(number, want) != m->size || memcmp(want, m->payload, m->size) != 0)
		checker_wrong(checker, "%s: m%u is torn", m->name, number);
	if (number == GOES_ON) {
		s->went_on[target == Q] = true;
		return;
	}
	c = find_copy(s->work, (enum target)target, number);
	if (c == NULL || c->begin >= s->n) {
		checker_wrong(checker, "%s: m%u was not sent", m->name, number);
		return;
	}
	if (s->seen[c - s->work->copies]++ > 0)
		checker_wrong(checker, "%s: m%u is there twice, the second time at %" PRIu64 " of %" PRIu32, m->name,
		    number, m->offset, m->index);
	s->live[c - s->work->copies] = m->live;
	if (c->pair == 0) {
		if (number < s->last[target][m->index])
			checker_wrong(checker, "%s: m%u comes after m%u", m->name, number, s->last[target][m->index]);
		s->last[target][m->index] = number;
	}
	if (target == R && number < s->lowest)
		s->lowest = number;
}

static void on_object(struct checker *checker, int kind, const char *name, const char *parent)
{
	struct state *s = checker->ctx;
	unsigned number;

	(void)parent;
	if (kind == ENGINE_TOPIC && sscanf(name, "x%u", &number) == 1 && number < NAMES)
		s->names[number] = true;
}

static void on_cursor(struct checker *checker, const char *group, uint32_t partition, uint64_t committed)
{
	struct state *s = checker->ctx;

	if (strcmp(group, "g") == 0 && partition < 2)
		s->committed[partition] = committed;
}

static void check_copy(struct state *s, const struct copy *c)
{
	size_t i = (size_t)(c - s->work->copies);
	size_t sure = s->kill ? c->accepted : c->confirmed, gone = c->gone;
	bool asked = c->gone_begin < s->n, there = s->seen[i] && (c->target != Q || s->live[i]);
	const char *name = target_names[c->target];

	if (s->kill && c->target == Q && c->gone_begin != NEVER)
		gone = NEVER; /* its ack may have been the next change */
	if (sure <= s->n && !there && !asked && !(c->target == R && c->number < s->lowest && s->lowest != UINT32_MAX))
		checker_wrong(&s->checker, "%s: m%u is lost", name, c->number);
	if (gone <= s->n && there)
		checker_wrong(&s->checker, "%s: m%u is back", name, c->number);
	if (s->seen[i] && c->target == Q && !s->live[i] && !asked)
		checker_wrong(&s->checker,
		    "%s: m%u (%zu to %zu, confirmed %zd, pair %u, tx %d) is settled, and nobody did", name, c->number,
		    c->begin, c->accepted, (ssize_t)c->confirmed, c->pair, c->tx);
	if (c->pair > 0 && !asked) {
		const struct copy *other = &s->work->copies[c->pair - 1];

		if (other->gone_begin >= s->n && s->seen[i] != s->seen[c->pair - 1])
			checker_wrong(&s->checker, "%s: m%u is there, but not in %s",
			    s->seen[i] ? name : target_names[other->target], c->number,
			    s->seen[i] ? target_names[other->target] : name);
	}
}

static void check_rest(struct state *s)
{
	struct work *w = s->work;

	for (unsigned i = 0; i < w->name_count; i++) {
		const struct name *n = &w->names[i];

		if (n->made <= s->n && n->remove >= s->n && !s->names[i])
			checker_wrong(&s->checker, "x%u was made and is not there", i);
		if ((n->make >= s->n || n->removed <= s->n) && s->names[i])
			checker_wrong(&s->checker, "x%u is there", i);
	}
	for (uint32_t p = 0; p < 2; p++) {
		uint64_t least = 0, most = 0;

		for (unsigned i = 0; i < w->seek_count[p]; i++) {
			const struct seek *seek = &w->seeks[p][i];

			if ((s->kill ? seek->accepted : seek->confirmed) <= s->n)
				least = seek->committed;
			if (seek->begin < s->n)
				most = seek->committed;
		}
		/* A cursor beyond what the log lost is taken back to its end, so least holds only of a log that kept all. */
		if (s->committed[p] > most || (s->kill && s->committed[p] < least))
			checker_wrong(&s->checker,
			    "cursor of partition %" PRIu32 ": %" PRIu64 ", not %" PRIu64 " to %" PRIu64, p,
			    s->committed[p], least, most);
	}
	if (s->goes_on && (!s->went_on[0] || !s->went_on[1]))
		checker_wrong(&s->checker, "it does not go on");
}

static void check_state(struct work *w, size_t n, bool kill, bool goes_on, int dirfd, const char *what)
{
	static struct state s;

	memset(&s, 0, sizeof(s));
	s.checker = (struct checker){ .message = on_message, .object = on_object, .cursor = on_cursor, .ctx = &s };
	s.work = w;
	s.n = n;
	s.kill = kill;
	s.goes_on = goes_on;
	s.lowest = UINT32_MAX;
	checker_store(&s.checker, dirfd);
	for (size_t i = 0; i < w->count; i++)
		check_copy(&s, &w->copies[i]);
	check_rest(&s);
	if (s.checker.wrong > 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", change %zu, %s: %s\n", w->seed, n, what, s.checker.text);
	}
}

/* A log is recovered when somebody asks for it. */
static void look_at_all(struct work *on)
{
	for (int i = 0; i < TARGETS; i++) {
		struct engine_partition_stat stat;
		struct engine_queue_stat queue_stat;

		OK(on->ops->lookup(
		    on->engine, on->root, i == Q ? ENGINE_QUEUE : ENGINE_TOPIC, target_names[i], &on->targets[i]));
		if (i == Q)
			OK(on->ops->queue->queue_stat(on->targets[i], &queue_stat));
		else
			for (uint32_t p = 0; p < (i == T ? 2u : 1u); p++)
				OK(on->ops->partition_stat(on->targets[i], p, &stat));
	}
}

/* Opens and closes the store in this directory; goes_on: with a message more in t and q. */
static bool recover(struct work *w, const char *path, bool goes_on, const char *what)
{
	struct work on = { .next = GOES_ON };
	char data[1024];
	int rc;

	snprintf(on.source, sizeof(on.source), "%s", path);
	rc = engine_open(on.source, &(struct engine_options){ .root_owner = { 1, 2, 0755 } }, &on.engine);
	if (rc < 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", %s: does not open: %s\n", w->seed, what, engine_reason());
		return false;
	}
	on.ops = on.engine->ops;
	OK(on.ops->get(on.engine, ENGINE_ROOT_ID, &on.root));
	look_at_all(&on);
	for (int i = 0; goes_on && i < 2; i++) {
		struct engine_batch batch = make_batch(&on, 1, data);
		struct engine_producer *p;
		struct wait wait = WAIT;

		p = producer(&on, i ? Q : T, 0);
		OK(wait_for(&wait, on.ops->producer_send(p, &batch, &wait.done)));
		on.ops->producer_close(p);
	}
	for (int i = 0; i < TARGETS; i++)
		on.ops->put(on.targets[i]);
	on.ops->put(on.root);
	rc = on.ops->close(on.engine);
	if (rc < 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", %s: does not close: %s\n", w->seed, what, strerror(-rc));
	}
	return rc == 0;
}

/* Whether this image is a new one. */
static bool is_new(struct work *w, uint64_t hash)
{
	size_t at = (size_t)hash % w->hash_room;

	hash |= 1;
	atomic_fetch_add(&w->figures->tried, 1);
	while (w->hashes[at] != 0) {
		if (w->hashes[at] == hash)
			return false;
		at = (at + 1) % w->hash_room;
	}
	w->hashes[at] = hash;
	atomic_fetch_add(&w->figures->distinct, 1);
	return true;
}

static void cut_recovery(struct work *w, struct powercut *cut, size_t n, bool kill, const char *what)
{
	char text[200];

	for (unsigned i = 0; i < RECOVERY_CUTS; i++) {
		size_t at = pick(w, (unsigned)powercut_count(cut) + 1);
		uint64_t seed = i == 0 ? 0 : w->random >> 8;
		struct tmpdir dir;

		tmpdir_make(&dir);
		snprintf(text, sizeof(text), "%s, recovery cut at %zu (%" PRIu64 ")", what, at, seed);
		if (is_new(w, powercut_make(cut, at, seed, dir.fd)) && recover(w, dir.path, true, text)) {
			atomic_fetch_add(&w->figures->recovery, 1);
			check_state(w, n, kill, true, dir.fd, text);
		}
		tmpdir_remove(&dir);
	}
}

static void try_state(struct work *w, size_t n, unsigned which)
{
	bool kill = which == 2, records = pick(w, RECOVERIES_ONE_OF) == 0;
	uint64_t seed = kill ? 1 : which < 2 ? which : (w->seed << 40) + n * SEEDS + which;
	struct powercut *cut = NULL;
	struct tmpdir dir;
	char what[100];

	tmpdir_make(&dir);
	snprintf(what, sizeof(what), "%s %" PRIu64, kill ? "kill" : "power cut", seed);
	if (is_new(w, powercut_make(w->cut, n, seed, dir.fd)) || kill) {
		bool has_catalog = faccessat(dir.fd, "catalog", F_OK, 0) == 0;

		if (getenv("MQFS_POWER_KEEP")) {
			char command[PATH_MAX * 2];

			snprintf(command, sizeof(command), "rm -rf /dev/shm/long-before; cp -a %s /dev/shm/long-before",
			    dir.path);
			must(system(command) == 0, command);
		}
		if (records && has_catalog)
			cut = powercut_start_store(dir.fd, "catalog", "reserve");
		if (recover(w, dir.path, !records, what))
			check_state(w, n, kill, !records, dir.fd, what);
		if (cut != NULL) {
			powercut_stop(cut);
			cut_recovery(w, cut, n, kill, what);
			powercut_free(cut);
		}
	}
	if (getenv("MQFS_POWER_KEEP") &&
	    atomic_load(&w->figures->violations) > 0) /* to look at: the state is %s.before */
		raise(SIGSTOP);
	tmpdir_remove(&dir);
}

/* One work, and all states of it. */
static void run_work(struct figures *figures, uint64_t seed, uint64_t states, time_t until)
{
	struct work *w = calloc(1, sizeof(*w));
	int fd;

	w->figures = figures;
	w->seed = w->random = seed;
	w->hash_room = 1 << 18;
	w->hashes = calloc(w->hash_room, sizeof(*w->hashes));
	nosync_install();
	tmpdir_make(&w->dir);
	snprintf(w->source, sizeof(w->source), "%s/store", w->dir.path);
	open_engine(w);
	set_up(w);
	fd = open(w->source, O_RDONLY | O_DIRECTORY);
	w->cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	for (unsigned i = 0; i < STEPS; i++)
		one_step(w);
	powercut_stop(w->cut);
	close_engine(w);
	for (size_t n = from_environment("MQFS_POWER_FROM", 0); n <= powercut_count(w->cut); n++)
		for (unsigned i = 0;
		     i < SEEDS && atomic_load(&figures->distinct) < states && (!until || time(NULL) < until); i++)
			try_state(w, n, i);
	atomic_fetch_add(&figures->works, 1);
	tmpdir_remove(&w->dir);
}

static void run_child(struct figures *figures, uint64_t seed, uint64_t states, time_t until)
{
	int null = open("/dev/null", O_RDONLY);

	dup2(null, 0);
	run_work(figures, seed, states, until);
	_exit(0);
}

int main(void)
{
	struct figures *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t states = from_environment("MQFS_POWER_STATES", 3000), jobs = from_environment("MQFS_POWER_JOBS", 1);
	uint64_t first = from_environment("MQFS_POWER_SEED", 1), seed = first, running = 0;
	uint64_t seconds = from_environment("MQFS_POWER_SECONDS", 0);
	time_t begin = time(NULL), until = seconds ? begin + (time_t)seconds : 0;
	int status;

	tmpdir_in_memory();
	while (running > 0 || (atomic_load(&f->distinct) < states && (!until || time(NULL) < until))) {
		if (running < jobs && atomic_load(&f->distinct) < states && (!until || time(NULL) < until)) {
			if (fork() == 0)
				run_child(f, seed, states, until);
			seed++;
			running++;
			continue;
		}
		wait(&status);
		running--;
		if (status != 0) {
			atomic_fetch_add(&f->violations, 1);
			fprintf(stderr, "a work ended with status %x\n", (unsigned)status);
		}
	}
	fprintf(stderr, "%" PRIu64 " states in %" PRId64 " s\n", f->distinct, (int64_t)(time(NULL) - begin));
	printf("power %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f->tried,
	    f->distinct, f->recovery, f->works, f->violations, first, seed - 1);
	return f->violations > 0;
}
