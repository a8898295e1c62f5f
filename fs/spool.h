/*
 * spool - put/: a file that is created there becomes one message.
 *
 * While it is written it is an unnamed file in the store's directory (O_TMPFILE), so that programs may write, seek and
 * truncate as they like; at the last close its bytes are produced as one message, with the name as header `filename`, and
 * the file is gone. A name that waits (name_waits: a leading dot, .tmp, .part) keeps its file until a rename gives it
 * another name. The unnamed file goes with the daemon: what was not produced is no message yet.
 *
 * Programs touch a file after they closed it (install, tar: chmod and utimes by path). So the name of a message
 * that was produced stays findable for a while, for the process that made it and for nobody else: a ghost.
 *
 * What a process killed by a signal left open is dropped.
 */
#ifndef MQFS_FS_SPOOL_H
#define MQFS_FS_SPOOL_H

#include "fs/class.h"

struct spool;

struct spool *spool_new(const char *directory); /* NULL: no memory */
void spool_free(struct spool *spool);           /* NULL allowed; no handle is left */

/* Is there a file of this name in the topic's put/, as process pid sees it? */
bool spool_exists(struct spool *spool, uint64_t topic, uint64_t tx, const char *name, uint32_t pid);

/*
 * A new file, to be opened by class_spool; EEXIST if a file of that name is being written or waits. EDQUOT: the user has too
 * many, see engine_reason().
 */
int spool_create(
    struct fs *fs, uint64_t topic, uint64_t tx, const char *name, mode_t mode, const struct engine_cred *cred);

/* Attributes; what is set is only for the file's own sake: they do not travel with the message. ENOENT. */
int spool_stat(struct spool *spool, uint64_t topic, uint64_t tx, const char *name, struct stat *st);
int spool_setattr(struct fs *fs, uint64_t topic, uint64_t tx, const char *name, const struct stat *attr, int to_set);

int spool_unlink(struct spool *spool, uint64_t topic, uint64_t tx, const char *name); /* ENOENT */

/*
 * Renames within a put/: a file that waited and is closed is produced under the new name (if that does not wait as well);
 * an error of producing leaves it where it was. EEXIST if keep and the new name is taken; else what had it is dropped.
 */
int spool_rename(struct fs *fs, uint64_t topic, uint64_t tx, const char *name, const char *new_name, bool keep);

/* Calls each for the names that are being written or wait, from the item-th on. each returns false to stop. */
void spool_list(struct spool *spool, uint64_t topic, uint64_t tx, uint64_t item,
    bool (*each)(void *ctx, const char *name, uint64_t next_item), void *ctx);

#endif
