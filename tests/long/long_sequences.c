/*
 * Power loss after every short sequence of operations: all of one, two and three of the kinds of steps that work.h has, each on a store
 * in which every log has some messages already, so that the next ones fill a segment. At each change of the last step the disks that a
 * power cut or a kill could leave are looked at (cut.h); those of the steps before it are of the shorter sequences.
 *
 * Most faults of file systems that a power cut shows need no more than three operations, after something was synced: Mohan et al.,
 * Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing (OSDI 2018).
 *
 * MQFS_SEQUENCES_LENGTH (3), MQFS_SEQUENCES_SECONDS (0: no bound), MQFS_SEQUENCES_EACH (1: every sequence; 7: each 7th), MQFS_SEQUENCES_FROM
 * (0: the number of the first), MQFS_SEQUENCES_SEED (1), MQFS_SEQUENCES_JOBS (1). A violation has the number of its sequence as seed. The last line
 * is: sequences STATES DISTINCT RECOVERY SEQUENCES OF-ALL KINDS VIOLATIONS SEED.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/long/cut.h"

#define IMAGES 6u /* for each change */
#define LENGTH_MAX 6u
#define FILL 8u /* batches */

static struct {
	struct figures *figures;
	uint64_t from, each, seed, length, all;
	time_t until; /* 0: no bound */
} run;

static bool more(uint64_t i)
{
	return run.from + i * run.each < run.all && (!run.until || time(NULL) < run.until);
}

/* How many sequences have this length. */
static uint64_t count_of(unsigned length)
{
	uint64_t count = 1;

	while (length-- > 0)
		count *= work_kinds;
	return count;
}

/* The kinds of the steps of a sequence: the short ones come first. Returns its length. */
static unsigned sequence(uint64_t number, unsigned kinds[LENGTH_MAX])
{
	unsigned length = 1;

	for (; number >= count_of(length); length++)
		number -= count_of(length);
	for (unsigned i = 0; i < length; i++, number /= work_kinds)
		kinds[i] = (unsigned)(number % work_kinds);
	return length;
}

static void run_sequence(uint64_t i)
{
	struct work *w = calloc(1, sizeof(*w));
	uint64_t number = run.from + i * run.each;
	unsigned kinds[LENGTH_MAX], length = sequence(number, kinds);
	struct tmpdir dir;
	size_t last = 0;

	w->figures = run.figures;
	w->seed = number;
	w->random = number * run.seed;
	w->has_members = w->lingers = true;
	cut_begin(w, &dir);
	work_fill(w, FILL);
	cut_record(w);
	for (unsigned step = 0; step < length; step++) {
		last = work_now(w);
		work_step_of(w, kinds[step]);
	}
	powercut_stop(w->cut);
	work_close(w);
	for (size_t n = last; n <= powercut_count(w->cut); n++)
		for (unsigned which = 0; which < IMAGES; which++)
			cut_try(w, n, which);
	atomic_fetch_add(&run.figures->works, 1);
	tmpdir_remove(&dir);
}

int main(void)
{
	struct figures *f = run.figures = cut_figures();
	uint64_t seconds = work_environment("MQFS_SEQUENCES_SECONDS", 0);
	time_t begin = time(NULL);

	run.length = work_environment("MQFS_SEQUENCES_LENGTH", 3);
	run.from = work_environment("MQFS_SEQUENCES_FROM", 0);
	run.each = work_environment("MQFS_SEQUENCES_EACH", 1);
	run.seed = work_environment("MQFS_SEQUENCES_SEED", 1);
	run.until = seconds ? begin + (time_t)seconds : 0;
	work_must(run.length <= LENGTH_MAX, "the length");
	for (unsigned length = 1; length <= run.length; length++)
		run.all += count_of(length);
	cut_works(f, work_environment("MQFS_SEQUENCES_JOBS", 1), more, run_sequence);
	fprintf(stderr, "%" PRIu64 " states in %" PRId64 " s\n", f->distinct, (int64_t)(time(NULL) - begin));
	printf("sequences %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %" PRIu64 " %" PRIu64 "\n",
	    f->tried, f->distinct, f->recovery, f->works, run.all, work_kinds, f->violations, run.seed);
	return f->violations > 0;
}
