#include "tests/lib/contract.h"

#include <time.h>

#include "tests/lib/alloc.h"

/* ---- allocations that fail ---- */

bool contract_allocs_fail;
static _Thread_local unsigned depth; /* calls under test one within another: the outermost has the failures */

static void begin_call(uint64_t n)
{
	if (depth++ == 0 && contract_allocs_fail)
		alloc_arm(n);
}

bool contract_again(uint64_t *n, bool refused)
{
	bool reached = true;

	if (*n > 0) {
		if (--depth == 0 || refused)
			reached = (alloc_disarm() >= *n && contract_allocs_fail) || depth > 0;
		if (!refused || !reached)
			return false;
	}
	begin_call(++*n);
	return true;
}

bool contract_look_again(uint64_t *n)
{
	if (*n > 0 && (--depth > 0 || alloc_disarm() < *n || !contract_allocs_fail))
		return false;
	begin_call(++*n);
	return true;
}

void contract_called(void)
{
	alloc_disarm();
}

/* ---- life ---- */

static int64_t lease(void *ctx, uint32_t uid, uint32_t count)
{
	struct contract *c = ctx;
	uint64_t limit = uid > 0 && c->leases.limit > 0 ? c->leases.limit : UINT64_MAX;
	int64_t granted = count;

	cr_assert(uid < CONTRACT_USERS && count > 0);
	pthread_mutex_lock(&c->leases.lock);
	if (c->leases.held[uid] >= limit)
		granted = engine_explain(-EDQUOT, "the user has enough");
	else if (count > limit - c->leases.held[uid])
		granted = (int64_t)(limit - c->leases.held[uid]);
	if (granted > 0)
		c->leases.held[uid] += (uint64_t)granted;
	pthread_mutex_unlock(&c->leases.lock);
	return granted;
}

static void unlease(void *ctx, uint32_t uid, uint32_t count)
{
	struct contract *c = ctx;

	pthread_mutex_lock(&c->leases.lock);
	cr_assert(uid < CONTRACT_USERS && c->leases.held[uid] >= count);
	c->leases.held[uid] -= count;
	pthread_mutex_unlock(&c->leases.lock);
}

static int enter(void *ctx, uint32_t uid, void **ret_user)
{
	struct contract *c = ctx;
	struct contract_user *user = &c->users[uid % CONTRACT_USERS];
	bool refused;

	pthread_mutex_lock(&c->leases.lock);
	refused = c->tx_limit > 0 && user->open >= c->tx_limit;
	user->open += !refused;
	pthread_mutex_unlock(&c->leases.lock);
	user->contract = c;
	*ret_user = user;
	return refused ? engine_explain(-EDQUOT, "the user has enough") : 0;
}

static int charge(void *ctx, uint64_t *charged, uint64_t bytes)
{
	struct contract_user *user = ctx;
	struct contract *c = user->contract;
	bool refused;

	pthread_mutex_lock(&c->leases.lock);
	cr_assert_geq(user->bytes, *charged);
	refused = bytes > *charged && c->tx_bytes > 0 && user->bytes - *charged + bytes > c->tx_bytes;
	if (!refused) {
		user->bytes += bytes - *charged;
		*charged = bytes;
	}
	pthread_mutex_unlock(&c->leases.lock);
	return refused ? engine_explain(-EDQUOT, "the user has enough") : 0;
}

static void leave(void *ctx)
{
	struct contract_user *user = ctx;

	pthread_mutex_lock(&user->contract->leases.lock);
	cr_assert_gt(user->open--, 0);
	pthread_mutex_unlock(&user->contract->leases.lock);
}

static bool unlimited(void *ctx, uint32_t uid)
{
	(void)ctx;
	return uid == 0;
}

static int keep(void *ctx, uint32_t uid, enum engine_keep how)
{
	struct contract *c = ctx;
	bool refused;

	pthread_mutex_lock(&c->leases.lock);
	refused = how != ENGINE_KEEP_THERE && c->object_limit > 0 && uid != 0 &&
		  c->kept[uid % CONTRACT_USERS] >= c->object_limit;
	c->kept[uid % CONTRACT_USERS] += !refused;
	c->keep_refused += refused && how == ENGINE_KEEP_ANEW;
	pthread_mutex_unlock(&c->leases.lock);
	return refused ? engine_explain(-EDQUOT, "the user has enough") : 0;
}

static void unkeep(void *ctx, uint32_t uid)
{
	struct contract *c = ctx;

	pthread_mutex_lock(&c->leases.lock);
	cr_assert_gt(c->kept[uid % CONTRACT_USERS]--, 0);
	pthread_mutex_unlock(&c->leases.lock);
}

static void open_as(struct contract *c, bool read_only)
{
	struct engine_options options = { .create = true,
		.read_only = read_only,
		.root_owner = { 7, 8, 0755 },
		.users = { c, enter, charge, leave, lease, unlease, keep, unkeep, unlimited } };

	memset(c->leases.held, 0, sizeof(c->leases.held));
	memset(c->users, 0, sizeof(c->users));
	memset(c->kept, 0, sizeof(c->kept));
	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
}

void contract_open(struct contract *c)
{
	open_as(c, false);
}

void contract_open_read_only(struct contract *c)
{
	open_as(c, true);
}

void contract_close(struct contract *c)
{
	int rc;

	c->ops->put(c->root);
	rc = c->ops->close(c->engine); /* once: it is gone, whatever it says */
	cr_assert_eq(rc, 0, "close is %d: %s", rc, engine_reason());
	c->engine = NULL;
	for (uint32_t uid = 0; uid < CONTRACT_USERS; uid++)
		cr_assert_eq(c->leases.held[uid], 0, "user %" PRIu32 " still has %" PRIu64, uid, c->leases.held[uid]);
	for (uint32_t uid = 0; uid < CONTRACT_USERS; uid++)
		cr_assert_eq(c->kept[uid], 0, "user %" PRIu32 " still has %" PRIu64 " objects", uid, c->kept[uid]);
	for (uint32_t uid = 0; uid < CONTRACT_USERS; uid++)
		cr_assert(c->users[uid].open == 0 && c->users[uid].bytes == 0,
		    "user %" PRIu32 " still has %" PRIu64 " transactions and %" PRIu64 " bytes in them", uid,
		    c->users[uid].open, c->users[uid].bytes);
}

void contract_reopen(struct contract *c)
{
	contract_close(c);
	contract_open(c);
}

void contract_run(bool persists, void (*test)(struct contract *c))
{
	struct contract *c = calloc(1, sizeof(*c));

	cr_assert_not_null(c);
	c->persists = persists;
	strcpy(c->source, "memory:");
	tmpdir_in_memory(); /* on a disk it waits, and finds no more: disks are for the tests of modules and mounts */
	if (persists) {
		tmpdir_make(&c->dir);
		snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	}
	contract_open(c);
	test(c);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	if (persists)
		tmpdir_remove(&c->dir);
	free(c);
}

/* ---- objects ---- */

static struct engine_object *create(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	struct engine_owner owner = { 1000, 100, 0750 };
	struct engine_object *object = NULL;

	assert_ok(c->ops->create(c->engine, parent, kind, name, &owner, &object));
	cr_assert_not_null(object);
	return object;
}

struct engine_object *contract_topic(struct contract *c, const char *name, uint32_t partitions)
{
	struct engine_object *topic = create(c, c->root, ENGINE_TOPIC, name);
	char value[16];

	snprintf(value, sizeof(value), "%" PRIu32, partitions);
	assert_ok(contract_set(c, topic, "partitions", value));
	return topic;
}

struct engine_object *contract_group(struct contract *c, struct engine_object *topic, const char *name)
{
	return create(c, topic, ENGINE_GROUP, name);
}

struct engine_object *contract_lookup(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	struct engine_object *object = NULL;

	assert_ok(c->ops->lookup(c->engine, parent, kind, name, &object));
	return object;
}

uint64_t contract_id(struct contract *c, struct engine_object *object)
{
	struct engine_identity identity;

	assert_ok(c->ops->identity(object, &identity));
	return identity.id;
}

struct engine_stat contract_stat(struct contract *c, struct engine_object *object)
{
	struct engine_stat stat;

	memset(&stat, 0xaa, sizeof(stat));
	assert_ok(c->ops->stat(object, &stat));
	return stat;
}

struct engine_partition_stat contract_partition(struct contract *c, struct engine_object *topic, uint32_t partition)
{
	struct engine_partition_stat stat;

	memset(&stat, 0xaa, sizeof(stat));
	assert_ok(c->ops->partition_stat(topic, partition, &stat));
	return stat;
}

/* ---- settings ---- */

static const struct engine_setting *find_setting(const char *name)
{
	const struct engine_setting *setting = engine_setting_find(ENGINE_TOPIC, name);

	if (setting == NULL)
		setting = engine_setting_find(ENGINE_GROUP, name);
	cr_assert_not_null(setting, "there is no setting %s", name);
	return setting;
}

int contract_set(struct contract *c, struct engine_object *object, const char *name, const char *value)
{
	return c->ops->set_setting(object, find_setting(name), value);
}

const char *contract_get(struct contract *c, struct engine_object *object, const char *name)
{
	assert_ok(c->ops->get_setting(object, find_setting(name), c->text));
	return c->text;
}

/* ---- producing ---- */

struct contract_done {
	struct engine_done done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned calls;
	int result;
};

static void complete(struct engine_done *done, int result)
{
	struct contract_done *self = (struct contract_done *)done;

	pthread_mutex_lock(&self->lock);
	self->calls++;
	self->result = result;
	pthread_cond_signal(&self->changed);
	pthread_mutex_unlock(&self->lock);
}

/* When what is waited for now is taken never to happen. */
static struct timespec soon(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CONTRACT_WAIT_MS / 1000;
	return until;
}

/* The result of a call that returned rc and may complete later. */
static int settle(struct contract_done *done, int rc)
{
	struct timespec until = soon();
	int late = 0;

	if (rc != ENGINE_PENDING)
		return rc;
	pthread_mutex_lock(&done->lock);
	while (done->calls == 0 && late == 0)
		late = pthread_cond_timedwait(&done->changed, &done->lock, &until);
	pthread_mutex_unlock(&done->lock);
	return done->calls == 1 ? done->result : -ETIMEDOUT;
}

#define DONE_INIT                                                                                                      \
	{                                                                                                              \
		.done = { complete }, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER           \
	}

int contract_send_batch(struct contract *c, struct engine_producer *producer, const struct engine_batch *batch)
{
	struct contract_done done = DONE_INIT;

	return settle(&done, c->ops->producer_send(producer, batch, &done.done));
}

int contract_sync(struct contract *c, struct engine_producer *producer)
{
	struct contract_done done = DONE_INIT;

	return settle(&done, c->ops->producer_sync(producer, &done.done));
}

int contract_sync_group(struct contract *c, struct engine_object *group)
{
	struct contract_done done = DONE_INIT;

	return settle(&done, c->ops->group_sync(group, &done.done));
}

struct engine_batch contract_batch(const char *lines)
{
	struct engine_batch batch = { .data = lines, .len = strlen(lines), .ts_ms = -1 };

	for (const char *p = lines; *p != '\0'; p++)
		batch.count += *p == '\n';
	return batch;
}

struct engine_producer *contract_producer(struct contract *c, struct engine_object *topic, uint32_t partition)
{
	struct engine_producer *producer = NULL;

	assert_ok(c->ops->producer_open(topic, partition, (struct engine_span){ NULL, 0 }, &producer));
	return producer;
}

void contract_send_at(
    struct contract *c, struct engine_object *topic, uint32_t partition, int64_t ts_ms, const char *lines)
{
	struct engine_producer *producer = contract_producer(c, topic, partition);
	struct engine_batch batch = contract_batch(lines);

	batch.ts_ms = ts_ms;
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

void contract_send(struct contract *c, struct engine_object *topic, uint32_t partition, const char *lines)
{
	contract_send_at(c, topic, partition, -1, lines);
}

/* ---- reading ---- */

struct writer {
	char *text;
	size_t used;
};

static void put(struct writer *w, const char *data, size_t len)
{
	cr_assert_lt(w->used + len, CONTRACT_TEXT);
	memcpy(w->text + w->used, data, len);
	w->used += len;
	w->text[w->used] = '\0';
}

/* Adds the messages of a view, and checks that it is in itself what engine.h says of one. */
static void put_view(struct writer *w, const struct engine_view *view, bool with_partition)
{
	const struct engine_batch *batch = &view->batch;
	const char *data = batch->data;

	cr_assert_geq(batch->count, 1);
	cr_assert_not_null(batch->lengths);
	cr_assert_geq(batch->ts_ms, 0);
	for (uint32_t i = 0; i < batch->count; i++) {
		char prefix[64];

		if (with_partition)
			snprintf(prefix, sizeof(prefix), "%" PRIu32 ":%" PRIu64 "=", view->partition, view->offset + i);
		else
			snprintf(prefix, sizeof(prefix), "%" PRIu64 "=", view->offset + i);
		if (w->used > 0)
			put(w, " ", 1);
		put(w, prefix, strlen(prefix));
		put(w, data, batch->lengths[i]);
		cr_assert_eq(data[batch->lengths[i]], '\n', "a payload is followed by a newline");
		data += batch->lengths[i] + 1;
		if (batch->props != NULL)
			cr_assert_geq(batch->props[i].ts_ms, 0, "times are resolved");
	}
	cr_assert_eq((size_t)(data - batch->data), batch->len);
}

const char *contract_read(struct contract *c, struct engine_object *topic, uint32_t partition, uint64_t offset)
{
	struct writer w = { c->text, 0 };
	struct engine_view view;
	int rc;

	c->text[0] = '\0';
	while ((rc = c->ops->partition_read(topic, partition, offset, UINT32_MAX, &c->scratch, &view)) == 0) {
		cr_assert_eq(view.partition, partition);
		cr_assert_eq(view.offset, offset);
		put_view(&w, &view, false);
		offset += view.batch.count;
	}
	assert_err(rc, ENODATA);
	return c->text;
}

struct engine_consumer *contract_consumer(
    struct contract *c, struct engine_object *group, uint32_t partition, enum engine_consume how)
{
	struct engine_consumer *consumer = NULL;

	assert_ok(c->ops->consumer_open(group, partition, how, &consumer));
	return consumer;
}

const char *contract_fetch_some(struct contract *c, struct engine_consumer *consumer, uint32_t count)
{
	struct writer w = { c->text, 0 };
	struct engine_view view;
	int rc = 0;

	c->text[0] = '\0';
	while (count > 0 && (rc = c->ops->consumer_fetch(consumer, count, SIZE_MAX, &c->scratch, &view)) == 1) {
		cr_assert_leq(view.batch.count, count);
		put_view(&w, &view, true);
		count -= view.batch.count;
	}
	cr_assert_geq(rc, 0, "%d", rc);
	return c->text;
}

const char *contract_fetch(struct contract *c, struct engine_consumer *consumer)
{
	return contract_fetch_some(c, consumer, UINT32_MAX);
}

static const char *fetch_new(struct contract *c, struct engine_object *group, enum engine_consume how)
{
	struct engine_consumer *consumer = contract_consumer(c, group, ENGINE_ANY, how);
	const char *text = contract_fetch(c, consumer);

	c->ops->consumer_close(consumer);
	return text;
}

const char *contract_one(struct contract *c, struct engine_object *group)
{
	return fetch_new(c, group, ENGINE_CONSUME_ONE);
}

const char *contract_snapshot(struct contract *c, struct engine_object *group)
{
	return fetch_new(c, group, ENGINE_CONSUME_SNAPSHOT);
}

const char *contract_cursor(struct contract *c, struct engine_object *group, uint32_t partition)
{
	struct engine_cursor_stat stat;

	assert_ok(c->ops->cursor_stat(group, partition, &stat));
	snprintf(c->text, CONTRACT_TEXT, "%" PRIu64 " %" PRIu64 " %" PRIu64, stat.committed, stat.given, stat.lost);
	return c->text;
}

/* ---- waiting ---- */

void contract_wait(struct contract *c, bool (*check)(struct contract *c, void *ctx), void *ctx, const char *what)
{
	/* Engines do this by a timer of their own and tell nobody: asking again is all there is */
	for (int left = CONTRACT_WAIT_MS; !check(c, ctx); left -= 10) {
		cr_assert_gt(left, 0, "%s: it did not happen", what);
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	}
}

static void wake(struct engine_waiter *waiter)
{
	struct contract_waiter *self = (struct contract_waiter *)waiter;

	pthread_mutex_lock(&self->lock);
	self->woken++;
	pthread_cond_signal(&self->changed);
	pthread_mutex_unlock(&self->lock);
}

void contract_waiter_init(struct contract_waiter *waiter)
{
	*waiter = (struct contract_waiter){
		.waiter = { .wake = wake }, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER
	};
}

bool contract_waiter_woken(struct contract_waiter *waiter)
{
	bool woken;

	pthread_mutex_lock(&waiter->lock);
	woken = waiter->woken > 0;
	pthread_mutex_unlock(&waiter->lock);
	return woken;
}

bool contract_waiter_comes(struct contract_waiter *waiter)
{
	struct timespec until = soon();
	int rc = 0;

	pthread_mutex_lock(&waiter->lock);
	while (waiter->woken == 0 && rc == 0)
		rc = pthread_cond_timedwait(&waiter->changed, &waiter->lock, &until);
	pthread_mutex_unlock(&waiter->lock);
	return rc == 0;
}

void contract_waiter_wait(struct contract_waiter *waiter)
{
	cr_assert(contract_waiter_comes(waiter), "nobody woke the waiter");
}
