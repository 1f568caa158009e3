/*
 * selftest: tries one feature of io_uring on a throw-away ring and a pair of sockets. Each returns 0 when the feature
 * does what it should, -EBADMSG when it did something else, or the error it was refused with. Private to gateway/ring.
 */
#pragma once

/* The set-up that the engine cannot do without. */
#define SELFTEST_RING_FLAGS                                                                                            \
	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP)

/* io_uring at all, with no flags: what is refused here is refused by policy. */
int selftest_setup(void);
int selftest_ring(void);
int selftest_multishot_accept(void);
int selftest_multishot_receive(void);
int selftest_bundle(void);
int selftest_incremental(void);
int selftest_direct(void);
int selftest_peer(void);
int selftest_fixed_write(void);
int selftest_worker_bounds(void);

/* The two that the engine chooses by, tried once a process. */
int selftest_bundle_once(void);
int selftest_direct_once(void);
