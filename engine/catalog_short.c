/*
 * catalog_short - was the catalog's file cut short?
 *
 * A file that ends before LMDB's last page would be a SIGBUS to come, if that page is ever read. But LMDB itself leaves such
 * files: a page at the end that a transaction took and gave back is never written, only noted as free (LMDB's "loose"
 * pages). So a file that is too short is whole if all pages it lacks are free.
 *
 * That is told by LMDB's own list of free pages, database 0. To read it without touching what may not be there, the file is
 * copied to memory, with zeros at its end, and opened there: LMDB takes a page of zeros for a corrupt one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/catalog_internal.h"
#include "engine/io.h"

#define FREE_PAGES 0 /* LMDB's database of them: a list by transaction, its length first */

/* How many pages from `from` on are free. */
static uint64_t count_in_list(const MDB_val *value, uint64_t from)
{
	size_t length, page;
	uint64_t count = 0;
	const char *at = value->mv_data;

	if (value->mv_size < sizeof(length))
		return 0;
	memcpy(&length, at, sizeof(length));
	for (size_t i = 1; i <= length && (i + 1) * sizeof(page) <= value->mv_size; i++) {
		memcpy(&page, at + i * sizeof(page), sizeof(page));
		count += page >= from;
	}
	return count;
}

static uint64_t count_free(MDB_env *env, uint64_t from)
{
	MDB_val key, value;
	MDB_cursor *cursor;
	uint64_t count = 0;
	MDB_txn *txn;

	if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
		return 0;
	if (mdb_cursor_open(txn, FREE_PAGES, &cursor) == 0) {
		while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
			count += count_in_list(&value, from);
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return count;
}

/* The first file_size bytes of the catalog, and zeros up to size, in a file in memory. */
static int copy_to_memory(int dirfd, const char *name, uint64_t file_size, uint64_t size)
{
	int file = openat(dirfd, name, O_RDONLY | O_CLOEXEC), fd = memfd_create("catalog", MFD_CLOEXEC), rc = -ENOMEM;
	void *map = MAP_FAILED;

	if (file >= 0 && fd >= 0 && io_posix.ftruncate(fd, (off_t)size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED) {
		rc = io_pread_all(file, map, file_size, 0);
		munmap(map, size);
	}
	if (file >= 0)
		close(file);
	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return rc;
}

bool catalog_is_cut_short(MDB_env *env, int dirfd, const char *name, uint64_t file_size)
{
	uint64_t size, have, free_pages = 0;
	MDB_envinfo info;
	MDB_env *copy;
	MDB_stat stat;
	char path[64];
	int fd;

	if (mdb_env_info(env, &info) || mdb_env_stat(env, &stat))
		return true;
	size = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	have = file_size / stat.ms_psize;
	if (size <= file_size)
		return false;
	fd = copy_to_memory(dirfd, name, file_size, size);
	if (fd < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (mdb_env_create(&copy) == 0) {
		if (mdb_env_set_mapsize(copy, size) == 0 &&
		    mdb_env_open(copy, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR | MDB_NOTLS, 0) == 0)
			free_pages = count_free(copy, have);
		mdb_env_close(copy);
	}
	close(fd);
	return free_pages < info.me_last_pgno + 1 - have;
}
