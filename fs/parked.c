#include "fs/parked.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/uring.h"

/*
 * PARKING  -- interrupt --> INTERRUPTED   parked_add sees it and gives the request back
 * PARKING  -- parked_add --> PARKED
 * PARKED   -- interrupt --> CLAIMED       the interrupt answers EINTR and frees
 * PARKED   -- parked_claim --> CLAIMED    the same, as it has waited for as long as a request may (patience.h)
 * PARKED   -- parked_take --> CLAIMED     the taker answers and frees; an interrupt from now on does nothing
 *
 * libfuse calls the interrupt function with the request's own lock held, perhaps from within fuse_req_interrupt_func; so it
 * must not answer in PARKING (the request would be freed under libfuse's hands), and may in PARKED.
 */
enum { PARKING, PARKED, INTERRUPTED, CLAIMED };

void parked_list_init(
    struct parked_list *list, pthread_mutex_t *lock, struct quota_user *user, struct patience *patience)
{
	*list = (struct parked_list){ .lock = lock, .last = &list->first, .user = user, .patience = patience };
}

static void link_last(struct parked_list *list, struct parked *parked)
{
	parked->link = list->last;
	*list->last = parked;
	list->last = &parked->next;
	list->count++;
}

static void link_first(struct parked_list *list, struct parked *parked)
{
	parked->link = &list->first;
	parked->next = list->first;
	if (parked->next)
		parked->next->link = &parked->next;
	else
		list->last = &parked->next;
	list->first = parked;
	list->count++;
}

static void unlink_locked(struct parked *parked)
{
	struct parked_list *list = parked->list;
	*parked->link = parked->next;
	if (parked->next)
		parked->next->link = parked->link;
	else
		list->last = parked->link;
	parked->next = NULL;
	parked->link = NULL;
	list->count--;
}

static bool move(struct parked *parked, int from, int to)
{
	return atomic_compare_exchange_strong(&parked->state, &from, to);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct parked *parked = data;
	if (move(parked, PARKING, INTERRUPTED) || !move(parked, PARKED, CLAIMED))
		return;
	pthread_mutex_lock(parked->list->lock);
	unlink_locked(parked);
	pthread_mutex_unlock(parked->list->lock);
	parked_free(parked);
	fuse_reply_err(req, EINTR);
}

/* Makes a linked request one that an interrupt may claim; false: it was interrupted already, and is out of the list. */
static bool arm_locked(struct parked *parked)
{
	atomic_store(&parked->state, PARKING);
	fuse_req_interrupt_func(parked->req, interrupted, parked);
	if (move(parked, PARKING, PARKED))
		return true;
	unlink_locked(parked);
	fuse_req_interrupt_func(parked->req, NULL, NULL);
	return false;
}

int parked_add(struct parked_list *list, fuse_req_t req, size_t size, off_t offset)
{
	struct parked *parked = calloc(1, sizeof *parked);
	if (!parked)
		return -ENOMEM;
	int err = uring_park();
	if (!err)
		err = quota_charge(list->user, QUOTA_PARKED, &parked->charged, 1);
	if (err) {
		free(parked);
		return err;
	}
	parked->req = req;
	parked->size = size;
	parked->offset = offset;
	parked->list = list;
	link_last(list, parked);
	patience_watch(list->patience, parked);
	if (arm_locked(parked))
		return 0;
	parked_free(parked);
	return -EINTR;
}

struct parked *parked_take(struct parked_list *list)
{
	for (struct parked *parked = list->first; parked; parked = parked->next) {
		if (!move(parked, PARKED, CLAIMED))
			continue; /* an interrupt has it and waits for our lock */
		unlink_locked(parked);
		/* Waits for an interrupt that is just finding out that it came too late, so that parked may be freed. */
		fuse_req_interrupt_func(parked->req, NULL, NULL);
		return parked;
	}
	return NULL;
}

void parked_free(struct parked *parked)
{
	patience_forget(parked->list->patience, parked);
	quota_charge(parked->list->user, QUOTA_PARKED, &parked->charged, 0);
	free(parked);
}

bool parked_claim(struct parked *parked)
{
	return move(parked, PARKED, CLAIMED);
}

void parked_interrupt(struct parked *parked)
{
	fuse_req_t req = parked->req;
	pthread_mutex_lock(parked->list->lock);
	unlink_locked(parked);
	pthread_mutex_unlock(parked->list->lock);
	fuse_req_interrupt_func(req, NULL, NULL); /* waits, as in parked_take */
	parked_free(parked);
	fuse_reply_err(req, EINTR);
}

int parked_return(struct parked *parked)
{
	link_first(parked->list, parked);
	return arm_locked(parked) ? 0 : -EINTR;
}
