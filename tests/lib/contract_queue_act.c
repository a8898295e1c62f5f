/*
 * contract_queue_act - what a script does with the messages of a queue: produces, consumes, settles and moves them.
 */
#include "tests/lib/contract_queue_script.h"

#define LARGEST 100000 /* message */

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
	static char data[WORDS * (LARGEST + 1) + sizeof(script->line)];
	char *end = data, *at = strchr(path, '@');
	uint32_t lengths[WORDS], priority = at != NULL ? (uint32_t)strtoul(at + 1, NULL, 10) : ENGINE_ANY;
	struct engine_props props[WORDS];
	struct engine_batch batch = { .data = data,
		.lengths = lengths,
		.props = props,
		.cred = { 1, 2, 3 },
		.ts_ms = script->dated != 0 ? q_now() + script->dated : -1 };
	struct engine_producer *producer = NULL;
	struct engine_object *queue;
	int rc;

	script->dated = 0;
	if (at != NULL)
		*at = '\0';
	queue = q_object(c, path);
	for (; script->words[2 + batch.count] != NULL; batch.count++)
		end = add_message(script->words[2 + batch.count], end, &lengths[batch.count], &props[batch.count]);
	batch.len = (size_t)(end - data);
	if (script->tx != NULL)
		rc = c->ops->tx->producer_open(script->tx, queue, priority, head, (struct engine_span){ 0 }, &producer);
	else
		rc = c->ops->queue->producer_open(queue, priority, head, &producer);
	if (rc == 0)
		rc = contract_send_batch(c, producer, &batch);
	c->ops->producer_close(producer);
	if (rc == 0 && script->tx == NULL)
		script_learn_all(c, queue);
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
			script_learn(data, view.batch.lengths[i], d->id);
			script_answer("%s%.*s%s", given++ > 0 ? "," : "",
			    (int)script_name_length(data, view.batch.lengths[i]), data, d->redelivered ? "+" : "");
			data += view.batch.lengths[i] + 1;
		}
	}
	if (given == 0)
		script_answer("%s", rc == 0 ? "-" : strerrorname_np(-rc));
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
	int rc = c->ops->queue->consumer_open(object, how_of(how), take, script->uid, &consumer);

	if (rc < 0)
		script_answer_rc(rc);
	else
		read_some(c, consumer, UINT32_MAX);
	c->ops->consumer_close(consumer);
	c->ops->put(object);
}

static struct handle *handle_of(const char *name)
{
	for (size_t i = 0; i < HANDLES; i++) {
		if (strcmp(script->handles[i].name, name) == 0)
			return &script->handles[i];
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
		    object, how_of(how), strstr(how, "-take") != NULL, script->uid, &handle->consumer);
	if (rc == 0)
		snprintf(handle->name, sizeof(handle->name), "%s", name);
	c->ops->put(object);
	return rc;
}

void script_close_handle(struct contract *c, struct handle *handle)
{
	c->ops->consumer_close(handle->consumer);
	c->ops->queue->session_close(handle->session);
	memset(handle, 0, sizeof(*handle));
}

static void arm(struct contract *c, struct handle *handle)
{
	contract_waiter_init(&handle->waiter);
	script_answer_rc(c->ops->consumer_arm(handle->consumer, &handle->waiter.waiter));
}

/* ---- settling and messages ---- */

static void settle(struct contract *c, enum engine_settle how, const char *path, char *ids)
{
	struct engine_object *consumer = q_object(c, path);
	char *dash = strchr(ids, '-');

	if (dash != NULL)
		*dash++ = '\0';
	if (strcmp(ids, "all") == 0 && script->tx != NULL)
		script_answer_rc(c->ops->tx->settle_all(script->tx, consumer, how));
	else if (strcmp(ids, "all") == 0)
		script_answer_rc(c->ops->queue->settle_all(consumer, how));
	else if (script->tx != NULL)
		script_answer_rc(c->ops->tx->settle(
		    script->tx, consumer, how, script_id(ids), script_id(dash != NULL ? dash : ids)));
	else
		script_answer_rc(
		    c->ops->queue->settle(consumer, how, script_id(ids), script_id(dash != NULL ? dash : ids)));
	c->ops->put(consumer);
}

/* mv q ready a o unacked o/w1 p5: the last two as needed */
static int move(struct contract *c, char *const *words)
{
	struct engine_object *queue = q_object(c, words[1]);
	struct engine_place place = { .queue = q_object(c, words[4]),
		.state = script_state(words[5]),
		.priority = ENGINE_ANY,
		.uid = script->uid };
	int rc;

	for (int i = 6; words[i] != NULL; i++) {
		if (words[i][0] == 'p')
			place.priority = (uint32_t)strtoul(words[i] + 1, NULL, 10);
		else
			place.consumer = q_object(c, words[i]);
	}
	rc = c->ops->queue->message_move(queue, script_id(words[3]), script_state(words[2]), &place);
	c->ops->put(place.consumer);
	c->ops->put(place.queue);
	c->ops->put(queue);
	return rc;
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

bool script_run_sending(struct contract *c, char **words)
{
	if (strcmp(words[0], "send") == 0 || strcmp(words[0], "push") == 0)
		script_answer_ok(send_words(c, words[1], words[0][0] == 'p'));
	else if (strcmp(words[0], "room") == 0) /* room q BYTES, of one with d100 or =ID */
		script_answer_ok(room(c, words[1], words[2], words[3]));
	else if (strcmp(words[0], "mv") == 0)
		script_answer_ok(move(c, words));
	else
		return false;
	return true;
}

bool script_run_consumer(struct contract *c, char *const *w)
{
	if (strcmp(w[0], "get") == 0) /* get q: next */
		read_new(c, w[1], "one", false);
	else if (strcmp(w[0], "snap") == 0) /* snap q: out */
		read_new(c, w[1], "snap", false);
	else if (strcmp(w[0], "take") == 0)
		read_new(c, w[1], "one", true);
	else if (strcmp(w[0], "open") == 0) /* open f q stream, one, wait, snap or session */
		script_answer_ok(open_handle(c, w[1], w[2], w[3]));
	else if (strcmp(w[0], "close") == 0)
		script_close_handle(c, handle_of(w[1]));
	else if (strcmp(w[0], "read") == 0) /* read f [count] */
		read_some(c, handle_of(w[1])->consumer, w[2] != NULL ? (uint32_t)strtoul(w[2], NULL, 10) : UINT32_MAX);
	else if (strcmp(w[0], "arm") == 0) /* arm f: 0, or 1 if there is something */
		arm(c, handle_of(w[1]));
	else if (strcmp(w[0], "woken") == 0)
		script_answer("%s", contract_waiter_woken(&handle_of(w[1])->waiter) ? "yes" : "no");
	else if (strcmp(w[0], "disarm") == 0)
		script_answer("%s",
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
