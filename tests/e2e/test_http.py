"""The HTTP cache: curl and ccache (Bazel: test_http_bazel.py) against /cas/ and /ac/; what is refused; long bodies in little memory."""
import concurrent.futures
import hashlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import time

from harness import check


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


class Curl:
    """curl with what the tests of one gateway have in common."""

    def __init__(self, env, gateway, *options):
        env.need(shutil.which("curl"), "curl")
        self.env, self.base, self.options = env, gateway.address.replace("grpc", "http", 1), options
        self.out = env.path("answer")

    def run(self, path, *options, http="--http1.1"):
        """(status, body, what curl says besides)"""
        if os.path.exists(self.out):
            os.unlink(self.out)
        result = subprocess.run(["curl", "--silent", "--show-error", http, "--max-time", "120", "--output", self.out,
                                 "--write-out", "%{http_code} %{num_connects} %{size_upload}", *self.options, *options,
                                 self.base + path], capture_output=True, text=True, check=False)
        body = b""
        if os.path.exists(self.out):
            with open(self.out, "rb") as file:
                body = file.read()
        words = result.stdout.split()
        return int(words[0]) if words else 0, body, result.stderr + result.stdout

    def put(self, path, data, *options, **more):
        name = self.env.path("body")
        with open(name, "wb") as file:
            file.write(data)
        return self.run(path, "--upload-file", name, *options, **more)

    def get(self, path, *options, **more):
        return self.run(path, *options, **more)


def test_curl_puts_and_gets(env):
    gateway = env.gateway()
    curl = Curl(env, gateway)
    for http in ("--http1.1", "--http2-prior-knowledge"):
        for size in (0, 5, 70_000, 3_000_000, 20_000_000):
            data = random.Random(f"{http}{size}").randbytes(size)
            path = "/cas/" + digest_of(data)
            status, _, said = curl.get(path, http=http)
            check(status == (404 if size else 200), f"{http} GET of {size} B before the PUT: {status} {said}")
            status, body, said = curl.put(path, data, http=http)
            check(status == 200, f"{http} PUT of {size} B: {status} {body} {said}")
            status, _, said = curl.put(path, data, http=http)
            check(status == 200, f"{http} PUT of {size} B again: {status} {said}")
            status, body, said = curl.get(path, http=http)
            check(status == 200 and body == data, f"{http} GET of {size} B: {status}, {len(body)} B {said}")
            status, body, said = curl.run(path, "--head", http=http)
            check(status == 200, f"{http} HEAD of {size} B: {status} {said}")
    gateway.stop()


def test_a_body_that_is_not_what_its_path_says(env):
    gateway = env.gateway()
    curl = Curl(env, gateway)
    for size in (5, 9_000_000):
        data = random.Random(size).randbytes(size)
        path = "/cas/" + digest_of(data + b"x")
        status, body, _ = curl.put(path, data)
        check(status == 400 and digest_of(data).encode() in body and path[5:].encode() in body, f"{status} {body}")
        check(curl.get(path)[0] == 404, "a wrong blob is there")
        check(curl.get("/cas/" + digest_of(data))[0] == 404, "a refused blob is there by its own name")
    gateway.stop()


def test_a_blob_is_the_same_whoever_asks(env):
    """What came by HTTP is there for gRPC and the other way round, within an instance."""
    gateway = env.gateway()
    curl, client = Curl(env, gateway), env.client(gateway)
    tree, data = env.path("tree"), random.Random("shared").randbytes(50_000)
    os.makedirs(tree)
    with open(tree + "/file", "wb") as file:
        file.write(data)
    client.push(tree)
    status, body, said = curl.get("/cas/" + digest_of(data))
    check(status == 200 and body == data, f"a pushed file: {status} {said}")
    check(curl.get("/team/a/cas/" + digest_of(data))[0] == 404, "another instance's blob is seen")
    check(curl.put("/team/a/cas/" + digest_of(data), data)[0] == 200, "PUT into an instance")
    check(curl.get("/team/a/cas/" + digest_of(data))[0] == 200, "GET from an instance")
    check(curl.get("/team/cas/" + digest_of(data))[0] == 404, "an instance that only begins so")
    gateway.stop()


def tokens_file(env, *lines):
    path = env.path("tokens")
    with open(path, "w", encoding="ascii") as file:
        for token, tenant, rights in lines:
            file.write(f"{digest_of(token.encode())} {tenant} {rights}\n")
    os.chmod(path, 0o600)
    env.give(path)
    return path


def test_who_may(env):
    """TLS with and without HTTP/2, a certificate, tokens as Bearer and as Basic's password, rights, tenants apart."""
    path = tokens_file(env, ("all-of-it", "acme", "all"), ("reads", "acme", "read"), ("writes", "acme", "read,write"),
                       ("others", "umbrella", "all"))
    gateway = env.gateway(tls=True, arguments=["--tokens", path])
    made = env.certificates()
    authority = ("--cacert", made["ca"] + "/ca.pem")
    data = b"what is kept apart"
    blob, result = "/cas/" + digest_of(data), "/ac/" + "5" * 64

    def curl(*options):
        return Curl(env, gateway, *authority, *options)

    def bearer(token):
        return curl("--header", "Authorization: Bearer " + token)

    check(bearer("unknown").get(blob)[0] == 401, "an unknown token")
    check(curl("--user", "me:unknown").get(blob)[0] == 401, "an unknown password")
    check(curl("--header", "Authorization: Basic !").get(blob)[0] == 401, "no base64")
    status, body, _ = bearer("reads").put(blob, data)
    check(status == 403 and b"write" in body, f"a token that may read: {status} {body}")
    check(bearer("writes").put(result, b"\xff")[0] == 403, "a result without the right to commit")
    check(bearer("writes").put(blob, data)[0] == 200, "PUT with the right to write")
    for who in (bearer("reads"), curl("--user", "me:reads"),
                curl("--cert", made["client"] + "/cert.pem", "--key", made["client"] + "/key.pem")):
        for http in ("--http1.1", "--http2"):
            status, body, said = who.get(blob, http=http)
            check(status == 200 and body == data, f"GET {who.options} {http}: {status} {said}")
    check(bearer("others").get(blob)[0] == 404, "another tenant's blob is seen")
    check(curl().get(blob)[0] == 404, "on this machine nobody needs a credential, and is another tenant")
    check(curl("--user", "me:all-of-it").put(result, b"\xff")[0] == 200, "a value by Basic")
    # A credential counts wherever the request comes from; without one, only this machine is asked for none.
    for http in ("--http1.1", "--http2"):
        check(bearer("reads").get(blob, "--header", "Host: build.example", http=http)[0] == 200, f"{http} by another name")
        status, body, _ = curl().get(blob, "--header", "Host: build.example", http=http)
        check(status == 403 and b"localhost" in body, f"{http} nobody by another name: {status} {body}")
    check(bearer("reads").get(result)[1] == b"\xff", "it is not there")
    check(bearer("others").get(result)[0] == 404, "another tenant's value is seen")
    for secret in ("all-of-it", "unknown"):
        check(secret not in gateway.log(), "a token in the log")
    gateway.stop()


def test_results_and_values(env):
    """/ac/: an ActionResult is taken when what it names is there; other bytes are kept as they are."""
    gateway = env.gateway()
    curl = Curl(env, gateway)
    data = b"an output of the action\n"
    inner = b"\x0a\x40" + digest_of(data).encode() + b"\x10" + bytes([len(data)])
    file = b"\x0a\x03out\x12" + bytes([len(inner)]) + inner
    result = b"\x12" + bytes([len(file)]) + file
    status, body, _ = curl.put("/ac/" + "1" * 64, result)
    check(status == 400 and digest_of(data).encode() in body and b"upload it first" in body, f"{status} {body}")
    check(curl.get("/ac/" + "1" * 64)[0] == 404, "a result with a hole is there")
    check(curl.put("/cas/" + digest_of(data), data)[0] == 200, "its output")
    check(curl.put("/ac/" + "1" * 64, result)[0] == 200, "a whole result")
    check(curl.get("/ac/" + "1" * 64)[1] == result, "another result")
    check(curl.run("/ac/" + "1" * 64, "--head")[0] == 200, "HEAD of a result")
    check(curl.get("/other/ac/" + "1" * 64)[0] == 404, "another instance's result is seen")
    for value in (b"\xff\x00no message", random.Random(1).randbytes(4 << 20)):
        check(curl.put("/ac/" + "2" * 64, b"\xff" + value[1:])[0] == 200, "a value")
        check(curl.get("/ac/" + "2" * 64)[1] == b"\xff" + value[1:], "another value")
    status, body, said = curl.put("/ac/" + "3" * 64, bytes(b"\xff" * ((4 << 20) + 1)), "--header", "Transfer-Encoding: chunked")
    check(status == 413 and b"4 MiB" in body, f"a value that is too long for one whose length was not said: {status} {body} {said}")
    check(curl.put("/ac/" + "2" * 64, result)[0] == 200 and curl.get("/ac/" + "2" * 64)[1] == result, "the last one counts")
    gateway.stop()


def ask(gateway, request, wait=True):
    """All that comes until the gateway closes."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.settimeout(30)
        for piece in [request] if isinstance(request, bytes) else request:
            sock.sendall(piece)
        answer = b""
        while wait and (piece := sock.recv(65536)):
            answer += piece
    return answer


def test_what_is_no_good_request(env):
    gateway = env.gateway()
    data = b"hello, cache"
    path = b"/cas/" + digest_of(data).encode()
    host, close = b"Host: localhost\r\n", b"Connection: close\r\n\r\n"
    put = b"PUT " + path + b" HTTP/1.1\r\n" + host
    rows = [
        (b"GET / HTTP/1.1\r\n" + host + close, b"404"), (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + host + host + close, b"400"), (b"GET  / HTTP/1.1\r\n" + host + close, b"400"),
        (b"GET / HTTP/1.1\n" + host + close, b"400"), (b"GET / HTTP/2.1\r\n" + host + close, b"505"),
        (b"GET x HTTP/1.1\r\n" + host + close, b"400"), (b"GET / HTTP/1.1\r\n" + host + b" folded: x\r\n" + close, b"400"),
        (b"GET / HTTP/1.1\r\n" + host + b"a : b\r\n" + close, b"400"),
        (b"DELETE " + path + b" HTTP/1.1\r\n" + host + close, b"405"), (b"POST / HTTP/1.1\r\n" + host + close, b"415"),
        (b"GET / HTTP/1.1\r\n" + host + b"x: " + b"y" * 17000 + b"\r\n" + close, b"431"),
        (b"GET / HTTP/1.1\r\n" + host + b"x: y\r\n" * 70 + close, b"431"),
        (put + b"Transfer-Encoding: chunked\r\n" + close + b"0\r\n\r\n", b"400"),
        (put + b"Transfer-Encoding: chunked\r\n" + close + b"c;x=y\r\n" + data + b"\r\n0\r\ntrailer: z\r\n\r\n", b"200"),
        (put + b"Content-Length: 5\r\nContent-Length: 5\r\n" + close, b"400"), (put + b"Content-Length: -1\r\n" + close, b"400"),
        (put + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" + close, b"400"),
        (put + b"Transfer-Encoding: gzip\r\n" + close, b"501"), (put + b"Expect: wonders\r\n" + close, b"417"),
        (put + b"Content-Length: 99999999999999\r\n" + close, b"413"),
        (b"GET " + path.upper() + b" HTTP/1.1\r\n" + host + close, b"404"), (b"GET /cas/abc HTTP/1.1\r\n" + host + close, b"404"),
    ]
    # The gateway lets a client close first, for a moment: they wait for it together.
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as clients:
        answers = list(clients.map(lambda row: ask(gateway, row[0]), rows))
    for (request, status), answer in zip(rows, answers):
        check(answer.startswith(b"HTTP/1.1 " + status + b" "), f"{status} wanted for {request[:200]}: {answer[:300]}")
    key = b"/ac/" + b"7" * 64
    chunked = b"PUT " + key + b" HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n" + close
    answer = ask(gateway, chunked + b"5;x=y\r\n\xff\xff\xff\xff\xff\r\n3\r\n\xff\xff\xff\r\n0\r\ntrailer: z\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 200 "), f"a chunked value: {answer}")
    answer = ask(gateway, b"GET " + key + b" HTTP/1.1\r\n" + host + close)
    check(answer.endswith(b"\r\n\r\n" + b"\xff" * 8), f"a chunked value comes back otherwise: {answer}")
    answer = ask(gateway, chunked + b"5\r\n\xff\xff\xff\xff\xff\xff\r\n")
    check(answer.startswith(b"HTTP/1.1 400 "), f"a chunk longer than its size: {answer}")
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0, "closed connections are let go")
    gateway.stop()


def test_web_pages_and_proxies(env):
    """Neither is let in without a credential because its connection comes from here."""
    gateway = env.gateway()
    curl = Curl(env, gateway)
    data = b"what no page is to see"
    path = "/cas/" + digest_of(data)
    for http in ("--http1.1", "--http2-prior-knowledge"):
        check(curl.put(path, data, http=http)[0] == 200, "PUT from here")
        for name in ("localhost", "127.0.0.1:1", "[::1]"):
            check(curl.get(path, "--header", f"Host: {name}", http=http)[0] == 200, f"{http} GET of {name}")
        for header in ("Host: rebound.example", "Host: 127.0.0.1.example", "Origin: http://a.example", "Origin: null",
                       "Sec-Fetch-Site: cross-site", "Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1"):
            for method in ("GET", "HEAD", "PUT"):
                options = ("--head",) if method == "HEAD" else ()
                answer = curl.put if method == "PUT" else lambda path, data, *rest, **more: curl.run(path, *rest, **more)
                status, body, said = answer(path, data, "--header", header, *options, http=http)
                # curl 7.88 at times takes the end of a stream that it still sends a body on for a fault of HTTP/2.
                check(status == 403 or (method == "PUT" and "2" in http and "curl: (92)" in said),
                      f"{http} {method} with {header}: {status} {body} {said}")
    gateway.stop()


def test_a_refusal_is_heard(env):
    """A client that is refused while it sends a long body, and looks only later, still hears why."""
    gateway = env.gateway()
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.settimeout(30)
        sock.sendall(b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 1:
            sock.sendall(bytes(10_000))
            time.sleep(0.02)                 # the pace of a slow link, not a wait for anybody
        check(sock.recv(1000).startswith(b"HTTP/1.1 404 "), "no answer")
    gateway.stop()


def test_several_requests_on_a_connection(env):
    """One after the other, all at once, byte by byte, and with 100-continue."""
    gateway = env.gateway()
    data = random.Random("kept").randbytes(30_000)
    path = b"/cas/" + digest_of(data).encode()
    put = b"PUT " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000\r\n"
    get = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n"
    answer = ask(gateway, put + b"\r\n" + data + get + b"\r\n" + get + b"Connection: close\r\n\r\n")
    check(answer.count(b"HTTP/1.1 200 OK") == 3 and answer.count(data) == 2, f"three requests at once: {len(answer)} B")
    small = [bytes([byte]) for byte in get + b"Connection: close\r\n\r\n"]
    check(ask(gateway, small).endswith(data), "a request byte by byte")
    other = random.Random("other").randbytes(2_000)
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.settimeout(30)
        sock.sendall(b"PUT /cas/" + digest_of(other).encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n"
                     b"Expect: 100-continue\r\n\r\n")
        check(sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n", "100 Continue")
        sock.sendall(other)
        check(sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n"), "200 after the body")
        sock.sendall(get.replace(path, b"/cas/" + digest_of(other).encode()) + b"\r\n")
        answer = b""
        while not answer.endswith(other):
            piece = sock.recv(65536)
            check(piece, f"the connection is kept: {answer[:200]}")
            answer += piece
    # What is there already need not be sent.
    answer = ask(gateway, put + b"Expect: 100-continue\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 200 OK\r\n"), f"a known blob: {answer}")
    gateway.stop()


def test_clients_that_go_away(env):
    """In mid-body, in mid-answer and in between: nothing is kept of them, and a stop waits for no idle one."""
    gateway = env.gateway()
    curl = Curl(env, gateway)
    data = random.Random("half").randbytes(20_000_000)
    path = b"/cas/" + digest_of(data).encode()
    for size in (0, 1000, 10_000_000):
        with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
            sock.sendall(b"PUT " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n" + data[:size])
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0, "broken writes are let go")
    check(curl.get(path.decode())[0] == 404, "half a blob is there")
    check(curl.put(path.decode(), data)[0] == 200, "all of it")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
            sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            check(sock.recv(1000), "no answer")
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0 and m["sluice_streams"] == 0, "broken reads are let go")
    idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(3)]
    idle[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    check(idle[0].recv(1000).startswith(b"HTTP/1.1 404 "), "a connection that stays")
    idle[1].sendall(b"GE")
    began = time.monotonic()
    gateway.stop()
    check(time.monotonic() - began < 20, f"the stop took {time.monotonic() - began:.1f} s")
    for sock in idle:
        sock.close()


def test_long_bodies_at_once(env):
    """More than the disk takes at a time: clients wait, and everything is there in the end."""
    gateway = env.gateway()
    curl = Curl(env, gateway)
    bodies = []
    for i in range(12):
        data = random.Random(f"long{i}").randbytes(25_000_000)
        bodies.append((digest_of(data), env.path("body")))
        with open(bodies[-1][1], "wb") as file:
            file.write(data)
    running = [subprocess.Popen(["curl", "--silent", "--show-error", "--fail", "--upload-file", name, f"{curl.base}/cas/{digest}"])
               for digest, name in bodies]
    check(all(process.wait(120) == 0 for process in running), "a PUT failed")
    running = [(subprocess.Popen(["curl", "--silent", "--show-error", "--fail", "-o", name, f"{curl.base}/cas/{digest}"]), digest, name)
               for digest, name in bodies]
    for process, digest, name in running:
        check(process.wait(120) == 0, "a GET failed")
        with open(name, "rb") as file:
            check(digest_of(file.read()) == digest, "other bytes came back")
    gateway.stop()


def peak_bytes(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    return total


def test_a_gigabyte_in_little_memory(env):
    """A PUT and a GET of 1 GB, also by a client that takes it slowly; the gateway's memory stays what it was."""
    size = 1_000_000_000 if "sanitize" not in env.binary else 200_000_000
    gateway = env.gateway()
    curl = Curl(env, gateway)
    name, block, hasher = env.path("large"), random.Random("large").randbytes(1_000_000), hashlib.sha256()
    with open(name, "wb") as file:
        for i in range(size // len(block)):
            piece = i.to_bytes(8, "big") + block[8:]
            hasher.update(piece)
            file.write(piece)
    before, path = peak_bytes(gateway.processes()), "/cas/" + hasher.hexdigest()
    status, body, said = curl.run(path, "--upload-file", name)
    check(status == 200, f"PUT: {status} {body} {said}")
    with socket.create_connection(("127.0.0.1", gateway.port)) as slow:
        slow.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check(slow.recv(15) == b"HTTP/1.1 200 OK", "a reader that then takes nothing")
        check(curl.run(path, "--head")[0] == 200, "HEAD")
        process = subprocess.run(["curl", "--silent", "--show-error", "--fail", curl.base + path], stdout=subprocess.PIPE,
                                 check=False)
        check(hashlib.sha256(process.stdout).hexdigest() == path[5:], "another gigabyte came back")
        more = (peak_bytes(gateway.processes()) - before) / (1 << 20)
        check("sanitize" in env.binary or more < 64, f"{more:.0f} MiB more for {size >> 20} MiB")
    print(f"# {size / 1e6:.0f} MB in and out: the peak of memory rose by {more:.0f} MiB")
    gateway.stop()


def test_ccache(env):
    """With the layout of Bazel's cache; a second, empty ccache gets everything from the gateway."""
    env.need(shutil.which("ccache") and shutil.which("gcc"), "ccache and gcc")
    gateway = env.gateway()
    tree = env.path("sources")
    os.makedirs(tree)
    for i in range(5):
        with open(f"{tree}/{i}.c", "w", encoding="ascii") as file:
            file.write(f"int number_{i}(void) {{ return {i}; }}\n")
    said = ""
    for turn in range(2):
        directory = env.path("ccache")
        environment = {**os.environ, "CCACHE_DIR": directory, "CCACHE_CONFIGPATH": "/dev/null", "CCACHE_LOGFILE": directory + ".log",
                       "CCACHE_REMOTE_STORAGE": gateway.address.replace("grpc", "http") + "|layout=bazel"}
        for i in range(5):
            subprocess.run(["ccache", "gcc", "-c", f"{i}.c", "-o", f"{i}.o"], cwd=tree, env=environment, check=True)
        said = subprocess.run(["ccache", "--print-stats"], env=environment, capture_output=True, text=True, check=True).stdout
        numbers = dict(line.split() for line in said.splitlines())
        check(numbers.get("remote_storage_error", "0") == "0", said)
        if turn == 1:
            check(int(numbers.get("cache_miss", 0)) == 0, said)
            hits = int(numbers.get("remote_storage_hit", numbers.get("remote_storage_read_hit", 0)))
            check(hits >= 5, said)
    gateway.stop()


def dav(connection, method, path, body=None):
    connection.request(method, path, body=body, headers={"accept": "*/*"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_sccache_wire(env):
    """What sccache 0.16.0 says, call by call, on one connection; test_sccache.py has the real one."""
    gateway = env.gateway()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    find = b'<?xml version="1.0" encoding="utf-8" ?><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>'
    key = hashlib.sha256(b"key").hexdigest()
    root, entry = "/team/a/ac//", f"/team/a/ac//{key[0]}/{key[1]}/{key[2]}/{key}"
    value = b"PK\x03\x04" + bytes(range(256)) * 40
    check(dav(connection, "GET", root + ".sccache_check")[0] == 404, "a check that nobody wrote")
    check(dav(connection, "PROPFIND", root, find)[0] == 404, "an instance that is not there yet")
    check(dav(connection, "MKCOL", root)[0] == 201, "it cannot be made")
    status, listed = dav(connection, "PROPFIND", root, find)
    check(status == 207 and b"<D:collection/>" in listed, f"{status} {listed}")
    check(dav(connection, "PUT", root + ".sccache_check", b"Hello, World!")[0] == 200, "it may not write")
    check(dav(connection, "GET", root + ".sccache_check") == (200, b"Hello, World!"), "the check is lost")
    check(dav(connection, "GET", entry)[0] == 404, "an entry that nobody wrote")
    check(dav(connection, "PROPFIND", entry[:-64], find)[0] == 207, "no folder")
    check(dav(connection, "PUT", entry, value)[0] == 200, "an entry is not taken")
    check(dav(connection, "GET", entry) == (200, value), "another entry")
    check(dav(connection, "GET", f"/team/a/ac/{key}") == (200, value), "it has one key, however it is said")
    check(dav(connection, "GET", f"/ac/{key}")[0] == 404, "another instance has it")
    check(dav(connection, "GET", root)[0] == 404, "a folder has no content")
    check(dav(connection, "PROPFIND", entry, find)[0] == 405, "an entry is no folder")
    connection.close()
    gateway.stop()


def test_long_values(env):
    """A value that is longer than a record is cut as a blob is; sccache has such."""
    gateway = env.gateway()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    path = f"/ac/{hashlib.sha256(b'long').hexdigest()}"
    generator = random.Random(5)
    for size in (4 << 20, (4 << 20) + 1, 30_000_000, 5_000_000, 100):
        value = generator.randbytes(size)
        check(dav(connection, "PUT", path, value)[0] == 200, f"a value of {size} bytes is not taken")
        check(dav(connection, "GET", path) == (200, value), f"{size} bytes came back as others")
        connection.request("HEAD", path)
        answer = connection.getresponse()
        check((answer.status, int(answer.headers["content-length"]), answer.read()) == (200, size, b""), f"HEAD of {size} bytes")
    blob = generator.randbytes(5_000_000)
    check(dav(connection, "PUT", path, blob)[0] == 200, "not taken")
    check(dav(connection, "GET", f"/cas/{hashlib.sha256(blob).hexdigest()}") == (200, blob), "it is a blob as well")
    check(dav(connection, "GET", "/other" + path)[0] == 404, "another instance has it")
    connection.close()
    # One that ends too early changes nothing.
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6000000\r\n\r\n".encode() + bytes(5_999_999))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    check(dav(connection, "GET", path) == (200, blob), "half a value took the place of a whole one")
    connection.close()
    gateway.wait_metric(lambda m: m["sluice_connections"] == 0, "all is let go")
    gateway.stop()


def test_a_gateway_without_buildkitd_says_so(env):
    """What buildx shows its user: not the name of a method. No body: curl 7.88 loses an answer that comes before it has sent all."""
    gateway = env.gateway()
    curl, headers = Curl(env, gateway), env.path("headers")
    for path, status, words in (("/moby.buildkit.v1.Control/ListWorkers", 9, "this gateway has no buildkitd"),
                                ("/moby.other/Thing", 12, "unknown method /moby.other/Thing")):
        _, _, ended = curl.run(path, "--request", "POST", "--header", "content-type: application/grpc", "--header", "te: trailers",
                               "--dump-header", headers, http="--http2-prior-knowledge")
        with open(headers, encoding="ascii") as file:
            said = file.read()
        check(f"grpc-status: {status}" in said and words in said, f"{path}: {ended} {said}")
    gateway.stop()
