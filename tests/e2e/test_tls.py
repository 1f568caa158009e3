"""Who may speak, and what they see: TLS, certificates, tokens, tenants."""
import hashlib
import os
import shutil
import signal

import harness
import trees
from harness import check


def small_tree(env, name="tree"):
    tree = env.path(name)
    os.makedirs(tree)
    trees.write_random(tree + "/file", 200_000, name)
    return tree


def test_round_trip_over_tls(env):
    gateway = env.gateway(tls=True)
    client = env.client(gateway)
    tree, back = small_tree(env), env.path("back")
    client.pull(client.push(tree)["root"], back)
    check(not trees.differences(tree, back), "the pulled tree differs")
    check("acme" in client.run("status", "--json").stdout, "the certificate's O is not the tenant")
    gateway.stop()


def test_a_plain_listener_is_guessed(env):
    gateway = env.gateway()
    result = env.sluice("status", "--gateway", gateway.address.replace("grpc://", "grpcs://"), status=1)
    check("is it a plain listener, grpc://?" in result.stderr, f"{result}")
    gateway.stop()


def test_a_foreign_authority_is_refused(env):
    gateway = env.gateway(tls=True)
    other = env.path("other-ca")
    env.sluice("cert", "ca", other)
    result = env.sluice("status", "--gateway", gateway.address, "--tls-ca", other + "/ca.pem", status=1)
    check("certificate" in result.stderr, f"why is not said: {result}")
    env.sluice("status", "--gateway", gateway.address, status=1)
    env.sluice("status", "--gateway", gateway.address.replace("grpcs", "grpc"), status=1)
    gateway.stop()


def test_tenants_do_not_see_each_other(env):
    gateway = env.gateway(tls=True)
    mine, theirs = env.client(gateway, "mine"), env.client(gateway, "theirs", certificate="other")
    tree = small_tree(env)
    root = mine.push(tree)["root"]
    unknown = "sha256:" + "0" * 64 + "/" + root.rsplit("/", 1)[1]
    out = env.path("out")
    # Under a name that nobody has made, too, and before the store has heard of this tenant at all.
    for instance in (["--instance", "nobodys"], []):
        known = theirs.run("pull", *instance, root, out, status=1)
        never = theirs.run("pull", *instance, unknown, out, status=1)
        check(known.stderr.replace(root, "X") == never.stderr.replace(unknown, "X"),
              f"the error tells that another tenant has it:\n{known}\n{never}")
    # Bytes that another tenant has must be sent all the same.
    pushed = theirs.push(tree)
    check(pushed["root"] == root and pushed["bytes_sent"] > 100_000, f"{pushed}")
    gateway.stop()


def test_tokens(env):
    path = env.path("tokens")
    good, reader = "a-good-token", "a-reading-token"
    with open(path, "w", encoding="ascii") as file:
        for token, tenant, rights in ((good, "acme", "all"), (reader, "acme", "read")):
            file.write(f"{hashlib.sha256(token.encode()).hexdigest()} {tenant} {rights}\n")
    os.chmod(path, 0o644)
    more = ["--user", env.user] if os.geteuid() == 0 else []
    store = env.path("store")
    open_to_all = env.sluice("serve", "--listen", "grpc://127.0.0.1:0", "--store", store, "--slots", "0", "--tokens", path, *more, status=1)
    check(f"chmod 600 {path}" in open_to_all.stderr, f"a tokens file that others may read: {open_to_all}")
    check(not os.path.exists(store + "/format"), "a start that failed has made a store, at a size that stays")
    os.chmod(path, 0o600)
    env.give(path)
    gateway = env.gateway(tls=True, arguments=["--tokens", path])
    ca = env.certificates()["ca"] + "/ca.pem"
    tree = small_tree(env)

    def client(token):
        made = env.client(gateway, "token")
        made.options = ["--gateway", gateway.address, "--tls-ca", ca, "--token", token]
        return made

    root = client(good).push(tree)["root"]
    check("acme" in client(good).run("status", "--json").stdout, "the token's tenant")
    for same in (good + "\n", good + "\r\n", f" {good}\t"):
        check("acme" in client(same).run("status", "--json").stdout, f"white space around a token: {same!r}")
    result = client("a-wrong-token").run("push", tree, status=1)
    check("a-wrong-token" not in result.stderr, f"a token in an error: {result}")
    result = client(reader).run("push", tree, status=1)
    client(reader).pull(root, env.path("out"))
    for secret in (good, reader, "a-wrong-token"):
        check(secret not in gateway.log(), "a token in the log")
    gateway.stop()


def test_a_push_without_the_right_to_read(env):
    """Nothing is told by what the gateway has, since that would show it: what changed goes whole, and the push is as good."""
    path = env.path("tokens")
    with open(path, "w", encoding="ascii") as file:
        for token, rights in (("brings", "write,commit"), ("reads", "read")):
            file.write(f"{hashlib.sha256(token.encode()).hexdigest()} acme {rights}\n")
    os.chmod(path, 0o600)
    env.give(path)
    gateway = env.gateway(tls=True, arguments=["--tokens", path])
    pusher, reader = env.client(gateway, "pusher"), env.client(gateway, "reader")
    for client, token in ((pusher, "brings"), (reader, "reads")):
        client.options = ["--gateway", gateway.address, "--tls-ca", env.certificates()["ca"] + "/ca.pem", "--token", token]
    tree, out = env.path("tree"), env.path("out")
    files = [f"{tree}/d{number % 2}/f{number}" for number in range(80)]
    for directory in ("d0", "d1"):
        os.makedirs(f"{tree}/{directory}")
    for path in files:
        trees.write_random(path, 20_000, path[len(tree):])
    pusher.push(tree)
    changed = files[::2] + files[1:2]                # all of one directory; one of the other, which its edits tell
    for path in changed:
        with open(path, "r+b") as file:
            file.seek(9000)
            file.write(b"changed")
    pushed = pusher.push(tree)
    check(pushed["bytes_sent"] > len(changed) * 20_000, f"it was told by what is there: {pushed}")
    gateway.wait_metric(lambda m: m["sluice_deltas_refused_total"] >= 1, "the directory's delta is not made")
    pusher.run("pull", pushed["root"], out, status=1)
    reader.pull(pushed["root"], out)
    check(not trees.differences(tree, out), "the pulled tree differs")
    gateway.stop()


def test_who_is_nobody_has_the_rights_that_were_given(env):
    store, tree = env.path("store"), small_tree(env)
    gateway = env.gateway(store=store)
    root = env.client(gateway).push(tree)["root"]
    gateway.stop()
    gateway = env.gateway(store=store, arguments=["--anonymous", "default", "--anonymous-rights", "read,write"])
    client = env.client(gateway)
    for _ in range(2):
        client.pull(root, env.path("out"))
        result = client.run("pin", root, status=1)
        check("commit" in result.stderr, f"a right that was not given: {result}")
        for pid in gateway.processes():
            os.kill(pid, signal.SIGHUP)
        gateway.wait_event("reloaded")
    gateway.stop()
    for arguments, words in ((["--anonymous-rights", "read"], "goes with --anonymous"),
                             (["--anonymous", "default", "--anonymous-rights", "raed"], '"raed" are no rights')):
        result = env.sluice("serve", "--listen", "grpc://127.0.0.1:0", "--store", store, "--user", env.user, "--slots", "0",
                            *arguments, status=None)
        check(result.returncode in (1, 2) and words in result.stderr, f"{result}")


def test_a_bad_key_file_is_named(env):
    path = env.path("bad.pem")
    with open(path, "w", encoding="ascii") as file:
        file.write("no key\n")
    server = env.certificates()["server"]
    result = env.sluice("serve", "--listen", "grpcs://127.0.0.1:0", "--store", env.path("store"), "--tls-cert",
                        server + "/cert.pem", "--tls-key", path, "--user", env.user, "--slots", "0", status=1)
    check(path in result.stderr, str(result))
    result = env.sluice("serve", "--listen", "grpcs://127.0.0.1:0", "--store", env.path("store"), "--user", env.user,
                        "--slots", "0", status=None)
    check(result.returncode in (1, 2) and "--tls-cert" in result.stderr, str(result))


def test_sighup_reads_keys_and_tokens_again(env):
    """New ones count for new connections and calls; what cannot be read changes nothing, and is said."""
    tokens, keys, other = env.path("tokens"), env.path("keys"), env.path("other-ca")
    shutil.copytree(env.certificates()["server"], keys)
    env.sluice("cert", "ca", other)
    env.sluice("cert", "issue", "--ca-dir", other, "--server", "--name", "127.0.0.1", other + "/server")

    def write_tokens(line):
        with open(tokens, "w", encoding="ascii") as file:
            file.write(line + "\n")
        os.chmod(tokens, 0o600)
        env.give(tokens)

    def token_line(token):
        return f"{hashlib.sha256(token.encode()).hexdigest()} acme all"

    def reloads():
        return [e for e in gateway.events if e.get("event") in ("reloaded", "not reloaded")]

    def reload(wanted):
        seen = len(reloads())
        for pid in gateway.processes():  # as `pkill -HUP` does: the executor host has to bear it
            os.kill(pid, signal.SIGHUP)
        event = harness.poll(lambda: reloads()[seen:], "a reload")[0]
        check(event["event"] == wanted, f"{wanted} wanted: {event}")
        return event

    def ask(token, ca, status):
        env.sluice("status", "--gateway", gateway.address, "--tls-ca", ca + "/ca.pem", "--token", token, status=status)

    write_tokens(token_line("first"))
    env.give(keys)
    slots = 1 if os.geteuid() == 0 and env.doctor_says("executor", "OCI runtime") else 0
    gateway = env.gateway(tls=True, slots=slots, arguments=[
        "--tls-cert", keys + "/cert.pem", "--tls-key", keys + "/key.pem", "--tokens", tokens])
    mine = env.certificates()["ca"]
    ask("first", mine, 0)
    write_tokens(token_line("second"))
    reload("reloaded")
    ask("first", mine, 1)
    ask("second", mine, 0)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(f"{other}/server/{name}", f"{keys}/{name}")
    env.give(keys)
    reload("reloaded")
    ask("second", mine, 1)
    ask("second", other, 0)
    write_tokens("no line of tokens")
    check(tokens in reload("not reloaded")["why"], "the file is not named")
    ask("second", other, 0)
    write_tokens(token_line("third"))
    os.unlink(keys + "/key.pem")
    check(keys in reload("not reloaded")["why"], "the file is not named")
    ask("third", other, 1)
    ask("second", other, 0)
    gateway.stop()
