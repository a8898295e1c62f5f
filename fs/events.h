/*
 * events - status/events: what happens, one line each, for who waits for it.
 *
 * A line is "TIME PATH: what happened", or that of an error as status/errors has it. The last 1,024 are kept; a reader starts with what comes after its open, each read
 * gives the lines there are, whole, and waits when there are none. Who is overtaken is told how many lines were lost.
 */
#ifndef MQFS_FS_EVENTS_H
#define MQFS_FS_EVENTS_H

#include "fs/class.h"

struct events;

struct events *events_new(void);         /* NULL: no memory */
void events_free(struct events *events); /* NULL allowed; no reader is left */

/* path is below the object. Never fails: without memory the event is not seen. */
void events_add(struct fs *fs, uint64_t object, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A line that is made already. */
void events_add_line(struct fs *fs, const char *line);

#endif
