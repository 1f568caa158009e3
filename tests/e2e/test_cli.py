"""The command line itself: help, versions, mistakes, and the commands that need no gateway."""
import hashlib
import os
import random
import re

from harness import check

COMMANDS = ["serve", "edge", "push", "pull", "run", "ls", "cat", "diff", "explain", "affected", "status", "builds", "pin", "fsck", "doctor", "chunk", "cert", "version"]


def test_help_names_every_command(env):
    text = env.sluice("help").stdout
    for name in COMMANDS:
        check(re.search(rf"^  {name} ", text, re.MULTILINE), f"{name} is not in `sluice help`:\n{text}")
        long = env.sluice("help", name)
        check(long.stdout == env.sluice(name, "--help").stdout, f"`help {name}` and `{name} --help` differ")
        check(max(map(len, long.stdout.splitlines())) <= 100, f"`sluice help {name}` is wider than 100 columns:\n{long.stdout}")
        check(f"\n  sluice {name}" in long.stdout, f"`sluice help {name}` has no example:\n{long.stdout}")


def test_mistakes_are_usage_errors(env):
    for arguments, words in (
            (["psuh"], "did you mean `sluice push`?"),
            (["push", "--gatewya", "x", "."], "did you mean --gateway?"),
            (["pull", "--gateway"], "--gateway needs a value"),
            (["push", "--progress", "loud", "."], "one of auto, plain, tty, quiet, rawjson"),
            (["serve", "--ceiling", "much"], "is not a size"),
            (["edge"], "no gateway named"),
            (["edge", "--upstream", "grpc://gateway", "--token", "x"], "a token is not sent unencrypted"),
            (["pin", "--expires", "soon", "sha256:" + "0" * 64 + "/1"], "is not a duration"),
            (["chunk"], "one FILE is needed"),
            (["version", "extra"], "unexpected argument"),
            (["help", "psuh"], "did you mean push?\n`sluice help` lists"),
            ([], "Commands:")):
        result = env.sluice(*arguments, status=2)
        check(words in result.stderr, f"\"{words}\" wanted: {result}")
        check(result.stdout == "", f"a mistake belongs on stderr: {result}")


def test_bad_operands_are_refused(env):
    gateway = ["--gateway", "grpc://127.0.0.1:1"]
    for arguments in (["pull", *gateway, "nonsense", "out"], ["pull", *gateway, "sha256:12/3", "out"],
                      ["ls", *gateway], ["cat", *gateway, "sha256:" + "0" * 64 + "/1"], ["diff", *gateway, "x"],
                      ["run", *gateway, "."], ["cert", "isue", "x"]):
        result = env.sluice(*arguments, status=2)
        check(result.stderr.startswith(f"sluice {arguments[0]}: "), f"who speaks? {result}")


def test_configuration_file_and_environment(env):
    path = env.path("sluice.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("gateway: grpc://127.0.0.1:1\nstroe: x\n")
    result = env.sluice("status", "--config", path, status=2)
    check(f"{path}:2: unknown key `stroe`" in result.stderr, str(result))
    for arguments in (["help"], ["help", "push"], ["version"], ["chunk", "/dev/null"]):
        env.sluice(*arguments, environment={"SLUICE_CONFIG": path})
    for text, words in (("tls: {cert: /nonexistent, key: /nonexistent}\n", "connection refused"),
                        ("client: {tls: {cert: /nonexistent, key: /nonexistent}}\n", "cannot use the certificate /nonexistent")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        result = env.sluice("status", "--config", path, "--gateway", "grpcs://127.0.0.1:1", status=1)
        check(words in result.stderr, f"a gateway's certificate is not its clients': {result}")
    with open(path, "w", encoding="utf-8") as file:
        file.write("gateway: grpc://127.0.0.1:1\n")
    result = env.sluice("status", environment={"SLUICE_CONFIG": path}, status=1)
    check("127.0.0.1:1" in result.stderr, f"the file names the gateway: {result}")
    result = env.sluice("status", environment={"SLUICE_CONFIG": path, "SLUICE_GATEWAY": "grpc://127.0.0.1:2"}, status=1)
    check("127.0.0.1:2" in result.stderr, f"the environment wins over the file: {result}")
    result = env.sluice("status", "--gateway", "grpc://127.0.0.1:3", status=1,
                        environment={"SLUICE_CONFIG": path, "SLUICE_GATEWAY": "grpc://127.0.0.1:2"})
    check("127.0.0.1:3" in result.stderr, f"a flag wins over the environment: {result}")


def test_no_gateway_says_what_to_do(env):
    result = env.sluice("status", status=2)
    check("--gateway" in result.stderr and "SLUICE_GATEWAY" in result.stderr, str(result))
    result = env.sluice("status", "--gateway", "grpc://127.0.0.1:1", status=1)
    check("sluice serve" in result.stderr, f"a refused connection should ask whether the daemon runs: {result}")
    result = env.sluice("status", "--gateway", "http://x", status=2)
    check("grpcs://" in result.stderr, f"a bad address should name the good forms: {result}")


def test_tokens_do_not_leak(env):
    result = env.sluice("status", "--gateway", "grpc://example.invalid", "--token", "hush-hush", status=2)
    check("grpcs://" in result.stderr and "hush-hush" not in result.stderr, str(result))
    path = env.path("token")
    with open(path, "w", encoding="ascii") as file:
        file.write("hush-hush\n")
    os.chmod(path, 0o644)
    result = env.sluice("status", "--gateway", "grpc://127.0.0.1:1", "--token-file", path, status=2)
    check("chmod 600" in result.stderr and "hush-hush" not in result.stderr, str(result))
    for token in ("hush\nhush", "\n", "hush\x01"):
        result = env.sluice("status", "--gateway", "grpc://127.0.0.1:1", status=2, environment={"SLUICE_TOKEN": token})
        check("not one line with a token" in result.stderr and "hush" not in result.stderr, str(result))
    for instance in ("a\nb", "a ", "\x7f"):
        result = env.sluice("status", "--gateway", "grpc://127.0.0.1:1", "--instance", instance, status=2)
        check("--instance" in result.stderr, str(result))


def test_chunk_agrees_with_hashlib(env):
    data = random.Random("chunk").randbytes(3_000_000)
    path = env.path("data")
    with open(path, "wb") as file:
        file.write(data)
    for options in ([], ["--average", "16KiB"], ["--average", "1KiB", "--seed", "666"], ["--average", "1MiB"]):
        lines = env.sluice("chunk", *options, path).stdout.splitlines()
        at = 0
        for line in lines:
            offset, size, digest = line.split()
            check(int(offset) == at, f"a gap or an overlap at {offset}, {at} wanted")
            at += int(size)
            check(hashlib.sha256(data[int(offset):at]).hexdigest() == digest, f"wrong digest: {line}")
        check(at == len(data), f"{at} of {len(data)} bytes")
        piped = env.sluice("chunk", *options, "-", stdin=data).stdout.splitlines()
        check(piped == lines, "the cuts depend on how the bytes came")
    check(len(env.sluice("chunk", "--seed", "1", path).stdout) != 0, "a seed")
    check(env.sluice("chunk", "/dev/null").stdout == "", "an empty file has no chunks")
    env.sluice("chunk", "--average", "3000", path, status=2)
    env.sluice("chunk", env.path("missing"), status=1)


def test_doctor_has_remedies(env):
    checks = env.sluice("doctor", "--json").json()["checks"]
    check({c["area"] for c in checks} >= {"io_uring", "sha256", "executor", "buildkit", "limits", "disk"}, str(checks))
    for entry in checks:
        check(entry["works"] or entry["remedy"], f"a no without a remedy: {entry}")
    check("io_uring" in env.sluice("doctor").stdout, "for people, too")


def test_a_certificate_says_how_to_use_it(env):
    authority, client = env.path("ca"), env.path("client")
    env.sluice("cert", "ca", authority)
    text = env.sluice("cert", "issue", "--ca-dir", authority, "--client", "--tenant", "acme", os.path.relpath(client)).stdout
    check("SLUICE_TLS_CERT=" in text, f"our own commands: {text}")
    found = re.search(r"docker buildx create .*--driver remote --driver-opt (\S+) tcp://HOST:8372$", text, re.MULTILINE)
    check(found, f"docker buildx: {text}")
    files = dict(option.split("=", 1) for option in found[1].split(","))
    check(set(files) == {"cacert", "cert", "key"}, f"what the remote driver takes: {files}")
    for path in files.values():
        check(os.path.isabs(path) and os.path.isfile(path), f"{path} from wherever buildx is called")
    issue = ["cert", "issue", "--ca-dir", authority, "--server", "--name", "localhost", env.path("server")]
    text = env.sluice(*issue).stdout
    check("sluice serve" in text and "buildx" not in text, f"a gateway's is no client's: {text}")
    result = env.sluice(*issue, status=1)
    check("--force" in result.stderr, f"a key that is there: {result}")
    env.sluice(*issue, "--force")
    env.sluice(*issue, "--force", "--days", "0", status=2)


def test_version(env):
    check(env.sluice("--version").stdout.startswith("sluice "), "")
    check(env.sluice("version", "--json").json()["version"], "")
