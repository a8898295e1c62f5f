#include "fs/openmetrics.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/utf8.h"

static const struct {
	const char *name, *suffix; /* suffix: of the samples */
} types[] = {
	[OPENMETRICS_GAUGE] = { "gauge", "" },
	[OPENMETRICS_COUNTER] = { "counter", "_total" },
	[OPENMETRICS_INFO] = { "info", "_info" },
	[OPENMETRICS_UNKNOWN] = { "unknown", "" },
};

/* [a-zA-Z_][a-zA-Z0-9_]*: without colons, which are for rules. */
static bool is_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
	return len > 0 && name[len] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

static bool ends_with(const char *text, const char *ending)
{
	size_t len = strlen(text), ending_len = strlen(ending);
	return len >= ending_len && strcmp(text + len - ending_len, ending) == 0;
}

/* unit is "" or the last word of name. */
static bool has_unit(const char *name, const char *unit)
{
	size_t len = strlen(name), unit_len = strlen(unit);
	return unit_len == 0 ||
	       (is_name(unit) && len > unit_len + 1 && ends_with(name, unit) && name[len - unit_len - 1] == '_');
}

static bool is_new(const struct openmetrics *metrics, const char *name)
{
	for (size_t i = 0; i < metrics->family_count; i++)
		if (strcmp(metrics->families[i], name) == 0)
			return false;
	return true;
}

/* Text with \, " and newline escaped, as in label values and help alike. */
static void add_escaped(struct buffer *out, const char *text)
{
	uint32_t code;
	for (size_t at = 0, len = strlen(text), size; at < len; at += size) {
		size = utf8_char(text + at, len - at, &code);
		if (size == 0) {
			buffer_add_text(out, "\xef\xbf\xbd");
			size = 1;
		} else if (code == '\\' || code == '"' || code == '\n') {
			buffer_add(out, (char[2]){ '\\', code == '\n' ? 'n' : (char)code }, 2);
		} else {
			buffer_add(out, text + at, size);
		}
	}
}

void openmetrics_begin(struct openmetrics *metrics, struct buffer *out)
{
	*metrics = (struct openmetrics){ .out = out };
}

void openmetrics_family(
    struct openmetrics *metrics, const char *name, enum openmetrics_type type, const char *unit, const char *help)
{
	struct buffer *out = metrics->out;
	assert(is_name(name) && has_unit(name, unit) && is_new(metrics, name));
	assert(!ends_with(name, "_total") && !ends_with(name, "_info") &&
	       metrics->family_count < OPENMETRICS_FAMILIES_MAX);
	metrics->families[metrics->family_count++] = name;
	metrics->family = name;
	metrics->type = type;
	buffer_printf(out, "# TYPE %s %s\n", name, types[type].name);
	if (unit[0])
		buffer_printf(out, "# UNIT %s %s\n", name, unit);
	buffer_printf(out, "# HELP %s ", name);
	add_escaped(out, help);
	buffer_add_char(out, '\n');
}

/* The sample up to its value. */
static struct buffer *begin_sample(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count)
{
	struct buffer *out = metrics->out;
	assert(metrics->family);
	buffer_add_text(out, metrics->family);
	buffer_add_text(out, types[metrics->type].suffix);
	for (size_t i = 0; i < count; i++) {
		assert(is_name(labels[i].name));
		buffer_add_char(out, i == 0 ? '{' : ',');
		buffer_add_text(out, labels[i].name);
		buffer_add_text(out, "=\"");
		add_escaped(out, labels[i].value);
		buffer_add_char(out, '"');
	}
	buffer_add_text(out, count > 0 ? "} " : " ");
	return out;
}

void openmetrics_u64(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, uint64_t value)
{
	assert(metrics->type != OPENMETRICS_INFO || value == 1);
	struct buffer *out = begin_sample(metrics, labels, count);
	buffer_add_u64(out, value);
	buffer_add_char(out, '\n');
}

void openmetrics_i64(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, int64_t value)
{
	assert(metrics->type != OPENMETRICS_COUNTER || value >= 0);
	struct buffer *out = begin_sample(metrics, labels, count);
	buffer_add_i64(out, value);
	buffer_add_char(out, '\n');
}

void openmetrics_double(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, double value)
{
	char text[32];
	assert(metrics->type != OPENMETRICS_COUNTER || value >= 0);
	struct buffer *out = begin_sample(metrics, labels, count);
	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value) /* one number in some needs all 17 digits */
		snprintf(text, sizeof(text), "%.17g", value);
	buffer_add_text(out, isnan(value) ? "NaN" : isinf(value) ? (value > 0 ? "+Inf" : "-Inf") : text);
	buffer_add_char(out, '\n');
}

void openmetrics_ms(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, int64_t ms)
{
	assert(metrics->type != OPENMETRICS_COUNTER || ms >= 0);
	struct buffer *out = begin_sample(metrics, labels, count);
	uint64_t size = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
	buffer_printf(
	    out, "%s%llu.%03u\n", ms < 0 ? "-" : "", (unsigned long long)(size / 1000), (unsigned)(size % 1000));
}

int openmetrics_end(struct openmetrics *metrics)
{
	buffer_add_text(metrics->out, "# EOF\n");
	return buffer_error(metrics->out);
}
