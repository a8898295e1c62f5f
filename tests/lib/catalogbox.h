/*
 * catalogbox - a catalog in a directory of its own, and what it gives as text.
 */
#ifndef MQFS_TEST_CATALOGBOX_H
#define MQFS_TEST_CATALOGBOX_H

#include <criterion/criterion.h>

#include "engine/catalog.h"
#include "tests/lib/tmpdir.h"

extern const struct engine_owner catalogbox_owner; /* of the root */
extern struct tmpdir catalogbox_dir;

/* For .init and .fini; the latter puts back the real io table. */
void catalogbox_init(void);
void catalogbox_fini(void);

struct catalog *catalogbox_make(void);
struct catalog *catalogbox_open(void);
struct catalog *catalogbox_reopen(struct catalog *catalog);

/* An object whose other fields are always the same. What catalog_put_object() says. */
int catalogbox_put(struct catalog *catalog, uint64_t id, uint64_t parent_id, enum engine_kind kind, const char *name);

/* A topic with a group, and some of all that a catalog has of these. */
void catalogbox_fill_topic(struct catalog *catalog, uint64_t topic, uint64_t group, const char *name);

/* What the catalog_each_* gave, as one line of text, so that a comparison shows what is different. Starts as {0}. */
struct seen {
	char text[4096];
	size_t len, count, stop_at; /* stop_at: the walk ends with 42 there; 0: at its end */
};
int catalogbox_note(struct seen *seen, const char *format, ...) __attribute__((format(printf, 2, 3)));
int catalogbox_see_object(void *ctx, const struct catalog_object *object); /* "id<parent:kind:name " */

/* call refers to a struct seen that is called got */
#define EXPECT_SEEN(call, expected)                                                                                    \
	do {                                                                                                           \
		struct seen got = { 0 };                                                                               \
		cr_assert_eq(call, 0);                                                                                 \
		cr_assert_str_eq(got.text, expected);                                                                  \
	} while (0)
#define EXPECT_OBJECTS(catalog, expected)                                                                              \
	EXPECT_SEEN(catalog_each_object(catalog, catalogbox_see_object, &got), expected)

#endif
