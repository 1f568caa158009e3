"""The command line itself: help, versions, mistakes, and the commands that need no gateway."""
import hashlib
import os
import random
import re
import shutil
import subprocess

from harness import check

COMMANDS = ["serve", "edge", "push", "pull", "run", "ls", "cat", "diff", "explain", "affected", "status", "builds", "pin", "fsck", "doctor", "chunk", "cert", "completion", "version"]


def test_help_names_every_command(env):
    text = env.sluice("help").stdout
    for name in COMMANDS:
        check(re.search(rf"^  {name} ", text, re.MULTILINE), f"{name} is not in `sluice help`:\n{text}")
        long = env.sluice("help", name)
        check(long.stdout == env.sluice(name, "--help").stdout, f"`help {name}` and `{name} --help` differ")
        check(max(map(len, long.stdout.splitlines())) <= 100, f"`sluice help {name}` is wider than 100 columns:\n{long.stdout}")
        check(f"\n  sluice {name}" in long.stdout, f"`sluice help {name}` has no example:\n{long.stdout}")


def document(name):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", name), encoding="utf-8") as file:
        return file.read()


def test_the_manual_knows_no_more_than_help(env):
    """Commands, options, variables, default values of edge.md's table: a name that is gone from one of them is gone from all."""
    named = {name: options_in_help(env, name) for name in COMMANDS}
    said = {name: " ".join(env.sluice("help", name).stdout.split()) for name in COMMANDS}
    variables = {word for text in said.values() for word in re.findall(r"SLUICE_[A-Z_]+", text)}
    manual = document("docs/man/sluice.1")
    commands = [name for line in re.findall(r"^\.It (Cm .*)$", manual, re.MULTILINE) for name in re.findall(r"Cm (\w+)", line)[:1]]
    check(set(commands) == set(COMMANDS), f"the man page has other commands: {set(commands) ^ set(COMMANDS)}")
    for line in re.findall(r"\bFl (-[^\n]*)", manual):
        for option in re.findall(r"(?<![\w-])-([a-z][a-z-]*)", line):
            check(any("--" + option in options for options in named.values()), f"the man page has an option of its own: {option}")
    for names, values in re.findall(r"^\| ([^|]*`--[^|]*) \| ([^|]+) \|", document("docs/edge.md"), re.MULTILINE):
        for option, value in zip(re.findall(r"`(--[a-z-]+)`", names), (value.strip("` ") for value in values.split(","))):
            found = re.search(rf" {option} [A-Z].*?default ([^)]*)\)", said["edge"])
            check(value in ("", "none") or found[1] == value.replace(" ", ""), f"edge.md: {option} {value}: {found}")
    for name in ("README.md", "docs/man/sluice.1", *(f"docs/{page}.md" for page in (
            "affected", "buildx", "credentials", "edge", "execution", "ledger", "spawn", "store", "systemd"))):
        text = document(name)
        unknown = set(re.findall(r"SLUICE_[A-Z_]+", text)) - variables
        check(not unknown, f"{name}: {unknown}")
        for command, rest in re.findall(r"^ {4}.*?\bsluice (\w+)((?:[^\n;&|#]|\\\n)*)", text, re.MULTILINE):
            if command in named:
                unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.partition(" -- ")[0])) - set(named[command])
                check(not unknown, f"{name}: sluice {command} has no {unknown}")


def completion_script(env, shell):
    path = env.path(f"completion.{shell}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(env.sluice("completion", shell).stdout)
    return path


def shell_says(env, *command):
    result = subprocess.run(command, capture_output=True, check=False, timeout=60, cwd=env.tmp, text=True,
                            env=env.environment(env.home("shell"), TERM="dumb"))
    check(result.returncode == 0 and result.stderr == "", f"{command}: {result}")
    return result.stdout


def bash_offers(env, script, *words):
    """What bash would offer for the last of the words, which are those that it makes of a line."""
    program = """source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice; printf '%s\\n' "${COMPREPLY[@]}" """
    return shell_says(env, "bash", "-uc", program, "bash", script, *words).split()


def options_in_help(env, command):
    """{option: its values, where they are fixed}"""
    found = {}
    for line in env.sluice("help", command).stdout.splitlines():
        head = re.match(r"  (?:-.,|   ) --([a-z-]+)(?: ([^ ]+))?(?:  |$)", line)
        if head:
            found["--" + head[1]] = head[2].split("|") if head[2] and re.fullmatch(r"[a-z_]+(\|[a-z_]+)+", head[2]) else None
    return found


def test_bash_completes_all_that_help_names(env):
    script = completion_script(env, "bash")
    check(set(bash_offers(env, script, "sluice", "")) == {*COMMANDS, "help", "--help", "--version"}, "commands")
    check(bash_offers(env, script, "sluice", "pu") == ["push", "pull"], "commands that begin so")
    check("explain" in bash_offers(env, script, "sluice", "help", "e"), "commands as operands")
    for name in COMMANDS:
        named = options_in_help(env, name)
        check("--help" in named, f"{name}: {named}")
        offered = {o for o in bash_offers(env, script, "sluice", name, "-") if o.startswith("--")}
        check(offered == set(named), f"{name}: offered {sorted(offered)}, in help {sorted(named)}")
        for option, values in named.items():
            if values:
                check(bash_offers(env, script, "sluice", name, option, "") == values, f"{name} {option}")


def test_bash_completes_values_and_operands(env):
    script = completion_script(env, "bash")
    for words, offered in (
            (["push", "--progress", "pl"], ["plain"]),
            (["push", "--progress", "=", "pl"], ["plain"]),
            (["push", "--progress", "="], ["auto", "plain", "tty", "quiet", "rawjson"]),
            (["pull", "--special-modes", "=", "f"], ["false"]),
            (["serve", "--engine", "i"], ["io_uring"]),
            (["serve", "--admin", ""], []),
            (["cert", ""], ["ca", "issue"]),
            (["cert", "ca", "/va"], ["/var"]),
            (["cert", "--name", "ca", ""], ["ca", "issue"]),
            (["completion", "z"], ["zsh"]),
            (["pull", "sha256", ":", "12/3", "/va"], ["/var"]),
            (["pull", "--gateway", "grpc", ":", "//h", ":", "1", "sha256", ":", "12/3", "/va"], ["/var"]),
            (["pull", "--gateway", "=", "grpc", ":", "//h", ":", "1", "sha256", ":", "12/3", "/va"], ["/var"]),
            (["pull", "/va"], []),
            (["pull", "sha256", ":", "1"], []),
            (["push", "--tls-ca", script[:-2]], [script]),
            (["run", "--", "--progress", script[:-2]], [script]),
            (["nonsense", ""], [])):
        found = bash_offers(env, script, "sluice", *words)
        check(sorted(found) == sorted(offered), f"{words}: {found}, {offered} wanted")


def test_zsh_takes_its_script(env):
    env.need(shutil.which("zsh"), "zsh")
    script = completion_script(env, "zsh")
    shell_says(env, "zsh", "-n", script)
    for before in ("autoload -Uz compinit; compinit -u -D;", ""):
        said = shell_says(env, "zsh", "-fc", before + "source $1; whence -w _sluice; print $_comps[sluice]", "zsh", script)
        check(said.split() == ["_sluice:", "function", "_sluice"], f"{before}: {said}")


def test_fish_completes(env):
    env.need(shutil.which("fish"), "fish")
    script = completion_script(env, "fish")
    shell_says(env, "fish", "--no-execute", script)
    for line, offered in (("sluice pu", {"push", "pull"}), ("sluice push --progress p", {"plain"}), ("sluice cert is", {"issue"}),
                          ("sluice serve --engine=e", {"--engine=epoll"}), ("sluice help expl", {"explain"}),
                          ("sluice push --no-ign", {"--no-ignore"}), (f"sluice chunk {script[:-2]}", {script})):
        said = shell_says(env, "fish", "--private", "-c", "source $argv[1]; complete -C $argv[2]", script, line)
        check({text.split("\t")[0] for text in said.splitlines()} == offered, f"{line}: {said}")


def test_mistakes_are_usage_errors(env):
    for arguments, words in (
            (["psuh"], "did you mean `sluice push`?"),
            (["push", "--gatewya", "x", "."], "did you mean --gateway?"),
            (["pull", "--gateway"], "--gateway needs a value"),
            (["push", "--progress", "loud", "."], "one of auto, plain, tty, quiet, rawjson"),
            (["serve", "--ceiling", "much"], "is not a size"),
            (["serve", "--listen", "127.0.0.1"], "--listen: \"127.0.0.1\" is not an address"),
            (["serve", "--buildkit", "tcp://127.0.0.1:1,slot=2"], "--buildkit: \"tcp://127.0.0.1:1,slot=2\" is not the address of"),
            (["edge", "--upstream", "grpc://127.0.0.1:1", "--listen", "here"], "--listen: \"here\" is not an address"),
            (["edge", "--upstream", "grpc://127.0.0.1:1", "--listen", "grpc://127.0.0.1:2"], "unix:///PATH only"),
            (["edge"], "no gateway named"),
            (["edge", "--upstream", "grpc://gateway", "--token", "x"], "a token is not sent unencrypted"),
            (["pin", "--expires", "soon", "sha256:" + "0" * 64 + "/1"], "is not a duration"),
            (["chunk"], "one FILE is needed"),
            (["version", "extra"], "unexpected argument"),
            (["completion"], "one shell is needed"),
            (["completion", "csh"], "none of bash, zsh and fish"),
            (["help", "psuh"], "did you mean push?\n`sluice help` lists"),
            (["help", "push", "pull"], "one command at a time"),
            ([], "Commands:")):
        result = env.sluice(*arguments, status=2)
        check(words in result.stderr, f"\"{words}\" wanted: {result}")
        check(result.stdout == "", f"a mistake belongs on stderr: {result}")


# Where it would be taken for the default, or for never.
def test_a_time_of_0_is_refused(env):
    for command, names in (("serve", ("idle-timeout", "link-timeout", "buildkit-queue-timeout", "spawn-idle")),
                           ("edge", ("connect-timeout", "link-timeout")), ("push", ("connect-timeout", "link-timeout")),
                           ("run", ("timeout",)), ("builds", ("since",)), ("pin", ("expires",))):
        for name in names:
            result = env.sluice(command, f"--{name}", "0", status=2)
            check(f"--{name}: \"0\" is not a duration of more than 0" in result.stderr, str(result))


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
    result = env.sluice(*issue, "--force", "--days", "3700")
    check("only, when its CA expires" in result.stderr and "sluice serve" in result.stdout, f"the CA lasts 3650 days: {result}")
    for tenant in ("acme corp", ".x", ""):
        result = env.sluice("cert", "issue", "--ca-dir", authority, "--client", "--tenant", tenant, env.path("nobody"), status=2)
        check(f'--tenant: "{tenant}" is no name of a tenant' in result.stderr, f"one that the gateway would refuse: {result}")


def test_version(env):
    check(env.sluice("--version").stdout.startswith("sluice "), "")
    check(env.sluice("version", "--json").json()["version"], "")
