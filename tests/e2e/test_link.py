"""A push over a link goes on when its connections are cut; what cannot go on says why."""
import os
import random
import socket
import threading
import time

import shared
import trees
from harness import Client, Listener, check, poll


class CuttingProxy:
    """A TCP relay that cuts a connection after about so many bytes, a number of times; bytes under way are lost then. Or it
    stops after so many bytes, until it cuts what is there. `rate`: bytes a second that it passes on at most, each way."""

    def __init__(self, target_port, every=0, cuts=0, stop_after=None, seed=1, rate=None):
        self.target_port, self.every, self.wanted = target_port, every, cuts
        self.cuts, self.open, self.random = 0, True, random.Random(seed)
        self.lock, self.pairs = threading.Lock(), []
        self.rate = rate
        self.stop_after, self.passed, self.stopped = stop_after, 0, threading.Event()
        self.listener = Listener(self._serve)
        self.port = self.listener.port

    def _serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port)) if self.open else None
        except OSError:
            server = None
        if not server:
            client.close()
            return
        pair = {"sockets": (client, server), "left": self.random.uniform(0.5, 1.5) * self.every, "cut": False}
        self.pairs.append(pair)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._relay, args=(pair, source, target), daemon=True).start()

    def _relay(self, pair, source, target):
        try:
            while data := source.recv(16 << 10):
                with self.lock:
                    pair["left"] -= len(data)
                    self.passed += len(data)
                    if self.stop_after is not None and self.passed > self.stop_after:
                        self.stopped.set()
                        return           # nothing goes on, and nothing ends
                    if pair["left"] <= 0 and self.cuts < self.wanted and not pair["cut"]:
                        self.cuts += 1
                        break
                if self.rate:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
        except OSError:
            pass
        self.cut(pair)

    def cut(self, pair):
        """With a reset: what the kernel still holds is dropped, as by a router that forgets."""
        with self.lock:
            if pair["cut"]:
                return
            pair["cut"] = True
        for each in pair["sockets"]:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def shut(self, again=False):
        """What is there is cut, and nobody gets through any more; but `again`: those who come then."""
        self.open = again
        self.stop_after = None
        for pair in list(self.pairs):
            self.cut(pair)

    def close(self):
        self.shut()
        self.listener.close()


def large_tree(env, files=30, size=2_000_000):
    tree = env.path("tree")
    os.makedirs(tree)
    for i in range(files):
        trees.write_random(f"{tree}/{i}", size, f"link {i}")
    return tree, files * size


def through(env, gateway, proxy, *options):
    scheme = "grpcs" if gateway.tls else "grpc"
    return Client(env, gateway, "client", address=f"{scheme}://127.0.0.1:{proxy.port}", options=options)


def push_through_cuts(env, conns):
    gateway = env.gateway(tls=True)
    tree, size = large_tree(env, files=100)
    proxy = CuttingProxy(gateway.port, every=size / (20 + 2 * conns), cuts=20)
    pushed = through(env, gateway, proxy, "--conns", str(conns)).push(tree, "--no-snapshot")
    check(proxy.cuts == 20, f"{proxy.cuts} cuts")
    check(pushed["link"]["paths_lost"] >= 20, f"{pushed['link']}")
    again = pushed["link"]["bytes_resent"]
    back = env.path("back")
    env.client(gateway).pull(pushed["root"], back)
    check(not trees.differences(tree, back), "the pulled tree differs")
    env.row(f"push cut 20 times, {conns} conns, sent again", 100 * again / pushed["bytes_sent"], 2, "%")
    gateway.wait_metric(lambda m: m["sluice_link_paths_lost_total"] >= 10 and m["sluice_links"] == 0, "the link is over")
    proxy.close()
    gateway.stop()


def test_a_push_is_cut_twenty_times(env):
    push_through_cuts(env, 1)


def test_a_push_over_three_conns_is_cut_twenty_times(env):
    push_through_cuts(env, 3)


def test_compression_goes_by_the_line(env):
    """A line that is fast as far as the first proxy only is found out: what goes over it is compressed all the same."""
    gateway = env.gateway()
    tree, size = env.path("text"), 64 << 20
    os.makedirs(tree)
    words = [word.encode() for word in "the line is fast as far as a proxy and slow behind it so that nobody sees".split()]
    chance = random.Random(3)
    for i in range(16):
        with open(f"{tree}/{i}", "wb") as file:
            file.write(b" ".join(b"%s%d" % (chance.choice(words), chance.randrange(30)) for _ in range(size // 16 // 6)))
    size = sum(os.path.getsize(f"{tree}/{name}") for name in os.listdir(tree))
    sent = {}
    for compression in ("0", "3", "9"):
        fresh = env.gateway()
        pushed = env.client(fresh, f"at-{compression}").push(tree, "--compression", compression)
        sent[compression] = pushed["bytes_sent"] / size
        fresh.stop()
    check(sent["0"] > 1 and sent["9"] < sent["3"] < 0.6, f"what is asked for is done: {sent}")
    proxy = CuttingProxy(gateway.port, rate=16e6)
    slow = through(env, gateway, proxy).push(tree)["bytes_sent"] / size
    # Two packs in vain, and what was on its way meanwhile.
    env.row("a slow line behind a fast one, sent more than at level 3, of the content", 100 * (slow - sent["3"]), 32, "%")
    wrong = env.client(gateway).run("push", "--compression", "20", tree, status=2)
    check("auto" in wrong.stderr, f"{wrong.stderr}")
    proxy.close()
    gateway.stop()


def test_nothing_changed_costs_little_over_a_link(env):
    gateway = env.gateway(tls=True)
    client = env.client(gateway)
    tree = shared.own_tree(env)
    root = client.push(tree)["root"]
    client.push(tree)
    pushed = client.push(tree, "--conns", "1")
    check(pushed["root"] == root and pushed["link"]["resumes"] == 0, f"{pushed}")
    total = pushed["bytes_sent"] + pushed["bytes_received"]
    env.row("nothing changed, over a link, TCP payload both ways", total, 4000, "bytes")
    env.row("nothing changed, over a link, after the handshake", total - pushed["handshake_bytes"], 1500, "bytes")
    gateway.stop()


def test_failures_to_connect_read_the_same(env):
    gateway = env.gateway(tls=True)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))         # and does not listen
    client = env.client(gateway)
    foreign = env.path("foreign")
    env.sluice("cert", "ca", foreign)
    for options in (["--gateway", f"grpc://127.0.0.1:{taken.getsockname()[1]}"],
                    ["--gateway", gateway.address.replace("grpcs", "grpc")],
                    ["--gateway", gateway.address, "--tls-ca", foreign + "/ca.pem"],
                    ["--gateway", "grpc://no-such-name.invalid"]):
        plain = env.sluice("status", *options, status=1)
        linked = env.sluice("status", "--conns", "2", *options, status=1)
        check(plain.stderr == linked.stderr and plain.stderr, f"{plain}\n{linked}")
    check("acme" in client.run("status", "--conns", "4", "--json").stdout, "the credential is not the link's")
    taken.close()
    gateway.stop()


def test_who_does_not_come_back_is_told(env):
    gateway = env.gateway()
    tree, _ = large_tree(env, files=10)
    proxy = CuttingProxy(gateway.port, stop_after=5_000_000)
    client = through(env, gateway, proxy, "--conns", "1", "--link-timeout", "1s")
    process = env.start("push", *client.options, "--no-snapshot", "--progress", "quiet", tree, home=client.home)
    check(proxy.stopped.wait(60), "the push is not under way")
    proxy.shut()
    _, stderr = process.communicate(timeout=60)
    check(process.returncode != 0 and b"is lost: no connection for 1 s" in stderr, f"{process.returncode} {stderr}")
    proxy.close()
    gateway.stop()


def test_a_gateway_that_was_restarted_does_not_resume(env):
    store = env.path("store")
    gateway = env.gateway(store=store)
    tree, _ = large_tree(env)
    proxy = CuttingProxy(gateway.port, stop_after=5_000_000)
    client = through(env, gateway, proxy, "--conns", "1")
    process = env.start("push", *client.options, "--no-snapshot", "--progress", "quiet", tree, home=client.home)
    check(proxy.stopped.wait(60), "the push is not under way")
    gateway.kill()
    gateway = env.gateway(store=store, port=gateway.port)
    proxy.shut(again=True)
    _, stderr = process.communicate(timeout=120)
    check(process.returncode != 0 and b"does not know this link: it was restarted" in stderr, f"{process.returncode} {stderr}")
    poll(lambda: gateway.metrics().get("sluice_links_refused_total"), "the gateway refused it")
    proxy.close()
    gateway.stop()


def test_a_gateway_ends_with_a_link_in_the_middle(env):
    gateway = env.gateway(arguments=["--drain-timeout", "1s"])
    tree, _ = large_tree(env, files=10)
    proxy = CuttingProxy(gateway.port, stop_after=5_000_000)
    client = through(env, gateway, proxy, "--conns", "2", "--link-timeout", "2s")
    process = env.start("push", *client.options, "--no-snapshot", "--progress", "quiet", tree, home=client.home)
    check(proxy.stopped.wait(60), "the push is not under way")
    gateway.stop()
    proxy.shut()
    _, stderr = process.communicate(timeout=60)
    check(process.returncode != 0 and b"is lost" in stderr, f"{process.returncode} {stderr}")
    proxy.close()
