#include "fs/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/engine.h"
#include "fs/version.h"

#define PARTITIONS_SHOWN_MAX 32u

static const char head[] =
    "<!doctype html>\n"
    "<html lang=en><head><meta charset=utf-8>\n"
    "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
    "<title>mqfs</title>\n"
    "<style>\n"
    ":root { color-scheme: light dark; --fg: #1c2024; --dim: #5f6b76; --bg: #fff; --line: #dde2e7; --head: #f3f5f7;\n"
    "  --good: #1a7f4b; --bad: #b3261e; }\n"
    "@media (prefers-color-scheme: dark) { :root { --fg: #e4e7ea; --dim: #98a3ae; --bg: #15181b; --line: #30363c;\n"
    "  --head: #1e2226; --good: #4cc38a; --bad: #ff8078; } }\n"
    "body { font: 14px/1.45 system-ui, sans-serif; color: var(--fg); background: var(--bg); margin: 0; padding: 1rem; "
    "}\n"
    "header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; }\n"
    "h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }\n"
    ".dim, .note, dt { color: var(--dim); } .note { margin: .4rem 0; }\n"
    ".state { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }\n"
    "dl { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; }\n"
    "dl div { border: 1px solid var(--line); border-radius: 6px; padding: .35rem .8rem; min-width: 4.5rem; }\n"
    "dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }\n"
    ".wide, pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }\n"
    "pre { padding: .6rem; margin: 0; font-size: 12px; }\n"
    "table { border-collapse: collapse; width: 100%; }\n"
    "th, td { text-align: left; padding: .3rem .7rem; white-space: nowrap; border-bottom: 1px solid var(--line); }\n"
    "tr:last-child td { border-bottom: 0; } th { background: var(--head); font-weight: 600; cursor: pointer; }\n"
    "td:first-child { max-width: min(22rem, 45vw); overflow: hidden; text-overflow: ellipsis; background: var(--bg); "
    "}\n"
    "td:first-child, th:first-child { position: sticky; left: 0; }\n"
    ".n { text-align: right; font-variant-numeric: tabular-nums; } .z { color: var(--dim); }\n"
    "input[type=search] { font: inherit; padding: .15rem .4rem; max-width: 12rem; } a { color: inherit; }\n"
    "</style></head><body>\n";

/* Without it the page is whole, but for sorting, filtering and reading itself again. */
static const char script[] =
    "<script>\n"
    "const value = cell => 'v' in cell.dataset ? +cell.dataset.v : cell.matches('.n') ? +cell.textContent || 0 : "
    "cell.textContent;\n"
    "document.querySelectorAll('th').forEach(th => th.onclick = () => {\n"
    "  const body = th.closest('table').tBodies[0], at = th.cellIndex, up = th.dataset.up = th.dataset.up ? '' : '1';\n"
    "  const order = th.matches('.n') ? !up : !!up;\n"
    "  [...body.rows].sort((a, b) => { const x = value(a.cells[at]), y = value(b.cells[at]);\n"
    "    return (x < y ? -1 : x > y ? 1 : 0) * (order ? 1 : -1); }).forEach(row => body.append(row));\n"
    "});\n"
    "const filter = document.getElementById('filter'), again = document.getElementById('again');\n"
    "filter.oninput = () => document.querySelectorAll('tbody tr').forEach(row =>\n"
    "  row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase()));\n"
    "again.checked = location.hash == '#again';\n"
    "again.onchange = () => history.replaceState(null, '', again.checked ? '#again' : '#');\n"
    "setInterval(() => { if (again.checked && !filter.value) location.reload(); }, 5000);\n"
    "</script>\n";

void page_begin(struct buffer *out)
{
	char now[32] = "";
	const time_t seconds = clock_wall_ms() / 1000;
	struct tm tm;
	if (gmtime_r(&seconds, &tm))
		strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S", &tm);
	buffer_add_text(out, head);
	buffer_printf(out,
	    "<header><h1>mqfs</h1><span class=dim>%s &middot; as of %s UTC</span>"
	    "<input type=search id=filter placeholder=filter aria-label=\"filter the tables\">"
	    "<label><input type=checkbox id=again> refresh every 5 s</label></header>\n",
	    MQFS_VERSION, now);
}

void page_end(struct buffer *out)
{
	buffer_add_text(out, script);
	buffer_add_text(out, "</body></html>\n");
}

void page_escape(struct buffer *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		switch (text[i]) {
		case '&': buffer_add_text(out, "&amp;"); break;
		case '<': buffer_add_text(out, "&lt;"); break;
		case '>': buffer_add_text(out, "&gt;"); break;
		case '"': buffer_add_text(out, "&quot;"); break;
		case '\'': buffer_add_text(out, "&#39;"); break;
		default: buffer_add_char(out, text[i]);
		}
	}
}

/* ---------------------------------------------------------------------------------------------------- rows */

struct ranked {
	uint64_t rank;
	size_t index;
};

static int compare_ranks(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->rank != y->rank)
		return x->rank < y->rank ? 1 : -1;
	return x->index < y->index ? -1 : x->index > y->index;
}

size_t page_top(
    const void *rows, size_t count, size_t size, uint64_t (*rank)(const void *row), const void **ret_rows, size_t max)
{
	struct ranked *ranked = malloc((count + 1) * sizeof *ranked);
	if (!ranked)
		return 0;
	for (size_t i = 0; i < count; i++)
		ranked[i] = (struct ranked){ rank((const char *)rows + i * size), i };
	qsort(ranked, count, sizeof *ranked, compare_ranks);
	if (count > max)
		count = max;
	for (size_t i = 0; i < count; i++)
		ret_rows[i] = (const char *)rows + ranked[i].index * size;
	free(ranked);
	return count;
}

void page_row(struct buffer *out)
{
	buffer_add_text(out, "<tr>");
}

void page_name(struct buffer *out, const char *name)
{
	buffer_add_text(out, "<td title=\"");
	page_escape(out, name, strlen(name));
	buffer_add_text(out, "\">");
	page_escape(out, name, strlen(name));
}

/* 1234567 as 1,234,567. */
static void add_grouped(struct buffer *out, uint64_t value)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%" PRIu64, value);
	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			buffer_add_char(out, ',');
		buffer_add_char(out, digits[i]);
	}
}

static void number_cell(struct buffer *out, uint64_t value, const char *class)
{
	buffer_printf(out, "<td class=\"n%s\"", class);
	if (value >= 1000)
		buffer_printf(out, " data-v=%" PRIu64, value);
	buffer_add_char(out, '>');
	add_grouped(out, value);
}

void page_number(struct buffer *out, uint64_t value)
{
	number_cell(out, value, value > 0 ? "" : " z");
}

void page_alarm(struct buffer *out, uint64_t value)
{
	number_cell(out, value, value > 0 ? " bad" : " z");
}

void page_bytes(struct buffer *out, uint64_t value)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double shown = (double)value;
	size_t unit = 0;
	for (; shown >= 1024; shown /= 1024)
		unit++;
	buffer_printf(out, "<td class=\"n%s\" data-v=%" PRIu64 ">%.*f %s", value > 0 ? "" : " z", value,
	    unit > 0 && shown < 100, shown, units[unit]);
}

void page_age(struct buffer *out, int64_t ms)
{
	int64_t s = ms / 1000;
	if (ms <= 0)
		buffer_add_text(out, "<td class=\"n z\" data-v=0>&ndash;");
	else
		buffer_printf(out, "<td class=n data-v=%" PRId64 ">", ms);
	if (ms > 0 && s < 60)
		buffer_printf(out, "%" PRId64 ".%" PRId64 " s", s, ms % 1000 / 100);
	else if (ms > 0 && s < 3600)
		buffer_printf(out, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
	else if (ms > 0 && s < 86400)
		buffer_printf(out, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
	else if (ms > 0)
		buffer_printf(out, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
}

void page_partitions(struct fs *fs, uint64_t topic, uint32_t count, struct buffer *out)
{
	struct engine_object *object;
	buffer_add_text(out, "<td>");
	if (fs->engine->ops->get(fs->engine, topic, &object))
		return;
	for (uint32_t p = 0; p < count && p < PARTITIONS_SHOWN_MAX; p++) {
		struct engine_partition_stat stat;
		if (fs->engine->ops->partition_stat(object, p, &stat))
			break;
		buffer_printf(out, "%s%" PRIu32 ": %" PRIu64 "&ndash;%" PRIu64, p > 0 ? " &middot; " : "", p,
		    stat.earliest, stat.end);
	}
	if (count > PARTITIONS_SHOWN_MAX)
		buffer_add_text(out, " &middot; &hellip;");
	fs->engine->ops->put(object);
}

/* ------------------------------------------------------------------------------------------------- members */

static void add_member(struct fs *fs, const char *name, struct engine_object *member, struct buffer *out)
{
	struct engine_member_stat stat;
	const char *between = " (";
	page_escape(out, name, strlen(name));
	if (fs->engine->ops->member->member_stat(member, &stat) || !stat.joined)
		return;
	for (uint32_t p = 0; p < ENGINE_PARTITIONS_MAX; p++) {
		if (!(stat.owned[p / 64] >> (p % 64) & 1))
			continue;
		buffer_printf(out, "%s%" PRIu32, between, p);
		between = ",";
	}
	if (*between == ',')
		buffer_add_char(out, ')');
}

static bool note_id(void *ctx, const struct engine_dirent *entry)
{
	*(uint64_t *)ctx = entry->id;
	return false;
}

/* The next one after *at; NULL: no more. */
static struct engine_object *next_member(struct fs *fs, struct engine_object *group, uint64_t *at)
{
	struct engine_object *member = NULL;
	while (!member) {
		uint64_t id = 0;
		if (fs->engine->ops->list(fs->engine, group, ENGINE_MEMBER, *at, note_id, &id) || id == 0)
			return NULL;
		*at = id;
		if (fs->engine->ops->get(fs->engine, id, &member))
			member = NULL;
	}
	return member;
}

void page_members(struct fs *fs, uint64_t group_id, size_t max, struct buffer *out)
{
	struct engine_object *group, *member;
	struct engine_identity identity;
	uint64_t at = 0;
	buffer_add_text(out, "<td>");
	if (!fs->engine->ops->member || fs->engine->ops->get(fs->engine, group_id, &group))
		return;
	for (size_t count = 0; count <= max && (member = next_member(fs, group, &at)); count++) {
		buffer_add_text(out, count > 0 ? ", " : "");
		if (count == max)
			buffer_add_text(out, "&hellip;");
		else if (fs->engine->ops->identity(member, &identity) == 0)
			add_member(fs, identity.name, member, out);
		fs->engine->ops->put(member);
	}
	fs->engine->ops->put(group);
}

void page_sum(struct buffer *out, const char *name, uint64_t value)
{
	buffer_printf(out, "<div><dt>%s<dd>", name);
	add_grouped(out, value);
	buffer_add_text(out, "</div>");
}
