"""`sluice run`: a command in a container on a pushed tree, its output, its status, its changes, and the cache."""
import json
import os
import signal
import statistics
import subprocess

import shared
import trees
from harness import check
from test_store import damage

PROGRAM = """#include <stdio.h>
int main(int argc, char **argv)
{
	printf("hello from %s\\n", argc > 1 ? argv[1] : "inside");
	fprintf(stderr, "and stderr\\n");
	return 7;
}
"""


def work_tree(env, name="work"):
    tree = env.path(name)
    os.makedirs(tree + "/src")
    with open(tree + "/src/t.c", "w", encoding="ascii") as file:
        file.write(PROGRAM)
    return tree


def runner(env, **more):
    env.need_executor()
    gateway = env.gateway(slots=2, **more)
    return gateway, env.client(gateway, f"runner-{id(gateway)}")


def test_compile_and_run(env):
    gateway, client = runner(env)
    result, report = client.action(["sh", "-c", "cc -o t src/t.c && ./t there"], directory=work_tree(env), status=7)
    check(result.stdout == "hello from there\n", f"stdout: {result}")
    check("and stderr" in result.stderr, f"stderr: {result}")
    check(report["exit_code"] == 7 and not report["cached"], f"{report}")
    _, report = client.action(["true"], directory=work_tree(env))
    check(report["exit_code"] == 0, f"{report}")
    for command, status in ((["sh", "-c", "exit 42"], 42), (["sh", "-c", "kill -9 $$"], 137), (["/no/such/program"], 127)):
        client.action(command, directory=work_tree(env), status=status)
    gateway.stop()


def test_the_second_time_comes_from_the_cache(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    command = ["sh", "-c", "cc -o t src/t.c && (./t once || true) && date +%N && od -An -N8 -tx8 /dev/urandom"]
    first, report = client.action(command, "--env", "PATH=/usr/bin:/bin", directory=tree)
    check(not report["cached"], f"{report}")
    root = report["root"]
    took = []
    for _ in range(20):
        again, report = client.action(command, "--env", "PATH=/usr/bin:/bin", "--root", root)
        check(report["cached"] and report["exit_code"] == 0, f"{report}")
        check(again.stdout == first.stdout, "the cache replays another stdout")
        took.append(again.seconds)
    if "sanitize" not in env.binary:
        env.time_row("cached run, median of 20", statistics.median(took) * 1000, 50, "ms")
    # Somebody else, with an empty home, from a copy of the tree.
    other = env.client(gateway, "somebody-else")
    again, report = other.action(command, "--env", "PATH=/usr/bin:/bin", directory=work_tree(env, "copy"))
    check(report["cached"] and again.stdout == first.stdout, f"{report}")
    # Whatever is part of the action makes it another one.
    for options, changed in ((["--env", "PATH=/usr/bin:/bin", "--env", "X=1"], command),
                             (["--env", "PATH=/usr/bin:/bin"], command[:2] + [command[2] + "; true"]),
                             (["--env", "PATH=/usr/bin:/bin", "--no-cache"], command)):
        _, report = client.action(changed, *options, "--root", root)
        check(not report["cached"], f"{options}: {report}")
    gateway.stop()


def test_failures_are_not_cached(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    for _ in range(2):
        _, report = client.action(["sh", "-c", "exit 3"], directory=tree, status=3)
        check(not report["cached"], f"{report}")
    gateway.stop()


def test_outputs_come_back(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    out = env.path("out")
    os.makedirs(out)
    command = ["sh", "-c", "mkdir -p build/deep && cc -o build/t src/t.c && echo x > build/deep/x && rm src/t.c"]
    _, report = client.action(command, "--output", "build", "--output-dir", out, directory=tree)
    check(os.access(out + "/build/t", os.X_OK) and os.path.exists(out + "/build/deep/x"), str(os.listdir(out)))
    check(os.path.exists(tree + "/src/t.c"), "the action changed the client's own directory")
    check(report["changes"], f"no tree of changes: {report}")
    # From the cache the outputs come just as well.
    again = env.path("again")
    os.makedirs(again)
    _, report = client.action(command, "--output", "build", "--output-dir", again, directory=tree)
    check(report["cached"] and not trees.differences(out, again), f"{report}")
    gateway.stop()


def test_an_input_that_was_lost_is_worth_another_try(env):
    """Damage shows when the executor fetches it. UNAVAILABLE brings clients back, who then hear that it is missing, and push it."""
    env.need_executor()
    store, tree = env.path("store"), work_tree(env)
    trees.write_random(tree + "/src/data", 1 << 20, "data")
    gateway = env.gateway(store=store, slots=1)
    root = env.client(gateway).push(tree)["root"]
    gateway.stop()
    damage(store, tree + "/src/data")
    gateway = env.gateway(store=store, slots=1)
    client = env.client(gateway, "another")
    result, _ = client.action(["true"], "--root", root, status=1)
    check("push again" in result.stderr and gateway.wait_event("action")["status"] == "UNAVAILABLE", f"{result}")
    result, _ = client.action(["true"], "--root", root, status=1)
    check("upload them" in result.stderr, f"{result}")
    client.action(["true"], directory=tree)
    gateway.stop()


def test_what_is_left_out_of_the_push(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    with open(tree + "/.dockerignore", "w", encoding="ascii") as file:
        file.write("src\n")
    with open(tree + "/targets.yaml", "w", encoding="ascii") as file:
        file.write("targets: { all: { paths: '**', run: test -e src/t.c } }\n")
    for options, status in (([], 1), (["--no-ignore"], 0), (["--ignore-file", "/dev/null"], 0)):
        client.action(["test", "-e", "src/t.c"], *options, directory=tree, status=status)
        client.run("run", "--targets", tree + "/targets.yaml", *options, tree, status=status)
    gateway.stop()


def test_a_missing_output_hides_no_status(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    for script, status in (("exit 2", 2), ("touch other; exit 42", 42), ("true", 1), ("touch other", 1)):
        result, report = client.action(["sh", "-c", script], "--output", "nothing", directory=tree, status=status)
        check("did not make or change" in result.stderr, f"what is missing is not said: {result}")
        check(report and report["exit_code"] == (status if status > 1 else 0), f"no report: {result} {report}")
    gateway.stop()


def test_outputs_leave_what_the_action_left_alone(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    for cached in (False, True):
        _, report = client.action(["sh", "-c", "echo made > src/gen.h"], "--root", client.push(tree)["root"], "--output", "src",
                                  "--output-dir", tree)
        check(report["cached"] == cached and sorted(os.listdir(tree + "/src")) == ["gen.h", "t.c"], f"{os.listdir(tree + '/src')}")
        os.unlink(tree + "/src/gen.h")
    with open(tree + "/src/t.c", encoding="ascii") as file:
        check(file.read() == PROGRAM, "a file that the action left alone is another")
    gateway.stop()


def test_an_action_sees_only_its_tree(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    secret = env.path("secret")
    with open(secret, "w", encoding="ascii") as file:
        file.write("hush")
    os.chmod(secret, 0o644)
    server = env.certificates()["server"]
    for path in (secret, gateway.store, server + "/key.pem", env.executor_path, "/root", "/var/lib"):
        client.action(["sh", "-c", f"! test -e {path}"], directory=tree)
    checks = (("the tree is at /work", "test -f /work/src/t.c && test $(pwd) = /work"),
              ("no network", "test $(grep -c : /proc/net/dev) = $(grep -c lo: /proc/net/dev)"),
              ("no environment of ours", "! env | grep -q -e SLUICE -e SUDO"),
              ("not the host's processes", "test $(ls -d /proc/[0-9]* | wc -l) -lt 10"),
              ("/usr is read-only", "! touch /usr/x 2>/dev/null"),
              ("no way to mount", "! mount -t tmpfs x /mnt 2>/dev/null"),
              ("the tree is writable", "touch src/new && rm src/t.c"),
              ("the next action has a fresh tree", "test -f src/t.c && ! test -e src/new"))
    for what, script in checks:
        result, _ = client.action(["sh", "-c", script], "--no-cache", directory=tree, status=None)
        check(result.returncode == 0, f"{what}: {result}")
    result, _ = client.action(["sh", "-c", "echo $A-$B-${HOME:+home}"], "--env", "A=1", "--env", "B", directory=tree)
    check(result.stdout.startswith("1-"), f"named variables: {result}")
    gateway.stop()


def test_what_cannot_be_asked_for_is_refused(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    os.symlink("src", tree + "/link")
    for path in ("src", "./src/", ".", "src/."):
        result, _ = client.action(["pwd"], "-w", path, directory=tree)
        check(os.path.normpath(result.stdout.strip()) == os.path.normpath("/work/" + path), f"{result}")
    for path in ("nodir", "src/nodir", "src/t.c", "link"):
        result, _ = client.action(["pwd"], "-w", path, directory=tree, status=1)
        check("is no directory of the tree" in result.stderr and f'"{path}"' in result.stderr, f"{result}")
    for options in (["-w", "/work"], ["-w", "src/../.."], ["-w", ""], ["-e", "=x"], ["-e", ""], ["--memory", "5MiB"]):
        client.action(["true"], *options, directory=tree, status=2)
    client.action(["true"], "--memory", "6MiB", directory=tree)
    gateway.stop()


def test_a_runtime_that_is_named_must_work(env):
    env.need(os.geteuid() == 0, "root, for the executor host")
    arguments = ["serve", "--listen", "grpc://127.0.0.1:0", "--store", env.path("store"), "--user", env.user, "--engine", env.engine,
                 "--executor-path", env.executor_path, "--slots", "1"]
    for runtime, words in (("nosuch", "nosuch: not installed"), ("/bin/true", "/bin/true: ")):
        result = env.sluice(*arguments, "--runtime", runtime, status=1)
        check(f"--runtime: no action can run by it: {words}" in result.stderr, f"{result}")
    programs = env.path("programs")
    os.makedirs(programs)
    os.symlink("/bin/false", programs + "/crumb")
    result = env.sluice(*arguments, "--runtime", "crumb", status=1, environment={"PATH": f"{programs}:{os.environ['PATH']}"})
    check("by it: crumb: " in result.stderr and "crumb: crumb" not in result.stderr, f"its name is said once: {result}")


def start_sleeper(env, client, seconds):
    """An action that is under way when this returns."""
    process = env.start("run", *client.options, "--progress", "quiet", "--no-cache", work_tree(env), "--", "sh", "-c",
                        f"echo begun; sleep {seconds}; echo ended >out", home=client.home)
    check(process.stdout.readline() == b"begun\n", "it has not begun")
    return process


def test_one_gateway_an_executor_directory(env):
    """A second one would end the first one's actions, even if it had no port to listen at; it does not start, and says why."""
    gateway, client = runner(env)
    process = start_sleeper(env, client, 5)
    for store in (env.path("another"), gateway.store):
        second = env.sluice("serve", "--listen", f"grpc://127.0.0.1:{gateway.port}", "--store", store, "--user", env.user,
                            "--engine", env.engine, "--executor-path", env.executor_path, "--slots", "1", status=1)
        check(f"the executor directory {env.executor_path} is in use by process {gateway.process.pid}; stop it, or give another "
              "--executor-path" in second.stderr, f"{second}")
    _, error = process.communicate(timeout=60)
    check(process.returncode == 0, f"what ran there ended with {process.returncode}: {error.decode()}")
    gateway.stop()


def test_a_directory_of_somebody_s_is_not_the_executor_s(env):
    env.need(os.geteuid() == 0, "root, for the executor host")
    mine = env.path("mine")
    os.makedirs(mine + "/data", mode=0o755)
    os.chmod(mine, 0o755)
    result = env.sluice("serve", "--listen", "grpc://127.0.0.1:0", "--store", env.path("store"), "--user", env.user, "--engine",
                        env.engine, "--executor-path", mine, "--slots", "1", status=1, timeout=60)
    check(f"{mine} holds what is not the executor's" in result.stderr, f"{result}")
    check(os.listdir(mine) == ["data"] and os.stat(mine).st_mode & 0o7777 == 0o755, f"it is not as it was: {os.listdir(mine)}")


def test_a_restart_waits_for_the_host_of_a_killed_gateway(env):
    store = env.path("store")
    gateway, client = runner(env, store=store)
    process = start_sleeper(env, client, 60)
    gateway.process.kill()               # and no wait for its log's end, which is its host's
    gateway.process.wait()
    after = env.gateway(store=store, slots=2)
    gateway.kill()
    env.client(after, "after").action(["true"], directory=work_tree(env))
    process.kill()
    process.communicate(timeout=60)
    after.stop()


def test_what_the_operator_did_not_allow_is_refused(env):
    gateway, client = runner(env)
    result, _ = client.action(["true"], "--network", directory=work_tree(env), status=1)
    check("--allow-network" in result.stderr, f"what would allow it is not said: {result}")
    client.action(["true"], directory=work_tree(env))
    gateway.stop()
    gateway, client = runner(env, host_root=False)
    result, _ = client.action(["true"], directory=work_tree(env), status=1)
    check("--allow-host-root" in result.stderr, f"what would allow it is not said: {result}")
    gateway.stop()


def test_a_network_is_had_when_asked_for_and_allowed(env):
    gateway, client = runner(env, arguments=["--allow-network"])
    tree = work_tree(env)
    interfaces = ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1 | sort | xargs echo; grep -c nameserver /etc/resolv.conf || true"]
    plain, report = client.action(interfaces, directory=tree)
    check(plain.stdout == "lo\n0\n", f"a network that nobody asked for: {plain}")
    works = env.doctor_says("executor", "network for actions")
    result, report = client.action(interfaces, "--network", directory=tree, status=0 if works else 1)
    if works:
        check(result.stdout == "lo tap0\n1\n" and not report["cached"], f"{result} {report}")
        again, report = client.action(interfaces, "--network", directory=tree)
        check(report["cached"] and again.stdout == result.stdout, f"{report}")
    else:
        check("network" in result.stderr, f"why is not said: {result}")
    again, report = client.action(interfaces, directory=tree)
    check(report["cached"] and again.stdout == plain.stdout, f"{report}")
    gateway.stop()


def static_program(env, text, body=""):
    """The bytes of a program that needs nothing of where it runs: it says `text`, a variable, and a file of the tree; then `body`."""
    source, binary = env.path("say.c"), env.path("say")
    with open(source, "w", encoding="ascii") as file:
        file.write('#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(void)\n{\n'
                   '\tFILE *file = fopen("/work/src/t.c", "r");\n\n'
                   f'\tprintf("{text} %s %s\\n", getenv("FROM_IMAGE"), file ? "tree" : "no tree");\n\t{body}\n\treturn 0;\n}}\n')
    subprocess.run(["cc", "-static", "-o", binary, source], check=True)
    with open(binary, "rb") as file:
        return file.read()


def test_an_image_is_what_runs(env):
    """An OCI layout below --images, and nothing of the host; its digest is part of what the cache goes by."""
    images = env.path("images")
    trees.make_image(images + "/one", {"bin/say": static_program(env, "first")})
    os.chmod(images, 0o755)
    gateway, client = runner(env, arguments=["--images", images], host_root=False)
    tree = work_tree(env)
    result, report = client.action(["say"], "--image", "one", directory=tree)
    check(result.stdout == "first yes tree\n" and not report["cached"], f"{result}")
    result, report = client.action(["say"], "--image", "one", directory=tree)
    check(result.stdout == "first yes tree\n" and report["cached"], f"{report}")
    client.action(["/bin/sh", "-c", "true"], "--image", "one", directory=tree, status=127)
    trees.make_image(images + "/one", {"bin/say": static_program(env, "second")})
    result, report = client.action(["say"], "--image", "one", directory=tree)
    check(result.stdout == "second yes tree\n" and not report["cached"], f"{result} {report}")
    for name in ("none", "../images/one/..", "/etc"):
        result, _ = client.action(["say"], "--image", name, directory=tree, status=1)
        check("no image" in result.stderr, f"{name}: {result}")
    gateway.stop()


def test_an_image_that_changed_while_an_action_waited(env):
    """The slot runs what stands behind the name when its turn has come; that is kept for none of the two images."""
    env.need_executor()
    images, tree = env.path("images"), work_tree(env)
    programs = [static_program(env, text) for text in ("first", "second")]
    trees.make_image(images + "/one", {"bin/say": programs[0]})
    os.chmod(images, 0o755)
    gateway = env.gateway(slots=1, arguments=["--images", images])
    client = env.client(gateway)
    busy = env.start("run", *client.options, tree, "--", "sh", "-c", "echo busy; while :; do sleep 1; done", home=client.home)
    check(busy.stdout.readline() == b"busy\n", "the slot is not busy")
    waits = env.start("run", *client.options, "--image", "one", tree, "--", "say", home=env.home("another"))
    gateway.wait_metric(lambda m: m["sluice_queue"] == 1, "the other action waits")
    trees.make_image(images + "/one", {"bin/say": programs[1]})
    busy.send_signal(signal.SIGINT)
    busy.communicate(timeout=60)
    said, error = waits.communicate(timeout=60)
    check(said == b"second yes tree\n" and waits.returncode == 0, f"{said} {error}")
    trees.make_image(images + "/one", {"bin/say": programs[0]})
    for cached in (False, True):
        result, report = client.action(["say"], "--image", "one", directory=tree)
        check(result.stdout == "first yes tree\n" and report["cached"] == cached, f"{result} {report}")
    gateway.stop()


def test_an_image_s_user_writes(env):
    """One who is not root has the tree as root has it."""
    images = env.path("images")
    body = 'file = fopen("/work/src/made", "w"); return !file || fprintf(file, "%d", (int)getuid()) != 4 || fclose(file);'
    trees.make_image(images + "/one", {"bin/say": static_program(env, "user", body)}, User="1000:1000")
    os.chmod(images, 0o755)
    gateway, client = runner(env, arguments=["--images", images], host_root=False)
    out = env.path("out")
    os.makedirs(out)
    client.action(["say"], "--image", "one", "--output", "src/made", "--output-dir", out, directory=work_tree(env))
    with open(out + "/src/made", encoding="ascii") as file:
        check(file.read() == "1000", "it is made by another user")
    gateway.stop()


def test_limits(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    result, _ = client.action(["sh", "-c", "while :; do :; done"], "--timeout", "2s", directory=tree, status=None)
    check(result.returncode != 0 and result.seconds < 30, f"time-out: {result}")
    check("the action ran longer than its time-out" in result.stderr, f"time-out: {result}")
    # An endless action has not poisoned the slot.
    client.action(["true"], directory=tree)
    gateway.stop()


def test_processes_are_counted_without_ours(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    client.run("run", "--pids", "1", tree, "--", "true")
    for pids, said in (("1", ""), ("2", "3\n")):
        result = client.run("run", "--pids", pids, tree, "--", "sh", "-c", "(exit 3); echo $?", status=None)
        check(result.stdout == said and (result.returncode == 0) == bool(said), f"{pids}: {result}")
    gateway.stop()


def test_a_directory_may_have_any_name(env):
    """The gateway is told it in a header field, which may not have any byte."""
    gateway, client = runner(env)
    for name in (b"\x1b[31m", b"a\nb", b"\xff", b"at its end ", b"100%", b"/".join([b"\xfe" * 250] * 14)):
        tree = os.fsencode(env.path("tree")) + b"/" + name
        os.makedirs(tree)
        client.run("run", tree, "--", "true")
        with open(tree + b"/targets.yaml", "w", encoding="ascii") as file:
            file.write("targets: { all: { paths: '**', run: 'true' } }\n")
        client.run("run", "--targets", tree + b"/targets.yaml", tree)
    gateway.stop()


def test_interrupt_cancels_the_action(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    process = env.start("run", *client.options, tree, "--", "sh", "-c", "echo started; while :; do sleep 1; done", home=client.home)
    check(process.stdout.readline() == b"started\n", "the action did not start")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    check(process.returncode == 130, f"status {process.returncode}: {error.decode()}")
    check(error.endswith(b"\n#3 ERROR: interrupted\n"), error.decode())
    gateway.wait_metric(lambda m: m["sluice_slots_busy"] == 0, "the executor has let go of it", 30)
    gateway.stop()


def test_output_is_streamed(env):
    gateway, client = runner(env)
    process = env.start("run", *client.options, "--progress", "quiet", work_tree(env), "--", "sh", "-c",
                        "echo first; read line < /dev/null; while ! test -e /tmp/never; do sleep 1; done", home=client.home)
    check(process.stdout.readline() == b"first\n", "output did not come before the end")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    result, _ = client.action(["sh", "-c", "seq 200000; seq 1000 >&2"], directory=work_tree(env))
    check(len(result.stdout.splitlines()) == 200_000 and "\n1000\n" in result.stderr, f"{len(result.stdout)} bytes of output")
    gateway.stop()


def test_output_that_is_lost_is_a_failure(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    for script, status, cached in (("seq 300000", 102, False), ("seq 300000", 102, True), ("seq 300000; exit 7", 7, False)):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([env.binary, "run", *client.options, "--json", tree, "--", "sh", "-c", script], stdout=full,
                                    stderr=subprocess.PIPE, check=False, env=env.environment(client.home))
        error = result.stderr.decode()
        check(result.returncode == status and "cannot be written: No space left" in error, f"{script}: {result}")
        report = json.loads(error.splitlines()[-1])
        check(report["exit_code"] == status % 102 and report["cached"] == cached, f"{report}")
    gateway.stop()


def test_the_large_tree_in_a_container(env):
    """Materialising again costs what changed."""
    gateway, client = runner(env)
    tree = shared.own_tree(env)
    script = "find . -type f -printf x | wc -c; sha256sum big.bin | cut -c1-64"
    first, _ = client.action(["sh", "-c", script], directory=tree)
    lines = first.stdout.split()
    check(int(lines[0]) == sum(1 for e in trees.listing(tree).values() if e["kind"] == 0o100000), f"{lines}")
    check(lines[1] == trees.digest_file(shared.big_file(tree)), "big.bin differs in the container")
    trees.change_byte(trees.small_files(tree, 1, "again")[0], 1)
    second, _ = client.action(["sh", "-c", script], directory=tree)
    check(second.stdout == first.stdout, f"{second}")
    if env.accept == "full":
        check(second.seconds < first.seconds / 2, f"{first.seconds} s, then {second.seconds} s for one file")
    gateway.stop()


def test_two_processes_with_separate_rights(env):
    env.need_executor()
    gateway = env.gateway(slots=1)
    seen = []
    for pid in gateway.processes():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        seen.append((fields["Uid"].split()[1], int(fields["CapEff"], 16)))
    check(any(uid != "0" and caps == 0 for uid, caps in seen), f"no process without rights: {seen}")
    check(any(uid == "0" for uid, _ in seen), f"no executor host: {seen}")
    with open("/proc/net/tcp", encoding="ascii") as file:
        sockets = [line.split() for line in file]
    listening = [s for s in sockets if s[1].endswith(f":{gateway.port:04X}") and s[3] == "0A"]
    check(listening and all(line[7] != "0" for line in listening), f"the socket belongs to root: {listening}")
    gateway.stop()


def test_without_executors_run_is_refused(env):
    gateway = env.gateway(slots=0)
    result = env.client(gateway).run("run", work_tree(env), "--", "true", status=1)
    check("executor" in result.stderr, f"why is not said: {result}")
    gateway.stop()


def test_json_report(env):
    gateway, client = runner(env)
    result = client.run("run", "--json", "--progress", "quiet", work_tree(env), "--", "true")
    report = json.loads(result.stderr.strip().splitlines()[-1])
    check({"root", "action", "exit_code", "cached"} <= report.keys(), f"{report}")
    for mode, lines in (("rawjson", True), ("quiet", False)):
        result = client.run("run", "--progress", mode, work_tree(env), "--", "true")
        said = [json.loads(line) for line in result.stderr.splitlines()]
        check(bool(said) == lines, f"{mode}: {result}")
    gateway.stop()


def test_a_report_is_of_this_run(env):
    """Also when it did not come to an end: what a former one left in the file must not be taken for it."""
    gateway, client = runner(env)
    tree, path = work_tree(env), env.path("metadata")

    def report(*arguments, status, address=None):
        result = env.client(gateway, address=address).run("run", "--metadata-file", path, "--json", "--progress", "quiet", *arguments,
                                                          status=status)
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        check(json.loads(result.stderr.strip().splitlines()[-1]) == said, f"two reports: {said} {result}")
        return said

    said = report(tree, "--", "true", status=0)
    check(said["exit_code"] == 0 and said["root"], f"{said}")
    for arguments, root in ((["--timeout", "100ms", tree, "--", "sleep", "60"], True), ([tree, "--image", "none", "--", "true"], True),
                            ([env.path("missing"), "--", "true"], False)):
        said = report(*arguments, status=1)
        check("exit_code" not in said and bool(said["root"]) == root, f"{arguments}: {said}")
    check("exit_code" not in report(tree, "--", "true", status=1, address="grpc://127.0.0.1:1"), "nobody ran it")
    result = client.run("run", "--metadata-file", path + "/no", tree, "--", "true", status=1)
    check(f"{path}/no cannot be written: Not a directory" in result.stderr, f"{result}")
    gateway.stop()


def test_a_drain_lets_an_action_keep_what_it_made(env):
    """Its outputs, one of them longer than goes in a batch, are sent while the gateway goes, and its result is known to the next."""
    store = env.path("drained")
    gateway, client = runner(env, store=store)
    tree = work_tree(env)
    command = ["sh", "-c", "echo begun; sleep 2; head -c 5000000 /dev/urandom >out; seq 9 >more"]
    process = env.start("run", *client.options, "--output", "out", "--output", "more", tree, "--", *command, home=client.home)
    check(process.stdout.readline() == b"begun\n", "it has not begun")
    gateway.stop()
    process.communicate(timeout=60)
    gateway = env.gateway(store=store, slots=1)
    client = env.client(gateway, "after")
    out = env.path("out")
    _, report = client.action(command, "--output", "out", "--output", "more", "--output-dir", out, directory=tree)
    check(report["cached"] and os.path.getsize(f"{out}/out") == 5000000, f"what it had made is gone: {report}")
    gateway.stop()


def test_setuid_is_powerless_inside(env):
    gateway, client = runner(env)
    tree = work_tree(env)
    check(os.system(f"cp /usr/bin/id {tree}/id && chmod 4755 {tree}/id") == 0, "a setuid program")
    result, _ = client.action(["./id", "-u"], directory=tree)
    plain, _ = client.action(["id", "-u"], directory=tree)
    check(result.stdout == plain.stdout, f"setuid changed who runs: {result}")
    gateway.stop()


def test_exit_statuses_are_as_help_has_them(env):
    """The command's own when it has run; else what says why it did not."""
    env.need_executor()
    gateway = env.gateway(slots=1)
    client = env.client(gateway)
    tree = env.path("tree")
    os.makedirs(tree)
    trees.write_random(tree + "/plain", 10, "p")
    for command, options, status in (
            (["true"], [], 0),
            (["sh", "-c", "exit 7"], [], 7),
            (["sh", "-c", "exit 102"], [], 102),
            (["sh", "-c", "exit 255"], [], 255),
            (["sh", "-c", "kill -KILL $$"], [], 128 + signal.SIGKILL),
            (["sh", "-c", "kill -TERM $$"], [], 128 + signal.SIGTERM),
            (["./plain"], [], 126),
            (["no-such-command"], [], 127),
            (["true"], ["--output", "nothing"], 1),
            (["sh", "-c", "exit 7"], ["--output", "nothing"], 7),
            (["sleep", "60"], ["--timeout", "100ms"], 1),
            (["sh", "-c", "head -c 200000000 /dev/zero | tail"], ["--memory", "16MiB"], 102)):
        _, said = client.action(command, *options, directory=tree, status=status)
        ran = status not in (1, 102) or "exit" in command[-1] or command == ["true"]
        check(said.get("exit_code") == ((0 if command == ["true"] else status) if ran else None), f"{command} {options}: {said}")
    client.run("run", tree, status=2)
    client.run("run", "--root", "sha256:" + "0" * 64 + "/80", "--", "true", status=1)
    env.sluice("run", "--gateway", "grpc://127.0.0.1:1", tree, "--", "true", status=1)
    gateway.stop()
    idle = env.gateway()
    env.client(idle).run("run", tree, "--", "true", status=1)
    idle.stop()
