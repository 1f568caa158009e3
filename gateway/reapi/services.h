/* services: what is served to any client, by full name. */
#pragma once

#include <stdbool.h>
#include "proto/span.h"

/* The names, one by one from 0; NULL behind the last. */
const char *service_name(size_t i);
bool service_served(struct span name);
