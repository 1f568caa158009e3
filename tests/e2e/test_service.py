"""As a service of systemd's: what its units say is understood, and it hears when we serve and when we end."""
import os
import shutil
import signal
import socket
import subprocess

import harness
from harness import check

BUILT = os.path.join("docs", "systemd")


def units(env):
    """The units that the build directory of the binary has, with the binary in them instead of what will be installed."""
    built = os.path.join(os.path.dirname(env.binary), "..", "..", BUILT)
    check(os.path.isdir(built), f"no units beside the binary: {built}")
    found = {}
    for name in sorted(os.listdir(built)):
        if not name.endswith(".service"):
            continue
        folder = env.path("units")
        os.makedirs(folder)
        with open(os.path.join(built, name), encoding="utf-8") as file:
            text = file.read()
        lines = [l for l in text.splitlines() if l.startswith("ExecStart=")]
        check(len(lines) == 1 and lines[0].split("=", 1)[1].split()[0].endswith("/bin/sluice"), f"{name}: {lines}")
        program = lines[0].split("=", 1)[1].split()[0]
        found[name] = os.path.join(folder, name.replace(".user", ""))
        with open(found[name], "w", encoding="utf-8") as file:
            file.write(text.replace(program, env.binary))
    return found


def test_systemd_understands_the_units(env):
    env.need(shutil.which("systemd-analyze"), "systemd-analyze")
    found = units(env)
    check(set(found) == {"sluice.service", "sluice-edge.service", "sluice-edge.user.service"}, f"{found}")
    for name, path in found.items():
        scope = ["--user"] if ".user" in name else []
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", *scope, path], capture_output=True, text=True, check=False,
                                timeout=60, env=env.environment(env.home("units"), XDG_RUNTIME_DIR=env.home("units")))
        # Other units of the machine may be in a bad way.
        complaints = [line for line in result.stderr.splitlines() if "sluice" in line]
        check(result.returncode == 0 and not complaints, f"{name}: {result.returncode} {result.stderr}")


class Manager:
    """The socket of a service manager, and a command of ours that it starts."""

    def __init__(self, env, *arguments):
        self.path = env.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)       # as systemd's is; the gateway becomes another user
        self.socket.settimeout(60)
        self.process = subprocess.Popen([env.binary, *arguments, "--engine", env.engine], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent,
                                        env=env.environment(env.home("service"), NOTIFY_SOCKET=self.path))

    def hears(self):
        return self.socket.recv(4096).decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check(self.hears() == "STOPPING=1", "the end is not told")
        said = self.process.communicate(timeout=60)[1].decode()
        check(self.process.returncode == 0, said)
        self.socket.close()


def serve(env, listen):
    user = ["--user", env.user] if os.geteuid() == 0 else []
    return Manager(env, "serve", "--listen", listen, "--store", env.path("store"), "--slots", "0", *user)


def test_a_gateway_tells_when_it_serves(env):
    folder = env.path("sockets")
    os.makedirs(folder)
    env.give(folder)
    listen = f"unix://{folder}/gateway.sock"
    gateway = serve(env, listen)
    check(gateway.hears() == "READY=1", "")
    env.sluice("status", "--gateway", listen)
    gateway.stop()


def test_a_standard_descriptor_that_is_closed_is_nothing_of_ours(env):
    """Whatever had its number would get the log, or what a command shows: the ring's eventfd, a connection, the executor host's answer."""
    folder = env.path("sockets")
    os.makedirs(folder)
    env.give(folder)
    listen = f"unix://{folder}/gateway.sock"

    def start(closing, *arguments):
        return subprocess.Popen(["sh", "-c", f'exec "$@" {closing}', "sh", env.binary, *arguments],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=harness.die_with_parent,
                                env=env.environment(env.home("service")))

    user = ["--user", env.user] if os.geteuid() == 0 else []
    gateway = start("2>&-", "serve", "--listen", listen, "--store", env.path("store"), "--slots", "0", "--engine", env.engine, *user)
    try:
        harness.poll(lambda: env.sluice("status", "--gateway", listen, "--connect-timeout", "1s", status=None).returncode == 0, "an answer")
        found = os.readlink(f"/proc/{gateway.pid}/fd/2")
        check(found == "/dev/null", f"the log goes to {found}")
        for closing in (">&-", "<&- >&- 2>&-"):
            status = start(closing, "status", "--gateway", listen).wait(timeout=60)
            check(status == 1, f"{closing}: ended with {status}, and nobody was shown anything")
        gateway.send_signal(signal.SIGTERM)
        check(gateway.wait(timeout=60) == 0, f"ended with {gateway.returncode}")
    finally:
        gateway.kill()
        gateway.wait()


def test_one_that_cannot_start_is_not_ready(env):
    gateway = serve(env, "grpc://192.0.2.1:1")
    check(gateway.process.wait(timeout=60) != 0, "it listens on another machine's address")
    gateway.socket.settimeout(0)
    try:
        check(False, f"heard {gateway.hears()}")
    except BlockingIOError:
        pass


def test_an_edge_tells_when_it_serves_and_what_of_its_gateway(env):
    gateway = env.gateway()
    for address, status in ((gateway.address, "STATUS=the gateway is within reach"),
                            ("grpc://127.0.0.1:1", "STATUS=the gateway cannot be reached")):
        edge = Manager(env, "edge", "--upstream", address, "--listen", "unix://" + env.path("edge.sock"), "--store", env.path("edge"))
        # A link is not up at once, so the socket mostly comes first.
        check({edge.hears(), edge.hears()} == {"READY=1", status}, status)
        edge.stop()
    gateway.stop()
