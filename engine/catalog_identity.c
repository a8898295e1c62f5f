/*
 * catalog_identity - of which store a catalog is.
 *
 * Its rows have the same numbers in many stores, so that of another one, put in place by a `cp` or a restore, would fit in silence: names would
 * lead to other messages, and offsets to other places. So it has the uuid of its store, as the fact "uuid". One from before that gets it
 * when it is opened to be written to.
 */
#include <errno.h>
#include <string.h>

#include "engine/catalog_internal.h"

#define UUID_BYTES 16u

struct identity {
	uint8_t uuid[UUID_BYTES];
};

static int read_uuid(struct catalog_txn *txn, void *arg)
{
	struct identity *identity = arg;
	struct engine_span value;
	struct catalog_key key;
	int err;

	catalog_fact_key(&key, "uuid");
	err = catalog_get_row(txn, &key, &value);
	if (!err && value.len != UUID_BYTES)
		err = catalog_damaged_row(txn, key.bytes);
	if (!err)
		memcpy(identity->uuid, value.ptr, UUID_BYTES);
	return err;
}

static int write_uuid(struct catalog_txn *txn, void *arg)
{
	const struct identity *identity = arg;
	struct catalog_key key;

	catalog_fact_key(&key, "uuid");
	return catalog_put_row(txn, &key, identity->uuid, UUID_BYTES);
}

int catalog_uuid(struct catalog *catalog, uint8_t ret_uuid[16])
{
	struct identity identity;
	int err = catalog_view(catalog, read_uuid, &identity);

	if (!err)
		memcpy(ret_uuid, identity.uuid, UUID_BYTES);
	return err;
}

int catalog_claim(struct catalog *catalog, const uint8_t uuid[16])
{
	struct identity identity;
	uint8_t found[UUID_BYTES];
	int err = catalog_uuid(catalog, found);

	if (!err && memcmp(found, uuid, UUID_BYTES) != 0)
		return engine_explain(-EUCLEAN, "the catalog is that of another store");
	if (err != -ENODATA && err != -EIO) /* a damaged row has been told of */
		return err;
	if (catalog->read_only)
		return 0;
	memcpy(identity.uuid, uuid, UUID_BYTES);
	err = catalog_change(catalog, CATALOG_MAY_USE_RESERVE, write_uuid, &identity);
	return err == -ENOSPC || err == -EDQUOT ? 0 : err; /* the next one does it */
}
