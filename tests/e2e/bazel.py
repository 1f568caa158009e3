"""Debian's Bazel as the cases use it: one workspace and one server for all of a run. Bazel's unpacking of itself, and the start
of its Java for each command (--batch), would take longer than most of the builds. Nothing of a build is left for the next
case: who asks for the server gets it after `bazel clean`, which forgets the outputs and what was known of them."""
import os
import shutil
import subprocess

from harness import check, die_with_parent

IDLE_SECONDS = 300                               # a server whose run was killed ends by itself
COMMAND_SECONDS = 300


class Bazel:
    def __init__(self, env):
        env.need(shutil.which("bazel") and shutil.which("keytool"), "Bazel (bazel-bootstrap) and Java's keytool")
        base = os.path.join(env.tmp, "bazel")
        self.tree, self.options, self.clients = base + "/workspace", [], []
        self.write("WORKSPACE", "")
        # It is Java whom its HTTP client asks whom to trust.
        trust = base + "/trust.p12"
        subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "sluice", "-storepass", "secret", "-storetype", "PKCS12",
                        "-file", env.certificates()["ca"] + "/ca.pem", "-keystore", trust], check=True, capture_output=True)
        self.command = ["bazel", f"--output_user_root={base}/out", f"--max_idle_secs={IDLE_SECONDS}", "--host_jvm_args=-Xmx512m",
                        f"--host_jvm_args=-Djavax.net.ssl.trustStore={trust}",
                        "--host_jvm_args=-Djavax.net.ssl.trustStorePassword=secret"]

    def write(self, name, text):
        path = f"{self.tree}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    def start(self, command, *arguments):
        options = [*self.options, "--noshow_progress", "--color=no"] if command == "build" else []
        process = subprocess.Popen([*self.command, command, *options, *arguments], cwd=self.tree, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent)
        self.clients.append(process)
        return process

    def run(self, command, *arguments, status=0):
        process = self.start(command, *arguments)
        output, _ = process.communicate(timeout=COMMAND_SECONDS)
        check(process.returncode == status, f"bazel {command} {arguments}: {process.returncode}\n{output[-4000:]}")
        return output

    def read(self, name):
        with open(f"{self.tree}/bazel-bin/{name}", "rb") as file:
            return file.read()

    def begin(self, files, options):
        self.end_clients()
        self.options = list(options)
        for name, text in files.items():
            if not os.path.exists(f"{self.tree}/{name}"):
                self.write(name, text)
        self.run("clean")

    def end_clients(self):
        """What a case that failed left waiting: the server drops the command of a client that is gone."""
        for process in self.clients:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self.clients.clear()

    def close(self):
        self.end_clients()
        self.run("shutdown")


def bazel_with(env, files, *options):
    """The one of this run, as if nothing had been built yet. The workspace has these files besides those of other cases, which
    have other names; builds have these options from now on."""
    it = env.shared("bazel", lambda: Bazel(env))
    it.begin(files, options)
    return it
