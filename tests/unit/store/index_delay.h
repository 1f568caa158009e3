/*
 * index_delay: the LMDB index with answers that come late, as those of a database over the network do. `index_late`
 * asks late: the answer is of the moment it arrives. `index_stale` asks at once and answers late: by then things may
 * have changed.
 */
#pragma once

#include "gateway/store/index.h"

extern const struct index_engine index_late, index_stale;
