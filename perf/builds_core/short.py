#!/usr/bin/env python3
"""short.py LOAD EXECUTOR: fifty builds straight to the stand-in, so that the two do not rot between benchmarks."""
import json
import subprocess
import sys


def main():
    load, executor = sys.argv[1:]
    stand_in = subprocess.Popen([executor, "--listen", "grpc://127.0.0.1:0", "--hold-ms", "1000"], stdout=subprocess.PIPE, text=True)
    try:
        address = stand_in.stdout.readline().strip()
        result = subprocess.run([load, "--gateway", address, "--builds", "50", "--rate", "200", "--pings", "100"],
                                stdout=subprocess.PIPE, text=True, timeout=120)
    finally:
        stand_in.terminate()
        ended = stand_in.wait(timeout=60)
    told = json.loads(result.stdout.splitlines()[-1])
    print(result.stdout)
    good = result.returncode == 0 and ended == 0 and told["failed"] == 0 and told["opened"]["count"] == 50
    return 0 if good and told["pinged"]["count"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
