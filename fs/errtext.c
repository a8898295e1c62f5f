#include "fs/errtext.h"

#include <errno.h>
#include <stddef.h>

static const struct {
	int err;
	const char *name, *sentence;
} rows[] = {
#define ROW(err, sentence)                                                                                             \
	{                                                                                                              \
		err, #err, sentence                                                                                    \
	}
	/* the refusals that the interface names */
	ROW(EMSGSIZE, "the message is over max.message.bytes"),
	ROW(EDQUOT, "the queue is full and its overflow is reject-publish"),
	ROW(ENOSPC, "the store is full"),
	ROW(EHOSTUNREACH, "no binding matches, and there is no alternate exchange"),
	ROW(EINVAL, "this is not of the form that is taken here"),
	ROW(ERANGE, "the value is out of range"),
	ROW(EIDRM, "the object was deleted while open"),
	ROW(EACCES, "permission denied"),
	ROW(EPERM, "this is not allowed here, whoever asks"),
	ROW(EROFS, "the mount or the partition is read-only"),
	ROW(EIO, "the disk failed, see status/health"),
	ROW(ESTALE, "the lease or the partition was lost, or the messages are gone"),
	ROW(EALREADY, "this was acknowledged before"),
	ROW(ENOENT, "there is no such object or message"),
	ROW(EEXIST, "the name is taken"),
	ROW(ENOTEMPTY, "there are messages in it"),
	ROW(EBUSY, "it is in use"),
	ROW(ENAMETOOLONG, "the name is too long"),
	ROW(ELOOP, "the binding would close a cycle"),
	ROW(ETIMEDOUT, "the transaction was aborted after tx.timeout.ms"),
	ROW(EAGAIN, "there is nothing now"),
	/* what else the calls of a file system can meet */
	ROW(EINTR, "the call was interrupted"),
	ROW(ENODATA, "there is no such message yet"),
	ROW(ENOMEM, "no memory is left"),
	ROW(ENOTDIR, "this is not a directory"),
	ROW(EISDIR, "this is a directory"),
	ROW(EXDEV, "objects can be renamed within their directory only"),
	ROW(EBADF, "the file is not open for this"),
	ROW(EFBIG, "the file would be too large"),
	ROW(ESPIPE, "there is no such position"),
	ROW(EMLINK, "there are too many of them"),
	ROW(EMFILE, "the daemon has too many files open"),
	ROW(ENFILE, "the system has too many files open"),
	ROW(ENODEV, "this kind of file cannot do that"),
	ROW(EOPNOTSUPP, "this is not supported"),
	ROW(ENOSYS, "the kernel does not have this"),
	ROW(ENOTTY, "there is no such control"),
	ROW(EPROTONOSUPPORT, "there is no engine for this kind of source"),
	ROW(EUCLEAN, "this is not a store, or it is damaged or of a newer version"),
	ROW(EBADMSG, "the data on disk is damaged"),
	ROW(ESHUTDOWN, "the mount is being taken down"),
	ROW(ECANCELED, "the call was given up"),
#undef ROW
};

/* The row of an errno, or the count of rows. */
static size_t find(int err)
{
	size_t i = 0;
	while (i < sizeof(rows) / sizeof(rows[0]) && rows[i].err != err && rows[i].err != -err)
		i++;
	return i;
}

const char *errtext_name(int err)
{
	size_t row = find(err);
	return row < sizeof(rows) / sizeof(rows[0]) ? rows[row].name : "EUNKNOWN";
}

const char *errtext_sentence(int err)
{
	size_t row = find(err);
	return row < sizeof(rows) / sizeof(rows[0]) ? rows[row].sentence : "an error that has no text here";
}
