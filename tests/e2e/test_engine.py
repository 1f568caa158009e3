"""Which engine runs, that its parts are really used, and what happens where io_uring is refused."""
import json
import os
import signal
import subprocess

import harness
import trees
from harness import check


def worked_gateway(env, **more):
    """A gateway that has had some of everything."""
    gateway = env.gateway(**more)
    client = env.client(gateway)
    tree, back = env.path("tree"), env.path("back")
    os.makedirs(tree)
    for i in range(40):
        trees.write_random(f"{tree}/{i}", 400_000, i)
    client.pull(client.push(tree)["root"], back)
    check(not trees.differences(tree, back), "differs")
    return gateway


def test_the_wanted_engine_runs(env):
    if env.engine == "io_uring":
        env.need(env.doctor_says("io_uring", "io_uring"), "io_uring")
    gateway = env.gateway()
    if env.engine != "auto":
        check(gateway.real_engine == env.engine, f"{env.engine} wanted, {gateway.real_engine} runs")
    check(f'engine="{gateway.real_engine}"' in gateway.page("/metrics")[1], "the metrics name another engine")
    check(gateway.real_engine in env.client(gateway).run("status").stdout, "status names another engine")
    gateway.stop()


def test_features_that_doctor_promises_are_used(env):
    if env.engine != "io_uring":
        return
    gateway = worked_gateway(env)
    promises = (("multishot receive", "sluice_ring_receives_multishot_total"),
                ("receive bundles", "sluice_ring_receives_bundle_total"),
                ("registered write memory", "sluice_ring_writes_fixed_total"))
    if not env.doctor_says("limits", "lockable memory"):
        promises = promises[:2]          # the write slots are more than this process may pin
    # The last numbers may be a second old.
    metrics = gateway.wait_metric(lambda m: m["sluice_commits_total"] > 0 and m["sluice_fetches_total"] > 0, "work is counted")
    for feature, counter in promises:
        if env.doctor_says("io_uring", feature):
            check(metrics[counter] > 0, f"doctor says yes to {feature}, but {counter} is 0")
    check(metrics["sluice_ring_cq_overflows_total"] == 0, "the completion queue ran over")
    gateway.stop()


def test_refused_io_uring_is_said_and_survived(env):
    """Under a filter like that of Docker's default profile."""
    gateway = worked_gateway(env, engine="auto", seccomp=harness.refuse_io_uring())
    check(gateway.real_engine == "epoll", f"{gateway.real_engine} under a filter that forbids io_uring")
    check("seccomp" in gateway.log().lower(), f"the cause is not in the log:\n{gateway.log()}")
    gateway.stop()
    process = subprocess.run([env.binary, "doctor", "--json"], capture_output=True, check=True, stdin=subprocess.DEVNULL,
                             preexec_fn=harness.refuse_io_uring(), env=env.environment(env.home("plain")))
    found = next(c for c in json.loads(process.stdout)["checks"] if c["name"] == "io_uring")
    check(not found["works"] and "seccomp" in found["remedy"], f"doctor: {found}")


def test_asking_for_refused_io_uring_fails(env):
    more = ["--user", env.user] if os.geteuid() == 0 else []
    process = subprocess.run([env.binary, "serve", "--listen", "grpc://127.0.0.1:0", "--store", env.path("store"),
                              "--engine", "io_uring", "--slots", "0", *more], capture_output=True, check=False, timeout=60,
                             stdin=subprocess.DEVNULL, preexec_fn=harness.refuse_io_uring(),
                             env=env.environment(env.home("plain")))
    check(process.returncode not in (0, -11, -6), f"status {process.returncode}")
    check(b"seccomp" in process.stderr.lower(), process.stderr.decode())


def test_admin_pages(env):
    gateway = env.gateway()
    check(gateway.page("/healthz") == (200, "ok\n"), str(gateway.page("/healthz")))
    harness.poll(lambda: gateway.page("/readyz") == (200, "ok\n"), "ready")
    check(gateway.page("/nothing")[0] == 404, "an unknown page")
    gateway.stop()


def test_sigterm_finishes_what_is_in_progress(env):
    gateway = env.gateway()
    tree = env.path("tree")
    os.makedirs(tree)
    for i in range(20):
        trees.write_random(f"{tree}/{i}", 1_000_000, f"term-{i}")
    proxy = harness.Proxy(gateway.port, bytes_per_second=10_000_000)
    client = env.client(gateway, address=f"grpc://127.0.0.1:{proxy.port}")
    pusher = env.start("push", *client.options, "--json", tree, home=client.home)
    harness.poll(lambda: proxy.sent > 3_000_000 or pusher.poll() is not None, "a push in progress")
    gateway.process.send_signal(signal.SIGTERM)
    harness.poll(lambda: "draining" in gateway.log(), "the drain")
    # At once: whoever looks for a gateway would come here.
    check(gateway.page("/readyz") == (503, "draining\n"), str(gateway.page("/readyz")))
    gateway.join()
    out, error = pusher.communicate(timeout=120)
    check(pusher.returncode == 0, f"a push in progress was cut by SIGTERM: {error.decode()}\n{gateway.log()}")
    check(json.loads(out)["root"], "no root")
    proxy.close()
