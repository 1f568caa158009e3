/* bad_reads: a disk with a bad sector: reads of where a blob lies fail. */
#pragma once

#include "tests/unit/store/fixture.h"

/* Of the next reads of where `blob` lies on the disk, `times` get EIO from the kernel. Until bad_reads_end(). */
void bad_reads_begin(const struct fixture *fixture, const struct blob *blob, unsigned times);
void bad_reads_end(void);
