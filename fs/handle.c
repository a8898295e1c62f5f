#include "fs/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fs/class.h"
#include "fs/quota.h"

/* Chunks never move, so that handle_get needs no lock: 1,024 of 1,024 are a million open files. */
#define CHUNK 1024u
#define CHUNKS 1024u

struct handle_table {
	pthread_mutex_t lock; /* free list, used, count */
	_Atomic(struct handle *)
	    *chunks[CHUNKS];       /* set once each; read without the lock by who got an index from open */
	uint32_t *free;            /* stack of indexes given back */
	uint32_t free_count, used; /* used: indexes ever given */
	uint64_t count;
};

struct handle_table *handle_table_new(void)
{
	struct handle_table *table = calloc(1, sizeof *table);
	if (table)
		pthread_mutex_init(&table->lock, NULL);
	return table;
}

void handle_table_free(struct handle_table *table)
{
	if (!table)
		return;
	for (unsigned i = 0; i < CHUNKS; i++)
		free((void *)table->chunks[i]);
	free(table->free);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

/* The free stack gets its room together with the chunk, so that giving an index back cannot fail. */
static int add_chunk_locked(struct handle_table *table)
{
	uint32_t chunk = table->used / CHUNK;
	if (chunk >= CHUNKS)
		return -ENFILE;
	uint32_t *stack = realloc(table->free, (size_t)(chunk + 1) * CHUNK * sizeof *stack);
	if (!stack)
		return -ENOMEM;
	table->free = stack;
	table->chunks[chunk] = calloc(CHUNK, sizeof *table->chunks[chunk]);
	return table->chunks[chunk] ? 0 : -ENOMEM;
}

static int enter(struct handle_table *table, struct handle *handle)
{
	int err = 0;
	pthread_mutex_lock(&table->lock);
	uint32_t index = table->used;
	if (table->free_count > 0)
		index = table->free[--table->free_count];
	else if (table->used % CHUNK == 0 && (err = add_chunk_locked(table)) != 0)
		goto out;
	else
		table->used++;
	handle->index = index;
	atomic_store(&table->chunks[index / CHUNK][index % CHUNK], handle);
	table->count++;
out:
	pthread_mutex_unlock(&table->lock);
	return err;
}

int handle_init(
    struct handle *handle, struct fs *fs, const struct node *node, unsigned open_flags, const struct engine_cred *cred)
{
	handle->fs = fs;
	handle->class = node->row->class;
	handle->object = node->object;
	handle->tx = node->tx;
	handle->partition = node->partition;
	handle->offset = node->offset;
	handle->variant = node->variant;
	handle->framing = node->framing;
	handle->arg = node->row->arg;
	handle->open_flags = open_flags;
	handle->cred = *cred;
	int err = quota_enter(fs->quota, cred->uid, QUOTA_HANDLES, &handle->user);
	if (err)
		return err;
	err = -ENOMEM;
	handle->path = strdup(node->path);
	if (!handle->path)
		goto err_user;
	pthread_rwlock_init(&handle->in_use, NULL);
	err = enter(fs->handles, handle);
	if (!err)
		return 0;
	pthread_rwlock_destroy(&handle->in_use);
	free(handle->path);
	handle->path = NULL;
err_user:
	quota_leave(handle->user, QUOTA_HANDLES);
	handle->user = NULL;
	return err;
}

void handle_release(struct handle *handle)
{
	struct handle_table *table = handle->fs->handles;
	uint32_t index = (uint32_t)handle->index;
	pthread_mutex_lock(&table->lock);
	atomic_store(&table->chunks[index / CHUNK][index % CHUNK], NULL);
	table->free[table->free_count++] = index;
	table->count--;
	pthread_mutex_unlock(&table->lock);
	pthread_rwlock_destroy(&handle->in_use);
	free(handle->path);
	handle->path = NULL;
	quota_leave(handle->user, QUOTA_HANDLES);
	handle->user = NULL;
}

struct handle *handle_get(struct handle_table *table, uint64_t index)
{
	if (index >= (uint64_t)CHUNK * CHUNKS || !table->chunks[index / CHUNK])
		return NULL;
	return atomic_load(&table->chunks[index / CHUNK][index % CHUNK]);
}

struct handle *handle_use(struct handle_table *table, uint64_t index)
{
	struct handle *handle = handle_get(table, index);
	pthread_rwlock_rdlock(&handle->in_use);
	return handle;
}

void handle_done(struct handle *handle)
{
	pthread_rwlock_unlock(&handle->in_use);
}

void handle_settle(struct handle *handle)
{
	pthread_rwlock_wrlock(&handle->in_use);
	pthread_rwlock_unlock(&handle->in_use);
}

uint64_t handle_count(struct handle_table *table)
{
	pthread_mutex_lock(&table->lock);
	uint64_t count = table->count;
	pthread_mutex_unlock(&table->lock);
	return count;
}

void handle_release_all(struct handle_table *table)
{
	for (uint64_t index = 0; index < table->used; index++) {
		struct handle *handle = handle_get(table, index);
		if (handle)
			handle->class->release(handle);
	}
}
