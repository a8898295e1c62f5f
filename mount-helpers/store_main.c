/*
 * store_main - mkfs.mqfs and fsck.mqfs, by the name they are called by.
 */
#include <errno.h>
#include <string.h>

#include "mount-helpers/store_tool.h"

int main(int argc, char **argv)
{
	return strncmp(program_invocation_short_name, "mkfs", 4) == 0 ? tool_mkfs(argc, argv) : tool_fsck(argc, argv);
}
