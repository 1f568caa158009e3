"""`sluice edge` as any client sees it: calls go through with the edge's credential, and trouble has a name."""
import os
import resource
import stat

import harness
import trees
from harness import check


def edge_client(env, edge, name="behind"):
    return env.client(edge, name=name)


def test_calls_go_through(env):
    gateway = env.gateway()
    edge = harness.Edge(env, gateway.address)
    tree, back = env.path("tree"), env.path("back")
    os.makedirs(tree + "/below")
    trees.write_random(tree + "/below/file", 3_000_000, "through an edge")
    client = edge_client(env, edge)
    client.pull(client.push(tree)["root"], back)
    check(not trees.differences(tree, back), "what came back through the edge differs")
    edge.wait_metric(lambda m: m["sluice_edge_calls_total"] >= 2 and m["sluice_edge_calls_lost_total"] == 0, "calls are counted")
    edge.stop()
    gateway.stop()


def test_the_credential_is_the_edges(env):
    gateway = env.gateway(tls=True)
    edge = harness.Edge(env, gateway.address, certificate="client")
    result = edge_client(env, edge).run("status", "--json", "--token", "somebody-elses")
    check("acme" in result.stdout and "ci-client" in result.stdout, f"not the edge's certificate: {result}")
    edge.stop()
    gateway.stop()


def test_the_socket_is_its_owners(env):
    gateway = env.gateway()
    for arguments, mode in ((["--socket-mode", "0660"], 0o660), ([], 0o600)):
        edge = harness.Edge(env, gateway.address, arguments)
        found = os.stat(edge.socket).st_mode
        check(stat.S_ISSOCK(found) and stat.S_IMODE(found) == mode, f"{found:o} is not {mode:o}")
        edge.stop()
        check(not os.path.lexists(edge.socket), "the socket is left behind")
    file = env.path("file")
    with open(file, "w", encoding="utf-8") as out:
        out.write("precious")
    result = env.sluice("edge", "--upstream", gateway.address, "--listen", "unix://" + file, "--store", env.path("s"), status=None)
    check(result.returncode != 0 and "is no socket" in result.stderr, f"a file in its place: {result}")
    with open(file, encoding="utf-8") as kept:
        check(kept.read() == "precious", "the file was touched")
    result = env.sluice("edge", "--upstream", gateway.address, "--listen", "grpc://127.0.0.1:0", "--store", env.path("t"),
                        status=None)
    check(result.returncode != 0 and "unix:///PATH only" in result.stderr, f"a port is nobody's alone: {result}")
    gateway.stop()


def test_it_takes_the_descriptors_that_it_may(env):
    """A soft limit is for programs that know no better: an edge may be a user's own, with no unit that raises it."""
    gateway = env.gateway()
    few = 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        edge = harness.Edge(env, gateway.address)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found, _ = resource.prlimit(edge.process.pid, resource.RLIMIT_NOFILE)
    check(found == resource.RLIM_INFINITY or found >= min(hard if hard > 0 else 65536, 65536), f"{found} of {hard}")
    edge.stop()
    gateway.stop()


def test_ready_is_an_edge_with_a_gateway(env):
    gateway = env.gateway()
    port = gateway.port
    gateway.stop()
    edge = harness.Edge(env, gateway.address)
    cause = edge.wait_event("not ready")
    check("refused" in cause["why"] and gateway.address == cause["upstream"], f"{cause}")
    check(edge.page("/readyz") == (503, "the gateway cannot be reached\n"), f"{edge.page('/readyz')}")
    check(edge.find_event("ready") is None, "ready without a gateway")
    gateway = env.gateway(port=port)
    edge.wait_event("ready")
    harness.poll(lambda: edge.page("/readyz") == (200, "ok\n"), "ready")
    edge.wait_metric(lambda m: m["sluice_ready"] == 1, "the metric says so, too")
    gateway.stop()
    harness.poll(lambda: edge.page("/readyz")[0] == 503, "not ready any more")
    edge.stop()


def test_a_lost_gateway_has_a_name(env):
    gateway = env.gateway()
    port = gateway.port
    edge = harness.Edge(env, gateway.address)
    client = edge_client(env, edge)
    client.run("status")
    gateway.stop()
    result = client.run("status", status=None)
    check(result.returncode != 0 and f"cannot reach grpc://127.0.0.1:{port}" in result.stderr, f"which gateway? {result}")
    gateway = env.gateway(port=port)
    harness.poll(lambda: client.run("status", status=None).returncode == 0, "the gateway is found again", 30)
    edge.stop()
    gateway.stop()
