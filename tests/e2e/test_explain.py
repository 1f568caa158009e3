"""What a push cost: every byte of the connection is accounted for, and each change has its name."""
import os
import shutil
import socket
import threading

import shared
import trees
from harness import Listener, check


class Counter:
    """A TCP proxy that counts what passes, independently of both ends."""

    def __init__(self, port):
        self.port, self.counts, self.threads = port, [0, 0], []
        self.listener = Listener(self._serve)
        self.address = f"127.0.0.1:{self.listener.port}"

    def _serve(self, client):
        gateway = socket.create_connection(("127.0.0.1", self.port))
        for number, (source, target) in enumerate(((client, gateway), (gateway, client))):
            thread = threading.Thread(target=self._carry, args=(number, source, target), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _carry(self, number, source, target):
        try:
            while piece := source.recv(1 << 16):
                self.counts[number] += len(piece)
                target.sendall(piece)
        except OSError:
            pass
        finally:
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def take(self):
        """(sent, received) since the last time; the connection has ended."""
        for thread in self.threads:
            thread.join(30)
        counts, self.counts, self.threads = self.counts, [0, 0], []
        return counts

    def close(self):
        self.listener.close()


def expect_sum(found):
    """The parts are the whole, in both directions, and nothing hides in the framing."""
    lines = {key: value for key, value in found.items() if key != "paths"}
    for way in ("sent", "received"):
        parts = sum(found.get(f"{part}_{way}", 0)
                    for part in ("files", "directories", "asking", "abandoned", "handshake", "framing"))
        check(parts == found[f"bytes_{way}"], f"{way}: the parts make {parts}: {lines}")
        check(0 < found[f"framing_{way}"] <= 1000 + found["bytes"] // 250, f"{way}: framing: {lines}")
    check(found["bytes"] == found["bytes_sent"] + found["bytes_received"], f"{lines}")
    check(sum(entry["bytes_sent"] for entry in found["paths"]) == found["files_sent"] + found["directories_sent"],
          "the paths make another sum than the lines")


def compare_with_the_wire(env, gateway, what):
    counter = Counter(gateway.port)
    scheme = "grpcs" if gateway.tls else "grpc"
    client = env.client(gateway, "explain", address=f"{scheme}://{counter.address}")
    tree = shared.own_tree(env)

    def explain(case, *options):
        found = client.run("explain", "--json", "--all", *options, tree).json()
        sent, received = counter.take()
        expect_sum(found)
        off = abs(found["bytes"] - sent - received) / (sent + received)
        env.row(f"explain, {what}, {case}: off the wire's count", 100 * off, 1, "%")
        return found

    explain("cold")
    same = explain("no change")
    check(same["files_sent"] == same["directories_sent"] == 0 and not same["paths"], f"{same}"[:1000])
    for i, path in enumerate(trees.small_files(tree, 10, what)):
        trees.change_byte(path, i)
    trees.insert_byte(shared.big_file(tree), 7)
    predicted = client.run("explain", "--json", "--all", "--dry-run", tree).json()
    counter.take()
    check(not predicted["pushed"], f"{predicted}"[:1000])
    edited = explain("11 edits")
    check(sum(entry["why"] == "edited" and entry["kind"] == "file" for entry in edited["paths"]) == 11, f"{edited}"[:3000])
    check(predicted["root"] == edited["root"] and predicted["paths"] == edited["paths"], "the prediction did not come true")
    check(abs(predicted["bytes"] - edited["bytes"]) < 500 + edited["bytes"] // 100,
          f"predicted {predicted['bytes']}, it was {edited['bytes']}")
    counter.close()


def test_sum_is_what_the_wire_carried(env):
    gateway = env.gateway()
    compare_with_the_wire(env, gateway, "plain")
    gateway.stop()


def test_sum_is_what_the_wire_carried_with_tls(env):
    gateway = env.gateway(tls=True)
    compare_with_the_wire(env, gateway, "TLS")
    gateway.stop()


def small_tree(env):
    tree = env.path("explained")
    os.makedirs(tree + "/src")
    os.makedirs(tree + "/docs")
    for name in ("src/edited", "src/mode", "src/kept", "docs/gone"):
        trees.write_random(f"{tree}/{name}", 500, name)
    return tree


def test_each_change_has_its_name(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = small_tree(env)
    first = client.run("explain", "--json", tree).json()
    check(not first["compared"] and {entry["why"] for entry in first["paths"]} == {"never seen"}, f"{first}")
    trees.write_random(tree + "/src/edited", 500, "other")
    trees.write_random(tree + "/src/new", 500, "new")
    shutil.copy(tree + "/src/kept", tree + "/src/copy")
    os.chmod(tree + "/src/mode", 0o755)
    shutil.rmtree(tree + "/docs")
    found = client.run("explain", "--json", tree).json()
    whys = {entry["path"]: (entry["why"], entry["bytes_sent"] > 0) for entry in found["paths"]}
    check(whys == {"src/edited": ("edited", True), "src/new": ("new", True), "src/copy": ("new", False),
                   "src/mode": ("mode", False), "docs": ("removed", False), ".": ("edited", True),
                   "src": ("edited", True)}, f"{whys}")
    text = client.run("explain", tree).stdout
    check(text.startswith("Nothing has changed.\n"), text)
    gateway.stop()


def test_push_explains_itself(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = small_tree(env)
    told = client.run("push", "--explain", "--progress", "quiet", tree)
    check("src/edited" in told.stderr and "bytes on the wire" in told.stderr, f"{told}")
    check(told.stdout.startswith("sha256:") and told.stdout.count("\n") == 1, f"the root alone on stdout: {told}")
    trees.write_random(tree + "/src/edited", 500, "other")
    pushed = client.push(tree, "--explain")
    check(pushed["explain"]["bytes"] == pushed["bytes_sent"] + pushed["bytes_received"], f"{pushed}")
    check("src/edited" in [entry["path"] for entry in pushed["explain"]["paths"]], f"{pushed}")
    gateway.stop()


def test_a_top_few_and_all(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("many")
    os.makedirs(tree)
    for i in range(40):
        trees.write_random(f"{tree}/f{i:02}", 100 + i, i)
    short = client.run("explain", "--dry-run", "--top", "3", tree).stdout
    check("f39" in short and "f30" not in short and "38 more entries" in short, short)
    whole = client.run("explain", "--dry-run", "--all", tree).stdout
    check("f00" in whole and "more entries" not in whole, whole)
    default = client.run("explain", "--dry-run", tree).stdout
    check("21 more entries" in default, default)
    # A program gets all, or is told.
    for options, shown in (([], 41), (["--top", "3"], 3), (["--top", "3", "--all"], 41)):
        found = client.run("explain", "--dry-run", "--json", *options, tree).json()
        check((len(found["paths"]), found["paths_left_out"]) == (shown, 41 - shown), f"{options}: {found}")
    pushed = client.push(tree, "--explain")
    check((len(pushed["explain"]["paths"]), pushed["explain"]["paths_left_out"]) == (20, 21), f"{pushed}")
    for options, shown in (([], 41), (["--top", "3"], 3)):
        found = client.run("explain", "--json", "--root", pushed["root"], *options).json()
        check((len(found["paths"]), found["paths_left_out"]) == (shown, 41 - shown), f"{options}: {found}")
    gateway.stop()


def test_two_roots_at_the_gateway(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = small_tree(env)
    trees.write_random(tree + "/large", 1_500_000, "large")
    trees.write_random(tree + "/src/large", 1_500_000, "another")
    old = client.push(tree)["root"]
    trees.insert_byte(tree + "/large", 3)
    os.rename(tree + "/src/large", tree + "/docs/moved")
    trees.write_random(tree + "/src/new", 500, "new")
    os.chmod(tree + "/src/mode", 0o755)
    new = client.push(tree)["root"]
    other = env.client(gateway, "elsewhere")
    found = other.run("explain", "--json", "--root", new, "--since", old).json()
    paths = {entry["path"]: entry for entry in found["paths"]}
    whys = {path: entry["why"] for path, entry in paths.items() if entry["kind"] == "file"}
    check(whys == {"large": "edited", "src/large": "removed", "docs/moved": "new", "src/new": "new", "src/mode": "mode"}, f"{whys}")
    large, moved = paths["large"], paths["docs/moved"]
    check(0 < large["chunks_new"] <= 3 < large["chunks"] and large["bytes_new"] < 800_000, f"{large}")
    check(moved["chunks_new"] == 0 and moved["bytes_new"] == 0 and moved["chunks"] > 3, f"a move is all shared: {moved}")
    check(paths["src/new"]["bytes_new"] == 500 and paths["src/mode"]["bytes_new"] == 0, f"{paths}")
    check(found["bytes_new"] == sum(e["bytes_new"] for e in found["paths"] if e["kind"] == "file"), f"{found}")
    check(found["bytes_shared"] > 1_500_000 + 700_000, f"{found}")
    text = other.run("explain", "--root", new, "--since", old, "--top", "2").stdout
    check("large" in text and "more paths" in text and "bytes are new" in text, text)
    check("former" not in other.run("explain", "--root", old).stdout, "there is no former tree")
    alone = other.run("explain", "--json", "--root", old).json()
    check(alone["bytes_new"] > 3_000_000 and alone["chunks_shared"] == 0, f"{alone}"[:1000])
    check(other.run("explain", "--root", old, "--since", old).stdout == "Nothing differs.\n", "the same root twice")
    gone = other.run("explain", "--root", new, "--since", "sha256:" + "0" * 64 + "/77", status=1)
    check("--since is not at the gateway" in gone.stderr, f"{gone}")
    for arguments in (["--since", old], ["--root", new, tree], ["--root", "x"]):
        other.run("explain", *arguments, status=2)
    gateway.stop()
