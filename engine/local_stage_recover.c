/*
 * local_stage_recover - staging files that the daemon before this one left, and the writers they may still have.
 *
 * A writer whose daemon died goes on: its writes go to the file, as the kernel was told once, and succeed. So a file is
 * not only taken in at the start, by the protocol in local_stage_take.c, but stays one of its topic or queue, an orphan, as long
 * as somebody has it open for writing: a read lease (fcntl F_SETLEASE) can be had only when nobody has. Then it is taken
 * in for the last time and removed. A part that is left is dropped, and told of: as with a channel of a daemon that
 * died, whose close failed, nobody confirmed it.
 *
 * After a power cut a file may lack blocks it once had (they were punched, or never came to the disk). A message must
 * not be made of that: from the first hole on nothing is taken; and if the hole is where taking would begin, it begins
 * behind it, at the next whole message. Nor of a sector that was never written, in a block that has others: those are
 * zeros up to the sector's end. So of a file of an earlier start of the machine nothing is taken from the first zeros on
 * that end a sector. Messages that hold such zeros are not told from them; nobody confirmed those, either. What a file had
 * before it was emptied for another channel is not told from what that wrote: this relies on the file system, which, with a journal or
 * by copying on write, gives a file no new blocks before the old ones are gone.
 *
 * Whether the piece that the last record speaks of came to the log is seen by what is at its place there. If a disk has damaged that, nobody
 * can read it there, and nothing is proved: it is taken from the file, which has it whole, so that it is not lost. (It is there twice if the
 * disk should read its place after all; so it is asked twice.) But not if the file has a hole in the place of the piece: room is given back after an append only.
 */
#define HASH_NONFATAL_OOM 1

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/local_stage.h"

#define SECTOR 512u /* what a disk writes whole, or not at all */

struct stage_replayed {
	struct stage_state state;
	bool used;         /* a file was restored by it, or there is none */
	UT_hash_handle hh; /* by state.id */
};

/* ---- the journal ---- */

int stage_replay(struct local *local, const void *record, size_t size)
{
	struct stage_replayed *found;
	struct stage_state state;

	if (!stage_decode_state(record, size, &state))
		return 0;
	HASH_FIND(hh, local->stages->replayed, &state.id, sizeof(state.id), found);
	if (found == NULL) {
		found = calloc(1, sizeof(*found));
		if (found == NULL)
			return -ENOMEM;
		found->state.id = state.id;
		found->used = true;
		HASH_ADD(hh, local->stages->replayed, state.id, sizeof(state.id), found);
		if (found->hh.tbl == NULL) {
			free(found);
			return -ENOMEM;
		}
	}
	found->state = state;
	return 0;
}

int stages_recheckpoint(struct local *local)
{
	uint8_t record[STAGE_RECORD];
	int rc = 0;

	for (struct stage_replayed *r = local->stages->replayed; r != NULL && rc == 0; r = r->hh.next) {
		stage_encode_state(record, &r->state);
		rc = journal_append(local->journal, JOURNAL_STAGE, record, sizeof(record), NULL);
	}
	return rc;
}

void stages_forget_replayed(struct stages *stages, bool all)
{
	struct stage_replayed *r, *next;

	HASH_ITER (hh, stages->replayed, r, next) {
		if (!all && !r->used)
			continue;
		HASH_DEL(stages->replayed, r);
		free(r);
	}
}

/* ---- one file ---- */

/*
 * Has the message at an offset come by a commit or a move? Those that were cut off are done before staging files are looked at, and
 * may have come to where the piece was to be. 1, 0 or negative errno.
 */
static int is_of_another(struct plog *plog, uint64_t offset)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view = { 0 };
	struct index_entry entry;
	uint64_t first_id;
	int rc = plog_entry(plog, offset, &entry);

	if (rc < 0)
		return rc;
	if (entry.flags & (INDEX_STRAY | INDEX_MOVED))
		return 1;
	rc = plog_read_ids(plog, offset, 1, &scratch, &view, &first_id);
	if (rc == 0)
		rc = view.batch.props != NULL && view.batch.props[0].mark != 0;
	engine_scratch_release(&scratch);
	return rc;
}

/* Is what the log has at the piece's place the piece? 1, 0 or negative errno. */
static int has_piece(struct plog *plog, const struct stage_state *state)
{
	uint32_t len = state->len < STAGE_CRC_BYTES ? state->len : STAGE_CRC_BYTES;
	char bytes[STAGE_CRC_BYTES];
	uint64_t pos;
	ssize_t n;
	int rc = is_of_another(plog, state->offset);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = plog_pos_of(plog, state->offset, &pos);
	if (rc < 0)
		return rc;
	n = plog_pread(plog, pos, bytes, len); /* less: the log ends before */
	if (n < 0)
		return (int)n;
	return n == (ssize_t)len && stage_crc(bytes, len) == state->crc;
}

/* Has room of the piece been given back? Of its first block it need not be: another piece may begin in that, or the header. */
static bool was_punched(const struct stage *stage, const struct stage_state *state)
{
	off_t hole = lseek(stage->fd, (off_t)state->taken, SEEK_HOLE);

	if (hole < 0)
		return errno == ENXIO;
	return (uint64_t)hole < state->to && hole < lseek(stage->fd, 0, SEEK_END); /* no hole is one at the end */
}

/* Whether the log has the piece that the record speaks of. */
static int was_appended(
    const struct stage *stage, struct object *target, const struct stage_state *state, bool *ret_appended)
{
	struct engine_partition_stat stat;
	struct plog *plog;
	int rc = target_find_log(target, state, &plog);

	if (rc < 0)
		return rc;
	plog_stat(plog, &stat);
	if (state->offset < stat.end)
		rc = has_piece(plog, state);
	if (rc == -EIO) /* what the disk reads now is no damage */
		rc = has_piece(plog, state);
	if (rc == -ESTALE || rc == -ENOENT)
		rc = 1; /* trimmed, or compacted away, since */
	if (rc == -EIO && !was_punched(stage, state)) {
		local_notify(stage->local, EIO,
		    "staging file %" PRIu64 ": the log cannot be read where a part of it was to go, at offset %" PRIu64
		    " of partition %" PRIu32 ": that part is taken in once more",
		    stage->number, state->offset, state->partition);
		rc = 0;
	} else if (rc == -EIO) {
		rc = 1;
	}
	if (rc < 0)
		return rc;
	*ret_appended = rc > 0;
	return 0;
}

/* Where the data goes on from pos, and where it has its first hole. stage.lock is not needed: nobody else knows it. */
static void find_holes(struct stage *stage, uint64_t size)
{
	off_t data, hole;

	stage->scanned = stage->taken;
	if (size <= stage->taken)
		return;
	data = lseek(stage->fd, (off_t)stage->taken, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		data = (off_t)size;
	if (data > (off_t)stage->taken) {
		stage->taken = (uint64_t)data;
		stage->skipping = true;
	}
	hole = data >= 0 ? lseek(stage->fd, data, SEEK_HOLE) : -1;
	if (hole >= 0 && (uint64_t)hole < size)
		stage->recover_end = (uint64_t)hole;
	stage->scanned = stage->taken;
}

/* bytes: from position from to position to, within which sectors begin where they do in the file. */
static uint64_t zeros_in(const uint8_t *bytes, uint64_t from, uint64_t to)
{
	for (uint64_t start = from, end; start < to; start = end) {
		end = (start / SECTOR + 1) * SECTOR < to ? (start / SECTOR + 1) * SECTOR : to;
		if (bytes[end - from - 1] != 0)
			continue;
		while (end > start && bytes[end - from - 1] == 0)
			end--;
		return end;
	}
	return UINT64_MAX;
}

/* Finds the first zeros that end a sector, or the file. ret_at: where they begin; UINT64_MAX: there are none. */
static int find_zeros(const struct stage *stage, uint64_t from, uint64_t end, uint64_t *ret_at)
{
	uint8_t bytes[64 * SECTOR];
	int rc = 0;

	*ret_at = UINT64_MAX;
	while (from < end && rc == 0 && *ret_at == UINT64_MAX) {
		uint64_t to =
		    (from / sizeof(bytes) + 1) * sizeof(bytes) < end ? (from / sizeof(bytes) + 1) * sizeof(bytes) : end;

		rc = io_pread_all(stage->fd, bytes, (size_t)(to - from), (off_t)from);
		if (rc == 0)
			*ret_at = zeros_in(bytes, from, to);
		from = to;
	}
	return rc;
}

/* What the power cut, if there was one since it was written, has left of it. */
static int find_unwritten(struct stage *stage, uint64_t size)
{
	uint64_t end = size < stage->recover_end ? size : stage->recover_end, at;
	uint8_t boot_id[16];
	int rc;

	clock_boot_id(boot_id);
	if (memcmp(boot_id, stage->header.boot_id, sizeof(boot_id)) == 0)
		return 0;
	rc = find_zeros(stage, stage->taken, end, &at);
	if (rc == 0 && at < stage->recover_end)
		stage->recover_end = at;
	return rc;
}

/* What of it may be taken. */
static int find_bounds(struct stage *stage)
{
	struct stat st;

	if (fstat(stage->fd, &st) < 0)
		return -errno;
	find_holes(stage, (uint64_t)st.st_size);
	return find_unwritten(stage, (uint64_t)st.st_size);
}

/* The journal goes on saying what it says of it, until the file can be taken in. */
static void keep_record(struct stage *stage)
{
	struct stage_replayed *found;

	HASH_FIND(hh, stage->local->stages->replayed, &stage->header.id, sizeof(stage->header.id), found);
	if (found != NULL)
		found->used = false;
}

/* Brings what the journal says of it to the struct. */
static int restore(struct stage *stage, struct object *target)
{
	struct stage_replayed *found;
	bool appended = false;
	int rc = 0;

	HASH_FIND(hh, stage->local->stages->replayed, &stage->header.id, sizeof(stage->header.id), found);
	if (found == NULL)
		return 0;
	if (found->state.to > 0)
		rc = was_appended(stage, target, &found->state, &appended);
	if (rc < 0)
		return rc;
	stage->taken = appended ? found->state.to : found->state.taken;
	stage->skipping = !appended && found->state.skipping;
	return 0;
}

/* ret_header: what is in it. EBADMSG: nothing. */
static int read_header(struct local *local, int fd, struct stage_header *ret_header)
{
	uint8_t bytes[STAGE_DATA];
	int rc = io_pread_all(fd, bytes, sizeof(bytes), 0);

	if (rc == -ENODATA)
		return -EBADMSG;
	return rc < 0 ? rc : stage_header_get(bytes, local->store.uuid, ret_header);
}

static void remove_file(struct local *local, uint64_t number)
{
	char name[STAGE_NAME_SIZE];

	stage_name(name, number);
	io->unlink(local->stages->dirfd, name, 0);
}

/* Else it would keep the room of the file. */
static void close_file(struct stage *stage)
{
	pthread_mutex_lock(&stage->lock);
	close(stage->fd);
	stage->fd = -1;
	pthread_mutex_unlock(&stage->lock);
	warm_take_back(stage->local);
}

/* Makes an orphan of the file behind fd, which it takes over. */
static int adopt(struct local *local, uint64_t number, int fd, const struct stage_header *header)
{
	struct object *object = registry_get(local, header->target);
	struct stage *stage = stage_new(local, number, fd);
	int rc = stage != NULL ? 0 : -ENOMEM;

	if (rc < 0) {
		close(fd);
		object_put(object);
		return rc;
	}
	(void)warm_lend(local, 0); /* it stays open, however many there are: it may have a writer */
	stage->header = *header;
	stage->orphan = stage->behind = true;
	if (object == NULL || object->kind != (header->of_queue ? ENGINE_QUEUE : ENGINE_TOPIC)) {
		object_put(object);
		local_notify(local, EIDRM,
		    "staging file %" PRIu64 " is of a topic or queue that was removed; it is removed too", number);
		remove_file(local, number);
		close_file(stage);
		return 0; /* the struct stays, GONE, until the end */
	}
	rc = restore(stage, object);
	if (rc == 0)
		rc = find_bounds(stage);
	if (rc < 0) {
		keep_record(stage);
		object_put(object);
		local_fault(local, -rc, "staging file %" PRIu64 " cannot be taken in: %s", number, strerror(-rc));
		return 0;
	}
	stage_bind(stage, object);
	stage_attach(stage, object, STAGE_ORPHAN);
	stage_look_after(stage);
	return 0;
}

/* The journal goes on saying what it says: any of that may be of what cannot be read. */
static void cannot_read(struct local *local, const char *what, int rc)
{
	for (struct stage_replayed *r = local->stages->replayed; r != NULL; r = r->hh.next)
		r->used = false;
	local_fault(local, -rc, "staging file %s cannot be read: %s", what, strerror(-rc));
}

/* One without a header: it goes if nothing is in it. */
static void set_aside(struct local *local, const char *name, uint64_t number, int fd)
{
	char aside[STAGE_NAME_SIZE + sizeof(STAGE_DAMAGED)];
	int rc = stage_has_data(fd);

	if (rc == 0) {
		remove_file(local, number);
		return;
	}
	snprintf(aside, sizeof(aside), "%s" STAGE_DAMAGED, name);
	if (rc > 0)
		rc = io->rename(local->stages->dirfd, name, local->stages->dirfd, aside);
	if (rc < 0)
		cannot_read(local, name, rc);
	else
		local_notify(local, EIO,
		    "the header of staging file %s is damaged: what was written to it is kept in %s", name, aside);
}

/* Those that were set aside keep their numbers. */
static bool is_aside(const char *name, uint64_t *ret_number)
{
	char number[STAGE_NAME_SIZE];

	if (strlen(name) != STAGE_NAME_SIZE - 1 + strlen(STAGE_DAMAGED) ||
	    strcmp(name + STAGE_NAME_SIZE - 1, STAGE_DAMAGED) != 0)
		return false;
	memcpy(number, name, STAGE_NAME_SIZE - 1);
	number[STAGE_NAME_SIZE - 1] = '\0';
	return stage_parse_name(number, ret_number);
}

static int look_at(struct local *local, const char *name)
{
	struct stages *stages = local->stages;
	struct stage_header header;
	unsigned int tries = 0;
	uint64_t number;
	int fd, rc;
	bool aside = is_aside(name, &number);

	if (!aside && !stage_parse_name(name, &number))
		return 0;
	if (number > stages->next_number)
		stages->next_number = number;
	if (aside)
		return 0;
	do
		fd = io_open_existing(stages->dirfd, name, O_RDONLY | O_NOFOLLOW);
	while (warm_again(local, fd, &tries));
	rc = fd < 0 ? fd : read_header(local, fd, &header);
	if (rc == 0)
		return adopt(local, number, fd, &header);
	if (rc == -EBADMSG)
		set_aside(local, name, number, fd);
	if (fd >= 0)
		close(fd);
	if (rc != -EBADMSG && rc != -ENOENT && rc != -ELOOP)
		cannot_read(local, name, rc);
	return 0;
}

/* The files there are; negative errno: they cannot be looked for. */
static int look_at_all(struct local *local, DIR *dir)
{
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
		rc = look_at(local, entry->d_name);
	if (rc == 0 && errno != 0)
		cannot_read(local, "(any of them)", -errno);
	return rc;
}

bool stages_are_left(struct local *local)
{
	uint64_t number;
	bool found = false;
	DIR *dir;
	int rc = io_open_dir(local->store.dirfd, STAGE_DIR, &dir);

	if (rc == 0) {
		const struct dirent *entry;

		while (!found && (errno = 0, entry = readdir(dir)) != NULL)
			found = stage_parse_name(entry->d_name, &number);
		rc = found ? 0 : -errno;
		closedir(dir);
	}
	if (rc < 0 && rc != -ENOENT)
		cannot_read(local, "(any of them)", rc);
	return found;
}

int stages_recover(struct local *local)
{
	DIR *dir = NULL;
	int rc = local->read_only ? -ENOENT : io_open_dir(local->store.dirfd, STAGE_DIR, &dir);

	if (rc == 0 && local->stages->dirfd < 0)
		rc = local->stages->dirfd;
	if (rc < 0 && rc != -ENOENT)
		cannot_read(local, "(any of them)", rc);
	rc = dir != NULL && rc == 0 ? look_at_all(local, dir) : 0;
	CRASHPOINT("recover_stages");
	if (dir != NULL)
		closedir(dir);
	if (rc == 0)
		stages_forget_replayed(local->stages, false);
	return rc;
}

/* ---- while it has a writer ---- */

/* Nobody has the file open for writing: then nobody ever will, since its mount is gone. */
static bool has_writer(const struct stage *stage)
{
	fcntl(stage->fd, F_SETSIG, SIGURG); /* if it were broken after all: a signal that does nothing */
	if (fcntl(stage->fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	fcntl(stage->fd, F_SETLEASE, F_UNLCK);
	return false;
}

static void tell_part(const struct stage *stage, uint64_t bytes)
{
	local_notify(stage->local, EPIPE,
	    "dropped %" PRIu64 " bytes without an end that process %" PRIu32
	    " had written: the daemon died before it closed the file",
	    bytes, stage->header.cred.pid);
}

/* The logs it went to, before it goes. */
static int sync_logs(struct stage *stage)
{
	struct sync_point *points[ENGINE_PARTITIONS_MAX];
	struct object *target;
	size_t count;
	int rc = 0;

	pthread_mutex_lock(&stage->lock);
	target = object_ref(stage->target); /* an orphan has one, be it a removed one */
	pthread_mutex_unlock(&stage->lock);
	count = target_sync_points(target, points);
	if (count > 0)
		rc = flusher_run(stage->local, points, (uint32_t)count);
	object_put(target);
	return rc;
}

bool stage_look_after(struct stage *stage)
{
	bool written = has_writer(stage), seen;
	int rc = stage_take(stage, STAGE_WHOLE);
	uint64_t size, left;

	if (rc == 0) {
		pthread_mutex_lock(&stage->lock);
		stage->behind = false;
		pthread_mutex_unlock(&stage->lock);
	}
	if (written || rc < 0 || sync_logs(stage) < 0)
		return false;
	pthread_mutex_lock(&stage->lock);
	size = stage_size(stage);
	seen =
	    size >= STAGE_DATA && atomic_load(&stage->seen) == (size < stage->recover_end ? size : stage->recover_end);
	left = size > stage->taken ? size - stage->taken : 0;
	if (seen)
		(void)stage_drop(stage, size);
	pthread_mutex_unlock(&stage->lock);
	if (!seen)
		return false; /* its size could not be asked */
	if (left > 0)
		tell_part(stage, left);
	remove_file(stage->local, stage->number);
	stage_detach(stage, STAGE_GONE);
	close_file(stage);
	return true;
}
