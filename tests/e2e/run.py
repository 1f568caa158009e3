#!/usr/bin/python3
"""Runs the end-to-end tests against a built `sluice` and prints TAP.

    run.py --binary build/gateway/cmd/sluice [--engine io_uring|epoll] [--table] [MODULE]...

A module is a file test_*.py here; its functions test_*(env) are the cases. ACCEPT=full in the environment takes the
large tree (Debian's Linux source) and the long counts; ACCEPT=soak the longest. --table prints the acceptance table.
"""
import argparse
import importlib
import os
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import harness  # noqa: E402  (the path is set above)

MODULES = ["affected", "cli", "push", "link", "tls", "edge", "bad", "store", "builds", "explain", "kill", "run", "engine", "memory", "http",
           "http_bazel", "service"]
FULL_MODULES = MODULES + ["suites", "sccache"]


def cases(names):
    for name in names:
        module = importlib.import_module("test_" + name)
        for function in vars(module).values():
            if callable(function) and getattr(function, "__module__", "") == module.__name__ and \
                    function.__name__.startswith("test_"):
                yield name, function


def run_case(env, function):
    """(ok, note for TAP, lines of explanation)"""
    try:
        function(env)
        left = env.clean()
        if left:
            return False, "", [f"left {left} gateways running"]
        return True, "", []
    except harness.Skip as skip:
        return True, f" # SKIP {skip}", []
    except (Exception, KeyboardInterrupt) as error:  # pylint: disable=broad-except
        logs = [g.log() for g in env.gateways]
        text = traceback.format_exc() if not isinstance(error, harness.Failure) else \
            str(error) + "\n" + "".join(traceback.format_tb(error.__traceback__)[-2:])
        for log in logs:
            text += "\ngateway's log, the end of it:\n" + log[-6000:]
        if isinstance(error, KeyboardInterrupt):
            raise
        return False, "", text.splitlines()
    finally:
        env.clean()
        env.remove_paths()


def row_text(what, value, limit, unit, at_least, good):
    word = ">=" if at_least else "<="
    return f"| {what} | {value:,.6g} {unit} | {word} {limit:,.6g} {unit} | {'ok' if good else 'FAILED'} |"


def print_table(rows, titles):
    """The numbers, then the cases that show something without one."""
    print("\n| what | measured | limit | |\n|---|---|---|---|")
    for row in rows:
        print(row_text(*row))
    for title, ok, note in titles:
        print(f"| {title} | {'skipped' if note else 'shown' if ok else 'not shown'} | | {'ok' if ok else 'FAILED'} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--engine", default="auto", choices=["auto", "io_uring", "epoll"])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    accept = os.environ.get("ACCEPT", "small")
    cache = os.environ.get("SLUICE_E2E_CACHE", "/var/tmp/sluice-accept-cache")

    # A runner that is out of patience must not leave a gateway or a tree behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    env = harness.Env(arguments.binary, arguments.engine, accept, cache)
    failed, titles = 0, []
    try:
        modules = arguments.modules or (FULL_MODULES if accept == "full" else MODULES)
        chosen = [c for c in cases(modules) if arguments.case in c[1].__name__]
        print(f"1..{len(chosen)}", flush=True)
        for number, (module, function) in enumerate(chosen, 1):
            began, rows = time.monotonic(), len(env.rows)
            ok, note, lines = run_case(env, function)
            failed += not ok
            if not ok or len(env.rows) == rows:
                titles.append((f"{module}: {function.__name__[5:].replace('_', ' ')}", ok, note))
            title = f"{module}: {function.__name__[5:].replace('_', ' ')} ({time.monotonic() - began:.1f} s)"
            print(f"{'ok' if ok else 'not ok'} {number} {title}{note}", flush=True)
            if arguments.table:          # now, too: the whole takes long
                for row in env.rows[rows:]:
                    print("#", row_text(*row), flush=True)
            if lines:                    # on stderr: meson shows that of a failed test
                print(f"--- {title}", *lines, sep="\n", file=sys.stderr, flush=True)
        if arguments.table and env.rows:
            print_table(env.rows, titles)
    finally:
        env.finish()
    if arguments.table:
        print(f"\n{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
