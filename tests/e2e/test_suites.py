"""Rows of the acceptance table that other suites show, at full size: `make accept` runs this, `make test` those suites."""
import json
import os
import re
import subprocess
import sys

from harness import check

POWER_LOSSES = 1000
PUSHES = 1000
# What bad input gets, a line each, and the tests that show the code, the message, and that nothing is lost.
BAD_INPUT = (
    ("a wrong digest", ["cas-cas"]),
    ("an oversize message, list, pack, blob", ["cas-calls", "call_receive", "zstd_message"]),
    ("a path that leads out", ["context-materialise_hostile", "tree"]),
    ("names unsorted or twice", ["tree", "cas-closure"]),
    ("loops of symlinks", ["context-manifest", "context-materialise_made"]),
    ("a truncated stream", ["call_receive", "pb", "context-snapshot"]),
    ("a stream closed halfway", ["cas-calls", "call"]),
    ("an unknown compressor", ["call_headers", "server_refusals"]),
    ("abuse of flow control, rapid reset", ["h2_hostile"]),
    ("a slow loris", ["server_timeouts", "deadline"]),
    ("a full disk", ["store-evict"]),
    ("a corrupt chunk on disk", ["store-store", "store-fsck", "cas-closure"]),
    ("a second daemon", ["store-store", "daemon"]),
    ("a hostile tree", ["context-manifest", "context-collect", "context-materialise_hostile", "cas-closure", "executor-oci_sees"]),
)
VECTORS = ("chunker-fastcdc", "chunker-cutter", "chunker-profile")


def build_of(binary):
    return os.path.normpath(os.path.join(os.path.dirname(binary), "../.."))


def run_suites(env):
    """{name: record} of every unit and sim test, the power losses at full count."""
    build = build_of(env.binary)
    environment = {**os.environ, "SLUICE_SEEDS": str(POWER_LOSSES)}
    subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--suite", "unit", "--suite", "sim", "--logbase", "sluice-accept",
                    "--timeout-multiplier", "10"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    with open(build + "/meson-logs/sluice-accept.json", encoding="utf-8") as log:
        records = [json.loads(line) for line in log]
    return {record["name"].rsplit(" / ", 1)[-1]: record for record in records}


def failures(records, names):
    return sum(records.get(name, {}).get("result") != "OK" for name in names)


def test_rows_name_tests_that_there_are(env):
    """A test that moved would take its row along unseen, until somebody runs all at full size."""
    listed = subprocess.run(["meson", "introspect", "--tests", build_of(env.binary)], stdin=subprocess.DEVNULL, capture_output=True,
                            check=True)
    there = {test["name"] for test in json.loads(listed.stdout)}
    named = set(VECTORS).union(*(names for _, names in BAD_INPUT))
    check(named <= there, f"no such tests: {sorted(named - there)}")


def test_other_suites_at_full_size(env):
    if env.accept != "full":
        return
    records = run_suites(env)
    env.row("vectors, tests that fail", failures(records, VECTORS), 0, "tests")
    said = records["store-power-loss"].get("stdout", "")
    honest = re.search(r"^(\d+) power losses: (\d+) acknowledged batches.*?(\d+) failures$", said, re.MULTILINE)
    check(honest, f"no line of power losses: {said}")
    env.row("power losses", int(honest[1]), POWER_LOSSES, "seeds", at_least=True)
    env.row("power losses that took something acknowledged", int(honest[3]), 0, "seeds")
    lies = re.findall(r"^(?:fdatasync site|the sync of) .*$", said, re.MULTILINE)
    env.row("syncs of the store, each left out in turn", len(lies), 1, "sites", at_least=True)
    env.row("of them not noticed", sum("not notice" in line for line in lies), 0, "sites")
    for what, names in BAD_INPUT:
        env.row(f"bad input, {what} ({', '.join(names)}): tests that fail", failures(records, names), 0, "tests")
    failed = [name for name, record in records.items() if record["result"] not in ("OK", "SKIP")]
    check(not failed, f"tests that fail: {failed}")


def test_many_pushes_under_sanitizers(env):
    """The gauges' test of the memory module again, on the build with ASan and UBSan; LeakSanitizer at every exit."""
    binary = build_of(env.binary) + "-sanitize/gateway/cmd/sluice"
    if env.accept != "full" or "sanitize" in env.binary:
        return
    env.need(os.path.exists(binary), binary)
    here = os.path.dirname(os.path.abspath(__file__))
    options = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    process = subprocess.run([sys.executable, here + "/run.py", "--binary", binary, "--case", "left_after_many", "memory"],
                             env={**os.environ, **options, "ACCEPT": "full"}, stdin=subprocess.DEVNULL, capture_output=True,
                             check=False, text=True)
    env.row(f"{PUSHES} pushes under ASan, UBSan, LeakSanitizer: tests that fail", process.stdout.count("not ok "), 0, "tests")
    check(process.returncode == 0 and "ok 1 " in process.stdout, process.stdout + process.stderr)
