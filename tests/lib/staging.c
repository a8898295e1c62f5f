#include "tests/lib/staging.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

const struct engine_cred staging_cred = { 1000, 100, 4711 };

int staging_open(struct contract *c, struct engine_producer *producer, char delimiter, const struct engine_cred *by,
    struct engine_stage **ret_stage)
{
	int rc = c->ops->stage->open(producer, delimiter, by, ret_stage);

	c->ops->producer_close(producer);
	return rc;
}

/* As the kernel opens the backing file of an opening with O_APPEND. */
int staging_writer(struct contract *c, struct engine_stage *stage)
{
	char path[64];
	int fd = c->ops->stage->descriptor(stage), writer;

	cr_assert_geq(fd, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(writer, 0);
	close(fd);
	return writer;
}

void staging_put(int writer, const char *text, size_t len)
{
	cr_assert_eq(write(writer, text, len), (ssize_t)len);
}

void staging_text(int writer, const char *text)
{
	staging_put(writer, text, strlen(text));
}

int staging_end(struct contract *c, struct engine_stage *stage, int writer)
{
	close(writer);
	return c->ops->stage->close(stage, true);
}

size_t staging_files(struct contract *c)
{
	char path[PATH_MAX + 200];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/staging", c->source);
	dir = opendir(path);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

bool staging_no_files(struct contract *c, void *ctx)
{
	(void)ctx;
	return staging_files(c) == 0;
}
