/*
 * powercut - what may be on a disk when the power goes at any moment.
 *
 * While it records, all changes of files in one directory, and in those below it, go through it. Afterwards powercut_make()
 * builds a directory as a power cut after the first n of them may have left it:
 *   - what was synced before is there; of what was not, each write is there or not, whichever came first, and a large one
 *     torn at any 512-byte sector; or a file has grown, and zeros are where bytes should be; a sector of a staging file,
 *     whose bytes carry no checksum, has what was written to it up to some point, and a hole where a page of it has only zeros; what
 *     was written to one after it was cut is there only if the cut is, as file systems with a journal keep it;
 *   - names that were made, renamed or removed in a directory are there up to some point in their order (as file systems
 *     with a journal keep it), and at least up to the last sync of that directory.
 * A kill of the process alone leaves all that was written: powercut_kill().
 *
 * A database that writes its own file, and syncs what it commits, is copied whenever it has changed.
 * Which of all these states it is follows from a seed.
 */
#ifndef MQFS_TEST_POWERCUT_H
#define MQFS_TEST_POWERCUT_H

#include <stddef.h>
#include <stdint.h>

struct powercut;

/* Begins with the files as they are, which count as synced. One recording at a time. */
struct powercut *powercut_start(int dirfd);
/* The same of a store: database is the name of its catalog, ignored of a file that needs not be there. */
struct powercut *powercut_start_store(int dirfd, const char *database, const char *ignored);
void powercut_stop(struct powercut *cut); /* the io table is again what it was */
void powercut_free(struct powercut *cut);

size_t powercut_count(const struct powercut *cut); /* changes so far */

/* Fills an empty directory. seed 0: nothing that was not synced; 1: everything; else by chance. Returns a hash of it. */
uint64_t powercut_make(const struct powercut *cut, size_t n, uint64_t seed, int to_dirfd);
/* The same, as a kill after the first n of them leaves it. */
void powercut_kill(const struct powercut *cut, size_t n, int to_dirfd);

#endif
