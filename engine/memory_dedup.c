/*
 * memory_dedup - idempotent producing: the table of ids (dedup.h) of a topic or queue. A queue's and a topic's sends are
 * the same here: what was seen is left out, and what was noted is forgotten when the send fails.
 */
#include <errno.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"

/* The table for the window in force; that for another one is taken over. */
static int make_table(struct memory_object *object, int64_t window_ms)
{
	int64_t now_ms = clock_wall_ms();
	struct dedup *table;
	int rc = 0;

	if (object->dedup != NULL && object->dedup_window_ms == window_ms)
		return 0;
	table = dedup_new(window_ms, &object->memory->users);
	if (table == NULL)
		return -ENOMEM;
	if (object->dedup != NULL)
		rc = dedup_take(table, object->dedup, now_ms);
	if (rc < 0) {
		dedup_free(table);
		return rc;
	}
	dedup_free(object->dedup);
	object->dedup = table;
	object->dedup_window_ms = window_ms;
	return 0;
}

int memory_dedup_begin(struct memory_object *object, const struct engine_batch *batch, struct dedup_pass *ret_pass)
{
	int64_t window_ms = memory_setting_int(object, "dedup.window.ms");
	int rc;

	*ret_pass = (struct dedup_pass){ .batch = *batch };
	if (window_ms == 0 || !dedup_batch_has_ids(batch))
		return 0;
	rc = make_table(object, window_ms);
	return rc == 0 ? dedup_pass_begin(object->dedup, batch, clock_wall_ms(), ret_pass) : rc;
}

void memory_dedup_end(struct memory_object *object, struct dedup_pass *pass, int rc)
{
	if (rc < 0 && pass->noted_count > 0)
		dedup_pass_undo(object->dedup, pass);
	if (rc == 0)
		object->deduplicated += pass->dropped;
	if (object->queue != NULL)
		object->queue->totals.deduplicated = object->deduplicated;
	dedup_pass_end(pass);
}

bool memory_dedup_has(struct memory_object *object, const struct engine_props *props)
{
	const struct engine_batch one = { .data = "\n", .len = 1, .count = 1, .props = props };
	struct dedup_pass pass;
	bool has;

	if (memory_dedup_begin(object, &one, &pass) < 0)
		return false;
	has = pass.batch.count == 0;
	memory_dedup_end(object, &pass, -ECANCELED);
	return has;
}
