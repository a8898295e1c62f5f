#include "tests/lib/crash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/contract_queue.h"

#define CRASHES 5u /* of each moment: nothing of what was not synced is there, all, two at random; a kill */

uint64_t crash_make(struct contract *c, const struct powercut *cut, size_t n, uint64_t seed, bool kill)
{
	uint64_t hash = 0;
	int fd;

	c->persists = true;
	tmpdir_make(&c->dir);
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	cr_assert_eq(mkdir(c->source, 0700), 0);
	fd = open(c->source, O_RDONLY | O_DIRECTORY);
	if (kill)
		powercut_kill(cut, n, fd);
	else
		hash = powercut_make(cut, n, seed, fd);
	close(fd);
	return hash;
}

uint64_t crash_replace(struct contract *c, const struct powercut *cut, size_t n, uint64_t seed, bool kill)
{
	contract_close(c);
	tmpdir_remove(&c->dir);
	return crash_make(c, cut, n, seed, kill);
}

void crash_each(const struct powercut *cut, size_t first, size_t last,
    void (*check)(struct contract *c, const struct crash_moment *at, void *ctx), void *ctx)
{
	for (size_t i = first * CRASHES; i < (last + 1) * CRASHES; i++) {
		struct crash_moment at = { .n = i / CRASHES, .seed = i % CRASHES, .kill = i % CRASHES == CRASHES - 1 };
		struct contract *c = calloc(1, sizeof(*c));

		if (at.seed >= 2)
			at.seed += at.n * 4;
		snprintf(at.what, sizeof(at.what), "%s after %zu changes, seed %" PRIu64,
		    at.kill ? "kill" : "power cut", at.n, at.seed);
		q_prepare(c, true);
		crash_make(c, cut, at.n, at.seed, at.kill);
		check(c, &at, ctx);
		q_close(c);
		free(c);
	}
}
