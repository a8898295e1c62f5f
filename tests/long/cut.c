#include "tests/long/cut.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/nosync.h"

#define SEEDS 14u /* images for each change, at most */
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

void cut_try(struct work *w, size_t n, unsigned which)
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

/* ---- the works ---- */

void cut_begin(struct work *w, struct tmpdir *dir)
{
	w->segment_bytes = "4096";
	nosync_install();
	tmpdir_make(dir);
	snprintf(w->source, sizeof(w->source), "%s/store", dir->path);
	work_open(w);
	work_set_up(w);
}

void cut_record(struct work *w)
{
	int fd = open(w->source, O_RDONLY | O_DIRECTORY);

	w->cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
}

struct figures *cut_figures(void)
{
	tmpdir_in_memory();
	return mmap(NULL, sizeof(struct figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void run_child(void (*run)(uint64_t i), uint64_t i)
{
	int null = open("/dev/null", O_RDONLY);

	dup2(null, 0);
	run(i);
	_exit(0);
}

uint64_t cut_works(struct figures *figures, uint64_t jobs, bool (*more)(uint64_t i), void (*run)(uint64_t i))
{
	uint64_t next = 0, running = 0;
	int status;

	while (running > 0 || more(next)) {
		if (running < jobs && more(next)) {
			if (fork() == 0)
				run_child(run, next);
			next++;
			running++;
			continue;
		}
		wait(&status);
		running--;
		if (status != 0) {
			atomic_fetch_add(&figures->violations, 1);
			fprintf(stderr, "a work ended with status %x\n", (unsigned)status);
		}
	}
	return next;
}
