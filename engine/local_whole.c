/*
 * local_whole - a batch that goes to several logs of one topic or queue: to all of them or to none.
 *
 * Messages of several partitions, or of several priorities, are a commit with one target (local_commit.h): noted in the
 * journal whole, before the first log gets its part. So are those of a queue that are appended one by one, as they have a delay,
 * a time to live, or go to the head. A batch that is appended as it is needs none of that, and does not come here.
 */
#include "engine/local_whole.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_visible.h"

int batch_find_lengths(const struct engine_batch *batch, uint32_t *lengths)
{
	const char *data = batch->data, *end;
	size_t left = batch->len;

	for (uint32_t i = 0; i < batch->count; i++) {
		size_t len = batch->lengths != NULL ? batch->lengths[i] : 0;

		if (batch->lengths == NULL) {
			end = left > 0 ? memchr(data, '\n', left) : NULL;
			len = end != NULL ? (size_t)(end - data) : SIZE_MAX;
		}
		if (len >= left || len > UINT32_MAX || data[len] != '\n')
			return -EINVAL;
		lengths[i] = (uint32_t)len;
		data += len + 1;
		left -= len + 1;
	}
	return left == 0 ? 0 : -EINVAL;
}

static int run(
    struct local *local, struct object *object, bool head, const struct engine_batch *batch, struct engine_props *props)
{
	struct commit_part *part = NULL;
	struct commit commit;
	int rc;

	commit_init(&commit, local);
	commit.takes_back = object->kind == ENGINE_QUEUE;
	visible_hold(); /* as who publishes */
	pthread_rwlock_rdlock(&local->routes);
	rc = commit_add_part(&commit, batch, props, &part);
	if (rc == 0)
		rc = commit_add_target(part, object, head);
	if (rc == 0)
		rc = commit_claim(&commit);
	if (rc == 0)
		rc = commit_run(&commit, true);
	pthread_rwlock_unlock(&local->routes);
	commit_release(&commit);
	visible_let_go();
	return rc;
}

int whole_send(struct object *object, uint32_t priority, bool head, const struct engine_batch *batch,
    struct engine_span key, const uint32_t *partitions)
{
	struct engine_batch whole = *batch;
	uint32_t *lengths = malloc(batch->count * sizeof(*lengths));
	struct engine_props *props = malloc(batch->count * sizeof(*props));
	int rc = lengths != NULL && props != NULL ? batch_find_lengths(batch, lengths) : -ENOMEM;

	for (uint32_t i = 0; i < batch->count && rc == 0; i++) {
		props[i] = batch->props != NULL ? batch->props[i] : ENGINE_PROPS_INIT;
		if (props[i].key.ptr == NULL)
			props[i].key = key;
		props[i].partition = partitions != NULL ? partitions[i] : ENGINE_ANY;
		if (priority != ENGINE_ANY)
			props[i].priority = (int32_t)priority;
	}
	whole.lengths = lengths;
	if (whole.ts_ms < 0)
		whole.ts_ms = clock_wall_ms();
	if (rc == 0)
		rc = run(local_of(object), object, head, &whole, props);
	free(lengths);
	free(props);
	return rc;
}
