#!/usr/bin/python3
"""Counts the instructions of the hot loops under callgrind, and compares them with those that were accepted last.

    check.py PROGRAM COMPILER [--accept]    COMPILER: as "gcc 12.2.0"

Instructions are not time, but they are the same on a busy machine; a loop that lost its unrolling, its vector code or its
inlining shows at once. More than the margin above what was accepted fails; below by as much asks to be accepted. The counts
hold for one compiler's major version and one machine language; with another one this says so and is skipped (77).
"""
import json
import os
import re
import shutil
import subprocess
import sys

COUNTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counts.json")
LOOPS = ["cutter-feed", "guide", "sha256-lanes", "pack-put", "h2-receive"]
MARGIN = 0.05                            # another patch level of the libraries underneath, and of the compiler
SKIP = 77


def count(program, loop):
    """Instructions inside measure(); None: this CPU cannot run the loop."""
    run = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no",
                          "--toggle-collect=measure", program, loop], capture_output=True, stdin=subprocess.DEVNULL,
                         text=True)
    if run.returncode == SKIP:
        return None
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not found or found[1] == "0":
        sys.exit(f"{loop}: {run.returncode}\n{run.stderr}")
    return int(found[1])


def main():
    program, compiler = sys.argv[1:3]
    accept = "--accept" in sys.argv[3:]
    key = f"{os.uname().machine} {compiler.split('.')[0]}"
    with open(COUNTS, encoding="utf-8") as file:
        stored = json.load(file)
    if not shutil.which("valgrind"):
        print("SKIPPED: instructions are not counted: there is no valgrind (scripts/deps installs it)")
        return SKIP
    if key not in stored and not accept:
        print(f"SKIPPED: instructions are not compared: none were accepted for {key}, only for {', '.join(stored)}")
        return SKIP
    accepted = stored.setdefault(key, {})
    bad = 0
    for loop in LOOPS:
        now, before = count(program, loop), accepted.get(loop)
        if now is None:
            print(f"{loop:14} not counted: this CPU lacks the instructions")
            continue
        if accept:
            accepted[loop] = now
        change = now / before - 1 if before else 0
        wrong = not accept and (not before or change > MARGIN)
        bad += wrong
        print(f"{loop:14} {now:12,}  accepted {before or 0:12,}  {change:+7.2%}"
              + ("  TOO MANY" if wrong else "  fewer: --accept them" if change < -MARGIN else ""))
    if accept:
        with open(COUNTS, "w", encoding="utf-8") as file:
            json.dump(stored, file, indent="\t", sort_keys=True)
            file.write("\n")
    if bad:
        print(f"\nMore than {MARGIN:.0%} above what was accepted. If it must be, accept it, and say why in the commit:\n"
              f"    perf/instructions/check.py {program} '{compiler}' --accept")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
