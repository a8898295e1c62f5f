/*
 * A piece of a staging file has its place noted before the log has it. If the power goes then, the next start finishes moves and
 * commits before it looks at staging files: these come where the piece was to go. Or it was to go behind one of them, which the
 * log has lost as well. Their bytes are the same, so that only how it came there tells one message from the other: each must be there once,
 * wherever this start is cut off in turn.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"
#include "tests/lib/staging.h"

#define SEEDS 6u

static const struct engine_owner owner = { 0, 0, 0755 };

/* What comes to the same log as the piece. */
struct other {
	enum engine_kind kind; /* of the target */
	void (*come)(struct contract *c, struct engine_object *target);
};

static struct engine_object *make(struct contract *c, enum engine_kind kind, const char *name)
{
	struct engine_object *object;

	assert_ok(c->ops->create(c->engine, c->root, kind, name, &owner, &object));
	return object;
}

static struct engine_producer *produce(
    struct contract *c, struct engine_object *target, enum engine_kind kind, uint32_t at)
{
	struct engine_producer *producer;

	if (kind == ENGINE_QUEUE)
		assert_ok(c->ops->queue->producer_open(target, at, false, &producer));
	else
		assert_ok(c->ops->producer_open(target, at, (struct engine_span){ 0 }, &producer));
	return producer;
}

static void send(struct contract *c, struct engine_object *queue, uint32_t priority)
{
	const struct engine_batch batch = contract_batch("x\n");
	struct engine_producer *producer = produce(c, queue, ENGINE_QUEUE, priority);

	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

/* ---- what there is, in order: 's' for staged, 'o' for the other ---- */

static char letter(const struct engine_view *view)
{
	cr_assert_eq(view->batch.lengths != NULL ? view->batch.lengths[0] : 1, 1);
	return view->batch.cred.pid == staging_cred.pid ? 's' : 'o';
}

struct listing {
	struct contract *c;
	struct engine_object *queue;
	char text[16];
};

static bool add_letter(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct listing *l = ctx;
	struct engine_view view;
	char text[2] = "";

	(void)next;
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	text[0] = letter(&view);
	strncat(l->text, text, sizeof(l->text) - strlen(l->text) - 1);
	return true;
}

static void list(struct contract *c, enum engine_kind kind, char text[16])
{
	struct engine_object *target = contract_lookup(c, c->root, kind, "x");
	struct listing listing = { .c = c, .queue = target };
	uint64_t cursor[2] = { 0, 0 }, end;
	struct engine_view view;

	if (kind == ENGINE_QUEUE) {
		assert_ok(
		    c->ops->queue->message_list(target, ENGINE_READY, ENGINE_ANY, NULL, cursor, add_letter, &listing));
	} else {
		end = contract_partition(c, target, 0).end;
		for (uint64_t offset = 0; offset < end; offset++) {
			assert_ok(c->ops->partition_read(target, 0, offset, 1, &c->scratch, &view));
			listing.text[offset] = letter(&view);
		}
	}
	memcpy(text, listing.text, 16);
	c->ops->put(target);
}

/* ---- what comes ---- */

static bool take_id(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	(void)next;
	*(uint64_t *)ctx = stat->id;
	return false;
}

/* The one of priority 5 goes to the lowest. */
static void move(struct contract *c, struct engine_object *queue)
{
	struct engine_place to = { .queue = queue, .state = ENGINE_READY, .priority = 0 };
	uint64_t cursor[2] = { 0, 0 }, id = 0;

	assert_ok(c->ops->queue->message_list(queue, ENGINE_READY, 5, NULL, cursor, take_id, &id));
	assert_ok(c->ops->queue->message_move(queue, id, ENGINE_READY, &to));
}

/* To this target and another, so that it is noted. */
static void commit(struct contract *c, struct engine_object *target)
{
	struct engine_object *tx = make(c, ENGINE_TX, "n"), *other = contract_lookup(c, c->root, ENGINE_QUEUE, "other");
	struct engine_batch batch = contract_batch("x\n");

	for (int i = 0; i < 2; i++) {
		struct engine_producer *producer;

		assert_ok(c->ops->tx->producer_open(
		    tx, i == 0 ? target : other, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer));
		assert_ok(c->ops->producer_send(producer, &batch, NULL));
		c->ops->producer_close(producer);
	}
	assert_ok(c->ops->tx->commit(tx));
	c->ops->put(tx);
	c->ops->put(other);
}

/* The staging file has it on disk. */
static void write_piece(struct contract *c, struct engine_stage *stage, int writer)
{
	struct iovec part = { (void *)(uintptr_t) "x\n", 2 };
	struct stat st;

	cr_assert_eq(fstat(writer, &st), 0);
	cr_assert_eq(io->pwritev(writer, &part, 1, st.st_size), 2);
	assert_ok(io->fsync(writer));
	assert_ok(c->ops->stage->take(stage));
}

/* ---- the power goes ---- */

/* The records of both are on disk, and the log has nothing. c is closed. */
static void lose_log(struct contract *c, const struct other *other, bool staged_first)
{
	struct local *local = (struct local *)c->engine;
	struct engine_object *target = make(c, other->kind, "x"), *second = make(c, ENGINE_QUEUE, "other");
	struct engine_stage *stage;
	struct powercut *cut;
	int writer;

	assert_ok(c->ops->set_setting(target, engine_setting_find(other->kind, "linger.ms"), "60000"));
	if (other->come == move)
		send(c, target, 5);
	send(c, second, 0);
	assert_ok(staging_open(c, produce(c, target, other->kind, 0), '\n', &staging_cred, &stage));
	writer = staging_writer(c, stage);
	if (other->kind == ENGINE_QUEUE) { /* its lane is there */
		send(c, target, 0);
		assert_ok(c->ops->queue->purge(target));
		if (other->come == move)
			send(c, target, 5);
	}
	assert_ok(checkpoint_run(local));
	timers_stop(local);
	cut = powercut_start_store(local->store.dirfd, "catalog", "reserve");
	if (!staged_first)
		other->come(c, target);
	write_piece(c, stage, writer);
	if (staged_first)
		other->come(c, target);
	assert_ok(journal_sync(local->journal));
	powercut_stop(cut);
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	c->ops->put(target);
	c->ops->put(second);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	powercut_free(cut);
}

static struct powercut *record_start(struct contract *c, const struct other *other, const char *what)
{
	int fd = open(c->source, O_RDONLY | O_DIRECTORY);
	struct powercut *cut = powercut_start_store(fd, "catalog", "reserve");
	char text[16];

	close(fd);
	contract_open(c);
	list(c, other->kind, text);
	cr_assert_str_eq(text, "os", "%s: %s", what, text); /* the other came first, to the piece's place */
	contract_close(c);
	powercut_stop(cut);
	tmpdir_remove(&c->dir);
	return cut;
}

static void lose(struct contract *c, const struct other *other, bool staged_first, const char *what)
{
	struct powercut *cut;
	char text[16];

	lose_log(c, other, staged_first);
	cut = record_start(c, other, what);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < SEEDS; seed++) {
			crash_make(c, cut, n, seed < 2 ? seed : n * SEEDS + seed, false);
			contract_open(c);
			list(c, other->kind, text);
			cr_assert(strcmp(text, "os") == 0 || strcmp(text, "so") == 0,
			    "%s, the start cut after %zu changes, seed %" PRIu64 ": %s", what, n, seed, text);
			contract_close(c);
			tmpdir_remove(&c->dir);
		}
	}
	powercut_free(cut);
	tmpdir_make(&c->dir); /* contract_run() closes one */
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	contract_open(c);
}

#define PLACED_TEST(name, of_kind, comes, first)                                                                       \
	static void name(struct contract *c)                                                                           \
	{                                                                                                              \
		lose(c, &(struct other){ of_kind, comes }, first, #name);                                              \
	}                                                                                                              \
	Test(stage_placed, name, .timeout = 200)                                                                       \
	{                                                                                                              \
		tmpdir_in_memory();                                                                                    \
		nosync_install();                                                                                      \
		contract_run(true, name);                                                                              \
	}

PLACED_TEST(staged_then_moved, ENGINE_QUEUE, move, true)
PLACED_TEST(moved_then_staged, ENGINE_QUEUE, move, false)
PLACED_TEST(staged_then_committed, ENGINE_QUEUE, commit, true)
PLACED_TEST(committed_then_staged, ENGINE_QUEUE, commit, false)
PLACED_TEST(staged_then_committed_to_a_topic, ENGINE_TOPIC, commit, true)
PLACED_TEST(committed_then_staged_to_a_topic, ENGINE_TOPIC, commit, false)

/* ---- the log is synced ---- */

static struct sync_point *sync_point_of(struct engine_object *target, enum engine_kind kind)
{
	return kind == ENGINE_QUEUE ? &queue_lane(queue_of_object(object_of(target)), 0)->sync
				    : &topic_partition(topic_of_object(object_of(target)), 0)->sync;
}

static struct {
	struct contract *c;
	struct engine_stage *stage;
	struct io_ops before;
	int writer;
	bool came;
} syncing;

/* Behind the first sync, of the journal, another piece comes. */
static int sync_and_come(int fd)
{
	int rc = syncing.before.fdatasync(fd);

	if (!syncing.came) {
		syncing.came = true;
		write_piece(syncing.c, syncing.stage, syncing.writer);
	}
	return rc;
}

/* Then the journal says that the piece was taken: it is not taken once more. */
static void sync_log(struct contract *c, enum engine_kind kind, bool meanwhile)
{
	struct io_ops watched;
	struct engine_object *target = make(c, kind, "x");
	struct engine_stage *stage;
	struct sync_point *point;
	struct powercut *cut;
	char text[16];
	int writer;

	assert_ok(c->ops->set_setting(target, engine_setting_find(kind, "linger.ms"), "60000"));
	assert_ok(staging_open(c, produce(c, target, kind, 0), '\n', &staging_cred, &stage));
	writer = staging_writer(c, stage);
	write_piece(c, stage, writer); /* its log is there */
	assert_ok(checkpoint_run((struct local *)c->engine));
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	write_piece(c, stage, writer);
	point = sync_point_of(target, kind);
	syncing.c = c;
	syncing.stage = stage;
	syncing.writer = writer;
	syncing.before = watched = *io;
	syncing.came = !meanwhile;
	watched.fdatasync = sync_and_come;
	io = &watched;
	assert_ok(point->run(point));
	io = &syncing.before;
	powercut_stop(cut);
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	c->ops->put(target);
	for (uint64_t seed = 0; seed < 20; seed++) {
		crash_replace(c, cut, powercut_count(cut), seed, false);
		contract_open(c);
		list(c, kind, text);
		cr_assert_str_eq(text, meanwhile ? "sss" : "ss", "seed %" PRIu64 ": %s", seed, text);
	}
	powercut_free(cut);
}

static void synced_queue(struct contract *c)
{
	sync_log(c, ENGINE_QUEUE, false);
}

static void synced_queue_meanwhile(struct contract *c)
{
	sync_log(c, ENGINE_QUEUE, true);
}

static void synced_topic(struct contract *c)
{
	sync_log(c, ENGINE_TOPIC, false);
}

static void synced_topic_meanwhile(struct contract *c)
{
	sync_log(c, ENGINE_TOPIC, true);
}

Test(stage_placed, synced, .timeout = 100)
{
	tmpdir_in_memory();
	nosync_install();
	contract_run(true, synced_queue);
	contract_run(true, synced_topic);
	contract_run(true, synced_queue_meanwhile);
	contract_run(true, synced_topic_meanwhile);
}
