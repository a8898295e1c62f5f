/*
 * tmpdir - a directory for one test, below TMPDIR or /tmp.
 */
#ifndef MQFS_TEST_TMPDIR_H
#define MQFS_TEST_TMPDIR_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

struct tmpdir {
	char path[PATH_MAX];
	int fd;
};

/* From now on they are in memory, if it can be: for tests with many stores, since the catalog syncs what it commits. */
void tmpdir_in_memory(void);
void tmpdir_on_disk(void); /* not after this: for what memory has not */

void tmpdir_make(struct tmpdir *dir);   /* aborts if it cannot */
void tmpdir_remove(struct tmpdir *dir); /* with all that is in it */

/* Copies the plain files of one directory into another. */
void tmpdir_copy(int from_dirfd, int to_dirfd);

/* A directory with all that is in it takes the place of another, if there is one. What is zero becomes a hole. */
void tmpdir_replace(const char *path, const char *by_path);

void tmpdir_clear(int dirfd); /* unlinks its plain files */

/* Whole files. get: malloc'ed; NULL if there is none. */
void tmpdir_put(int dirfd, const char *name, const void *bytes, size_t size);
uint8_t *tmpdir_get(int dirfd, const char *name, size_t *ret_size);

#endif
