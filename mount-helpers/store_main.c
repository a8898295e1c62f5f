/*
 * store_main - mkfs.mqfs and fsck.mqfs, by the name they are called by.
 */
#include <argp.h>
#include <errno.h>
#include <string.h>

#include "fs/version.h"
#include "mount-helpers/store_tool.h"

const char *argp_program_version = "mqfs " MQFS_VERSION;

int main(int argc, char **argv)
{
	return strncmp(program_invocation_short_name, "mkfs", 4) == 0 ? tool_mkfs(argc, argv) : tool_fsck(argc, argv);
}
