#include "engine/scratch.h"

#include <errno.h>
#include <stdlib.h>

#define SCRATCH_MIN 4096u

int scratch_reserve(struct engine_scratch *scratch, size_t size)
{
	size_t grown = scratch->size > SCRATCH_MIN ? scratch->size : SCRATCH_MIN;
	void *mem;

	if (scratch->size >= size)
		return 0;
	if (size > SIZE_MAX / 2)
		return -ENOMEM;
	while (grown < size)
		grown *= 2;
	mem = malloc(grown); /* not realloc: nothing of the old block is worth copying */
	if (mem == NULL)
		return -ENOMEM;
	free(scratch->mem);
	scratch->mem = mem;
	scratch->size = grown;
	return 0;
}

/* Takes size bytes of the block at *pos; the caller goes from the strictest alignment to the loosest. */
static void *take(char *block, size_t *pos, size_t size)
{
	void *taken = size > 0 ? block + *pos : NULL;

	*pos += size;
	return taken;
}

int scratch_lay_out(struct engine_scratch *scratch, const struct scratch_need *need, struct scratch_room *ret_room)
{
	size_t props = need->props * sizeof(struct engine_props),
	       headers = need->headers * sizeof(struct engine_header);
	size_t lengths = need->count * sizeof(uint32_t), pos = 0;
	struct scratch_room room;
	int rc = scratch_reserve(scratch, props + headers + lengths + need->text + need->data + 1);

	if (rc < 0)
		return rc;
	room.props = take(scratch->mem, &pos, props);
	room.headers = take(scratch->mem, &pos, headers);
	room.lengths = take(scratch->mem, &pos, lengths);
	room.text = take(scratch->mem, &pos, need->text);
	room.data = (char *)scratch->mem + pos;
	*ret_room = room;
	return 0;
}
