/*
 * local_damage - what of the messages is known to be damaged: for health, which shows it until it is gone.
 */
#ifndef MQFS_LOCAL_DAMAGE_H
#define MQFS_LOCAL_DAMAGE_H

#include <stddef.h>

struct local;

/* Calls each with a line for every log that has some: of logs that are open, and of what reads found in them since. No lock may be held. */
void damage_each(struct local *local, void (*each)(void *ctx, const char *text), void *ctx);

#endif
