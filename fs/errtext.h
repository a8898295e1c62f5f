/*
 * errtext - an errno's symbolic name, and a sentence for when nobody has said more.
 *
 * The sentences are about messages and files of this tree, not strerror()'s: EIDRM is "the object was deleted while open".
 * Pure, and the same in every locale. Takes an errno with either sign.
 */
#ifndef MQFS_FS_ERRTEXT_H
#define MQFS_FS_ERRTEXT_H

/* "EMSGSIZE"; "EUNKNOWN" for an errno that is not in the table. */
const char *errtext_name(int err);

/* A sentence without full stop, starting in lower case: "the message is over max.message.bytes". Never NULL. */
const char *errtext_sentence(int err);

#endif
