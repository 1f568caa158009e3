"""Bounds of memory, and that nothing is left behind."""
import os
import time

import shared
import trees
from harness import check

MIB = 1 << 20


def anonymous_bytes(pids):
    """RssAnon + RssShmem + HugetlbPages of all of them; pinned memory is among these."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in ("RssAnon", "RssShmem", "HugetlbPages"):
                        total += int(value.split()[0]) * 1024
        except OSError:
            pass
    return total


def sanitized(env):
    return "sanitize" in env.binary


def test_memory_of_an_idle_and_a_busy_gateway(env):
    if sanitized(env):
        return                           # shadow memory is counted too
    slots = 2 if os.geteuid() == 0 and env.doctor_says("executor", "OCI runtime") else 0
    gateway = env.gateway(slots=slots)
    env.row("serve idle, both processes", anonymous_bytes(gateway.processes()) / MIB, 32 + 24, "MiB")
    trees_made = [shared.own_tree(env, f"memory-{i}") for i in range(4)]
    for i, tree in enumerate(trees_made):
        trees.write_random(tree + "/own", 20_000_000, f"memory-{i}")
    clients = [env.client(gateway, f"memory-{i}") for i in range(4)]
    running = [env.start("push", *c.options, "--progress", "quiet", t, home=c.home) for c, t in zip(clients, trees_made)]
    most, most_push = 0, 0
    while any(p.poll() is None for p in running):
        most = max(most, anonymous_bytes(gateway.processes()))
        most_push = max(most_push, max(anonymous_bytes([p.pid]) for p in running))
        time.sleep(0.05)                 # a sampling interval
    for process in running:
        check(process.wait() == 0, process.stderr.read().decode())
    env.row("serve with 4 pushes at once", most / MIB, 256, "MiB")
    env.row("push", most_push / MIB, 200, "MiB")
    gateway.stop()


def test_nothing_is_left_after_many_pushes(env):
    """Descriptors, slots and pools as before, after pushes and pulls that end well, and some that are cut off."""
    pushes = {"small": 50, "full": 1000, "soak": 20_000}[env.accept]
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back = env.path("tree"), env.path("back")
    os.makedirs(tree)
    trees.write_random(tree + "/file", 200_000, "f")
    client.pull(client.push(tree)["root"], back)

    def settled(metrics):
        return not any(metrics[n] for n in ("sluice_connections", "sluice_streams", "sluice_store_pending_blobs"))

    # Both the push and the pull are in the numbers, which are published once a second.
    before = gateway.wait_metric(lambda m: settled(m) and m["sluice_connections_total"] >= 2, "all connections are closed")
    for i in range(pushes):
        trees.change_byte(tree + "/file", i)
        client.push(tree)
        if i % 25 == 24:
            process = env.start("push", *client.options, "--progress", "plain", "--no-snapshot", tree, home=client.home)
            process.stderr.readline()
            process.kill()
            process.communicate()
    after = gateway.wait_metric(
        lambda m: settled(m) and m["sluice_connections_total"] >= before["sluice_connections_total"] + pushes, "all are closed")
    for name in ("sluice_store_holds", "sluice_slots", "sluice_slots_busy", "sluice_queue", "sluice_open_files"):
        # Who reads the numbers has a descriptor himself, when they are counted just then.
        after = gateway.wait_metric(lambda m, name=name: m[name] <= before[name], f"{name} was {before[name]}, is {after[name]}")
    env.row(f"open files after {pushes} pushes, more than before", after["sluice_open_files"] - before["sluice_open_files"],
            0, "files")
    gateway.stop()
