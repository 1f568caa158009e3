#include "gateway/store/sync.h"

#include <errno.h>
#include <unistd.h>

int sync_file(enum sync_site site, int fd)
{
	(void)site;
	return fdatasync(fd) < 0 ? -errno : 0;
}

int sync_directory(enum sync_site site, int fd)
{
	(void)site;
	return fsync(fd) < 0 ? -errno : 0;
}
