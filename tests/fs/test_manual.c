/* mqfs(7) against the tables it documents. Where a test fails, it prints what the manual should have. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/buffer.h"
#include "fs/errtext.h"
#include "fs/tree.h"

#define MANUAL "man/mqfs.7" /* tests run in the top directory */

static char *read_manual(void)
{
	FILE *file = fopen(MANUAL, "r");
	cr_assert_not_null(file, "%s: %s", MANUAL, strerror(errno));
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	rewind(file);
	char *text = calloc(1, (size_t)size + 1);
	cr_assert_eq(fread(text, 1, (size_t)size, file), (size_t)size);
	fclose(file);
	return text;
}

/* ---- settings ---- */

static void print_range(struct buffer *out, const struct engine_setting *setting)
{
	if (setting->type == ENGINE_BOOL)
		buffer_add_text(out, "true or false");
	for (size_t i = 0; (setting->type == ENGINE_CHOICE || setting->type == ENGINE_TEXT) && setting->choices[i];
	     i++) {
		bool named = setting->choices[i][strlen(setting->choices[i]) - 1] == '/';
		buffer_printf(out, "%s%s%s", i ? " or " : "", setting->choices[i], named ? "NAME" : "");
	}
	if (setting->type == ENGINE_KEY)
		buffer_add_text(out, "a routing key, or none");
	if (setting->type != ENGINE_INT)
		return;
	buffer_printf(out, "%" PRId64 " to %" PRId64, setting->min, setting->max);
	if (*setting->unit)
		buffer_printf(out, " %s", setting->unit);
	if (setting->none != 1)
		buffer_printf(out, ", or %" PRId64, setting->none);
}

static void print_settings(struct buffer *out, enum engine_kind kind)
{
	for (const struct engine_setting *s = engine_settings; s->name; s++) {
		if (s->kind != kind)
			continue;
		buffer_printf(out, ".It Pa %s\nDefault %s; ", s->name,
		    engine_setting_inherits(s) ? "that of the queue" : s->initial);
		print_range(out, s);
		buffer_printf(out, ".\n%s\n", s->text);
	}
	cr_assert_eq(buffer_error(out), 0);
	buffer_add(out, "", 1);
}

static void compare_settings(enum engine_kind kind, const char *begin, const char *end)
{
	char *text = read_manual();
	struct buffer expected = BUFFER_INIT;
	print_settings(&expected, kind);
	char *from = strstr(text, begin), *to = strstr(text, end);
	cr_assert(from && to && from < to, "%s has no lines '%s' and '%s'", MANUAL, begin, end);
	*to = '\0';
	cr_expect_str_eq(from + strlen(begin), expected.ptr, "between '%s' and the end %s should have:\n%s", begin,
	    MANUAL, expected.ptr);
	buffer_release(&expected);
	free(text);
}

/* The manual has every setting with its default, its range and its sentence, and no other. */
Test(manual, settings)
{
	compare_settings(ENGINE_TOPIC, ".\\\" settings of a topic\n", ".\\\" end of the settings of a topic\n");
	compare_settings(ENGINE_GROUP, ".\\\" settings of a group\n", ".\\\" end of the settings of a group\n");
	compare_settings(ENGINE_QUEUE, ".\\\" settings of a queue\n", ".\\\" end of the settings of a queue\n");
	compare_settings(
	    ENGINE_CONSUMER, ".\\\" settings of a consumer\n", ".\\\" end of the settings of a consumer\n");
	compare_settings(
	    ENGINE_EXCHANGE, ".\\\" settings of an exchange\n", ".\\\" end of the settings of an exchange\n");
	compare_settings(
	    ENGINE_TX, ".\\\" settings of a transaction\n", ".\\\" end of the settings of a transaction\n");
}

/* ---- files ---- */

/* Is there a line .It that has the word? */
static bool has_item(const char *text, const char *word)
{
	for (const char *line = text; (line = strstr(line, "\n.It ")) != NULL; line++) {
		const char *end = strchr(line + 1, '\n');
		for (const char *at = line; (at = strstr(at, word)) != NULL && at < end; at++) {
			char next = at[strlen(word)];
			if (strchr(" /", at[-1]) && !isalnum((unsigned char)next) && next != '.')
				return true;
		}
	}
	return false;
}

/* Every file and directory of the tree that listings show has an entry in the manual. */
Test(manual, files)
{
	char *text = read_manual();
	for (const struct tree_row *row = tree_rows; row->name; row++)
		if (!(row->flags & TREE_HIDDEN))
			cr_expect(has_item(text, row->name), "%s has no .It for %s", MANUAL, row->name);
	cr_expect(!has_item(text, "no-such-file"));
	free(text);
}

/* ---- errors ---- */

static bool is_known(const char *name)
{
	for (int err = 1; err < 200; err++)
		if (strcmp(errtext_name(err), name) == 0)
			return true;
	return false;
}

/* Every errno of the manual's table is one that status/errors can name, apart from those that only the kernel gives. */
Test(manual, errors)
{
	static const char kernel[] = " ENOTCONN ECONNABORTED ENOTTY ENXIO ";
	char *text = read_manual(), name[32];
	size_t count = 0;
	for (const char *line = text; (line = strstr(line, "\n.It Er ")) != NULL; line++, count++) {
		cr_assert_eq(sscanf(line, "\n.It Er %31s", name), 1);
		cr_expect(is_known(name) || strstr(kernel, name), "%s names %s", MANUAL, name);
	}
	cr_expect_gt(count, 20);
	free(text);
}
