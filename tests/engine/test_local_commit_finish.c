/*
 * What a start does of notes of commits: made by hand, and given to the very calls that a start makes, in a store that is open. So each
 * allocation and read of these, and each record, fails once, in a few milliseconds; what the next start then does, the same calls
 * do with the note as it is in the journal. And notes that name what is not there, or is something else, do nothing.
 */
#include "engine/bytes.h"
#include "engine/local_commit_note.h"
#include "engine/local_internal.h"
#include "engine/local_queue_span.h"
#include "engine/local_tx.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"

#define MANY 2u   /* messages of a part */
#define PARTS 70u /* of a large note */

static struct {
	struct contract *c;
	struct local *local;
	struct engine_object *q, *p, *dlq, *t, *g, *x;
	uint8_t note[16384]; /* as it is in the journal */
	size_t size;
	uint64_t mark;
	unsigned told;
} f;

static uint64_t id_of(struct engine_object *object)
{
	return contract_id(f.c, object);
}

static void begin(void)
{
	struct contract *c = f.c = calloc(1, sizeof(*f.c));

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue p", "consumer q/w1", "topic t", "tx x");
	f.local = (struct local *)c->engine;
	timers_stop(f.local);
	f.q = q_object(c, "q");
	f.p = q_object(c, "p");
	f.dlq = q_object(c, "q/dlq");
	f.t = q_object(c, "t");
	f.g = contract_group(c, f.t, "g");
	f.x = contract_lookup(c, c->root, ENGINE_TX, "x");
	contract_send(c, f.t, 0, "first\n");
	Q_SCRIPT(c, "send p first", "purge p");
}

static void end(void)
{
	struct engine_object *all[] = { f.q, f.p, f.dlq, f.t, f.g, f.x };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		f.c->ops->put(all[i]);
	q_close(f.c);
	free(f.c);
}

/* ---- notes ---- */

static void add64(uint64_t value)
{
	bytes_put64(f.note + f.size, value);
	f.size += 8;
}

static void add32(uint32_t value)
{
	bytes_put32(f.note + f.size, value);
	f.size += 4;
}

/* A note without messages. */
static void begin_note(void)
{
	assert_ok(queue_next_ids(f.local, MANY + 1, &f.mark));
	f.size = 0;
	add32(0);
	add32(0);
}

/* The tail: what follows are its messages, then its cursors. */
static void begin_tail(uint64_t tx, uint32_t settles, uint32_t cursors)
{
	bytes_put32(f.note + 4, 24 + 40 * settles + 24 * cursors);
	add64(tx);
	add64(77);
	add32(settles);
	add32(cursors);
}

static void add_settle(
    uint64_t id, uint64_t queue, uint64_t consumer, uint64_t place, uint32_t deliveries, uint32_t how)
{
	add64(id);
	add64(queue);
	add64(consumer);
	add64(place);
	add32(deliveries);
	add32(how);
}

static void add_cursor(uint64_t group, uint64_t offset, uint32_t partition, uint32_t seek)
{
	add64(group);
	add64(offset);
	add32(partition);
	add32(seek);
}

/* What commit_keep() does with a part of two messages, for objects each of whose logs is number 0 and ended there. */
static void keep_part(struct engine_object *const *targets, const uint64_t *ends, uint32_t count)
{
	struct commit_target list[4];
	struct commit_log logs[4];
	uint32_t places[MANY] = { 0 }, lengths[MANY] = { 1, 1 };
	struct engine_props props[MANY] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct commit commit;
	struct commit_part part = { .batch = { .data = "x\ny\n",
					.len = 4,
					.count = MANY,
					.lengths = lengths,
					.props = props,
					.ts_ms = clock_wall_ms() },
		.props = props,
		.targets = list,
		.target_count = count };

	for (uint32_t i = 0; i < MANY; i++)
		props[i].mark = f.mark + i;
	for (uint32_t i = 0; i < count; i++) {
		logs[i] = (struct commit_log){ 0, ends[i] };
		list[i] = (struct commit_target){ .object = (struct object *)targets[i],
			.count = MANY,
			.places = places,
			.logs = &logs[i],
			.log_count = 1 };
	}
	commit_init(&commit, f.local);
	commit_keep(&commit, &part);
}

static void add_part(struct engine_object *const *targets, const uint64_t *ends, uint32_t count)
{
	struct commit_pending *pending;

	keep_part(targets, ends, count);
	pending = f.local->commits.pending;
	cr_assert(pending != NULL && pending->hh.next == NULL);
	memcpy(f.note + f.size, pending->note + NOTE_HEAD, pending->size - NOTE_HEAD);
	f.size += pending->size - NOTE_HEAD;
	bytes_put32(f.note, bytes_get32(f.note) + 1);
	commit_forget(f.local);
}

/* As the replay finds it. */
static int replay(uint64_t mark, uint32_t piece, uint32_t pieces, const uint8_t *bytes, size_t size)
{
	uint8_t record[sizeof(f.note)];

	bytes_put64(record, mark);
	bytes_put32(record + 8, piece);
	bytes_put32(record + 12, pieces);
	memcpy(record + COMMIT_PIECE_HEAD, bytes, size);
	return commit_replay(f.local, record, COMMIT_PIECE_HEAD + size);
}

/* What a start does, with all that is in the journal. */
static int start(void)
{
	int rc;

	commit_forget(f.local);
	atomic_store(&f.local->commits.stuck, false);
	rc = replay(f.mark, 0, 1, f.note, f.size);
	if (rc == 0)
		rc = tx_recover(f.local);
	if (rc == 0)
		rc = tx_recover_rest(f.local);
	if (rc == 0)
		rc = commit_finish(f.local);
	return rc;
}

static bool is_done(void)
{
	return !atomic_load(&f.local->commits.stuck) && !commit_keeps_some(f.local);
}

/* ---- names of what is something else ---- */

/* Whatever is named that is not there, or is something else, or is not as it was: nothing is done, and the note is. */
Test(local_commit_finish, names_of_others)
{
	struct contract *c;
	uint64_t queues[4];
	uint64_t places[] = { 0, TX_PLACE(3, 0), TX_PLACE(200, 0), TX_PLACE(0, 500) };
	uint32_t count = 0;

	begin();
	c = f.c;
	Q_SCRIPT(c, "send q a b", "get q/w1 => a");
	contract_snapshot(c, f.g);
	queues[0] = id_of(f.q);
	queues[1] = id_of(f.t);
	queues[2] = id_of(f.g);
	queues[3] = 1 << 30;
	for (uint32_t tx = 0; tx < 3; tx++) {
		begin_note();
		begin_tail(tx == 0 ? id_of(f.q) : tx == 1 ? id_of(f.x) : 0, 4 * 4 * 4, 4);
		count = 0;
		for (uint32_t queue = 0; queue < 4; queue++) {
			for (uint32_t place = 0; place < 4; place++) {
				for (uint32_t how = 0; how < 4; how++, count++)
					add_settle(1 << 29, queues[queue], 0, places[place], 7, how);
			}
		}
		cr_assert_eq(count, 64);
		add_cursor(1 << 30, 1, 0, 0);
		add_cursor(id_of(f.q), 1, 0, 0);
		add_cursor(id_of(f.g), 1, 99, 1);
		add_cursor(id_of(f.g), 1, UINT32_MAX, 0);
		assert_ok(start());
		cr_assert(is_done());
		Q_SCRIPT(c, "show q => b | a | ", "show q/dlq =>  |  | ");
		assert_text(contract_cursor(c, f.g, 0), "0 1 0");
	}
	Q_SCRIPT(c, "state x => committed");
	end();
}

/* What was given back since stands there, delivered as often: it is not acked. */
Test(local_commit_finish, given_back_before)
{
	struct lane *lane;

	begin();
	Q_SCRIPT(f.c, "send q a b", "get q/w1 => a", "nack q/w1 a => 1");
	lane = queue_lane(queue_of_object((struct object *)f.q), 0);
	begin_note();
	begin_tail(id_of(f.x), 1, 0);
	add_settle(1, id_of(f.q), 0, TX_PLACE(0, lane->end - 2), 1, ENGINE_ACK);
	assert_ok(start());
	cr_assert(is_done());
	Q_SCRIPT(f.c, "show q => a,b |  | ");
	end();
}

/* Messages for what is no target; and a lane that there cannot be. */
Test(local_commit_finish, targets_of_others)
{
	struct engine_object *targets[3];
	uint64_t ends[3] = { 0 };

	begin();
	targets[0] = f.g;
	targets[1] = f.x;
	targets[2] = f.p;
	ends[2] = 1;
	begin_note();
	add_part(targets, ends, 3);
	bytes_put64(f.note + NOTE_HEAD + PART_HEAD, 1 << 30); /* instead of the group: nobody */
	assert_ok(start());
	cr_assert(is_done());
	Q_SCRIPT(f.c, "show p => x,y |  | ");
	Q_SCRIPT(f.c, "purge p");
	q_forget();
	begin_note();
	add_part(targets, ends, 3);
	assert_ok(start());
	cr_assert(is_done());
	Q_SCRIPT(f.c, "show p => x,y |  | ");
	end();
}

/* Of a topic whose log was trimmed beyond where it ended, by less than it was to get, the rest is given. */
Test(local_commit_finish, trimmed_in_the_middle)
{
	uint64_t ends[1];

	begin();
	contract_send(f.c, f.t, 0, "x\n"); /* of the two, as if it had the mark */
	assert_ok(f.c->ops->partition_purge(f.t, 0, ENGINE_OFFSET_NONE));
	ends[0] = 1;
	begin_note();
	add_part(&f.t, ends, 1);
	assert_ok(start());
	cr_assert(is_done());
	assert_text(contract_read(f.c, f.t, 0, 2), "2=y");
	end();
}

/* One that the catalog knows to be committed needs no row. */
Test(local_commit_finish, committed_before)
{
	struct tx *tx;

	begin();
	tx = tx_of_object((struct object *)f.x);
	begin_note();
	begin_tail(id_of(f.x), 0, 0);
	assert_ok(start());
	cr_assert(tx->dirty && tx->state == ENGINE_TX_COMMITTED);
	assert_ok(start());
	cr_assert(tx->dirty);
	assert_ok(tx_checkpoint(f.local));
	assert_ok(start());
	cr_assert_not(tx->dirty);
	end();
}

/* ---- one call fails ---- */

struct way {
	const char *name;
	void (*arm)(uint64_t n);
	uint64_t (*disarm)(void);
	bool reads; /* what cannot be read stays where it is */
};

static uint64_t id_at(struct lane *lane, uint64_t offset)
{
	struct engine_view view;
	uint64_t id = 0;

	pthread_mutex_lock(&lane->queue->lock);
	assert_ok(lane_read(lane, offset, 1, &f.c->scratch, &view, &id));
	pthread_mutex_unlock(&lane->queue->lock);
	return id;
}

/* Of a, b and c, which are leased, and d, a dead letter: an ack, a nack, a reject, and one that has gone on; and two messages. */
static void prepare(void)
{
	struct engine_object *targets[2];
	struct queue *dlq = queue_of_object((struct object *)f.dlq);
	struct lane *lane, *dead;
	uint64_t ends[2], places[3];

	q_forget();
	q_tick(1000); /* logs are looked at from the time of the note on */
	Q_SCRIPT(f.c, "send q d", "get q/w1 => d", "reject q/w1 d => 1", "send q a b c", "snap q/w1 => a,b,c");
	lane = queue_lane(queue_of_object((struct object *)f.q), 0);
	for (unsigned i = 0; i < 3; i++)
		places[i] = lane->end - 3 + i;
	dead = queue_lane(dlq, 0);
	targets[0] = f.p;
	targets[1] = f.t;
	ends[0] = queue_lane(queue_of_object((struct object *)f.p), 0)->end;
	ends[1] = contract_partition(f.c, f.t, 0).end;
	begin_note();
	add_part(targets, ends, 2);
	begin_tail(id_of(f.x), 4, 1);
	for (uint32_t how = 0; how < 3; how++)
		add_settle(id_at(lane, places[how]), id_of(f.q), 0, TX_PLACE(0, places[how]), 1, how);
	add_settle(id_at(dead, dead->end - 1), id_of(f.dlq), dlq->change, 0, 0, TX_TAKEN);
	add_cursor(id_of(f.g), ends[1], 0, 1);
}

static const char *describe(char text[256])
{
	snprintf(text, 256, "%s", q_run(f.c, "show q"));
	snprintf(text + strlen(text), 256 - strlen(text), " ; %s", q_run(f.c, "show q/dlq"));
	snprintf(text + strlen(text), 256 - strlen(text), " ; %s ; ", q_run(f.c, "show p"));
	snprintf(text + strlen(text), 256 - strlen(text), "%s", q_run(f.c, "log t"));
	return text;
}

/* Returns false if there was no n-th call. */
static bool fail(const struct way *way, uint64_t n)
{
	uint64_t calls;
	char text[256];
	int rc;

	prepare();
	way->arm(n);
	rc = start();
	calls = way->disarm();
	cr_assert(rc < 0 || calls >= n || is_done(), "%s %" PRIu64, way->name, n);
	f.told += rc < 0 || !is_done();
	if (rc < 0 || !is_done() || n % 2 == 0) { /* the next start; or it died before the note was dropped */
		assert_ok(start());
		cr_assert(is_done(), "%s %" PRIu64 ", again", way->name, n);
	}
	describe(text);
	cr_assert(strcmp(text, "b |  |  ; c |  |  ; x,y |  |  ; x,y") == 0 ||
		      (way->reads && strcmp(text, "b |  |  ; d,c |  |  ; x,y |  |  ; x,y") == 0),
	    "%s %" PRIu64 ": %s", way->name, n, text);
	Q_SCRIPT(f.c, "purge q", "purge q/dlq", "purge p");
	assert_ok(f.c->ops->partition_purge(f.t, 0, ENGINE_OFFSET_NONE));
	return calls >= n;
}

static void fail_each(const struct way *way)
{
	begin();
	assert_ok(f.c->ops->partition_purge(f.t, 0, ENGINE_OFFSET_NONE));
	for (uint64_t n = 1; fail(way, n); n++)
		;
	cr_assert(f.told > 1 || way->reads, "%u", f.told);
	end();
}

/* Logs have no descriptors: they are opened to be read. */
static void read_fails(uint64_t n)
{
	(void)local_give_files(f.c->engine);
	alloc_arm_reads(n, EIO);
}

static void no_descriptor(uint64_t n)
{
	(void)local_give_files(f.c->engine);
	alloc_arm_reads(n, EMFILE);
}

static void disk_is_full(uint64_t n)
{
	fault_arm(FAULT_WRITE, n, ENOSPC, false);
}

Test(local_commit_finish, allocations)
{
	fail_each(&(struct way){ "allocation", alloc_arm, alloc_disarm, false });
}

Test(local_commit_finish, reads)
{
	fail_each(&(struct way){ "read", read_fails, alloc_disarm_reads, true });
}

static void disk_fails(uint64_t n)
{
	fault_arm(FAULT_WRITE, n, EIO, false);
}

Test(local_commit_finish, write_errors)
{
	fail_each(&(struct way){ "failing write", disk_fails, fault_disarm, false });
}

Test(local_commit_finish, descriptors)
{
	fail_each(&(struct way){ "read", no_descriptor, alloc_disarm_reads, true });
}

Test(local_commit_finish, writes)
{
	fail_each(&(struct way){ "write", disk_is_full, fault_disarm, false });
}

/* ---- notes that are kept ---- */

/* In the memory of a daemon that goes on, beside those there are. */
static void keep_note(uint64_t end, uint32_t parts, bool damaged)
{
	struct commit_pending *pending = calloc(1, sizeof(*pending)), *others = f.local->commits.pending;
	struct engine_object *targets[] = { f.t, f.p };
	uint64_t ends[] = { end, end + 1 }, mark;

	f.local->commits.pending = NULL; /* add_part() makes one, and takes it away */
	begin_note();
	mark = f.mark;
	for (uint32_t i = 0; i < parts; i++, f.mark += MANY)
		add_part(targets, ends, 2);
	f.mark = mark;
	f.local->commits.pending = others;
	begin_tail(0, 0, 0);
	if (damaged)
		bytes_put32(f.note + NOTE_HEAD + PART_HEAD + 16, UINT32_MAX); /* messages of its first target */
	pending->mark = f.mark;
	pending->next = pending->pieces = 1;
	pending->note = malloc(f.size);
	pending->size = f.size;
	memcpy(pending->note, f.note, f.size);
	assert_ok(commit_pending_add(f.local, pending));
}

static void keep(uint64_t end, bool damaged)
{
	keep_note(end, 1, damaged);
}

/* One of more parts than there is room for marks at first. */
static void keep_many(void)
{
	keep_note(3, PARTS, false);
}

/* Where a log ended before what it misses is the lowest of all; not known, it is said to be 0, and nothing is trimmed. */
Test(local_commit_finish, missed_from)
{
	uint64_t first, topic, n = 0;
	bool failed;

	begin();
	topic = id_of(f.t);
	keep(7, false);
	first = f.mark;
	keep(5, true);
	keep(3, false);
	keep(4, false);
	keep(2, true); /* the last that is looked at is damaged, too */
	cr_assert_eq(commit_lowest_mark(f.local), first);
	cr_assert_eq(commit_missed_from(f.local, id_of(f.t), 0), 3);
	cr_assert_eq(commit_missed_from(f.local, id_of(f.p), 0), 4);
	cr_assert_eq(commit_missed_from(f.local, id_of(f.p), 1), UINT64_MAX);
	cr_assert_eq(commit_missed_from(f.local, id_of(f.q), 0), UINT64_MAX);
	do {
		uint64_t from;

		alloc_arm(++n);
		from = commit_missed_from(f.local, topic, 0);
		failed = alloc_disarm() >= n;
		cr_assert_eq(from, failed ? 0 : 3, "%" PRIu64, n);
	} while (failed);
	cr_assert_gt(n, 10);
	commit_forget(f.local);
	end();
}

/* Without memory for what a target misses, the journal keeps it: there is no checkpoint, which would drop it. */
Test(local_commit_finish, keep)
{
	struct engine_object *targets[2];
	uint64_t ends[] = { 1, 2 }, n = 0, calls;

	begin();
	targets[0] = f.t;
	targets[1] = f.p;
	assert_ok(queue_next_ids(f.local, MANY, &f.mark));
	do {
		atomic_store(&f.local->commits.stuck, false);
		alloc_arm(++n);
		keep_part(targets, ends, 2);
		calls = alloc_disarm();
		cr_assert_eq(commit_keeps_some(f.local), calls < n, "%" PRIu64, n);
		cr_assert_eq(atomic_load(&f.local->commits.stuck), calls >= n, "%" PRIu64, n);
		if (calls >= n)
			assert_err(commit_checkpoint(f.local), ENOMEM);
	} while (calls >= n);
	cr_assert_gt(n, 3);
	commit_forget(f.local);
	end();
}

/* A checkpoint notes anew what is kept, or fails, and all is as it was. */
Test(local_commit_finish, checkpoint)
{
	uint64_t n = 0, calls;
	int rc;

	begin();
	do {
		commit_forget(f.local);
		atomic_store(&f.local->commits.stuck, false);
		keep(contract_partition(f.c, f.t, 0).end, false);
		keep(contract_partition(f.c, f.t, 0).end, false);
		alloc_arm(++n);
		rc = commit_checkpoint(f.local);
		calls = alloc_disarm();
		cr_assert(rc == 0 || rc == -ENOMEM);
		cr_assert(rc == 0 || calls >= n, "%" PRIu64, n);
		cr_assert(commit_keeps_some(f.local) || atomic_load(&f.local->commits.stuck), "%" PRIu64, n);
	} while (calls >= n);
	assert_ok(rc);
	cr_assert_gt(n, 20);
	atomic_store(&f.local->commits.stuck, true);
	assert_err(commit_checkpoint(f.local), ENOMEM);
	atomic_store(&f.local->commits.stuck, false);
	commit_forget(f.local);
	end();
}

static int see_cursor(void *ctx, const struct catalog_cursor *cursor)
{
	*(uint64_t *)ctx = cursor->committed;
	return 0;
}

/* Whichever call of the catalog fails in it: what it could not store the next one does. */
Test(local_commit_finish, checkpoint_again)
{
	uint64_t n = 0, calls, stored;

	begin();
	do {
		contract_send(f.c, f.t, 0, "x\n");
		contract_snapshot(f.c, f.g);
		assert_ok(f.c->ops->ack_all(f.g, 0));
		alloc_arm_lmdb(++n, EIO);
		(void)checkpoint_run(f.local);
		calls = alloc_disarm_lmdb();
		assert_ok(checkpoint_run(f.local));
		stored = 0;
		assert_ok(catalog_each_cursor(f.local->catalog, id_of(f.g), see_cursor, &stored));
		cr_assert_eq(stored, contract_partition(f.c, f.t, 0).end, "call %" PRIu64, n);
	} while (calls >= n);
	cr_assert_gt(n, 5);
	end();
}

/* ---- notes that a power cut lost ---- */

/* The marks of all notes that are whole, in whatever order they come, of one that is damaged those before that; all or ENOMEM. */
Test(local_commit_finish, marks)
{
	uint64_t first, second, n = 0;
	struct commit_pending *pending;
	size_t second_size;
	bool failed;
	int rc;

	begin();
	keep(1, false);
	first = f.mark;
	keep(2, false);
	second = f.mark;
	second_size = f.size;
	cr_assert_not(commit_lost(f.local, first + MANY)); /* nothing says that there is a note for each */
	alloc_arm(1);
	assert_err(replay(first, 0, COMMIT_FROM, f.note, 0), ENOMEM); /* the start is refused */
	alloc_disarm();
	assert_ok(replay(first, 0, COMMIT_FROM, f.note, 0));
	assert_ok(replay(second + MANY, 0, COMMIT_FROM, f.note, 0)); /* of the next file, as a checkpoint was cut off */
	do {
		alloc_arm(++n);
		rc = commit_find_marks(f.local);
		failed = alloc_disarm() >= n;
		cr_assert_eq(rc, failed ? -ENOMEM : 0);
	} while (failed);
	cr_assert_gt(n, 1);
	for (uint64_t mark = first - 1; mark <= second + MANY; mark++) {
		bool noted = mark < first + MANY || (mark >= second && mark < second + MANY);

		cr_assert_eq(commit_lost(f.local, mark), !noted, "%" PRIu64, mark);
	}
	keep_many();
	alloc_arm(1); /* there is not room for so many yet */
	cr_assert_eq(commit_find_marks(f.local), -ENOMEM);
	alloc_disarm();
	assert_ok(commit_find_marks(f.local));
	for (uint64_t mark = f.mark; mark < f.mark + MANY * (uint64_t)PARTS; mark++)
		cr_assert_not(commit_lost(f.local, mark));
	for (size_t size = second_size; size-- > NOTE_HEAD;) { /* the second, cut */
		HASH_FIND(hh, f.local->commits.pending, &second, sizeof(second), pending);
		pending->note = realloc(pending->note, size); /* so that a sanitizer sees a read beyond it */
		pending->size = size;
		assert_ok(commit_find_marks(f.local));
		cr_assert_not(commit_lost(f.local, first));
		cr_assert_eq(commit_lost(f.local, second), size < second_size - 24);
	}
	commit_forget_marks(f.local);
	commit_forget(f.local);
	end();
}

/* Pieces of which each allocation fails: the note is whole, or none is, and the replay says so. */
Test(local_commit_finish, pieces)
{
	uint64_t n = 0, calls;
	int rc;

	begin();
	do {
		commit_forget(f.local);
		begin_note();
		begin_tail(id_of(f.x), 0, 0);
		alloc_arm(++n);
		rc = replay(f.mark, 0, 2, f.note, 10);
		if (rc == 0)
			rc = replay(f.mark, 1, 2, f.note + 10, f.size - 10);
		calls = alloc_disarm();
		cr_assert_eq(rc, calls >= n ? -ENOMEM : 0, "%" PRIu64, n);
		cr_assert_eq(tx_of_object((struct object *)f.x)->state, rc == 0 ? ENGINE_TX_COMMITTED : ENGINE_TX_OPEN,
		    "%" PRIu64, n);
	} while (calls >= n);
	cr_assert_gt(n, 3);
	end();
}

/* ---- moves that were cut off: what the replay remembers of them ---- */

/* A message that was settled in q, as a move to p leaves it. */
static struct queue_pending settled_in_q(const char *text)
{
	struct queue_pending pending = { .from_queue = id_of(f.q), .to_queue = id_of(f.p) };
	struct lane *lane = queue_lane(queue_of_object((struct object *)f.q), 0);
	char line[64];

	snprintf(line, sizeof(line), "send q %s", text);
	Q_SCRIPT(f.c, line);
	snprintf(line, sizeof(line), "rm q ready %s", text);
	Q_SCRIPT(f.c, line);
	lane = queue_lane(queue_of_object((struct object *)f.q), 0);
	pending.from_offset = lane->end - 1;
	pending.to_offset = queue_lane(queue_of_object((struct object *)f.p), 0)->end;
	pending.id = id_at(lane, pending.from_offset);
	return pending;
}

static void remember(struct queue_pending move)
{
	assert_ok(queue_remember_move(f.local, &move));
}

static const char *health(void)
{
	f.c->ops->health(f.c->engine, f.c->text, CONTRACT_TEXT);
	return f.c->text;
}

/* Each allocation and each record fails once: the start fails, and the next one finishes the move, once. */
Test(local_commit_finish, move_fails)
{
	uint64_t z;

	begin();
	Q_SCRIPT(f.c, "send p z");
	z = queue_lane(queue_of_object((struct object *)f.p), 0)->end - 1;
	for (int way = 0; way < 2; way++) {
		uint64_t calls = 0;

		for (uint64_t n = 1; calls + 1 >= n; n++) {
			struct queue_pending move = settled_in_q("a");
			int rc;

			move.to_offset = z; /* where there is another */
			move.death = DEATH_OF(ENGINE_REJECTED);
			if (way == 0)
				alloc_arm(n);
			else
				disk_fails(n);
			rc = queue_remember_move(f.local, &move);
			if (rc == 0)
				rc = queue_finish_moves(f.local);
			calls = way == 0 ? alloc_disarm() : fault_disarm();
			cr_assert(rc == 0 || (calls >= n && rc == (way == 0 ? -ENOMEM : -EIO)), "%d", rc);
			cr_assert_null(f.local->moves);
			if (rc < 0) {
				remember(move);
				assert_ok(queue_finish_moves(f.local));
			}
			Q_SCRIPT(f.c, "show p => z,a |  | ", "deaths p a => q:rejected:1:0", "rm p ready a");
			q_forget();
			Q_SCRIPT(f.c, "show p => z |  | ");
		}
		cr_assert_gt(calls, 2, "%d: %d", way, (int)calls);
	}
	end();
}

/* The queue has no memory left over from what it did. */
static void drop_spares(struct engine_object *object)
{
	struct queue *queue = queue_of_object((struct object *)object);

	while (queue->spare_count > 0)
		free(span_take_spare(queue));
}

/* One that is older than what is there: for want of memory it does not come either, and so is not there twice. */
Test(local_commit_finish, move_of_a_stray_fails)
{
	struct lane *lane;
	uint64_t n = 0, calls, end_before;

	begin();
	do {
		struct queue_pending move = settled_in_q("a");
		int rc;

		Q_SCRIPT(f.c, "send p z");
		lane = queue_lane(queue_of_object((struct object *)f.p), 0);
		end_before = lane->end;
		move.to_offset = end_before - 1; /* where there is another */
		remember(move);
		drop_spares(f.p);
		alloc_arm(++n);
		rc = queue_finish_moves(f.local);
		calls = alloc_disarm();
		cr_assert_eq(rc, calls >= n ? -ENOMEM : 0, "%" PRIu64 ": %d", n, rc);
		cr_assert_eq(lane->end, end_before + (rc == 0), "%" PRIu64, n);
		if (rc < 0) {
			remember(move);
			assert_ok(queue_finish_moves(f.local));
		}
		Q_SCRIPT(f.c, "show p => z,a |  | ", "rm p ready a", "rm p ready z");
		q_forget();
	} while (calls >= n);
	cr_assert_gt(n, 5, "%d", (int)n);
	end();
}

/* From a queue that is no more: from where it was before that. What is nowhere is told of, if it should be somewhere. */
Test(local_commit_finish, moves_from_nowhere)
{
	struct queue_pending move, on;

	begin();
	move = settled_in_q("a");
	on = move;
	on.from_queue = 1 << 30;
	on.death = DEATH_OF(ENGINE_REJECTED);
	remember(on);
	assert_ok(queue_finish_moves(f.local));
	Q_SCRIPT(f.c, "show p =>  |  | ");
	remember(move);
	remember(on);
	assert_ok(queue_finish_moves(f.local));
	Q_SCRIPT(f.c, "show p => a |  | ", "deaths p a => -");
	cr_assert_eq(strncmp(health(), "state ok", 8), 0, "%s", health());
	move = settled_in_q("b");
	move.id = on.id = 1 << 30;
	on.from_queue = id_of(f.p); /* which has another there, too */
	on.from_offset = 0;
	remember(move);
	remember(on);
	assert_ok(queue_finish_moves(f.local));
	Q_SCRIPT(f.c, "show p => a |  | ");
	cr_assert_not_null(strstr(health(), "was being moved when the machine died, and is lost"), "%s", health());
	queue_forget_move(f.local, move.id); /* there is none any more */
	end();
}

/* ---- messages of commits, of which the journal says where they were to go ---- */

/* The word on those of a run that are cut off is said then; on the others it stays open. And memory that is not there is told of. */
Test(local_commit_finish, placed_and_cut)
{
	struct lane *lane;
	bool *first, *last;

	begin();
	Q_SCRIPT(f.c, "send q a b c d", "rm q ready d");
	lane = queue_lane(queue_of_object((struct object *)f.q), 0);
	for (uint64_t n = 1; n <= 2; n++) {
		alloc_arm(n);
		assert_err(queue_remember_placed(lane, lane->end - 4, 4, 100), ENOMEM);
		alloc_disarm();
		cr_assert_eq(lane->placed_count, 0);
	}
	assert_ok(queue_remember_placed(lane, lane->end - 4, 4, 100));
	first = queue_find_placed(lane, lane->end - 4);
	last = queue_find_placed(lane, lane->end - 1);
	cr_assert(first != NULL && last == first + 3);
	queue_placed_cut(lane, lane->end - 2);
	cr_assert(last[-1] == false && *last == true, "c was there, and d had gone");
	cr_assert(queue_find_placed(lane, lane->end - 3) == first + 1 && !first[1]);
	cr_assert_null(queue_find_placed(lane, lane->end - 2));
	queue_placed_end(f.local);
	queue_forget_placed(f.local);
	end();
}

/* ---- ends of logs that were noted ---- */

/* That there is no memory to remember which log it is fails the start; with it, the next checkpoint syncs the log, once. */
Test(local_commit_finish, note_of_a_log)
{
	struct plog_redo redo = PLOG_REDO_INIT;
	struct plog *plog;
	uint8_t record[4096];
	struct plog_tail to;
	size_t size;
	uint64_t n = 0;
	int rc;

	begin();
	Q_SCRIPT(f.c, "send p a");
	plog = atomic_load(&queue_lane(queue_of_object((struct object *)f.p), 0)->plog);
	cr_assert_eq(plog_tail(plog, record, sizeof(record), &size, &to), 1);
	do {
		alloc_arm(++n);
		rc = note_replay(f.local, &redo, record, size);
		cr_assert(alloc_disarm() >= n ? rc == -ENOMEM : rc == 0, "%d: %d", (int)n, rc);
		cr_assert_eq(f.local->replayed != NULL, rc == 0);
	} while (rc < 0);
	cr_assert_geq(n, 4); /* what is compared, what is remembered, and the table of that */
	alloc_arm(2);
	assert_err(note_replay(f.local, &redo, record, size), ENOMEM);
	alloc_disarm();
	assert_ok(note_replay(f.local, &redo, record, size));
	plog_redo_close(&redo);
	assert_ok(notes_settle(f.local));
	cr_assert_null(f.local->replayed);
	end();
}
