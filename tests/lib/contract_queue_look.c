/*
 * contract_queue_look - what a script sees of a queue, and the names it has for messages: their payloads.
 */
#include <stdarg.h>

#include "tests/lib/contract_queue_script.h"

#define READ_ONE_OF 16

/* ---- answers ---- */

void script_answer(const char *format, ...)
{
	size_t used = strlen(script->answer);
	va_list args;

	va_start(args, format);
	vsnprintf(script->answer + used, sizeof(script->answer) - used, format, args);
	va_end(args);
}

void script_answer_rc(int64_t rc)
{
	if (rc < 0)
		script_answer("%s", strerrorname_np((int)-rc));
	else
		script_answer("%" PRId64, rc);
}

void script_answer_ok(int rc)
{
	if (rc == 0)
		script_answer("ok");
	else
		script_answer_rc(rc);
}

/* ---- names ---- */

enum engine_message_state script_state(const char *word)
{
	static const char *const names[] = { "ready", "unacked", "delayed" };
	unsigned i = 0;

	while (i < ENGINE_STATE_COUNT && strcmp(names[i], word) != 0)
		i++;
	cr_assert_lt(i, ENGINE_STATE_COUNT, "there is no state %s", word);
	return (enum engine_message_state)i;
}

/* A payload is its name, and what fills it up behind a dot. */
size_t script_name_length(const char *text, size_t size)
{
	const char *dot = memchr(text, '.', size);

	return dot != NULL ? (size_t)(dot - text) : size;
}

/* In a lenient script copies have the same payload, by an exchange: it stands for the one that was seen first last. */
void script_learn(const char *text, size_t size, uint64_t id)
{
	size_t len = script_name_length(text, size);
	struct name *name, *other;

	HASH_FIND(by_id, script->ids, &id, sizeof(id), name);
	if (name != NULL) {
		cr_assert(name->size == size && strlen(name->text) == len && memcmp(name->text, text, len) == 0);
		return;
	}
	HASH_FIND(hh, script->names, text, len, other);
	if (other != NULL) {
		cr_assert(script->lenient, "%s had the id %" PRIu64 " and has %" PRIu64, other->text, other->id, id);
		HASH_DEL(script->names, other);
	}
	name = calloc(1, sizeof(*name));
	cr_assert_not_null(name);
	name->id = id;
	name->size = size;
	snprintf(name->text, sizeof(name->text), "%.*s", (int)len, text);
	HASH_ADD_KEYPTR(hh, script->names, name->text, strlen(name->text), name);
	HASH_ADD(by_id, script->ids, id, sizeof(name->id), name);
}

uint64_t script_id(const char *text)
{
	struct name *name;

	if (text[0] == '#')
		return strtoull(text + 1, NULL, 10);
	HASH_FIND(hh, script->names, text, strlen(text), name);
	cr_assert(name != NULL || script->lenient, "no message %s was seen", text);
	return name != NULL ? name->id : 0;
}

void q_forget(void)
{
	struct name *name, *next;

	HASH_CLEAR(hh, script->names);
	HASH_ITER (by_id, script->ids, name, next) {
		HASH_DELETE(by_id, script->ids, name);
		free(name);
	}
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

	HASH_FIND(by_id, script->ids, &stat->id, sizeof(stat->id), name);
	if (name != NULL && script->shown++ % READ_ONE_OF != 0) {
		cr_assert_eq(stat->size, name->size);
		return name->text;
	}
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	cr_assert_eq(view.batch.count, 1);
	cr_assert_eq(view.batch.lengths[0], stat->size);
	cr_assert_eq(view.deliveries[0].id, stat->id);
	script_learn(view.batch.data, view.batch.lengths[0], stat->id);
	HASH_FIND(by_id, script->ids, &stat->id, sizeof(stat->id), name);
	return name->text;
}

static bool list_one(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct listing *l = ctx;
	const char *name = read_name(l, stat);

	(void)next;
	cr_assert_eq(stat->state, l->state);
	if (!l->quiet)
		script_answer("%s%s", l->count > 0 ? "," : "", name);
	if (l->details) {
		script_answer("/%" PRIu32 "/%" PRIu32, stat->priority, stat->deliveries);
		if (stat->due_ms != INT64_MAX)
			script_answer("%+" PRId64, stat->due_ms - q_now());
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

void script_show(struct contract *c, const char *path, bool details)
{
	struct engine_object *queue = q_object(c, path);
	size_t begin = strlen(script->answer);
	uint64_t commas = 0;

	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		size_t from;

		if (state > 0)
			script_answer(" | ");
		from = strlen(script->answer);
		list_state(c, queue, (enum engine_message_state)state, false, details);
		commas += script->answer[from] != '\0';
	}
	for (const char *p = script->answer + begin; *p != '\0'; p++)
		commas += *p == ',';
	check_stat(c, queue, commas);
	c->ops->put(queue);
}

void script_learn_all(struct contract *c, struct engine_object *queue)
{
	struct engine_object *dlq = NULL;

	contract_called();
	for (int state = 0; state < ENGINE_STATE_COUNT; state++)
		list_state(c, queue, (enum engine_message_state)state, true, false);
	if (c->ops->lookup(c->engine, queue, ENGINE_QUEUE, "dlq", &dlq) < 0)
		return;
	script_learn_all(c, dlq);
	c->ops->put(dlq);
}

/* ---- one message, and figures ---- */

static void show_deaths(struct contract *c, struct engine_object *queue, uint64_t id)
{
	static const char *const reasons[] = { "rejected", "expired", "maxlen", "delivery_limit" };
	struct engine_view view;
	int rc = c->ops->queue->message_read(queue, id, &c->scratch, &view);

	if (rc < 0) {
		script_answer_rc(rc);
		return;
	}
	if (view.batch.props == NULL || view.batch.props[0].death_count == 0) {
		script_answer("-");
		return;
	}
	for (uint32_t i = 0; i < view.batch.props[0].death_count; i++) {
		const struct engine_death *d = &view.batch.props[0].deaths[i];

		script_answer("%s%.*s:%s:%" PRIu32 ":%" PRId64, i > 0 ? " " : "", (int)d->queue.len, d->queue.ptr,
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
		script_answer_rc(rc);
		return;
	}
	cr_assert_eq(stat.id, id);
	cr_assert_eq(stat.consumer_id != 0, stat.state == ENGINE_UNACKED);
	assert_ok(c->ops->queue->message_read(queue, id, &c->scratch, &view));
	cr_assert_eq(view.deliveries[0].redelivered, stat.deliveries > (stat.state == ENGINE_UNACKED));
	script_answer("%s p%" PRIu32 " d%" PRIu32, states[stat.state], stat.priority, stat.deliveries);
	if (stat.due_ms != INT64_MAX)
		script_answer(" %+" PRId64, stat.due_ms - q_now());
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
			script_answer("%" PRIu64, values[i]);
		else if (one == NULL && values[i] > 0 && i < 9)
			script_answer("%s%s %" PRIu64, script->answer[0] != '\0' ? " " : "", names[i], values[i]);
	}
}

bool script_run_queue(struct contract *c, char *const *w)
{
	const struct engine_queue_ops *ops = c->ops->queue;
	struct engine_object *queue = q_object(c, w[1]);
	bool known = true;

	if (strcmp(w[0], "rm") == 0) /* rm q ready a */
		script_answer_ok(ops->message_remove(queue, script_id(w[3]), script_state(w[2])));
	else if (strcmp(w[0], "touch") == 0) /* touch q ready a +100 */
		script_answer_ok(ops->message_touch(queue, script_id(w[3]), script_state(w[2]),
		    q_now() + (w[4] != NULL ? strtoll(w[4], NULL, 10) : 0)));
	else if (strcmp(w[0], "purge") == 0)
		script_answer_ok(ops->purge(queue));
	else if (strcmp(w[0], "redrive") == 0 && w[2] != NULL) /* redrive q/dlq a */
		script_answer_rc(ops->redrive(queue, script_id(w[2]), script_id(w[2])));
	else if (strcmp(w[0], "redrive") == 0)
		script_answer_rc(ops->redrive(queue, 0, UINT64_MAX));
	else if (strcmp(w[0], "deaths") == 0) /* deaths q/dlq a */
		show_deaths(c, queue, script_id(w[2]));
	else if (strcmp(w[0], "message") == 0) /* message q a */
		show_message(c, queue, script_id(w[2]));
	else if (strcmp(w[0], "totals") == 0) /* totals q [dead] */
		show_totals(c, queue, w[2]);
	else
		known = false;
	c->ops->put(queue);
	return known;
}
