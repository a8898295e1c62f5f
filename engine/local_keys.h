/*
 * local_keys - the key index of a compacted topic: where the latest message of each key is. How is said in local_keys.c.
 */
#ifndef MQFS_LOCAL_KEYS_H
#define MQFS_LOCAL_KEYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct topic;
struct keyed;

struct topic_keys {
	pthread_mutex_t lock; /* below object.change; held over reads of logs, syncs and transactions of the catalog */
	struct keyed *table;  /* uthash: what the catalog does not know yet; lock, as all below */
	size_t count;         /* in it */
	uint64_t walked;      /* messages since it was last written */
	uint64_t *noted;      /* by partition: the table and the catalog know all below this offset */
	uint32_t partitions;  /* of noted */
};

void keys_init(struct topic_keys *keys);
void keys_release(struct topic_keys *keys);

/* Brings the index up to the ends of the logs. */
int keys_catch_up(struct topic *topic);
/* And writes it to the catalog; the logs are synced before. */
int keys_save(struct topic *topic);
/* Below this offset of a partition the index knows all messages. */
uint64_t keys_noted(struct topic *topic, uint32_t partition);
/* Removes rows of keys whose messages are gone, and of tombstones up to before_ms that were compacted away. */
int keys_clean(struct topic *topic, int64_t before_ms, const uint64_t *clean);

/* What a message of a key is, once the index has caught up. */
enum key_state { KEY_LATEST, KEY_OLDER, KEY_UNKNOWN };
/*
 * For compaction. A later message makes this one older only if it is below `synced`: what a power cut may take must not have
 * replaced anything. Other threads may use the index meanwhile, and it may go on.
 */
int keys_state(struct topic *topic, uint32_t partition, struct engine_span key, uint64_t offset, uint64_t synced,
    enum key_state *ret_state);

int local_key_find(struct engine_object *base, struct engine_span key, struct engine_key *ret_key);
int local_key_list(struct engine_object *base, struct engine_span after,
    bool (*each)(void *ctx, const struct engine_key *key), void *ctx);

#endif
