#include "fs/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "fs/key.h"
#include "fs/process.h"
#include "fs/quota.h"
#include "fs/reply.h"

#define GHOSTS_MAX 1024u /* names of produced messages kept for their makers; each about 300 bytes */

struct spool_file {
	uint64_t topic, tx;
	char name[ENGINE_KEY_MAX + 1];
	int fd;                  /* -1: a ghost */
	struct engine_cred cred; /* of who made it */
	struct quota_user *user; /* the same: who is charged for the file; NULL: a ghost */
	uint64_t charged;        /* bytes */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec atime, mtime;
	unsigned opens; /* handles that have it */
	bool gone;      /* unlinked or dropped: freed with its last handle */
	bool refused;   /* a write, or giving it a size, failed: what is there is not the whole message */
	struct spool_file *prev, *next;
};

struct spool {
	pthread_mutex_t lock; /* everything in here */
	char *directory;
	struct spool_file *files; /* in order of creation: those that are not gone, ghosts too */
	unsigned ghosts;
};

struct spool_handle {
	struct handle handle;
	struct spool_file *file;
};

static struct timespec wall_now(void)
{
	int64_t ms = clock_wall_ms();
	return (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
}

struct spool *spool_new(const char *directory)
{
	struct spool *spool = calloc(1, sizeof *spool);
	if (!spool)
		return NULL;
	if (asprintf(&spool->directory, "%s/.", directory) < 0) { /* also where it is a link to one */
		free(spool);
		return NULL;
	}
	pthread_mutex_init(&spool->lock, NULL);
	return spool;
}

static void close_file(struct spool_file *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	file->fd = -1;
	quota_charge(file->user, QUOTA_PART_BYTES, &file->charged, 0);
	quota_leave(file->user, QUOTA_PUT_FILES);
	file->user = NULL;
}

static void free_file(struct spool_file *file)
{
	close_file(file);
	free(file);
}

void spool_free(struct spool *spool)
{
	if (!spool)
		return;
	struct spool_file *file, *next;
	DL_FOREACH_SAFE(spool->files, file, next)
	free_file(file);
	free(spool->directory);
	pthread_mutex_destroy(&spool->lock);
	free(spool);
}

/* pid 0: files only; else also the ghosts of that process. */
static struct spool_file *find_locked(struct spool *spool, uint64_t topic, uint64_t tx, const char *name, uint32_t pid)
{
	struct spool_file *file;
	DL_FOREACH (spool->files, file)
		if (file->topic == topic && file->tx == tx && strcmp(file->name, name) == 0 &&
		    (file->fd >= 0 || file->cred.pid == pid))
			return file;
	return NULL;
}

/* Takes a file out of the list; it lives on as long as a handle has it. */
static void drop_locked(struct spool *spool, struct spool_file *file)
{
	if (file->gone)
		return;
	DL_DELETE(spool->files, file);
	if (file->fd < 0)
		spool->ghosts--;
	file->gone = true;
	if (file->opens == 0)
		free_file(file);
}

/* Its message is produced: what is left is the name, for its maker. The oldest ghost makes room. */
static void make_ghost_locked(struct spool *spool, struct spool_file *file)
{
	struct spool_file *oldest;
	close_file(file);
	if (spool->ghosts++ < GHOSTS_MAX)
		return;
	DL_FOREACH (spool->files, oldest)
		if (oldest->fd < 0 && oldest != file)
			break;
	if (oldest)
		drop_locked(spool, oldest);
}

bool spool_exists(struct spool *spool, uint64_t topic, uint64_t tx, const char *name, uint32_t pid)
{
	pthread_mutex_lock(&spool->lock);
	bool there = find_locked(spool, topic, tx, name, pid) != NULL;
	pthread_mutex_unlock(&spool->lock);
	return there;
}

static int unnamed_file(const struct spool *spool)
{
	return io_open_unnamed(AT_FDCWD, spool->directory, "mqfs-put");
}

/* Its descriptor, and who is charged for that. */
static int make_file(struct fs *fs, const struct engine_cred *cred, struct spool_file *file)
{
	int err = quota_enter(fs->quota, cred->uid, QUOTA_PUT_FILES, &file->user);
	if (err)
		return err;
	file->fd = unnamed_file(fs->spool);
	if (file->fd == -EMFILE && fs->engine->ops->give_files(fs->engine))
		file->fd = unnamed_file(fs->spool);
	if (file->fd < 0)
		quota_leave(file->user, QUOTA_PUT_FILES);
	return file->fd < 0 ? file->fd : 0;
}

int spool_create(
    struct fs *fs, uint64_t topic, uint64_t tx, const char *name, mode_t mode, const struct engine_cred *cred)
{
	struct spool *spool = fs->spool;
	struct spool_file *file = calloc(1, sizeof *file);
	if (!file)
		return -ENOMEM;
	int err = make_file(fs, cred, file);
	if (err) {
		free(file);
		return err;
	}
	file->topic = topic;
	file->tx = tx;
	snprintf(file->name, sizeof file->name, "%s", name);
	file->cred = *cred;
	file->mode = mode & 0777;
	file->uid = cred->uid;
	file->gid = cred->gid;
	file->mtime = wall_now();
	file->atime = file->mtime;
	pthread_mutex_lock(&spool->lock);
	struct spool_file *there = find_locked(spool, topic, tx, name, cred->pid);
	if (there && there->fd < 0) {
		drop_locked(spool, there);
		there = NULL;
	}
	if (!there)
		DL_APPEND(spool->files, file);
	pthread_mutex_unlock(&spool->lock);
	if (there)
		free_file(file);
	return there ? -EEXIST : 0;
}

int spool_stat(struct spool *spool, uint64_t topic, uint64_t tx, const char *name, struct stat *st)
{
	struct stat real = { 0 };
	pthread_mutex_lock(&spool->lock);
	struct spool_file *file = find_locked(spool, topic, tx, name, 0);
	if (!file) { /* a ghost: lookup has made sure that it is the caller's */
		DL_FOREACH (spool->files, file)
			if (file->topic == topic && file->tx == tx && strcmp(file->name, name) == 0)
				break;
	}
	int err = file ? 0 : -ENOENT;
	if (file && file->fd >= 0 && fstat(file->fd, &real))
		err = -errno;
	if (!err) {
		st->st_mode = S_IFREG | file->mode;
		st->st_uid = file->uid;
		st->st_gid = file->gid;
		st->st_size = real.st_size;
		st->st_blocks = real.st_blocks;
		st->st_atim = file->atime;
		st->st_mtim = file->mtime;
	}
	pthread_mutex_unlock(&spool->lock);
	return err;
}

static size_t message_limit(struct fs *fs, uint64_t topic)
{
	struct engine_object *object;
	struct engine_identity identity;
	char value[ENGINE_VALUE_MAX] = "0";
	if (fs->engine->ops->get(fs->engine, topic, &object))
		return 0;
	if (fs->engine->ops->identity(object, &identity) ||
	    fs->engine->ops->get_setting(object, engine_setting_find(identity.kind, "max.message.bytes"), value))
		strcpy(value, "0");
	fs->engine->ops->put(object);
	return (size_t)strtoull(value, NULL, 10);
}

/* Of a queue that refuses: EDQUOT while there is no room for a message of this size; of a topic that wants keys: EINVAL. */
static int check_room(struct fs *fs, uint64_t id, uint64_t size)
{
	struct engine_object *object;
	struct engine_identity identity;
	int err = fs->engine->ops->get(fs->engine, id, &object);
	if (err)
		return err == -ENOENT ? -EIDRM : err;
	err = fs->engine->ops->identity(object, &identity);
	if (!err)
		err = fs->engine->ops->room(fs->engine, size);
	if (!err && identity.kind == ENGINE_QUEUE)
		err = fs->engine->ops->queue->room(object, size, NULL);
	if (!err && key_is_compacted(object))
		err = engine_explain(
		    -EINVAL, "a message of a compacted topic needs a key: write to keys/KEY, or to in.json");
	fs->engine->ops->put(object);
	return err;
}

static int set_size(struct fs *fs, uint64_t topic, uint64_t tx, const char *name, off_t size)
{
	if (size < 0 || (size_t)size > message_limit(fs, topic))
		return -EMSGSIZE;
	pthread_mutex_lock(&fs->spool->lock);
	struct spool_file *file = find_locked(fs->spool, topic, tx, name, 0);
	int err = file ? quota_charge(file->user, QUOTA_PART_BYTES, &file->charged, (uint64_t)size) : -ENOENT;
	if (!err)
		err = io->ftruncate(file->fd, size);
	if (file && err && file->opens > 0)
		file->refused = true;
	pthread_mutex_unlock(&fs->spool->lock);
	return err;
}

static void set_times(struct spool_file *file, const struct stat *attr, int to_set)
{
	const struct timespec now = wall_now();
	if (to_set & FUSE_SET_ATTR_ATIME)
		file->atime = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		file->atime = now;
	if (to_set & FUSE_SET_ATTR_MTIME)
		file->mtime = attr->st_mtim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		file->mtime = now;
}

int spool_setattr(struct fs *fs, uint64_t topic, uint64_t tx, const char *name, const struct stat *attr, int to_set)
{
	if (to_set & FUSE_SET_ATTR_SIZE) {
		int err = set_size(fs, topic, tx, name, attr->st_size);
		if (err)
			return err;
	}
	pthread_mutex_lock(&fs->spool->lock);
	struct spool_file *file;
	DL_FOREACH (fs->spool->files, file) {
		if (file->topic != topic || file->tx != tx || strcmp(file->name, name) != 0)
			continue;
		if (to_set & FUSE_SET_ATTR_MODE)
			file->mode = attr->st_mode & 0777;
		if (to_set & FUSE_SET_ATTR_UID)
			file->uid = attr->st_uid;
		if (to_set & FUSE_SET_ATTR_GID)
			file->gid = attr->st_gid;
		set_times(file, attr, to_set);
	}
	pthread_mutex_unlock(&fs->spool->lock);
	return 0;
}

int spool_unlink(struct spool *spool, uint64_t topic, uint64_t tx, const char *name)
{
	pthread_mutex_lock(&spool->lock);
	struct spool_file *file = find_locked(spool, topic, tx, name, 0);
	if (!file)
		DL_FOREACH (spool->files, file)
			if (file->topic == topic && file->tx == tx && strcmp(file->name, name) == 0)
				break;
	if (file)
		drop_locked(spool, file);
	pthread_mutex_unlock(&spool->lock);
	return file ? 0 : -ENOENT;
}

/* ---------------------------------------------------------------------------------------------- producing */

static int read_whole(int fd, char *buf, size_t size)
{
	int err = io_pread_all(fd, buf, size, 0);
	return err == -ENODATA ? -EIO : err;
}

static int open_staging(
    struct fs *fs, const struct spool_file *file, struct engine_object *target, struct engine_producer **ret_producer)
{
	const struct engine_ops *ops = fs->engine->ops;
	struct engine_object *tx;
	int err = ops->get(fs->engine, file->tx, &tx);
	if (err)
		return err == -ENOENT ? -EIDRM : err;
	err = ops->tx->producer_open(tx, target, ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, ret_producer);
	ops->put(tx);
	return err;
}

static int send_message(struct fs *fs, const struct spool_file *file, char *data, size_t size)
{
	const struct engine_ops *ops = fs->engine->ops;
	const struct engine_header filename = { { "filename", strlen("filename") },
		{ file->name, strlen(file->name) } };
	struct engine_props props = ENGINE_PROPS_INIT;
	uint32_t length = (uint32_t)size;
	props.headers = &filename;
	props.header_count = 1;
	const struct engine_batch batch = { .data = data,
		.len = size + 1,
		.count = 1,
		.lengths = &length,
		.props = &props,
		.cred = file->cred,
		.ts_ms = -1 };
	struct engine_object *topic;
	struct engine_producer *producer;
	int err = ops->get(fs->engine, file->topic, &topic);
	if (err)
		return err == -ENOENT ? -EIDRM : err;
	struct engine_identity identity;
	err = ops->identity(topic, &identity);
	if (!err && file->tx != 0)
		err = open_staging(fs, file, topic, &producer);
	else if (!err && identity.kind == ENGINE_QUEUE)
		err = ops->queue->producer_open(topic, ENGINE_ANY, false, &producer);
	else if (!err)
		err = ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ NULL, 0 }, &producer);
	if (!err) {
		err = ops->producer_send(producer, &batch, NULL);
		ops->producer_close(producer);
	}
	ops->put(topic);
	return err;
}

/* Produces the file's bytes as a message. The caller keeps it from changing. */
static int produce(struct fs *fs, const struct spool_file *file)
{
	struct stat st;
	if (fstat(file->fd, &st))
		return -errno;
	size_t size = (size_t)st.st_size;
	if (size > message_limit(fs, file->topic))
		return -EMSGSIZE;
	char *data = malloc(size + 1);
	if (!data)
		return -ENOMEM;
	int err = read_whole(file->fd, data, size);
	data[size] = '\n';
	if (!err)
		err = FAILPOINT("put_before_produce");
	if (!err)
		err = send_message(fs, file, data, size);
	CRASHPOINT("put_after_produce");
	free(data);
	return err;
}

int spool_rename(struct fs *fs, uint64_t topic, uint64_t tx, const char *name, const char *new_name, bool keep)
{
	struct spool *spool = fs->spool;
	int err = -ENOENT;
	pthread_mutex_lock(&spool->lock);
	struct spool_file *file = find_locked(spool, topic, tx, name, 0);
	struct spool_file *there = find_locked(spool, topic, tx, new_name, 0);
	if (!file)
		goto out;
	err = 0;
	if (there == file)
		goto out;
	err = -EEXIST;
	if (there && keep)
		goto out;
	char old_name[sizeof file->name];
	strcpy(old_name, file->name);
	snprintf(file->name, sizeof file->name, "%s", new_name);
	err = 0;
	if (file->opens == 0 && !name_waits(new_name)) {
		/* Held while producing: the file must not change, and nobody is to see it under two names. */
		err = produce(fs, file);
		if (!err)
			make_ghost_locked(spool, file);
		else
			strcpy(file->name, old_name);
	}
	if (!err && there)
		drop_locked(spool, there);
out:
	pthread_mutex_unlock(&spool->lock);
	return err;
}

void spool_list(struct spool *spool, uint64_t topic, uint64_t tx, uint64_t item,
    bool (*each)(void *ctx, const char *name, uint64_t next_item), void *ctx)
{
	uint64_t index = 0;
	struct spool_file *file;
	pthread_mutex_lock(&spool->lock);
	DL_FOREACH (spool->files, file) {
		if (file->topic != topic || file->tx != tx || file->fd < 0)
			continue;
		if (index++ < item)
			continue;
		if (!each(ctx, file->name, index))
			break;
	}
	pthread_mutex_unlock(&spool->lock);
}

/* --------------------------------------------------------------------------------------------------- class */

static int spool_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	struct spool_handle *handle = calloc(1, sizeof *handle);
	if (!handle)
		return -ENOMEM;
	int err = handle_init(&handle->handle, fs, node, flags, cred);
	if (err) {
		free(handle);
		return err;
	}
	pthread_mutex_lock(&fs->spool->lock);
	struct spool_file *file = find_locked(fs->spool, node->object, node->tx, node->name, 0);
	if (!file && (flags & O_ACCMODE) != O_RDONLY) {
		/* A ghost, which its maker opens again: the next message of that name. */
		pthread_mutex_unlock(&fs->spool->lock);
		err = spool_create(fs, node->object, node->tx, node->name, 0666, cred);
		pthread_mutex_lock(&fs->spool->lock);
		file = find_locked(fs->spool, node->object, node->tx, node->name, 0);
	}
	err = file ? 0 : err ? err : -ENOENT;
	if (file && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) {
		err = io->ftruncate(file->fd, 0);
		if (!err)
			err = quota_charge(file->user, QUOTA_PART_BYTES, &file->charged, 0);
	}
	if (!err)
		file->opens++;
	pthread_mutex_unlock(&fs->spool->lock);
	handle->file = file;
	if (err) {
		handle_release(&handle->handle);
		free(handle);
		return err;
	}
	*ret_handle = &handle->handle;
	return 0;
}

static void spool_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags)
{
	(void)flags;
	struct spool_file *file = ((struct spool_handle *)handle)->file;
	char *buf = malloc(size);
	ssize_t got = buf ? io->pread(file->fd, buf, size, offset) : -ENOMEM;
	if (got < 0)
		reply_handle_error(handle, req, (int)got, NULL);
	else
		fuse_reply_buf(req, buf, (size_t)got);
	free(buf);
}

static int charge_up_to(struct spool *spool, struct spool_file *file, uint64_t end)
{
	pthread_mutex_lock(&spool->lock);
	int err = end > file->charged ? quota_charge(file->user, QUOTA_PART_BYTES, &file->charged, end) : 0;
	pthread_mutex_unlock(&spool->lock);
	return err;
}

static void spool_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset)
{
	struct spool_file *file = ((struct spool_handle *)handle)->file;
	uint64_t end = (uint64_t)offset + size;
	int err = -EMSGSIZE;
	if (end <= message_limit(handle->fs, handle->object))
		err = check_room(handle->fs, handle->object, end);
	if (!err)
		err = charge_up_to(handle->fs->spool, file, end);
	if (!err)
		err = io_pwrite_all(file->fd, buf, size, offset);
	pthread_mutex_lock(&handle->fs->spool->lock);
	file->refused = err < 0;
	file->mtime = wall_now();
	pthread_mutex_unlock(&handle->fs->spool->lock);
	if (err < 0)
		reply_handle_error(handle, req, err, NULL);
	else
		fuse_reply_write(req, size);
}

/* A writer that a signal killed leaves half a file: it is dropped. */
static int spool_flush(struct handle *handle, uint32_t pid)
{
	if ((handle->open_flags & O_ACCMODE) == O_RDONLY || !process_is_killed(pid) ||
	    !process_is_same(pid, handle->cred.pid))
		return 0;
	pthread_mutex_lock(&handle->fs->spool->lock);
	drop_locked(handle->fs->spool, ((struct spool_handle *)handle)->file);
	pthread_mutex_unlock(&handle->fs->spool->lock);
	return 0;
}

static void spool_release(struct handle *handle)
{
	struct fs *fs = handle->fs;
	struct spool *spool = fs->spool;
	struct spool_file *file = ((struct spool_handle *)handle)->file;
	char path[1024], reason[256];
	int err = 0;
	pthread_mutex_lock(&spool->lock);
	bool last = --file->opens == 0;
	if (last && file->refused && !file->gone) {
		drop_locked(spool, file);
		last = false;
	}
	if (last && file->gone) {
		free_file(file);
	} else if (last && !fs->ending && !name_waits(file->name)) {
		err = produce(fs, file);
		if (!err) {
			make_ghost_locked(spool, file);
		} else if (err == -ENOMEM) { /* nobody can be told any more: it is not lost */
			snprintf(reason, sizeof reason,
			    "no memory to produce it: it stays in put/ until it is renamed or closed again");
		} else {
			snprintf(reason, sizeof reason, "%s", engine_reason());
			drop_locked(spool, file);
		}
	}
	pthread_mutex_unlock(&spool->lock);
	if (err) {
		reply_path(fs, handle->tx, handle->object, handle->path, FRAME_LINE, path, sizeof path);
		report_error(fs, err, &handle->cred, path, reason);
	}
	handle_release(handle);
	free(handle);
}

static int spool_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	return spool_stat(fs->spool, node->object, node->tx, node->name, st);
}

const struct file_class class_spool = {
	.open = spool_open,
	.read = spool_read,
	.write = spool_write,
	.flush = spool_flush,
	.release = spool_release,
	.attr = spool_attr,
};
