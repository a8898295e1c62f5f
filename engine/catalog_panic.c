/*
 * catalog_panic - LMDB's environment, opened anew after a panic.
 *
 * A commit ends with the write of a meta page. If that fails LMDB writes the page's old number beside its new roots, so that the state
 * before stays in force, and refuses every transaction from then on (MDB_PANIC). One bad moment of a disk would so end all of a mount's
 * work. But the state before is whole: its pages were synced, and none of them has been written since. So that meta page is put back as it
 * was, all of it, and synced, after which the disk has what it had; and the environment is opened anew. The change has failed with the
 * disk's error, and was not made.
 *
 * If the page cannot be written or synced either, nothing is known of what the disk has of it, and nothing is written any more: the
 * environment is opened for reading, all that can be read is read, and each change is EIO until the next mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "engine/catalog_internal.h"

/* lock held for writing. */
static void open_anew(struct catalog *catalog)
{
	struct stat st;
	int rc;

	mdb_env_close(catalog->env);
	catalog->env = NULL;
	if (catalog_put_meta_back(catalog->dirfd, CATALOG_FILE, &catalog->before) < 0)
		atomic_store(&catalog->failed, true);
	rc = fstatat(catalog->dirfd, CATALOG_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
	if (!rc)
		rc = catalog_open_env(
		    catalog, catalog->dirfd, CATALOG_FILE, (uint64_t)st.st_size, catalog_has_failed(catalog));
	catalog->broken = rc != 0;
	if (rc)
		atomic_store(&catalog->failed, true);
}

void catalog_recover(struct catalog *catalog)
{
	if (!atomic_load(&catalog->panicked))
		return;
	pthread_rwlock_wrlock(&catalog->lock);
	if (atomic_load(&catalog->panicked)) {
		if (catalog->dirfd >= 0)
			open_anew(catalog);
		else
			catalog->broken = true; /* it is being made, and is thrown away */
		atomic_store(&catalog->panicked, false);
	}
	pthread_rwlock_unlock(&catalog->lock);
}
