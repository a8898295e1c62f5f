/* Names and sentences of errors. */
#include "fs/errtext.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

/* Every errno that the interface names has its name and a sentence of its own, with either sign. */
Test(errtext, all_of_the_interface)
{
	static const struct {
		int err;
		const char *name;
	} rows[] = { { EMSGSIZE, "EMSGSIZE" }, { EDQUOT, "EDQUOT" }, { ENOSPC, "ENOSPC" },
		{ EHOSTUNREACH, "EHOSTUNREACH" }, { EINVAL, "EINVAL" }, { ERANGE, "ERANGE" }, { EIDRM, "EIDRM" },
		{ EACCES, "EACCES" }, { EROFS, "EROFS" }, { EIO, "EIO" }, { EPERM, "EPERM" }, { ENOENT, "ENOENT" },
		{ EEXIST, "EEXIST" }, { ENOTEMPTY, "ENOTEMPTY" }, { EBUSY, "EBUSY" }, { ESTALE, "ESTALE" },
		{ EALREADY, "EALREADY" }, { ENAMETOOLONG, "ENAMETOOLONG" }, { ELOOP, "ELOOP" },
		{ ETIMEDOUT, "ETIMEDOUT" }, { EAGAIN, "EAGAIN" } };
	enum { COUNT = sizeof(rows) / sizeof(rows[0]) };
	for (size_t i = 0; i < COUNT; i++) {
		const char *sentence = errtext_sentence(rows[i].err);
		cr_expect_str_eq(errtext_name(rows[i].err), rows[i].name);
		cr_expect_str_eq(errtext_name(-rows[i].err), rows[i].name);
		cr_expect_eq(errtext_sentence(-rows[i].err), sentence);
		cr_expect(strlen(sentence) > 10 && !isupper(sentence[0]) && sentence[strlen(sentence) - 1] != '.', "%s",
		    sentence);
		for (size_t j = 0; j < i; j++)
			cr_expect_str_neq(errtext_sentence(rows[j].err), sentence);
	}
}

/* Names agree with the C library's for every errno there is, or say that they do not know. */
Test(errtext, names_are_right)
{
	for (int err = 1; err < 4096; err++) {
		const char *known = strerrorname_np(err), *name = errtext_name(err);
		bool alias = err == EOPNOTSUPP || err == EAGAIN; /* two names for one number */
		cr_expect(
		    strcmp(name, "EUNKNOWN") == 0 || alias || (known && strcmp(name, known) == 0), "%d: %s", err, name);
		cr_expect_gt(strlen(errtext_sentence(err)), 0);
	}
	cr_expect_str_eq(errtext_name(0), "EUNKNOWN");
	cr_expect_str_eq(errtext_name(INT_MAX), "EUNKNOWN");
}
