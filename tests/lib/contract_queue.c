#include "tests/lib/contract_queue.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <uthash.h>

#include "engine/clock.h"
#include "tests/lib/contract_exchange.h"

#define WORDS 16
#define HANDLES 16
#define READ_ONE_OF 16
#define LARGEST 100000 /* message */

/* ---- the clock of the test ---- */

static _Atomic int64_t now_ms;
static _Atomic int64_t stands_at; /* for all threads but that of the script; 0: it is one clock for all */
static _Thread_local bool is_script;

static int64_t test_clock(void)
{
	int64_t other = atomic_load(&stands_at);

	return other != 0 && !is_script ? other : atomic_load(&now_ms);
}

static const struct clock_ops clock_test = { .wall_ms = test_clock, .mono_ms = test_clock };

void q_tick(int64_t ms)
{
	atomic_fetch_add(&now_ms, ms);
}

int64_t q_now(void)
{
	return atomic_load(&now_ms);
}

void q_own_time(bool own)
{
	is_script = own;
	atomic_store(&stands_at, own ? q_now() : 0);
}

/* ---- what a script knows ---- */

struct handle {
	char name[32];
	struct engine_consumer *consumer;
	struct engine_session *session;
	struct contract_waiter waiter;
};

struct name {
	UT_hash_handle hh, by_id;
	uint64_t id, size;
	char text[32];
};

/* The ids of payloads, and what is open. */
struct script {
	struct contract *c;
	struct name *names, *ids;
	bool lenient;
	unsigned shown;           /* messages whose payloads were not read again */
	struct engine_object *tx; /* in which a command is, or NULL */
	struct handle handles[HANDLES];
	char *words[WORDS];
	uint32_t uid;  /* who reads and claims */
	int64_t dated; /* the next batch is of this time, from now */
	char line[512], answer[65536];
};

static struct script scripts[2]; /* a model test runs two engines side by side */
static struct script *s;         /* the one that runs */

static void choose(const struct contract *c)
{
	s = &scripts[scripts[1].c == c];
	cr_assert_eq(s->c, c);
}

void q_prepare(struct contract *c, bool persists)
{
	s = &scripts[scripts[0].c != NULL];
	memset(s, 0, sizeof(*s));
	s->c = c;
	c->persists = persists;
	if (clock_now != &clock_test)
		atomic_store(&now_ms, INT64_C(1700000000000));
	clock_now = &clock_test;
}

void q_open(struct contract *c, bool persists)
{
	q_prepare(c, persists);
	strcpy(c->source, "memory:");
	if (persists) {
		tmpdir_make(&c->dir);
		snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	}
	contract_open(c);
}

void q_close(struct contract *c)
{
	choose(c);
	q_forget();
	contract_close(c);
	engine_scratch_release(&c->scratch);
	if (c->persists)
		tmpdir_remove(&c->dir);
	s->c = NULL;
}

void q_forget(void)
{
	struct name *name, *next;

	HASH_CLEAR(hh, s->names);
	HASH_ITER (by_id, s->ids, name, next) {
		HASH_DELETE(by_id, s->ids, name);
		free(name);
	}
}

void q_lenient(struct contract *c)
{
	choose(c);
	s->lenient = true;
}

void contract_queue_run(bool persists, void (*test)(struct contract *c))
{
	struct contract *c = calloc(1, sizeof(*c));
	bool has_queues;

	cr_assert_not_null(c);
	q_open(c, persists);
	has_queues = c->ops->queue != NULL;
	if (has_queues)
		test(c);
	q_close(c);
	free(c);
	if (!has_queues)
		cr_skip_test("SKIP: the engine has no queues");
}

static void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *format, ...)
{
	size_t used = strlen(s->answer);
	va_list args;

	va_start(args, format);
	vsnprintf(s->answer + used, sizeof(s->answer) - used, format, args);
	va_end(args);
}

static void answer_rc(int64_t rc)
{
	if (rc < 0)
		answer("%s", strerrorname_np((int)-rc));
	else
		answer("%" PRId64, rc);
}

static void answer_ok(int rc)
{
	if (rc == 0)
		answer("ok");
	else
		answer_rc(rc);
}

/* ---- objects, states and messages by their names ---- */

struct engine_object *q_object(struct contract *c, const char *path)
{
	const char *slash = strchr(path, '/');
	char name[64];
	struct engine_object *queue, *object;

	snprintf(name, sizeof(name), "%.*s", slash != NULL ? (int)(slash - path) : (int)strlen(path), path);
	if (slash == NULL && c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, name, &object) == 0)
		return object;
	if (slash == NULL && c->ops->lookup(c->engine, c->root, ENGINE_EXCHANGE, name, &object) == 0)
		return object;
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, name);
	if (slash == NULL)
		return queue;
	object = contract_lookup(c, queue, strcmp(slash + 1, "dlq") == 0 ? ENGINE_QUEUE : ENGINE_CONSUMER, slash + 1);
	c->ops->put(queue);
	return object;
}

static enum engine_message_state state_of(const char *word)
{
	static const char *const names[] = { "ready", "unacked", "delayed" };
	unsigned i = 0;

	while (i < ENGINE_STATE_COUNT && strcmp(names[i], word) != 0)
		i++;
	cr_assert_lt(i, ENGINE_STATE_COUNT, "there is no state %s", word);
	return (enum engine_message_state)i;
}

/* A payload is its name, and what fills it up behind a dot. */
static size_t name_length(const char *text, size_t size)
{
	const char *dot = memchr(text, '.', size);

	return dot != NULL ? (size_t)(dot - text) : size;
}

/* In a lenient script copies have the same payload, by an exchange: it stands for the one that was seen first last. */
static void learn(const char *text, size_t size, uint64_t id)
{
	size_t len = name_length(text, size);
	struct name *name, *other;

	HASH_FIND(by_id, s->ids, &id, sizeof(id), name);
	if (name != NULL) {
		cr_assert(name->size == size && strlen(name->text) == len && memcmp(name->text, text, len) == 0);
		return;
	}
	HASH_FIND(hh, s->names, text, len, other);
	if (other != NULL) {
		cr_assert(s->lenient, "%s had the id %" PRIu64 " and has %" PRIu64, other->text, other->id, id);
		HASH_DEL(s->names, other);
	}
	name = calloc(1, sizeof(*name));
	cr_assert_not_null(name);
	name->id = id;
	name->size = size;
	snprintf(name->text, sizeof(name->text), "%.*s", (int)len, text);
	HASH_ADD_KEYPTR(hh, s->names, name->text, strlen(name->text), name);
	HASH_ADD(by_id, s->ids, id, sizeof(name->id), name);
}

/* A payload that was seen, or #number: an id. */
static uint64_t id_of(const char *text)
{
	struct name *name;

	if (text[0] == '#')
		return strtoull(text + 1, NULL, 10);
	HASH_FIND(hh, s->names, text, strlen(text), name);
	cr_assert(name != NULL || s->lenient, "no message %s was seen", text);
	return name != NULL ? name->id : 0;
}

/* ---- listing ---- */

struct listing {
	struct contract *c;
	struct engine_object *queue;
	enum engine_message_state state;
	bool quiet, details;
	unsigned count;
};

/* What it is called. Who is known by its id is not read each time: a model test lists a thousand messages for one that came. */
static const char *read_name(const struct listing *l, const struct engine_message_stat *stat)
{
	struct engine_view view;
	struct name *name;

	HASH_FIND(by_id, s->ids, &stat->id, sizeof(stat->id), name);
	if (name != NULL && s->shown++ % READ_ONE_OF != 0) {
		cr_assert_eq(stat->size, name->size);
		return name->text;
	}
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	cr_assert_eq(view.batch.count, 1);
	cr_assert_eq(view.batch.lengths[0], stat->size);
	cr_assert_eq(view.deliveries[0].id, stat->id);
	learn(view.batch.data, view.batch.lengths[0], stat->id);
	HASH_FIND(by_id, s->ids, &stat->id, sizeof(stat->id), name);
	return name->text;
}

static bool list_one(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct listing *l = ctx;
	const char *name = read_name(l, stat);

	(void)next;
	cr_assert_eq(stat->state, l->state);
	if (!l->quiet)
		answer("%s%s", l->count > 0 ? "," : "", name);
	if (l->details) {
		answer("/%" PRIu32 "/%" PRIu32, stat->priority, stat->deliveries);
		if (stat->due_ms != INT64_MAX)
			answer("%+" PRId64, stat->due_ms - q_now());
	}
	l->count++;
	return true;
}

static void list_state(
    struct contract *c, struct engine_object *queue, enum engine_message_state state, bool quiet, bool details)
{
	struct listing listing = { .c = c, .queue = queue, .state = state, .quiet = quiet, .details = details };
	uint64_t cursor[2] = { 0, 0 };

	contract_called(); /* one that is refused has listed some */
	assert_ok(c->ops->queue->message_list(queue, state, ENGINE_ANY, NULL, cursor, list_one, &listing));
}

/* Checks the counters of a queue against its lists, and the law of conservation. */
static void check_stat(struct contract *c, struct engine_object *queue, uint64_t listed)
{
	struct engine_queue_stat t;
	uint64_t ready = 0;

	memset(&t, 0xaa, sizeof(t));
	assert_ok(c->ops->queue->queue_stat(queue, &t));
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		ready += t.ready_by_priority[p];
	cr_assert_eq(ready, t.ready);
	if (listed != UINT64_MAX)
		cr_assert_eq(listed, t.ready + t.unacked + t.delayed);
	cr_assert_eq(t.published + t.moved_in,
	    t.ready + t.unacked + t.delayed + t.acked + t.dead_lettered + t.expired + t.dropped + t.moved_out);
}

/* "a,b | c | d": what is ready, unacked and delayed. details: "a/0/1+300": priority, deliveries, and what is due when. */
static void show(struct contract *c, const char *path, bool details)
{
	struct engine_object *queue = q_object(c, path);
	size_t begin = strlen(s->answer);
	uint64_t commas = 0;

	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		size_t from;

		if (state > 0)
			answer(" | ");
		from = strlen(s->answer);
		list_state(c, queue, (enum engine_message_state)state, false, details);
		commas += s->answer[from] != '\0';
	}
	for (const char *p = s->answer + begin; *p != '\0'; p++)
		commas += *p == ',';
	check_stat(c, queue, commas);
	c->ops->put(queue);
}

/* Learns the ids of what just came. */
static void learn_all(struct contract *c, struct engine_object *queue)
{
	struct engine_object *dlq = NULL;

	contract_called();
	for (int state = 0; state < ENGINE_STATE_COUNT; state++)
		list_state(c, queue, (enum engine_message_state)state, true, false);
	if (c->ops->lookup(c->engine, queue, ENGINE_QUEUE, "dlq", &dlq) < 0)
		return;
	learn_all(c, dlq);
	c->ops->put(dlq);
}

/* ---- producing ---- */

/*
 * "a:p5:t100:d100:s5000": payload, priority, ttl, delay, and how large it is made behind a dot. Puts its payload to data, and
 * returns where the next one goes.
 */
static char *add_message(char *word, char *data, uint32_t *ret_length, struct engine_props *props)
{
	char *option = strchr(word, ':');
	size_t len, size = 0;

	*props = ENGINE_PROPS_INIT;
	while (option != NULL) {
		char *next = strchr(option + 1, ':');
		int64_t value = strtoll(option + 2, NULL, 10);

		if (option[1] == 'p')
			props->priority = (int32_t)value;
		else if (option[1] == 't')
			props->ttl_ms = value;
		else if (option[1] == 's')
			size = (size_t)value;
		else
			props->delay_ms = value;
		*option = '\0';
		option = next;
	}
	len = strlen(word);
	cr_assert_leq(size, LARGEST);
	memcpy(data, word, len);
	if (size > len)
		memset(data + len, '.', size - len);
	*ret_length = (uint32_t)(size > len ? size : len);
	data[*ret_length] = '\n';
	return data + *ret_length + 1;
}

/* send q a b, push q a: one batch; q@5: to that priority */
static int send_words(struct contract *c, char *path, bool head)
{
	static char data[WORDS * (LARGEST + 1) + sizeof(s->line)];
	char *end = data, *at = strchr(path, '@');
	uint32_t lengths[WORDS], priority = at != NULL ? (uint32_t)strtoul(at + 1, NULL, 10) : ENGINE_ANY;
	struct engine_props props[WORDS];
	struct engine_batch batch = { .data = data,
		.lengths = lengths,
		.props = props,
		.cred = { 1, 2, 3 },
		.ts_ms = s->dated != 0 ? q_now() + s->dated : -1 };
	struct engine_producer *producer = NULL;
	struct engine_object *queue;
	int rc;

	s->dated = 0;
	if (at != NULL)
		*at = '\0';
	queue = q_object(c, path);
	for (; s->words[2 + batch.count] != NULL; batch.count++)
		end = add_message(s->words[2 + batch.count], end, &lengths[batch.count], &props[batch.count]);
	batch.len = (size_t)(end - data);
	if (s->tx != NULL)
		rc = c->ops->tx->producer_open(s->tx, queue, priority, head, (struct engine_span){ 0 }, &producer);
	else
		rc = c->ops->queue->producer_open(queue, priority, head, &producer);
	if (rc == 0)
		rc = contract_send_batch(c, producer, &batch);
	c->ops->producer_close(producer);
	if (rc == 0 && s->tx == NULL)
		learn_all(c, queue);
	c->ops->put(queue);
	return rc;
}

/* ---- consuming ---- */

/* Adds up to count messages as "a,b": one that was delivered before has a '+'. */
static void read_some(struct contract *c, struct engine_consumer *consumer, uint32_t count)
{
	struct engine_view view;
	unsigned given = 0;
	int rc = 0;

	while (count > 0 && (rc = c->ops->consumer_fetch(consumer, count, SIZE_MAX, &c->scratch, &view)) == 1) {
		const char *data = view.batch.data;

		contract_called();
		cr_assert_leq(view.batch.count, count);
		cr_assert_not_null(view.deliveries);
		count -= view.batch.count;
		for (uint32_t i = 0; i < view.batch.count; i++) {
			const struct engine_delivery *d = &view.deliveries[i];

			cr_assert_eq(d->redelivered, d->deliveries > 1);
			cr_assert_eq(d->priority, view.deliveries[0].priority, "one fetch, one priority");
			learn(data, view.batch.lengths[i], d->id);
			answer("%s%.*s%s", given++ > 0 ? "," : "", (int)name_length(data, view.batch.lengths[i]), data,
			    d->redelivered ? "+" : "");
			data += view.batch.lengths[i] + 1;
		}
	}
	if (given == 0)
		answer("%s", rc == 0 ? "-" : strerrorname_np(-rc));
}

static enum engine_consume how_of(const char *word)
{
	if (strncmp(word, "stream", 6) == 0)
		return ENGINE_CONSUME_STREAM;
	if (strncmp(word, "wait", 4) == 0)
		return ENGINE_CONSUME_WAIT;
	return strncmp(word, "snap", 4) == 0 ? ENGINE_CONSUME_SNAPSHOT : ENGINE_CONSUME_ONE;
}

static void read_new(struct contract *c, const char *path, const char *how, bool take)
{
	struct engine_object *object = q_object(c, path);
	struct engine_consumer *consumer = NULL;
	int rc = c->ops->queue->consumer_open(object, how_of(how), take, s->uid, &consumer);

	if (rc < 0)
		answer_rc(rc);
	else
		read_some(c, consumer, UINT32_MAX);
	c->ops->consumer_close(consumer);
	c->ops->put(object);
}

static struct handle *handle_of(const char *name)
{
	for (size_t i = 0; i < HANDLES; i++) {
		if (strcmp(s->handles[i].name, name) == 0)
			return &s->handles[i];
	}
	cr_assert(false, "nothing open is called %s", name);
	return NULL;
}

static int open_handle(struct contract *c, const char *name, const char *path, const char *how)
{
	struct engine_object *object = q_object(c, path);
	struct handle *handle = handle_of("");
	int rc;

	if (strcmp(how, "session") == 0)
		rc = c->ops->queue->session_open(object, &handle->session);
	else
		rc = c->ops->queue->consumer_open(
		    object, how_of(how), strstr(how, "-take") != NULL, s->uid, &handle->consumer);
	if (rc == 0)
		snprintf(handle->name, sizeof(handle->name), "%s", name);
	c->ops->put(object);
	return rc;
}

static void close_handle(struct contract *c, struct handle *handle)
{
	c->ops->consumer_close(handle->consumer);
	c->ops->queue->session_close(handle->session);
	memset(handle, 0, sizeof(*handle));
}

/* The store as the death of the daemon leaves it now, with all that is open. Its end is not seen by the copy. */
static void crash(struct contract *c)
{
	char command[4 * PATH_MAX];

	c->ops->put(q_object(
	    c, "q")); /* what is due is done: else a log may be made while it is copied, which no crash shows so */
	snprintf(command, sizeof(command), "cp -r '%s' '%s.dead'", c->source, c->source);
	cr_assert_eq(system(command), 0);
	for (size_t i = 0; i < HANDLES; i++)
		close_handle(c, &s->handles[i]);
	contract_close(c);
	snprintf(command, sizeof(command), "rm -r '%s' && mv '%s.dead' '%s'", c->source, c->source, c->source);
	cr_assert_eq(system(command), 0);
	contract_open(c);
}

static void arm(struct contract *c, struct handle *handle)
{
	contract_waiter_init(&handle->waiter);
	answer_rc(c->ops->consumer_arm(handle->consumer, &handle->waiter.waiter));
}

/* ---- settling and messages ---- */

static void settle(struct contract *c, enum engine_settle how, const char *path, char *ids)
{
	struct engine_object *consumer = q_object(c, path);
	char *dash = strchr(ids, '-');

	if (dash != NULL)
		*dash++ = '\0';
	if (strcmp(ids, "all") == 0 && s->tx != NULL)
		answer_rc(c->ops->tx->settle_all(s->tx, consumer, how));
	else if (strcmp(ids, "all") == 0)
		answer_rc(c->ops->queue->settle_all(consumer, how));
	else if (s->tx != NULL)
		answer_rc(c->ops->tx->settle(s->tx, consumer, how, id_of(ids), id_of(dash != NULL ? dash : ids)));
	else
		answer_rc(c->ops->queue->settle(consumer, how, id_of(ids), id_of(dash != NULL ? dash : ids)));
	c->ops->put(consumer);
}

/* mv q ready a o unacked o/w1 p5: the last two as needed */
static int move(struct contract *c, char *const *words)
{
	struct engine_object *queue = q_object(c, words[1]);
	struct engine_place place = {
		.queue = q_object(c, words[4]), .state = state_of(words[5]), .priority = ENGINE_ANY, .uid = s->uid
	};
	int rc;

	for (int i = 6; words[i] != NULL; i++) {
		if (words[i][0] == 'p')
			place.priority = (uint32_t)strtoul(words[i] + 1, NULL, 10);
		else
			place.consumer = q_object(c, words[i]);
	}
	rc = c->ops->queue->message_move(queue, id_of(words[3]), state_of(words[2]), &place);
	c->ops->put(place.consumer);
	c->ops->put(place.queue);
	c->ops->put(queue);
	return rc;
}

static void show_deaths(struct contract *c, struct engine_object *queue, uint64_t id)
{
	static const char *const reasons[] = { "rejected", "expired", "maxlen", "delivery_limit" };
	struct engine_view view;
	int rc = c->ops->queue->message_read(queue, id, &c->scratch, &view);

	if (rc < 0) {
		answer_rc(rc);
		return;
	}
	if (view.batch.props == NULL || view.batch.props[0].death_count == 0) {
		answer("-");
		return;
	}
	for (uint32_t i = 0; i < view.batch.props[0].death_count; i++) {
		const struct engine_death *d = &view.batch.props[0].deaths[i];

		answer("%s%.*s:%s:%" PRIu32 ":%" PRId64, i > 0 ? " " : "", (int)d->queue.len, d->queue.ptr,
		    reasons[d->reason], d->count, d->ts_ms - q_now());
	}
}

/* "unacked p0 d1 +300000": state, priority, deliveries, and when something happens to it */
static void show_message(struct contract *c, struct engine_object *queue, uint64_t id)
{
	static const char *const states[] = { "ready", "unacked", "delayed" };
	struct engine_message_stat stat;
	struct engine_view view;
	int rc = c->ops->queue->message_stat(queue, id, &stat);

	if (rc < 0) {
		answer_rc(rc);
		return;
	}
	cr_assert_eq(stat.id, id);
	cr_assert_eq(stat.consumer_id != 0, stat.state == ENGINE_UNACKED);
	assert_ok(c->ops->queue->message_read(queue, id, &c->scratch, &view));
	cr_assert_eq(view.deliveries[0].redelivered, stat.deliveries > (stat.state == ENGINE_UNACKED));
	answer("%s p%" PRIu32 " d%" PRIu32, states[stat.state], stat.priority, stat.deliveries);
	if (stat.due_ms != INT64_MAX)
		answer(" %+" PRId64, stat.due_ms - q_now());
}

/* "published 3 acked 1": totals that are not 0, or one of them */
static void show_totals(struct contract *c, struct engine_object *queue, const char *one)
{
	static const char *const names[] = { "published", "delivered", "redelivered", "acked", "dead_lettered",
		"expired", "dropped", "moved_in", "moved_out", "dead", "bytes", "consumers", "ready", "unacked",
		"delayed", "all", "gone" };
	struct engine_queue_stat t;

	assert_ok(c->ops->queue->queue_stat(queue, &t));
	uint64_t values[] = { t.published, t.delivered, t.redelivered, t.acked, t.dead_lettered, t.expired, t.dropped,
		t.moved_in, t.moved_out, t.dead, t.bytes, t.consumers, t.ready, t.unacked, t.delayed,
		t.ready + t.unacked + t.delayed, t.acked + t.dead_lettered + t.expired + t.dropped + t.moved_out };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (one != NULL && strcmp(one, names[i]) == 0)
			answer("%" PRIu64, values[i]);
		else if (one == NULL && values[i] > 0 && i < 9)
			answer("%s%s %" PRIu64, s->answer[0] != '\0' ? " " : "", names[i], values[i]);
	}
}

/* Commands about a queue and what is in it. */
static bool run_queue(struct contract *c, char *const *w)
{
	const struct engine_queue_ops *ops = c->ops->queue;
	struct engine_object *queue = q_object(c, w[1]);
	bool known = true;

	if (strcmp(w[0], "rm") == 0) /* rm q ready a */
		answer_ok(ops->message_remove(queue, id_of(w[3]), state_of(w[2])));
	else if (strcmp(w[0], "touch") == 0) /* touch q ready a +100 */
		answer_ok(ops->message_touch(
		    queue, id_of(w[3]), state_of(w[2]), q_now() + (w[4] != NULL ? strtoll(w[4], NULL, 10) : 0)));
	else if (strcmp(w[0], "purge") == 0)
		answer_ok(ops->purge(queue));
	else if (strcmp(w[0], "redrive") == 0 && w[2] != NULL) /* redrive q/dlq a */
		answer_rc(ops->redrive(queue, id_of(w[2]), id_of(w[2])));
	else if (strcmp(w[0], "redrive") == 0)
		answer_rc(ops->redrive(queue, 0, UINT64_MAX));
	else if (strcmp(w[0], "deaths") == 0) /* deaths q/dlq a */
		show_deaths(c, queue, id_of(w[2]));
	else if (strcmp(w[0], "message") == 0) /* message q a */
		show_message(c, queue, id_of(w[2]));
	else if (strcmp(w[0], "totals") == 0) /* totals q [dead] */
		show_totals(c, queue, w[2]);
	else
		known = false;
	c->ops->put(queue);
	return known;
}

/* Commands about consuming and settling. */
static bool run_consumer(struct contract *c, char *const *w)
{
	if (strcmp(w[0], "get") == 0) /* get q: next */
		read_new(c, w[1], "one", false);
	else if (strcmp(w[0], "snap") == 0) /* snap q: out */
		read_new(c, w[1], "snap", false);
	else if (strcmp(w[0], "take") == 0)
		read_new(c, w[1], "one", true);
	else if (strcmp(w[0], "open") == 0) /* open f q stream, one, wait, snap or session */
		answer_ok(open_handle(c, w[1], w[2], w[3]));
	else if (strcmp(w[0], "close") == 0)
		close_handle(c, handle_of(w[1]));
	else if (strcmp(w[0], "read") == 0) /* read f [count] */
		read_some(c, handle_of(w[1])->consumer, w[2] != NULL ? (uint32_t)strtoul(w[2], NULL, 10) : UINT32_MAX);
	else if (strcmp(w[0], "arm") == 0) /* arm f: 0, or 1 if there is something */
		arm(c, handle_of(w[1]));
	else if (strcmp(w[0], "woken") == 0)
		answer("%s", contract_waiter_woken(&handle_of(w[1])->waiter) ? "yes" : "no");
	else if (strcmp(w[0], "disarm") == 0)
		answer("%s",
		    c->ops->consumer_disarm(handle_of(w[1])->consumer, &handle_of(w[1])->waiter.waiter) ? "yes" : "no");
	else if (strcmp(w[0], "ack") == 0) /* ack q a, a-c or all */
		settle(c, ENGINE_ACK, w[1], w[2]);
	else if (strcmp(w[0], "nack") == 0)
		settle(c, ENGINE_NACK, w[1], w[2]);
	else if (strcmp(w[0], "reject") == 0)
		settle(c, ENGINE_REJECT, w[1], w[2]);
	else
		return false;
	return true;
}

static int create_object(struct contract *c, enum engine_kind kind, struct engine_object *parent, const char *name)
{
	struct engine_owner owner = { 1000, 100, 0750 };
	struct engine_object *object = NULL;
	int rc = c->ops->create(c->engine, parent, kind, name, &owner, &object);

	c->ops->put(object);
	return rc;
}

static int create_consumer(struct contract *c, char *path)
{
	char *slash = strrchr(path, '/');
	struct engine_object *queue;
	int rc;

	*slash = '\0';
	queue = q_object(c, path);
	rc = create_object(c, ENGINE_CONSUMER, queue, slash + 1);
	c->ops->put(queue);
	return rc;
}

static int set_setting(struct contract *c, struct engine_object *object, const char *name, const char *value)
{
	struct engine_identity identity;

	assert_ok(c->ops->identity(object, &identity));
	return c->ops->set_setting(object, engine_setting_find(identity.kind, name), value != NULL ? value : "");
}

static const char *get_setting(struct contract *c, struct engine_object *object, const char *name)
{
	struct engine_identity identity;

	assert_ok(c->ops->identity(object, &identity));
	assert_ok(c->ops->get_setting(object, engine_setting_find(identity.kind, name), c->text));
	return c->text;
}

/* Commands about objects, and time. */
static bool run_object(struct contract *c, char *const *w)
{
	struct engine_object *object;

	if (strcmp(w[0], "queue") == 0) {
		answer_ok(create_object(c, ENGINE_QUEUE, c->root, w[1]));
	} else if (strcmp(w[0], "topic") == 0) {
		answer_ok(create_object(c, ENGINE_TOPIC, c->root, w[1]));
	} else if (strcmp(w[0], "exchange") == 0) {
		answer_ok(create_object(c, ENGINE_EXCHANGE, c->root, w[1]));
	} else if (strcmp(w[0], "consumer") == 0) {
		answer_ok(create_consumer(c, w[1]));
	} else if (strcmp(w[0], "tick") == 0) {
		q_tick(strtoll(w[1], NULL, 10));
	} else if (strcmp(w[0], "dated") == 0) { /* dated -500: what is sent next was made then */
		s->dated = strtoll(w[1], NULL, 10);
		answer("ok");
	} else if (strcmp(w[0], "as") == 0) { /* as 1: who reads and claims from now on */
		s->uid = (uint32_t)strtoul(w[1], NULL, 10);
		answer("ok");
	} else if (strcmp(w[0], "limit") == 0) { /* limit 3: what each may have leased; root has no limit */
		c->leases.limit = strtoull(w[1], NULL, 10);
		answer("ok");
	} else if (strcmp(w[0], "held") == 0) { /* held 1: what this user has leased */
		answer("%" PRIu64, c->leases.held[strtoul(w[1], NULL, 10)]);
	} else if (strcmp(w[0], "reopen") == 0) {
		contract_reopen(c);
	} else if (strcmp(w[0], "crash") == 0) {
		crash(c);
	} else if (strcmp(w[0], "rmdir") == 0) {
		object = q_object(c, w[1]);
		answer_ok(c->ops->remove(object));
		c->ops->put(object);
	} else if (strcmp(w[0], "rename") == 0) {
		object = q_object(c, w[1]);
		answer_ok(c->ops->rename(object, w[2]));
		c->ops->put(object);
	} else if (strcmp(w[0], "set") == 0) {
		object = q_object(c, w[1]);
		answer_ok(set_setting(c, object, w[2], w[3]));
		c->ops->put(object);
	} else if (strcmp(w[0], "setting") == 0) {
		object = q_object(c, w[1]);
		answer("%s", get_setting(c, object, w[2]));
		c->ops->put(object);
	} else {
		return false;
	}
	return true;
}

static int room(struct contract *c, const char *name, const char *bytes, const char *props)
{
	struct engine_object *queue = q_object(c, name);
	struct engine_props own = ENGINE_PROPS_INIT;
	int err;

	if (props != NULL && props[0] == 'd')
		own.delay_ms = strtoll(props + 1, NULL, 10);
	else if (props != NULL)
		own.id = (struct engine_span){ props + 1, strlen(props + 1) };
	err = c->ops->queue->room(queue, strtoull(bytes, NULL, 10), props != NULL ? &own : NULL);

	c->ops->put(queue);
	return err;
}

/* "open 2 1 0", "committed", "aborted timeout": of an open one how many messages, settles and cursors are staged */
static void show_tx(struct contract *c, struct engine_object *tx)
{
	static const char *const why[] = { "", "rollback", "timeout", "refused", "restart" };
	struct engine_tx_stat stat;
	int rc = c->ops->tx->tx_stat(tx, &stat);

	if (rc < 0)
		answer_rc(rc);
	else if (stat.state == ENGINE_TX_OPEN)
		answer("open %" PRIu64 " %" PRIu64 " %" PRIu64, stat.messages, stat.settles, stat.cursors);
	else
		answer("%s%s", stat.state == ENGINE_TX_COMMITTED ? "committed" : "aborted ", why[stat.why]);
}

static bool add_queue(void *ctx, const struct engine_dirent *entry)
{
	snprintf(ctx, 64, "%s", entry->name);
	return false;
}

/* The ids of all that is in queues. */
static void learn_every(struct contract *c)
{
	struct engine_object *queue;
	uint64_t after = 0;
	char name[64];

	for (;;) {
		name[0] = '\0';
		assert_ok(c->ops->list(c->engine, c->root, ENGINE_QUEUE, after, add_queue, name));
		if (name[0] == '\0')
			return;
		queue = contract_lookup(c, c->root, ENGINE_QUEUE, name);
		after = contract_id(c, queue);
		learn_all(c, queue);
		c->ops->put(queue);
	}
}

/* Commands about transactions: tx t, commit t, rollback t, state t, forget t */
static bool run_tx(struct contract *c, char *const *w)
{
	struct engine_object *tx;
	bool known = true;

	if (strcmp(w[0], "tx") == 0) {
		answer_ok(create_object(c, ENGINE_TX, c->root, w[1]));
		return true;
	}
	/* no look for other commands, which would do what is due before the call that is to do it */
	if (strcmp(w[0], "commit") != 0 && strcmp(w[0], "rollback") != 0 && strcmp(w[0], "state") != 0 &&
	    strcmp(w[0], "forget") != 0)
		return false;
	if (w[1] == NULL || c->ops->tx == NULL || c->ops->lookup(c->engine, c->root, ENGINE_TX, w[1], &tx) < 0)
		return false;
	if (strcmp(w[0], "commit") == 0) {
		answer_ok(c->ops->tx->commit(tx));
		if (strcmp(s->answer, "ok") == 0)
			learn_every(c);
	} else if (strcmp(w[0], "rollback") == 0) {
		answer_ok(c->ops->tx->rollback(tx));
	} else if (strcmp(w[0], "state") == 0) {
		show_tx(c, tx);
	} else if (strcmp(w[0], "forget") == 0) {
		answer_ok(c->ops->remove(tx));
	} else {
		known = false;
	}
	c->ops->put(tx);
	return known;
}

static void run_once(struct contract *c, const char *command)
{
	char *save = NULL;
	size_t count = 0;

	choose(c);
	memset(s->words, 0, sizeof(s->words));
	snprintf(s->line, sizeof(s->line), "%s", command);
	for (char *word = strtok_r(s->line, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
		cr_assert_lt(count, WORDS - 1, "too long: %s", command);
		s->words[count++] = word;
	}
	s->answer[0] = '\0';
	if (strcmp(s->words[0], "in") == 0) { /* in t send q a: within a transaction */
		s->tx = contract_lookup(c, c->root, ENGINE_TX, s->words[1]);
		memmove(s->words, s->words + 2, (WORDS - 2) * sizeof(s->words[0]));
	}
	if (strcmp(s->words[0], "show") == 0) /* show q: what is ready, unacked, delayed */
		show(c, s->words[1], false);
	else if (strcmp(s->words[0], "detail") == 0)
		show(c, s->words[1], true);
	else if (strcmp(s->words[0], "send") == 0 || strcmp(s->words[0], "push") == 0)
		answer_ok(send_words(c, s->words[1], s->words[0][0] == 'p'));
	else if (strcmp(s->words[0], "room") == 0) /* room q BYTES, of one with d100 or =ID */
		answer_ok(room(c, s->words[1], s->words[2], s->words[3]));
	else if (strcmp(s->words[0], "mv") == 0)
		answer_ok(move(c, s->words));
	else if (!run_tx(c, s->words) && !run_object(c, s->words) && !run_consumer(c, s->words) &&
		 !x_run(c, s->words, s->answer, sizeof(s->answer)))
		cr_assert(run_queue(c, s->words), "there is no command %s", command);
	c->ops->put(s->tx);
	s->tx = NULL;
}

/* Commands that only ask, and may be asked again. */
static bool is_look(const char *command)
{
	static const char *const looks[] = { "show ", "detail ", "totals ", "message ", "deaths ", "setting ", "state ",
		"log ", "patterns ", "bindings ", "exchange-stat ", "await ", "woken " };

	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
		if (strncmp(command, looks[i], strlen(looks[i])) == 0)
			return true;
	}
	return false;
}

const char *q_run(struct contract *c, const char *command)
{
	if (strcmp(command, "reopen") == 0 || strcmp(command, "crash") == 0) { /* under test is what they call */
		run_once(c, command);
		return s->answer;
	}
	if (is_look(command)) { /* it may be refused, or may not see what is due, until no allocation fails */
		for (uint64_t n = 0; contract_look_again(&n);)
			run_once(c, command);
		return s->answer;
	}
	for (uint64_t n = 0; contract_again(&n, strcmp(s->answer, "ENOMEM") == 0 || strcmp(s->answer, "EIO") == 0);)
		run_once(c, command);
	return s->answer;
}

const char *q_answer(void)
{
	return s->answer;
}

void q_script(struct contract *c, const char *const *lines)
{
	for (unsigned n = 1; *lines != NULL; lines++, n++) {
		const char *arrow = strstr(*lines, " =>"), *expected = arrow != NULL ? arrow + 3 : "";
		char command[512];

		snprintf(command, sizeof(command), "%.*s", arrow != NULL ? (int)(arrow - *lines) : 511, *lines);
		expected += expected[0] == ' ';
		if (arrow == NULL)
			expected = NULL;
		q_run(c, command);
		if (expected == NULL)
			expected = strcmp(s->answer, "ok") == 0 ? "ok" : "";
		cr_assert_str_eq(s->answer, expected, "line %u, %s: \"%s\" and not \"%s\" (%s)", n, command, s->answer,
		    expected, engine_reason());
	}
}
