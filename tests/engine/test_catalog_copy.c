/*
 * Tests of engine/catalog_copy and catalog_restore: what is made of the copy is the catalog, whatever became of that; damage of the
 * copy leaves an earlier state, or is refused; a power cut leaves one that can be used; where it cannot be written nothing else fails.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog.h"
#include "engine/catalog_copy.h"
#include "engine/catalog_internal.h"
#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/store_guard.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"
#include "tests/lib/tmpdir.h"

#define STATES 256u

static const struct engine_owner root_owner = { .uid = 1, .gid = 2, .mode = 0751 };
static struct tmpdir dir, other;

/* All rows but those of key indexes, and but the numbers that go on above, as text. */
struct state {
	char *text;
	size_t len;
};

static struct state states[STATES]; /* after each change */
static size_t state_count;

static void init(void)
{
	nosync_install();
	tmpdir_in_memory();
	tmpdir_make(&dir);
	tmpdir_make(&other);
}

static void forget_states(void);

static void fini(void)
{
	forget_states();
	tmpdir_remove(&other);
	tmpdir_remove(&dir);
}

TestSuite(catalog_copy, .init = init, .fini = fini, .timeout = 120);

/* ---- what is in a catalog ---- */

static bool is_compared(const MDB_val *key)
{
	const char *name = (const char *)key->mv_data;

	return name[0] != CATALOG_KEY && name[0] != CATALOG_KEYED &&
	       !(name[0] == CATALOG_FACT && key->mv_size > 9 && memcmp(name + 9, "next_", 5) == 0);
}

static int write_state(struct catalog_txn *txn, void *arg)
{
	struct state *state = arg;
	FILE *out = open_memstream(&state->text, &state->len);
	MDB_cursor *cursor;
	MDB_val key, data;

	cr_assert_eq(mdb_cursor_open(txn->mdb, txn->dbi, &cursor), 0);
	while (mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0) {
		if (!is_compared(&key))
			continue;
		for (size_t i = 0; i < key.mv_size; i++)
			fprintf(out, "%02x", ((const uint8_t *)key.mv_data)[i]);
		fputc(' ', out);
		for (size_t i = 0; i < data.mv_size; i++)
			fprintf(out, "%02x", ((const uint8_t *)data.mv_data)[i]);
		fputc('\n', out);
	}
	mdb_cursor_close(cursor);
	fclose(out);
	return 0;
}

static struct state state_of(struct catalog *catalog)
{
	struct state state = { 0 };

	cr_assert_eq(catalog_view(catalog, write_state, &state), 0);
	return state;
}

static bool is_same(const struct state *a, const struct state *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void forget_states(void)
{
	while (state_count > 0)
		free(states[--state_count].text);
}

static void remember(struct catalog *catalog)
{
	struct state state = state_of(catalog);

	if (state_count > 0 && is_same(&state, &states[state_count - 1])) {
		free(state.text);
		return;
	}
	cr_assert(state_count < STATES);
	states[state_count++] = state;
}

/* Number of this state among those that were remembered; -1: none of them. */
static int find_state(const struct state *state)
{
	for (size_t i = state_count; i > 0; i--) {
		if (is_same(state, &states[i - 1]))
			return (int)i - 1;
	}
	return -1;
}

/* ---- changes ---- */

static void put(struct catalog *catalog, uint64_t id, uint64_t parent, enum engine_kind kind, const char *name)
{
	struct catalog_object object = { .id = id, .parent_id = parent, .kind = kind, .owner = root_owner };

	snprintf(object.name, sizeof(object.name), "%s", name);
	cr_assert_eq(catalog_put_object(catalog, &object), 0);
	remember(catalog);
}

#define DO(call)                                                                                                       \
	do {                                                                                                           \
		cr_assert_eq(call, 0, #call);                                                                          \
		remember(catalog);                                                                                     \
	} while (0)

/* Some of every kind of row, and removals of each. */
static void change_all(struct catalog *catalog, uint64_t first)
{
	struct catalog_setting setting = { "retention.ms", "1000" }, none = { "retention.ms", NULL };
	struct catalog_cursor cursor = { first + 1, 0, 7, 8, 9 };
	struct catalog_queue_row rows[2] = { { .queue_id = first + 2, .what = CATALOG_OF_QUEUE, .len = 72 },
		{ .queue_id = first + 2, .what = CATALOG_OF_LANE, .len = 16 } };
	struct catalog_binding binding = {
		.exchange_id = first + 3, .target_id = first, .pattern = "a.#", .name = "x"
	};
	struct catalog_keyed keyed = { .key = { "key", 3 }, .offset = 4 };
	const struct engine_owner owner = { 5, 6, 0600 };
	uint64_t covered = 5, id;
	char name[32];

	for (unsigned i = 0; i < 4; i++) {
		static const enum engine_kind kinds[] = { ENGINE_TOPIC, ENGINE_GROUP, ENGINE_QUEUE, ENGINE_EXCHANGE };

		snprintf(name, sizeof(name), "%" PRIu64, first + i);
		put(catalog, first + i, i == 1 ? first : ENGINE_ROOT_ID, kinds[i], name);
	}
	DO(catalog_next_id(catalog, &id));
	DO(catalog_next_message_ids(catalog, 100, &id));
	DO(catalog_put_settings(catalog, first, ENGINE_TOPIC, &setting, 1));
	DO(catalog_put_settings(catalog, 0, ENGINE_TOPIC, &setting, 1));
	DO(catalog_add_partition(catalog, first, 0, first + 10));
	DO(catalog_add_lane(catalog, first + 2, 4, first + 11));
	DO(catalog_put_cursors(catalog, &cursor, 1));
	DO(catalog_put_queue_rows(catalog, rows, 2, 0));
	DO(catalog_put_binding(catalog, &binding));
	DO(catalog_put_keys(catalog, first, &keyed, 1, &covered, 1));
	DO(catalog_set_owner(catalog, first, &owner, 77));
	DO(catalog_set_node_owner(catalog, first, "in", &owner));
	snprintf(name, sizeof(name), "new name %" PRIu64, first);
	DO(catalog_rename(catalog, first + 2, name, 5));
	DO(catalog_drop_node_owner(catalog, first, "in"));
	DO(catalog_put_settings(catalog, first, ENGINE_TOPIC, &none, 1));
	DO(catalog_drop_binding(catalog, &binding));
	rows[1].len = 0;
	DO(catalog_put_queue_rows(catalog, rows, 2, 0));
}

static struct catalog *open_in(int dirfd)
{
	struct catalog *catalog;

	cr_assert_eq(catalog_open(dirfd, false, &catalog), 0, "%s", engine_reason());
	return catalog;
}

/* A catalog with a copy of which a part was appended. */
static struct catalog *make(void)
{
	struct catalog *catalog;

	forget_states();
	cr_assert_eq(catalog_create(dir.fd, &root_owner), 0);
	catalog = open_in(dir.fd);
	remember(catalog);
	change_all(catalog, 100);
	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	change_all(catalog, 200);
	DO(catalog_remove(catalog, 100));
	return catalog;
}

/* Restores what is in `other`; the number of the state, -1 if that is none, or the error. */
static int restore(struct catalog_copied *ret_copied)
{
	char kept[CATALOG_KEPT_SIZE];
	struct catalog *catalog;
	struct state state;
	int rc = catalog_restore(other.fd, 3, 1000, ret_copied, kept);

	if (rc < 0)
		return -1000 + rc;
	catalog = open_in(other.fd);
	state = state_of(catalog);
	rc = find_state(&state);
	free(state.text);
	catalog_close(catalog);
	return rc;
}

/* ---- it is the catalog ---- */

Test(catalog_copy, is_in_step)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	uint64_t id, message;

	cr_assert_gt(state_count, 30);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.change, catalog_last_change(catalog));
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	tmpdir_put(other.fd, "catalog", "damaged", 7);
	cr_assert_eq(restore(&copied), (int)state_count - 1, "%s", engine_reason());
	cr_assert_eq(copied.cut, 0);
	cr_assert(!copied.lacks);
	cr_assert_eq(faccessat(other.fd, "catalog.damaged", F_OK, 0), 0, "the old one is kept");
	catalog = open_in(other.fd); /* numbers go on above all that may have been given */
	cr_assert_eq(catalog_next_id(catalog, &id), 0);
	cr_assert_eq(catalog_see_message_ids(catalog, &message), 0);
	cr_assert_geq(id, 1000);
	cr_assert_gt(message, UINT32_MAX);
	catalog_close(catalog);
	cr_assert_eq(unlinkat(other.fd, "catalog", 0), 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1, "and once more from the new one: %s", engine_reason());
}

Test(catalog_copy, is_in_step_when_opened_again)
{
	struct catalog *catalog = make();
	struct stat before, after;
	struct catalog_copied copied;

	catalog_close(catalog);
	fstatat(dir.fd, COPY_NAME, &before, 0);
	catalog = open_in(dir.fd);
	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	fstatat(dir.fd, COPY_NAME, &after, 0);
	cr_assert_eq(before.st_size, after.st_size, "nothing had to be written");
	cr_assert_eq(before.st_ino, after.st_ino);
	cr_assert_eq(catalog_keep_copy(catalog, 4), 0);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.journal, 4);
	catalog_close(catalog);
}

/* Where a daemon without a copy, or one that died in between, has made a change. */
Test(catalog_copy, is_written_anew_if_it_is_behind)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	uint8_t *old;
	size_t size;

	old = tmpdir_get(dir.fd, COPY_NAME, &size);
	put(catalog, 300, ENGINE_ROOT_ID, ENGINE_TOPIC, "late");
	catalog_close(catalog);
	tmpdir_put(dir.fd, COPY_NAME, old, size);
	free(old);
	catalog = open_in(dir.fd);
	put(catalog, 301, ENGINE_ROOT_ID, ENGINE_TOPIC, "later"); /* it takes nothing that does not follow */
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.size, size);
	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	tmpdir_put(other.fd, "catalog", NULL, 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1);
}

/* It does not grow for ever. */
Test(catalog_copy, is_written_anew_if_it_is_large)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	struct catalog_setting setting = { "retention.ms", NULL };
	char value[1000];
	uint64_t most = 0;

	setting.value = value;
	for (unsigned i = 0; i < 4000; i++) {
		memset(value, 'a' + (int)(i % 26), sizeof(value) - 1);
		value[sizeof(value) - 1] = '\0';
		cr_assert_eq(catalog_put_settings(catalog, 200, ENGINE_TOPIC, &setting, 1), 0);
		cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
		cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
		most = copied.size > most ? copied.size : most;
		if (copied.size < most)
			break;
	}
	cr_assert_lt(copied.size, 100000);
	cr_assert_gt(most, 1000000);
	cr_assert_lt(most, 1300000);
	remember(catalog);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1);
}

/* The moves that a checkpoint took over, and a copy that is behind it does not know, are not taken for none. */
Test(catalog_copy, knows_that_it_lacks_a_checkpoint)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	char kept[CATALOG_KEPT_SIZE];

	struct catalog_queue_row lane = { .queue_id = 202, .what = CATALOG_OF_LANE, .len = 16, .priority = 4 };

	cr_assert_eq(catalog_put_queue_rows(catalog, &lane, 1, 0), 0);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(catalog_restore(other.fd, 4, 1000, &copied, kept), 0);
	cr_assert_str_eq(kept, "");
	cr_assert(copied.lacks);
	catalog = open_in(other.fd);
	{
		struct state state = state_of(catalog);

		cr_assert_not_null(strstr(state.text, "7100000000000000ca04 0000000000000000ffffffffffffff7f"));
		free(state.text);
	}
	catalog_close(catalog);
}

/* ---- damage ---- */

/* Each byte changed, and each length: an earlier state, told of unless it was cut between two changes, or none at all. */
Test(catalog_copy, damage_leaves_an_earlier_state)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	size_t size, earlier = 0, refused = 0;
	uint8_t *bytes;

	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, COPY_NAME, &size);
	for (size_t i = 0; i < 2 * size; i++) {
		int rc;

		if (i < size)
			bytes[i] ^= (uint8_t)(1 << i % 8);
		tmpdir_put(other.fd, COPY_NAME, bytes, i < size ? size : i - size);
		if (i < size)
			bytes[i] ^= (uint8_t)(1 << i % 8);
		if (i % 7 != 0 && catalog_look_at_copy(other.fd, &copied) == -EUCLEAN) {
			refused++;
			continue;
		}
		rc = restore(&copied);
		cr_assert(rc >= 0 || rc == -1000 - EUCLEAN, "byte %zu of %zu: %d", i % size, size, rc);
		if (rc >= 0)
			cr_assert(i >= size || copied.cut > 0, "byte %zu", i);
		earlier += rc >= 0;
		refused += rc < 0;
		tmpdir_clear(other.fd);
	}
	cr_assert_gt(earlier, 100);
	cr_assert_gt(refused, 100);
	free(bytes);
}

/* One that has a damaged row has the sound one in its copy, which goes on with it and is not written anew. */
Test(catalog_copy, keeps_a_row_that_is_damaged)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	struct catalog_setting setting = { "retention.bytes", "0123456789abcdef" };
	uint8_t *bytes, *at;
	size_t size;

	DO(catalog_put_settings(catalog, 200, ENGINE_TOPIC, &setting, 1));
	DO(catalog_set_owner(catalog, 200, &root_owner, 78)); /* no page that is in use is written twice */
	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, "catalog", &size);
	for (at = bytes; (at = memmem(at, size - (size_t)(at - bytes), setting.value, 16)) != NULL; at++)
		at[3] ^= 1;
	tmpdir_put(dir.fd, "catalog", bytes, size);
	free(bytes);
	catalog = open_in(dir.fd);
	cr_assert_eq(catalog_damaged(catalog), 1);
	put(catalog, 400, ENGINE_ROOT_ID, ENGINE_TOPIC, "more");
	forget_states();
	cr_assert_eq(catalog_keep_copy(catalog, 5), 0);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.change, catalog_last_change(catalog));
	cr_assert_eq(copied.journal, 5);
	cr_assert_eq(catalog_put_settings(catalog, 200, ENGINE_TOPIC, &setting, 1), 0);
	remember(catalog); /* what it is without the damage */
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	bytes = tmpdir_get(other.fd, COPY_NAME, &size);
	tmpdir_put(other.fd, COPY_NAME, bytes, size - 40); /* without that last change */
	free(bytes);
	cr_assert_eq(restore(&copied), 0);
}

/* Nor is one written anew from a catalog with a damaged row: what there is stays. */
Test(catalog_copy, is_not_written_from_damage)
{
	struct catalog *catalog = make();
	struct catalog_setting setting = { "retention.bytes", "0123456789abcdef" };
	uint8_t *bytes, *at;
	size_t size;

	DO(catalog_put_settings(catalog, 200, ENGINE_TOPIC, &setting, 1));
	DO(catalog_set_owner(catalog, 200, &root_owner, 78));
	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, "catalog", &size);
	for (at = bytes; (at = memmem(at, size - (size_t)(at - bytes), setting.value, 16)) != NULL; at++)
		at[3] ^= 1;
	tmpdir_put(dir.fd, "catalog", bytes, size);
	free(bytes);
	bytes = tmpdir_get(dir.fd, COPY_NAME, &size);
	catalog = open_in(dir.fd);
	catalog_copy_fall_behind(catalog->copy);
	cr_assert_eq(catalog_keep_copy(catalog, 5), 0);
	catalog_close(catalog);
	at = tmpdir_get(dir.fd, COPY_NAME, &(size_t){ 0 });
	cr_assert_eq(memcmp(bytes, at, size), 0);
	cr_assert_neq(faccessat(dir.fd, COPY_NEW_NAME, F_OK, 0), 0);
	free(bytes);
	free(at);
}

Test(catalog_copy, of_none_or_a_newer_one_nothing_is_made)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	char kept[CATALOG_KEPT_SIZE];
	size_t size, left;
	uint8_t *before, *after;

	catalog_close(catalog);
	before = tmpdir_get(dir.fd, "catalog", &size);
	cr_assert_eq(unlinkat(dir.fd, COPY_NAME, 0), 0);
	cr_assert_eq(catalog_restore(dir.fd, 0, 0, &copied, kept), -ENOENT);
	after = tmpdir_get(dir.fd, "catalog", &left);
	cr_assert(size == left && memcmp(before, after, size) == 0);
	cr_assert_neq(faccessat(dir.fd, "catalog.new", F_OK, 0), 0);
	free(before);
	free(after);
}

/* ---- failures and power cuts ---- */

/* Whatever call fails, changes go on; the next time it is kept it is whole again. */
Test(catalog_copy, a_failure_hurts_nothing_else)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	int failures = 0;

	for (uint64_t n = 1;; n++) {
		uint64_t calls;
		char name[32];
		int rc;

		snprintf(name, sizeof(name), "topic %" PRIu64, n);
		fault_arm(FAULT_ANY & ~(unsigned)FAULT_TRUNCATE, n, EIO, false);
		put(catalog, 1000 + n, ENGINE_ROOT_ID, ENGINE_TOPIC, name);
		if (n % 3 == 0)
			catalog_copy_fall_behind(catalog->copy);
		rc = catalog_keep_copy(catalog, n);
		calls = fault_disarm();
		failures += rc < 0;
		cr_assert_eq(catalog_keep_copy(catalog, n), 0);
		cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
		cr_assert(copied.change == catalog_last_change(catalog) && copied.cut == 0 && copied.journal == n);
		if (calls < n && n > 30)
			break;
	}
	cr_assert_gt(failures, 2);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1);
}

/* A power cut at any change of it: there is one, and it is of what was kept last or of later. */
Test(catalog_copy, outlives_power_cuts)
{
	struct catalog *catalog = make();
	size_t kept_at[8], kept_state[8], kept = 0;
	struct catalog_copied copied;
	struct powercut *cut;

	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	cut = powercut_start_store(dir.fd, "catalog", "reserve");
	for (uint64_t i = 0; i < 6; i++) {
		char name[32];

		snprintf(name, sizeof(name), "cut %" PRIu64, i);
		put(catalog, 500 + i, ENGINE_ROOT_ID, ENGINE_TOPIC, name);
		snprintf(name, sizeof(name), "again %" PRIu64, i);
		DO(catalog_rename(catalog, 500 + i, name, 7));
		if (i % 2 == 0)
			catalog_copy_fall_behind(catalog->copy);
		cr_assert_eq(catalog_keep_copy(catalog, 4 + i), 0);
		kept_at[kept] = powercut_count(cut);
		kept_state[kept++] = state_count - 1;
	}
	powercut_stop(cut);
	catalog_close(catalog);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 24; seed++) {
			size_t least = 0;
			int rc;

			for (size_t k = 0; k < kept && kept_at[k] <= n; k++)
				least = kept_state[k];
			powercut_make(cut, n, seed, other.fd);
			unlinkat(other.fd, "catalog", 0);
			rc = restore(&copied);
			cr_assert_geq(rc, (int)least, "cut %zu, seed %" PRIu64 ": %d %s", n, seed, rc, engine_reason());
			tmpdir_clear(other.fd);
		}
	}
	powercut_free(cut);
}

/* ---- whose it is ---- */

static const uint8_t first_uuid[16] = "first uuid", second_uuid[16] = "second uuid";

/* The copy of another store is not taken for this one's: not to make the catalog anew, nor to go on with. */
Test(catalog_copy, of_another_store_is_refused)
{
	struct catalog *catalog;
	struct catalog_copied copied;
	size_t size;
	uint8_t *bytes;

	cr_assert_eq(store_write_format(dir.fd, first_uuid), 0);
	catalog = make();
	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, COPY_NAME, &size);
	cr_assert_eq(memcmp(bytes + 32, first_uuid, 16), 0);
	tmpdir_copy(dir.fd, other.fd);
	cr_assert_eq(store_write_format(other.fd, second_uuid), 0);
	tmpdir_put(other.fd, "catalog", "damaged", 7);
	cr_assert_eq(restore(&copied), -1000 - EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "of another store"), "%s", engine_reason());
	cr_assert_eq(store_write_format(other.fd, first_uuid), 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1, "%s", engine_reason());

	cr_assert_eq(store_write_format(dir.fd, second_uuid), 0);
	catalog = open_in(dir.fd);
	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0, "%s", engine_reason());
	catalog_close(catalog);
	free(bytes);
}

/* One from before copies said whose they are is taken; the next time it is kept it says so. */
Test(catalog_copy, of_no_store_is_any_ones)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	size_t size;
	uint8_t *bytes;

	catalog_close(catalog);
	cr_assert_eq(store_write_format(dir.fd, first_uuid), 0);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1, "%s", engine_reason());
	catalog = open_in(dir.fd);
	cr_assert_eq(catalog_keep_copy(catalog, 3), 0);
	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, COPY_NAME, &size);
	cr_assert_eq(memcmp(bytes + 32, first_uuid, 16), 0);
	free(bytes);
}

/* ---- what is whole and says what nobody writes ---- */

/* A copy of one batch with these rows. */
static void put_copy(int dirfd, uint32_t version, const uint8_t *rows, size_t len)
{
	uint8_t bytes[64 + 32 + 64] = "MQFSCOPY";
	uint8_t before[4];

	bytes_put32(bytes + 8, version);
	bytes_put64(bytes + 16, 64 + 32 + len);
	bytes_put32(bytes + 60, crc32c(0, bytes, 60));
	bytes_put32(bytes + 68, (uint32_t)len);
	memcpy(bytes + 96, rows, len);
	bytes_put32(before, crc32c(0, bytes + 24, 8));
	bytes_put32(bytes + 64, crc32c(crc32c(0, before, 4), bytes + 68, 28 + len));
	tmpdir_put(dirfd, COPY_NAME, bytes, 96 + len);
}

Test(catalog_copy, rows_that_are_none)
{
	static const struct {
		uint8_t rows[24];
		size_t len;
		int rc;
	} rows[] = {
		{ { 0 }, 0, 0 },
		{ { 9, 0, 0xff, 0xff, 't', 0, 0, 0, 0, 0, 0, 0, 9 }, 13, 0 },
		{ { 9, 0, 0xff, 0xff, 't', 0, 0, 0, 0, 0, 0, 0, 9 }, 12, -EUCLEAN },    /* the key is cut */
		{ { 9, 0, 4, 0, 't', 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3 }, 16, -EUCLEAN }, /* the value is cut */
		{ { 0, 0, 4, 0, 1, 2, 3, 4 }, 8, -EUCLEAN },                            /* no key */
		{ { 9, 0, 0xff }, 3, -EUCLEAN },
	};
	struct catalog_copied copied;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		put_copy(other.fd, 1, rows[i].rows, rows[i].len);
		cr_assert_eq(catalog_look_at_copy(other.fd, &copied), rows[i].rc, "row %zu: %s", i, engine_reason());
	}
	put_copy(other.fd, 2, rows[0].rows, 0);
	cr_assert_eq(catalog_look_at_copy(other.fd, &copied), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "version 2"), "%s", engine_reason());
	unlinkat(other.fd, COPY_NAME, 0);
	cr_assert_eq(mkdirat(other.fd, COPY_NAME, 0700), 0);
	cr_assert_eq(catalog_look_at_copy(other.fd, &copied), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "no file"), "%s", engine_reason());
	unlinkat(other.fd, COPY_NAME, AT_REMOVEDIR);
}

static int spoil_format(struct catalog_txn *txn, void *arg)
{
	static const uint8_t formats[][4] = { { 1 }, { 99 }, { 1 } };
	const int *how = arg;
	struct catalog_key key;

	catalog_fact_key(&key, "format");
	return *how == 3 ? catalog_del_row(txn, &key) : catalog_put_row(txn, &key, formats[*how], *how == 0 ? 3 : 4);
}

/* The format in the catalog: of another length, newer, and none. Only a newer one may not be made anew. */
Test(catalog_copy, formats)
{
	for (int how = 0; how < 4; how++) {
		struct catalog *catalog = make();
		struct catalog_copied copied;
		char kept[CATALOG_KEPT_SIZE];
		int rc;

		tmpdir_copy(dir.fd, other.fd);
		catalog_close(catalog);
		catalog = open_in(other.fd);
		cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, spoil_format, &how), 0);
		catalog_close(catalog);
		rc = catalog_open(other.fd, false, &catalog);
		if (rc == 0)
			catalog_close(catalog);
		cr_assert_eq(rc, how == 2 ? 0 : -EUCLEAN, "%d: %d", how, rc);
		rc = catalog_restore(other.fd, 3, 1000, &copied, kept);
		cr_assert(how == 1 ? rc == -EUCLEAN : rc == 0 || rc == -EUCLEAN, "%d: %d", how, rc);
		tmpdir_clear(dir.fd);
		tmpdir_clear(other.fd);
	}
}

static int shorten_ids(struct catalog_txn *txn, void *arg)
{
	struct catalog_key key;

	(void)arg;
	catalog_fact_key(&key, "next_message_id");
	if (catalog_del_row(txn, &key) < 0)
		return -EIO;
	catalog_fact_key(&key, "next_id");
	return catalog_put_row(txn, &key, "\1\0\0", 4);
}

/* What was removed and is not there costs nothing. */
Test(catalog_copy, restores_a_removal_of_nothing)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	struct catalog_batch *batch = catalog_copy_begin(catalog->copy);
	char bytes[] = "t12345678x";
	MDB_val key = { .mv_size = sizeof(bytes) - 1, .mv_data = bytes };

	catalog_batch_add(batch, &key, NULL);
	catalog_copy_append(catalog->copy, catalog_last_change(catalog) + 1);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.change, catalog_last_change(catalog) + 1);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1, "%s", engine_reason());
}

/* A number of the wrong length, and one that there is not, count as none, and rows of queues that are of no lane are left as they are. */
Test(catalog_copy, restores_odd_rows)
{
	struct catalog_queue_row row = { .queue_id = 202, .what = CATALOG_OF_QUEUE, .len = 72 };
	struct catalog *catalog = make();
	struct catalog_copied copied;
	char kept[CATALOG_KEPT_SIZE];
	uint64_t id;

	cr_assert_eq(catalog_put_queue_rows(catalog, &row, 1, 0), 0);
	row = (struct catalog_queue_row){ .queue_id = 202, .what = CATALOG_OF_LANE, .len = 8, .priority = 3 };
	cr_assert_eq(catalog_put_queue_rows(catalog, &row, 1, 0), 0);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, shorten_ids, NULL), 0);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	for (unsigned i = 1; i < 1003; i++) { /* as many as it keeps */
		char name[64];

		snprintf(name, sizeof(name), i > 1 ? "catalog.damaged-%u" : "catalog.damaged", i);
		tmpdir_put(other.fd, name, "x", 1);
	}
	tmpdir_put(other.fd, "catalog", "damaged", 7);
	cr_assert_eq(catalog_restore(other.fd, 4, 1000, &copied, kept), -EEXIST);
	cr_assert_eq(unlinkat(other.fd, "catalog.damaged-77", 0), 0);
	cr_assert_eq(catalog_restore(other.fd, 4, 1000, &copied, kept), 0, "%s", engine_reason());
	cr_assert_str_eq(kept, "catalog.damaged-77");
	catalog = open_in(other.fd);
	cr_assert_eq(catalog_next_id(catalog, &id), 0);
	cr_assert_geq(id, 1000);
	catalog_close(catalog);
}

/* ---- what fails ---- */

/* Whatever fails while it is made anew: it says so, or it is made; and the next time it is. */
Test(catalog_copy, restoring_fails)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	uint64_t calls = 0; /* of LMDB */

	catalog_close(catalog);
	for (int means = 0; means < MEANS_COUNT; means++) {
		bool reached = true;

		/* Of the many calls that are the same for each row, the first and the last. */
		for (uint64_t n = means == MEANS_LMDB ? 0 : 1; reached;
		     n = n == 20 && calls > 100 ? calls - 60 : n + 1) {
			char kept[CATALOG_KEPT_SIZE];
			int rc;

			tmpdir_copy(dir.fd, other.fd);
			tmpdir_put(other.fd, "catalog", "damaged", 7);
			means_arm(means, n);
			rc = catalog_restore(other.fd, 4, 1000, &copied, kept);
			reached = means_disarm(means, n);
			calls = n == 0 ? alloc_disarm_lmdb() : calls;
			cr_assert(rc == 0 || reached, "kind %d, call %d: %d %s", means, (int)n, rc, engine_reason());
			rc = restore(&copied);
			cr_assert_eq(
			    rc, (int)state_count - 1, "kind %d, call %d: %d %s", means, (int)n, rc, engine_reason());
			tmpdir_clear(other.fd);
		}
	}
}

/* A catalog that is made, at first or anew, is on disk before it gets its name. */
Test(catalog_copy, a_new_catalog_is_synced)
{
	struct catalog_copied copied;

	cr_assert_eq(catalog_create(other.fd, &root_owner), 0);
	cr_assert_eq(alloc_lmdb_unsynced(), 0);
	tmpdir_clear(other.fd);
	catalog_close(make());
	tmpdir_copy(dir.fd, other.fd);
	tmpdir_put(other.fd, "catalog", "damaged", 7);
	cr_assert_gt(alloc_lmdb_unsynced(), 0);
	cr_assert_eq(catalog_restore(other.fd, 4, 1000, &copied, (char[CATALOG_KEPT_SIZE]){ 0 }), 0);
	cr_assert_eq(alloc_lmdb_unsynced(), 0);
}

/* Whatever fails while a catalog is made or opened, it is whole, or not there, and can be had the next time. */
Test(catalog_copy, opening_fails)
{
	for (int means = 0; means < MEANS_COUNT; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct catalog *catalog = NULL;
			int rc;

			means_arm(means, n);
			rc = catalog_create(other.fd, &root_owner);
			if (rc == 0)
				rc = catalog_open(other.fd, false, &catalog);
			reached = means_disarm(means, n);
			cr_assert(rc == 0 || reached);
			if (rc == 0)
				catalog_close(catalog);
			rc = catalog_create(other.fd, &root_owner);
			cr_assert(rc == 0 || rc == -EEXIST, "kind %d, call %d: %d", means, (int)n, rc);
			catalog_close(open_in(other.fd));
			tmpdir_clear(other.fd);
		}
	}
	for (uint64_t n = 1, reached = true; reached; n++) { /* LMDB's own errors, which mean damage; and its EINVAL */
		struct catalog *catalog;
		int rc;

		(void)catalog_create(other.fd, &root_owner);
		alloc_arm_lmdb(n, n == 4 ? EINVAL : MDB_CORRUPTED); /* 4: mdb_env_open() */
		rc = catalog_open(other.fd, false, &catalog);
		reached = alloc_disarm_lmdb() >= n;
		cr_assert_eq(rc, reached ? -EUCLEAN : 0, "call %d: %d", (int)n, rc);
		if (rc == 0)
			catalog_close(catalog);
	}
	tmpdir_clear(other.fd);
	cr_assert_eq(mkdirat(other.fd, "catalog", 0700), 0);
	cr_assert_eq(catalog_open(other.fd, false, &(struct catalog *){ NULL }), -EUCLEAN);
	cr_assert_eq(catalog_check_newer(other.fd), 0);
	cr_assert_eq(unlinkat(other.fd, "catalog", AT_REMOVEDIR), 0);
}

/* More than a batch holds that keeps its memory. */
static int put_many(struct catalog_txn *txn, void *arg)
{
	static const char value[1000];
	struct catalog_key key;
	int rc = 0;

	(void)arg;
	for (unsigned i = 0; i < 80 && rc == 0; i++) {
		catalog_key_init(&key, CATALOG_SETTING, 200);
		catalog_key_add_be32(&key, i);
		rc = catalog_put_row(txn, &key, value, sizeof(value));
	}
	return rc;
}

/* Whatever fails in a change or while the copy is kept: the change is made or refused, and the copy is in step the next time. */
Test(catalog_copy, keeping_fails)
{
	struct catalog *catalog = make();
	struct catalog_copied copied;
	uint64_t journal = 3;

	for (int means = 2 * MEANS_MEMORY; means < 2 * MEANS_COUNT; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n = means / 2 == MEANS_LMDB && n == 5 ? 80 : n + 1) {
			int rc, kept;

			journal++;
			if (means % 2)
				catalog_copy_fall_behind(catalog->copy);
			means_arm(means / 2, n);
			rc = catalog_change(catalog, CATALOG_MAY_USE_RESERVE, put_many, NULL);
			kept = catalog_keep_copy(catalog, journal);
			reached = means_disarm(means / 2, n);
			cr_assert((rc == 0 && kept == 0) || reached);
			cr_assert_eq(catalog_keep_copy(catalog, journal), 0);
			cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
			cr_assert(copied.change == catalog_last_change(catalog) && copied.cut == 0 &&
				  copied.journal == journal);
		}
	}
	cr_assert_eq(catalog_change(catalog, CATALOG_MAY_USE_RESERVE, put_many, NULL), 0);
	alloc_arm(1); /* its memory was too much to be kept */
	cr_assert_eq(catalog_keep_copy(catalog, journal + 1), -ENOMEM);
	cr_assert_eq(alloc_disarm(), 1);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert(copied.change == catalog_last_change(catalog) && copied.journal == journal);
	cr_assert_eq(catalog_keep_copy(catalog, journal + 1), 0);
	cr_assert_eq(catalog_look_at_copy(dir.fd, &copied), 0);
	cr_assert_eq(copied.journal, journal + 1);
	remember(catalog);
	catalog_close(catalog);
	tmpdir_copy(dir.fd, other.fd);
	unlinkat(other.fd, "catalog", 0);
	cr_assert_eq(restore(&copied), (int)state_count - 1);
}
