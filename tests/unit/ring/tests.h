/* tests: the groups of ring_test, each run with both engines. */
#pragma once

int run_socket_tests(void);
int run_file_tests(void);
int run_loop_tests(void);
int run_poll_tests(void);
