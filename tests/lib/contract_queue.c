#include "tests/lib/contract_queue.h"

#include <stdatomic.h>

#include "engine/clock.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_queue_script.h"

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

static struct script scripts[2]; /* a model test runs two engines side by side */
struct script *script;

static void choose(const struct contract *c)
{
	script = &scripts[scripts[1].c == c];
	cr_assert_eq(script->c, c);
}

void q_prepare(struct contract *c, bool persists)
{
	script = &scripts[scripts[0].c != NULL];
	memset(script, 0, sizeof(*script));
	script->c = c;
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
	script->c = NULL;
}

void q_lenient(struct contract *c)
{
	choose(c);
	script->lenient = true;
}

void contract_queue_run(bool persists, void (*test)(struct contract *c))
{
	struct contract *c = calloc(1, sizeof(*c));
	bool has_queues;

	cr_assert_not_null(c);
	tmpdir_in_memory();
	q_open(c, persists);
	has_queues = c->ops->queue != NULL;
	if (has_queues)
		test(c);
	q_close(c);
	free(c);
	if (!has_queues)
		cr_skip_test("SKIP: the engine has no queues");
}

/* ---- objects by their names ---- */

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

/* ---- commands ---- */

/* The store as the death of the daemon leaves it now, with all that is open. Its end is not seen by the copy. */
static void crash(struct contract *c)
{
	char dead[sizeof(c->source) + 8];

	c->ops->put(q_object(
	    c, "q")); /* what is due is done: else a log may be made while it is copied, which no crash shows so */
	snprintf(dead, sizeof(dead), "%s.dead", c->source);
	tmpdir_replace(dead, c->source);
	for (size_t i = 0; i < HANDLES; i++)
		script_close_handle(c, &script->handles[i]);
	contract_close(c);
	tmpdir_replace(c->source, dead);
	contract_open(c);
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
		script_answer_ok(create_object(c, ENGINE_QUEUE, c->root, w[1]));
	} else if (strcmp(w[0], "topic") == 0) {
		script_answer_ok(create_object(c, ENGINE_TOPIC, c->root, w[1]));
	} else if (strcmp(w[0], "exchange") == 0) {
		script_answer_ok(create_object(c, ENGINE_EXCHANGE, c->root, w[1]));
	} else if (strcmp(w[0], "consumer") == 0) {
		script_answer_ok(create_consumer(c, w[1]));
	} else if (strcmp(w[0], "tick") == 0) {
		q_tick(strtoll(w[1], NULL, 10));
	} else if (strcmp(w[0], "dated") == 0) { /* dated -500: what is sent next was made then */
		script->dated = strtoll(w[1], NULL, 10);
		script_answer("ok");
	} else if (strcmp(w[0], "as") == 0) { /* as 1: who reads and claims from now on */
		script->uid = (uint32_t)strtoul(w[1], NULL, 10);
		script_answer("ok");
	} else if (strcmp(w[0], "limit") == 0) { /* limit 3: what each may have leased; root has no limit */
		c->leases.limit = strtoull(w[1], NULL, 10);
		script_answer("ok");
	} else if (strcmp(w[0], "held") == 0) { /* held 1: what this user has leased */
		script_answer("%" PRIu64, c->leases.held[strtoul(w[1], NULL, 10)]);
	} else if (strcmp(w[0], "reopen") == 0) {
		contract_reopen(c);
	} else if (strcmp(w[0], "crash") == 0) {
		crash(c);
	} else if (strcmp(w[0], "rmdir") == 0) {
		object = q_object(c, w[1]);
		script_answer_ok(c->ops->remove(object));
		c->ops->put(object);
	} else if (strcmp(w[0], "rename") == 0) {
		object = q_object(c, w[1]);
		script_answer_ok(c->ops->rename(object, w[2]));
		c->ops->put(object);
	} else if (strcmp(w[0], "set") == 0) {
		object = q_object(c, w[1]);
		script_answer_ok(set_setting(c, object, w[2], w[3]));
		c->ops->put(object);
	} else if (strcmp(w[0], "setting") == 0) {
		object = q_object(c, w[1]);
		script_answer("%s", get_setting(c, object, w[2]));
		c->ops->put(object);
	} else {
		return false;
	}
	return true;
}

/* "open 2 1 0", "committed", "aborted timeout": of an open one how many messages, settles and cursors are staged */
static void show_tx(struct contract *c, struct engine_object *tx)
{
	static const char *const why[] = { "", "rollback", "timeout", "refused", "restart" };
	struct engine_tx_stat stat;
	int rc = c->ops->tx->tx_stat(tx, &stat);

	if (rc < 0)
		script_answer_rc(rc);
	else if (stat.state == ENGINE_TX_OPEN)
		script_answer("open %" PRIu64 " %" PRIu64 " %" PRIu64, stat.messages, stat.settles, stat.cursors);
	else
		script_answer("%s%s", stat.state == ENGINE_TX_COMMITTED ? "committed" : "aborted ", why[stat.why]);
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
		script_learn_all(c, queue);
		c->ops->put(queue);
	}
}

/* Commands about transactions: tx t, commit t, rollback t, state t, forget t */
static bool run_tx(struct contract *c, char *const *w)
{
	struct engine_object *tx;
	bool known = true;

	if (strcmp(w[0], "tx") == 0) {
		script_answer_ok(create_object(c, ENGINE_TX, c->root, w[1]));
		return true;
	}
	/* no look for other commands, which would do what is due before the call that is to do it */
	if (strcmp(w[0], "commit") != 0 && strcmp(w[0], "rollback") != 0 && strcmp(w[0], "state") != 0 &&
	    strcmp(w[0], "forget") != 0)
		return false;
	if (w[1] == NULL || c->ops->tx == NULL || c->ops->lookup(c->engine, c->root, ENGINE_TX, w[1], &tx) < 0)
		return false;
	if (strcmp(w[0], "commit") == 0) {
		script_answer_ok(c->ops->tx->commit(tx));
		if (strcmp(script->answer, "ok") == 0)
			learn_every(c);
	} else if (strcmp(w[0], "rollback") == 0) {
		script_answer_ok(c->ops->tx->rollback(tx));
	} else if (strcmp(w[0], "state") == 0) {
		show_tx(c, tx);
	} else if (strcmp(w[0], "forget") == 0) {
		script_answer_ok(c->ops->remove(tx));
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
	memset(script->words, 0, sizeof(script->words));
	snprintf(script->line, sizeof(script->line), "%s", command);
	for (char *word = strtok_r(script->line, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
		cr_assert_lt(count, WORDS - 1, "too long: %s", command);
		script->words[count++] = word;
	}
	script->answer[0] = '\0';
	if (strcmp(script->words[0], "in") == 0) { /* in t send q a: within a transaction */
		script->tx = contract_lookup(c, c->root, ENGINE_TX, script->words[1]);
		memmove(script->words, script->words + 2, (WORDS - 2) * sizeof(script->words[0]));
	}
	if (strcmp(script->words[0], "show") == 0) /* show q: what is ready, unacked, delayed */
		script_show(c, script->words[1], false);
	else if (strcmp(script->words[0], "detail") == 0)
		script_show(c, script->words[1], true);
	else if (!script_run_sending(c, script->words) && !run_tx(c, script->words) && !run_object(c, script->words) &&
		 !script_run_consumer(c, script->words) &&
		 !x_run(c, script->words, script->answer, sizeof(script->answer)))
		cr_assert(script_run_queue(c, script->words), "there is no command %s", command);
	c->ops->put(script->tx);
	script->tx = NULL;
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
		return script->answer;
	}
	if (is_look(command)) { /* it may be refused, or may not see what is due, until no allocation fails */
		for (uint64_t n = 0; contract_look_again(&n);)
			run_once(c, command);
		return script->answer;
	}
	for (uint64_t n = 0;
	     contract_again(&n, strcmp(script->answer, "ENOMEM") == 0 || strcmp(script->answer, "EIO") == 0);)
		run_once(c, command);
	return script->answer;
}

const char *q_answer(void)
{
	return script->answer;
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
			expected = strcmp(script->answer, "ok") == 0 ? "ok" : "";
		cr_assert_str_eq(script->answer, expected, "line %u, %s: \"%s\" and not \"%s\" (%s)", n, command,
		    script->answer, expected, engine_reason());
	}
}
