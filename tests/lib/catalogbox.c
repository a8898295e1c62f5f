#include "tests/lib/catalogbox.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/io.h"

const struct engine_owner catalogbox_owner = { .uid = 1, .gid = 2, .mode = 0751 };
struct tmpdir catalogbox_dir;

void catalogbox_init(void)
{
	tmpdir_make(&catalogbox_dir);
}

void catalogbox_fini(void)
{
	io = &io_posix;
	tmpdir_remove(&catalogbox_dir);
}

struct catalog *catalogbox_open(void)
{
	struct catalog *catalog;

	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), 0, "%s", engine_reason());
	return catalog;
}

struct catalog *catalogbox_make(void)
{
	cr_assert_eq(catalog_create(catalogbox_dir.fd, &catalogbox_owner), 0);
	return catalogbox_open();
}

struct catalog *catalogbox_reopen(struct catalog *catalog)
{
	catalog_close(catalog);
	return catalogbox_open();
}

int catalogbox_put(struct catalog *catalog, uint64_t id, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	struct catalog_object object = { .id = id, .parent_id = parent_id, .kind = kind };

	object.owner = (struct engine_owner){ .uid = 100, .gid = 200, .mode = 0640 };
	object.birth = (struct engine_owner){ .uid = 300, .gid = 400, .mode = 0600 };
	object.ctime_ms = -5;
	object.mtime_ms = 1732300000000;
	snprintf(object.name, sizeof(object.name), "%s", name);
	return catalog_put_object(catalog, &object);
}

int catalogbox_note(struct seen *seen, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (seen->len < sizeof(seen->text))
		seen->len += (size_t)vsnprintf(seen->text + seen->len, sizeof(seen->text) - seen->len, format, args);
	va_end(args);
	return ++seen->count == seen->stop_at ? 42 : 0;
}

int catalogbox_see_object(void *ctx, const struct catalog_object *object)
{
	return catalogbox_note(
	    ctx, "%" PRIu64 "<%" PRIu64 ":%d:%s ", object->id, object->parent_id, (int)object->kind, object->name);
}

void catalogbox_fill_topic(struct catalog *catalog, uint64_t topic, uint64_t group, const char *name)
{
	struct catalog_setting settings[] = { { "retention.ms", "5" }, { "linger.ms", "0" } };
	struct engine_owner owner = { 0 };

	cr_assert_eq(catalogbox_put(catalog, topic, 1, ENGINE_TOPIC, name), 0);
	cr_assert_eq(catalogbox_put(catalog, group, topic, ENGINE_GROUP, "g"), 0);
	cr_assert_eq(catalog_put_settings(catalog, topic, ENGINE_TOPIC, settings, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, group, ENGINE_GROUP, settings, 1), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, topic, "in", &owner), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, group, "ack", &owner), 0);
	for (uint32_t i = 0; i < 600; i++) {
		struct catalog_cursor cursor = { .group_id = group, .partition = i };

		if (i < 5)
			cr_assert_eq(catalog_add_partition(catalog, topic, i, 1000 + i), 0);
		if (i % 100 == 0) {
			struct catalog_cursor cursors[100];

			for (uint32_t k = 0; k < 100; k++, cursor.partition++)
				cursors[k] = cursor;
			cr_assert_eq(catalog_put_cursors(catalog, cursors, 100), 0);
		}
	}
}
