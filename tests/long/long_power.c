/*
 * Power loss, many times: random works on a store are recorded, and the disks that a power cut or a kill could leave at each of their
 * changes are looked at (cut.h). The works are those of work.h (each third with members of a group, each second with a queue that lingers).
 *
 * MQFS_POWER_STATES (distinct ones, by a hash of the image; 3000), MQFS_POWER_SECONDS (0: no bound), MQFS_POWER_SEED (1, the first of
 * the works), MQFS_POWER_STEP (1: to the seed of the next; 2, from 2 on: those with a queue that lingers), MQFS_POWER_FROM (0: the
 * change of each to begin at), MQFS_POWER_EACH (1: every change; 7: each 7th), MQFS_POWER_JOBS (1).
 * The last line is: power STATES DISTINCT RECOVERY WORKS VIOLATIONS FIRST-SEED LAST-SEED.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/long/cut.h"

#define STEPS 90u
#define IMAGES 14u /* for each change */

static struct {
	struct figures *figures;
	uint64_t states, first, step, from, each;
	time_t until; /* 0: no bound */
} run;

static bool goes_on(void)
{
	return atomic_load(&run.figures->distinct) < run.states && (!run.until || time(NULL) < run.until);
}

static bool more(uint64_t i)
{
	(void)i;
	return goes_on();
}

/* One work, and all states of it. */
static void run_work(uint64_t i)
{
	struct work *w = calloc(1, sizeof(*w));
	uint64_t seed = run.first + i * run.step;
	struct tmpdir dir;

	w->figures = run.figures;
	w->seed = w->random = seed;
	w->has_members = seed % 3 == 0;
	w->lingers = seed % 2 == 0;
	cut_begin(w, &dir);
	cut_record(w);
	for (unsigned step = 0; step < STEPS; step++)
		work_step(w);
	powercut_stop(w->cut);
	work_close(w);
	for (size_t n = run.from + seed % run.each; n <= powercut_count(w->cut); n += run.each)
		for (unsigned which = 0; which < IMAGES && goes_on(); which++)
			cut_try(w, n, which);
	atomic_fetch_add(&run.figures->works, 1);
	tmpdir_remove(&dir);
}

int main(void)
{
	struct figures *f = run.figures = cut_figures();
	uint64_t seconds = work_environment("MQFS_POWER_SECONDS", 0), works;
	time_t begin = time(NULL);

	run.states = work_environment("MQFS_POWER_STATES", 3000);
	run.first = work_environment("MQFS_POWER_SEED", 1);
	run.step = work_environment("MQFS_POWER_STEP", 1);
	run.from = work_environment("MQFS_POWER_FROM", 0);
	run.each = work_environment("MQFS_POWER_EACH", 1);
	run.until = seconds ? begin + (time_t)seconds : 0;
	works = cut_works(f, work_environment("MQFS_POWER_JOBS", 1), more, run_work);
	fprintf(stderr, "%" PRIu64 " states in %" PRId64 " s\n", f->distinct, (int64_t)(time(NULL) - begin));
	printf("power %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f->tried,
	    f->distinct, f->recovery, f->works, f->violations, run.first, run.first + (works - 1) * run.step);
	return f->violations > 0;
}
