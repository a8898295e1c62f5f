/*
 * quota - what one user may hold of the daemon, so that nobody starves another.
 *
 * Everything here belongs to whoever opened the file or made it: open files, reads that wait, bytes that are no message yet
 * (half a line, a file in put/), files in put/ (each is a file descriptor of the daemon), bytes that open files keep for reading,
 * open transactions and what is staged in them, messages of queues that are leased, objects and what is left of ended transactions,
 * of all of which the engine tells. One table has the limits, their
 * reasons and the mount options that change them. Root and who mounted are counted as well, but have no limit: what they do
 * to the mount is their own affair, and they must be able to look and to repair while others are at their limits.
 *
 * A user exists as long as something is charged to them that was entered (an open file, a file in put/, a lease); what is charged
 * beside that is given back before. Entering takes a lock; charging is one atomic addition, and a write that leaves half a
 * line as long as it was needs none.
 *
 * Half a line in a staging file (staged.h) is on disk and not counted; there are at most STAGE_FILES_MAX of these, and who gets
 * none writes through the daemon.
 */
#ifndef MQFS_FS_QUOTA_H
#define MQFS_FS_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum quota_kind {
	QUOTA_HANDLES,
	QUOTA_PARKED,
	QUOTA_PART_BYTES,
	QUOTA_PUT_FILES,
	QUOTA_TX,
	QUOTA_TX_BYTES,
	QUOTA_UNACKED,
	QUOTA_READ_BYTES,
	QUOTA_OBJECTS,
	QUOTA_KINDS
};

/* What a kind is: its mount option, the limit without it (0 is none), the errno of a refusal, and what is said then. */
struct quota_row {
	const char *option;
	uint64_t standard;
	int err;
	const char *what;
};
extern const struct quota_row quota_rows[QUOTA_KINDS];

struct quota;
struct quota_user;
struct engine_users;

/* limits: of each kind, 0 is none. mounter: has no limits, like root. NULL: no memory. */
struct quota *quota_new(const uint64_t limits[QUOTA_KINDS], uid_t mounter);
void quota_free(struct quota *quota); /* NULL allowed; nobody is in it */

/*
 * Charges one of a kind to a user, who exists until it is left. Either the error of the kind's row, with engine_reason() saying
 * which limit it was and what it is, or ENOMEM.
 */
int quota_enter(struct quota *quota, uid_t uid, enum quota_kind kind, struct quota_user **ret_user);
void quota_leave(struct quota_user *user, enum quota_kind kind); /* NULL allowed */

/* Would quota_enter refuse? For an open, before it does anything that shows. */
int quota_look(struct quota *quota, uid_t uid, enum quota_kind kind);

/*
 * Makes what is charged amount to `amount`, *charged being what was. An increase can be refused, as by quota_enter, and
 * then nothing has changed. *charged is guarded by the caller.
 */
int quota_charge(struct quota_user *user, enum quota_kind kind, uint64_t *charged, uint64_t amount);

/*
 * For what is known only once it is there, as the size of a message that is read: asked before, is there anything left beside
 * what is charged here already? And afterwards charged whatever it is, so that one message can be had however long it is.
 */
int quota_room(struct quota_user *user, enum quota_kind kind, uint64_t charged);
void quota_hold(struct quota_user *user, enum quota_kind kind, uint64_t *charged, uint64_t amount);
/* What an open file may keep for reading without being charged: a limit for more is one for those who read long messages. */
#define QUOTA_READ_FREE (64u << 10)

/* Calls each for every user who has something open or leased, of objects for all who have any, in no order, with what is charged of a kind. */
void quota_each(
    struct quota *quota, enum quota_kind kind, void (*each)(void *ctx, uid_t uid, uint64_t used), void *ctx);

/* For the engine: it counts transactions and leases here. */
struct engine_users quota_of_engine(struct quota *quota);

/* How many requests a limit has refused since the mount. */
uint64_t quota_refused(struct quota *quota, enum quota_kind kind);

#endif
