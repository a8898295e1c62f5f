/*
 * memory_queue_view - what a reader gets of a queue: messages laid out in the scratch of its call.
 *
 * Messages that are given together came in one batch, so that they share producer and time, and stand one behind the other.
 * Their deaths and deliveries go to the scratch as well.
 */
#include <string.h>

#include "engine/memory_queue.h"
#include "engine/scratch.h"

/* What the view needs, and the places where it goes; all are within one block, the strictest alignment first. */
struct layout {
	uint32_t count;
	bool props;
	size_t data, text, headers, deaths;
	struct engine_props *to_props;
	struct engine_header *to_headers;
	struct engine_death *to_deaths;
	struct engine_delivery *to_deliveries;
	uint32_t *to_lengths;
	char *to_text, *to_data;
};

static void count_one(struct layout *need, const struct memory_item *item)
{
	need->count++;
	need->data += item->message.len + 1;
	need->props = need->props || item->message.has_props || item->death_count > 0;
	need->text += memory_text_size(&item->message.props);
	need->headers += item->message.props.header_count;
	need->deaths += item->death_count;
	for (uint32_t i = 0; i < item->death_count; i++)
		need->text += item->deaths[i].queue.len;
}

static struct layout count_view(const struct memory_item *first, uint64_t max_count, size_t max_bytes)
{
	struct layout need = { 0 };

	count_one(&need, first);
	for (const struct memory_item *item = first->next; item != NULL && need.count < max_count; item = item->next) {
		if (item->message.batch != first->message.batch || need.data + item->message.len + 1 > max_bytes)
			break;
		count_one(&need, item);
	}
	return need;
}

static void *take(char **block, size_t size)
{
	char *taken = *block;

	*block += size;
	return taken;
}

static int lay_out(struct engine_scratch *scratch, struct layout *l)
{
	size_t props = l->props ? l->count * sizeof(*l->to_props) : 0;
	size_t headers = l->headers * sizeof(*l->to_headers), deaths = l->deaths * sizeof(*l->to_deaths);
	size_t deliveries = l->count * sizeof(*l->to_deliveries), lengths = l->count * sizeof(*l->to_lengths);
	int rc = scratch_reserve(scratch, props + headers + deaths + deliveries + lengths + l->text + l->data);
	char *block = scratch->mem;

	if (rc < 0)
		return rc;
	l->to_props = take(&block, props);
	l->to_headers = take(&block, headers);
	l->to_deaths = take(&block, deaths);
	l->to_deliveries = take(&block, deliveries);
	l->to_lengths = take(&block, lengths);
	l->to_text = take(&block, l->text);
	l->to_data = take(&block, l->data);
	return 0;
}

static struct engine_props copy_props(const struct memory_item *item, struct layout *l)
{
	struct engine_props props = memory_copy_props(&item->message.props, &l->to_headers, &l->to_text);

	props.deaths = item->death_count > 0 ? l->to_deaths : NULL;
	props.death_count = item->death_count;
	for (uint32_t i = 0; i < item->death_count; i++) {
		*l->to_deaths = item->deaths[i];
		l->to_deaths->queue.ptr = l->to_text;
		memcpy(l->to_text, item->deaths[i].queue.ptr, item->deaths[i].queue.len);
		l->to_text += item->deaths[i].queue.len;
		l->to_deaths++;
	}
	return props;
}

int memory_queue_view(const struct memory_item *first, uint64_t max_count, size_t max_bytes, bool delivering,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct layout l = count_view(first, max_count, max_bytes);
	const struct memory_item *item = first;
	int rc = lay_out(scratch, &l);

	if (rc < 0)
		return rc;
	*ret_view = (struct engine_view){ .partition = first->priority, .deliveries = l.to_deliveries };
	ret_view->batch = (struct engine_batch){ .data = l.to_data,
		.len = l.data,
		.count = l.count,
		.lengths = l.to_lengths,
		.props = l.props ? l.to_props : NULL,
		.cred = first->message.cred,
		.ts_ms = first->message.batch_ts_ms };
	for (uint32_t i = 0; i < l.count; i++, item = item->next) {
		uint32_t deliveries = item->deliveries + delivering;
		bool leased = delivering || item->state == ENGINE_UNACKED;

		memcpy(l.to_data, item->message.data, item->message.len + 1);
		l.to_data += item->message.len + 1;
		l.to_lengths[i] = item->message.len;
		l.to_deliveries[i] =
		    (struct engine_delivery){ item->id, item->priority, deliveries, deliveries > leased };
		if (l.props)
			l.to_props[i] = copy_props(item, &l);
	}
	return 0;
}
