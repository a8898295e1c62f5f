/*
 * local_reject - a group gives messages up: they go to the group's dead letters, and are committed.
 *
 * A reject is one step, a commit (local_commit.h) whose note in the journal has the dead letters and, as its tail, where the
 * cursor goes. The note is on disk before anything else happens, under the group's lock: so no later record of the cursor can
 * survive it, and nothing of the dead letters is in a log without it. Up to then nothing has happened; what a crash keeps from
 * being done then the start does (tx_replay(), commit_finish()). Messages of one partition are given up several at a time, and
 * share the sync. Who has lost the partition meanwhile is told ESTALE, and nothing happened.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_tx.h"

#define AT_ONCE 64u           /* messages of one note */
#define BYTES_AT_ONCE 1048576 /* beyond this no more are read */

struct queue *group_find_dlq(struct group *group)
{
	struct object *object = registry_find(local_of(&group->object), group->object.id, ENGINE_QUEUE, "dlq");

	return object != NULL ? queue_of_object(object) : NULL;
}

/* ---- the dead letter ---- */

void dead_letter_make(struct dead_letter *letter, struct queue *dlq, struct engine_view *view)
{
	letter->death = (struct engine_death){ .reason = ENGINE_REJECTED, .count = 1, .ts_ms = clock_wall_ms() };
	letter->props = ENGINE_PROPS_INIT;
	queue_name(dlq, letter->name);
	*strrchr(letter->name, '/') = '\0'; /* it died in the group, and is in the group's dlq */
	letter->death.queue = (struct engine_span){ letter->name, strlen(letter->name) };
	if (view->batch.props != NULL)
		letter->props = view->batch.props[0];
	else
		letter->props.ts_ms = view->batch.ts_ms;
	letter->props.partition = ENGINE_ANY;
	letter->props.mark = 0;
	letter->props.priority = -1;
	letter->props.ttl_ms = letter->props.delay_ms = -1;
	letter->props.deaths = &letter->death;
	letter->props.death_count = 1;
	view->batch.props = &letter->props;
	view->batch.ts_ms = -1; /* it arrives now */
}

/* A message that is given up. */
struct letter {
	struct engine_scratch scratch;
	struct engine_view view;
	struct dead_letter dead;
};

struct rejecting {
	struct group *group;
	struct member *member;
	struct queue *dlq;
	uint32_t partition;
	uint64_t from, to; /* offsets */
	struct letter *letters;
	uint32_t count; /* of letters: what is damaged, or compacted away, leaves none */
	struct commit commit;
};

/* 0 too if there is no such message any more, or it is damaged: then there is nothing to keep. */
static int read_letter(struct rejecting *r, struct plog *plog, uint64_t offset, struct letter *letter, size_t *bytes)
{
	struct commit_part *part = NULL;
	int rc = plog_read(plog, offset, 1, &letter->scratch, &letter->view);

	if (rc == 0 && letter->view.offset != offset)
		rc = -ESTALE; /* compaction took it */
	if (rc == -ESTALE || (rc == -EIO && letter->view.batch.count > 0))
		return 0;
	if (rc < 0)
		return rc;
	dead_letter_make(&letter->dead, r->dlq, &letter->view);
	letter->view.batch.ts_ms = clock_wall_ms();
	*bytes += letter->view.batch.len;
	rc = commit_add_part(&r->commit, &letter->view.batch, &letter->dead.props, &part);
	return rc == 0 ? commit_add_target(part, &r->dlq->object, false) : rc;
}

/* As many as go at once: to is where they end. */
static int read_letters(struct rejecting *r)
{
	struct plog *plog;
	size_t bytes = 0;
	uint64_t offset = r->from;
	int rc = partition_open_log(topic_partition(group_topic(r->group), r->partition), &plog);

	if (r->to - r->from > AT_ONCE)
		r->to = r->from + AT_ONCE;
	r->letters = calloc(r->to - r->from, sizeof(*r->letters));
	if (r->letters == NULL)
		return -ENOMEM;
	for (; offset < r->to && bytes < BYTES_AT_ONCE && rc == 0; offset++)
		rc = read_letter(r, plog, offset, &r->letters[r->count++], &bytes);
	r->to = offset;
	return rc;
}

static void rejecting_release(struct rejecting *r)
{
	commit_release(&r->commit);
	for (uint32_t i = 0; i < r->count; i++)
		engine_scratch_release(&r->letters[i].scratch);
	free(r->letters);
	if (r->dlq != NULL)
		object_put(&r->dlq->object);
}

/* What a commit brought here is on disk before: else the journal could give it to the partition again, while it is a dead letter. */
static int sync_source(const struct rejecting *r)
{
	struct partition *partition = topic_partition(group_topic(r->group), r->partition);
	struct sync_point *point = &partition->sync;
	struct engine_partition_stat stat;

	if (!atomic_load(&partition->marked))
		return 0;
	plog_stat(atomic_load(&partition->plog), &stat);
	return stat.synced < r->to ? flusher_run(local_of(&r->group->object), &point, 1) : 0;
}

/* ---- rejecting ---- */

/* May they be rejected now? group.lock */
static int check(struct rejecting *r)
{
	uint64_t earliest, end;
	const struct cursor *cursor;
	int rc = member_may_ack(r->group, r->member, r->partition);

	cursor = cursor_refresh(r->group, r->partition, &earliest, &end);
	if (rc == 0)
		rc = cursor_check_ack(cursor, r->partition, r->to - 1);
	return rc;
}

/* Before there is anything to be taken back. group.lock is taken and let go. */
static int check_first(struct rejecting *r)
{
	int rc = group_lock(r->group);

	if (rc < 0)
		return rc;
	if (r->member != NULL)
		member_seen(r->member);
	rc = check(r);
	group_unlock(r->group);
	return rc;
}

/* Up to the sync nothing has happened. group.lock */
static int note(struct rejecting *r)
{
	const struct staged_cursor cursor = {
		.group = r->group->object.id, .partition = r->partition, .offset = r->to
	};
	uint8_t tail[TX_CURSOR_BYTES];
	int rc = check(r);

	if (rc < 0)
		return rc;
	tx_note_put_cursor(tail, &cursor);
	r->commit.tail = tail;
	r->commit.tail_size = sizeof(tail);
	rc = commit_note(&r->commit, true);
	r->commit.tail = NULL;
	r->commit.tail_size = 0;
	if (rc < 0)
		return rc;
	if (journal_sync(local_of(&r->group->object)->journal) < 0)
		return engine_explain(
		    -EIO, "the journal could not be synced: what came of it shows after the next start");
	cursor_noted(r->group, r->partition, r->to);
	group_advance_turn(r->group);
	return 0;
}

static int run(struct rejecting *r)
{
	struct local *local = local_of(&r->group->object);
	int rc = commit_claim(&r->commit);

	if (rc < 0)
		return rc;
	commit_enter(local);
	rc = group_lock(r->group);
	if (rc == 0) {
		rc = note(r);
		group_unlock(r->group);
	}
	if (rc == 0)
		rc = commit_send(&r->commit);
	commit_leave(local);
	return rc;
}

/* Rejects from..to, or those that go at once. Returns how many. */
static int64_t reject(struct group *group, struct member *member, uint32_t partition, uint64_t from, uint64_t to)
{
	struct rejecting r = { .group = group, .member = member, .partition = partition, .from = from, .to = to };
	int rc;

	commit_init(&r.commit, local_of(&group->object));
	r.commit.again = true;
	queue_catch_up(r.commit.local);
	rc = check_first(&r);
	if (rc == 0) {
		r.dlq = group_find_dlq(group);
		rc = r.dlq != NULL ? 0 : engine_explain(-EIO, "the group has no dead-letter queue");
	}
	if (rc == 0)
		rc = read_letters(&r);
	if (rc == 0)
		rc = sync_source(&r);
	if (rc == 0)
		rc = run(&r);
	rejecting_release(&r);
	return rc < 0 ? rc : (int64_t)(r.to - r.from);
}

static int enter(struct engine_object *base, uint32_t index, struct group **ret_group, struct member **ret_member)
{
	struct partition *partition;
	int rc = member_enter(base, true, ret_group, ret_member);

	if (rc == 0 && index != ENGINE_ANY)
		rc = topic_find(group_topic(*ret_group), index, &partition);
	if (rc == 0)
		topic_open_logs(group_topic(*ret_group), index);
	return rc;
}

int member_reject(struct engine_object *base, uint32_t partition, uint64_t offset)
{
	struct group *group = NULL;
	struct member *member = NULL;
	int64_t done = 0;
	int rc;

	if (partition == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, partition, &group, &member);
	if (rc == 0)
		done = reject(group, member, partition, offset, offset + 1);
	return rc < 0 ? rc : done < 0 ? (int)done : 0;
}

/* What was given in a partition and is not committed; none if it is not the member's. */
static int find_given(struct group *group, struct member *member, uint32_t index, uint64_t *ret_from, uint64_t *ret_to)
{
	const struct cursor *cursor;
	uint64_t earliest, end;
	int rc = group_lock(group);

	*ret_from = *ret_to = 0;
	if (rc < 0)
		return rc;
	rc = member_may_ack(group, member, index);
	cursor = cursor_refresh(group, index, &earliest, &end);
	if (rc == 0) {
		*ret_from = cursor->committed;
		*ret_to = cursor->given;
	}
	group_unlock(group);
	return rc == -ESTALE ? 0 : rc;
}

int64_t member_reject_all(struct engine_object *base, uint32_t index)
{
	struct group *group = NULL;
	struct member *member = NULL;
	uint64_t from, to;
	int64_t count = 0, done;
	int rc = enter(base, index, &group, &member);
	uint32_t partitions;

	if (rc < 0)
		return rc;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = find_given(group, member, i, &from, &to);
		while (rc == 0 && from < to) {
			done = reject(group, member, i, from, to);
			if (done < 0) {
				rc = (int)done;
				break;
			}
			from += (uint64_t)done;
			count += done;
		}
	}
	return rc < 0 && count == 0 ? rc : count;
}
