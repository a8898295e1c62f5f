#include "tests/lib/contract_exchange.h"

#include <stdarg.h>

#define LOGGED 50

/* Where a command's answer goes. */
struct says {
	struct contract *c;
	char *answer;
	size_t size;
};

static void say(struct says *says, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct says *says, const char *format, ...)
{
	size_t used = strlen(says->answer);
	va_list args;

	va_start(args, format);
	vsnprintf(says->answer + used, says->size - used, format, args);
	va_end(args);
}

static void say_ok(struct says *says, int rc)
{
	say(says, "%s", rc == 0 ? "ok" : strerrorname_np(-rc));
}

/* ---- what is bound ---- */

static bool say_name(void *ctx, const char *name, uint64_t target)
{
	struct says *says = ctx;

	(void)target;
	say(says, "%s%s", says->answer[0] != '\0' ? " " : "", name);
	return true;
}

/* After each name the list is asked anew, from there: so it is known to go on from any place. */
static bool say_first(void *ctx, const char *name, uint64_t target)
{
	say_name(ctx, name, target);
	return false;
}

static void list(struct says *says, struct engine_object *exchange, const char *pattern)
{
	const struct engine_exchange_ops *ops = says->c->ops->exchange;
	const char *last = NULL;
	char one[512], all[4096];

	int rc = ops->list(exchange, pattern, NULL, say_name, says);

	if (rc < 0) {
		say_ok(says, rc);
		return;
	}
	if (says->answer[0] == '\0')
		say(says, "-");
	snprintf(all, sizeof(all), "%s", says->answer);
	for (char *save = NULL, *word = strtok_r(all, " ", &save); word != NULL && all[0] != '-';
	     word = strtok_r(NULL, " ", &save)) {
		struct says first = { says->c, one, sizeof(one) };

		one[0] = '\0';
		assert_ok(ops->list(exchange, pattern, last, say_first, &first));
		cr_assert_str_eq(one, word);
		last = word;
	}
}

static int bind(struct contract *c, struct engine_object *exchange, char *const *w)
{
	struct engine_object *target = q_object(c, w[4]);
	uint64_t found = 0;
	int rc = c->ops->exchange->bind(exchange, w[2], w[3], target);

	if (rc == 0) {
		assert_ok(c->ops->exchange->binding(exchange, w[2], w[3], &found));
		cr_assert_eq(found, contract_id(c, target));
	}
	c->ops->put(target);
	return rc;
}

static const char *const types[] = { "topic", "direct", "fanout", "headers" };

static int set_type(struct contract *c, struct engine_object *exchange, const char *word)
{
	enum engine_exchange_type type = ENGINE_TOPIC_EXCHANGE;

	while (type <= ENGINE_HEADERS && strcmp(types[type], word) != 0)
		type++;
	return c->ops->exchange->set_type(exchange, type);
}

static void get_type(struct says *says, struct engine_object *exchange)
{
	enum engine_exchange_type type;

	assert_ok(says->c->ops->exchange->get_type(exchange, &type));
	say(says, "%s", types[type]);
}

static void get_stat(struct says *says, struct engine_object *exchange)
{
	struct engine_exchange_stat stat;

	assert_ok(says->c->ops->exchange->exchange_stat(exchange, &stat));
	say(says,
	    "published %" PRIu64 " routed %" PRIu64 " unroutable %" PRIu64 " refused %" PRIu64 " patterns %" PRIu64
	    " bindings %" PRIu64,
	    stat.published, stat.routed, stat.unroutable, stat.refused, stat.patterns, stat.bindings);
}

/* ---- publishing ---- */

/* "a:kKEY:iID:rROUTING.KEY:p5:hNAME=VALUE": a payload and its properties. */
static void add_message(char *word, struct engine_props *props, struct engine_header *header, char *data)
{
	char *save = NULL, *part = strtok_r(word, ":", &save);

	*props = ENGINE_PROPS_INIT;
	strcat(data, part);
	strcat(data, "\n");
	while ((part = strtok_r(NULL, ":", &save)) != NULL) {
		struct engine_span value = { part + 1, strlen(part + 1) };
		char *equals = strchr(part, '=');

		if (part[0] == 'k')
			props->key = value;
		else if (part[0] == 'i')
			props->id = value;
		else if (part[0] == 'r')
			props->routing_key = value;
		else if (part[0] == 'p')
			props->priority = atoi(part + 1);
		else if (part[0] == 'd')
			props->delay_ms = atoi(part + 1);
		else if (equals != NULL) {
			header[props->header_count].name =
			    (struct engine_span){ part + 1, (size_t)(equals - part) - 1 };
			header[props->header_count++].value = (struct engine_span){ equals + 1, strlen(equals + 1) };
			props->headers = header;
		}
	}
}

/* pub e KEY a b: one batch, KEY as the producer's (-: none) */
static int publish(struct contract *c, struct engine_object *exchange, char *const *w)
{
	struct engine_span key = { strcmp(w[2], "-") != 0 ? w[2] : NULL, strlen(w[2]) };
	struct engine_producer *producer = NULL;
	struct engine_props props[16];
	struct engine_header headers[16][8];
	struct engine_batch batch;
	char data[1024] = "";
	bool plain = true;
	uint32_t count = 0;
	int rc = c->ops->producer_open(exchange, ENGINE_ANY, key, &producer);

	if (rc < 0)
		return rc;
	for (; w[3 + count] != NULL; count++) {
		plain = plain && strchr(w[3 + count], ':') == NULL;
		add_message(w[3 + count], &props[count], headers[count], data);
	}
	batch = contract_batch(data);
	if (!plain)
		batch.props = props;
	rc = contract_send_batch(c, producer, &batch);
	if (rc == 0) {
		contract_called();
		rc = contract_sync(c, producer);
	}
	c->ops->producer_close(producer);
	return rc;
}

/* ---- what came ---- */

static void say_view(struct says *says, const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		const struct engine_props *props = view->batch.props != NULL ? &view->batch.props[i] : NULL;

		const char *dot = memchr(data, '.', view->batch.lengths[i]); /* what fills it up */
		int len = dot != NULL ? (int)(dot - data) : (int)view->batch.lengths[i];

		say(says, "%s%.*s", says->answer[0] != '\0' ? "," : "", len, data);
		if (props != NULL && props->routing_key.ptr != NULL)
			say(says, "@%.*s", (int)props->routing_key.len, props->routing_key.ptr);
		data += view->batch.lengths[i] + 1;
	}
}

struct queue_log {
	struct says *says;
	struct engine_object *queue;
};

static bool say_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct queue_log *log = ctx;
	struct contract *c = log->says->c;
	struct engine_view view;

	(void)next;
	assert_ok(c->ops->queue->message_read(log->queue, stat->id, &c->scratch, &view));
	say_view(log->says, &view);
	return true;
}

/* log t, log q: what there is, by partition (the last LOGGED) or in order of delivery, with routing keys */
static void log_of(struct says *says, struct engine_object *object)
{
	struct contract *c = says->c;
	struct queue_log log = { says, object };
	struct engine_identity identity;
	struct engine_view view;
	uint64_t cursor[2] = { 0 };

	assert_ok(c->ops->identity(object, &identity));
	if (identity.kind == ENGINE_QUEUE) {
		assert_ok(
		    c->ops->queue->message_list(object, ENGINE_READY, ENGINE_ANY, NULL, cursor, say_message, &log));
	} else {
		for (uint32_t p = 0; p < contract_stat(c, object).partitions; p++) {
			struct engine_partition_stat has = contract_partition(c, object, p);
			uint64_t offset = has.end - has.earliest > LOGGED ? has.end - LOGGED : has.earliest;

			while (c->ops->partition_read(object, p, offset, UINT32_MAX, &c->scratch, &view) == 0) {
				say_view(says, &view);
				offset = view.offset + view.batch.count;
			}
		}
	}
	if (says->answer[0] == '\0')
		say(says, "-");
}

struct awaited {
	struct engine_object *object;
	uint64_t count;
	unsigned looks;
};

static bool has_so_many(struct contract *c, void *ctx)
{
	struct awaited *awaited = ctx;
	struct engine_exchange_stat published;
	struct engine_partition_stat log;
	struct engine_identity identity;
	struct engine_queue_stat stat;

	if (contract_allocs_fail && ++awaited->looks % 50 == 0)
		q_tick(1000); /* what had no memory is tried again a second later, by the clock of the script */
	assert_ok(c->ops->identity(awaited->object, &identity));
	switch (identity.kind) {
	case ENGINE_EXCHANGE:
		assert_ok(c->ops->exchange->exchange_stat(awaited->object, &published));
		return published.published == awaited->count;
	case ENGINE_TOPIC:
		assert_ok(c->ops->partition_stat(awaited->object, 0, &log));
		return log.end == awaited->count;
	default: assert_ok(c->ops->queue->queue_stat(awaited->object, &stat)); return stat.ready == awaited->count;
	}
}

/* await q/dlq 0: until so many are ready; in a topic, until so many came; of an exchange, until it has published so many */
static void await(struct contract *c, struct engine_object *object, const char *count)
{
	struct awaited awaited = { object, strtoull(count, NULL, 10), 0 };

	contract_wait(c, has_so_many, &awaited, "so many messages are there");
}

bool x_run(struct contract *c, char *const *w, char *answer, size_t size)
{
	struct says says = { c, answer, size };
	struct engine_object *object = w[1] != NULL ? q_object(c, w[1]) : NULL;
	const struct engine_exchange_ops *ops = c->ops->exchange;
	bool known = true;

	if (strcmp(w[0], "type") == 0 && w[2] != NULL) /* type e fanout */
		say_ok(&says, set_type(c, object, w[2]));
	else if (strcmp(w[0], "type") == 0)
		get_type(&says, object);
	else if (strcmp(w[0], "pattern") == 0) /* pattern e a.* */
		say_ok(&says, ops->pattern_add(object, w[2]));
	else if (strcmp(w[0], "unpattern") == 0)
		say_ok(&says, ops->pattern_remove(object, w[2]));
	else if (strcmp(w[0], "bind") == 0) /* bind e a.* NAME t */
		say_ok(&says, bind(c, object, w));
	else if (strcmp(w[0], "unbind") == 0) /* unbind e a.* NAME */
		say_ok(&says, ops->unbind(object, w[2], w[3]));
	else if (strcmp(w[0], "rebind") == 0) /* rebind e a.* NAME NEW: replaces; with a word more it does not */
		say_ok(&says, ops->rename(object, w[2], w[3], w[4], w[5] == NULL));
	else if (strcmp(w[0], "patterns") == 0)
		list(&says, object, NULL);
	else if (strcmp(w[0], "bindings") == 0) /* bindings e a.* */
		list(&says, object, w[2]);
	else if (strcmp(w[0], "exchange-stat") == 0)
		get_stat(&says, object);
	else if (strcmp(w[0], "pub") == 0)
		say_ok(&says, publish(c, object, w));
	else if (strcmp(w[0], "await") == 0)
		await(c, object, w[2]);
	else if (strcmp(w[0], "log") == 0)
		log_of(&says, object);
	else
		known = false;
	c->ops->put(object);
	return known;
}
