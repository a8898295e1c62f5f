#include "fs/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/utf8.h"

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

/* At most RING_LINE_MAX bytes, without cutting a character in two. */
static size_t cut_len(const char *text, size_t len)
{
	if (len <= RING_LINE_MAX)
		return len;
	uint32_t code;
	for (size_t back = 1; back <= 3; back++)
		if (utf8_char(text + RING_LINE_MAX - back, len - RING_LINE_MAX + back, &code) > back)
			return RING_LINE_MAX - back;
	return RING_LINE_MAX;
}

int ring_add(struct ring *ring, const char *text, size_t len, uint64_t *ret_number)
{
	len = cut_len(text, len);
	char *line = malloc(len + 2);
	if (!line)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++)
		line[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
	memcpy(line + len, "\n", 2);
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
