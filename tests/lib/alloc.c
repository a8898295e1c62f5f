#include "tests/lib/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Thread_local struct {
	bool armed;
	uint64_t n, count;
	void (*call)(void *ctx); /* instead of failing */
	void *ctx;
} alloc;
static _Thread_local struct {
	uint64_t n, count;
	int err;          /* 0: not armed */
	const char *path; /* NULL: any */
	void (*call)(void);
} reads;

void alloc_arm(uint64_t n)
{
	alloc.armed = true;
	alloc.n = n;
	alloc.count = 0;
	alloc.call = NULL;
}

void alloc_arm_call(uint64_t n, void (*call)(void *ctx), void *ctx)
{
	alloc_arm(n);
	alloc.call = call;
	alloc.ctx = ctx;
}

uint64_t alloc_disarm(void)
{
	alloc.armed = false;
	return alloc.count;
}

static bool fails(void)
{
	if (!alloc.armed)
		return false;
	if (++alloc.count != alloc.n)
		return false;
	if (alloc.call != NULL) {
		alloc.armed = false; /* nor are its own counted */
		alloc.call(alloc.ctx);
		alloc.armed = true;
		return false;
	}
	errno = ENOMEM;
	return true;
}

void *alloc_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *alloc_calloc(size_t count, size_t size)
{
	return fails() ? NULL : calloc(count, size);
}

void *alloc_realloc(void *old, size_t size)
{
	return fails() ? NULL : realloc(old, size);
}

char *alloc_strdup(const char *text)
{
	return fails() ? NULL : strdup(text);
}

int alloc_asprintf(char **ret_text, const char *format, ...)
{
	va_list args;
	int rc;

	if (fails())
		return -1;
	va_start(args, format);
	rc = vasprintf(ret_text, format, args);
	va_end(args);
	return rc;
}

DIR *alloc_fdopendir(int fd)
{
	return fails() ? NULL : fdopendir(fd);
}

int alloc_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg), void *arg)
{
	return fails() ? ENOMEM : pthread_create(thread, attr, run, arg);
}

/* ---- reading ---- */

void alloc_arm_reads(uint64_t n, int err)
{
	reads.n = n;
	reads.count = 0;
	reads.err = err;
	reads.path = NULL;
	reads.call = NULL;
}

void alloc_arm_reads_of(const char *path, uint64_t n, int err)
{
	alloc_arm_reads(n, err);
	reads.path = path;
}

void alloc_before_read_of(const char *path, uint64_t n, void (*call)(void))
{
	alloc_arm_reads_of(path, n, EIO);
	reads.call = call;
}

void alloc_before_read(uint64_t n, void (*call)(void))
{
	alloc_before_read_of(NULL, n, call);
}

uint64_t alloc_disarm_reads(void)
{
	reads.err = 0;
	return reads.count;
}

/* name: in the directory that is open as fd; or NULL. */
static bool is_counted(int fd, const char *name)
{
	char link[64], path[PATH_MAX] = "";
	size_t len;

	if (reads.path == NULL)
		return true;
	if (reads.err == EMFILE && name == NULL)
		return false; /* it takes no descriptor */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0)
		return false;
	len = strlen(path);
	snprintf(path + len, sizeof(path) - len, "/%s", name != NULL ? name : "");
	return strstr(path, reads.path) != NULL;
}

static bool read_fails(int fd, const char *name)
{
	if (reads.err == 0 || !is_counted(fd, name) || ++reads.count != reads.n)
		return false;
	if (reads.call != NULL) {
		int err = errno;

		reads.err = 0; /* what it does is not counted */
		reads.call();
		reads.err = EIO;
		errno = err;
		return false;
	}
	errno = reads.err;
	return true;
}

int alloc_openat64(int dirfd, const char *name, int flags, mode_t mode)
{
	return !(flags & O_CREAT) && read_fails(dirfd, name) ? -1 : openat(dirfd, name, flags, mode);
}

ssize_t alloc_pread64(int fd, void *buf, size_t size, off_t pos)
{
	return read_fails(fd, NULL) ? -1 : pread(fd, buf, size, pos);
}

off_t alloc_lseek64(int fd, off_t pos, int whence)
{
	return read_fails(fd, NULL) ? -1 : lseek(fd, pos, whence);
}

struct dirent *alloc_readdir64(DIR *dir)
{
	return read_fails(dirfd(dir), NULL) ? NULL : readdir(dir);
}

int alloc_fstat64(int fd, struct stat *st)
{
	return read_fails(fd, NULL) ? -1 : fstat(fd, st);
}

int alloc_fstatat64(int dirfd, const char *name, struct stat *st, int flags)
{
	return read_fails(dirfd, NULL) ? -1 : fstatat(dirfd, name, st, flags);
}

/* ---- LMDB ---- */

static _Thread_local struct {
	bool armed;
	uint64_t n, count;
	int rc;
} lmdb;

void alloc_arm_lmdb(uint64_t n, int rc)
{
	lmdb.rc = rc;
	lmdb.armed = true;
	lmdb.n = n;
	lmdb.count = 0;
}

uint64_t alloc_disarm_lmdb(void)
{
	lmdb.armed = false;
	return lmdb.count;
}

static _Thread_local uint64_t unsynced;

uint64_t alloc_lmdb_unsynced(void)
{
	return unsynced;
}

static bool lmdb_fails(void)
{
	return lmdb.armed && ++lmdb.count == lmdb.n;
}

int alloc_mdb_env_create(MDB_env **ret_env)
{
	return lmdb_fails() ? lmdb.rc : mdb_env_create(ret_env);
}

int alloc_mdb_env_set_mapsize(MDB_env *env, size_t size)
{
	return lmdb_fails() ? lmdb.rc : mdb_env_set_mapsize(env, size);
}

int alloc_mdb_env_set_maxreaders(MDB_env *env, unsigned readers)
{
	return lmdb_fails() ? lmdb.rc : mdb_env_set_maxreaders(env, readers);
}

int alloc_mdb_env_set_flags(MDB_env *env, unsigned flags, int on)
{
	return lmdb_fails() ? lmdb.rc : mdb_env_set_flags(env, flags, on);
}

int alloc_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
	return lmdb_fails() ? lmdb.rc : mdb_env_open(env, path, flags, mode);
}

int alloc_mdb_env_sync(MDB_env *env, int force)
{
	if (lmdb_fails())
		return lmdb.rc;
	unsynced = 0;
	return mdb_env_sync(env, force);
}

int alloc_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret_txn)
{
	return lmdb_fails() ? lmdb.rc : mdb_txn_begin(env, parent, flags, ret_txn);
}

int alloc_mdb_txn_commit(MDB_txn *txn)
{
	if (!lmdb_fails()) {
		unsynced++;
		return mdb_txn_commit(txn);
	}
	mdb_txn_abort(txn);
	return lmdb.rc;
}

int alloc_mdb_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *ret_dbi)
{
	return lmdb_fails() ? lmdb.rc : mdb_dbi_open(txn, name, flags, ret_dbi);
}

int alloc_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *ret_data)
{
	return lmdb_fails() ? lmdb.rc : mdb_get(txn, dbi, key, ret_data);
}

int alloc_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags)
{
	return lmdb_fails() ? lmdb.rc : mdb_put(txn, dbi, key, data, flags);
}

int alloc_mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data)
{
	return lmdb_fails() ? lmdb.rc : mdb_del(txn, dbi, key, data);
}

int alloc_mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **ret_cursor)
{
	return lmdb_fails() ? lmdb.rc : mdb_cursor_open(txn, dbi, ret_cursor);
}

int alloc_mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op)
{
	return lmdb_fails() ? lmdb.rc : mdb_cursor_get(cursor, key, data, op);
}
