/*
 * alloc - makes the n-th allocation of what is tested fail, or the n-th call that reads a file, or the n-th of LMDB.
 *
 * A test program is linked with a copy of libengine.a (and libfs.a) that calls these in the place of malloc() and its like: see the
 * Makefile, which makes it. What the test itself allocates, and what libraries do, never fails. Only the calls of the thread that
 * armed it are counted, so that each run has the same ones. (What changes files has its own seam: fault.h.)
 */
#ifndef MQFS_TEST_ALLOC_H
#define MQFS_TEST_ALLOC_H

#include <dirent.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* From now on the n-th allocation (from 1) of this thread gives NULL. */
void alloc_arm(uint64_t n);

/* The n-th does not fail, but this is called before it: what another thread may do just then. */
void alloc_arm_call(uint64_t n, void (*call)(void *ctx), void *ctx);

/* None fails any more. Returns how many were counted since it was armed; the same again if it is not armed. */
uint64_t alloc_disarm(void);

/* From now on the n-th call (from 1) of this thread that opens a file or directory that is there, or reads it, gives -1 and errno err. */
void alloc_arm_reads(uint64_t n, int err);

/* The same, but counted are only those of what has this in its path, and with EMFILE those that take a descriptor. */
void alloc_arm_reads_of(const char *path, uint64_t n, int err);

/* None fails any more. Returns how many were counted. */
uint64_t alloc_disarm_reads(void);

/* Before the n-th such call of this thread this one is made, by which something comes between. Until alloc_disarm_reads(). */
void alloc_before_read(uint64_t n, void (*call)(void));
void alloc_before_read_of(const char *path, uint64_t n, void (*call)(void));

/* From now on the n-th call of LMDB (from 1) of this thread gives rc. A commit that fails has ended its transaction, as LMDB has it. */
void alloc_arm_lmdb(uint64_t n, int rc);

/* None fails any more. Returns how many were counted. */
uint64_t alloc_disarm_lmdb(void);

/* Commits of this thread since its last mdb_env_sync(): what has none after them has its own, or may be lost. */
uint64_t alloc_lmdb_unsynced(void);

/* What the engine calls instead: the names that the Makefile gives them. */
void *alloc_malloc(size_t size);
void *alloc_calloc(size_t count, size_t size);
void *alloc_realloc(void *old, size_t size);
char *alloc_strdup(const char *text);
int alloc_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
DIR *alloc_fdopendir(int fd);
int alloc_openat64(int dirfd, const char *name, int flags, mode_t mode);
ssize_t alloc_pread64(int fd, void *buf, size_t size, off_t pos);
off_t alloc_lseek64(int fd, off_t pos, int whence);
struct dirent *alloc_readdir64(DIR *dir);
struct stat;
int alloc_fstat64(int fd, struct stat *st);
int alloc_fstatat64(int dirfd, const char *name, struct stat *st, int flags);
int alloc_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg), void *arg);
int alloc_mdb_env_create(MDB_env **ret_env);
int alloc_mdb_env_set_mapsize(MDB_env *env, size_t size);
int alloc_mdb_env_set_maxreaders(MDB_env *env, unsigned readers);
int alloc_mdb_env_set_flags(MDB_env *env, unsigned flags, int on);
int alloc_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int alloc_mdb_env_sync(MDB_env *env, int force);
int alloc_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret_txn);
int alloc_mdb_txn_commit(MDB_txn *txn);
int alloc_mdb_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *ret_dbi);
int alloc_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *ret_data);
int alloc_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags);
int alloc_mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data);
int alloc_mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **ret_cursor);
int alloc_mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op);

#endif
