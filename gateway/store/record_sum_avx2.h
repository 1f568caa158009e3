/*
 * record_sum_avx2: record_sum() for a CPU that has AVX2, which whoever calls it has asked. Private to record_sum_x86.c and its
 * test.
 */
#pragma once

#include "gateway/store/record.h"

uint64_t record_sum_avx2(struct span payload);
