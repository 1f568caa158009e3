"""kill -9 in the middle of pushes: what was committed is there, and what was received is not sent twice."""
import os
import random
import signal
import time

import harness
import shared
import trees
from harness import check

RESENT_BYTES_MAX = 8 << 20
SAFE_SECONDS = 1.0
# The same for all pushes: left alone, a slow line has more compression and fewer bytes than the fast one that is the measure.
COMPRESSION = ("--compression", "3")


def count(env):
    return {"small": 5, "full": 50, "soak": 200}[env.accept]


def cold_bytes(env, tree):
    gateway = env.gateway()
    sent = env.client(gateway, "cold").push(tree, *COMPRESSION)["bytes_sent"]
    gateway.stop()
    return sent


def test_kill_in_mid_push(env):
    tree = shared.tree(env)
    committed = env.path("committed")
    os.makedirs(committed)
    trees.write_random(committed + "/file", 1_000_000, "committed")
    cold = cold_bytes(env, tree)
    generator = random.Random("kill")
    counted, restarts, again = 0, [], []
    rounds = count(env)
    for i in range(rounds):
        store = env.path("killed")
        gateway = env.gateway(store=store)
        root = env.client(gateway, f"committer-{i}").push(committed)["root"]
        proxy = harness.Proxy(gateway.port, bytes_per_second=cold / 4)
        client = env.client(gateway, f"killed-{i}")
        pusher = env.start("push", "--gateway", f"grpc://127.0.0.1:{proxy.port}", "--progress", "quiet", *COMPRESSION, tree,
                           home=client.home)
        # The moment of the kill is a number of bytes on the wire: somewhere from a tenth to nine tenths.
        wanted = cold * generator.uniform(0.1, 0.9)
        harness.poll(lambda: proxy.sent >= wanted or pusher.poll() is not None, "bytes in flight", 600)
        killed = time.monotonic()
        gateway.kill()
        pusher.communicate(timeout=120)
        safe = proxy.sent_until(killed - SAFE_SECONDS)
        if pusher.returncode != 0:
            counted += 1
        proxy.close()

        began = time.monotonic()
        gateway = env.gateway(store=store)
        restarts.append(time.monotonic() - began)
        back = env.path("back")
        env.client(gateway, f"committer-{i}").pull(root, back)
        check(not trees.differences(committed, back), "a committed root is damaged")
        gateway.stop()
        clean = env.sluice("fsck", "--json", store).json()
        check(clean["clean"], f"fsck after kill {i}: {clean}")

        gateway = env.gateway(store=store)
        proxy = harness.Proxy(gateway.port)
        client = env.client(gateway, f"killed-{i}", address=f"grpc://127.0.0.1:{proxy.port}")
        pushed = client.push(tree, *COMPRESSION)
        again.append(safe + proxy.sent - cold)
        proxy.close()
        client = env.client(gateway, f"killed-{i}")
        if i == 0 or i == rounds - 1:
            whole = env.path("whole")
            client.pull(pushed["root"], whole)
            check(not trees.differences(tree, whole), "the tree that was pushed again differs")
            env.remove(whole)
        gateway.stop()
        env.remove(store)
    env.row("kill -9 in mid-push, counted", counted, rounds * 0.6, "kills", at_least=True)
    env.time_row("restart after kill -9, worst", max(restarts), 2.0, "s")
    env.row("sent again of what had come 1 s before the kill, worst", max(again), RESENT_BYTES_MAX, "bytes")


def test_kill_right_after_a_commit(env):
    """An acknowledged root survives, however soon the kill comes."""
    for i in range(count(env)):
        store, tree, back = env.path("store"), env.path("tree"), env.path("back")
        os.makedirs(tree)
        trees.write_random(tree + "/file", 300_000 + i, i)
        gateway = env.gateway(store=store)
        root = env.client(gateway, f"after-{i}").push(tree)["root"]
        gateway.kill()
        gateway = env.gateway(store=store)
        env.client(gateway, f"after-{i}").pull(root, back)
        check(not trees.differences(tree, back), "an acknowledged root is damaged")
        gateway.stop()
        env.sluice("fsck", store)
        env.remove(store)


def test_kill_in_mid_replacement(env):
    """What a directory held is there, or the tree is, wherever the kill comes; the next pull leaves nothing of it. An interrupt
    leaves nothing."""
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("tree")
    for i in range(1000):
        os.makedirs(f"{tree}/{i % 50}", exist_ok=True)
        trees.write_random(f"{tree}/{i % 50}/{i}", 2000, i)
    root = client.push(tree)["root"]
    began = time.monotonic()
    client.pull(root, env.path("measure"))
    whole = time.monotonic() - began
    generator = random.Random("replacement")
    killed = 0
    for i in range(count(env) * 3):
        back = env.path("back")
        for j in range(50):
            os.makedirs(f"{back}/mine-{j}")
            trees.write_random(f"{back}/mine-{j}/file", 10, j)
        puller = env.start("pull", *client.options, "--progress", "quiet", "--replace", root, back, home=client.home)
        time.sleep(generator.uniform(0, whole))      # the moment is what is tried
        puller.send_signal(signal.SIGINT if i % 3 == 2 else signal.SIGKILL)
        puller.communicate(timeout=120)
        killed += puller.returncode != 0
        aside = [f"{back}/{name}" for name in os.listdir(back) if name.startswith(".sluice-pull-")]
        check(i % 3 != 2 or not aside, f"one that was interrupted left {aside}")
        held = [back] + [f"{path}/old" for path in aside]
        if not all(any(os.path.exists(f"{path}/mine-{j}/file") for path in held) for j in range(50)):
            for path in aside:
                env.remove(path)
            check(not trees.differences(tree, back), f"after kill {i} neither is there")
        client.pull(root, back, "--replace")
        check(not trees.differences(tree, back), f"after kill {i} --replace did not make them equal")
        env.remove(back)
    check(killed, "none came in time")
    gateway.stop()
