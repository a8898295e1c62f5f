#include <criterion/criterion.h>
#include <string.h>
#include <sys/mount.h>

#include "mount-helpers/options.h"

/* clang-format off */
static const struct {
	const char *list, *passed;
	unsigned long set, clear;
	bool remount;
} good[] = {
	{ "",                                             "",                    0, 0, false },
	{ "rw",                                           "rw",                  0, MS_RDONLY, false },
	{ "rw,ro",                                        "rw,ro",               MS_RDONLY, 0, false },
	{ "ro,remount,nodev",                             "ro,nodev",            MS_RDONLY | MS_NODEV, 0, true },
	{ "defaults,auto,noauto,_netdev,nofail,user,users,owner,group,nouser", "", 0, 0, false },
	{ "user=nobody",                                  "",                    0, 0, false },
	{ "x-systemd.automount,x-gvfs-show,X-mount.mkdir,x-a=b,allow_other", "allow_other", 0, 0, false },
	{ ",,rw,,",                                       "rw",                  0, MS_RDONLY, false },
	{ "fsname=\"a,b\",nosuid",                        "fsname=\"a,b\",nosuid", MS_NOSUID, 0, false },
	{ "relatime,async,atime,noatime",                 "",                    MS_NOATIME, 0, false },
	{ "mount-timeout=5,exec",                         "exec",                0, MS_NOEXEC, false },
};

static const struct {
	const char *list, *problem;
} bad[] = {
	{ "ro,fsname=\"a",        "a quote in the options is not closed" },
	{ "allow_othr",          "unknown option allow_othr; the nearest known one is allow_other" },
	{ "rw,nofial",           "unknown option nofial; the nearest known one is nofail" },
	{ "mount_timeout=3",     "unknown option mount_timeout; the nearest known one is mount-timeout" },
	{ "quota",               "unknown option quota; mount.mqfs(8) lists them all" },
	{ "=x",                  "unknown option ; mount.mqfs(8) lists them all" },
	{ "ro=1",                "option ro takes no value" },
	{ "fsname",              "option fsname needs a value" },
	{ "fsname=",             "option fsname needs a value" },
	{ "mount-timeout=",      "option mount-timeout needs a value" },
	{ "mount-timeout=0",     "mount-timeout is a number of seconds from 1 to 86400" },
	{ "mount-timeout=-1",    "mount-timeout is a number of seconds from 1 to 86400" },
	{ "mount-timeout=1x",    "mount-timeout is a number of seconds from 1 to 86400" },
	{ "mount-timeout=99999999999", "mount-timeout is a number of seconds from 1 to 86400" },
};
/* clang-format on */

/* A list that mount(8) can hand over is split into what is dropped, passed on, and meant for the flags of a mount. */
Test(options, good)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct mount_options options;
		char problem[256] = "";

		options_init(&options);
		cr_assert_eq(options_add(&options, good[i].list, false, problem, sizeof(problem)), 0, "%s: %s",
		    good[i].list, problem);
		cr_assert_str_eq(options.passed, good[i].passed, "%s: %s", good[i].list, options.passed);
		cr_assert_eq(options.set_flags, good[i].set, "%s", good[i].list);
		cr_assert_eq(options.clear_flags, good[i].clear, "%s", good[i].list);
		cr_assert_eq(options.remount, good[i].remount, "%s", good[i].list);
	}
}

/* What is wrong with a list is said with the word it is about, and the nearest known one. */
Test(options, bad)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct mount_options options;
		char problem[256] = "";

		options_init(&options);
		cr_assert(options_add(&options, bad[i].list, false, problem, sizeof(problem)) < 0, "%s", bad[i].list);
		cr_assert_str_eq(problem, bad[i].problem, "%s: %s", bad[i].list, problem);
	}
}

/* With -s an unknown word is dropped, and the known ones beside it still count. */
Test(options, sloppy)
{
	struct mount_options options;
	char problem[256];

	options_init(&options);
	cr_assert_eq(options_add(&options, "quota,ro,frob=1", true, problem, sizeof(problem)), 0);
	cr_assert_str_eq(options.passed, "ro");
}

/* A list that is longer than mount(2) could take is refused, not cut. */
Test(options, too_long)
{
	struct mount_options options;
	char problem[256], list[2 * OPTIONS_MAX];

	options_init(&options);
	memset(list, 'x', sizeof(list));
	memcpy(list, "fsname=", 7);
	list[sizeof(list) - 1] = '\0';
	cr_assert(options_add(&options, list, false, problem, sizeof(problem)) < 0);
	cr_assert_str_eq(problem, "the options are longer than 4095 bytes");
}
