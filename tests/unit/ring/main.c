/* ring_test ENGINE: everything that ring.h promises, on one engine. 77 (skipped) where io_uring is refused. */
#include "tests/unit/ring/fixture.h"
#include "tests/unit/ring/tests.h"
#include "gateway/base/err.h"
#include "gateway/ring/probe.h"

int main(int argc, char **argv)
{
	struct ring_config config = { .engine = RING_ENGINE_URING };
	struct ring *ring;
	int r;

	if (argc != 2 || (strcmp(argv[1], "io_uring") != 0 && strcmp(argv[1], "epoll") != 0)) {
		fprintf(stderr, "usage: ring_test io_uring|epoll\n");
		return 2;
	}
	fixture_engine = strcmp(argv[1], "io_uring") == 0 ? RING_ENGINE_URING : RING_ENGINE_EPOLL;
	if (fixture_engine == RING_ENGINE_URING) {
		r = ring_create(&ring, &config);
		if (r < 0) {
			fprintf(stderr, "io_uring: %s: %s\n", err_text(r), ring_refusal_remedy(ring_refusal(r)));
			return 77;
		}
		ring_destroy(ring);
	}
	return run_socket_tests() + run_file_tests() + run_loop_tests() + run_poll_tests() ? 1 : 0;
}
