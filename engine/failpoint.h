/*
 * failpoint - places with names where a test makes the engine, or the tree over it, fail or die.
 *
 * CRASHPOINT("name") is a step between two changes of files: a test may kill the process there. FAILPOINT("name") is 0, or the
 * negative errno that the test wants the next call to have had. They are nothing in what is installed; the objects of
 * libengine.failpoints.a and libfs.failpoints.a (Makefile) have them, in a section of their own, so that a test lists them all: a name
 * that it never comes to fails it (tests/engine/test_failpoints.c, tests/fs/test_fs_failpoints.c). What is beside io.h: that fails any call, these a step with a meaning.
 */
#ifndef MQFS_FAILPOINT_H
#define MQFS_FAILPOINT_H

struct failpoint {
	const char *name;
	int fails; /* may give an error, too */
	_Atomic unsigned hits;
};

/* The test's, tests/lib/failpoint.c: 0 or negative errno, if it returns. */
int failpoint_hit(struct failpoint *point);

#ifdef MQFS_FAILPOINTS
#define FAILPOINT_(text, may_fail)                                                                                     \
	__extension__({                                                                                                \
		static struct failpoint point_ = { .name = (text), .fails = (may_fail) };                              \
		static struct failpoint *const entry_ __attribute__((section("failpoints"), used)) = &point_;          \
		failpoint_hit(entry_);                                                                                 \
	})
#define FAILPOINT(name) FAILPOINT_(name, 1)
#define CRASHPOINT(name) ((void)FAILPOINT_(name, 0))
#else
#define FAILPOINT(name) 0
#define CRASHPOINT(name) ((void)0)
#endif

#endif
