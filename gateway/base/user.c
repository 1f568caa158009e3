/* user: names from the user database. */
#include "gateway/base/user.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *user_name(uid_t uid, char name[static USER_NAME_BYTES])
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		snprintf(name, USER_NAME_BYTES, "%s", user->pw_name);
	else
		snprintf(name, USER_NAME_BYTES, "%u", (unsigned)uid);
	return name;
}

const char *user_error(int r, char text[static USER_ERROR_BYTES])
{
	char name[USER_NAME_BYTES];

	if (r == -EACCES)
		snprintf(text, USER_ERROR_BYTES, "%s to the user %s, as whom this runs", strerror(EACCES),
		         user_name(geteuid(), name));
	else
		snprintf(text, USER_ERROR_BYTES, "%s", strerror(-r));
	return text;
}
