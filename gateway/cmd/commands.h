/* commands: the commands that there are, one file each. A new one is declared here and listed in main.c. */
#pragma once

#include "gateway/cmd/command.h"

extern const struct command command_affected;
extern const struct command command_builds;
extern const struct command command_cat;
extern const struct command command_cert;
extern const struct command command_chunk;
extern const struct command command_completion;
extern const struct command command_diff;
extern const struct command command_doctor;
extern const struct command command_edge;
extern const struct command command_explain;
extern const struct command command_fsck;
extern const struct command command_help;
extern const struct command command_ls;
extern const struct command command_pin;
extern const struct command command_pull;
extern const struct command command_push;
extern const struct command command_run;
extern const struct command command_serve;
extern const struct command command_status;
extern const struct command command_version;
