#include "fs/owed.h"

#include <stdatomic.h>

#include "fs/handle.h"

static _Atomic unsigned marks; /* of all handles: a mount is a process */

void owed_mark(struct handle *handle)
{
	if (!atomic_exchange(&handle->owed, true))
		atomic_fetch_add(&marks, 1);
}

void owed_unmark(struct handle *handle)
{
	if (atomic_load_explicit(&handle->owed, memory_order_relaxed))
		owed_paid(atomic_exchange(&handle->owed, false));
}

void owed_paid(bool marked)
{
	if (marked)
		atomic_fetch_sub(&marks, 1);
}

bool owed_any(void)
{
	return atomic_load(&marks) > 0;
}
