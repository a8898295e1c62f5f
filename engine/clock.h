/*
 * clock - the time, behind one seam, so that a test can move it. Nothing else asks the system for it, or waits for a time to come.
 */
#ifndef MQFS_CLOCK_H
#define MQFS_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct clock_ops {
	int64_t (*wall_ms)(void); /* Unix time in milliseconds */
	int64_t (*mono_ms)(void); /* CLOCK_BOOTTIME: for deadlines; goes on through suspend, never back */
	void (*boot_id)(
	    uint8_t out[16]); /* of this start of the machine; zeros: the kernel does not say. NULL: the system's */
};
extern const struct clock_ops clock_system;
extern const struct clock_ops *clock_now; /* the one in force */

static inline int64_t clock_wall_ms(void)
{
	return clock_now->wall_ms();
}

static inline int64_t clock_mono_ms(void)
{
	return clock_now->mono_ms();
}

/* To measure how long something took: the system's, whichever is in force. */
int64_t clock_measure_ns(void);

/* Both wait for as long as the system's clock says, whichever is in force. */
void clock_wait(pthread_cond_t *changed, pthread_mutex_t *lock, int64_t ms); /* for changed; for ms at most */
void clock_sleep(int64_t ms);

static inline void clock_boot_id(uint8_t out[16])
{
	(clock_now->boot_id != NULL ? clock_now : &clock_system)->boot_id(out);
}

#endif
