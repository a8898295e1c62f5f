/*
 * local_queue_redrive - dead letters go back to the queue, or to the topic, they came from.
 *
 * To a queue each goes by a move. To the topic of a group they go by a commit that takes them out of the dlq as it is noted
 * (local_commit.h): whatever comes in between, they are in one of the two, and once. Several go at a time, and share the sync of
 * the note; if the topic refuses one of them they go one by one, so that those before it do.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_queue.h"

#define AT_ONCE 64u           /* messages of one note */
#define BYTES_AT_ONCE 1048576 /* beyond this no more are taken */

/* Where a redrive is: what comes back to the dead letters meanwhile lies behind the ends they had, and stays. */
struct redrive {
	uint64_t first, last; /* ids */
	uint32_t priority;
	int64_t place;
	uint64_t ends[ENGINE_PRIORITIES];
};

/*
 * The next message that is READY behind the place, of an id in the range: 1; 0: there is none; negative errno: it cannot be read now. What
 * is damaged stays. lock of the dlq
 */
static int next_of_range(struct queue *dlq, struct redrive *r, struct engine_scratch *scratch, struct engine_view *view,
    struct commit_take *ret_take)
{
	for (;; r->place = INT64_MIN) {
		struct lane *lane = queue_lane(dlq, r->priority);
		uint64_t offset, id;
		int64_t place;

		while (lane != NULL && lane_peek(lane, r->place, &offset, &place)) {
			int rc = offset < r->ends[r->priority] ? lane_read(lane, offset, 1, scratch, view, &id) : -EIO;

			if (rc < 0 && !lane_lost(rc))
				return rc;
			r->place = place;
			if (rc == 0 && id >= r->first && id <= r->last) {
				*ret_take = (struct commit_take){ lane, offset, id, facts_of(view, id) };
				return 1;
			}
		}
		if (r->priority == 0)
			return 0;
		r->priority--;
	}
}

static int begin_redrive(struct queue *dlq, struct redrive *r)
{
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		r->ends[p] = queue_lane(dlq, p) != NULL ? queue_lane(dlq, p)->end : 0;
	queue_unlock(dlq);
	return 0;
}

/* ---- to a queue ---- */

/* 1; 0: there is none; ENOENT: somebody was quicker. */
static int64_t move_next(struct queue *dlq, struct redrive *r)
{
	const struct engine_place to = {
		.queue = &dlq->object.parent->base, .state = ENGINE_READY, .priority = ENGINE_ANY
	};
	struct engine_view view;
	struct commit_take take;
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	rc = next_of_range(dlq, r, &dlq->scratch, &view, &take);
	queue_unlock(dlq);
	if (rc <= 0)
		return rc;
	rc = queue_message_move(&dlq->object.base, take.id, ENGINE_READY, &to);
	return rc == 0 ? 1 : rc;
}

/* ---- to a topic ---- */

/* A message that goes back. */
struct returning {
	struct engine_scratch scratch;
	struct engine_view view;
	struct engine_props props;
};

struct bundle {
	struct returning *items;
	struct commit_take *takes;
	uint32_t count, room;
	struct commit commit;
};

static int bundle_init(struct bundle *bundle, struct local *local, uint32_t room)
{
	*bundle = (struct bundle){ .room = room };
	commit_init(&bundle->commit, local);
	bundle->commit.again = true;
	bundle->items = calloc(room, sizeof(*bundle->items));
	bundle->takes = calloc(room, sizeof(*bundle->takes));
	return bundle->items != NULL && bundle->takes != NULL ? 0 : -ENOMEM;
}

static void bundle_release(struct bundle *bundle)
{
	commit_release(&bundle->commit);
	for (uint32_t i = 0; bundle->items != NULL && i < bundle->room; i++)
		engine_scratch_release(&bundle->items[i].scratch);
	free(bundle->items);
	free(bundle->takes);
}

/* Those that come next, as many as go at once. */
static int collect(struct queue *dlq, struct redrive *r, struct bundle *bundle)
{
	int rc = queue_lock(dlq);
	size_t bytes = 0;

	if (rc < 0)
		return rc;
	for (; bundle->count < bundle->room && bytes < BYTES_AT_ONCE; bundle->count++) {
		struct returning *item = &bundle->items[bundle->count];

		rc = next_of_range(dlq, r, &item->scratch, &item->view, &bundle->takes[bundle->count]);
		if (rc <= 0)
			break;
		bytes += item->view.batch.len;
	}
	queue_unlock(dlq);
	return rc < 0 ? rc : 0;
}

/* As it was produced, with its key, but now, and as if it had not died. */
static int add(struct bundle *bundle, struct returning *item, struct object *topic)
{
	struct commit_part *part = NULL;
	int rc;

	item->props = item->view.batch.props != NULL ? item->view.batch.props[0] : ENGINE_PROPS_INIT;
	item->props.partition = ENGINE_ANY;
	item->props.priority = -1;
	item->props.ts_ms = -1;
	item->props.deaths = NULL;
	item->props.death_count = 0;
	item->view.batch.ts_ms = clock_wall_ms();
	rc = commit_add_part(&bundle->commit, &item->view.batch, &item->props, &part);
	return rc == 0 ? commit_add_target(part, topic, false) : rc;
}

/* They are on disk before: else the journal could give them to the dlq again, where nobody would know them. */
static int sync_sources(struct queue *dlq, const struct bundle *bundle)
{
	struct sync_point *points[ENGINE_PRIORITIES];
	size_t count = 0;

	for (uint32_t i = 0; i < bundle->count; i++) {
		struct lane *lane = bundle->takes[i].lane;
		struct engine_partition_stat stat;

		plog_stat(atomic_load(&lane->plog), &stat);
		if (stat.synced <= bundle->takes[i].offset && (count == 0 || points[count - 1] != &lane->sync))
			points[count++] = &lane->sync; /* by falling priority */
	}
	return flusher_run(queue_local(dlq), points, count);
}

static int send_bundle(struct queue *dlq, struct bundle *bundle)
{
	int rc = sync_sources(dlq, bundle);

	for (uint32_t i = 0; i < bundle->count && rc == 0; i++)
		rc = add(bundle, &bundle->items[i], dlq->object.parent->parent);
	bundle->commit.takes = bundle->takes;
	bundle->commit.take_count = bundle->count;
	if (rc == 0)
		rc = commit_claim(&bundle->commit);
	if (rc == -ENOENT) /* a log is missing, which is not what that says of a message */
		rc = -EIO;
	return rc == 0 ? commit_run(&bundle->commit, true) : rc;
}

/* Returns how many; 0: there is none. An error: nothing has happened, and r is where it was. */
static int64_t return_some(struct queue *dlq, struct redrive *r, uint32_t room)
{
	const struct redrive before = *r;
	struct bundle bundle;
	int rc = bundle_init(&bundle, queue_local(dlq), room);
	int64_t count;

	if (rc == 0)
		rc = collect(dlq, r, &bundle);
	count = bundle.count;
	if (rc == 0 && count > 0)
		rc = send_bundle(dlq, &bundle);
	bundle_release(&bundle);
	if (rc < 0)
		*r = before;
	return rc < 0 ? rc : count;
}

/* The same; ENOENT: somebody was quicker, and the others are there still. */
static int64_t return_next(struct queue *dlq, struct redrive *r)
{
	int64_t count = return_some(dlq, r, AT_ONCE);

	return count < 0 && count != -ENOENT ? return_some(dlq, r, 1) : count;
}

/* ---- all of it ---- */

int64_t queue_redrive(struct engine_object *base, uint64_t first, uint64_t last)
{
	struct redrive r = { .first = first, .last = last, .priority = ENGINE_PRIORITIES - 1, .place = INT64_MIN };
	struct queue *dlq = NULL;
	int64_t count = 0, done = 0;
	int rc = queue_enter(base, true, &dlq);

	if (rc < 0)
		return rc;
	if (!queue_is_dlq(dlq) || first > last)
		return engine_explain(-EINVAL, "only dead letters can go back to where they came from");
	rc = begin_redrive(dlq, &r);
	if (rc < 0)
		return rc;
	do {
		done = dlq->object.parent->kind == ENGINE_GROUP ? return_next(dlq, &r) : move_next(dlq, &r);
		count += done > 0 ? done : 0;
	} while (done > 0 || done == -ENOENT);
	if (count > 0)
		return count;
	if (done == 0 && !(first == 0 && last == UINT64_MAX))
		return engine_explain(-ENOENT, "none of these is among the dead letters");
	return done;
}
