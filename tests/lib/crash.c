#include "tests/lib/crash.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

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
