/*
 * gear_table: one random-looking word per byte value, the same in every implementation of FastCDC-2020.
 * Entry i is the first 8 bytes, big-endian, of MD5 over the byte i repeated 64 times. (REAPI's text reads as if it were
 * MD5 of the single byte; that table gives other cuts than every implementation in use.)
 */
#pragma once

#include <stdint.h>

extern const uint64_t gear_table[256];
