/* Opening by source, sentences, and scratch memory. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/scratch.h"
#include "tests/lib/tmpdir.h"

static int open_source(const char *source)
{
	struct engine_options options = { .create = false };
	struct engine *engine = NULL;
	int rc = engine_open(source, &options, &engine);

	cr_assert_eq(rc == 0, engine != NULL);
	if (rc == 0)
		cr_assert_eq(engine->ops->close(engine), 0);
	return rc;
}

/* memory: is the memory engine, and nothing follows it. */
Test(engine, opens_memory)
{
	struct engine_options options = { 0 };
	struct engine *engine = NULL;
	const struct engine_ops *ops;

	cr_assert_eq(engine_open("memory:", &options, &engine), 0);
	ops = engine->ops;
	cr_assert_str_eq(ops->name, "memory");
	cr_assert_eq(ops->close(engine), 0);
	cr_assert_eq(ops->close(NULL), 0);
	cr_assert_eq(open_source("memory:x"), -EINVAL);
	cr_assert_str_not_empty(engine_reason());
}

/* A path is the local engine's, with local: before it and without, and whatever looks like a scheme further on. */
Test(engine, opens_local)
{
	static struct tmpdir dir;
	static char path[PATH_MAX + 64];

	tmpdir_make(&dir);
	snprintf(path, sizeof(path), "%s/absent", dir.path);
	cr_assert_eq(open_source(path), -ENOENT);
	snprintf(path, sizeof(path), "local:%s/absent", dir.path);
	cr_assert_eq(open_source(path), -ENOENT);
	cr_assert_eq(open_source("absent"), -ENOENT); /* where it was started */
	snprintf(path, sizeof(path), "%s/absent/kafka://x", dir.path);
	cr_assert_eq(open_source(path), -ENOENT);
	tmpdir_remove(&dir);
}

/* A scheme nobody knows is refused with a sentence that names it, and makes no directory. */
Test(engine, refuses_other_schemes)
{
	static const char *const sources[] = { "kafka://host:9092", "amqp://host/vhost", "a+b-c.1://", "file:///tmp",
		"local:///tmp", "memory://", "a-scheme-that-is-longer-than-anyone-reads://" };

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		cr_assert_eq(open_source(sources[i]), -EPROTONOSUPPORT, "%s", sources[i]);
		cr_assert_eq(strncmp(engine_reason(), "no engine for ", 14), 0);
	}
	open_source(sources[0]);
	cr_assert(strstr(engine_reason(), "kafka://") != NULL);
}

/* The sentence is formatted, goes with the errno that is passed through, and is gone when cleared. */
Test(engine, explains)
{
	cr_assert_str_eq(engine_reason(), "");
	cr_assert_eq(engine_explain(-ERANGE, "%s is %d", "x", 7), -ERANGE);
	cr_assert_str_eq(engine_reason(), "x is 7");
	cr_assert_eq(engine_explain(-EINVAL, "other"), -EINVAL);
	cr_assert_str_eq(engine_reason(), "other");
	engine_reason_clear();
	cr_assert_str_eq(engine_reason(), "");
}

/* A sentence is one line of text, whatever went into it, and never longer than the buffer. */
Test(engine, explains_on_one_line)
{
	char text[600];

	engine_explain(-EINVAL, "a\nb\tc\x1b[0m\x7f caf\xc3\xa9");
	cr_assert_str_eq(engine_reason(), "a\\nb\\x09c\\x1b[0m\\x7f caf\xc3\xa9");
	memset(text, '\n', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	engine_explain(-EINVAL, "%s", text);
	cr_assert_leq(strlen(engine_reason()), 255);
	cr_assert_eq(strlen(engine_reason()) % 2, 0, "no half escape at the end");
	engine_explain(-EINVAL, "%s", engine_reason());
	cr_assert_leq(strlen(engine_reason()), 255);
}

static void *explain_elsewhere(void *arg)
{
	(void)arg;
	if (engine_reason()[0] != '\0')
		return (void *)"saw another thread's";
	engine_explain(-EIO, "elsewhere");
	return NULL;
}

/* Every thread has its own. */
Test(engine, explains_per_thread)
{
	void *wrong = NULL;
	pthread_t thread;

	engine_explain(-EIO, "here");
	cr_assert_eq(pthread_create(&thread, NULL, explain_elsewhere, NULL), 0);
	pthread_join(thread, &wrong);
	cr_assert_null(wrong);
	cr_assert_str_eq(engine_reason(), "here");
}

/* A call that fails without a sentence does not show that of an older failure. */
Test(engine, old_reasons_go)
{
	struct engine_options options = { 0 };
	struct engine *engine = NULL;
	struct engine_object *none = NULL;

	cr_assert_eq(engine_open("memory:", &options, &engine), 0);
	engine_explain(-EIO, "old");
	cr_assert_eq(engine->ops->get(engine, 999, &none), -ENOENT);
	cr_assert_str_eq(engine_reason(), "");
	cr_assert_eq(engine->ops->close(engine), 0);
}

/* Arrays that are laid out do not overlap, are aligned, and have the room that was asked for. */
Test(engine, scratch_lays_out)
{
	struct scratch_need need = { .data = 1001, .count = 7, .props = 7, .headers = 3, .text = 55 };
	struct engine_scratch scratch = { 0 };
	struct scratch_room room;

	cr_assert_eq(scratch_lay_out(&scratch, &need, &room), 0);
	cr_assert_eq((uintptr_t)room.props % _Alignof(struct engine_props), 0);
	cr_assert_eq((uintptr_t)room.headers % _Alignof(struct engine_header), 0);
	cr_assert_eq((uintptr_t)room.lengths % _Alignof(uint32_t), 0);
	memset(room.props, 1, 7 * sizeof(*room.props));
	memset(room.headers, 2, 3 * sizeof(*room.headers));
	memset(room.lengths, 3, 7 * sizeof(*room.lengths));
	memset(room.text, 4, 55);
	memset(room.data, 5, 1001);
	cr_assert_eq(((char *)room.props)[7 * sizeof(*room.props) - 1], 1);
	cr_assert_eq(((char *)room.headers)[3 * sizeof(*room.headers) - 1], 2);
	cr_assert_eq(((char *)room.lengths)[7 * sizeof(*room.lengths) - 1], 3);
	cr_assert_eq(room.text[54], 4);
	cr_assert_leq(room.data + 1001, (char *)scratch.mem + scratch.size);
	engine_scratch_release(&scratch);
}

/* A scratch grows and stays grown; released, it is empty and can be used again. */
Test(engine, scratch_grows)
{
	struct engine_scratch scratch = { 0 };
	struct scratch_need need = { .data = 10, .count = 1 };
	struct scratch_room room;
	size_t size;

	cr_assert_eq(scratch_lay_out(&scratch, &need, &room), 0);
	cr_assert(room.props == NULL && room.headers == NULL && room.text == NULL);
	cr_assert_eq(scratch_reserve(&scratch, 1 << 20), 0);
	size = scratch.size;
	cr_assert_geq(size, 1 << 20);
	cr_assert_eq(scratch_reserve(&scratch, 5), 0);
	cr_assert_eq(scratch.size, size);
	cr_assert_eq(scratch_reserve(&scratch, SIZE_MAX), -ENOMEM);
	cr_assert_eq(scratch.size, size, "a failure leaves it as it was");
	engine_scratch_release(&scratch);
	cr_assert(scratch.mem == NULL && scratch.size == 0);
	engine_scratch_release(&scratch);
	cr_assert_eq(scratch_reserve(&scratch, 1), 0);
	engine_scratch_release(&scratch);
}
