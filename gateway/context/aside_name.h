/*
 * aside_name: what a thing is called that is made beside the place where it belongs: a prefix that says whose it is, and 16 random
 * digits. So what somebody left who was killed is known by its name.
 */
#pragma once

#include <stdbool.h>

#define ASIDE_NAME_BYTES 48              /* with the NUL, and a prefix of at most 31 */

void aside_name_make(char name[static ASIDE_NAME_BYTES], const char *prefix);
bool aside_name_is(const char *name, const char *prefix);
