/*
 * stress - what the programs that stress one engine share: the engine, and short words for what they do to it.
 */
#ifndef MQFS_TEST_STRESS_H
#define MQFS_TEST_STRESS_H

#include <limits.h>

#include "tests/lib/tmpdir.h"
#include "tests/stress/must.h"

static struct engine *engine;
static const struct engine_ops *ops;
static struct engine_object *root;

/* A store in dir that is made. */
static inline void open_store(const char *dir)
{
	const struct engine_options options = { .create = true, .root_owner = { 0, 0, 0755 } };
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/store", dir);
	MUST(engine_open(path, &options, &engine) == 0);
	ops = engine->ops;
	MUST(ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
}

static inline struct engine_object *create(struct engine_object *parent, enum engine_kind kind, const char *name)
{
	const struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *object;

	MUST(ops->create(engine, parent, kind, name, &owner, &object) == 0);
	return object;
}

static inline int try_set(struct engine_object *object, enum engine_kind kind, const char *name, const char *value)
{
	return ops->set_setting(object, engine_setting_find(kind, name), value);
}

static inline void set(struct engine_object *object, enum engine_kind kind, const char *name, const char *value)
{
	MUST(try_set(object, kind, name, value) == 0);
}

#endif
