/*
 * CHECK: what the code relies on, tested also in release builds. For bugs only: bytes from a peer are never a bug.
 */
#pragma once

#define CHECK(expr) ((expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__, __func__))

_Noreturn void check_failed(const char *expr, const char *file, int line, const char *function);
