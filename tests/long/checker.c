#include "tests/long/checker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OBJECTS 512u
#define LOGS 512u
#define SPANS 4096u
#define SEGMENTS 512u

struct object {
	uint64_t id, parent;
	int kind;
	char name[256];
};

struct log {
	uint64_t owner, id;
	uint32_t index;
	uint64_t fresh; /* queues: from here on nothing was touched */
};

struct span {
	uint64_t owner, first;
	uint32_t index, count;
	uint8_t state;
};

struct store {
	struct checker *checker;
	int dirfd;
	uint8_t uuid[16];
	struct object objects[OBJECTS];
	struct log logs[LOGS];
	struct span spans[SPANS];
	size_t object_count, log_count, span_count;
};

struct file {
	uint8_t *bytes;
	size_t size;
};

void checker_wrong(struct checker *checker, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (checker->wrong++ == 0)
		vsnprintf(checker->text, sizeof(checker->text), format, args);
	va_end(args);
}

/* ---- bytes ---- */

static uint64_t little(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

static uint64_t big(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	for (int i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

static uint32_t crc(uint32_t c, const void *buf, size_t size)
{
	static uint32_t table[256];
	const uint8_t *p = buf;

	for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
	}
	c = ~c;
	while (size-- > 0)
		c = table[(c ^ *p++) & 255] ^ c >> 8;
	return ~c;
}

static bool sealed(const uint8_t *p)
{
	return little(p + 60, 4) == crc(0, p, 60);
}

static bool all_zero(const uint8_t *p, size_t size)
{
	while (size > 0 && *p == 0)
		p++, size--;
	return size == 0;
}

static struct file get_file(int dirfd, const char *name)
{
	struct file file = { NULL, 0 };
	struct stat st;
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return file;
	file.bytes = calloc(1, (size_t)st.st_size + 1);
	file.size = (size_t)read(fd, file.bytes, (size_t)st.st_size);
	close(fd);
	return file;
}

/* ---- FORMAT and the catalog ---- */

static void check_format(struct store *s)
{
	struct file file = get_file(s->dirfd, "FORMAT");
	unsigned u[16];

	if (file.bytes == NULL ||
	    sscanf((char *)file.bytes, "mqfs store, format 1, %2x%2x%2x%2x-%2x%2x-%2x%2x-%2x%2x-%2x%2x%2x%2x%2x%2x\n",
		&u[0], &u[1], &u[2], &u[3], &u[4], &u[5], &u[6], &u[7], &u[8], &u[9], &u[10], &u[11], &u[12], &u[13],
		&u[14], &u[15]) != 16)
		checker_wrong(s->checker, "FORMAT");
	for (int i = 0; i < 16; i++)
		s->uuid[i] = (uint8_t)u[i];
	free(file.bytes);
}

static struct object *find_object(struct store *s, uint64_t id)
{
	for (size_t i = 0; i < s->object_count; i++)
		if (s->objects[i].id == id)
			return &s->objects[i];
	return NULL;
}

/* Is there room for one more of these? What there is no room for is not passed over in silence. */
static bool room(struct store *s, size_t count, size_t most, const char *what)
{
	if (count < most)
		return true;
	checker_wrong(s->checker, "more than %zu %s: too many for the checker", most, what);
	return false;
}

static void take_object(struct store *s, uint64_t id, const uint8_t *value, size_t size)
{
	struct object *o = &s->objects[s->object_count];
	size_t len = size - 56;

	if (!room(s, s->object_count, OBJECTS, "objects") || !room(s, len, sizeof(o->name), "bytes of a name"))
		return;
	s->object_count++;
	o->id = id;
	o->parent = little(value, 8);
	o->kind = value[48];
	memcpy(o->name, value + 56, len);
	o->name[len] = '\0';
}

static void take_log(struct store *s, uint64_t owner, uint32_t index, uint64_t id)
{
	if (room(s, s->log_count, LOGS, "logs"))
		s->logs[s->log_count++] = (struct log){ .owner = owner, .index = index, .id = id };
}

/* From where on nothing of a priority was touched. */
static void take_fresh(struct store *s, uint64_t owner, uint32_t index, uint64_t fresh)
{
	for (size_t i = 0; i < s->log_count; i++) /* p comes before q */
		if (s->logs[i].owner == owner && s->logs[i].index == index)
			s->logs[i].fresh = fresh;
}

static void take_span(struct store *s, uint64_t owner, const uint8_t *key, const uint8_t *value)
{
	if (room(s, s->span_count, SPANS, "spans"))
		s->spans[s->span_count++] = (struct span){ .owner = owner,
			.index = key[9],
			.first = big(key + 10, 8),
			.count = (uint32_t)little(value, 4),
			.state = value[8] };
}

static void take_row(struct store *s, const uint8_t *key, size_t key_size, const uint8_t *value, size_t size)
{
	uint64_t id;

	if (key_size < 9 || size < 4 || little(value + size - 4, 4) != crc(crc(0, key, key_size), value, size - 4)) {
		checker_wrong(s->checker, "catalog: checksum of a row %c", key[0]);
		return;
	}
	size -= 4;
	id = big(key + 1, 8);
	if (key[0] == 'o' && key_size == 9 && size >= 56)
		take_object(s, id, value, size);
	else if (key[0] == 'p' && key_size == 13 && size == 8)
		take_log(s, id, (uint32_t)big(key + 9, 4), little(value, 8));
	else if (key[0] == 'q' && key_size == 10 && size == 16)
		take_fresh(s, id, key[9], little(value, 8));
	else if (key[0] == 'q' && key_size == 18 && size == 88)
		take_span(s, id, key, value);
	else if (key[0] == 'o' || key[0] == 'p' || (key[0] == 'q' && key_size > 9))
		checker_wrong(s->checker, "catalog: a row %c of %zu and %zu bytes", key[0], key_size, size);
}

static void tell_objects(struct store *s, MDB_txn *txn, MDB_dbi dbi)
{
	MDB_cursor *cursor;
	MDB_val key, value;

	for (size_t i = 0; i < s->object_count; i++) {
		struct object *o = &s->objects[i], *parent = find_object(s, o->parent);

		if (o->id == 1)
			continue;
		if (parent == NULL)
			checker_wrong(s->checker, "catalog: %s has no parent", o->name);
		else if (s->checker->object != NULL)
			s->checker->object(s->checker, o->kind, o->name, parent->name);
	}
	if (s->checker->cursor == NULL || mdb_cursor_open(txn, dbi, &cursor) != 0)
		return;
	while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
		const uint8_t *k = key.mv_data;
		struct object *group;

		if (k[0] == 'u' && key.mv_size == 13 && (group = find_object(s, big(k + 1, 8))) != NULL)
			s->checker->cursor(
			    s->checker, group->name, (uint32_t)big(k + 9, 4), little((uint8_t *)value.mv_data, 8));
	}
	mdb_cursor_close(cursor);
}

static void check_catalog(struct store *s)
{
	MDB_env *env = NULL;
	MDB_txn *txn = NULL;
	MDB_cursor *cursor = NULL;
	MDB_val key, value;
	MDB_dbi dbi;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/catalog", s->dirfd);
	if (mdb_env_create(&env) != 0 || mdb_env_set_mapsize(env, (size_t)1 << 30) != 0 ||
	    mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0) != 0 ||
	    mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0 || mdb_dbi_open(txn, NULL, 0, &dbi) != 0 ||
	    mdb_cursor_open(txn, dbi, &cursor) != 0) {
		checker_wrong(s->checker, "catalog: LMDB does not open it");
	} else {
		while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
			take_row(s, key.mv_data, key.mv_size, value.mv_data, value.mv_size);
		mdb_cursor_close(cursor);
		tell_objects(s, txn, dbi);
	}
	if (txn != NULL)
		mdb_txn_abort(txn);
	if (env != NULL)
		mdb_env_close(env);
}

/* ---- logs ---- */

struct segment {
	const struct log *log;
	uint64_t base, start; /* the log begins at start */
	uint64_t marked;      /* below this it was synced */
	struct file index, data, meta;
};

static void tell_messages(
    struct store *s, struct segment *g, uint64_t offset, const char *data, size_t len, uint32_t count)
{
	struct object *o = find_object(s, g->log->owner), *parent = o != NULL ? find_object(s, o->parent) : NULL;
	struct checker_message m = { .index = g->log->index };

	if (o == NULL || parent == NULL) {
		checker_wrong(s->checker, "log %" PRIx64 " of nobody", g->log->id);
		return;
	}
	m.kind = (enum checker_kind)o->kind;
	m.name = o->name;
	m.parent = parent->name;
	for (uint32_t i = 0; i < count; i++, offset++) {
		const char *end = memchr(data, '\n', len);

		if (end == NULL) {
			checker_wrong(
			    s->checker, "log %" PRIx64 ": offset %" PRIu64 " does not end", g->log->id, offset);
			return;
		}
		m.offset = offset;
		m.payload = data;
		m.size = (size_t)(end - data);
		m.live = m.kind != CHECKER_QUEUE || offset >= g->log->fresh;
		for (size_t k = 0; m.kind == CHECKER_QUEUE && k < s->span_count; k++)
			if (s->spans[k].owner == g->log->owner && s->spans[k].index == g->log->index &&
			    offset >= s->spans[k].first && offset < s->spans[k].first + s->spans[k].count)
				m.live = s->spans[k].state != 3;
		if (offset >= g->start && s->checker->message != NULL)
			s->checker->message(s->checker, &m);
		len -= m.size + 1;
		data = end + 1;
	}
	if (len != 0)
		checker_wrong(s->checker, "log %" PRIx64 ": more lines than messages", g->log->id);
}

/* One entry; the offset, data and meta must go on from what was before. */
static bool check_entry(
    struct store *s, struct segment *g, const uint8_t *e, uint64_t *offset, size_t *data, size_t *meta)
{
	size_t len = little(e + 28, 4), meta_len = little(e + 40, 4);
	uint32_t count = (uint32_t)little(e + 32, 3), seal;
	const char *what = NULL;

	if (!sealed(e))
		what = "checksum";
	else if (little(e, 8) != *offset || little(e + 24, 4) != *data)
		what = "place";
	else if (*data + len > g->data.size || crc(0, g->data.bytes + *data, len) != little(e + 56, 4))
		what = "data";
	else if (meta_len > 0 && (little(e + 36, 4) != *meta || *meta + meta_len > g->meta.size))
		what = "meta";
	if (what == NULL && meta_len > 0) {
		seal = crc(crc(0, e + 56, 4), g->meta.bytes + *meta + 4, meta_len - 4);
		if (little(g->meta.bytes + *meta, 4) != seal)
			what = "checksum of meta";
	}
	if (what != NULL && *offset < g->marked)
		checker_wrong(s->checker, "log %" PRIx64 ": entry at %" PRIu64 ": %s", g->log->id, *offset, what);
	if (what != NULL)
		return false; /* behind the mark: the log ends here, whatever follows */
	tell_messages(s, g, *offset, (char *)g->data.bytes + *data, len, count);
	*offset += count;
	*data += len;
	*meta += meta_len;
	return true;
}

/* Returns where it ends. */
static uint64_t check_segment(struct store *s, struct segment *g)
{
	const uint8_t *p = g->index.bytes;
	size_t at = 128, data = 0, meta = 0;
	uint64_t offset = g->base;

	if (g->index.size < 128 || memcmp(p, "MQFSIDX1", 8) != 0 || !sealed(p) || memcmp(p + 12, s->uuid, 16) != 0 ||
	    little(p + 28, 8) != g->log->id || little(p + 36, 8) != g->base) {
		checker_wrong(s->checker, "log %" PRIx64 ": header of %" PRIu64, g->log->id, g->base);
		return offset;
	}
	if (memcmp(p + 64, "MQFSMARK", 8) != 0 || !sealed(p + 64))
		checker_wrong(s->checker, "log %" PRIx64 ": mark of %" PRIu64, g->log->id, g->base);
	g->marked = little(p + 72, 8);
	while (at + 64 <= g->index.size && !all_zero(p + at, 64) && check_entry(s, g, p + at, &offset, &data, &meta))
		at += 64;
	if (g->marked > offset)
		checker_wrong(s->checker, "log %" PRIx64 ": marked up to %" PRIu64 ", ends at %" PRIu64, g->log->id,
		    g->marked, offset);
	return offset;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void check_log(struct store *s, const struct log *log)
{
	uint64_t bases[SEGMENTS], start = 0, end = 0;
	char name[64];
	size_t count = 0;
	struct dirent *entry;
	struct file file;
	int dirfd;
	DIR *dir;

	snprintf(name, sizeof(name), "logs/%016" PRIx64, log->id);
	dirfd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		checker_wrong(s->checker, "%s is not there", name);
		return;
	}
	dir = fdopendir(dirfd);
	while ((entry = readdir(dir)) != NULL)
		if (strlen(entry->d_name) == 26 && strcmp(entry->d_name + 20, ".index") == 0 &&
		    room(s, count, SEGMENTS, "segments"))
			bases[count++] = strtoull(entry->d_name, NULL, 10);
	qsort(bases, count, sizeof(bases[0]), by_number);
	file = get_file(dirfd, "start");
	if (file.bytes != NULL) {
		if (file.size != 64 || memcmp(file.bytes, "MQFSTART", 8) != 0 || !sealed(file.bytes))
			checker_wrong(s->checker, "%s/start", name);
		start = little(file.bytes + 36, 8);
		free(file.bytes);
	}
	for (size_t i = 0; i < count; i++) {
		struct segment g = { .log = log, .base = bases[i], .start = start };

		if (i > 0 && bases[i] < end)
			checker_wrong(
			    s->checker, "%s: segment %" PRIu64 " begins before %" PRIu64, name, bases[i], end);
		snprintf(name, sizeof(name), "%020" PRIu64 ".index", bases[i]);
		g.index = get_file(dirfd, name);
		snprintf(name, sizeof(name), "%020" PRIu64 ".data", bases[i]);
		g.data = get_file(dirfd, name);
		snprintf(name, sizeof(name), "%020" PRIu64 ".meta", bases[i]);
		g.meta = get_file(dirfd, name);
		end = check_segment(s, &g);
		free(g.index.bytes);
		free(g.data.bytes);
		free(g.meta.bytes);
	}
	if (count == 0)
		checker_wrong(s->checker, "log %" PRIx64 " has no segment", log->id);
	closedir(dir);
}

/* ---- journal ---- */

static void check_journal_file(struct store *s, uint64_t number, const struct file *file)
{
	const uint8_t *p = file->bytes;
	uint8_t seed[24];

	if (file->size < 64 || memcmp(p, "mqfsjrnl", 8) != 0 || !sealed(p) || memcmp(p + 16, s->uuid, 16) != 0 ||
	    little(p + 32, 8) != number) {
		checker_wrong(s->checker, "journal %" PRIu64 ": header", number);
		return;
	}
	memcpy(seed, p + 16, 24); /* uuid and number */
	for (size_t at = 64; at + 8 <= file->size && !all_zero(p + at, file->size - at);) {
		size_t size = (8 + little(p + at + 6, 2) + 7) / 8 * 8;

		if (at + size > file->size || little(p + at, 4) != crc(crc(0, seed, 24), p + at + 4, size - 4)) {
			checker_wrong(s->checker, "journal %" PRIu64 ": record at %zu", number, at);
			return;
		}
		at += size;
	}
}

static void check_journal(struct store *s)
{
	int dirfd = openat(s->dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dirfd >= 0 ? fdopendir(dirfd) : NULL;
	struct dirent *entry;
	unsigned count = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		struct file file;

		if (strlen(entry->d_name) != 16)
			continue;
		file = get_file(dirfd, entry->d_name);
		check_journal_file(s, strtoull(entry->d_name, NULL, 16), &file);
		free(file.bytes);
		count++;
	}
	if (count == 0)
		checker_wrong(s->checker, "no journal");
	if (dir != NULL)
		closedir(dir);
}

void checker_store(struct checker *checker, int dirfd)
{
	struct store *s = calloc(1, sizeof(*s));

	s->checker = checker;
	s->dirfd = dirfd;
	check_format(s);
	check_catalog(s);
	for (size_t i = 0; i < s->log_count; i++)
		check_log(s, &s->logs[i]);
	check_journal(s);
	free(s);
}
