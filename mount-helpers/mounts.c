#include "mount-helpers/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* clang-format off */
static const struct {
	const char *word;
	unsigned long flag;
} flag_words[] = {
	{ "ro", MS_RDONLY },         { "nosuid", MS_NOSUID },         { "nodev", MS_NODEV },       { "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },   { "nodiratime", MS_NODIRATIME }, { "relatime", MS_RELATIME }, { "nosymfollow", MS_NOSYMFOLLOW },
};
/* clang-format on */

static unsigned long flags_parse(char *words)
{
	unsigned long flags = 0;
	char *rest = words;

	for (char *word; (word = strsep(&rest, ",")) != NULL;)
		for (size_t i = 0; i < sizeof(flag_words) / sizeof(flag_words[0]); i++)
			if (strcmp(word, flag_words[i].word) == 0)
				flags |= flag_words[i].flag;
	return flags;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes space, tab, newline and backslash as \ooo. */
static int unescape(const char *text, char *ret_plain, size_t size)
{
	size_t used = 0;

	for (const char *at = text; *at != '\0'; at++) {
		if (used + 1 >= size)
			return -ENAMETOOLONG;
		if (at[0] == '\\' && is_octal(at[1]) && is_octal(at[2]) && is_octal(at[3])) {
			ret_plain[used++] = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
			at += 3;
		} else {
			ret_plain[used++] = *at;
		}
	}
	ret_plain[used] = '\0';
	return 0;
}

int mounts_parse(char *line, struct mount_row *ret_row)
{
	/* id parent major:minor root point options optional... - type source super_options */
	char *fields[6], *after[3];
	char *rest = line, *dash;

	line[strcspn(line, "\n")] = '\0';
	dash = strstr(line, " - ");
	if (!dash)
		return -EINVAL;
	*dash = '\0';
	for (size_t i = 0; i < 6; i++)
		if ((fields[i] = strsep(&rest, " ")) == NULL)
			return -EINVAL;
	rest = dash + 3;
	for (size_t i = 0; i < 3; i++)
		if ((after[i] = strsep(&rest, " ")) == NULL)
			return -EINVAL;

	if (unescape(fields[4], ret_row->point, sizeof(ret_row->point)) != 0 ||
	    unescape(after[0], ret_row->type, sizeof(ret_row->type)) != 0 ||
	    unescape(after[1], ret_row->source, sizeof(ret_row->source)) != 0)
		return -EINVAL;
	ret_row->flags = flags_parse(fields[5]);
	ret_row->super_read_only = (flags_parse(after[2]) & MS_RDONLY) != 0;
	return 0;
}

/* The last row that matches: it is on top of the earlier ones. */
static int find(
    bool (*matches)(const struct mount_row *row, const char *text), const char *text, struct mount_row *ret_row)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	int status = -ENOENT;
	struct mount_row row;
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		if (mounts_parse(line, &row) != 0 || !matches(&row, text))
			continue;
		*ret_row = row;
		status = 0;
	}
	free(line);
	fclose(file);
	return status;
}

static bool has_point(const struct mount_row *row, const char *point)
{
	return strcmp(row->point, point) == 0;
}

static bool has_source(const struct mount_row *row, const char *source)
{
	return strcmp(row->source, source) == 0 && strcmp(row->type, MOUNTS_TYPE) == 0;
}

int mounts_find_point(const char *point, struct mount_row *ret_row)
{
	return find(has_point, point, ret_row);
}

int mounts_find_source(const char *source, struct mount_row *ret_row)
{
	return find(has_source, source, ret_row);
}

int mounts_resolve(const char *path, char ret_path[PATH_MAX])
{
	char whole[PATH_MAX], parent[PATH_MAX];
	char *slash;
	size_t length = strlen(path);

	if (length == 0)
		return -ENOENT;
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length >= sizeof(whole))
		return -ENAMETOOLONG;
	memcpy(whole, path, length);
	whole[length] = '\0';

	slash = strrchr(whole, '/');
	if (strcmp(slash ? slash + 1 : whole, "..") == 0 || strcmp(slash ? slash + 1 : whole, ".") == 0 ||
	    slash == whole + length - 1)
		return realpath(whole, ret_path) ? 0 : -errno;
	/* readlink of the root of a mount fails in the kernel, without a word to its daemon. */
	if (readlink(whole, parent, 1) > 0)
		return realpath(whole, ret_path) ? 0 : -errno;
	if (slash)
		*slash = '\0';
	if (!realpath(!slash ? "." : slash == whole ? "/" : whole, parent))
		return -errno;
	if (snprintf(ret_path, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash ? slash + 1 : whole) >=
	    PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}
