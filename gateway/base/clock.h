/* clock: the monotonic time of code that has no ring. */
#pragma once

#include <stdint.h>

/* Nanoseconds since some point before the program started; never goes back. Any thread. A ring's own time: ring_now_ns. */
uint64_t clock_now_ns(void);
