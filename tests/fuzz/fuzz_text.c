/*
 * Names, keys, settings, and the lines of ack, offset and purge: taken or refused, with a sentence; a beginning of a line that is
 * taken is not refused; a value that is taken is in its canonical form from then on; what is escaped cannot reach a terminal.
 */
#include <string.h>

#include "fs/command.h"
#include "fs/name.h"
#include "tests/fuzz/fuzz.h"

static void try_command(const char *line, size_t len)
{
	char reason[COMMAND_REASON_MAX];

	for (unsigned kind = 0; kind < COMMAND_KIND_COUNT; kind++) {
		struct command command;
		uint32_t partition =
		    kind == COMMAND_ACK_PARTITION || kind == COMMAND_OFFSET_PARTITION || kind == COMMAND_PURGE_PARTITION
			? 3
			: ENGINE_ANY;

		reason[0] = '\0';
		if (command_parse((enum command_kind)kind, partition, line, len, &command, reason) < 0) {
			FUZZ_ASSERT(reason[0] != '\0');
			continue;
		}
		FUZZ_ASSERT(command.verb != COMMAND_IDS || command.first <= command.last);
		for (size_t part = 0; part <= len; part++)
			FUZZ_ASSERT(command_check_prefix((enum command_kind)kind, line, part, reason) == 0);
	}
}

static void try_settings(const char *text)
{
	for (const struct engine_setting *setting = engine_settings; setting->name != NULL; setting++) {
		char value[ENGINE_VALUE_MAX], again[ENGINE_VALUE_MAX];

		if (engine_setting_parse(setting, text, value) < 0)
			continue;
		FUZZ_ASSERT(engine_setting_parse(setting, value, again) == 0 && strcmp(value, again) == 0);
	}
}

static void try_name(const char *name)
{
	char stem[ENGINE_KEY_MAX + 1];
	enum framing framing;

	(void)name_check(name, ENGINE_NAME_MAX);
	(void)key_check(name);
	(void)name_waits(name);
	if (strlen(name) <= ENGINE_KEY_MAX && name_split(name, ~0u, stem, &framing)) {
		char whole[ENGINE_KEY_MAX + 16];

		snprintf(whole, sizeof(whole), "%s%s", stem, name_suffix(framing));
		FUZZ_ASSERT(strcmp(whole, name) == 0);
	}
}

static void try_escape(const char *text, size_t len)
{
	char out[512];

	name_escape(text, len, out, sizeof(out));
	for (const char *c = out; *c != '\0'; c++)
		FUZZ_ASSERT((unsigned char)*c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (size <= COMMAND_LINE_MAX && size < 300)
		try_command(text, size);
	try_settings(text);
	try_name(text);
	try_escape(text, size);
	free(text);
	return 0;
}
