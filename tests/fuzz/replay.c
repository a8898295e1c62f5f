/*
 * replay - gives a fuzz target the files and the directories of files that are named, and says how many these were.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static unsigned long replayed;

static int give(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = NULL;
	struct stat st;
	size_t got = 0;

	if (file == NULL || fstat(fileno(file), &st) < 0) {
		perror(path);
		if (file != NULL)
			fclose(file);
		return 1;
	}
	bytes = malloc((size_t)st.st_size + 1);
	if (bytes != NULL)
		got = fread(bytes, 1, (size_t)st.st_size, file);
	fclose(file);
	if (bytes == NULL || got != (size_t)st.st_size) {
		free(bytes);
		return 1;
	}
	LLVMFuzzerTestOneInput(bytes, got);
	free(bytes);
	replayed++;
	return 0;
}

static int give_all(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int failed = 0;

	if (dir == NULL)
		return errno == ENOTDIR ? give(path) : 1;
	while ((entry = readdir(dir)) != NULL) {
		char name[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		failed |= give(name);
	}
	closedir(dir);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= give_all(argv[i]);
	printf("%lu inputs\n", replayed);
	return failed || replayed == 0;
}
