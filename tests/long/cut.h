/*
 * cut - the disks that a power cut or a kill could leave at a change of a recorded work (work.h): each is opened by the real recovery,
 * closed, and looked at by a checker that shares no code with the engine. What must be so in each is at the head of state.c.
 * From some the recovery is recorded, too, and cut, and the same holds of what the next one makes of that.
 *
 * MQFS_POWER_KEEP: stop at the first violation, with the store as it was before its recovery in /dev/shm/long-before.
 */
#ifndef MQFS_TEST_CUT_H
#define MQFS_TEST_CUT_H

#include "tests/long/work.h"

struct figures *cut_figures(void); /* shared with the works; what they make is in memory */

/* Makes a store in a new directory. */
void cut_begin(struct work *w, struct tmpdir *dir);
/* From here on the changes are recorded, and counted by work_now(). */
void cut_record(struct work *w);
/* One state of those after n changes; which: 0: nothing that was not synced is there, 1: everything, 2: of a kill, else by chance. */
void cut_try(struct work *w, size_t n, unsigned which);

/* Runs works 0, 1, ... as long as there are more, each in a process of its own, jobs at a time. Returns their number. */
uint64_t cut_works(struct figures *figures, uint64_t jobs, bool (*more)(uint64_t i), void (*run)(uint64_t i));

#endif
