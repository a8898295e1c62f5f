/*
 * local_stage - who has which staging file: a channel gets one, writes, and gives it back.
 *
 * Opening a channel must be cheap: a shell does it for every echo. So files are used again, and with them what the caller
 * has registered them by. If there is one of the same topic or queue, partition or priority, key, framing and process, as in a loop of a shell,
 * nothing has to be written at all: it goes on where it was. Else one gets another header. Files that lie idle are emptied a second later by the thread that looks after all of them (local_stage_watch.c), and
 * are removed when the engine is closed.
 *
 * A topic or queue has a list of the files that may hold messages for it. Whoever asks the engine for anything that messages
 * count in goes through stages_take() first, which costs one look at a counter where there is no such file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/local_stage.h"

#define SOME 64u /* files of a target that are looked at without allocating */

static struct stage *stage_of(struct engine_stage *base)
{
	return (struct stage *)base;
}

/* ---- lists ---- */

struct stage *stage_new(struct local *local, uint64_t number, int fd)
{
	struct stages *stages = local->stages;
	struct stage *stage = calloc(1, sizeof(*stage));
	struct stage **all;

	if (stage == NULL)
		return NULL;
	*stage = (struct stage){ .base = { .engine = &local->base },
		.local = local,
		.number = number,
		.fd = fd,
		.taken = STAGE_DATA,
		.scanned = STAGE_DATA,
		.recover_end = UINT64_MAX,
		.use = STAGE_GONE,
		.wd = -1 };
	pthread_mutex_init(&stage->lock, NULL);
	pthread_mutex_init(&stage->producer.lock, NULL);
	pthread_mutex_lock(&stages->lock);
	if (stages->count == stages->room) {
		all = realloc(stages->all, (stages->room * 2 + 16) * sizeof(struct stage *));
		if (all != NULL) {
			stages->all = all;
			stages->room = stages->room * 2 + 16;
		}
	}
	if (stages->count < stages->room && deadline_init(&stages->watch.deadlines, &stage->due) == 0) {
		stages->all[stages->count++] = stage;
	} else {
		free(stage);
		stage = NULL;
	}
	pthread_mutex_unlock(&stages->lock);
	return stage;
}

void stage_attach(struct stage *stage, struct object *target, enum stage_use use)
{
	struct stages *stages = stage->local->stages;

	pthread_mutex_lock(&stages->lock);
	stage->use = use;
	stage->next_of_target = NULL;
	if (target->stages == NULL)
		target->stages = stage;
	else
		target->last_stage->next_of_target = stage;
	target->last_stage = stage;
	atomic_fetch_add(&target->staged, 1);
	if (use == STAGE_ORPHAN)
		watch_due(stage, clock_mono_ms());
	pthread_mutex_unlock(&stages->lock);
}

void stage_bind(struct stage *stage, struct object *target)
{
	stage->target = target;
	stage->producer.of = ENGINE_TOPIC;
	stage->producer.topic = target->kind == ENGINE_TOPIC ? topic_of_object(target) : NULL;
	stage->producer.partition = stage->header.partition;
	stage->producer.key =
	    (struct engine_span){ stage->header.has_key ? stage->header.key : NULL, stage->header.key_len };
	stage->producer.turn_runs = stage->finishing = false;
}

/* For the next channel, and to be emptied if none comes. stages.lock */
static void make_idle(struct stage *stage)
{
	struct stages *stages = stage->local->stages;

	stage->use = STAGE_IDLE;
	stage->idle_ms = clock_mono_ms();
	stage->next_idle = stages->idle;
	stages->idle = stage;
	if (stage->header.id != 0)
		watch_due(stage, stage->idle_ms + STAGE_IDLE_MS);
}

/* The target's reference is the stage's to give up, with no lock held. */
void stage_detach(struct stage *stage, enum stage_use use)
{
	struct stages *stages = stage->local->stages;
	struct object *target;
	struct stage **link, *before = NULL;

	pthread_mutex_lock(&stage->lock);
	target = stage->target;
	stage->target = NULL;
	stage->producer.topic = NULL;
	pthread_mutex_lock(&stages->lock);
	for (link = &target->stages; *link != stage; link = &(*link)->next_of_target)
		before = *link;
	*link = stage->next_of_target;
	if (target->last_stage == stage)
		target->last_stage = before;
	atomic_fetch_sub(&target->staged, 1);
	stage->use = use;
	stage->watching = STAGE_UNWATCHED;
	if (use == STAGE_IDLE)
		make_idle(stage);
	pthread_mutex_unlock(&stages->lock);
	pthread_mutex_unlock(&stage->lock);
	target_left(target);
	object_put(target);
}

/* The files of a target, or all that are of one; more than room: then ret_list is to be freed. */
static size_t collect(struct stages *stages, struct object *target, struct stage **some, struct stage ***ret_list)
{
	struct stage **list = some;
	size_t count = 0, most;

	pthread_mutex_lock(&stages->lock);
	most = target != NULL ? atomic_load(&target->staged) : stages->count;
	if (most > SOME)
		list = malloc(most * sizeof(struct stage *));
	for (struct stage *stage = target != NULL ? target->stages : NULL; list != NULL && stage != NULL;
	     stage = stage->next_of_target)
		list[count++] = stage;
	for (size_t i = 0; list != NULL && target == NULL && i < stages->count; i++) {
		if (stages->all[i]->use == STAGE_OPEN || stages->all[i]->use == STAGE_ENDED ||
		    stages->all[i]->use == STAGE_ORPHAN)
			list[count++] = stages->all[i];
	}
	pthread_mutex_unlock(&stages->lock);
	*ret_list = list;
	return count;
}

void stages_take_slowly(struct local *local, struct object *target)
{
	struct stage *some[SOME], **list;
	size_t count;

	if (local->stages == NULL)
		return;
	count = collect(local->stages, target, some, &list);
	for (size_t i = 0; i < count; i++) {
		if (clock_mono_ms() >= atomic_load(&list[i]->retry_ms))
			(void)stage_take(list[i], STAGE_FOR_READER); /* its writer is told, and health */
	}
	if (list != some)
		free(list);
	engine_reason_clear();
}

/*
 * What the journal's old files said of a file, its new one has to say, on the disk, before they go; unless the file was emptied,
 * and that is on the disk.
 */
static int checkpoint_one(struct stage *stage, bool *noted)
{
	int rc = 0;

	pthread_mutex_lock(&stage->lock);
	if (stage->emptied) {
		rc = io->fsync(stage->fd);
		stage->emptied = rc < 0;
	}
	if (rc == 0 && stage->header.id != 0 && stage->taken > STAGE_DATA) {
		const struct stage_state state = stage_state_of(stage);

		rc = stage_note(stage, &state);
		*noted = true;
	}
	pthread_mutex_unlock(&stage->lock);
	return rc;
}

int stages_checkpoint(struct local *local)
{
	struct stages *stages = local->stages;
	bool noted = stages->replayed != NULL;
	int rc = stages_recheckpoint(local);

	for (size_t i = 0; rc == 0; i++) {
		struct stage *stage = NULL;

		pthread_mutex_lock(&stages->lock);
		if (i < stages->count)
			stage = stages->all[i];
		pthread_mutex_unlock(&stages->lock);
		if (stage == NULL)
			break;
		rc = checkpoint_one(stage, &noted);
	}
	return rc == 0 && noted ? journal_sync(local->journal) : rc;
}

/* ---- getting one ---- */

/* Out of the list of idle ones: one that was used the same way, or an empty one, or else the last that was looked at. */
static struct stage *pick_idle(struct stages *stages, const struct stage_header *wanted)
{
	struct stage **link, **best = NULL, *stage = NULL;
	unsigned int looked = 0;

	pthread_mutex_lock(&stages->lock);
	for (link = &stages->idle; *link != NULL && looked < SOME; link = &(*link)->next_idle) {
		if (best == NULL || (*best)->header.id != 0)
			best = link;
		if ((*link)->header.id != 0 && stage_header_same(&(*link)->header, wanted)) {
			best = link;
			break;
		}
		looked++;
	}
	if (best != NULL) {
		stage = *best;
		*best = stage->next_idle;
		stage->use = STAGE_GONE; /* until it is opened: the thread is not to look at it */
	}
	pthread_mutex_unlock(&stages->lock);
	return stage;
}

static struct stage *make_file(struct local *local)
{
	struct stages *stages = local->stages;
	struct stage *stage = NULL;
	char name[STAGE_NAME_SIZE];
	uint64_t number = 0;
	int fd = -EAGAIN;

	pthread_mutex_lock(&stages->lock);
	if (atomic_load(&local->warm.lent) < stages->limit)
		number = ++stages->next_number;
	pthread_mutex_unlock(&stages->lock);
	if (number == 0)
		return NULL;
	stage_name(name, number);
	fd = io->open(stages->dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return NULL;
	if (warm_lend(local, fd)) {
		stage = stage_new(local, number, fd);
		if (stage == NULL)
			warm_take_back(local);
	}
	if (stage == NULL) {
		close(fd);
		io->unlink(stages->dirfd, name, 0);
	}
	return stage;
}

/* Nothing is in it any more, and nobody can write to it. stage.lock */
static int empty(struct stage *stage)
{
	int rc = io->ftruncate(stage->fd, 0);

	if (rc < 0)
		return rc;
	stage->header.id = 0;
	stage->emptied = true;
	stage->taken = stage->scanned = STAGE_DATA;
	stage->punched = 0;
	stage->skipping = stage->finishing = stage->retract = false;
	stage->refused = 0;
	stage->err = 0;
	atomic_store(&stage->retry_ms, 0);
	atomic_store(&stage->seen, STAGE_DATA);
	return 0;
}

static int write_header(struct stage *stage, const struct stage_header *wanted)
{
	struct stages *stages = stage->local->stages;
	uint8_t bytes[STAGE_DATA];
	struct stage_header header = *wanted;
	int rc = empty(stage);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&stages->lock);
	header.id = ++stages->next_id;
	pthread_mutex_unlock(&stages->lock);
	clock_boot_id(header.boot_id);
	stage_header_put(bytes, stage->local->store.uuid, &header);
	rc = io_pwrite_all(stage->fd, bytes, sizeof(bytes), 0);
	if (rc == 0)
		stage->header = header;
	else
		(void)empty(stage);
	return rc;
}

/* A file that says what wanted does, empty or all taken; nobody else has it. */
static struct stage *get_file(struct local *local, const struct stage_header *wanted)
{
	struct stage *stage = pick_idle(local->stages, wanted);
	int rc = 0;

	if (stage == NULL)
		stage = make_file(local);
	if (stage == NULL)
		return NULL;
	pthread_mutex_lock(&stage->lock);
	if (stage->header.id == 0 || !stage_header_same(&stage->header, wanted))
		rc = write_header(stage, wanted);
	pthread_mutex_unlock(&stage->lock);
	if (rc == 0)
		return stage;
	pthread_mutex_lock(&local->stages->lock);
	make_idle(stage);
	pthread_mutex_unlock(&local->stages->lock);
	return NULL;
}

bool stage_has_room(const struct stages *stages, uint64_t bytes, uint64_t share)
{
	struct statvfs vfs;
	uint64_t total;

	if (fstatvfs(stages->dirfd, &vfs) < 0 || vfs.f_blocks == 0)
		return true;
	total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	return (uint64_t)vfs.f_bfree * vfs.f_frsize >= (total / share < bytes ? total / share : bytes);
}

/* Whether what is written now may be refused for nothing but its size. On a disk that is nearly full it may. */
static bool may_linger(const struct object *target)
{
	struct local *local = local_of(target);

	return target_lingers(target) && local->stages->dirfd >= 0 && !reserve_is_used(local) &&
	       stage_has_room(local->stages, STAGE_ROOM, STAGE_ROOM_SHARE);
}

static int stage_open(
    struct engine_producer *handle, char delimiter, const struct engine_cred *cred, struct engine_stage **ret_stage)
{
	struct stage_header wanted = { .cred = *cred, .delimiter = delimiter };
	struct object *target = target_of_producer(handle, &wanted), *object = NULL;
	struct stage *stage;
	bool lingers;
	int rc;

	if (target == NULL)
		return -EAGAIN;
	rc = object_enter_change(&target->base, target->kind, &object);
	if (rc < 0)
		return rc;
	/* Without the lock: most who get none are told here. Where a disk has failed each write is to say so. */
	if (!may_linger(target) || target_has_failed(target, wanted.partition))
		return -EAGAIN;
	stage = get_file(local_of(target), &wanted);
	if (stage == NULL)
		return -EAGAIN;
	pthread_mutex_lock(&stage->lock);
	stage_bind(stage, object_ref(target));
	pthread_mutex_unlock(&stage->lock);
	/* The settings do not become such that a message may be refused between the look and the list: see local_setting.c. */
	pthread_mutex_lock(&target->change);
	lingers = may_linger(target);
	stage_attach(stage, target, STAGE_OPEN);
	pthread_mutex_unlock(&target->change);
	if (!lingers) {
		stage_detach(stage, STAGE_IDLE);
		return -EAGAIN;
	}
	watch_begin(stage);
	*ret_stage = &stage->base;
	return 0;
}

static int stage_descriptor(struct engine_stage *base)
{
	struct local *local = stage_of(base)->local;
	char name[STAGE_NAME_SIZE];
	unsigned int tries = 0;
	int rc;

	stage_name(name, stage_of(base)->number);
	do
		rc = io_open_existing(local->stages->dirfd, name, O_RDONLY | O_NOFOLLOW);
	while (warm_again(local, rc, &tries));
	return rc;
}

/* ---- using it ---- */

static int take(struct engine_stage *base)
{
	struct stage *stage = stage_of(base);
	int rc;

	engine_reason_clear();
	rc = stage_take(stage, STAGE_WHOLE);
	pthread_mutex_lock(&stage->lock);
	if (rc == 0 && stage->refused > 0)
		rc = engine_explain(-EMSGSIZE, "a message is over max.message.bytes and was dropped");
	stage->refused = 0;
	pthread_mutex_unlock(&stage->lock);
	return rc;
}

static int part(struct engine_stage *base, struct engine_stage_part *ret_part)
{
	struct stage *stage = stage_of(base);
	struct stat st;

	if (fstat(stage->fd, &st) < 0)
		return -errno;
	pthread_mutex_lock(&stage->lock);
	ret_part->len = (uint64_t)st.st_size > stage->taken ? (uint64_t)st.st_size - stage->taken : 0;
	if (stage->skipping && ret_part->len == 0)
		ret_part->len = 1; /* of a message that is too long: dropping it ends that */
	ret_part->written_ms = st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	pthread_mutex_unlock(&stage->lock);
	return 0;
}

static int drop_part(struct engine_stage *base, uint64_t len)
{
	struct stage *stage = stage_of(base);
	uint64_t size = stage_size(stage), to;
	int rc;

	engine_reason_clear();
	pthread_mutex_lock(&stage->lock);
	to = stage->taken + len;
	rc = stage_drop(stage, to > size ? size : to);
	pthread_mutex_unlock(&stage->lock);
	return rc;
}

static int stage_close(struct engine_stage *base, bool finish)
{
	struct stage *stage = stage_of(base);
	bool told;
	int rc;

	engine_reason_clear();
	pthread_mutex_lock(&stage->lock);
	stage->finishing = finish;
	pthread_mutex_unlock(&stage->lock);
	rc = stage_take(stage, finish ? STAGE_FINISH : STAGE_WHOLE);
	if (!finish) {
		stage_detach(stage, STAGE_KEPT);
		return rc;
	}
	pthread_mutex_lock(&stage->lock);
	told = stage->refused > 0;
	stage->refused = 0;
	if ((rc == 0 || rc == -EIDRM) && stage->taken > STAGE_REUSE_MAX)
		(void)empty(stage); /* if not, whoever gets it next will */
	pthread_mutex_unlock(&stage->lock);
	if (rc == 0 || rc == -EIDRM) {
		stage_detach(stage, STAGE_IDLE);
	} else {
		pthread_mutex_lock(&stage->local->stages->lock);
		stage->use = STAGE_ENDED;
		stage->watching = STAGE_POLLED;
		watch_due(stage, clock_mono_ms() + STAGE_RETRY_MS);
		pthread_mutex_unlock(&stage->local->stages->lock);
	}
	return rc == 0 && told ? -EMSGSIZE : rc;
}

const struct engine_stage_ops local_stage_ops = {
	.open = stage_open,
	.descriptor = stage_descriptor,
	.take = take,
	.part = part,
	.drop_part = drop_part,
	.close = stage_close,
};

/* ---- life ---- */

void stages_clean(struct local *local, int64_t before_ms)
{
	struct stages *stages = local->stages;
	struct stage *list = NULL, **link, *stage;

	pthread_mutex_lock(&stages->lock);
	for (link = &stages->idle; *link != NULL;) {
		stage = *link;
		if (stage->header.id == 0 || stage->idle_ms > before_ms) {
			link = &stage->next_idle;
			continue;
		}
		*link = stage->next_idle;
		stage->use = STAGE_GONE;
		stage->next_idle = list;
		list = stage;
	}
	pthread_mutex_unlock(&stages->lock);
	while (list != NULL) {
		stage = list;
		list = stage->next_idle;
		pthread_mutex_lock(&stage->lock);
		(void)empty(stage); /* if not, next time */
		pthread_mutex_lock(&stages->lock);
		make_idle(stage);
		pthread_mutex_unlock(&stages->lock);
		pthread_mutex_unlock(&stage->lock);
	}
}

/* Together with the least that logs have, and what is kept for others, they are not more than there are. */
static size_t choose_limit(const struct local *local)
{
	size_t share = warm_share(local);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && share > limit.rlim_cur / STAGE_FILES_SHARE)
		share = (size_t)(limit.rlim_cur / STAGE_FILES_SHARE);
	return share > STAGE_FILES_MAX ? STAGE_FILES_MAX : share;
}

int stages_init(struct local *local)
{
	struct stages *stages = calloc(1, sizeof(*stages));
	int rc;

	if (stages == NULL)
		return -ENOMEM;
	stages->dirfd = -1;
	stages->limit = choose_limit(local);
	pthread_mutex_init(&stages->lock, NULL);
	pthread_mutex_init(&stages->scratch.lock, NULL);
	local->stages = stages;
	/* Ids that were never used before, whatever the clock says. */
	if (getrandom(&stages->next_id, sizeof(stages->next_id), 0) != sizeof(stages->next_id))
		stages->next_id = (uint64_t)clock_wall_ms() << 20;
	rc = watch_init(local);
	if (rc < 0 || local->read_only)
		return rc;
	io->mkdir(local->store.dirfd, STAGE_DIR, 0700); /* on a full disk: then without */
	stages->dirfd = io_open_existing(local->store.dirfd, STAGE_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	return 0;
}

int stages_start(struct local *local)
{
	int rc = stages_recover(local);

	return rc == 0 ? watch_start(local) : rc;
}

/* What has nothing in it, and what is all taken, goes; what may have a writer stays for the next opening. */
static void stop_one(struct stage *stage)
{
	struct stages *stages = stage->local->stages;
	bool ended = stage->use == STAGE_ENDED;
	char name[STAGE_NAME_SIZE];

	if (stage->use == STAGE_ORPHAN)
		stage_look_after(stage);
	if (stage->use == STAGE_ORPHAN || ended)
		stage_detach(stage,
		    stage_take(stage, ended ? STAGE_FINISH : STAGE_WHOLE) == 0 && ended ? STAGE_IDLE : STAGE_KEPT);
	if (stage->use == STAGE_IDLE) {
		stage_name(name, stage->number);
		io->unlink(stages->dirfd, name, 0);
	}
}

void stages_stop(struct local *local)
{
	if (local->stages == NULL)
		return;
	watch_stop(local);
	for (size_t i = 0; i < local->stages->count; i++)
		stop_one(local->stages->all[i]);
	if (local->stages->count > 0) {
		io->fsync(local->stages->dirfd);
		if (local->journal != NULL)
			(void)journal_sync(local->journal); /* before the logs are; if it failed, all else will tell */
	}
}

void stages_release(struct local *local)
{
	struct stages *stages = local->stages;

	if (stages == NULL)
		return;
	watch_release(stages);
	for (size_t i = 0; i < stages->count; i++) {
		struct stage *stage = stages->all[i];

		if (stage->fd >= 0)
			close(stage->fd);
		pthread_mutex_destroy(&stage->producer.lock);
		pthread_mutex_destroy(&stage->lock);
		free(stage);
	}
	free(stages->all);
	stages_forget_replayed(stages, true);
	if (stages->dirfd >= 0)
		close(stages->dirfd);
	stage_scratch_release(&stages->scratch.mem);
	pthread_mutex_destroy(&stages->scratch.lock);
	pthread_mutex_destroy(&stages->lock);
	free(stages);
	local->stages = NULL;
}
