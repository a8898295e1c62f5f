/*
 * stage_file - the header of a staging file, and its name.
 *
 * STORE/staging/NUMBER (16 hex digits) begins with STAGE_DATA bytes that say what the rest is: the bytes that one open
 * channel wrote, as they were written. Numbers are little-endian.
 *
 *     0  "MQFSSTG1"
 *     8  u32 version: 1, or 2 of a queue
 *    12  16 bytes uuid of the store
 *    28  u64 id: which use of the file this is; its state in the journal goes by it
 *    36  u64 topic or queue
 *    44  u32 partition, or priority; 0xffffffff: by key or turn, or 0
 *    48  u32 uid, u32 gid, u32 pid of who opened the channel
 *    60  u8 delimiter, u8 1 if there is a key, u8 its length, u8 0
 *    64  the key
 *   320  16 bytes: which start of the machine this use of the file began in; zeros: not known
 *   508  u32 CRC-32C of the bytes before
 *
 * An empty file has nothing in it, nor has one without a whole header: that is written before anyone may write. If there is something
 * behind a header that is not whole all the same, it is damaged (or a power cut took the header only), and set aside as NUMBER.damaged.
 */
#ifndef MQFS_STAGE_FILE_H
#define MQFS_STAGE_FILE_H

#include "engine/engine.h"

#define STAGE_DIR "staging"
#define STAGE_DAMAGED ".damaged" /* behind the name of one that was set aside */
#define STAGE_VERSION 1u
#define STAGE_VERSION_QUEUE 2u /* who knows 1 only takes the queue for a topic that was removed */
#define STAGE_DATA 512u        /* where the data begins */
#define STAGE_NAME_SIZE 17u

struct stage_header {
	uint64_t id;     /* 0: the file is empty */
	uint64_t target; /* topic or queue */
	bool of_queue;
	uint32_t partition; /* or priority */
	struct engine_cred cred;
	char delimiter;
	bool has_key;
	uint8_t key_len;
	char key[ENGINE_KEY_MAX];
	uint8_t boot_id[16];
};

void stage_header_put(uint8_t out[STAGE_DATA], const uint8_t store_uuid[16], const struct stage_header *header);
/* EBADMSG: none. EUCLEAN: of a newer version, or of another store. */
int stage_header_get(const uint8_t in[STAGE_DATA], const uint8_t store_uuid[16], struct stage_header *ret_header);
bool stage_header_same(const struct stage_header *a, const struct stage_header *b); /* but for id and boot_id */

void stage_name(char out[STAGE_NAME_SIZE], uint64_t number);
bool stage_parse_name(const char *name, uint64_t *ret_number);
/* Is there anything behind the header, whatever that is? Zeros are nothing. 1, 0 or negative errno. */
int stage_has_data(int fd);

#endif
