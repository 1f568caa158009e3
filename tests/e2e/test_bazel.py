"""Debian's Bazel with --remote_executor: what it builds, again from the cache, what an action costs, and Ctrl-C."""
import os
import shutil
import signal
import statistics
import subprocess
import time

from harness import check, die_with_parent

ACTIONS = 500
SLEEP = f"sleep {1000000 + os.getpid()}"         # nobody else's on this machine
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
[genrule(name = "small_%d" % i, srcs = ["main.c"], outs = ["small_%d.txt" % i], cmd = "echo %d > $@" % i)
 for i in range(COUNT)]
"""
SOURCES = {
    "WORKSPACE": "",
    "hello.h": "const char *hello(void);\n",
    "hello.c": '#include "hello.h"\nconst char *hello(void) { return "hello from afar"; }\n',
    "main.c": '#include <stdio.h>\n#include "hello.h"\nint main(void) { puts(hello()); return 0; }\n',
}


class Bazel:
    def __init__(self, env, gateway):
        env.need(shutil.which("bazel"), "Bazel (bazel-bootstrap)")
        self.env, self.gateway, self.tree, self.out = env, gateway, env.path("workspace"), env.path("bazel")
        os.makedirs(self.tree)
        for name, text in (*SOURCES.items(), ("BUILD", BUILD.replace("COUNT", str(ACTIONS)).replace("SLEEP", SLEEP))):
            with open(f"{self.tree}/{name}", "w", encoding="ascii") as file:
                file.write(text)

    def start(self, command, *arguments):
        remote = [f"--remote_executor={self.gateway.address}", "--remote_default_exec_properties=OSFamily=Linux",
                  "--noshow_progress", "--color=no", "--jobs=8"] if command == "build" else []
        return subprocess.Popen(["bazel", f"--output_user_root={self.out}", "--batch", "--host_jvm_args=-Xmx512m", command,
                                 *remote, *arguments], cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, preexec_fn=die_with_parent)

    def run(self, command, *arguments, status=0):
        process = self.start(command, *arguments)
        output, _ = process.communicate(timeout=300)
        check(process.returncode == status, f"bazel {command} {arguments}: {process.returncode}\n{output[-4000:]}")
        return output

    def read(self, name):
        with open(f"{self.tree}/bazel-bin/{name}", "rb") as file:
            return file.read()


def begin(env, **more):
    env.need_executor()
    gateway = env.gateway(slots=2, **more)
    return gateway, Bazel(env, gateway)


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


def sleepers():
    """Processes of the slow action, in whichever container."""
    found = subprocess.run(["pgrep", "-f", f"^{SLEEP}$"], stdout=subprocess.PIPE, check=False).stdout.split()
    return [int(pid) for pid in found]


def wait_for_sleepers(wanted, seconds=60):
    deadline = time.monotonic() + seconds
    while bool(sleepers()) != wanted:
        check(time.monotonic() < deadline, "the action did not " + ("begin" if wanted else "end"))
        time.sleep(0.1)


def test_a_build_that_is_cancelled_leaves_no_container(env):
    gateway, bazel = begin(env)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        process = bazel.start("build", "//:slow")
        wait_for_sleepers(True)
        process.send_signal(signal_number)
        process.communicate(timeout=60)
        wait_for_sleepers(False)
    bazel.run("build", "//:small_1")         # the slots are free again
    gateway.stop()
