/* Names, keys, endings and escaping: pure functions, by tables. */
#include "fs/name.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fs/utf8.h"

#define E_ACUTE_NFC "\xc3\xa9"
#define E_ACUTE_NFD "e\xcc\x81"

static const struct {
	const char *name;
	int object, key; /* what name_check() and key_check() say */
} names[] = {
	{ "orders", 0, 0 },
	{ "a", 0, 0 },
	{ "with space", 0, 0 },
	{ " ", 0, 0 },
	{ "-rf", 0, 0 },
	{ "*", 0, 0 },
	{ "$(reboot)", 0, 0 },
	{ "it's", 0, 0 },
	{ "\"quoted\"", 0, 0 },
	{ "back\\slash", 0, 0 },
	{ "Orders", 0, 0 },
	{ "caf" E_ACUTE_NFC, 0, 0 },
	{ "caf" E_ACUTE_NFD, 0, 0 },
	{ "\xe2\x80\xae"
	  "evil",
	    0, 0 }, /* right-to-left override: accepted, escaped when shown */
	{ "\xf0\x9f\x93\xa8", 0, 0 },
	{ "a.b", 0, 0 },
	{ "a.swpx", 0, 0 },
	{ "swp", 0, 0 },
	{ "04913", 0, 0 },
	{ "49130", 0, 0 },
	{ "a~b", 0, 0 },
	{ "", -EINVAL, -EINVAL },
	{ ".", -EINVAL, -EINVAL },
	{ "..", -EINVAL, -EINVAL },
	{ "...", -EINVAL, 0 },
	{ ".hidden", -EINVAL, 0 },
	{ ".orders.swp", -EINVAL, 0 },
	{ "orders.swp", -EINVAL, 0 },
	{ ".swp", -EINVAL, 0 },
	{ "orders~", -EINVAL, 0 },
	{ "~", -EINVAL, 0 },
	{ "4913", -EINVAL, 0 },
	{ "a/b", -EINVAL, -EINVAL },
	{ "new\nline", -EINVAL, -EINVAL },
	{ "tab\t", -EINVAL, -EINVAL },
	{ "\x1b[31mred", -EINVAL, -EINVAL },
	{ "\x01", -EINVAL, -EINVAL },
	{ "del\x7f", -EINVAL, -EINVAL },
	{ "c1\xc2\x80", -EINVAL, -EINVAL },
	{ "c1\xc2\x9f", -EINVAL, -EINVAL },
	{ "nbsp\xc2\xa0", 0, 0 },
	{ "\xff", -EINVAL, -EINVAL },
	{ "latin1\xe9", -EINVAL, -EINVAL },
	{ "cut\xc3", -EINVAL, -EINVAL },
	{ "\x80", -EINVAL, -EINVAL },
	{ "overlong\xc0\xaf", -EINVAL, -EINVAL },
	{ "overlong\xe0\x80\xaf", -EINVAL, -EINVAL },
	{ "overlong\xf0\x80\x80\xaf", -EINVAL, -EINVAL },
	{ "surrogate\xed\xa0\x80", -EINVAL, -EINVAL },
	{ "beyond\xf4\x90\x80\x80", -EINVAL, -EINVAL },
};

/* What people type is a name; what a terminal, an editor or a path could trip over is not. */
Test(name, table)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char shown[256];
		name_escape(names[i].name, strlen(names[i].name), shown, sizeof(shown));
		cr_expect_eq(name_check(names[i].name, ENGINE_NAME_MAX), names[i].object, "object %s", shown);
		cr_expect_eq(key_check(names[i].name), names[i].key, "key %s", shown);
	}
}

/* The limit counts bytes, not characters: 200 for objects, 255 for keys, and anything longer is ENAMETOOLONG. */
Test(name, lengths)
{
	static const struct {
		size_t len;
		int object, key;
	} rows[] = { { 1, 0, 0 }, { 199, 0, 0 }, { 200, 0, 0 }, { 201, -ENAMETOOLONG, 0 }, { 255, -ENAMETOOLONG, 0 },
		{ 256, -ENAMETOOLONG, -ENAMETOOLONG }, { 1024, -ENAMETOOLONG, -ENAMETOOLONG },
		{ 4000, -ENAMETOOLONG, -ENAMETOOLONG } };
	char name[4001];
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(name, 'n', rows[i].len);
		name[rows[i].len] = '\0';
		cr_expect_eq(name_check(name, ENGINE_NAME_MAX), rows[i].object, "object of %zu", rows[i].len);
		cr_expect_eq(key_check(name), rows[i].key, "key of %zu", rows[i].len);
	}
	name[0] = '\0';
	for (int i = 0; i < 67; i++)
		strcat(name, "\xe2\x82\xac"); /* 67 euro signs are 201 bytes */
	cr_expect_eq(name_check(name, ENGINE_NAME_MAX), -ENAMETOOLONG);
	cr_expect_eq(name_check(name + 3, ENGINE_NAME_MAX), 0);
}

/* A dot in front, .tmp or .part at the end keep a message in put/ back; nothing else does. */
Test(name, waits)
{
	static const char *const waiting[] = { ".a", "a.tmp", "a.part", ".tmp", "a.b.part", ".rsync.XyZ" };
	static const char *const ready[] = { "a", "tmp", "part", "a.tmp.txt", "atmp", "a.TMP", "a.parts", "a." };
	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		cr_expect(name_waits(waiting[i]), "%s", waiting[i]);
	for (size_t i = 0; i < sizeof(ready) / sizeof(ready[0]); i++)
		cr_expect_not(name_waits(ready[i]), "%s", ready[i]);
}

#define LINE FRAMING_BIT(FRAME_LINE)
#define JSON FRAMING_BIT(FRAME_JSON)
#define NUL FRAMING_BIT(FRAME_NUL)
#define RAW FRAMING_BIT(FRAME_RAW)

/* An ending is a framing only where the directory has it; otherwise it belongs to the name. */
Test(name, split)
{
	static const struct {
		const char *name;
		unsigned framings;
		const char *stem; /* NULL: no such name */
		enum framing framing;
	} rows[] = {
		{ "out", LINE | JSON, "out", FRAME_LINE },
		{ "out.json", LINE | JSON, "out", FRAME_JSON },
		{ "out.nul", LINE | JSON | NUL, "out", FRAME_NUL },
		{ "out.raw", LINE | JSON, "out.raw", FRAME_LINE },
		{ "next.raw", LINE | RAW, "next", FRAME_RAW },
		{ ".next.json", LINE | JSON | RAW, ".next", FRAME_JSON },
		{ "a.json.nul", LINE | JSON | NUL, "a.json", FRAME_NUL },
		{ "a.nul.json", LINE | JSON | NUL, "a.nul", FRAME_JSON },
		{ ".json", LINE | JSON, ".json", FRAME_LINE },
		{ ".json", JSON, NULL, 0 },
		{ "json", LINE | JSON, "json", FRAME_LINE },
		{ "a.JSON", LINE | JSON, "a.JSON", FRAME_LINE },
		{ "42.json", JSON, "42", FRAME_JSON },
		{ "42", JSON, NULL, 0 },
		{ "42.raw", JSON, NULL, 0 },
		{ "42.json", 0, NULL, 0 },
		{ "", LINE, "", FRAME_LINE },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char stem[ENGINE_KEY_MAX + 1] = "untouched";
		enum framing framing = FRAME_COUNT;
		bool found = name_split(rows[i].name, rows[i].framings, stem, &framing);
		cr_expect_eq(found, rows[i].stem != NULL, "%s", rows[i].name);
		cr_expect_str_eq(stem, rows[i].stem ? rows[i].stem : "untouched");
		cr_expect_eq(framing, rows[i].stem ? rows[i].framing : FRAME_COUNT, "%s", rows[i].name);
	}
	for (enum framing framing = FRAME_LINE; framing < FRAME_COUNT; framing++) {
		char name[16] = "x", stem[ENGINE_KEY_MAX + 1];
		enum framing found;
		strcat(name, name_suffix(framing));
		cr_expect(name_split(name, LINE | JSON | NUL | RAW, stem, &found));
		cr_expect_eq(found, framing);
	}
}

/* A name of 255 bytes still splits, one of 256 is none and overruns nothing. */
Test(name, split_long)
{
	char name[400], stem[ENGINE_KEY_MAX + 1];
	enum framing framing;
	memset(name, 'x', sizeof(name));
	strcpy(name + 255, "");
	cr_expect(name_split(name, LINE | JSON, stem, &framing));
	cr_expect_eq(strlen(stem), 255);
	strcpy(name + 250, ".json");
	cr_expect(name_split(name, LINE | JSON, stem, &framing));
	cr_expect_eq(strlen(stem), 250);
	strcpy(name + 251, ".json");
	cr_expect_not(name_split(name, LINE | JSON, stem, &framing));
}

/* What is shown has no byte a terminal acts on, and nothing else is changed. */
Test(name, escape)
{
	static const struct {
		const char *in;
		size_t len;
		const char *out;
	} rows[] = {
		{ "plain", 5, "plain" },
		{ "", 0, "" },
		{ "a\nb", 3, "a\\x0ab" },
		{ "\0", 1, "\\x00" },
		{ "\x1b[2J", 4, "\\x1b[2J" },
		{ "\x7f", 1, "\\x7f" },
		{ "say \"hi\"", 8, "say \\x22hi\\x22" },
		{ "it's", 4, "it\\x27s" },
		{ "\\", 1, "\\x5c" },
		{ "caf\xc3\xa9", 5, "caf\xc3\xa9" },
		{ "\xff\xc3", 2, "\\xff\\xc3" },
		{ "\xc2\x85", 2, "\\xc2\\x85" },
		{ "\xe2\x80\xae", 3, "\\xe2\\x80\\xae" },
		{ "\xe2\x80\xa8", 3, "\\xe2\\x80\\xa8" },
		{ "\xe2\x80\xa7", 3, "\xe2\x80\xa7" }, /* what is beside those that mislead is shown */
		{ "\xe2\x80\xaf", 3, "\xe2\x80\xaf" },
		{ "\xd8\x9c", 2, "\\xd8\\x9c" },
		{ "\xe2\x80\x8e", 3, "\\xe2\\x80\\x8e" },
		{ "\xe2\x80\x8f", 3, "\\xe2\\x80\\x8f" },
		{ "\xe2\x81\xa6", 3, "\\xe2\\x81\\xa6" },
		{ "\xe2\x81\xa9", 3, "\\xe2\\x81\\xa9" },
		{ "\xe2\x81\xaa", 3, "\xe2\x81\xaa" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char out[64];
		size_t len = name_escape(rows[i].in, rows[i].len, out, sizeof(out));
		cr_expect_str_eq(out, rows[i].out);
		cr_expect_eq(len, strlen(rows[i].out));
	}
}

/* A buffer that is too small gets what fits, never half an escape or half a character. */
Test(name, escape_cut)
{
	const char *in = "a\n\xc3\xa9z", *whole = "a\\x0a\xc3\xa9z";
	static const size_t fits[] = { 0, 0, 1, 1, 1, 1, 5, 5, 7, 8, 8 }; /* by size */
	for (size_t size = 1; size < sizeof(fits) / sizeof(fits[0]); size++) {
		char out[16];
		memset(out, 'X', sizeof(out));
		size_t len = name_escape(in, strlen(in), out, size);
		cr_expect_eq(len, fits[size], "size %zu: %zu", size, len);
		cr_expect(memcmp(out, whole, len) == 0 && out[len] == '\0');
		cr_expect_eq(out[size], 'X');
	}
}

/* In a text what ends a line is a blank, and what is no text is shown byte by byte; quotes stay. */
Test(name, escape_text)
{
	char out[64];
	cr_expect_eq(name_escape_text("a\n\"b\"\x7f\xff\x1b", 8, out, sizeof(out)), 11);
	cr_expect_str_eq(out, "a \"b\" \\xff ");
}

/* A text is valid if all of it is. */
Test(utf8, valid)
{
	cr_expect(utf8_valid("", 0));
	cr_expect(utf8_valid("a" E_ACUTE_NFC "b", 4));
	cr_expect_not(utf8_valid("a\xc3", 2));
	cr_expect_not(utf8_valid("a\xffz", 3));
}

/* The decoder agrees with a straightforward encoder for every code point there is. */
Test(utf8, every_code_point)
{
	for (uint32_t code = 0; code <= 0x10ffff; code++) {
		char text[4];
		size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
		for (size_t i = len, rest = code; i-- > 0; rest >>= 6)
			text[i] = (char)(len == 1 ? rest : i > 0 ? 0x80 | (rest & 0x3f) : (0xf00 >> len & 0xff) | rest);
		uint32_t decoded = ~code;
		bool surrogate = code >= 0xd800 && code <= 0xdfff;
		cr_assert_eq(utf8_char(text, len, &decoded), surrogate ? 0 : len, "U+%04X", code);
		cr_assert(surrogate || decoded == code, "U+%04X gave U+%04X", code, decoded);
		cr_assert(len == 1 || utf8_char(text, len - 1, &decoded) == 0, "U+%04X cut", code);
	}
}
