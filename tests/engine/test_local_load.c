/*
 * What the catalog says that cannot be, or says of objects that were being made when the daemon died, costs what it is about, and is
 * told of; a start that has no memory or room for it is refused, and the next one has all. And logs that no topic has.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"
#include "engine/local_internal.h"
#include "engine/store.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract.h"
#include "tests/lib/nosync.h"

#define LOAD_TEST(name)                                                                                                \
	static void name(struct contract *c);                                                                          \
	Test(local_load, name)                                                                                         \
	{                                                                                                              \
		tmpdir_in_memory();                                                                                    \
		nosync_install();                                                                                      \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

#define UNFINISHED 20u /* objects */

/* ---- the store ---- */

static struct {
	char text[16384];
} told;

static void tell(void *ctx, int err, const char *what)
{
	size_t used = strlen(told.text);

	(void)ctx;
	if (err != 0)
		snprintf(told.text + used, sizeof(told.text) - used, "%s\n", what);
}

static int try_open(struct contract *c, bool read_only)
{
	struct engine_options options = { .read_only = read_only, .notify = { .fn = tell } };
	int rc;

	told.text[0] = '\0';
	rc = engine_open(c->source, &options, &c->engine);
	if (rc < 0)
		return rc;
	c->ops = c->engine->ops;
	return c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root);
}

static unsigned count(const char *text, const char *part)
{
	unsigned n = 0;

	for (; (text = strstr(text, part)) != NULL; text++)
		n++;
	return n;
}

/* A row of a partition, or of an object. */
struct row {
	enum catalog_table table;
	uint64_t id;
	uint32_t partition;
	uint64_t log_id; /* 0: it goes */
};

static int change_row(struct catalog_txn *txn, void *arg)
{
	const struct row *row = arg;
	struct catalog_key key;
	uint8_t value[8];

	catalog_key_init(&key, row->table, row->id);
	if (row->table == CATALOG_PARTITION)
		catalog_key_add_be32(&key, row->partition);
	bytes_put64(value, row->log_id);
	return row->log_id > 0 ? catalog_put_row(txn, &key, value, sizeof(value)) : catalog_del_row(txn, &key);
}

static void change(struct catalog *catalog, enum catalog_table table, uint64_t id, uint32_t partition, uint64_t log_id)
{
	struct row row = { table, id, partition, log_id };

	assert_ok(catalog_change(catalog, CATALOG_GROWS, change_row, &row));
}

static uint64_t put(struct catalog *catalog, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	struct catalog_object row = { .parent_id = parent_id, .kind = kind };

	assert_ok(catalog_next_id(catalog, &row.id));
	if (name != NULL)
		snprintf(row.name, sizeof(row.name), "%s", name);
	else
		snprintf(row.name, sizeof(row.name), "/%" PRIu64, row.id);
	assert_ok(catalog_put_object(catalog, &row));
	return row.id;
}

/* Opens the catalog of a store that is closed. */
static struct catalog *open_catalog(struct contract *c, struct store *store)
{
	struct catalog *catalog;

	assert_ok(store_open(c->source, false, false, NULL, store));
	assert_ok(catalog_open(store->dirfd, false, &catalog));
	return catalog;
}

static int count_unfinished(void *ctx, const struct catalog_object *row)
{
	*(unsigned *)ctx += row->name[0] == '/';
	return 0;
}

static unsigned unfinished(struct contract *c)
{
	struct store store;
	struct catalog *catalog = open_catalog(c, &store);
	unsigned n = 0;

	assert_ok(catalog_each_object(catalog, count_unfinished, &n));
	catalog_close(catalog);
	store_close(&store);
	return n;
}

/* Objects that were being made; one had its dead letters already, one these half. */
static void leave_unfinished(struct contract *c, unsigned n)
{
	struct store store;
	struct catalog *catalog = open_catalog(c, &store);

	put(catalog, put(catalog, ENGINE_ROOT_ID, ENGINE_QUEUE, NULL), ENGINE_QUEUE, NULL);
	put(catalog, put(catalog, ENGINE_ROOT_ID, ENGINE_QUEUE, NULL), ENGINE_QUEUE, "dlq");
	for (unsigned i = 3; i < n; i++)
		put(catalog, ENGINE_ROOT_ID, ENGINE_TOPIC, NULL);
	catalog_close(catalog);
	store_close(&store);
}

static struct engine_object *make(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	static const struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *object;

	assert_ok(c->ops->create(c->engine, parent, kind, name, &owner, &object));
	return object;
}

/* Topic t with messages in four partitions, of which two have lost their rows; and one object of each kind. */
static void leave_damaged(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 4), *gone = contract_topic(c, "gone", 1);
	struct engine_object *group = contract_group(c, topic, "g"), *queue = make(c, c->root, ENGINE_QUEUE, "q");
	uint64_t id = contract_id(c, topic), gone_id = contract_id(c, gone);
	struct catalog *catalog;
	struct store store;

	c->ops->put(make(c, group, ENGINE_MEMBER, "m"));
	c->ops->put(make(c, queue, ENGINE_CONSUMER, "w"));
	c->ops->put(make(c, c->root, ENGINE_EXCHANGE, "x"));
	c->ops->put(make(c, c->root, ENGINE_TX, "n"));
	c->ops->put(make(c, gone, ENGINE_GROUP, "lost"));
	for (uint32_t p = 0; p < 4; p++)
		contract_send(c, topic, p, "a\n");
	c->ops->put(queue);
	c->ops->put(group);
	c->ops->put(gone);
	c->ops->put(topic);
	contract_close(c);
	catalog = open_catalog(c, &store);
	change(catalog, CATALOG_PARTITION, id, 1, 0);
	change(catalog, CATALOG_PARTITION, id, 2, 0);
	change(catalog, CATALOG_PARTITION, id, ENGINE_PARTITIONS_MAX, 4711);
	change(catalog, CATALOG_OBJECT, gone_id, 0, 0);
	put(catalog, ENGINE_ROOT_ID, ENGINE_GROUP, "astray");
	catalog_close(catalog);
	store_close(&store);
}

static void check_there(struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	c->ops->put(contract_lookup(c, parent, kind, name));
}

/* What is left of that. */
static void check_damaged(struct contract *c)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	struct engine_object *group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	struct engine_object *queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q"), *none;
	struct engine_view view;

	check_there(c, group, ENGINE_MEMBER, "m");
	check_there(c, queue, ENGINE_CONSUMER, "w");
	check_there(c, c->root, ENGINE_EXCHANGE, "x");
	check_there(c, c->root, ENGINE_TX, "n");
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_GROUP, "astray", &none), ENOENT);
	for (uint32_t p = 0; p < 4; p++)
		cr_assert_eq(c->ops->partition_read(topic, p, 0, 1, &c->scratch, &view), p == 1 || p == 2 ? -EIO : 0);
	assert_err(c->ops->partition_read(topic, 4, 0, 1, &c->scratch, &view), ENOENT);
	c->ops->put(queue);
	c->ops->put(group);
	c->ops->put(topic);
}

/* ---- rows that cannot be ---- */

/* Partitions keep their numbers; what has no place is left out; logs whose rows are lost are kept. All of it is told. */
LOAD_TEST(damaged)
{
	leave_damaged(c);
	assert_ok(try_open(c, false));
	check_damaged(c);
	cr_assert_eq(count(told.text, "has no place in the tree"), 3, "%s", told.text); /* astray, lost and its dlq */
	cr_assert_eq(count(told.text, "its row in the catalog is lost"), 2, "%s", told.text);
	cr_assert_eq(count(told.text, "but no topic has the log; it is kept"), 2, "%s", told.text);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_not_null(strstr(c->text, "topic t, partition 2: its row in the catalog is lost"), "%s", c->text);
}

static int get_log(void *ctx, uint32_t partition, uint64_t log_id)
{
	(void)partition;
	*(uint64_t *)ctx = log_id;
	return 0;
}

static uint64_t log_of(struct catalog *catalog, uint64_t topic_id)
{
	uint64_t log_id = 0;

	assert_ok(catalog_each_partition(catalog, topic_id, get_log, &log_id));
	return log_id;
}

/* The log of partition 0; the one it had is returned. */
static uint64_t give_log(struct contract *c, uint64_t topic_id, uint64_t from_topic, uint64_t log_id)
{
	struct store store;
	struct catalog *catalog = open_catalog(c, &store);
	uint64_t before = log_of(catalog, topic_id);

	change(catalog, CATALOG_PARTITION, topic_id, 0, log_id > 0 ? log_id : log_of(catalog, from_topic));
	catalog_close(catalog);
	store_close(&store);
	return before;
}

/* A log that two objects name is not written to: the store opens read-only, and says so. */
LOAD_TEST(log_of_two)
{
	struct engine_object *one = contract_topic(c, "one", 1), *two = contract_topic(c, "two", 1);
	uint64_t one_id = contract_id(c, one), two_id = contract_id(c, two), before;

	contract_send(c, one, 0, "a\n");
	contract_send(c, two, 0, "b\n");
	c->ops->put(one);
	c->ops->put(two);
	contract_close(c);
	before = give_log(c, two_id, one_id, 0);
	assert_err(try_open(c, false), EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "belongs to two objects of the catalog"), "%s", engine_reason());
	assert_ok(try_open(c, true));
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(count(c->text, "belongs to two objects of the catalog"), 1, "%s", c->text);
	two = contract_lookup(c, c->root, ENGINE_TOPIC, "two");
	assert_text(contract_read(c, two, 0, 0), "0=a");
	c->ops->put(two);
	contract_close(c);
	give_log(c, two_id, 0, before);
	assert_ok(try_open(c, false));
	cr_assert_str_empty(told.text);
	two = contract_lookup(c, c->root, ENGINE_TOPIC, "two");
	assert_text(contract_read(c, two, 0, 0), "0=b");
	c->ops->put(two);
}

static struct {
	unsigned calls, refused; /* which of them */
} counting;

static int count_one(void *ctx, uint32_t uid, enum engine_keep how)
{
	(void)ctx;
	(void)uid;
	cr_assert_eq(how, ENGINE_KEEP_THERE);
	return ++counting.calls == counting.refused ? -ENOMEM : 0;
}

static void count_less(void *ctx, uint32_t uid)
{
	(void)ctx;
	(void)uid;
}

/* An object that cannot be counted is not left out: the start is refused, and the next has all. */
LOAD_TEST(owners_that_cannot_be_counted)
{
	static const struct engine_options options = { .users = { .keep = count_one, .unkeep = count_less } };

	c->ops->put(contract_topic(c, "one", 1));
	c->ops->put(make(c, c->root, ENGINE_QUEUE, "q"));
	contract_close(c);
	for (counting.refused = 1; counting.refused <= 3; counting.refused++) {
		counting.calls = 0;
		cr_assert_eq(engine_open(c->source, &options, &c->engine), counting.refused <= 2 ? -ENOMEM : 0);
		cr_assert_eq(counting.calls, counting.refused < 2 ? 1 : 2);
	}
	assert_ok(c->engine->ops->close(c->engine));
	contract_open(c);
	check_there(c, c->root, ENGINE_TOPIC, "one");
	check_there(c, c->root, ENGINE_QUEUE, "q");
}

/* Objects that were being made go, with what is below them, and nobody is told; read-only they are not there, and stay. */
LOAD_TEST(half_made)
{
	contract_close(c);
	leave_unfinished(c, UNFINISHED);
	for (unsigned read_only = 2; read_only-- > 0;) {
		cr_assert_eq(unfinished(c), UNFINISHED);
		assert_ok(try_open(c, read_only));
		cr_assert_str_empty(told.text);
		cr_assert_eq(contract_stat(c, c->root).messages, 0);
		contract_close(c);
	}
	cr_assert_eq(unfinished(c), 0);
	contract_open(c);
}

/* A start in which the n-th call fails is refused, or has all. Read-only, so that each is the same. */
static void each_fails(struct contract *c, void (*arm)(uint64_t n), uint64_t (*disarm)(void), int err)
{
	uint64_t n = 0;
	bool reached;

	leave_damaged(c);
	leave_unfinished(c, UNFINISHED);
	do {
		int rc;

		arm(++n);
		rc = try_open(c, true);
		reached = disarm() >= n;
		if (rc == 0) {
			check_damaged(c);
			contract_close(c);
		} else {
			cr_assert(
			    rc == -err || (rc == -EUCLEAN && engine_reason()[0] != '\0'), "%" PRIu64 ": %d", n, rc);
		}
	} while (reached);
	cr_assert_gt(n, 50);
	cr_assert_eq(unfinished(c), UNFINISHED);
	assert_ok(try_open(c, false));
	check_damaged(c);
}

LOAD_TEST(without_memory)
{
	each_fails(c, alloc_arm, alloc_disarm, ENOMEM);
}

static void arm_lmdb(uint64_t n)
{
	alloc_arm_lmdb(n, EIO);
}

LOAD_TEST(catalog_that_cannot_be_read)
{
	each_fails(c, arm_lmdb, alloc_disarm_lmdb, EIO);
}

/* On a full disk the reserve lets them go; where the catalog cannot be written the start is refused, and the next one has all. */
LOAD_TEST(half_made_on_a_bad_disk)
{
	static const int errors[] = { EIO, ENOSPC };

	contract_close(c);
	for (size_t e = 0; e < 2; e++) {
		uint64_t calls, n = 0;
		unsigned refused = 0, gone = 0;

		leave_unfinished(c, 4);
		do {
			int rc;

			alloc_arm_lmdb(++n, errors[e]);
			rc = try_open(c, false);
			calls = alloc_disarm_lmdb();
			if (rc == 0)
				contract_close(c);
			else
				refused++;
			gone = unfinished(c) == 0 ? gone + 1 : 0;
			cr_assert(rc < 0 || gone > 0, "%" PRIu64, n);
		} while (calls >= n && gone == 0);
		cr_assert_gt(refused, 3);
		cr_assert_eq(gone, 1);
	}
	contract_open(c);
}

/* ---- logs that no topic has ---- */

static void put_log(struct contract *c, const char *name, const char *data)
{
	char path[PATH_MAX + 200];
	int fd;

	snprintf(path, sizeof(path), "%s/logs/%s", c->source, name);
	if (mkdir(path, 0700) < 0)
		return; /* it was kept */
	strcat(path, "/00000000000000000000.data");
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(write(fd, data, strlen(data)), (ssize_t)strlen(data));
	close(fd);
}

static bool has_log(struct contract *c, const char *name)
{
	char path[PATH_MAX + 200];

	snprintf(path, sizeof(path), "%s/logs/%s", c->source, name);
	return access(path, F_OK) == 0;
}

/* What cannot be read may have messages: it is kept, told of, and looked at again by the next start. */
LOAD_TEST(logs_that_cannot_be_read)
{
	uint64_t calls, n = 0;
	unsigned kept = 0, unlisted = 0;
	char path[PATH_MAX + 200];

	contract_close(c);
	snprintf(path, sizeof(path), "%s/logs/00000000000000f3", c->source);
	close(open(path, O_WRONLY | O_CREAT, 0600)); /* not even a directory */
	do {
		put_log(c, "00000000000000f1", "");
		put_log(c, "00000000000000f2", "hello\n");
		alloc_arm_reads_of("/logs/", ++n, EIO);
		assert_ok(try_open(c, false));
		calls = alloc_disarm_reads();
		cr_assert(has_log(c, "00000000000000f2/00000000000000000000.data"));
		c->ops->health(c->engine, c->text, CONTRACT_TEXT);
		if (strstr(c->text, "the logs cannot be listed") != NULL)
			unlisted++;
		else
			cr_assert_eq(count(c->text, "has messages, or cannot be read"),
			    has_log(c, "00000000000000f1") && strstr(told.text, "cannot be removed") == NULL ? 3 : 2,
			    "%" PRIu64 ": %s", n, told.text);
		kept += has_log(c, "00000000000000f1");
		contract_close(c);
	} while (calls >= n);
	cr_assert_geq(unlisted, 3);
	cr_assert_geq(kept, unlisted);
	cr_assert_not(has_log(c, "00000000000000f1"));
	contract_open(c);
}
