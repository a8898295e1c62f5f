#include "fs/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/name.h"

int ring_init(struct ring *ring, size_t size)
{
	assert(size >= 1);
	char **lines = calloc(size, sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	*ring = (struct ring){ .size = size, .lines = lines };
	pthread_mutex_init(&ring->lock, NULL);
	return 0;
}

void ring_release(struct ring *ring)
{
	if (!ring->lines)
		return;
	for (size_t i = 0; i < ring->size; i++)
		free(ring->lines[i]);
	free(ring->lines);
	pthread_mutex_destroy(&ring->lock);
	*ring = (struct ring){ 0 };
}

char *ring_line(const char *text, size_t len)
{
	/* Each path has been escaped; what the engine says may have names in it as they are. */
	char escaped[RING_LINE_MAX + 2];
	len = name_escape_text(text, len, escaped, RING_LINE_MAX + 1);
	char *line = malloc(len + 2);
	if (!line)
		return NULL;
	memcpy(line, escaped, len);
	memcpy(line + len, "\n", 2);
	return line;
}

int ring_add(struct ring *ring, const char *text, size_t len, uint64_t *ret_number)
{
	char *line = ring_line(text, len);
	if (!line)
		return -ENOMEM;
	pthread_mutex_lock(&ring->lock);
	uint64_t number = ring->end++;
	char *old = ring->lines[number % ring->size];
	ring->lines[number % ring->size] = line;
	pthread_mutex_unlock(&ring->lock);
	free(old);
	if (ret_number)
		*ret_number = number;
	return 0;
}

uint64_t ring_end(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	uint64_t end = ring->end;
	pthread_mutex_unlock(&ring->lock);
	return end;
}

int ring_read(
    struct ring *ring, uint64_t from, uint32_t max, struct buffer *out, uint64_t *ret_next, uint64_t *ret_lost)
{
	size_t before = out->len;
	pthread_mutex_lock(&ring->lock);
	uint64_t earliest = ring->end > ring->size ? ring->end - ring->size : 0;
	uint64_t lost = from < earliest ? earliest - from : 0;
	uint64_t start = from + lost, end = ring->end > start ? ring->end : start;
	if (max > 0 && end - start > max)
		end = start + max;
	for (uint64_t number = start; number < end; number++)
		buffer_add_text(out, ring->lines[number % ring->size]);
	pthread_mutex_unlock(&ring->lock);
	if (buffer_error(out)) {
		out->len = before;
		return -ENOMEM;
	}
	*ret_next = end;
	*ret_lost = lost;
	return (int)(end - start);
}
