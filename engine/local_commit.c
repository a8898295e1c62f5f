/*
 * local_commit - claiming and sending. What it is for is said in the header; notes are in local_commit_journal.c.
 */
#include "engine/local_commit.h"
#include "engine/failpoint.h"
#include "engine/local_tx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

void commit_init(struct commit *commit, struct local *local)
{
	*commit = (struct commit){ .local = local };
}

static void unclaim(struct commit_part *part)
{
	for (uint32_t i = 0; i < part->claimed; i++) {
		struct commit_target *target = &part->targets[i];

		local_dedup_failed(&target->dedup);
		if (target->object->kind == ENGINE_QUEUE && target->count > 0)
			queue_unclaim(queue_of_object(target->object), &target->claim);
	}
	part->claimed = 0;
}

static void release_target(struct commit_target *target)
{
	local_dedup_end(&target->dedup);
	object_put(target->object);
	if (target->which != NULL)
		free(target->props);
	free(target->which);
	free(target->data);
	free(target->lengths);
	free(target->places);
	free(target->logs);
}

void commit_release(struct commit *commit)
{
	atomic_fetch_sub(&commit->local->commits.owed, commit->owed);
	for (uint32_t i = 0; i < commit->part_count; i++) {
		struct commit_part *part = &commit->parts[i];

		unclaim(part);
		for (uint32_t j = 0; j < part->target_count; j++) {
			release_target(&part->targets[j]);
		}
		free(part->targets);
	}
	free(commit->parts);
	*commit = (struct commit){ .local = commit->local };
}

int commit_add_part(
    struct commit *commit, const struct engine_batch *batch, struct engine_props *props, struct commit_part **ret_part)
{
	struct commit_part *grown;

	if (commit->part_count == commit->part_room) {
		grown = realloc(commit->parts, (commit->part_room * 2 + 1) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		commit->parts = grown;
		commit->part_room = commit->part_room * 2 + 1;
	}
	*ret_part = &commit->parts[commit->part_count++];
	**ret_part = (struct commit_part){ .batch = *batch, .props = props };
	(*ret_part)->batch.props = props;
	return 0;
}

int commit_add_target(struct commit_part *part, struct object *object, bool head)
{
	struct commit_target *grown;

	if (part->target_count == part->target_room) {
		grown = realloc(part->targets, (part->target_room * 2 + 1) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		part->targets = grown;
		part->target_room = part->target_room * 2 + 1;
	}
	part->targets[part->target_count++] =
	    (struct commit_target){ .object = object_ref(object), .head = head, .count = part->batch.count };
	return 0;
}

static int find_target(struct commit_part *part, struct object *object, struct commit_target **ret_target)
{
	int rc;

	for (uint32_t i = 0; i < part->target_count; i++) {
		if (part->targets[i].object == object) {
			*ret_target = &part->targets[i];
			return 0;
		}
	}
	rc = commit_add_target(part, object, false);
	if (rc == 0) {
		*ret_target = &part->targets[part->target_count - 1];
		(*ret_target)->count = 0;
	}
	return rc;
}

int commit_add_message(struct commit_part *part, struct object *object, uint32_t index)
{
	struct commit_target *target = NULL;
	uint32_t *grown;
	int rc = find_target(part, object, &target);

	if (rc < 0)
		return rc;
	if (target->count == target->room) {
		grown = realloc(target->which, (target->room * 2 + 4) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		target->which = grown;
		target->room = target->room * 2 + 4;
	}
	target->which[target->count++] = index;
	return 0;
}

/* Copies the messages that the target gets. */
static int select_messages(const struct commit_part *part, struct commit_target *target)
{
	const char *from = part->batch.data;
	size_t at = 0;
	uint32_t k = 0;

	for (uint32_t i = 0; i < target->count; i++)
		at += (size_t)part->batch.lengths[target->which[i]] + 1;
	target->batch.len = at;
	target->data = malloc(at);
	target->lengths = malloc(target->count * sizeof(*target->lengths));
	target->props = malloc(target->count * sizeof(*target->props));
	if (target->data == NULL || target->lengths == NULL || target->props == NULL)
		return -ENOMEM;
	at = 0;
	for (uint32_t i = 0; i < part->batch.count && k < target->count; i++) {
		size_t len = (size_t)part->batch.lengths[i] + 1;

		if (target->which[k] == i) {
			memcpy(target->data + at, from, len);
			target->lengths[k] = part->batch.lengths[i];
			target->props[k++] = part->props[i];
			at += len;
		}
		from += len;
	}
	target->batch.data = target->data;
	target->batch.lengths = target->lengths;
	target->batch.props = target->props;
	target->batch.count = target->count;
	return 0;
}

static int make_batch(const struct commit_part *part, struct commit_target *target)
{
	free(target->data);
	free(target->lengths);
	if (target->which != NULL)
		free(target->props);
	target->data = NULL;
	target->lengths = NULL;
	target->batch = part->batch;
	target->props = part->props;
	return target->which != NULL ? select_messages(part, target) : 0;
}

/* Marks are indices in the part meanwhile, plus one, so that it is known which messages are left. */
static int leave_out_seen(const struct commit_part *part, struct commit_target *target)
{
	const struct engine_batch *left = &target->dedup.pass.batch;
	uint32_t *which;
	int rc = local_dedup_begin(target->object, &target->batch, &target->dedup);

	if (rc < 0 || left->count == target->batch.count)
		return rc;
	which = malloc((left->count + 1) * sizeof(*which));
	if (which != NULL) {
		for (uint32_t i = 0; i < left->count; i++)
			which[i] = (uint32_t)left->props[i].mark - 1;
		if (target->which != NULL)
			free(target->props);
		target->props = NULL;
		free(target->which);
		target->which = which;
		target->count = left->count;
		rc = make_batch(part, target);
	}
	if (which == NULL || rc < 0) {
		local_dedup_failed(&target->dedup);
		return -ENOMEM;
	}
	return 0;
}

/* ---- claiming ---- */

static int add_log(struct commit_target *target, uint32_t index)
{
	struct commit_log *grown;

	for (uint32_t i = 0; i < target->log_count; i++) {
		if (target->logs[i].index == index)
			return 0;
	}
	grown = realloc(target->logs, (target->log_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	grown[target->log_count++] = (struct commit_log){ .index = index };
	target->logs = grown;
	return 0;
}

static int claim_topic(struct commit_target *target, bool again)
{
	struct topic *topic = topic_of_object(target->object);
	int rc = topic_claim(topic, &target->batch, again, target->places);

	for (uint32_t i = 0; i < target->count && rc == 0; i++) {
		if (i == 0 || target->places[i] != target->places[i - 1])
			rc = add_log(target, target->places[i]);
	}
	return rc;
}

static int claim_queue(struct commit_target *target, bool again)
{
	struct queue *queue = queue_of_object(target->object);
	int rc = queue_claim(queue, &target->batch, target->head, again, target->places, &target->claim);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		if (target->claim.lanes >> p & 1)
			rc = add_log(target, p);
	}
	if (rc < 0)
		queue_unclaim(queue, &target->claim);
	return rc;
}

static int claim_target(const struct commit *commit, const struct commit_part *part, struct commit_target *target)
{
	bool again = commit->again || part->again;
	int rc = make_batch(part, target);

	if (rc == 0 && !again)
		rc = leave_out_seen(part, target);
	if (rc < 0 || target->count == 0)
		return rc;
	target->places = malloc(target->count * sizeof(*target->places));
	if (target->places == NULL)
		rc = -ENOMEM;
	else
		rc = target->object->kind == ENGINE_QUEUE ? claim_queue(target, again) : claim_topic(target, again);
	if (rc < 0)
		local_dedup_failed(&target->dedup);
	return rc;
}

static int by_id(const void *a, const void *b)
{
	const struct commit_target *x = a, *y = b;

	return x->object->id < y->object->id ? -1 : x->object->id > y->object->id;
}

static int claim_part(const struct commit *commit, struct commit_part *part)
{
	int rc = 0;

	for (uint32_t i = 0; i < part->batch.count; i++)
		part->props[i].mark = i + 1;
	if (part->target_count > 0)
		qsort(part->targets, part->target_count, sizeof(*part->targets), by_id); /* as send_locks are taken */
	for (uint32_t i = 0; i < part->target_count && rc == 0; i++) {
		rc = claim_target(commit, part, &part->targets[i]);
		part->claimed += rc == 0;
	}
	return rc;
}

int commit_claim(struct commit *commit)
{
	int rc = 0;

	for (uint32_t i = 0; i < commit->part_count && rc == 0; i++)
		rc = claim_part(commit, &commit->parts[i]);
	for (uint32_t i = 0; i < commit->part_count && rc < 0; i++)
		unclaim(&commit->parts[i]);
	return rc;
}

/* ---- where the logs end ---- */

static uint64_t end_of_partition(struct topic *topic, uint32_t index)
{
	struct engine_partition_stat stat;

	plog_stat(atomic_load(&topic_partition(topic, index)->plog), &stat);
	return stat.end;
}

/* Under the lock: a batch that is taken back must not count. */
static uint64_t end_of_lane(struct queue *queue, uint32_t priority)
{
	uint64_t end;

	pthread_mutex_lock(&queue->lock);
	end = queue_lane(queue, priority)->end;
	pthread_mutex_unlock(&queue->lock);
	return end;
}

void commit_find_ends(struct commit *commit)
{
	for (uint32_t i = 0; i < commit->part_count; i++) {
		for (uint32_t t = 0; t < commit->parts[i].target_count; t++) {
			struct commit_target *target = &commit->parts[i].targets[t];

			for (uint32_t l = 0; l < target->log_count; l++)
				target->logs[l].end =
				    target->object->kind == ENGINE_QUEUE
					? end_of_lane(queue_of_object(target->object), target->logs[l].index)
					: end_of_partition(topic_of_object(target->object), target->logs[l].index);
		}
	}
}

/* ---- sending ---- */

/* What was accepted before counts as seen here, too. */
static void note_ids(struct commit_target *target)
{
	for (uint32_t i = 0; i < target->count; i++)
		local_dedup_note(target->object, target->props[i].id, target->batch.cred.uid);
}

/* A note makes up for what fails here: then the messages come later, and their ids stay. */
static int send_to(const struct commit_part *part, struct commit_target *target, bool noted, bool partly)
{
	struct dedup_send none = { 0 }, *dedup = noted ? &none : &target->dedup;
	unsigned int tries = 0;
	int rc;

	for (uint32_t i = 0; i < target->count; i++) {
		target->props[i].mark = part->props[target->which != NULL ? target->which[i] : i].mark;
		if (target->object->kind == ENGINE_TOPIC)
			target->props[i].partition = target->places[i];
	}
	target->claim.partly = partly;
	if (target->object->kind == ENGINE_QUEUE)
		return queue_send_claimed(queue_of_object(target->object), &target->batch, target->head, target->places,
		    &target->claim, noted, dedup);
	do
		rc = topic_send_claimed(topic_of_object(target->object), &target->batch, dedup);
	while (noted && memory_again(rc, &tries));
	return rc;
}

/* EIDRM: the target is gone, and nothing is missed. */
static int send_part(struct commit *commit, struct commit_part *part)
{
	uint32_t count = part->claimed;
	int rc = 0;

	part->claimed = 0; /* each claim ends with its sending */
	for (uint32_t i = 0; i < count; i++) {
		int sent = part->targets[i].count > 0
			       ? send_to(part, &part->targets[i], part->noted, part->noted && !commit->takes_back)
			       : 0;

		CRASHPOINT("commit_after_target");
		if (sent == 0 && (commit->again || part->again))
			note_ids(&part->targets[i]);
		if (sent < 0 && rc == 0 && !(sent == -EIDRM && part->noted))
			rc = sent;
	}
	if (rc < 0 && part->noted && commit->takes_back && commit_cancel(commit) == 0) {
		local_dedup_failed(&part->targets[0].dedup);
	} else if (rc < 0 && part->noted) {
		local_fault(commit->local, -rc,
		    "a message did not come to all its targets yet, and will be given to the others: %s",
		    strerror(-rc));
		commit_keep(commit, part);
		rc = 0;
	}
	return rc;
}

/* What one part without a note was refused does not keep the others back: they were claimed together. */
int commit_send(struct commit *commit)
{
	int rc = 0, sent;

	for (uint32_t i = 0; i < commit->part_count; i++) {
		sent = send_part(commit, &commit->parts[i]);
		rc = sent < 0 ? sent : rc;
	}
	return rc;
}

/* The note first comes to the disk: a later record must not survive it, nor a target's page that the kernel writes by itself. */
static int note_takes(struct commit *commit, struct queue *queue)
{
	uint32_t size = tx_note_takes_size(commit->take_count);
	uint8_t *tail = malloc(size);
	int rc;

	if (tail == NULL)
		return -ENOMEM;
	tx_note_takes(tail, queue->object.id, queue->change, commit->takes, commit->take_count);
	commit->tail = tail;
	commit->tail_size = size;
	rc = commit_note(commit, true);
	commit->tail = NULL;
	commit->tail_size = 0;
	free(tail);
	return rc == 0 ? journal_sync(commit->local->journal) : rc;
}

/* lock of its queue */
static int take_away(const struct commit_take *take)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct queue *queue = take->lane->queue;
	struct span *span;

	lane_state(take->lane, take->offset, &span);
	queue_remember_gone(queue, take->id, span != NULL ? (enum span_ended)span->ended : ENDED_NEVER);
	return lane_set(take->lane, take->offset, 1, &gone, &take->facts, WHY_MOVED_OUT, NULL);
}

/* What is taken is gone once the note is there, of which a record of the journal tells. */
static int note_and_take(struct commit *commit)
{
	struct queue *queue = commit->takes[0].lane->queue;
	int rc = queue_lock(queue), taken = 0;
	struct span *span;

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < commit->take_count && rc == 0; i++) {
		if (lane_state(commit->takes[i].lane, commit->takes[i].offset, &span) != SPAN_READY)
			rc = -ENOENT;
	}
	if (rc == 0)
		rc = note_takes(commit, queue);
	for (uint32_t i = 0; i < commit->take_count && rc == 0 && taken == 0; i++)
		taken = take_away(&commit->takes[i]);
	if (taken < 0) {
		atomic_store(&commit->local->commits.stuck, true); /* the note stays, and the next start does it */
		local_fault(
		    commit->local, -taken, "a dead letter could not be taken from its queue yet: %s", strerror(-taken));
	}
	queue_unlock(queue);
	return rc;
}

static bool is_noted(const struct commit *commit, bool all)
{
	for (uint32_t i = 0; i < commit->part_count; i++) {
		if (commit->parts[i].target_count > (all ? 0 : 1))
			return true;
	}
	return false;
}

int commit_run(struct commit *commit, bool noted)
{
	int rc;

	CRASHPOINT("commit_after_claim");
	commit_enter(commit->local);
	commit_find_ends(commit);
	rc = commit->take_count == 0 && is_noted(commit, noted) ? commit_begin(commit->local) : 0;
	if (rc == 0)
		rc = FAILPOINT("commit_before_note");
	if (rc == 0)
		rc = commit->take_count > 0 ? note_and_take(commit) : commit_note(commit, noted);
	CRASHPOINT("commit_after_note");
	if (rc == 0)
		rc = commit_send(commit);
	CRASHPOINT("commit_after_send");
	commit_leave(commit->local);
	return rc;
}
