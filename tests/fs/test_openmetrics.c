/* OpenMetrics text: the output to the byte, and a strict reader of the format. */
#include "fs/openmetrics.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- a reader of OpenMetrics 1.0, strict */

struct reader {
	const char *at, *end;
	char family[64], type[16];
	char seen[32][64]; /* families */
	size_t seen_count;
	size_t samples;
	bool has_help, has_unit;
};

static size_t name_len(const char *at)
{
	size_t len = 0;
	while (isalnum((unsigned char)at[len]) || at[len] == '_')
		len++;
	return isdigit((unsigned char)at[0]) ? 0 : len;
}

/* Past an escaped string up to end: only \\, \" and \n are escapes, and quotes and newlines are always escaped. */
static const char *escaped(const char *at, char end)
{
	for (; *at != end; at++) {
		cr_assert(*at && *at != '\n' && *at != '"', "raw character in %s", at);
		if (*at == '\\')
			cr_assert(*++at == '\\' || *at == '"' || *at == 'n', "bad escape in %s", at);
	}
	return at;
}

static void read_descriptor(struct reader *reader)
{
	char keyword[8], name[64], rest[256];
	cr_assert_eq(sscanf(reader->at, "# %7s %63s %255[^\n]", keyword, name, rest), 3, "%s", reader->at);
	if (strcmp(keyword, "TYPE") == 0) {
		for (size_t i = 0; i < reader->seen_count; i++)
			cr_assert_str_neq(reader->seen[i], name, "%s begun twice", name);
		strcpy(reader->seen[reader->seen_count++], name);
		strcpy(reader->family, name);
		cr_assert(strcmp(rest, "gauge") == 0 || strcmp(rest, "counter") == 0 || strcmp(rest, "info") == 0 ||
			  strcmp(rest, "unknown") == 0);
		strcpy(reader->type, rest);
		reader->samples = 0;
		reader->has_help = reader->has_unit = false;
		return;
	}
	cr_assert_str_eq(name, reader->family, "a descriptor of another family");
	cr_assert_eq(reader->samples, 0, "a descriptor behind a sample");
	if (strcmp(keyword, "UNIT") == 0) {
		cr_assert_not(reader->has_unit);
		reader->has_unit = true;
		size_t len = strlen(name), unit = strlen(rest);
		cr_assert(len > unit + 1 && strcmp(name + len - unit, rest) == 0 && name[len - unit - 1] == '_');
	} else {
		cr_assert_str_eq(keyword, "HELP");
		cr_assert_not(reader->has_help);
		reader->has_help = true;
		escaped(reader->at + strlen("# HELP ") + strlen(name) + 1, '\n');
	}
}

static void read_sample(struct reader *reader)
{
	const char *suffix = strcmp(reader->type, "counter") == 0 ? "_total"
			     : strcmp(reader->type, "info") == 0  ? "_info"
								  : "";
	char name[96];
	snprintf(name, sizeof(name), "%s%s", reader->family, suffix);
	const char *at = reader->at;
	size_t len = name_len(at);
	cr_assert(len == strlen(name) && memcmp(at, name, len) == 0, "%.*s is not of %s", (int)len, at, reader->family);
	at += len;
	if (*at == '{') {
		do {
			len = name_len(++at);
			cr_assert(len > 0 && at[len] == '=' && at[len + 1] == '"', "label: %s", at);
			at = escaped(at + len + 2, '"') + 1;
		} while (*at == ',');
		cr_assert_eq(*at++, '}');
	}
	cr_assert_eq(*at++, ' ');
	char *value_end;
	double value = strtod(at, &value_end);
	cr_assert(value_end > at && *value_end == '\n', "value: %s", at);
	cr_assert(strcmp(reader->type, "counter") != 0 || value >= 0);
	reader->samples++;
}

/* Reads the whole text; a mistake fails the test. Returns the count of families. */
static size_t read_strictly(struct buffer *out)
{
	buffer_add_char(out, '\0');
	out->len--;
	struct reader reader = { .at = out->ptr, .end = out->ptr + out->len };
	cr_assert_eq(strlen(out->ptr), out->len);
	while (strcmp(reader.at, "# EOF\n") != 0) {
		cr_assert_lt(reader.at, reader.end, "no # EOF");
		if (*reader.at == '#')
			read_descriptor(&reader);
		else
			read_sample(&reader);
		reader.at = strchr(reader.at, '\n') + 1;
	}
	return reader.seen_count;
}

/* ------------------------------------------------------------------------------------------------ tests */

#define LABELS(...)                                                                                                    \
	(struct openmetrics_label[])                                                                                   \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	}

/* All types, units, labels and values, to the byte. */
Test(openmetrics, whole)
{
	struct openmetrics metrics;
	struct buffer out = BUFFER_INIT;
	openmetrics_begin(&metrics, &out);
	openmetrics_family(&metrics, "mqfs_build", OPENMETRICS_INFO, "", "Version.");
	openmetrics_u64(&metrics, LABELS({ "version", "0.1" }), 1, 1);
	openmetrics_family(&metrics, "mqfs_topic_published", OPENMETRICS_COUNTER, "", "Messages produced.");
	openmetrics_u64(&metrics, LABELS({ "topic", "a" }, { "partition", "0" }), 2, UINT64_MAX);
	openmetrics_u64(&metrics, LABELS({ "topic", "b" }, { "partition", "0" }), 2, 0);
	openmetrics_family(&metrics, "mqfs_uptime_seconds", OPENMETRICS_GAUGE, "seconds", "How long.");
	openmetrics_ms(&metrics, NULL, 0, 61005);
	openmetrics_family(&metrics, "mqfs_lag", OPENMETRICS_UNKNOWN, "", "Lag.");
	openmetrics_i64(&metrics, NULL, 0, INT64_MIN);
	cr_assert_eq(openmetrics_end(&metrics), 0);
	cr_expect_eq(read_strictly(&out), 4);
	cr_expect_str_eq(out.ptr, "# TYPE mqfs_build info\n"
				  "# HELP mqfs_build Version.\n"
				  "mqfs_build_info{version=\"0.1\"} 1\n"
				  "# TYPE mqfs_topic_published counter\n"
				  "# HELP mqfs_topic_published Messages produced.\n"
				  "mqfs_topic_published_total{topic=\"a\",partition=\"0\"} 18446744073709551615\n"
				  "mqfs_topic_published_total{topic=\"b\",partition=\"0\"} 0\n"
				  "# TYPE mqfs_uptime_seconds gauge\n"
				  "# UNIT mqfs_uptime_seconds seconds\n"
				  "# HELP mqfs_uptime_seconds How long.\n"
				  "mqfs_uptime_seconds 61.005\n"
				  "# TYPE mqfs_lag unknown\n"
				  "# HELP mqfs_lag Lag.\n"
				  "mqfs_lag -9223372036854775808\n"
				  "# EOF\n");
	buffer_release(&out);
}

/* Values of labels and help come through whatever is in them. */
Test(openmetrics, escaping)
{
	static const struct {
		const char *value, *escaped;
	} rows[] = {
		{ "plain", "plain" },
		{ "", "" },
		{ "back\\slash", "back\\\\slash" },
		{ "say \"hi\"", "say \\\"hi\\\"" },
		{ "two\nlines", "two\\nlines" },
		{ "\\n", "\\\\n" },
		{ "a{b}=,c", "a{b}=,c" },
		{ "caf\xc3\xa9", "caf\xc3\xa9" },
		{ "\xff.", "\xef\xbf\xbd." },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct openmetrics metrics;
		struct buffer out = BUFFER_INIT;
		char expected[128];
		openmetrics_begin(&metrics, &out);
		openmetrics_family(&metrics, "m", OPENMETRICS_GAUGE, "", rows[i].value[0] ? rows[i].value : "empty");
		openmetrics_u64(&metrics, LABELS({ "l", rows[i].value }), 1, 1);
		cr_assert_eq(openmetrics_end(&metrics), 0);
		read_strictly(&out);
		snprintf(expected, sizeof(expected), "m{l=\"%s\"} 1\n# EOF\n", rows[i].escaped);
		cr_expect(strstr(out.ptr, expected), "%s", out.ptr);
		buffer_release(&out);
	}
}

/* Doubles are short where that is exact, and exact always. */
Test(openmetrics, doubles)
{
	static const struct {
		double value;
		const char *text;
	} rows[] = { { 0, "0" }, { 0.1, "0.1" }, { 1.5, "1.5" }, { -2, "-2" }, { 1e300, "1e+300" }, { NAN, "NaN" },
		{ INFINITY, "+Inf" }, { -INFINITY, "-Inf" }, { 1.0 / 3, NULL }, { DBL_MAX, NULL },
		{ 0.1 + 0.2, NULL } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct openmetrics metrics;
		struct buffer out = BUFFER_INIT;
		openmetrics_begin(&metrics, &out);
		openmetrics_family(&metrics, "m", OPENMETRICS_GAUGE, "", "M.");
		size_t before = out.len;
		openmetrics_double(&metrics, NULL, 0, rows[i].value);
		cr_assert_eq(openmetrics_end(&metrics), 0);
		read_strictly(&out);
		const char *text = out.ptr + before + 2;
		if (rows[i].text)
			cr_expect(strncmp(text, rows[i].text, strlen(rows[i].text)) == 0 &&
				      text[strlen(rows[i].text)] == '\n',
			    "%s", text);
		else
			cr_expect_eq(strtod(text, NULL), rows[i].value, "%s", text);
		buffer_release(&out);
	}
}

/* Milliseconds become seconds without passing through a double. */
Test(openmetrics, milliseconds)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = { { 0, "0.000" }, { 1, "0.001" }, { 999, "0.999" }, { 1000, "1.000" },
		{ 1732300000123, "1732300000.123" }, { -5, "-0.005" }, { -1500, "-1.500" },
		{ INT64_MAX, "9223372036854775.807" }, { INT64_MIN, "-9223372036854775.808" } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct openmetrics metrics;
		struct buffer out = BUFFER_INIT;
		char expected[64];
		openmetrics_begin(&metrics, &out);
		openmetrics_family(&metrics, "m_seconds", OPENMETRICS_GAUGE, "seconds", "M.");
		openmetrics_ms(&metrics, NULL, 0, rows[i].ms);
		cr_assert_eq(openmetrics_end(&metrics), 0);
		read_strictly(&out);
		snprintf(expected, sizeof(expected), "m_seconds %s\n# EOF\n", rows[i].text);
		cr_expect(strstr(out.ptr, expected), "%s", out.ptr);
		buffer_release(&out);
	}
}

static void begin_wrong(const char *first, const char *second, const char *unit)
{
	struct openmetrics metrics;
	struct buffer out = BUFFER_INIT;
	openmetrics_begin(&metrics, &out);
	openmetrics_family(&metrics, first, OPENMETRICS_COUNTER, "", "First.");
	openmetrics_family(&metrics, second, OPENMETRICS_COUNTER, unit, "Second.");
}

/* A family begun twice is a bug, and asserted. */
Test(openmetrics, twice, .signal = SIGABRT)
{
	begin_wrong("m", "m", "");
}

/* So is a unit that the name does not end in, */
Test(openmetrics, wrong_unit, .signal = SIGABRT)
{
	begin_wrong("m", "m_bytes", "seconds");
}

/* and a counter named with the suffix that the builder adds. */
Test(openmetrics, total, .signal = SIGABRT)
{
	begin_wrong("m", "n_total", "");
}
