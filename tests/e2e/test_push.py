"""The main job: trees go up and come down whole, and cost what changed."""
import json
import os
import pty
import re
import shutil
import signal
import statistics
import subprocess
import urllib.parse

import harness
import shared
import trees
from harness import check, poll


def test_round_trip_is_identical(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back = shared.tree(env), env.path("back")
    pushed = client.push(tree)
    check(pushed["files_read"] > 0 and pushed["bytes_sent"] > 0, f"nothing was read or sent: {pushed}")
    pulled = client.pull(pushed["root"], back)
    check(pulled["bytes_received"] > 0, f"nothing was received: {pulled}")
    found = trees.differences(tree, back)
    check(not found, "the pulled tree differs:\n  " + "\n  ".join(found))
    same = subprocess.run(["diff", "-r", "--no-dereference", tree, back], capture_output=True, check=False)
    # Two fifos are compared by diff as different kinds of the same: it names them and is not wrong to.
    lines = [line for line in same.stdout.splitlines() if b"is a fifo" not in line]
    check(not lines, f"diff -r: {lines[:5]}")
    env.row("round trip, differences", len(found), 0, "entries")
    gateway.stop()


def test_counts_are_those_of_the_tree(env):
    gateway = env.gateway()
    tree = env.path("counted")
    os.makedirs(tree + "/a/b")
    for name, size in (("one", 1), ("a/two", 1000), ("a/b/large", 300_000)):
        trees.write_random(f"{tree}/{name}", size, name)
    os.symlink("one", tree + "/link")
    pushed = env.client(gateway).push(tree)
    check((pushed["files"], pushed["bytes"], pushed["files_read"]) == (3, 301_001, 3), f"{pushed}")
    check(pushed["root"].startswith("sha256:") and "/" in pushed["root"], f"{pushed}")
    plain = env.client(gateway).run("push", "--progress", "quiet", tree)
    check(plain.stdout == pushed["root"] + "\n", f"the root, last and alone on stdout: {plain}")
    gateway.stop()


def test_nothing_changed_costs_nothing(env):
    gateway = env.gateway(tls=True)
    client = env.client(gateway)
    tree = shared.own_tree(env)
    first = client.push(tree)
    # Files as young as the first scan are read once more: they could have changed within the clock's grain.
    second = client.push(tree)
    check(second["root"] == first["root"], "another root for the same tree")
    third = client.push(tree)
    check(third["root"] == first["root"], "another root for the same tree")
    total = third["bytes_sent"] + third["bytes_received"]
    env.row("nothing changed, files read", third["files_read"], 0, "files")
    env.row("nothing changed, TCP payload both ways", total, 4000, "bytes")
    env.row("nothing changed, of it after the handshake", total - third["handshake_bytes"], 1500, "bytes")
    gateway.stop()


def test_touched_files_send_no_content(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = shared.own_tree(env)
    first = client.push(tree)
    trees.touch_all(tree)
    second = client.push(tree)
    check(second["root"] == first["root"], "mtimes are no part of a root")
    env.row("all mtimes touched, chunks sent", second["chunks_new"], 0, "chunks")
    env.row("all mtimes touched, bytes sent", second["bytes_sent"], 8000, "bytes")
    gateway.stop()


def test_what_was_edited_is_told_by_what_it_was(env):
    """Hundreds of files with a line more: the lines go, and what the gateway had to say of the files; so for a fresh instance."""
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back = env.path("edited"), env.path("back")
    os.makedirs(tree)
    for number in range(400):
        os.makedirs(f"{tree}/d{number % 20}", exist_ok=True)
        trees.write_random(f"{tree}/d{number % 20}/f{number}", 20_000, f"base {number}")
    trees.write_random(tree + "/large", 3_000_000, "large")
    first = client.push(tree)
    for number in range(400):
        with open(f"{tree}/d{number % 20}/f{number}", "r+b") as file:
            content = file.read()
            file.seek(9000)
            file.write(b"one line more\n" + content[9000:])
    trees.insert_byte(tree + "/large", 3)
    second = client.push(tree)
    content = 400 * 20_014
    check(first["bytes_sent"] > content, f"what is random is not compressed: {first}")
    env.row("400 files with a line more: sent, of their bytes", 100 * second["bytes_sent"] / content, 8, "%")
    env.row("400 files with a line more: received, of their bytes", 100 * second["bytes_received"] / content, 2, "%")
    gateway.wait_metric(lambda m: m["sluice_deltas_received_total"] >= 400 and m["sluice_deltas_refused_total"] == 0,
                        "deltas are counted")
    client.pull(second["root"], back)
    check(not trees.differences(tree, back), "what was told by bases came back other than it was")
    # Another gateway under the same name: the snapshot is wrong about all of it.
    fresh = env.gateway()
    third = env.client(fresh).push(tree)
    check(third["root"] == second["root"] and third["bytes_sent"] > content, f"{third}")
    gateway.stop()
    fresh.stop()


def test_edits_of_small_files_are_cheap(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = shared.own_tree(env)
    client.push(tree)
    sent, roots = [], set()
    for i, path in enumerate(trees.small_files(tree, 20, "edits")):
        trees.change_byte(path, i)
        pushed = client.push(tree)
        roots.add(pushed["root"])
        sent.append(pushed["bytes_sent"])
    check(len(roots) == 20, f"20 edits made {len(roots)} roots")
    env.row("one byte changed in a small file, sent, median of 20", statistics.median(sent), 24_000, "bytes")
    env.row("one byte changed in a small file, sent, worst of 20", max(sent), 160_000, "bytes")
    back = env.path("back")
    client.pull(pushed["root"], back)
    found = trees.differences(tree, back)
    check(not found, "the edited tree differs:\n  " + "\n  ".join(found))
    gateway.stop()


def test_insertions_into_a_large_file_are_cheap(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = shared.own_tree(env)
    client.push(tree)
    sent = []
    for i in range(20):
        trees.insert_byte(shared.big_file(tree), i)
        sent.append(client.push(tree)["bytes_sent"])
    env.row("one byte inserted in a large file, sent, median of 20", statistics.median(sent), 300_000, "bytes")
    env.row("one byte inserted in a large file, sent, worst of 20", max(sent), 400_000, "bytes")
    gateway.stop()


def test_second_directory_without_a_snapshot(env):
    gateway = env.gateway()
    first = env.client(gateway, "first").push(shared.tree(env))
    second = env.client(gateway, "second").push(shared.own_tree(env))
    check(second["root"] == first["root"], "the same tree has another root elsewhere")
    check(second["files_read"] > 0, "a client without a snapshot must read")
    env.row("the same tree from a second directory, sent", second["bytes_sent"], 8000, "bytes")
    gateway.stop()


def test_what_is_sent_during_the_scan_is_sent_once(env):
    """A line that is slower than the scan makes it wait, and what does not fit in memory is read again."""
    gateway = env.gateway()
    tree, back = env.path("large"), env.path("back")
    os.makedirs(tree)
    size = 100_000_000
    for i in range(10):
        trees.write_random(f"{tree}/{i}", size // 10, i)
    proxy = harness.Proxy(gateway.port, bytes_per_second=40_000_000)
    client = env.client(gateway, address=f"grpc://127.0.0.1:{proxy.port}")
    pushed = client.push(tree)
    env.client(gateway, "plain").pull(pushed["root"], back)
    check(not trees.differences(tree, back), "the pulled tree differs")
    env.row("slow line, sent of random bytes", pushed["bytes_sent"] / size, 1.01, "x")
    proxy.close()
    gateway.stop()


def test_no_change_is_about_as_fast_as_a_walk(env):
    """perf_scan runs a scan that finds nothing changed and a one-thread readdir+fstatat loop in turns: best of seven."""
    bench = os.path.join(os.path.dirname(env.binary), "../../perf/scan/perf_scan")
    env.need(os.path.exists(bench), "perf_scan, built beside the binary")
    output = subprocess.run([bench, shared.tree(env)], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                            env=env.environment(env.home("scan")), text=True).stdout
    check("files_read 0" in output, f"files were read though nothing changed: {output}")
    ratio = float(re.search(r"^wall: .*ratio ([0-9.]+)", output, re.MULTILINE)[1])
    if env.accept == "full":             # a small tree takes too short a time to be a measure
        env.row("nothing changed, scan against a bare walk", ratio, 1.5, "times")


def push_on_a_terminal(env, client, tree, **environment):
    """What a terminal would show."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([env.binary, "push", *client.options, "--no-snapshot", tree], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=theirs,
                               env=env.environment(client.home, TERM="xterm", **environment))
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:                      # the last one has closed it
        pass
    os.close(ours)
    root = process.communicate()[0].decode().strip()
    check(process.returncode == 0 and root.startswith("sha256:"), f"{root}: {shown}")
    return shown


def test_progress_modes(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("tree")
    os.makedirs(tree)
    for i in range(20):
        trees.write_random(f"{tree}/{i}", 100_000, i)
    roots, said = set(), {}
    for mode in ("auto", "plain", "quiet", "rawjson", "tty"):
        result = client.run("push", "--no-snapshot", "--progress", mode, tree)
        roots.add(result.stdout)
        said[mode] = result.stderr
    check(len(roots) == 1 and roots.pop().endswith("\n"), f"the root alone is on stdout, in every mode: {said}")
    check(said["quiet"] == "", f"quiet is not: {said['quiet']}")
    check(said["plain"] and "\x1b" not in said["plain"] + said["auto"], f"{said}")
    for line in said["rawjson"].splitlines():
        json.loads(line)
    check(said["rawjson"], "rawjson says nothing")
    root = result.stdout.strip()
    for mode in ("plain", "quiet", "rawjson"):
        said[mode] = client.run("pull", "--progress", mode, root, env.path("back-" + mode)).stderr
    check("20 files" in said["plain"] and said["quiet"] == "", f"{said}")
    check([json.loads(line) for line in said["rawjson"].splitlines()], f"{said}")
    shown = push_on_a_terminal(env, client, tree)
    check(b"\x1b[" in shown and re.search(rb"\x1b\[[0-9;]*m", shown), f"a terminal sees no redraw or no colour: {shown}")
    plain = push_on_a_terminal(env, client, tree, NO_COLOR="1")
    check(b"\x1b[" in plain and not re.search(rb"\x1b\[[0-9;]*m", plain), f"NO_COLOR: {plain}")
    gateway.stop()


def test_dockerignore_leaves_out(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back = env.path("ignored"), env.path("back")
    os.makedirs(tree + "/node_modules/x")
    os.makedirs(tree + "/src")
    for name in ("keep.c", "drop.o", "src/keep.o.c", "src/drop.o", "src/keep.o", "node_modules/x/y"):
        trees.write_random(f"{tree}/{name}", 10, name)
    with open(tree + "/.dockerignore", "w", encoding="ascii") as file:
        file.write("# comment\nnode_modules\n**/*.o\n!src/keep.o\n")
    pushed = client.push(tree)
    client.pull(pushed["root"], back)
    names = sorted(os.path.relpath(os.path.join(d, f), back) for d, _, fs in os.walk(back) for f in fs)
    check(names == [".dockerignore", "keep.c", "src/keep.o", "src/keep.o.c"], str(names))
    # What was pushed by other rules is compared by them.
    patterns = env.path("patterns")
    with open(patterns, "w", encoding="ascii") as file:
        file.write("keep.c\n")
    for options in (["--no-ignore"], ["--ignore-file", patterns]):
        root = client.push(tree, *options)["root"]
        check("drop.o" in client.run("diff", root, tree, status=1).stdout, "other rules, and nothing differs")
        check(client.run("diff", *options, root, tree).stdout == "", f"{options}")
        client.run("diff", *options, root, root, status=2)
    gateway.stop()


def test_ignore_file_from_a_pipe(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree, fifo = env.path("piped"), env.path("fifo")
    os.makedirs(tree)
    for name in ("keep.c", ".env", "drop.o"):
        trees.write_random(f"{tree}/{name}", 10, name)
    os.mkfifo(fifo)

    def sleeps(process):
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"

    def opened(process):
        check(process.poll() is None, "not waited for")
        try:
            return os.fdopen(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
        except OSError:
            return None                  # nobody reads

    def push():
        process = env.start("push", *client.options, "--progress", "quiet", "--ignore-file", fifo, tree, home=client.home)
        return process, poll(lambda: opened(process), "it is opened")

    # It comes late, and in pieces.
    process, file = push()
    for piece in (b".e", b"nv\n**/", b"*.o\n"):
        poll(lambda: process.poll() is not None or sleeps(process), "the rest is waited for")
        check(process.poll() is None, "not waited for")
        file.write(piece)
    file.close()
    root, error = process.communicate(timeout=60)
    check(process.returncode == 0, error.decode())
    listed = client.run("ls", root.decode().strip()).stdout.split()
    check(listed == ["keep.c"], f"{listed}")
    # Whoever waits for what does not come can be interrupted.
    process, file = push()
    poll(lambda: sleeps(process), "it is waited for")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    file.close()
    check((process.returncode, error) == (130, b""), f"status {process.returncode}: {error.decode()}")
    gateway.stop()


def test_ls_cat_diff_see_the_tree(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("seen")
    os.makedirs(tree + "/src/deep")
    for name, size in (("src/small", 100), ("src/deep/large", 500_000)):
        trees.write_random(f"{tree}/{name}", size, name)
    os.symlink("small", tree + "/src/link")
    root = client.push(tree)["root"]
    listed = client.run("ls", root, "src").stdout.splitlines()
    check(sorted(line.strip("/") for line in listed) == ["deep", "link", "small"], f"{listed}")
    for path in ("src", "src/link"):
        listed = client.run("ls", "-l", root, path).stdout.splitlines()
        check(any(line.startswith("l") and line.endswith("link -> small") for line in listed), f"{listed}")
    check(client.run("ls", "--json", root, "src/link").json()["target"] == "small", "no target")
    with open(tree + "/src/deep/large", "rb") as file:
        process = env.start("cat", *client.options, root, "src/deep/large")
        content = process.communicate()[0]
        check(process.returncode == 0 and content == file.read(), "cat differs")
    client.run("diff", root, tree)
    trees.change_byte(tree + "/src/small", 1)
    os.unlink(tree + "/src/link")
    changed = client.push(tree)["root"]
    for other in (tree, changed):
        found = client.run("diff", root, other, status=1).stdout
        check("src/small" in found and "src/link" in found and "large" not in found, found)
    with open("/dev/full", "wb") as full:
        for options in ([], ["--json"]):
            result = subprocess.run([env.binary, "diff", *client.options, *options, root, tree], stdout=full, stderr=subprocess.PIPE,
                                    check=False, env=env.environment(client.home))
            check(result.returncode == 2 and result.stderr == b"sluice: standard output: No space left on device\n", f"{result}")
        for command, path in (("ls", ()), ("cat", ("src/deep/large",)), ("status", None)):
            operands = () if path is None else (root, *path)
            result = subprocess.run([env.binary, command, *client.options, *operands], stdout=full, stderr=subprocess.PIPE, check=False,
                                    env=env.environment(client.home))
            check(result.returncode == 102 and result.stderr == b"sluice: standard output: No space left on device\n", f"{result}")
    for arguments in (("ls", root), ("ls", "--json", root), ("cat", root, "src/deep/large")):
        reader, writer = os.pipe()
        os.close(reader)
        result = subprocess.run([env.binary, arguments[0], *client.options, *arguments[1:]], stdout=writer, stderr=subprocess.PIPE,
                                check=False, env=env.environment(client.home))
        os.close(writer)
        check(result.returncode == 1 and result.stderr == b"", f"of `| head` nobody needs to be told: {result}")
    for other in (tree + "/no/such", tree + "/src/small"):
        check(f"{other} is neither a directory nor a root" in client.run("diff", root, other, status=2).stderr, other)
    for arguments in (("ls", root, "no/such"), ("cat", root, "src"), ("cat", root, "src/link2"),
                      ("ls", "sha256:" + "0" * 64 + "/10")):
        client.run(*arguments, status=1)
    said = client.run("cat", root, "", status=1).stderr
    check("the root itself is a directory: `sluice ls` shows what is in it" in said, said)
    gateway.stop()


def test_names_and_notes_move_no_cursor(env):
    """What a peer chose, a name or a note, stays on its line and begins no escape sequence."""
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("hostile")
    os.makedirs(tree)
    root = client.push(tree)["root"]
    name = "a\x1b[2J\nadded    b\x9b1m\u202ec"
    trees.write_random(f"{tree}/{name}", 10, "h")
    changed = client.push(tree)["root"]
    harmless = "a?[2J?added    b?1m?c"
    client.run("pin", changed, "--note", "a\nb\x1b[m")
    for arguments, status, line in ((("diff", root, changed), 1, f"added    {harmless}"),
                                    (("diff", root, tree), 1, f"added    {harmless}"),
                                    (("ls", changed), 0, harmless)):
        shown = client.run(*arguments, status=status).stdout.rstrip("\n").split("\n")
        check(shown == [line], f"{arguments}: {shown}")
    shown = client.run("status").stdout
    check("a?b?[m" in shown, shown)
    shown = client.run("ls", changed, f"no/{name}", status=1).stderr
    check("\x1b" not in shown and "\x9b" not in shown and shown.count("\n") == 1, shown)
    gateway.stop()


ODD_NAMES = [b"\xff", b"\xfe", b"\xed\xa0\x80", b"\xc0\xae", b"a\x01b\x1b[2J\n\t\x7f\x9b", b'q"uo\\te', b"%FF", b"%25FF", b"%C3%A9\xff",
             b"100%", b"%41", "\u2028\u202e\U0001f600".encode(), "caf\u00e9".encode()]


def bytes_of(text):
    """What the wire form of a name or of a target stands for (docs/tree.md)."""
    return urllib.parse.unquote_to_bytes(text) if re.search("%(25)*[89A-F][0-9A-F]", text) else text.encode()


def path_of(text):
    return b"/".join(map(bytes_of, text.split("/")))


def test_names_of_any_bytes_are_json(env):
    """What --json prints is JSON, and says the very bytes, in each command that prints names."""
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("odd-names").encode()
    os.makedirs(tree)
    empty = client.push(os.fsdecode(tree))["root"]
    for name in ODD_NAMES:
        os.makedirs(tree + b"/below/" + name)
        with open(tree + b"/below/" + name + b"/" + name, "wb") as file:
            file.write(name)
        os.symlink(b"../" + name, tree + b"/below/" + name + b"/link")
    targets = env.path("targets.yaml")
    with open(targets, "w", encoding="utf-8") as file:
        file.write("targets:\n  all:\n    paths: [below]\n")
    top = os.fsdecode(tree)
    predicted = client.run("explain", "--dry-run", "--all", "--json", top)
    root = client.push(top)["root"]
    files = {b"below/" + name + b"/" + name for name in ODD_NAMES}
    listed = client.run("ls", "--json", root, "below")
    said = [predicted, listed]
    check({bytes_of(json.loads(line)["name"]) for line in listed.stdout.splitlines()} == set(ODD_NAMES), f"{listed}")
    for name in ODD_NAMES:
        said.append(client.run("ls", "--json", root, os.fsdecode(b"below/" + name)))
        entries = [json.loads(line) for line in said[-1].stdout.splitlines()]
        check({bytes_of(entry["name"]) for entry in entries} == {name, b"link"}, f"{said[-1]}")
        targets_said = [bytes_of(entry["target"]) for entry in entries if entry["kind"] == "symlink"]
        check(targets_said == [b"../" + name], f"{name}: {targets_said}")
        path = os.fsdecode(b"below/" + name + b"/" + name)
        said.append(client.run("ls", "--json", root, path))
        check(path_of(said[-1].json()["name"]) == os.fsencode(path), f"{said[-1]}")
        client.run("cat", root, path)
    for other in (root, top):
        said.append(client.run("diff", "--json", empty, other, status=1))
        paths = {path_of(json.loads(line)["path"]) for line in said[-1].stdout.splitlines()}
        check(paths >= files or paths == {b"below"}, f"{said[-1]}")
    said.append(client.run("explain", "--json", "--root", root))
    for result in (predicted, said[-1]):
        paths = {path_of(entry["path"]) for entry in result.json()["paths"]}
        check(paths >= files, f"{paths} of {result}")
    said.append(client.run("affected", "--json", "--since", empty, targets, top))
    check({path_of(path) for path in said[-1].json()["affected"][0]["paths"]} <= files | {b"below"} | {
        b"below/" + name + tail for name in ODD_NAMES for tail in (b"", b"/link")}, f"{said[-1]}")
    for result in said:
        check("\ufffd" not in result.stdout, f"not the bytes: {result}")
        for line in result.stdout.splitlines():
            json.loads(line)
    gateway.stop()


def test_pull_replaces_only_when_asked(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back = env.path("tree"), env.path("back")
    os.makedirs(tree)
    trees.write_random(tree + "/file", 100, "f")
    os.makedirs(back)
    trees.write_random(back + "/mine", 10, "m")
    root = client.push(tree)["root"]
    client.run("pull", root, back, status=None)
    client.run("pull", "--replace", "sha256:" + "0" * 64 + "/80", back, status=None)
    check(os.path.exists(back + "/mine"), "pull removed what was there")
    client.pull(root, back, "--replace")
    check(not trees.differences(tree, back), "--replace did not make them equal")
    gateway.stop()


def test_pull_replaces_what_a_directory_holds_and_not_the_directory(env):
    """By a symlink to it, as the working directory, with another mount on it: it stays the one that it is."""
    gateway = env.gateway()
    client = env.client(gateway)
    tree, back, link = shared.tree(env), env.path("back"), env.path("link")
    root = client.push(tree)["root"]
    os.makedirs(back + "/mine/.sluice-pull-0123456789abcdef")
    os.symlink(back, link)
    before = os.stat(back)
    client.pull(root, link, "--replace")
    check(os.path.islink(link) and os.stat(back).st_ino == before.st_ino, "the directory is another one")
    check(not trees.differences(tree, back), "by a symlink: --replace did not make them equal")
    trees.write_random(back + "/mine", 10, "m")
    client.run("pull", "--replace", root, ".", cwd=back)
    check(not trees.differences(tree, back), "as the working directory: --replace did not make them equal")
    # One that leaves no room: the tree does not fit beside what is there, which stays.
    env.need(os.geteuid() == 0, "root, to mount a small disk")
    disk = env.path("disk")
    os.makedirs(disk)
    env.need(os.system(f"mount -t tmpfs -o size=4m,mode=755 none {disk}") == 0, "the right to mount")
    try:
        trees.write_random(disk + "/mine", 3_000_000, "m")
        small = env.path("small")
        os.makedirs(small)
        trees.write_random(small + "/file", 2_000_000, "s")
        fitting = client.push(small)["root"]
        client.run("pull", "--replace", fitting, disk, status=102)
        check(os.listdir(disk) == ["mine"] and os.path.getsize(disk + "/mine") == 3_000_000, "what was there is not as it was")
        os.truncate(disk + "/mine", 1_000_000)
        client.pull(fitting, disk, "--replace")
        check(not trees.differences(small, disk), "on a mount point: --replace did not make them equal")
        # Something is mounted in there: that may not be moved, and nothing is.
        os.makedirs(disk + "/within")
        env.need(os.system(f"mount -t tmpfs -o size=1m none {disk}/within") == 0, "the right to mount")
        try:
            result = client.run("pull", "--replace", root, disk, status=None)
            check(result.returncode in (1, 102), f"{result}")
            result = client.run("pull", "--replace", fitting, disk, status=1)
            check("within: cannot be moved: something is mounted there" in result.stderr, f"{result}")
            check(sorted(os.listdir(disk)) == ["file", "within"], f"{os.listdir(disk)}")
        finally:
            os.system(f"umount {disk}/within")
    finally:
        os.system(f"umount {disk}")
    gateway.stop()


def test_pull_replaces_what_overlayfs_may_not_rename(env):
    """A directory of a lower layer, as an image has them: rename answers EXDEV, and it is removed where it is."""
    env.need(os.geteuid() == 0, "root, to mount an overlay")
    gateway = env.gateway()
    client = env.client(gateway)
    tree, base = env.path("tree"), env.path("overlay")
    os.makedirs(tree)
    trees.write_random(tree + "/file", 100_000, "f")
    root = client.push(tree)["root"]
    for name in ("lower/dir/below", "upper", "work", "merged"):
        os.makedirs(f"{base}/{name}")
    trees.write_random(f"{base}/lower/dir/below/file", 10, "l")
    trees.write_random(f"{base}/lower/plain", 10, "p")
    layers = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
    mounted = os.system(f"mount -t overlay -o redirect_dir=off,{layers} none {base}/merged") == 0
    env.need(mounted, "overlayfs on the disk of the tests")
    try:
        client.pull(root, base + "/merged", "--replace")
        check(not trees.differences(tree, base + "/merged"), "--replace did not make them equal")
    finally:
        os.system(f"umount {base}/merged")
    gateway.stop()


def test_pin_and_status(env):
    gateway = env.gateway()
    client = env.client(gateway)
    tree = env.path("tree")
    os.makedirs(tree)
    trees.write_random(tree + "/file", 100, "f")
    root = client.push(tree)["root"]
    client.run("pin", "--expires", "7d", "--note", "release", root)
    status = client.run("status", "--json").json()
    check(root in str(status), f"the pin is not in {status}")
    check("Z release\n" in client.run("status").stdout, "the note")
    client.run("pin", root)
    check(f"{root} for ever\n" in client.run("status").stdout, "a pin without a note")
    check(env.engine == "auto" or env.engine in str(status), f"the engine is not in {status}")
    client.run("pin", "--remove", root)
    result = client.run("pin", "--remove", root, status=1)
    check("this root is not pinned" in result.stderr, f"{result}")
    check(root not in client.run("status", "--json").stdout, "the pin is still there")
    client.run("pin", "sha256:" + "0" * 64 + "/10", status=1)
    gateway.stop()


def test_four_pushes_at_once(env):
    gateway = env.gateway()
    made = []
    for i in range(4):
        tree = env.path(f"parallel-{i}")
        shutil.copytree(os.path.join(shared.tree(env), "odd"), tree, symlinks=True,
                        ignore=lambda directory, names: [n for n in names if n == "fifo"])
        trees.write_random(tree + "/own", 3_000_000, i % 2)
        made.append(tree)
    clients = [env.client(gateway, f"parallel-{i}") for i in range(4)]
    running = [env.start("push", *c.options, "--json", t, home=c.home) for c, t in zip(clients, made)]
    for process in running:
        out, error = process.communicate(timeout=600)
        check(process.returncode == 0, error.decode())
        del out
    roots = [c.push(t)["root"] for c, t in zip(clients, made)]
    check(roots[0] == roots[2] and roots[1] == roots[3] and roots[0] != roots[1], str(roots))
    gateway.stop()


def test_restart_keeps_everything(env):
    store = env.path("store")
    gateway = env.gateway(store=store)
    tree, back = shared.tree(env), env.path("back")
    root = env.client(gateway).push(tree)["root"]
    gateway.stop()
    env.sluice("fsck", store)
    gateway = env.gateway(store=store)
    client = env.client(gateway)
    client.pull(root, back)
    check(not trees.differences(tree, back), "after a restart the tree differs")
    check(client.push(tree)["chunks_new"] == 0, "after a restart chunks were sent again")
    gateway.stop()
