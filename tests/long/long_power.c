/*
 * Power loss, many times: random works on a store are recorded, the disks that a power cut or a kill could leave at each of their
 * changes are made, opened by the real recovery, closed, and looked at by a checker that shares no code with the engine.
 *
 * The works are those of work.h (each third with members of a group, each second with a queue that lingers), what must be so in every state is at the head of state.c.
 * From some states the recovery is recorded, too, and cut, and the same holds of what the next one makes of that.
 *
 * MQFS_POWER_STATES (distinct ones, by a hash of the image; 3000), MQFS_POWER_SECONDS (0: no bound), MQFS_POWER_SEED (1, the first of
 * the works), MQFS_POWER_STEP (1: to the seed of the next; 2, from 2 on: those with a queue that lingers), MQFS_POWER_FROM (0: the
 * change of each to begin at), MQFS_POWER_EACH (1: every change; 7: each 7th), MQFS_POWER_JOBS (1); MQFS_POWER_KEEP: stop at the first violation,
 * with the store as it was before its recovery in /dev/shm/long-before. The last line is: power STATES DISTINCT RECOVERY WORKS VIOLATIONS FIRST-SEED LAST-SEED.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/nosync.h"
#include "tests/long/work.h"

#define STEPS 90u
#define SEEDS 14u /* images for each change */
#define RECOVERIES_ONE_OF 8u
#define RECOVERY_CUTS 6u
#define HASHES (1u << 18)

static uint64_t hashes[HASHES]; /* of the images of a work */

/* Whether this image is a new one. */
static bool is_new(struct work *w, uint64_t hash)
{
	size_t at = (size_t)hash % HASHES;

	hash |= 1;
	atomic_fetch_add(&w->figures->tried, 1);
	while (hashes[at] != 0) {
		if (hashes[at] == hash)
			return false;
		at = (at + 1) % HASHES;
	}
	hashes[at] = hash;
	atomic_fetch_add(&w->figures->distinct, 1);
	return true;
}

static void cut_recovery(struct work *w, struct powercut *cut, size_t n, bool kill, const char *what)
{
	char text[200];

	for (unsigned i = 0; i < RECOVERY_CUTS; i++) {
		size_t at = work_pick(w, (unsigned)powercut_count(cut) + 1);
		uint64_t seed = i == 0 ? 0 : w->random >> 8;
		struct tmpdir dir;

		tmpdir_make(&dir);
		snprintf(text, sizeof(text), "%s, recovery cut at %zu (%" PRIu64 ")", what, at, seed);
		state_boot(true);
		if (is_new(w, powercut_make(cut, at, seed, dir.fd)) && state_recover(w, dir.path, true, text)) {
			atomic_fetch_add(&w->figures->recovery, 1);
			state_check(w, n, kill, true, dir.fd, text);
		}
		tmpdir_remove(&dir);
	}
}

static void try_state(struct work *w, size_t n, unsigned which)
{
	bool kill = which == 2, records = work_pick(w, kill && w->lingers ? 2 : RECOVERIES_ONE_OF) == 0;
	uint64_t seed = kill ? 1 : which < 2 ? which : (w->seed << 40) + n * SEEDS + which;
	struct powercut *cut = NULL;
	struct tmpdir dir;
	char what[100];

	tmpdir_make(&dir);
	snprintf(what, sizeof(what), "%s %" PRIu64, kill ? "kill" : "power cut", seed);
	if (is_new(w, powercut_make(w->cut, n, seed, dir.fd)) || kill) {
		bool has_catalog = faccessat(dir.fd, "catalog", F_OK, 0) == 0;

		if (getenv("MQFS_POWER_KEEP")) {
			char command[PATH_MAX * 2];

			snprintf(command, sizeof(command), "rm -rf /dev/shm/long-before; cp -a %s /dev/shm/long-before",
			    dir.path);
			work_must(system(command) == 0, command);
		}
		if (records && has_catalog)
			cut = powercut_start_store(dir.fd, "catalog", "reserve");
		state_boot(!kill);
		if (state_recover(w, dir.path, !records, what))
			state_check(w, n, kill, !records, dir.fd, what);
		if (cut != NULL) {
			powercut_stop(cut);
			cut_recovery(w, cut, n, kill, what);
			powercut_free(cut);
		}
	}
	if (getenv("MQFS_POWER_KEEP") &&
	    atomic_load(&w->figures->violations) > 0) /* to look at: the state is %s.before */
		raise(SIGSTOP);
	tmpdir_remove(&dir);
}

/* One work, and all states of it. */
static void run_work(struct figures *figures, uint64_t seed, uint64_t states, time_t until)
{
	struct work *w = calloc(1, sizeof(*w));
	struct tmpdir dir;
	uint64_t each = work_environment("MQFS_POWER_EACH", 1);
	int fd;

	w->figures = figures;
	w->segment_bytes = "4096";
	w->seed = w->random = seed;
	w->has_members = seed % 3 == 0;
	w->lingers = seed % 2 == 0;
	nosync_install();
	tmpdir_make(&dir);
	snprintf(w->source, sizeof(w->source), "%s/store", dir.path);
	work_open(w);
	work_set_up(w);
	fd = open(w->source, O_RDONLY | O_DIRECTORY);
	w->cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	for (unsigned i = 0; i < STEPS; i++)
		work_step(w);
	powercut_stop(w->cut);
	work_close(w);
	for (size_t n = work_environment("MQFS_POWER_FROM", 0) + seed % each; n <= powercut_count(w->cut); n += each)
		for (unsigned i = 0;
		     i < SEEDS && atomic_load(&figures->distinct) < states && (!until || time(NULL) < until); i++)
			try_state(w, n, i);
	atomic_fetch_add(&figures->works, 1);
	tmpdir_remove(&dir);
}

static void run_child(struct figures *figures, uint64_t seed, uint64_t states, time_t until)
{
	int null = open("/dev/null", O_RDONLY);

	dup2(null, 0);
	run_work(figures, seed, states, until);
	_exit(0);
}

int main(void)
{
	struct figures *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t states = work_environment("MQFS_POWER_STATES", 3000), jobs = work_environment("MQFS_POWER_JOBS", 1);
	uint64_t first = work_environment("MQFS_POWER_SEED", 1), seed = first, running = 0;
	uint64_t seconds = work_environment("MQFS_POWER_SECONDS", 0), step = work_environment("MQFS_POWER_STEP", 1);
	time_t begin = time(NULL), until = seconds ? begin + (time_t)seconds : 0;
	int status;

	tmpdir_in_memory();
	while (running > 0 || (atomic_load(&f->distinct) < states && (!until || time(NULL) < until))) {
		if (running < jobs && atomic_load(&f->distinct) < states && (!until || time(NULL) < until)) {
			if (fork() == 0)
				run_child(f, seed, states, until);
			seed += step;
			running++;
			continue;
		}
		wait(&status);
		running--;
		if (status != 0) {
			atomic_fetch_add(&f->violations, 1);
			fprintf(stderr, "a work ended with status %x\n", (unsigned)status);
		}
	}
	fprintf(stderr, "%" PRIu64 " states in %" PRId64 " s\n", f->distinct, (int64_t)(time(NULL) - begin));
	printf("power %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f->tried,
	    f->distinct, f->recovery, f->works, f->violations, first, seed - step);
	return f->violations > 0;
}
