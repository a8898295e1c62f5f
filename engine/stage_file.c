/*
 * stage_file - bytes of the header of a staging file; see stage_file.h.
 */
#include "engine/stage_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/io.h"

#define MAGIC "MQFSSTG1"
#define CRC_AT (STAGE_DATA - 4)
#define KEY_AT 64u
#define BOOT_AT 320u

_Static_assert(KEY_AT + ENGINE_KEY_MAX <= BOOT_AT && BOOT_AT + 16 <= CRC_AT, "a key fits into the header");

void stage_header_put(uint8_t out[STAGE_DATA], const uint8_t store_uuid[16], const struct stage_header *header)
{
	memset(out, 0, STAGE_DATA);
	memcpy(out, MAGIC, 8);
	bytes_put32(out + 8, header->of_queue ? STAGE_VERSION_QUEUE : STAGE_VERSION);
	memcpy(out + 12, store_uuid, 16);
	bytes_put64(out + 28, header->id);
	bytes_put64(out + 36, header->target);
	bytes_put32(out + 44, header->partition);
	bytes_put32(out + 48, header->cred.uid);
	bytes_put32(out + 52, header->cred.gid);
	bytes_put32(out + 56, header->cred.pid);
	out[60] = (uint8_t)header->delimiter;
	out[61] = header->has_key;
	out[62] = header->key_len;
	memcpy(out + KEY_AT, header->key, header->key_len);
	memcpy(out + BOOT_AT, header->boot_id, sizeof(header->boot_id));
	bytes_put32(out + CRC_AT, crc32c(0, out, CRC_AT));
}

int stage_header_get(const uint8_t in[STAGE_DATA], const uint8_t store_uuid[16], struct stage_header *ret_header)
{
	struct stage_header header = { 0 };
	uint32_t version;

	if (memcmp(in, MAGIC, 8) != 0 || crc32c(0, in, CRC_AT) != bytes_get32(in + CRC_AT))
		return -EBADMSG;
	version = bytes_get32(in + 8);
	if ((version != STAGE_VERSION && version != STAGE_VERSION_QUEUE) || memcmp(in + 12, store_uuid, 16) != 0)
		return -EUCLEAN;
	header.id = bytes_get64(in + 28);
	header.of_queue = version == STAGE_VERSION_QUEUE;
	header.target = bytes_get64(in + 36);
	header.partition = bytes_get32(in + 44);
	header.cred = (struct engine_cred){ bytes_get32(in + 48), bytes_get32(in + 52), bytes_get32(in + 56) };
	header.delimiter = (char)in[60];
	header.has_key = in[61] != 0;
	header.key_len = in[62];
	memcpy(header.key, in + KEY_AT, header.key_len);
	memcpy(header.boot_id, in + BOOT_AT, sizeof(header.boot_id));
	if (header.id == 0 || (header.delimiter != '\n' && header.delimiter != '\0'))
		return -EBADMSG;
	*ret_header = header;
	return 0;
}

int stage_has_data(int fd)
{
	uint8_t bytes[8 * STAGE_DATA];
	off_t pos = STAGE_DATA;

	for (;;) {
		ssize_t n = io->pread(fd, bytes, sizeof(bytes), pos);

		if (n <= 0)
			return (int)n;
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != 0)
				return 1;
		}
		pos += n;
	}
}

bool stage_header_same(const struct stage_header *a, const struct stage_header *b)
{
	return a->target == b->target && a->of_queue == b->of_queue && a->partition == b->partition &&
	       a->delimiter == b->delimiter && a->cred.uid == b->cred.uid && a->cred.gid == b->cred.gid &&
	       a->cred.pid == b->cred.pid && a->has_key == b->has_key && a->key_len == b->key_len &&
	       memcmp(a->key, b->key, a->key_len) == 0;
}

void stage_name(char out[STAGE_NAME_SIZE], uint64_t number)
{
	snprintf(out, STAGE_NAME_SIZE, "%016" PRIx64, number);
}

bool stage_parse_name(const char *name, uint64_t *ret_number)
{
	if (strlen(name) != STAGE_NAME_SIZE - 1 || strspn(name, "0123456789abcdef") != STAGE_NAME_SIZE - 1)
		return false;
	*ret_number = strtoull(name, NULL, 16);
	return true;
}
