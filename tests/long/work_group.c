/*
 * work_group - the group of t: reading and acks; and in some works its members, which come, go and have sessions, and what they
 * reject: it goes to the group's dlq (target D), where it is settled. What is redriven would be in t twice, as the checker
 * reads it: that is for tests/engine/test_local_group_crash.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/long/work.h"

/* NULL: there is no room for another. */
static struct seek *begin_seek(struct work *w, uint32_t p, uint64_t committed)
{
	struct seek *seek = &w->seeks[p][w->seek_count[p]];

	if (w->seek_count[p] >= SEEKS)
		return NULL;
	w->seek_count[p]++;
	*seek = (struct seek){ committed, work_now(w), NEVER, NEVER };
	return seek;
}

static void take_some(struct work *w, struct engine_object *who)
{
	struct engine_consumer *consumer = NULL;
	struct engine_view view;

	OK(w->ops->consumer_open(who, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT, &consumer));
	for (unsigned n = 1 + work_pick(w, 4); n > 0; n--)
		if (w->ops->consumer_fetch(consumer, 2, SIZE_MAX, &w->scratch, &view) != 1)
			break;
	w->ops->consumer_close(consumer);
}

static struct engine_cursor_stat stat_of(struct work *w, uint32_t p)
{
	struct engine_cursor_stat stat;

	OK(w->ops->cursor_stat(w->group, p, &stat));
	return stat;
}

static void ack_given(struct work *w, struct engine_object *who, uint32_t p)
{
	struct seek *seek = begin_seek(w, p, stat_of(w, p).given);

	if (seek == NULL)
		return;
	OK(w->ops->ack_all(who, p));
	seek->accepted = work_now(w);
}

void work_move_cursor(struct work *w)
{
	take_some(w, w->group);
	for (uint32_t p = 0; p < 2; p++)
		ack_given(w, w->group, p);
}

void work_confirm_cursors(struct work *w, size_t before)
{
	for (uint32_t p = 0; p < 2; p++)
		for (unsigned i = 0; i < w->seek_count[p]; i++)
			if (w->seeks[p][i].accepted <= before && w->seeks[p][i].confirmed == NEVER)
				w->seeks[p][i].confirmed = work_now(w);
}

void work_sync_group(struct work *w)
{
	struct wait wait = WAIT;
	size_t before = work_now(w);

	OK(work_wait(&wait, w->ops->group_sync(w->group, &wait.done)));
	work_confirm_cursors(w, before);
}

/* ---- rejects ---- */

static void add_dead(struct work *w, uint32_t p, uint64_t first, uint64_t end)
{
	for (uint64_t offset = first; offset < end; offset++) {
		struct engine_view view;
		struct copy *c;

		OK(w->ops->partition_read(w->targets[T], p, offset, 1, &w->scratch, &view));
		c = work_add(w, D, (unsigned)strtoul(view.batch.data + 1, NULL, 10));
		c->part = p;
		c->offset = offset;
	}
}

/* One that was given, and all before it are acked by that; or all that were. */
static void reject(struct work *w, struct engine_object *who, uint32_t p, bool all)
{
	struct engine_cursor_stat stat = stat_of(w, p);
	uint64_t offset = stat.committed;
	size_t before = w->count;
	struct seek *seek;

	if (stat.given == stat.committed)
		return;
	if (!all && work_pick(w, 2) == 0)
		offset += work_pick(w, (unsigned)(stat.given - stat.committed));
	seek = begin_seek(w, p, all ? stat.given : offset + 1);
	if (seek == NULL)
		return;
	add_dead(w, p, offset, seek->committed);
	if (all)
		OK(w->ops->member->reject_all(who, p));
	else
		OK(w->ops->member->reject(who, p, offset));
	work_accept(w, before, true);
	seek->accepted = seek->confirmed = work_now(w);
}

/* ---- members ---- */

static void make_member(struct work *w, struct member *m)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct name *n = &w->names[w->name_count];
	char name[16];

	if (w->name_count >= NAMES)
		return;
	snprintf(name, sizeof(name), "x%u", w->name_count);
	*n = (struct name){ work_now(w), NEVER, NEVER, NEVER };
	m->name = w->name_count++;
	OK(w->ops->create(w->engine, w->group, ENGINE_MEMBER, name, &owner, &m->object));
	n->made = work_now(w);
	m->there = true;
}

static void remove_member(struct work *w, struct member *m)
{
	w->names[m->name].remove = work_now(w);
	OK(w->ops->remove(m->object));
	w->names[m->name].removed = work_now(w);
	w->ops->put(m->object);
	*m = (struct member){ 0 };
}

void work_change_members(struct work *w)
{
	struct member *m = &w->members[work_pick(w, MEMBERS)];

	if (!m->there) {
		make_member(w, m);
	} else if (m->session == NULL && work_pick(w, 2) == 0) {
		OK(w->ops->member->session_open(m->object, &m->session));
	} else if (m->session != NULL) {
		w->ops->member->session_close(m->session);
		m->session = NULL;
	} else {
		remove_member(w, m);
	}
}

/* Who has the partition: a member, or the group itself if it has none; NULL: nobody. */
static struct engine_object *owner_of(struct work *w, uint32_t p)
{
	struct engine_member_stat stat;
	bool some = false;

	for (unsigned i = 0; i < MEMBERS; i++) {
		if (!w->members[i].there)
			continue;
		OK(w->ops->member->member_stat(w->members[i].object, &stat));
		if (stat.owned[0] >> p & 1)
			return w->members[i].object;
		some = some || stat.joined;
	}
	return some ? NULL : w->group;
}

void work_group_step(struct work *w)
{
	uint32_t p = work_pick(w, 2);
	unsigned dice = work_pick(w, 100);
	struct engine_object *who = owner_of(w, p);

	if (dice < 20 || who == NULL)
		work_change_members(w);
	else if (dice < 50)
		take_some(w, who);
	else if (dice < 65)
		ack_given(w, who, p);
	else
		reject(w, who, p, dice >= 90);
}

void work_group_ack(struct work *w)
{
	for (uint32_t p = 0; p < 2; p++) {
		struct engine_object *who = owner_of(w, p);

		if (who == NULL)
			continue;
		take_some(w, who);
		ack_given(w, who, p);
	}
}

void work_group_reject(struct work *w)
{
	for (uint32_t p = 0; p < 2; p++) {
		struct engine_object *who = owner_of(w, p);

		if (who == NULL)
			continue;
		take_some(w, who);
		reject(w, who, p, work_pick(w, 2) == 0);
	}
}

void work_find_members(struct work *w)
{
	char name[16];

	for (unsigned i = 0; i < MEMBERS; i++) {
		w->members[i].session = NULL;
		snprintf(name, sizeof(name), "x%u", w->members[i].name);
		if (w->members[i].there)
			OK(w->ops->lookup(w->engine, w->group, ENGINE_MEMBER, name, &w->members[i].object));
	}
}

void work_put_members(struct work *w)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		w->ops->member->session_close(w->members[i].session);
		w->members[i].session = NULL;
		if (w->members[i].there)
			w->ops->put(w->members[i].object);
	}
}
