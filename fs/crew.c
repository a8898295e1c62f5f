#include "fs/crew.h"

static struct job *next_job(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	while (!crew->first && !crew->ending)
		pthread_cond_wait(&crew->changed, &crew->lock);
	struct job *job = crew->ending ? NULL : crew->first;
	if (job) {
		crew->first = job->next;
		if (!crew->first)
			crew->last = &crew->first;
	}
	pthread_mutex_unlock(&crew->lock);
	return job;
}

static void *work(void *arg)
{
	struct crew *crew = arg;
	for (struct job *job; (job = next_job(crew)) != NULL;)
		crew->work(job);
	return NULL;
}

int crew_start(struct crew *crew, unsigned count, void (*do_job)(struct job *job))
{
	int err = 0;
	*crew = (struct crew){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .work = do_job };
	crew->last = &crew->first;
	while (!err && crew->count < count && crew->count < CREW_MAX) {
		err = -pthread_create(&crew->threads[crew->count], NULL, work, crew);
		crew->count += !err;
	}
	return crew->count > 0 ? 0 : err;
}

void crew_add(struct crew *crew, struct job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&crew->lock);
	*crew->last = job;
	crew->last = &job->next;
	pthread_cond_signal(&crew->changed);
	pthread_mutex_unlock(&crew->lock);
}

void crew_stop(struct crew *crew)
{
	if (crew->count == 0)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->ending = true;
	pthread_cond_broadcast(&crew->changed);
	pthread_mutex_unlock(&crew->lock);
	while (crew->count > 0)
		pthread_join(crew->threads[--crew->count], NULL);
}
