/*
 * packed - see packed.h. The bytes: u32 messages, u32 bytes of the properties, u32 their flags, u32 uid, u32 gid, u32 pid, i64 time,
 * u64 bytes of the payloads; the properties as in meta.h, with lengths; the payloads with their delimiters.
 */
#include "engine/packed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/meta.h"

#define HEAD 40u
#define NO_CRC 0u

int packed_lengths(const struct engine_batch *batch, uint32_t **ret_lengths)
{
	const char *data = batch->data, *end;
	size_t left = batch->len;
	uint32_t *lengths;

	if (left > UINT32_MAX)
		return -EMSGSIZE;
	lengths = malloc((batch->count + 1) * sizeof(*lengths));
	if (lengths == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < batch->count; i++) {
		size_t len = batch->lengths != NULL ? batch->lengths[i] : 0;

		if (batch->lengths == NULL) {
			end = left > 0 ? memchr(data, '\n', left) : NULL;
			len = end != NULL ? (size_t)(end - data) : SIZE_MAX;
		}
		if (len >= left || data[len] != '\n')
			goto err;
		lengths[i] = (uint32_t)len;
		data += len + 1;
		left -= len + 1;
	}
	if (left != 0 || batch->count == 0)
		goto err;
	*ret_lengths = lengths;
	return 0;
err:
	free(lengths);
	return -EINVAL;
}

int packed_make(const struct engine_batch *batch, uint8_t **ret_bytes, size_t *ret_size)
{
	struct engine_batch whole = *batch;
	uint32_t *lengths;
	uint8_t flags, *out;
	uint64_t meta;
	int rc = packed_lengths(batch, &lengths);

	if (rc < 0)
		return rc;
	whole.lengths = lengths;
	flags = meta_flags(&whole, 0, whole.count, true);
	meta = meta_size(&whole, 0, whole.count, flags);
	out = meta <= UINT32_MAX ? malloc(HEAD + meta + whole.len) : NULL;
	if (out == NULL) {
		free(lengths);
		return meta > UINT32_MAX ? -EMSGSIZE : -ENOMEM;
	}
	bytes_put32(out, whole.count);
	bytes_put32(out + 4, (uint32_t)meta);
	bytes_put32(out + 8, flags);
	bytes_put32(out + 12, whole.cred.uid);
	bytes_put32(out + 16, whole.cred.gid);
	bytes_put32(out + 20, whole.cred.pid);
	bytes_put64(out + 24, (uint64_t)whole.ts_ms);
	bytes_put64(out + 32, whole.len);
	meta_put(out + HEAD, (uint32_t)meta, &whole, 0, whole.count, flags, NO_CRC);
	memcpy(out + HEAD + meta, whole.data, whole.len);
	free(lengths);
	*ret_bytes = out;
	*ret_size = HEAD + meta + whole.len;
	return 0;
}

static int allocate(struct packed_batch *packed, const struct meta_shape *shape)
{
	uint32_t count = packed->batch.count;

	packed->lengths = calloc(count, sizeof(*packed->lengths));
	packed->props = calloc(count, sizeof(*packed->props));
	packed->headers = calloc(shape->header_count + 1, sizeof(*packed->headers));
	packed->deaths = calloc(shape->death_count + 1, sizeof(*packed->deaths));
	return packed->lengths != NULL && packed->props != NULL && packed->headers != NULL && packed->deaths != NULL
		   ? 0
		   : -ENOMEM;
}

int packed_open(const uint8_t *bytes, size_t size, int64_t ts_ms, struct packed_batch *ret_packed)
{
	struct packed_batch packed = { 0 };
	struct meta_shape shape;
	uint32_t meta;
	uint64_t len;
	int64_t own_ms;

	if (size < HEAD)
		return -EBADMSG;
	meta = bytes_get32(bytes + 4);
	len = bytes_get64(bytes + 32);
	own_ms = (int64_t)bytes_get64(bytes + 24);
	if (meta > size || len > size || HEAD + meta + len != size || bytes_get32(bytes) == 0)
		return -EBADMSG;
	packed.batch = (struct engine_batch){ .data = (const char *)bytes + HEAD + meta,
		.len = (size_t)len,
		.count = bytes_get32(bytes),
		.cred = { bytes_get32(bytes + 12), bytes_get32(bytes + 16), bytes_get32(bytes + 20) },
		.ts_ms = own_ms >= 0 ? own_ms : ts_ms };
	if (meta_check(bytes + HEAD, meta, packed.batch.count, (uint32_t)len, NO_CRC, &shape) < 0)
		return -EBADMSG;
	if (allocate(&packed, &shape) < 0) {
		packed_release(&packed);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < packed.batch.count; i++) {
		packed.props[i] = ENGINE_PROPS_INIT;
		packed.props[i].ts_ms = packed.batch.ts_ms;
	}
	meta_get(bytes + HEAD, meta, packed.batch.count, packed.batch.ts_ms, packed.lengths, packed.props,
	    packed.headers, packed.deaths);
	packed.batch.lengths = packed.lengths;
	packed.batch.props = packed.props;
	*ret_packed = packed;
	return 0;
}

void packed_release(struct packed_batch *packed)
{
	free(packed->lengths);
	free(packed->props);
	free(packed->headers);
	free(packed->deaths);
	*packed = (struct packed_batch){ 0 };
}
