/*
 * seccomp: the profile of a container as OCI runtimes read it. A deny-list: all is allowed but calls that reach for the
 * kernel's administration, for namespaces and mounts, for keys, or for interfaces with a long record of holes
 * (io_uring, bpf, userfaultfd). The user namespace, no_new_privs and the missing capabilities stand behind it; calls newer
 * than the runtime's libseccomp are stopped by those alone.
 */
#pragma once

#include <jansson.h>

/* A new reference; NULL when there is no memory. */
json_t *seccomp_profile(void);
