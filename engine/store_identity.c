/*
 * store_identity - which store it is, asked of all its parts but FORMAT: for fsck.mqfs, which makes a lost one anew.
 *
 * The uuid is in the catalog and its copy, in each file of the journal, and in each segment. Those that can be read must agree, and there must be one: else it cannot be told
 * whose they are, and nothing is written. What these parts are of has format 1, as there is no other yet.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/journal.h"
#include "engine/store.h"
#include "engine/store_guard.h"

struct votes {
	const char *path;
	uint8_t uuid[16];
	char whose[64]; /* of what it is; "": none yet */
};

static int vote(struct votes *votes, const char *whose, const uint8_t uuid[16])
{
	if (votes->whose[0] != '\0' && memcmp(votes->uuid, uuid, sizeof(votes->uuid)) != 0)
		return engine_explain(-EUCLEAN, "whose store %s is cannot be told: %s and %s are of different ones",
		    votes->path, votes->whose, whose);
	memcpy(votes->uuid, uuid, sizeof(votes->uuid));
	snprintf(votes->whose, sizeof(votes->whose), "%s", whose);
	return 0;
}

/* Of what cannot be read there is no vote; err: what keeps it from being read, if that says nothing of it. */
static int vote_if_read(struct votes *votes, int err, const char *whose, const uint8_t uuid[16])
{
	if (err == 0)
		return vote(votes, whose, uuid);
	return io_wants_means(err) ? err : 0;
}

static int ask_catalog(struct votes *votes, int dirfd)
{
	struct catalog *catalog;
	uint8_t uuid[16];
	int err = catalog_open(dirfd, true, &catalog);

	if (!err) {
		err = catalog_uuid(catalog, uuid);
		catalog_close(catalog);
	}
	err = vote_if_read(votes, err, "the catalog", uuid);
	return err ? err : vote_if_read(votes, catalog_copy_uuid(dirfd, uuid), "its copy", uuid);
}

/* The first segment of a log. */
static int ask_log(struct votes *votes, int logs_dirfd, const char *name)
{
	uint8_t bytes[INDEX_SLOT];
	struct index_header header;
	struct dirent *entry;
	char whose[64];
	DIR *dir;
	int fd = -ENOENT, rc = io_open_dir(logs_dirfd, name, &dir);

	if (rc < 0)
		return io_wants_means(rc) ? rc : 0;
	while (fd < 0 && (entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (len > 6 && strcmp(entry->d_name + len - 6, ".index") == 0)
			fd = io_open_existing(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW);
	}
	closedir(dir);
	if (fd < 0)
		return 0;
	rc = io_pread_all(fd, bytes, sizeof(bytes), 0);
	close(fd);
	if (rc == 0)
		rc = index_get_header(bytes, &header);
	snprintf(whose, sizeof(whose), "log %.16s", name);
	return vote_if_read(votes, rc, whose, header.uuid);
}

static int ask_logs(struct votes *votes, int dirfd)
{
	struct dirent *entry;
	DIR *dir;
	int rc = io_open_dir(dirfd, "logs", &dir), logs_fd;

	if (rc < 0)
		return io_wants_means(rc) ? rc : 0;
	logs_fd = io_open_existing(dirfd, "logs", O_RDONLY | O_DIRECTORY);
	rc = logs_fd < 0 ? logs_fd : 0;
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			rc = ask_log(votes, logs_fd, entry->d_name);
	}
	if (logs_fd >= 0)
		close(logs_fd);
	closedir(dir);
	return rc;
}

static int ask_journal(struct votes *votes, int dirfd)
{
	int fd = io_open_existing(dirfd, "journal", O_RDONLY | O_DIRECTORY), rc;
	uint8_t uuid[16];

	if (fd < 0)
		return io_wants_means(fd) ? fd : 0;
	rc = journal_uuid(fd, uuid);
	close(fd);
	if (rc == -EUCLEAN)
		return engine_explain(
		    rc, "whose store %s is cannot be told: files of its journal are of different ones", votes->path);
	return vote_if_read(votes, rc, "the journal", uuid);
}

static int find_uuid(int dirfd, const char *path, uint8_t ret_uuid[16])
{
	struct votes votes = { .path = path };
	int rc;

	rc = store_read_format(dirfd, path, ret_uuid);
	if (rc == 0)
		return engine_explain(-EEXIST, "%s has a %s", path, STORE_FORMAT_NAME);
	if (rc != -ENOENT && (rc != -EUCLEAN || store_format_is_newer(dirfd)))
		return rc;
	rc = ask_catalog(&votes, dirfd);
	if (rc == 0)
		rc = ask_journal(&votes, dirfd);
	if (rc == 0)
		rc = ask_logs(&votes, dirfd);
	if (rc == 0 && votes.whose[0] == '\0')
		rc = engine_explain(-EUCLEAN, "nothing in %s says whose store it is", path);
	if (rc == 0)
		memcpy(ret_uuid, votes.uuid, sizeof(votes.uuid));
	return rc;
}

int store_find_uuid(const char *path, uint8_t ret_uuid[16])
{
	int fd = io_open_existing(AT_FDCWD, path, O_RDONLY | O_DIRECTORY), rc;

	if (fd < 0)
		return fd;
	rc = find_uuid(fd, path, ret_uuid);
	close(fd);
	return rc;
}

int store_remake_format(const char *path)
{
	int fd = io_open_existing(AT_FDCWD, path, O_RDONLY | O_DIRECTORY), lock_fd, rc;
	uint8_t uuid[16];

	if (fd < 0)
		return engine_explain(fd, "%s cannot be opened: %s", path, strerror(-fd));
	rc = store_lock(fd, path, &lock_fd);
	if (rc == 0) {
		rc = find_uuid(fd, path, uuid);
		if (rc == 0)
			rc = store_write_format(fd, uuid);
		if (rc < 0 && engine_reason()[0] == '\0')
			rc = engine_explain(rc, "%s/%s cannot be written: %s", path, STORE_FORMAT_NAME, strerror(-rc));
		close(lock_fd);
	}
	close(fd);
	return rc;
}
