"""Which targets have other inputs than in a former tree."""
import os
import shutil

from harness import check

TARGETS = """# what this repository builds
targets:
  server:
    paths: [server, go.mod]
    needs: [proto]
  tools: { paths: [tools/**/*.c] }
  proto:
    paths: [proto, "!proto/**/*.md"]
  everything:
    needs: [server, tools]
"""


class Repository:
    def __init__(self, env, gateway):
        self.tree = env.path("repository")
        self.client = env.client(gateway)
        for name in ("server/main.c", "server/lib/a.c", "proto/api.proto", "proto/doc/api.md", "tools/one/one.c",
                     "tools/one/README", "go.mod"):
            self.write(name, name)
        self.file = self.write("targets.yaml", TARGETS)
        self.root = self.client.push(self.tree)["root"]

    def write(self, name, text):
        path = f"{self.tree}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def affected(self, *options, status=0, where=None):
        return self.client.run("affected", "--since", self.root, *options, self.file, *(where or [self.tree]), status=status)

    def names(self, status=0):
        return self.affected(status=status).stdout.split()


def test_names_what_changed_and_what_needs_it(env):
    gateway = env.gateway()
    it = Repository(env, gateway)
    check(it.names(status=1) == [], "nothing has changed")
    it.write("README", "new, and nobody's")
    it.write("proto/doc/api.md", "taken back by an exception")
    it.write("tools/one/README", "no pattern's")
    check(it.names(status=1) == [], "what changed is nobody's")
    it.write("proto/api.proto", "other")
    check(it.names() == ["proto", "server", "everything"], "proto, and what needs it, in that order")
    it.write("proto/api.proto", "proto/api.proto")
    os.chmod(it.tree + "/go.mod", 0o755)
    check(it.names() == ["server", "everything"], "a mode is content")
    os.chmod(it.tree + "/go.mod", 0o644)
    shutil.rmtree(it.tree + "/tools")
    check(it.names() == ["tools", "everything"], "a file in a directory that is gone")
    gateway.stop()


def test_says_why(env):
    gateway = env.gateway()
    it = Repository(env, gateway)
    it.write("server/lib/a.c", "other")
    it.write("server/main.c", "other")
    lines = it.affected("--why").stdout.splitlines()
    check(sorted(lines[0].split("\t")[1].split(", ")) == ["server/lib/a.c", "server/main.c"] and
          lines[1] == "everything\tneeds server", f"{lines}")
    found = it.affected("--json").json()
    check(found["since"] == it.root and found["targets"] == 4 and found["changes"] == 2, f"{found}")
    check([(t["target"], t["needs"]) for t in found["affected"]] == [("server", []), ("everything", ["server"])], f"{found}")
    check(sorted(found["affected"][0]["paths"]) == ["server/lib/a.c", "server/main.c"], f"{found}")
    quiet = it.affected("--quiet")
    check(quiet.stdout == "" and quiet.stderr == "", f"{quiet}")
    gateway.stop()


def test_two_roots_need_no_directory(env):
    gateway = env.gateway()
    it = Repository(env, gateway)
    it.write("tools/one/one.c", "other")
    new = it.client.push(it.tree)["root"]
    other = env.client(gateway, "elsewhere")
    result = other.run("affected", "--since", it.root, "--root", new, it.file)
    check(result.stdout.split() == ["tools", "everything"], f"{result}")
    result = other.run("affected", "--since", new, "--root", new, it.file, status=1)
    check(result.stdout == "", f"{result}")
    gateway.stop()


def test_nothing_is_pushed_and_nobody_asked_without_need(env):
    gateway = env.gateway()
    it = Repository(env, gateway)
    it.write("tools/one/one.c", "other")
    it.affected()
    pushed = it.client.push(it.tree)
    check(pushed["chunks_new"] > 0, f"`affected` has sent something: {pushed}")
    it.root = pushed["root"]
    gateway.stop()
    check(it.names(status=1) == [], "the same tree: no gateway is needed to say so")


def test_mistakes_have_their_line_and_status_2(env):
    gateway = env.gateway()
    it = Repository(env, gateway)
    nowhere = "sha256:" + "0" * 64 + "/77"
    for text, words in (
            ("targets:\n  a: { needs: [b] }\n", f"{it.file}:2: target `a` needs `b`, which is not there"),
            ("targets:\n  a: { needs: [b] }\n  b: { needs: [a] }\n", f"{it.file}:3: targets that need each other: `a` needs `b` needs `a`"),
            ("targets:\n  a:\n    path: x\n", f"{it.file}:3: unknown key `path`"),
            ("", f"{it.file}: there is no target in it"),
            ("targets: [\n", f"{it.file}:2:")):
        it.write("targets.yaml", text)
        result = it.affected(status=2)
        check(words in result.stderr and result.stdout == "", f"\"{words}\" wanted: {result}")
    it.write("targets.yaml", TARGETS)
    result = it.client.run("affected", it.file, status=2)
    check("--since is needed" in result.stderr, f"{result}")
    result = it.client.run("affected", "--since", "main", it.file, status=2)
    check("is not a root" in result.stderr, f"{result}")
    result = it.client.run("affected", "--since", nowhere, it.file, it.tree, status=2)
    check("not at the gateway" in result.stderr, f"a former tree that is gone should be told as such: {result}")
    result = it.affected(where=[it.tree + "/nonexistent"], status=2)
    check("nonexistent" in result.stderr, f"{result}")
    gateway.stop()
    it.write("tools/one/one.c", "other")
    result = it.affected(status=2)
    check("sluice serve" in result.stderr, f"{result}")
