#include "fs/fs.h"

void fs_pending_begin(struct fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	fs->pending++;
	pthread_mutex_unlock(&fs->lock);
}

void fs_pending_end(struct fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	if (--fs->pending == 0)
		pthread_cond_broadcast(&fs->settled);
	pthread_mutex_unlock(&fs->lock);
}

void fs_pending_wait(struct fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	while (fs->pending > 0)
		pthread_cond_wait(&fs->settled, &fs->lock);
	pthread_mutex_unlock(&fs->lock);
}
