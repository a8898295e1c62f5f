/*
 * local_tx_ended - which transactions of a user have ended, the oldest first: they are kept for a day, but not longer than the room
 * lasts that their user has for objects. So who begins more of them than that a day is not refused: only open ones are in the way.
 *
 * They are in lists of which each has those of some users: no memory is asked for, so none is left out.
 *
 * Lock: ended_lock, a leaf.
 */
#include "engine/local_tx.h"

#include <errno.h>

static struct tx_list *list_of(struct local *local, uint32_t uid)
{
	return &local->ended[uid % LOCAL_ENDED_LISTS];
}

void tx_ended_add(struct tx *tx)
{
	struct local *local = local_of(&tx->object);
	struct tx_list *list = list_of(local, tx->object.keeper);

	if (!tx->object.kept)
		return;
	pthread_mutex_lock(&local->ended_lock);
	if (!tx->ended_listed) {
		tx->ended_listed = true;
		tx->ended_before = list->last;
		*(list->last != NULL ? &list->last->ended_next : &list->first) = tx;
		list->last = tx;
	}
	pthread_mutex_unlock(&local->ended_lock);
}

/* ended_lock */
static void drop(struct local *local, struct tx *tx)
{
	struct tx_list *list = list_of(local, tx->object.keeper);

	if (!tx->ended_listed)
		return;
	*(tx->ended_before != NULL ? &tx->ended_before->ended_next : &list->first) = tx->ended_next;
	*(tx->ended_next != NULL ? &tx->ended_next->ended_before : &list->last) = tx->ended_before;
	tx->ended_listed = false;
	tx->ended_before = tx->ended_next = NULL;
}

void tx_ended_drop(struct tx *tx)
{
	struct local *local = local_of(&tx->object);

	pthread_mutex_lock(&local->ended_lock);
	drop(local, tx);
	pthread_mutex_unlock(&local->ended_lock);
}

/* A reference to the oldest. NULL: there is none */
static struct tx *find_oldest(struct local *local, uint32_t uid)
{
	struct tx *tx;

	pthread_mutex_lock(&local->ended_lock);
	tx = list_of(local, uid)->first;
	while (tx != NULL && (tx->object.keeper != uid || !object_try_ref(&tx->object)))
		tx = tx->ended_next; /* that one is another's, or about to be freed */
	pthread_mutex_unlock(&local->ended_lock);
	return tx;
}

int tx_make_room(struct local *local, uint32_t uid, enum engine_keep *how)
{
	struct tx *tx = find_oldest(local, uid);
	int rc;

	if (tx == NULL) {
		*how = ENGINE_KEEP_ANEW;
		return 0;
	}
	rc = look_remove(&tx->object.base);
	if (rc == -EIDRM) /* by somebody else, just now */
		rc = 0;
	if (rc == 0) /* whoever has its state open has it still: then the next makes room */
		tx_ended_drop(tx);
	object_put(&tx->object);
	return rc;
}
