#!/usr/bin/env python3
"""A stand-in for the program under test, so that the campaigns can be tested without it, and proved able to fail.

It keeps the command-line contract in the simplest way that is still right: durable in layers, every byte checked. The
variable TOY_BUG plants one fault: blind-verify, blind-records, unchecked-read, exit-0, wrong-names, early-document, needs-unlock,
greedy-prune, litter, no-file-sync, no-dir-sync, write-after-sync, in-place.
"""
import fcntl
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time

BUG = os.environ.get("TOY_BUG", "")
RECOVER = b"# How to get everything back\n" + b"Unpack the packs and put the chunks together.\n" * 40
PIECE = 1 << 20


def sha(data):
    return hashlib.sha256(data).hexdigest()


def zstd(data, *args):
    return subprocess.run(["zstd", "-q", "-c", *args], input=data, capture_output=True, check=True).stdout


class Repo:
    def __init__(self, top):
        self.top, self.problems = top, []

    def path(self, *parts):
        return os.path.join(self.top, *parts)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def names(self, top):
        found = []
        for where, _, names in os.walk(self.path(top)):
            found += [os.path.relpath(os.path.join(where, name), self.top) for name in names]
        return sorted(found)

    def sync_dir(self, directory):
        if BUG != "no-dir-sync":
            fd = os.open(directory, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    def put(self, name, data):
        final = self.path(name)
        if os.path.exists(final):
            return
        directory = os.path.dirname(final)
        if not os.path.isdir(directory):
            os.mkdir(directory)
            self.sync_dir(os.path.dirname(directory))
        os.makedirs(self.path("tmp"), exist_ok=True)
        temporary = final if BUG == "in-place" else self.path("tmp", f"{os.getpid()}-{sha(name.encode())[:8]}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, data)
        if BUG != "no-file-sync":
            os.fsync(fd)
        if BUG == "write-after-sync":
            os.write(fd, b"")
        os.close(fd)
        if BUG != "in-place":
            os.rename(temporary, final)
        self.sync_dir(directory)

    def record(self, **body):
        known = self.names("records")
        body.update(sequence=len(known) + 1, previous=known[-1] if known else None, at=time.time())
        data = json.dumps(body).encode()
        self.put(f"records/{body['sequence']:010d}-{sha(data)}.json", data)

    def records(self):
        """The logbook, as far as its chain holds; what does not is a problem."""
        chain, before = [], None
        for name in self.names("records"):
            data = self.read(name)
            if sha(data) != os.path.basename(name)[11:75]:
                self.problems.append((name, "a record is damaged", []))
            else:
                chain.append(json.loads(data))
                if chain[-1]["previous"] != before:
                    self.problems.append((name, "a record before it is gone", []))
            before = name
        return chain

    def pack(self, name):
        """A pack's chunks; raises ValueError if a byte of it is wrong."""
        data = self.read(name)
        if sha(data) != os.path.basename(name)[:64] and BUG != "unchecked-read":
            raise ValueError(f"{name} is damaged")
        try:
            with tarfile.open(fileobj=io.BytesIO(zstd(data, "-d"))) as tar:
                return {member.name: tar.extractfile(member).read() for member in tar}
        except (subprocess.CalledProcessError, tarfile.TarError) as error:
            raise ValueError(f"{name}: {error}") from error

    def chunks(self):
        """Every chunk that can be read, and which packs could not."""
        found, bad = {}, []
        for name in self.names("packs"):
            try:
                found.update(self.pack(name))
            except ValueError:
                bad.append(name)
        return found, bad

    def document(self, name):
        data = self.read(name)
        if sha(data) != os.path.basename(name)[:64]:
            raise ValueError(f"{name} is damaged")
        return json.loads(data)

    def forgotten(self):
        return {os.path.basename(name)[:64] for name in self.names("tombstones")}


def init(repo):
    os.makedirs(repo.top)
    for name in ("packs", "index", "snapshots", "records", "tombstones", "tmp"):
        os.mkdir(repo.path(name))
    repo.put("repository.json", json.dumps({"version": 1, "id": os.urandom(16).hex()}).encode())
    repo.put("RECOVER.md", RECOVER)
    repo.record(kind="init", repository=sha(repo.read("repository.json")))


def walk(root):
    entries = []
    for where, dirs, names in os.walk(root):
        dirs.sort()
        for path in sorted(os.path.join(where, name) for name in names + dirs) + ([root] if where == root else []):
            info = os.lstat(path)
            entry = {"path": path, "mode": info.st_mode, "mtime": info.st_mtime_ns}
            if stat.S_ISLNK(info.st_mode):
                entry["target"] = os.readlink(path)
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry["path"])


def store(repo, fresh):
    """Writes chunks into packs, then an index of them."""
    index, pending = {}, {}

    def flush():
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for chunk, data in pending.items():
                member = tarfile.TarInfo(chunk)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        data = zstd(out.getvalue(), "-1", "--no-check")
        name = f"packs/{sha(data)[:2]}/{sha(data)}.tar.zst"
        repo.put(name, data)
        index.update(dict.fromkeys(pending, name))
        pending.clear()

    for chunk, data in fresh.items():
        pending[chunk] = data
        if sum(map(len, pending.values())) > PIECE * 3 // 2:
            flush()
    if pending:
        flush()
    if index:
        data = zstd(json.dumps(index).encode())
        repo.put(f"index/{sha(data)}.jsonl.zst", data)


def snapshot(repo, paths, tags):
    lock = repo.path("lock")
    if BUG == "needs-unlock":
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    stored, _ = {}, None
    for name in repo.names("index"):
        stored.update(json.loads(zstd(repo.read(name), "-d")))
    packs = set(repo.names("packs"))
    stored = {chunk: pack for chunk, pack in stored.items() if pack in packs}
    entries, fresh, first = [], {}, {}
    for entry in (entry for path in paths for entry in walk(path)):
        entries.append(entry)
        if stat.S_ISREG(entry["mode"]):
            info = os.lstat(entry["path"])
            link = first.setdefault((info.st_dev, info.st_ino), entry["path"])
            if link != entry["path"]:
                entry["hardlink"] = link
            with open(entry["path"], "rb") as file:
                entry["chunks"] = []
                while piece := file.read(PIECE):
                    entry["chunks"].append(sha(piece))
                    if sha(piece) not in stored:
                        fresh[sha(piece)] = piece
    document = json.dumps({"at": time.time_ns(), "tags": tags, "roots": paths, "entries": entries, "before": len(repo.names("records"))}).encode()
    identity = sha(document)
    if BUG == "early-document":
        repo.put(f"snapshots/{identity}.json", document)
    store(repo, fresh)
    # Between the document and its record there is an instant; this file says that we are in it.
    intent = repo.path("intent")
    if os.path.exists(intent):
        repo.record(kind="recovered")
    with open(intent, "w"):
        pass
    repo.put(f"snapshots/{identity}.json", document)
    repo.record(kind="snapshot", snapshot=identity, repository=sha(repo.read("repository.json")))
    os.unlink(intent)
    if BUG == "needs-unlock":
        os.unlink(lock)
    print(identity)


def listing(repo):
    found = []
    for name in repo.names("snapshots"):
        identity = os.path.basename(name)[:64]
        if identity not in repo.forgotten():
            document = repo.document(name)
            found.append({"id": identity, "tags": document["tags"], "time": document["at"]})
    print(json.dumps({"snapshots": sorted(found, key=lambda s: s["time"])}))


def missing_of(document, chunks):
    """The paths of a snapshot that cannot be restored; a hard link shares the fate of the first."""
    return [entry["path"] for entry in document["entries"] if any(chunk not in chunks for chunk in entry.get("chunks", []))]


def restore(repo, selector, target):
    identity, _, inside = selector.partition(":")
    repository = sha(repo.read("repository.json"))
    if any(record.get("repository", repository) != repository for record in repo.records()):
        sys.exit("repository.json is damaged")
    document = repo.document(f"snapshots/{identity}.json")
    chunks, _ = repo.chunks()
    missing = set(missing_of(document, chunks))
    os.makedirs(target, exist_ok=True)
    directories = []
    for entry in document["entries"]:
        if inside and not (entry["path"] + "/").startswith(inside + "/"):
            continue
        path = os.path.join(target, os.path.relpath(entry["path"], inside) if inside else entry["path"].lstrip("/"))
        if entry["path"] in missing and BUG != "unchecked-read":
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if stat.S_ISDIR(entry["mode"]):
            os.makedirs(path, exist_ok=True)
            directories.append((path, entry))
            continue
        if stat.S_ISLNK(entry["mode"]):
            os.symlink(entry["target"], path)
        elif stat.S_ISREG(entry["mode"]) and "hardlink" in entry:
            os.link(os.path.join(target, os.path.relpath(entry["hardlink"], inside) if inside else entry["hardlink"].lstrip("/")), path)
        elif stat.S_ISREG(entry["mode"]):
            with open(path, "xb") as file:
                for chunk in entry["chunks"]:
                    file.write(chunks.get(chunk, b"garbage"))
            os.chmod(path, stat.S_IMODE(entry["mode"]))
        os.utime(path, ns=(entry["mtime"], entry["mtime"]), follow_symlinks=False)
    for path, entry in reversed(directories):
        os.chmod(path, stat.S_IMODE(entry["mode"]))
        os.utime(path, ns=(entry["mtime"], entry["mtime"]))
    return 3 if missing and BUG != "exit-0" else 0


def verify(repo):
    chunks, bad = repo.chunks()
    repo.problems += [(name, "a pack is damaged", []) for name in bad]
    known, documents = set(), {}
    for record in repo.records() if BUG != "blind-records" else []:
        if record.get("repository") != sha(repo.read("repository.json")):
            repo.problems.append(("repository.json", "is not what the logbook says", []))
        known |= {record["snapshot"]} if record["kind"] == "snapshot" else set()
    for name in repo.names("snapshots"):
        try:
            documents[os.path.basename(name)[:64]] = repo.document(name)
        except ValueError as error:
            repo.problems.append((name, str(error), [os.path.basename(name)[:64]]))
    finished = 0 if os.path.exists(repo.path("intent")) else 1
    counts = [document["before"] + finished for document in documents.values()]
    if len(repo.names("records")) < max(counts, default=0):
        repo.problems.append(("records", "the newest records are gone", []))
    for identity in known - set(documents) - repo.forgotten():
        repo.problems.append((f"snapshots/{identity}.json", "is gone", [identity]))
    if repo.read("RECOVER.md") != RECOVER if os.path.exists(repo.path("RECOVER.md")) else True:
        if BUG != "blind-verify":
            repo.problems.append(("RECOVER.md", "is not what it should be", []))
    indexed = {}
    for name in repo.names("index"):
        data = repo.read(name)
        if sha(data) != os.path.basename(name)[:64]:
            repo.problems.append((name, "an index is damaged", []))
        else:
            indexed.update(json.loads(zstd(data, "-d")))
    unindexed = {chunk for d in documents.values() for e in d["entries"] for chunk in e.get("chunks", [])} - set(indexed)
    if unindexed:
        repo.problems.append(("index", f"{len(unindexed)} chunks are in no index", []))
    for identity, document in documents.items():
        missing = missing_of(document, chunks) if identity not in repo.forgotten() else []
        if missing and BUG != "wrong-names":
            repo.problems.append(("packs", "files are lost", [identity], [{"snapshot": identity, "path": path} for path in missing]))
        elif missing:
            repo.problems.append(("packs", "files are lost", []))
    for name, text, snapshots, *paths in repo.problems:
        print(json.dumps({"message_type": "problem", "code": "damage", "severity": "error", "snapshots": snapshots, "paths": paths[0] if paths else [], "object": name, "text": text}))
    print(json.dumps({"message_type": "summary", "problems": len(repo.problems)}))
    return 40 if repo.problems else 0


def prune(repo):
    forgotten = repo.forgotten()
    # A crash before this point changes nothing; after it, the forgotten are gone and only space is lost.
    for identity in forgotten:
        name = repo.path("snapshots", identity + ".json")
        if os.path.exists(name):
            os.unlink(name)
    used = {chunk for name in repo.names("snapshots") for entry in repo.document(name)["entries"] for chunk in entry.get("chunks", [])}
    if BUG == "greedy-prune" and len(used) > 100:
        used = set(sorted(used)[100:])
    dead, live = [], {}
    for name in repo.names("packs"):
        chunks = repo.pack(name)
        if set(chunks) - used:
            dead.append(name)
            live.update((chunk, data) for chunk, data in chunks.items() if chunk in used)
    store(repo, live)
    for name in dead:
        os.unlink(repo.path(name))
    for name in repo.names("index"):  # an index whose packs are all gone
        if not any(os.path.exists(repo.path(pack)) for pack in json.loads(zstd(repo.read(name), "-d")).values()):
            os.unlink(repo.path(name))
    for name in repo.names("tmp") if BUG != "litter" else []:
        os.unlink(repo.path(name))


def main():
    args, options, tags = sys.argv[1:], {}, []
    words = []
    while args:
        word = args.pop(0)
        if word in ("-r", "--target", "--tag"):
            value = args.pop(0)
            tags.append(value) if word == "--tag" else options.update({word: value})
        elif not word.startswith("-"):
            words.append(word)
    command, *words = words
    repo = Repo(options.get("-r") or os.environ["LIFEBOAT_REPOSITORY"])
    if command == "init":
        return init(repo)
    # One process at a time; the kernel drops the lock when its holder dies.
    with open(repo.path("repository.json"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if command == "snapshot":
            return snapshot(repo, words, tags)
        if command == "snapshots":
            return listing(repo)
        if command == "restore":
            return restore(repo, words[0], options["--target"])
        if command == "verify":
            return verify(repo)
        if command == "forget":
            for identity in words:
                repo.put(f"tombstones/{identity}.json", b"{}")
            return repo.record(kind="forget", forgotten=words, repository=sha(repo.read("repository.json")))
        if command == "prune":
            return prune(repo)
    sys.exit(2)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError) as error:
        sys.exit(f"toy: {error!r}")
