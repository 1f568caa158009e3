/* heap: how long memory that was freed is kept for the next who wants some. */
#pragma once

/*
 * Once, at the start of a process that serves, before its threads. Messages, chunks and batches of up to 8 MiB come from the heap and
 * are not mapped one by one, and 32 MiB at the heap's end stay with the process. glibc's own rule follows the largest block that was
 * freed: a batch of 1 MiB in four calls then gets new pages each time, and their faults cost more than what is done with its bytes.
 */
void heap_keep(void);

/* Gives it back to the system, whole pages of it wherever they lie: milliseconds, for when there is nothing else to do. Any thread. */
void heap_give_back(void);
