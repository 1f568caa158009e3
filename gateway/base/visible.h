/*
 * visible: which characters of others' texts may be shown as they are: in logs, which people follow on terminals, and by commands.
 * Not: a byte that is no UTF-8 (RFC 3629), a control character (also those above U+007F, which begin escape sequences just as ESC
 * does), one that ends a line, and one that turns the direction of what follows. So a text stays on its line, and what is seen is
 * what is there.
 */
#pragma once

#include "proto/span.h"

/* Bytes of the character that `text`, which is not empty, begins with; 0: it begins with none that may be shown. */
size_t visible_length(struct span text);
