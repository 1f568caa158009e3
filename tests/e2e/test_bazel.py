"""Debian's Bazel with --remote_executor: what it builds, again from the cache, what an action costs, Ctrl-C, and a killed gateway."""
import os
import signal
import statistics
import subprocess

from bazel import bazel_with
from harness import check, poll

ACTIONS = 500
SLEEP = f"sleep {1000000 + os.getpid()}"         # nobody else's on this machine
BEGIN_SECONDS = 180                              # Bazel unpacks itself first, on a disk that may be busy
PAUSE = f"sleep 6.{1000000 + os.getpid()}"       # nor this one
BUILD = """
compile = "gcc -I. -c -o $@ $(location %s)"
[genrule(name = "compile_" + name, srcs = [source, "hello.h"], outs = [name + ".o"], cmd = compile % source)
 for name, source in [("main", "main.c"), ("hello", "hello.c")]]
genrule(name = "link", srcs = ["main.o", "hello.o"], outs = ["main"], cmd = "gcc -o $@ $(SRCS)", executable = True)
genrule(name = "says", tools = ["main"], outs = ["says.txt"], cmd = "$(location main) > $@")
genrule(name = "long", outs = ["long.bin"], cmd = "dd if=/dev/zero bs=1000 count=10000 status=none > $@; echo end >> $@")
genrule(name = "longer", srcs = ["long.bin"], outs = ["longer.bin"], cmd = "cat $(SRCS) $(SRCS) > $@")
genrule(name = "fails", outs = ["fails.txt"], cmd = "echo so it is >&2; exit 3")
genrule(name = "slow", outs = ["slow.txt"], cmd = "SLEEP; touch $@")
genrule(name = "pauses", srcs = ["says.txt"], outs = ["pauses.txt"], cmd = "PAUSE; cat $(SRCS) $(SRCS) > $@")
[genrule(name = "small_%d" % i, srcs = ["main.c"], outs = ["small_%d.txt" % i], cmd = "echo %d > $@" % i)
 for i in range(COUNT)]
"""
FILES = {
    "BUILD": BUILD.replace("COUNT", str(ACTIONS)).replace("SLEEP", SLEEP).replace("PAUSE", PAUSE),
    "hello.h": "const char *hello(void);\n",
    "hello.c": '#include "hello.h"\nconst char *hello(void) { return "hello from afar"; }\n',
    "main.c": '#include <stdio.h>\n#include "hello.h"\nint main(void) { puts(hello()); return 0; }\n',
}


def begin(env, **more):
    env.need_executor()
    gateway = env.gateway(slots=2, **more)
    return gateway, bazel_with(env, FILES, f"--remote_executor={gateway.address}", "--remote_default_exec_properties=OSFamily=Linux",
                               "--jobs=8")


def test_bazel_builds_here_and_then_from_the_cache(env):
    gateway, bazel = begin(env)
    output = bazel.run("build", "//:says", "//:longer")
    check("6 remote" in output, output)
    check(bazel.read("says.txt") == b"hello from afar\n", "another program")
    long = bazel.read("long.bin")
    check(len(long) == 10000004 and bazel.read("longer.bin") == long + long, "a long output came back otherwise")
    bazel.run("clean")
    output = bazel.run("build", "//:says", "//:longer")
    check("6 remote cache hit" in output, output)
    gateway.wait_metric(lambda values: values.get("sluice_reapi_results_hit_total") == 6, "GetActionResult finds what ran here")
    output = bazel.run("build", "//:fails", status=1)
    check("so it is" in output and "(Exit 3)" in output, output)
    output = bazel.run("build", "--remote_default_exec_properties=gpu=yes", "//:small_0", status=34)
    check('knows the platform property "gpu"' in output, output)
    gateway.stop()


def test_small_actions_cost_little(env):
    gateway, bazel = begin(env, arguments=["--log-level", "debug"])
    bazel.run("build", *(f"//:small_{i}" for i in range(ACTIONS)))
    check(bazel.read("small_7.txt") == b"7\n", "another output")
    ended = [event for event in gateway.events if event.get("event") == "execution ended"]
    check(len(ended) >= ACTIONS, f"{len(ended)} executions")
    overhead = [int(event["total_ms"]) - int(event["queue_ms"]) - int(event["slot_ms"]) for event in ended]
    container = statistics.median(int(event["slot_ms"]) for event in ended)
    print(f"# median of {ACTIONS} actions: container {container} ms, besides {statistics.median(overhead)} ms")
    if "sanitize" not in env.binary:
        env.time_row("Bazel: an action besides its container, median of 500", statistics.median(overhead), 25, "ms")
    gateway.stop()


def sleepers(command):
    """Processes of such an action, in whichever container."""
    found = subprocess.run(["pgrep", "-f", f"^{command}$"], stdout=subprocess.PIPE, check=False).stdout.split()
    return [int(pid) for pid in found]


def leftovers(env, gateway):
    """What a container leaves that is not taken away: with its runtime, and mounts of whoever may have made them."""
    runtime = next(c["detail"] for c in env.doctor["checks"] if (c["area"], c["name"]) == ("executor", "OCI runtime"))
    state = f"{env.executor_path}/state"
    told = subprocess.run([runtime.split(":")[0], "--root", state, "list", "--quiet"], check=False, stdout=subprocess.PIPE, text=True)
    found = [f"container {name}" for name in {*told.stdout.split(), *os.listdir(state)}]
    if told.returncode:
        found.append("what the runtime cannot list now")
    for pid in ["self", *gateway.processes()]:
        try:
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
                found += [f"mount {line.split()[4]} of {pid}" for line in file if line.split()[4].startswith(env.executor_path + "/")]
        except OSError:
            pass                         # it has just ended, and its mounts with it
    return found


def test_a_build_that_is_cancelled_leaves_no_container(env):
    gateway, bazel = begin(env)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        process = bazel.start("build", "//:slow")
        poll(lambda: sleepers(SLEEP), "the action begins", BEGIN_SECONDS)
        check(any(what.startswith("container") for what in leftovers(env, gateway)), "its container is not seen")
        check(any(what.startswith("mount") for what in leftovers(env, gateway)), "its mount is not seen")
        process.send_signal(signal_number)
        process.communicate(timeout=60)
        poll(lambda: not sleepers(SLEEP), "the action ends", 60)
        poll(lambda: not leftovers(env, gateway), f"the container goes: {leftovers(env, gateway)}", 60)
    bazel.run("build", "//:small_1")         # the slots are free again
    gateway.stop()


def test_a_gateway_that_is_killed_in_mid_build(env):
    store = env.path("killed")
    gateway, bazel = begin(env, store=store)
    process = bazel.start("build", "--remote_retries=20", "//:pauses", "//:longer", *(f"//:small_{i}" for i in range(100)))
    poll(lambda: sleepers(PAUSE), "the action begins", BEGIN_SECONDS)
    gateway.kill()
    check(process.poll() is None and not os.path.exists(f"{bazel.tree}/bazel-bin/pauses.txt"), "the build was over before the gateway")
    gateway = env.gateway(store=store, slots=2, port=gateway.port)
    output, _ = process.communicate(timeout=300)
    check(process.returncode == 0, f"{process.returncode}\n{output[-4000:]}")
    check(bazel.read("pauses.txt") == 2 * b"hello from afar\n" and bazel.read("longer.bin") == 2 * bazel.read("long.bin"), output)
    for i in range(100):
        check(bazel.read(f"small_{i}.txt") == b"%d\n" % i, f"small_{i} came back otherwise")
    poll(lambda: not sleepers(PAUSE), "no action of before the kill is left")
    poll(lambda: not leftovers(env, gateway), f"no container is left: {leftovers(env, gateway)}")
    bazel.run("clean")
    output = bazel.run("build", "//:pauses")
    check("remote cache hit" in output, output)
    gateway.stop()
