"""Trees of real files for tests: made the same way every time, changed on purpose, and compared in every respect."""
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile

# Where real files are taken from; what a Debian that can build sluice has.
SOURCES = ["/usr/include", "/usr/lib/python3.11", "/usr/share/doc", "/usr/share/perl", "/usr/share"]
FILE_BYTES_MAX = 1 << 20
LINUX_PACKAGE = "linux-source-6.1"


def source_files(source, seen):
    for directory, names, files in os.walk(source):
        names.sort()
        if "__pycache__" in names:
            names.remove("__pycache__")
        for name in sorted(files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if path not in seen and stat.S_ISREG(info.st_mode) and info.st_size <= FILE_BYTES_MAX:
                seen.add(path)
                yield path


def real_files():
    """Paths of regular files, each once, from all sources in turn, so that headers, text and scripts are mixed."""
    seen = set()
    turns = [source_files(source, seen) for source in SOURCES]
    while turns:
        for turn in list(turns):
            path = next(turn, None)
            if path is None:
                turns.remove(turn)
            else:
                yield path


def write_random(path, size, seed):
    generator = random.Random(seed)
    with open(path, "wb") as file:
        while size:
            piece = min(size, 1 << 20)
            file.write(generator.randbytes(piece))
            size -= piece


def has_xattrs(directory):
    probe = os.path.join(directory, ".xattr-probe")
    with open(probe, "wb"):
        pass
    try:
        os.setxattr(probe, "user.sluice", b"x")
        return True
    except OSError:
        return False
    finally:
        os.unlink(probe)


def add_oddities(root):
    """What a tree may hold besides plain files, all of it allowed."""
    odd = os.path.join(root, "odd")
    os.makedirs(os.path.join(odd, "empty", "nested", "empty"))
    with open(os.path.join(odd, "a"), "w", encoding="ascii") as file:
        file.write("linked\n")
    for name in ("b", "z"):
        os.link(os.path.join(odd, "a"), os.path.join(odd, name))
    for mode in (0o600, 0o644, 0o755, 0o444, 0o700, 0o777):
        path = os.path.join(odd, f"mode-{mode:o}")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{mode:o}\n")
        os.chmod(path, mode)
    directory = os.path.join(odd, "directory-0750")
    os.mkdir(directory)
    os.chmod(directory, 0o750)
    for name, target in (("relative", "a"), ("up", "../odd/a"), ("dangling", "no/such/file"), ("absolute", "/usr/include"),
                         ("itself", "itself"), ("long", "x" * 1000)):
        os.symlink(target, os.path.join(odd, "link-" + name))
    open(os.path.join(odd, "empty-file"), "w", encoding="ascii").close()
    for name in (b"n" * 255, b"not-utf8-\xff\xfe", "ünïcödé-名前".encode(), b"new\nline", b" leading blank", b"\x01control",
                 b".wh.whiteout-look-alike", b".wh..wh..opq"):
        with open(os.path.join(os.fsencode(odd), name), "wb") as file:
            file.write(name)
    with open(os.path.join(odd, "sparse"), "wb") as file:
        file.write(b"head")
        file.seek(5_000_000)
        file.write(b"tail")
    os.mkfifo(os.path.join(odd, "fifo"))
    if has_xattrs(odd):
        for path, name, value in (("a", "user.one", b"1"), ("mode-644", "user.binary", bytes(range(256))),
                                  ("directory-0750", "user.of-directory", b"d"), ("mode-755", "user.empty", b"")):
            os.setxattr(os.path.join(odd, path), name, value)
        os.setxattr(os.path.join(odd, "mode-755"), "user.second", b"2")


def make_tree(root, files, big_bytes):
    """`files` real files, the oddities, and one big file of random bytes; returns how many real files there are."""
    count = 0
    for path in itertools.islice(real_files(), files):
        target = os.path.join(root, "real" + path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
        count += 1
    if count < files * 0.6:
        raise RuntimeError(f"only {count} real files found on this machine, {files} wanted")
    add_oddities(root)
    write_random(os.path.join(root, "big.bin"), big_bytes, "big")
    return count


def make_linux_tree(root, cache, big_bytes):
    """Debian's Linux source (about 78,000 files, 1.2 GB) from the package archive, kept unpacked in `cache`."""
    unpacked = os.path.join(cache, LINUX_PACKAGE)
    if not os.path.isdir(unpacked):
        os.makedirs(cache, exist_ok=True)
        work = unpacked + ".part"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        os.chmod(work, 0o777)
        subprocess.run(["apt-get", "-q", "download", LINUX_PACKAGE], cwd=work, check=True, stdin=subprocess.DEVNULL)
        package = next(name for name in os.listdir(work) if name.endswith(".deb"))
        subprocess.run(["dpkg-deb", "-x", package, "package"], cwd=work, check=True)
        os.mkdir(os.path.join(work, "tree"))
        archive = os.path.join(work, "package/usr/src", LINUX_PACKAGE + ".tar.xz")
        subprocess.run(["tar", "--no-same-owner", "-xJf", archive, "-C", os.path.join(work, "tree")], check=True)
        os.rename(os.path.join(work, "tree"), unpacked)
        shutil.rmtree(work)
    copy_tree(unpacked, root)
    add_oddities(root)
    write_random(os.path.join(root, "big.bin"), big_bytes, "big")


def copy_tree(source, target):
    """With everything: links, modes, xattrs, times; sharing blocks where the filesystem can."""
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", source + "/.", target] if os.path.isdir(target) else
                   ["cp", "-a", "--reflink=auto", "--sparse=always", source, target], check=True)


def digest_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def listing(root):
    """{path: what there is to compare}; a hardlink is told by the first path of its group."""
    entries, groups = {}, {}
    top = os.fsencode(root)
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            entries[os.path.relpath(path, top)] = describe(path, os.path.relpath(path, top), groups)
    return entries


def describe(path, relative, groups):
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    entry = {"kind": kind}
    if kind == stat.S_IFLNK:
        entry["target"] = os.readlink(path)
        return entry
    entry["mode"] = stat.S_IMODE(info.st_mode)
    entry["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False)
                       for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")}
    if kind == stat.S_IFREG:
        entry["size"] = info.st_size
        entry["sha256"] = digest_file(path)
    if kind != stat.S_IFDIR and info.st_nlink > 1:
        entry["hardlink"] = groups.setdefault((info.st_dev, info.st_ino), relative)
    return entry


def differences(left, right, limit=10):
    """Human-readable lines, empty when both trees are the same in every respect."""
    a, b = listing(left), listing(right)
    lines = []
    for path in sorted(a.keys() | b.keys()):
        if a.get(path) != b.get(path):
            lines.append(f"{path!r}: {a.get(path)} != {b.get(path)}")
    more = len(lines) - limit
    return lines[:limit] + ([f"and {more} more"] if more > 0 else [])


def small_files(root, count, seed, least=1, most=64 << 10):
    """`count` real files, chosen at random but the same each time."""
    found = []
    for directory, names, files in os.walk(root):
        names.sort()
        if os.path.basename(directory) == "odd":
            names.clear()
            continue
        for name in sorted(files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and least <= info.st_size <= most and info.st_nlink == 1:
                found.append(path)
    return random.Random(seed).sample(found, count)


def change_byte(path, seed):
    generator = random.Random(seed)
    with open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        at = generator.randrange(file.tell())
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 0x55]))


def insert_byte(path, seed):
    """In place of the file, as an editor does it; not in memory."""
    generator = random.Random(seed)
    size = os.path.getsize(path)
    at = generator.randrange(size)
    made = path + ".new"
    with open(path, "rb") as source, open(made, "wb") as target:
        copy_bytes(source, target, at)
        target.write(b"!")
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(made, path)


def copy_bytes(source, target, count):
    while count:
        piece = source.read(min(count, 1 << 20))
        target.write(piece)
        count -= len(piece)


def touch_all(root):
    """Every mtime moves; nothing else does."""
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 3_000_000_000), follow_symlinks=False)


def make_image(path, files, **more):
    """An OCI layout directory of one layer that holds {name: bytes}, all executable. `more` goes into its config."""
    def keep(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{path}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path + "/blobs/sha256")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name in ("bin", "proc", "dev", "tmp", "run", "var", "var/tmp", "work", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    layer = layer.getvalue()
    config = keep(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], **more},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode())
    manifest = keep(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **keep(layer)}]}).encode())
    with open(path + "/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest}]}, file)
    with open(path + "/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
