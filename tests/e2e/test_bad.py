"""Hostile trees and bad input: refused by name, nothing lost, nothing outside touched."""
import os
import pty
import re
import socket
import stat
import threading

import shared
import trees
from harness import Failure, check


def test_device_nodes_are_refused_by_name(env):
    env.need(os.geteuid() == 0, "root, to make device nodes")
    gateway = env.gateway()
    client = env.client(gateway)
    for name, kind, device in (("console", stat.S_IFCHR, os.makedev(5, 1)), ("disk", stat.S_IFBLK, os.makedev(7, 0)),
                               ("whiteout", stat.S_IFCHR, os.makedev(0, 0))):
        tree = env.path("devices")
        os.makedirs(tree + "/sub")
        os.mknod(f"{tree}/sub/{name}", kind | 0o600, device)
        result = client.run("push", tree, status=1)
        check(f"sub/{name}" in result.stderr, f"the path is not named: {result}")
    gateway.stop()


def test_a_tree_is_refused_while_it_is_sent(env):
    """How much of it the gateway has by then is a matter of chance; a root it has not."""
    env.need(os.geteuid() == 0, "root, to make device nodes")
    gateway = env.gateway()
    tree = env.path("devices")
    os.makedirs(tree + "/z")
    for i in range(40):
        trees.write_random(f"{tree}/{i:02}", 2_000_000, i)
    os.mknod(tree + "/z/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    result = env.client(gateway).run("push", tree, status=1)
    check(result.stderr.count("z/null") >= 1 and result.stdout == "", f"the path is not named: {result}")
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0 and m["sluice_commits_total"] == 0, "the push is over")
    gateway.stop()


def test_overlay_xattrs_are_refused_by_name(env):
    gateway = env.gateway()
    tree = env.path("overlay")
    os.makedirs(tree)
    trees.write_random(tree + "/opaque", 10, "o")
    env.need(trees.has_xattrs(tree), "user xattrs on this filesystem")
    os.setxattr(tree + "/opaque", "user.overlay.opaque", b"y")
    result = env.client(gateway).run("push", tree, status=1)
    check("opaque" in result.stderr and "user.overlay" in result.stderr, str(result))
    gateway.stop()


def test_setuid_comes_back_and_links_touch_nothing(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back, outside = env.path("hostile"), env.path("back"), env.path("outside")
    os.makedirs(tree + "/d")
    os.makedirs(outside)
    trees.write_random(outside + "/precious", 100, "p")
    before = trees.listing(outside)
    trees.write_random(tree + "/setuid", 10, "s")
    os.chmod(tree + "/setuid", 0o4755)
    os.chmod(tree + "/d", 0o1777)
    for name, target in (("absolute", outside), ("up", "../" * 40 + outside.lstrip("/")), ("loop-a", "loop-b"),
                         ("loop-b", "loop-a"), ("d/dots", ".."), ("d/precious", outside + "/precious")):
        os.symlink(target, f"{tree}/{name}")
    root = client.push(tree)["root"]
    client.pull(root, back)
    check(not trees.differences(tree, back), "\n".join(trees.differences(tree, back)))
    # Where a directory of the tree was replaced by a link that leads out, nothing may be written through it.
    os.makedirs(tree + "/swap")
    trees.write_random(tree + "/swap/precious", 50, "q")
    root = client.push(tree)["root"]
    other = env.path("other")
    os.makedirs(other)
    os.symlink(outside, other + "/swap")
    client.run("pull", root, other, status=None)
    client.run("pull", "--replace", root, other, status=None)
    check(trees.listing(outside) == before, "something outside of the tree was touched")
    gateway.stop()


def test_unreadable_and_missing_directories(env):
    gateway = env.gateway()
    client = env.client(gateway)
    missing = env.path("missing")
    check("the name of the directory is empty" in client.run("push", "", status=2).stderr, "of \"$DIR\" without a DIR")
    result = client.run("push", missing, status=1)
    check(missing in result.stderr, str(result))
    path = env.path("file")
    trees.write_random(path, 10, "f")
    result = client.run("push", path, status=1)
    check(path in result.stderr, str(result))
    gateway.stop()


def test_a_file_that_will_not_hold_still_is_named(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("moving")
    os.makedirs(tree)
    path = tree + "/moving"
    trees.write_random(path, 40_000_000, "m")
    done = threading.Event()

    def write():
        with open(path, "r+b") as file:
            while not done.is_set():
                file.seek(0)
                file.write(os.urandom(64))
                file.flush()
                os.utime(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = client.run("push", tree, status=None)
    finally:
        done.set()
        writer.join()
    if result.returncode == 0:
        raise Failure(f"a file that changed all the time was pushed: {result}")
    check("moving" in result.stderr, f"the file is not named: {result}")
    gateway.stop()


def test_a_root_that_is_not_there(env):
    gateway = env.gateway()
    root = "sha256:" + "ab" * 32 + "/1234"
    result = env.client(gateway).run("pull", root, env.path("out"), status=1)
    check("ab" * 32 in result.stderr, f"the root is not named: {result}")
    gateway.stop()


def test_garbage_on_the_port_disturbs_nobody(env):
    gateway = env.gateway()
    client = env.client(gateway)
    garbage = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(100), bytes(5000),
               b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 3000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) * 50]
    held = []
    for piece in garbage:
        sock = socket.create_connection(("127.0.0.1", gateway.port))
        sock.sendall(piece)
        held.append(sock)
    held.append(socket.create_connection(("127.0.0.1", gateway.port)))
    tree, back = env.path("tree"), env.path("back")
    os.makedirs(tree)
    trees.write_random(tree + "/file", 100_000, "f")
    client.pull(client.push(tree)["root"], back)
    check(not trees.differences(tree, back), "differs")
    for sock in held:
        sock.close()
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0, "closed connections are let go")
    gateway.stop()


def test_an_interrupted_push_leaves_nothing_open(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = shared.tree(env)
    process = env.start("push", *client.options, "--progress", "plain", tree, home=client.home)
    process.stderr.readline()            # it has begun
    process.send_signal(2)
    process.communicate(timeout=60)
    check(process.returncode in (130, -2, 0), f"status {process.returncode}")
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0 and m["sluice_streams"] == 0, "its connection is gone")
    client.push(tree)
    gateway.stop()


def screen(env, *arguments):
    """(status, what stands on a terminal at the end): escapes that move and erase are followed, colours are not."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(env.binary, [env.binary, *arguments], env.environment(env.home("terminal"), TERM="xterm", NO_COLOR="1"))
    text = b""
    try:
        while piece := os.read(terminal, 65536):
            text += piece
    except OSError:              # Linux says so when the last writer has gone
        pass
    os.close(terminal)
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text.decode()):
        if token == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif token.endswith("A"):
            row -= int(token[2:-1])
        elif token == "\x1b[J":
            lines[row:] = [""]
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token != "\r":
            lines[row] += token
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), [line.rstrip() for line in lines if line.rstrip()]


def test_a_terminal_keeps_what_went_wrong(env):
    gateway = env.gateway()
    missing = env.path("a-name-that-makes-the-reason-too-long-for-the-line-of-its-step")
    status, lines = screen(env, "push", "--gateway", gateway.address, missing)
    check(status == 1 and any(line.startswith(f"sluice push: {missing}: ") for line in lines), f"{status}: {lines}")
    check(sum(line.startswith("[+] sluice push") for line in lines) == 1, f"a frame is left behind: {lines}")
    gateway.stop()
