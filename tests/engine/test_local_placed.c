/*
 * What becomes of messages of a commit that a power cut took from their log, while the journal tells what was done with them: what was
 * settled or moved on stays so, the rest is given again; and what was for the head is there. And that what the journal says behind a gap stays lost.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/journal_internal.h"
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
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
