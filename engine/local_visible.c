/*
 * local_visible - see local_visible.h.
 */
#include "engine/local_visible.h"

#include <assert.h>
#include <stdio.h>

#include "engine/local_internal.h"

#define REASON_MAX 512

/* Of this thread: where it looks or commits; who is kept back. */
static _Thread_local struct {
	struct local *local;
	unsigned int depth;
	bool alone;
	unsigned int holds;
	struct engine_waiter *kept, **tail;
} look;

void visible_init(struct local *local)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	/* Else a stream of looks would keep commits out for ever. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&local->visible, &attr);
	pthread_rwlockattr_destroy(&attr);
}

void visible_release(struct local *local)
{
	pthread_rwlock_destroy(&local->visible);
}

void visible_enter(struct local *local)
{
	if (look.depth == 0) {
		visible_hold();
		pthread_rwlock_rdlock(&local->visible);
		look.local = local;
	}
	assert(look.local == local);
	look.depth++;
}

bool visible_try_enter(struct local *local)
{
	if (look.depth == 0) {
		if (pthread_rwlock_tryrdlock(&local->visible) != 0)
			return false;
		visible_hold();
		look.local = local;
	}
	assert(look.local == local);
	look.depth++;
	return true;
}

void visible_leave(struct local *local)
{
	assert(look.depth > 0 && look.local == local);
	if (--look.depth > 0)
		return;
	pthread_rwlock_unlock(&local->visible);
	visible_let_go();
}

void visible_hold(void)
{
	if (look.holds++ > 0)
		return;
	look.kept = NULL;
	look.tail = &look.kept;
}

void visible_let_go(void)
{
	struct engine_waiter *waiter = look.kept, *next;
	char reason[REASON_MAX];

	assert(look.holds > 0);
	if (--look.holds > 0 || waiter == NULL)
		return;
	look.kept = NULL;
	snprintf(reason, sizeof(reason), "%s", engine_reason()); /* of the call that ends here */
	for (; waiter != NULL; waiter = next) {
		next = waiter->engine_next; /* wake may free it or arm it again */
		waiter->wake(waiter);
	}
	if (reason[0] != '\0')
		engine_explain(0, "%s", reason);
	else
		engine_reason_clear();
}

bool visible_keeps(struct engine_waiter *waiter)
{
	if (look.holds == 0)
		return false;
	waiter->engine_next = NULL;
	*look.tail = waiter;
	look.tail = &waiter->engine_next;
	return true;
}

void visible_begin(struct local *local)
{
	assert(look.depth == 0 && !look.alone);
	visible_hold();
	pthread_rwlock_wrlock(&local->visible);
	look.local = local;
	look.depth = 1;
	look.alone = true;
}

void visible_end(struct local *local)
{
	assert(look.alone && look.depth == 1);
	look.alone = false;
	visible_leave(local);
}
