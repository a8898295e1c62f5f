/*
 * What becomes of messages of a commit that a power cut took from their log, while the journal tells what was done with them: what was
 * settled or moved on stays so, the rest is given again; and what was for the head is there. And that what the journal says behind a gap stays lost;
 * and that what it says of messages that are in no log any more is not taken for others that come in their places, whatever fails at the start between.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/io.h"
#include "engine/journal_internal.h"
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

static bool add_text(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct contract *c = ((void **)ctx)[0];
	struct engine_view view;

	(void)next;
	assert_ok(c->ops->queue->message_read(((void **)ctx)[1], stat->id, &c->scratch, &view));
	strncat(((void **)ctx)[2], view.batch.data, view.batch.lengths[0]);
	strcat(((void **)ctx)[2], " ");
	return true;
}

/* What is READY in a queue, in order. */
static const char *list(struct contract *c, const char *name)
{
	static char text[256];
	struct engine_object *queue = q_object(c, name);
	void *ctx[3] = { c, queue, text };
	uint64_t cursor[2] = { 0, 0 };

	text[0] = '\0';
	assert_ok(c->ops->queue->message_list(queue, ENGINE_READY, ENGINE_ANY, NULL, cursor, add_text, ctx));
	c->ops->put(queue);
	return text;
}

static struct powercut *begin(struct contract *c)
{
	assert_ok(checkpoint_run((struct local *)c->engine));
	timers_stop((struct local *)c->engine);
	return powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
}

/* What the power left after n changes, opened in its place. */
static void reopen_as(struct contract *c, struct powercut *cut, size_t n, uint64_t seed)
{
	crash_replace(c, cut, n, seed, false);
	contract_open(c);
}

/* A file of the journal. */
struct journal_file {
	char path[PATH_MAX + 300];
	uint8_t bytes[64 << 10];
	size_t size;
};

/* The only one there is. */
static void read_journal(struct contract *c, struct journal_file *file)
{
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(file->path, sizeof(file->path), "%s/journal", c->source);
	dir = opendir(file->path);
	while ((entry = readdir(dir)) != NULL && entry->d_name[0] == '.')
		;
	strcat(strcat(file->path, "/"), entry->d_name);
	closedir(dir);
	fd = open(file->path, O_RDONLY);
	file->size = (size_t)read(fd, file->bytes, sizeof(file->bytes));
	close(fd);
}

static void write_journal(const struct journal_file *file)
{
	int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_eq(write(fd, file->bytes, file->size), (ssize_t)file->size);
	close(fd);
}

/* The last record but one is torn. */
static void tear(struct journal_file *file)
{
	size_t torn = 0, last = 0;

	for (size_t pos = JOURNAL_HEADER; bytes_get32(file->bytes + pos + 4) != 0;
	     pos += journal_record_bytes(bytes_get32(file->bytes + pos + 4) >> 16)) {
		torn = last;
		last = pos;
	}
	cr_assert_gt(torn, 0);
	file->bytes[torn + JOURNAL_RECORD_HEADER] ^= 1;
}

/* What was put to the head is there also if the power cut took what the journal said of it. */
Test(local_placed, head_without_its_record)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct journal_file *file = calloc(1, sizeof(*file));
	struct powercut *cut;
	size_t n;

	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q");
	cut = begin(c);
	Q_SCRIPT(c, "send q a b", "push q c", "push q d e", "send q f", "push q g:t100000");
	assert_text(list(c, "q"), "g e d c a b f ");
	n = powercut_count(cut);
	powercut_stop(cut);
	crash_replace(c, cut, n, 1, false);
	read_journal(c, file);
	file->size = JOURNAL_HEADER;
	write_journal(file);
	contract_open(c);
	assert_text(list(c, "q"), "g e d c a b f ");
	Q_SCRIPT(c, "push q h");
	contract_reopen(c);
	assert_text(list(c, "q"), "h g e d c a b f ");
	powercut_free(cut);
	q_close(c);
	free(c);
	free(file);
}

static unsigned told;

static void on_notify(void *ctx, int err, const char *text)
{
	(void)ctx;
	(void)err;
	told += strstr(text, "queue q: its last 2 changes in the journal are lost or left out") != NULL;
}

/* It is told how many changes of which queue do not count, once. */
static void open_and_listen(struct contract *c, unsigned wanted)
{
	struct engine_options options = { .notify = { on_notify, NULL } };
	struct engine *engine;

	told = 0;
	assert_ok(engine_open(c->source, &options, &engine));
	assert_ok(engine->ops->close(engine));
	cr_assert_eq(told, wanted);
}

/* What follows a gap does not count, also not when the gap was filled with other changes and its file comes back. */
Test(local_placed, torn_off_for_good)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct journal_file *file = calloc(1, sizeof(*file));
	struct powercut *cut;
	size_t n;

	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q");
	cut = begin(c);
	q_run(c, "send q a b c d e");
	q_run(c, "rm q ready a");
	q_run(c, "rm q ready b");
	q_run(c, "rm q ready c");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	n = powercut_count(cut);
	powercut_stop(cut);
	crash_replace(c, cut, n, 1, false);
	read_journal(c, file);
	tear(file);
	write_journal(file);
	open_and_listen(c, 1);
	write_journal(file);
	open_and_listen(c, 0);
	write_journal(file);
	contract_open(c);
	assert_text(list(c, "q"), "b c d e ");
	q_run(c, "rm q ready d");
	assert_text(list(c, "q"), "b c e ");
	contract_close(c);
	write_journal(file); /* its removal was not on disk */
	contract_open(c);
	assert_text(list(c, "q"), "b c e ");
	contract_reopen(c);
	assert_text(list(c, "q"), "b c e ");
	powercut_free(cut);
	q_close(c);
	free(file);
	free(c);
}

/* The journal is on disk, the log that they came to is not; that of the queue one was moved to is, or not. */
static void settle_and_move(bool synced)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	size_t n;

	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o");
	cut = begin(c);
	q_run(c, "send q a:p1 b:p5 c:p5 d:p1 e");
	assert_text(q_run(c, "take q"), "b");
	q_run(c, "mv q ready a o ready");
	q_run(c, "rm q ready d");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	if (synced) {
		struct engine_object *o = q_object(c, "o");

		for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
			struct lane *lane = queue_lane(queue_of_object(object_of(o)), p);

			if (lane != NULL)
				assert_ok(lane->sync.run(&lane->sync));
		}
		c->ops->put(o);
	}
	n = powercut_count(cut);
	powercut_stop(cut);
	reopen_as(c, cut, n, 0);
	for (int again = 0; again < 3; again++) {
		assert_text(list(c, "q"), synced ? "c e " : "c a e ");
		assert_text(list(c, "o"), synced ? "a " : "");
		contract_reopen(c);
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}

Test(local_placed, settled_and_moved)
{
	settle_and_move(true);
}

Test(local_placed, moved_to_nowhere)
{
	settle_and_move(false);
}

/* The commit is on disk with its note; what the kernel wrote of the rest is a matter of chance. */
Test(local_placed, head_of_a_transaction)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	size_t n;

	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "send q a b", "tx t", "in t push q x");
	cut = begin(c);
	Q_SCRIPT(c, "commit t");
	n = powercut_count(cut);
	powercut_stop(cut);
	for (uint64_t seed = 0; seed < 40; seed++) {
		reopen_as(c, cut, n, seed);
		assert_text(list(c, "q"), "x a b ");
		contract_reopen(c);
		assert_text(list(c, "q"), "x a b ");
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}

/* ---- offsets that are given again ---- */

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is READY in q and in o, sorted: what is moved again comes in any order. */
static const char *content(struct contract *c)
{
	static char text[256];
	static const char *const queues[] = { "q", "o" };

	text[0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		char *words[32], *left = NULL, *copy = strdup(list(c, queues[i]));
		size_t count = 0;

		for (char *word = strtok_r(copy, " ", &left); word != NULL; word = strtok_r(NULL, " ", &left))
			words[count++] = word;
		qsort(words, count, sizeof(words[0]), compare_words);
		strcat(strcat(text, queues[i]), ":");
		for (size_t w = 0; w < count; w++)
			strcat(strcat(text, " "), words[w]);
		strcat(text, ". ");
		free(copy);
	}
	return text;
}

static void sync_queue(struct contract *c, const char *name)
{
	struct engine_object *queue = q_object(c, name);

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue_of_object(object_of(queue)), p);

		if (lane != NULL)
			assert_ok(lane->sync.run(&lane->sync));
	}
	c->ops->put(queue);
}

/* The store goes on as a kill leaves it now. Its timers do not run. */
static void kill_it(struct contract *c)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command), "cp -r --sparse=always '%1$s' '%1$s.killed'", c->source);
	cr_assert_eq(system(command), 0);
	c->ops->put(c->root);
	(void)c->ops->close(c->engine); /* after a fault it may say so */
	snprintf(command, sizeof(command), "rm -rf '%1$s' && mv '%1$s.killed' '%1$s'", c->source);
	cr_assert_eq(system(command), 0);
}

static int open_failing(struct contract *c, uint64_t n, uint64_t *ret_calls)
{
	struct engine_options options = { 0 };
	int rc;

	fault_arm(FAULT_ANY | FAULT_MINE, n, EIO, false);
	rc = engine_open(c->source, &options, &c->engine);
	*ret_calls = fault_disarm();
	if (rc < 0)
		return rc;
	timers_stop((struct local *)c->engine);
	c->ops = c->engine->ops;
	return c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root);
}

/* What comes in the places of what was lost, and goes. A queue may not be there yet: then nothing comes. */
static void use_places(struct contract *c)
{
	static const char *const lines[] = { "send q 1 2 3 4:p5 5:p5", "send o 6 7 8 9:p5 0:p5", "rm q ready 1",
		"rm q ready 2", "rm q ready 3", "rm q ready 4", "rm q ready 5", "rm o ready 6", "rm o ready 7",
		"rm o ready 8", "rm o ready 9", "rm o ready 0" };

	q_forget();
	q_lenient(c);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		q_run(c, lines[i]);
}

/* A start whose n-th change fails, and if it opened all the same messages that come and go; a kill; and a start. Returns how many changes there were. */
static uint64_t start_failing(struct contract *c, const struct powercut *cut, uint64_t n, const char *expected)
{
	uint64_t calls;
	int rc;

	contract_close(c);
	tmpdir_remove(&c->dir);
	crash_make(c, cut, powercut_count(cut), 0, false);
	rc = open_failing(c, n, &calls);
	if (rc == 0) {
		use_places(c);
		kill_it(c);
	}
	contract_open(c);
	cr_assert_str_eq(content(c), expected, "change %" PRIu64 " of %" PRIu64 " failed, %s: %s and not %s", n, calls,
	    rc == 0 ? "and it opened" : "and it did not open", content(c), expected);
	return calls;
}

static void read_without_memory(uint64_t n)
{
	fault_arm(FAULT_READ | FAULT_MINE, n, ENOMEM, false);
}

/* Moved to a consumer, and before that (both) to READY; of the log they came to nothing is left. Each start has to do that again. */
static void move_again_without(void (*arm)(uint64_t n), uint64_t (*disarm)(void), bool both)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	unsigned refused = 0;
	uint64_t n = 0, calls;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "consumer o/w1");
	cut = begin(c);
	q_run(c, "send q a b c");
	if (both)
		q_run(c, "mv q ready a o ready");
	q_run(c, "mv q ready b o unacked o/w1");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	sync_queue(c, "q");
	powercut_stop(cut);
	do {
		struct engine_options options = { 0 };
		int rc;

		contract_close(c);
		tmpdir_remove(&c->dir);
		crash_make(c, cut, powercut_count(cut), 0, false);
		arm(++n);
		rc = engine_open(c->source, &options, &c->engine);
		calls = disarm();
		cr_assert(rc == 0 || rc == -ENOMEM, "call %" PRIu64 ": %d", n, rc);
		refused += rc < 0;
		if (rc == 0)
			(void)c->engine->ops->close(c->engine); /* it may say that it had no memory */
		contract_open(c);
		q_forget();
		assert_text(q_run(c, "show q"), both ? "c |  | " : "a,c |  | ");
		assert_text(q_run(c, "show o"), both ? "a | b | " : " | b | ");
		Q_SCRIPT(c, "ack o/w1 b => 1");
	} while (calls >= n);
	cr_assert_geq(refused, 2, "%u", refused);
	powercut_free(cut);
	q_close(c);
	free(c);
}

/* A move that cannot be done again for want of memory is done by the next start: no message is taken for lost, nor comes twice, or loses its lease. */
Test(local_placed, moved_again_without_memory_to_read)
{
	move_again_without(read_without_memory, fault_disarm, true);
}

Test(local_placed, moved_again_without_memory)
{
	move_again_without(alloc_arm, alloc_disarm, false);
}

static void publish(struct contract *c, const char *line)
{
	struct engine_object *exchange = q_object(c, "x");
	struct engine_producer *producer = contract_producer(c, exchange, ENGINE_ANY);
	struct engine_batch batch = contract_batch(line);

	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	c->ops->put(exchange);
}

/* The journal tells of moves and removals of messages that the power took from the logs: it was synced, they were not. */
Test(local_placed, places_again)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	uint64_t n = 1;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "set q max.priority 9", "set o max.priority 9", "exchange x", "type x fanout",
	    "pattern x #", "bind x # q q", "bind x # o o");
	cut = begin(c);
	Q_SCRIPT(c, "send q a b c d:p5 e:p5 f:p5", "send o g h i j:p5 k:p5 l:p5");
	sync_queue(c, "q");
	sync_queue(c, "o");
	Q_SCRIPT(c, "rm q ready a", "mv q ready b o ready");
	sync_queue(c, "o"); /* what comes to it from here on is cut off */
	Q_SCRIPT(c, "mv q ready c o ready", "mv q ready d o ready", "mv q ready e o ready", "rm o ready c",
	    "rm o ready d", "rm o ready g", "mv o ready h q ready", "mv o ready i q ready", "mv o ready j q ready",
	    "mv o ready k q ready", "rm q ready i", "rm q ready k", "mv q ready h o ready");
	publish(c, "m\n");
	publish(c, "n\n");
	assert_text(content(c), "q: f j m n. o: b e h l m n. ");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	powercut_stop(cut);
	while (start_failing(c, cut, n, "q: f j m n. o: b e h l m n. ") >= n)
		n++;
	cr_assert_gt(n, 10);
	powercut_free(cut);
	q_close(c);
	free(c);
}

/* Neither can a message be appended that the journal told of, nor can the journal be told so: it is before the next one comes. */
Test(local_placed, cut_is_owed)
{
	struct contract *c = calloc(1, sizeof(*c));
	char line[64], wanted[256] = "";
	uint64_t n = 1;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	q_lenient(c);
	Q_SCRIPT(c, "queue q", "queue o", "send q a", "rm q ready a");
	timers_stop((struct local *)c->engine);
	for (bool failed = true; failed; n++) {
		snprintf(line, sizeof(line), "send o z%d", (int)n);
		assert_text(q_run(c, line), "ok");
		fault_arm(FAULT_WRITE, n, EIO, true);
		snprintf(line, sizeof(line), "send q x%d:d100000", (int)n);
		failed = q_run(c, line)[0] == 'E';
		fault_disarm();
		snprintf(line, sizeof(line), "mv o ready z%d q ready", (int)n);
		assert_text(q_run(c, line), "ok");
		snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "z%d ", (int)n);
	}
	cr_assert_gt(n, 2);
	assert_text(list(c, "q"), wanted);
	kill_it(c);
	contract_open(c);
	assert_text(list(c, "q"), wanted);
	q_close(c);
	free(c);
}

/* The journal tells of a move of a message that is in no log. What is moved to its place, and of which it does not tell, is not taken for it. */
Test(local_placed, place_of_a_move_again)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct journal_file *file = calloc(1, sizeof(*file));
	struct powercut *cut;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o");
	cut = begin(c);
	Q_SCRIPT(c, "send q a", "mv q ready a o ready");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	powercut_stop(cut);
	reopen_as(c, cut, powercut_count(cut), 0);
	powercut_free(cut);
	timers_stop((struct local *)c->engine);
	assert_text(list(c, "q"), "");
	assert_text(list(c, "o"), "");
	Q_SCRIPT(c, "send q b", "mv q ready b o ready", "send q c:d100000");
	assert_text(list(c, "o"), "b ");
	kill_it(c);
	read_journal(c, file);
	tear(file); /* of the move */
	write_journal(file);
	contract_open(c);
	assert_text(list(c, "q"), "b ");
	assert_text(list(c, "o"), "");
	q_close(c);
	free(c);
	free(file);
}

/* The same of a move that failed, and is said not to have been; the catalog knows that, too. */
Test(local_placed, place_of_a_move_that_failed)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct journal_file *file = calloc(1, sizeof(*file));

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	q_lenient(c);
	Q_SCRIPT(c, "queue q", "queue o", "send q a b", "send o z", "rm o ready z");
	timers_stop((struct local *)c->engine);
	fault_arm(FAULT_WRITE | FAULT_MINE, 2, EIO, false);
	cr_assert_eq(q_run(c, "mv q ready a o ready")[0], 'E');
	fault_disarm();
	assert_ok(checkpoint_run((struct local *)c->engine));
	Q_SCRIPT(c, "mv q ready b o ready", "send q c:d100000");
	kill_it(c);
	read_journal(c, file);
	tear(file); /* of the move */
	write_journal(file);
	contract_open(c);
	assert_text(list(c, "q"), "a b ");
	assert_text(list(c, "o"), "");
	q_close(c);
	free(c);
	free(file);
}

/* Nor does what comes there get the lease that it was to have; whether the journal could be told at once or not. */
Test(local_placed, lease_of_a_move_that_failed)
{
	tmpdir_in_memory();
	nosync_install();
	for (unsigned sticky = 0; sticky < 2; sticky++) {
		struct contract *c = calloc(1, sizeof(*c));

		q_open(c, true);
		q_lenient(c);
		Q_SCRIPT(c, "queue q", "queue o", "consumer o/w1", "send q a", "send o z", "rm o ready z");
		timers_stop((struct local *)c->engine);
		fault_arm(FAULT_WRITE | FAULT_MINE, 2, EIO, sticky);
		cr_assert_eq(q_run(c, "mv q ready a o unacked o/w1")[0], 'E');
		fault_disarm();
		Q_SCRIPT(c, "send o b");
		kill_it(c);
		contract_open(c);
		assert_text(list(c, "q"), "a ");
		assert_text(list(c, "o"), "b ");
		q_close(c);
		free(c);
	}
}

/* A move is left out if a record of either queue before it is lost; what is done afterwards counts. */
Test(local_placed, move_behind_a_gap)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct journal_file *file = calloc(1, sizeof(*file));

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send q a", "send o b c");
	timers_stop((struct local *)c->engine);
	assert_ok(checkpoint_run((struct local *)c->engine));
	Q_SCRIPT(c, "rm o ready b", "mv q ready a o ready");
	kill_it(c);
	read_journal(c, file);
	tear(file); /* of the removal */
	write_journal(file);
	contract_open(c);
	assert_text(list(c, "q"), "a ");
	assert_text(list(c, "o"), "b c ");
	q_forget();
	Q_SCRIPT(c, "show o => b,c |  | ", "rm o ready b");
	kill_it(c);
	contract_open(c);
	assert_text(list(c, "q"), "a ");
	assert_text(list(c, "o"), "c ");
	q_close(c);
	free(c);
	free(file);
}

/* The log of a queue goes with it, and what was moved out of it is on disk then. */
Test(local_placed, removed_after_a_move)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send q a");
	cut = begin(c);
	sync_queue(c, "q");
	Q_SCRIPT(c, "mv q ready a o ready", "rmdir q => ok");
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		struct engine_object *queue = NULL;
		char text[64] = "";

		reopen_as(c, cut, n, 0);
		if (c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "q", &queue) == 0)
			strcat(text, list(c, "q"));
		c->ops->put(queue);
		strcat(text, list(c, "o"));
		cr_assert_str_eq(text, "a ", "after %zu changes: %s", n, text);
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}

/* ---- a move that can neither be finished nor be taken back ---- */

/* The n-th write from now on fails, and all that follow, while a message is moved. Returns whether it was refused. */
static bool move_failing(struct contract *c, uint64_t n, const char *line)
{
	bool refused;

	fault_arm(FAULT_WRITE | FAULT_MINE, n, EIO, true);
	refused = q_run(c, line)[0] == 'E';
	fault_disarm();
	return refused;
}

/* The moment after each change from `first` on: a message that was settled with another that is there is nowhere. */
static void kill_at_each(struct contract *c, const struct powercut *cut, size_t first, const char *expected)
{
	const char *now = NULL;

	for (size_t n = first, last = powercut_count(cut); n <= last; n++) {
		crash_replace(c, cut, n, 0, true);
		contract_open(c);
		now = content(c);
		cr_assert(strstr(now, " x") == NULL || strstr(now, " a") == NULL, "%zu of %zu: %s", n, last, now);
	}
	contract_reopen(c);
	assert_text(content(c), expected);
}

/* Whatever is done with it then, and whenever the daemon dies: it is done with the message once, and that does not come back. */
static void use_unmoved(bool leased, const char *const *lines, const char *expected, const char *if_moved)
{
	bool refused = true;

	for (uint64_t n = 1; refused; n++) {
		struct contract *c = calloc(1, sizeof(*c));
		struct powercut *cut;
		size_t first;

		q_open(c, true);
		Q_SCRIPT(c, "queue q", "queue o", "queue p", "send q a b", "send o z", "rm o ready z", "tx t");
		if (leased)
			Q_SCRIPT(c, "get q => a");
		cut = begin(c);
		refused = move_failing(c, n, leased ? "mv q unacked a o ready" : "mv q ready a o ready");
		first = powercut_count(cut);
		for (size_t i = 0; lines[i] != NULL && (refused || i == 0); i++)
			q_script(c, (const char *const[]){ refused ? lines[i] : "show q => b |  | ", NULL });
		powercut_stop(cut);
		kill_at_each(c, cut, first, refused ? expected : if_moved);
		powercut_free(cut);
		q_close(c);
		free(c);
	}
}

#define UNMOVED(...) use_unmoved(false, (const char *const[]){ __VA_ARGS__, NULL }

Test(local_placed, unmove_is_owed)
{
	tmpdir_in_memory();
	nosync_install();
	UNMOVED("take q => a", "send o x"), "q: b. o: x. ", "q: b. o: a. ");
	UNMOVED("send o y:d1", "rm q ready a => ok", "tick 1"), "q: b. o: y. ", "q: b. o: a. ");
	use_unmoved(true, (const char *const[]){ "in t ack q a => 1", "in t send q x", "commit t => ok", NULL },
	    "q: b x. o:. ", "q: b. o: a. ");
	UNMOVED("mv q ready a p ready", "take p => a", "send o x"), "q: b. o: x. ", "q: b. o: a. ");
}

/* Two messages, of which the first was to be moved. */
static struct contract *begin_unmoved(void)
{
	struct contract *c = calloc(1, sizeof(*c));

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send q a b", "send o z", "rm o ready z");
	timers_stop((struct local *)c->engine);
	cr_assert(move_failing(c, 2, "mv q ready a o ready"));
	return c;
}

/* The queue it was to come to is removed: it stays where it is. */
Test(local_placed, unmove_is_owed_to_none)
{
	struct contract *c = begin_unmoved();

	fault_arm(FAULT_WRITE | FAULT_MINE, 1, EIO, true);
	Q_SCRIPT(c, "take q => EIO", "send o x => EIO", "rmdir o => EIO");
	fault_disarm();
	Q_SCRIPT(c, "rmdir o => ok");
	kill_it(c);
	contract_open(c);
	assert_text(list(c, "q"), "a b ");
	q_close(c);
	free(c);
}

/* Or the journal forgets the move, before it is told that there was none: that it is told afterwards does no harm. */
Test(local_placed, unmove_is_owed_by_a_checkpoint)
{
	struct contract *c = begin_unmoved();

	assert_ok(checkpoint_run((struct local *)c->engine));
	Q_SCRIPT(c, "take q => a", "send o x", "mv q ready b o ready");
	kill_it(c);
	contract_open(c);
	assert_text(content(c), "q:. o: b x. ");
	Q_SCRIPT(c, "totals q => published 2 delivered 1 acked 1 moved_out 1",
	    "totals o => published 2 dropped 1 moved_in 1");
	q_close(c);
	free(c);
}

/* ---- a move that was cut off is finished as it would have been ---- */

/* The next record of the journal is one write: none of zeros comes before it, as one does after a sync. */
static void write_zeros(struct contract *c)
{
	struct journal *journal = ((struct local *)c->engine)->journal;

	assert_ok(journal_sync(journal));
	assert_ok(journal_append(journal, JOURNAL_STAGE, "", 0, NULL)); /* which says nothing */
}

/* Queues whose lanes are made; c dies in the move, and is started. between: a command before it dies, or NULL. */
static struct contract *cut_off(const char *const *setup, const char *line, const char *between)
{
	struct contract *c = calloc(1, sizeof(*c));

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "consumer o/w1", "send q y1 y2:p5", "send o y3", "purge q", "purge o");
	timers_stop((struct local *)c->engine);
	q_script(c, setup);
	write_zeros(c);
	cr_assert(move_failing(c, 2, line));
	if (between != NULL)
		Q_SCRIPT(c, between);
	kill_it(c);
	contract_open(c);
	timers_stop((struct local *)c->engine);
	return c;
}

static void end(struct contract *c)
{
	q_close(c);
	free(c);
}

#define LINES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Claimed, it is the consumer's; and ready if there is none any more. */
Test(local_placed, claim_is_finished)
{
	struct contract *c = cut_off(LINES("send q a b"), "mv q ready a o unacked o/w1", NULL);

	Q_SCRIPT(c, "show q => b |  | ", "show o =>  | a | ", "ack o/w1 a => 1",
	    "totals o => published 1 delivered 1 acked 1 dropped 1 moved_in 1");
	end(c);
	c = cut_off(LINES("send q a b"), "mv q ready a o unacked o/w1", "rmdir o/w1 => ok");
	Q_SCRIPT(c, "show q => b |  | ", "show o => a |  | ", "take o => a+");
	end(c);
}

/* Its other priority. */
Test(local_placed, other_priority_is_finished)
{
	struct contract *c = cut_off(LINES("send q b a"), "mv q ready a q ready p5", NULL);

	Q_SCRIPT(
	    c, "message q a => ready p5 d0", "totals q moved_in => 0", "take q => a", "take q => b", "take q => -");
	end(c);
}

/* What is too much then goes. */
Test(local_placed, limit_after_it_is_finished)
{
	struct contract *c = cut_off(LINES("set o max.length 1", "send o z", "send q a"), "mv q ready a o ready", NULL);

	Q_SCRIPT(c, "show q =>  |  | ", "show o => a |  | ", "show o/dlq => z |  | ");
	end(c);
}

/* Moved on, that failed and was taken back, and the power took the log it stood in: it stands there all the same. */
Test(local_placed, unmoved_stays_moved)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	size_t n;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "queue p", "send p z", "rm p ready z");
	cut = begin(c);
	Q_SCRIPT(c, "send q a b");
	sync_queue(c, "q");
	Q_SCRIPT(c, "mv q ready a o ready");
	fault_arm(FAULT_WRITE | FAULT_MINE, 2, EIO, false);
	Q_SCRIPT(c, "mv o ready a p ready => EIO");
	fault_disarm();
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	n = powercut_count(cut);
	powercut_stop(cut);
	reopen_as(c, cut, n, 0);
	assert_text(content(c), "q: b. o: a. ");
	assert_text(list(c, "p"), "");
	powercut_free(cut);
	end(c);
}

/* Where it has come to it is damaged: it is not moved once more, from where it was. */
Test(local_placed, arrived_and_damaged)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct engine_object *o;
	char path[PATH_MAX + 128], byte;
	int fd;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send q a b");
	timers_stop((struct local *)c->engine);
	Q_SCRIPT(c, "mv q ready a o ready", "mv q ready b o ready");
	sync_queue(c, "o");
	o = q_object(c, "o");
	snprintf(path, sizeof(path), "%s/logs/%016" PRIx64 "/00000000000000000000.data", c->source,
	    queue_lane(queue_of_object(object_of(o)), 0)->log_id);
	c->ops->put(o);
	kill_it(c);
	fd = open(path, O_RDWR);
	cr_assert(pread(fd, &byte, 1, 0) == 1 && byte == 'a');
	byte = 'A';
	cr_assert_eq(pwrite(fd, &byte, 1, 0), 1);
	close(fd);
	contract_open(c);
	Q_SCRIPT(c, "totals q ready => 0", "take o => b", "take o => -");
	end(c);
}

static void synced_with_its_record(const char *line, const char *name, const char *expected)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;

	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send o y", "purge o", "send q f");
	sync_queue(c, "q");
	cut = begin(c);
	Q_SCRIPT(c, line);
	sync_queue(c, name);
	powercut_stop(cut);
	for (uint64_t seed = 0; seed < 20; seed++) {
		reopen_as(c, cut, powercut_count(cut), seed);
		Q_SCRIPT(c, expected);
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}

/* A log is synced some day: what the journal says of a message in it is on disk then, by that alone. */
Test(local_placed, synced_with_its_record)
{
	tmpdir_in_memory();
	nosync_install();
	synced_with_its_record("send q a:d100000", "q", "show q => f |  | a");
	synced_with_its_record("push q a", "q", "show q => a,f |  | ");
	synced_with_its_record("mv q ready f o ready", "o", "show o => f |  | ");
	synced_with_its_record("mv q ready f o ready", "o", "show q =>  |  | ");
}

/* Nor does closing sync logs before: wherever the power goes then. */
Test(local_placed, closed_with_its_record, .timeout = 100)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send o y", "purge o", "send q f");
	sync_queue(c, "q");
	cut = begin(c);
	Q_SCRIPT(c, "send q a:d100000", "mv q ready f o ready");
	contract_close(c);
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 10; seed++) {
			const char *now;

			tmpdir_remove(&c->dir);
			crash_make(c, cut, n, seed < 2 ? seed : n * 10 + seed, false);
			contract_open(c);
			now = content(c);
			cr_assert(strcmp(now, "q: f. o:. ") == 0 || strcmp(now, "q:. o: f. ") == 0,
			    "%zu, %" PRIu64 ": %s", n, seed, now);
			contract_close(c);
		}
	}
	powercut_free(cut);
	contract_open(c);
	q_close(c);
	free(c);
}

/* ---- what comes while the disk syncs ---- */

static struct {
	struct contract *c;
	struct io_ops before;
	bool moves;
	unsigned next;
} syncing;

#define WHILE_SYNCING 8u

/* Behind each sync another message comes to the log: by a move, or with a delay. */
static int sync_and_come(int fd)
{
	int rc = syncing.before.fdatasync(fd);
	char line[64];

	if (syncing.next >= WHILE_SYNCING)
		return rc;
	if (syncing.moves)
		snprintf(line, sizeof(line), "mv q ready %c o ready", (int)('a' + syncing.next));
	else
		snprintf(line, sizeof(line), "send o %c:d100000", (int)('A' + syncing.next));
	syncing.next++;
	Q_SCRIPT(syncing.c, line);
	return rc;
}

static void sync_o(struct contract *c)
{
	sync_queue(c, "o");
}

static void checkpoint(struct contract *c)
{
	assert_ok(checkpoint_run((struct local *)c->engine));
}

/* None is in two queues, and none has lost its delay, wherever the power goes then. */
static void come_while(bool moves, void (*sync)(struct contract *c))
{
	struct contract *c = calloc(1, sizeof(*c));
	struct io_ops watched;
	struct powercut *cut;

	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send o y", "purge o", "send q a b c d e f g h z");
	sync_queue(c, "q");
	cut = begin(c);
	Q_SCRIPT(c, moves ? "mv q ready z o ready" : "send o Z:d100000");
	syncing.c = c;
	syncing.before = *io;
	syncing.moves = moves;
	syncing.next = 0;
	watched = *io;
	watched.fdatasync = sync_and_come;
	io = &watched;
	sync(c);
	io = &syncing.before;
	powercut_stop(cut);
	cr_assert_gt(syncing.next, 1);
	for (size_t n = 1; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 8; seed++) {
			const char *now;

			reopen_as(c, cut, n, seed < 2 ? seed : n * 8 + seed);
			now = content(c);
			for (unsigned i = 0; i < 9; i++) {
				const char *at = strchr(now, i < 8 ? 'a' + (int)i : 'z');

				cr_assert(
				    at != NULL && strchr(at + 1, at[0]) == NULL, "%zu, %" PRIu64 ": %s", n, seed, now);
				cr_assert(
				    i == 8 || strchr(now, 'A' + (int)i) == NULL, "%zu, %" PRIu64 ": %s", n, seed, now);
			}
		}
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}

Test(local_placed, come_while_syncing, .timeout = 100)
{
	tmpdir_in_memory();
	nosync_install();
	come_while(true, sync_o);
	come_while(false, sync_o);
	come_while(true, checkpoint);
	come_while(false, checkpoint);
}

/* ---- a move that a start does again ---- */

static void remove_log(struct contract *c, uint64_t id)
{
	char command[2 * PATH_MAX];

	snprintf(command, sizeof(command), "rm -r '%s'/logs/%016" PRIx64, c->source, id);
	cr_assert_eq(system(command), 0);
}

/* It says that there was no checkpoint, as it has something that a later start does. */
static void close_unfinished(struct contract *c)
{
	c->ops->put(c->root);
	cr_assert_lt(c->ops->close(c->engine), 0);
	tmpdir_remove(&c->dir);
}

/* A start that does it, and a sync of the log that it came to. c is closed and its directory is gone. */
static struct powercut *sync_moved(struct contract *c)
{
	int fd = open(c->source, O_RDONLY | O_DIRECTORY);
	struct powercut *cut = powercut_start_store(fd, "catalog", "reserve");

	close(fd);
	contract_open(c);
	timers_stop((struct local *)c->engine);
	sync_queue(c, "o");
	powercut_stop(cut);
	close_unfinished(c);
	return cut;
}

/*
 * Another cannot be done, as its queue cannot be opened: so no checkpoint follows. But the log that the message came to is synced,
 * and then it is there, once, wherever the power goes: also if nothing else was synced.
 */
Test(local_placed, moved_again, .timeout = 100)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut, *first;
	struct engine_object *p;
	uint64_t log;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "queue p", "send q y1", "send o y2", "send p y3", "purge q", "purge o",
	    "purge p", "send q a b");
	sync_queue(c, "q");
	sync_queue(c, "o");
	sync_queue(c, "p");
	cut = begin(c);
	p = q_object(c, "p");
	log = queue_lane(queue_of_object(object_of(p)), 0)->log_id;
	c->ops->put(p);
	Q_SCRIPT(c, "mv q ready a o ready", "mv q ready b p ready");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	powercut_stop(cut);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	powercut_free(cut);
	remove_log(c, log);
	first = sync_moved(c);
	for (size_t n = 0; n <= powercut_count(first); n++) { /* that start was killed before */
		crash_make(c, first, n, 0, true);
		cut = sync_moved(c);
		for (uint64_t seed = 0; seed < 4; seed++) {
			crash_make(c, cut, powercut_count(cut), seed, false);
			contract_open(c);
			cr_assert_str_eq(content(c), "q:. o: a. ", "%zu, %" PRIu64 ": %s", n, seed, content(c));
			close_unfinished(c);
		}
		powercut_free(cut);
	}
	powercut_free(first);
	engine_scratch_release(&c->scratch);
	free(c);
}

/* The power goes again, at any moment of the start that does moves again. */
Test(local_placed, second_power_cut, .timeout = 120)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	int fd;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue o", "send o y", "purge o", "send q a b c d e f");
	sync_queue(c, "q");
	sync_queue(c, "o");
	cut = begin(c);
	Q_SCRIPT(c, "send o x1 x2", "mv q ready f o ready", "mv q ready a o ready", "mv q ready b o ready",
	    "mv o ready a q ready", "mv q ready c o ready", "rm o ready f", "mv q ready d q ready p5");
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	powercut_stop(cut);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	powercut_free(cut);
	fd = open(c->source, O_RDONLY | O_DIRECTORY);
	cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	contract_open(c);
	timers_stop((struct local *)c->engine);
	assert_text(content(c), "q: a d e. o: b c. ");
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 10; seed++) {
			crash_replace(c, cut, n, seed < 2 ? seed : 10 * n + seed, false);
			contract_open(c);
			cr_assert_str_eq(content(c), "q: a d e. o: b c. ", "%zu of %zu, %" PRIu64 ": %s", n,
			    powercut_count(cut), seed, content(c));
		}
	}
	powercut_free(cut);
	q_close(c);
	free(c);
}
