"""The account: `sluice builds` of lines that are in the ledger, read and written with plain SQLite as docs/ledger.md says."""
import json
import os
import sqlite3
import stat
import time

from harness import check

SECOND = 10**9


def add(store, tenant, ended_ns, **more):
    """A line, as another program would write it."""
    line = {"tenant": tenant, "subject": "ci", "ref": "r", "directory": "src", "executor": "tcp://10.0.0.7:1234",
            "queued_ns": ended_ns - 12 * SECOND, "started_ns": ended_ns - 10 * SECOND, "ended_ns": ended_ns,
            "queue_ns": 2 * SECOND, "files": 73128, "files_changed": 3, "bytes_from_client": 41000,
            "bytes_from_store": 1_100_000_000, "bytes_to_executor": 1_100_041_000, "steps_cached": 9, "steps_executed": 2,
            "replays": 0, "result": "ok", "fault": "none", "status": 0, "error": "", **more}
    database = sqlite3.connect(os.path.join(store, "ledger.db"), timeout=30)
    with database:
        database.execute(f"INSERT INTO builds ({', '.join(line)}) VALUES ({', '.join('?' * len(line))})", list(line.values()))
    database.close()


def lines(client, *options):
    return client.run("builds", "--json", *options)


def directories(client, *options):
    return [json.loads(line)["directory"] for line in lines(client, *options).stdout.splitlines()]


def test_builds_of_an_empty_ledger(env):
    gateway = env.gateway()
    client = env.client(gateway)
    result = client.run("builds")
    check(result.stdout == "" and result.stderr.startswith("no builds found;"), str(result))
    check(client.run("builds", "--json", "--since", "1h", "--failed").stdout == "", "nothing is no line")
    result = client.run("builds", "--since", "soon", status=2)
    check("is not a duration" in result.stderr, str(result))
    gateway.stop()


def test_lines_are_listed_to_their_tenant(env):
    store = env.path("store")
    gateway = env.gateway(store=store, tls=True)
    acme, umbrella = env.client(gateway), env.client(gateway, "other", certificate="other")
    now = time.time_ns()
    add(store, "acme", now - 7200 * SECOND, directory="old")
    add(store, "acme", now - 600 * SECOND, directory="broken", result="failed", fault="user", status=2, error="exit code: 2")
    add(store, "acme", now - 60 * SECOND, directory="gone", result="cancelled")
    add(store, "acme", now, directory="new")
    add(store, "umbrella", now, directory="secret")
    check(directories(acme) == ["new", "gone", "broken", "old"], "newest first")
    check(directories(acme, "--limit", "2") == ["new", "gone"], "--limit")
    check(directories(acme, "--since", "1h") == ["new", "gone", "broken"], "--since")
    check(directories(acme, "--failed") == ["broken"], "--failed")
    check(directories(umbrella) == ["secret"], "another tenant")
    line = lines(acme, "--limit", "1").json()
    wanted = {"result": "ok", "fault": "none", "queue_seconds": 2.0, "duration_seconds": 10.0, "bytes_from_client": 41000,
              "bytes_from_store": 1_100_000_000, "steps_cached": 9, "steps_executed": 2, "executor": "tcp://10.0.0.7:1234"}
    check({key: line[key] for key in wanted} == wanted, str(line))
    table = acme.run("builds").stdout.splitlines()
    check(table[0].split()[:4] == ["ENDED", "DIRECTORY", "RESULT", "DURATION"] and len(table) == 5, "\n".join(table))
    check("10m ago" in table[3] and "failed (user)" in table[3] and table[3].endswith("exit code: 2"), table[3])
    acme.run("builds", "--limit", "1001", status=2)
    gateway.stop()


def test_old_lines_go_and_new_ones_stay(env):
    store = env.path("store")
    env.gateway(store=store).stop()
    for name in os.listdir(store):
        if name.startswith("ledger.db"):
            mode = stat.S_IMODE(os.stat(os.path.join(store, name)).st_mode)
            check(mode == 0o600, f"{name} has mode {mode:o}")
    now = time.time_ns()
    add(store, "default", now - 3 * 86400 * SECOND, directory="three days")
    add(store, "default", now - 86400 * SECOND, directory="one day")
    gateway = env.gateway(store=store, arguments=["--ledger-keep", "2d"])
    gateway.wait_metric(lambda m: m["sluice_ledger_lines_deleted_total"] == 1, "the old line goes")
    check(directories(env.client(gateway)) == ["one day"], "the other one stays")
    gateway.stop()


def test_a_damaged_ledger_says_what_to_do(env):
    store = env.path("store")
    env.gateway(store=store).stop()
    path = os.path.join(store, "ledger.db")
    with open(path, "r+b") as file:
        file.write(b"not a database")
    user = ["--user", env.user] if os.geteuid() == 0 else []
    result = env.sluice("serve", "--listen", "grpc://127.0.0.1:0", "--store", store, "--slots", "0", *user, status=1)
    check("ledger.db is damaged" in result.stderr and "move it away" in result.stderr, str(result))
    os.rename(path, path + ".damaged")
    gateway = env.gateway(store=store)
    check(directories(env.client(gateway)) == [], "a new one was made")
    gateway.stop()
