/* Roots on the command line. */
#include "gateway/cmd/root_argument.h"

int root_argument(const struct command *command, const char *text, struct digest *root)
{
	if (digest_from_text(root, span_text(text)))
		return STATUS_OK;
	return command_usage(command, "\"%s\" is not a root: `sluice push` prints one, like sha256:HEX/SIZE", text);
}
