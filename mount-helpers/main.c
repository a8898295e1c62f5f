#include <errno.h>
#include <string.h>

#include "mount-helpers/helper.h"
#include "mount-helpers/process.h"
#include "mount-helpers/say.h"

int main(int argc, char **argv)
{
	int status = process_catch_signals();

	if (status != 0) {
		say("signals: %s", strerror(-status));
		return EXIT_SYSTEM;
	}
	return strncmp(program_invocation_short_name, "umount", 6) == 0 ? helper_umount(argc, argv)
									: helper_mount(argc, argv);
}
