/*
 * openmetrics - writes metrics as OpenMetrics text 1.0 (which Prometheus reads).
 *
 * A family is begun with its name, type, unit and help; the samples that follow are its own, one per set of labels. So
 * who prints a metric of ten thousand topics begins the family once and walks the topics within. The builder adds what
 * the type asks for: counters end in _total, infos in _info. At the end stands "# EOF".
 *
 *	openmetrics_begin(&metrics, &out);
 *	openmetrics_family(&metrics, "mqfs_topic_published", OPENMETRICS_COUNTER, "", "Messages produced since the mount.");
 *	openmetrics_u64(&metrics, (struct openmetrics_label[]){ { "topic", name } }, 1, stat.published_total);
 *	err = openmetrics_end(&metrics);
 *
 * Names are the program's own, so a wrong one is a bug and asserted: the characters, a unit that is not the end of its
 * family's name, a family begun twice. Values of labels come from users: they are escaped, and bytes that are not UTF-8
 * become U+FFFD.
 */
#ifndef MQFS_FS_OPENMETRICS_H
#define MQFS_FS_OPENMETRICS_H

#include "fs/buffer.h"

#define OPENMETRICS_FAMILIES_MAX 128u

enum openmetrics_type {
	OPENMETRICS_GAUGE,
	OPENMETRICS_COUNTER,
	OPENMETRICS_INFO, /* value 1, all is in the labels */
	OPENMETRICS_UNKNOWN,
};

struct openmetrics_label {
	const char *name, *value;
};

/* Private. */
struct openmetrics {
	struct buffer *out;
	const char *family;
	enum openmetrics_type type;
	const char *families[OPENMETRICS_FAMILIES_MAX];
	size_t family_count;
};

/* Appends to out, which the caller owns. */
void openmetrics_begin(struct openmetrics *metrics, struct buffer *out);

/*
 * name: without _total or _info, and kept by pointer until openmetrics_end(): a literal. unit: "" or the last word of
 * name ("seconds", "bytes"). help: one sentence.
 */
void openmetrics_family(
    struct openmetrics *metrics, const char *name, enum openmetrics_type type, const char *unit, const char *help);

/* One sample of the family; the set of labels must be new in it. labels may be NULL if count is 0. */
void openmetrics_u64(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, uint64_t value);
void openmetrics_i64(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, int64_t value);
void openmetrics_double(
    struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, double value);

/* Milliseconds as seconds, which is the unit metrics have: 1500 is "1.500". */
void openmetrics_ms(struct openmetrics *metrics, const struct openmetrics_label *labels, size_t count, int64_t ms);

/* Ends the text. 0, or -ENOMEM if it could not all be built. */
int openmetrics_end(struct openmetrics *metrics);

#endif
