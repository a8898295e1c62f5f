/*
 * nosync - files of the engine are changed as always, but never synced, and get no room before they need it: for tests that make
 * many stores and cut no power themselves, or record the syncs (powercut.h), and need none to happen.
 */
#ifndef MQFS_TEST_NOSYNC_H
#define MQFS_TEST_NOSYNC_H

/* For the rest of the process; before anything else puts itself in the place of the engine's io table. */
void nosync_install(void);

#endif
