#!/usr/bin/env python3
"""A second writer of the repository format, made from docs/format.md alone, to test readers with.

  forge.py build DIR OUT [--as /abs/path] [--small]   a valid repository with one snapshot of DIR (again: one more)
  forge.py hostile OUTDIR [CASE ...]                  hostile repositories, each with one fault

Needs Python 3.8 and `zstd`; signs with `ssh-keygen` where that is present. `--small` cuts at 256 bytes to 4 KiB.

`hostile` makes OUTDIR/<case>/repo and OUTDIR/<case>/expect.json, and OUTDIR/canary, which no restore may change. Restore
the newest snapshot of each into OUTDIR/<case>/target (links of some cases count on that depth). expect.json:
  good     paths (below the root, `/r`) that must be restored; `sha256` has the contents of those that are files
  bad      paths that must not be there afterwards (what stands in neither list is the reader's choice)
  whole    true: the snapshot or the repository must be refused, nothing restored
  status   "loss": a restore must not exit 0; "ok": it must; "any": either, but a whole verification must complain
"""
import argparse, base64, codecs, fcntl, functools, grp, hashlib, json, os, pwd, re, secrets, shutil, stat, struct, subprocess, sys
import tempfile, time

MASKS = {8: 0x1800035300, 9: 0x19000353000, 10: 0x590003530000, 11: 0xd90003530000, 12: 0xd90103530000, 13: 0xd90303530000,
         14: 0xd90313530000, 15: 0xd90f03530000, 16: 0xd90303537000, 17: 0xd90703537000, 18: 0xd90707537000, 19: 0xd91707537000,
         20: 0xd91747537000, 21: 0xd91767537000, 22: 0xd93767537000, 23: 0xd93777537000, 7: 0x18035100}
GEAR = [int.from_bytes(hashlib.md5(bytes([i]) * 64).digest()[:8], "big") for i in range(256)]
WORD = (1 << 64) - 1
FLAGS = {"i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80, "C": 0x800000}
KEYS = ["path", "type", "mode", "uid", "gid", "size", "mtime", "ctime", "inode", "links", "user", "group", "target", "device", "hardlink", "flags", "xattrs",
        "holes", "torn"]
SMALL = {"method": "fastcdc-2020", "minimum": 256, "average": 1024, "maximum": 4096}
USUAL = {"method": "fastcdc-2020", "minimum": 131072, "average": 524288, "maximum": 4194304}
codecs.register_error("lone", lambda e: ("".join(f"\\u{ord(c):04x}" for c in e.object[e.start:e.end]), e.end))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def load(path):
    with open(path, "rb") as file:
        return file.read()


def text(name):
    """Bytes of a name as a JSON string's text."""
    return name.decode("utf-8", "surrogateescape")


def dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "lone")


def rfc3339(when=None):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def order(path):
    """The place of a path (text) in the order of paths."""
    return () if path == "." else tuple(path.encode("utf-8", "surrogatepass" if re.search("[\ud800-\udc7f]", path) else "surrogateescape").split(b"/"))


def fastcdc(data, chunking):
    """The chunks of a stream: FastCDC 2020, normalisation level 1, one byte at a time."""
    small, middle, large = chunking["minimum"], chunking["average"], chunking["maximum"]
    bits = middle.bit_length() - 1
    strict, loose = MASKS[bits + 1], MASKS[bits - 1]
    start, chunks = 0, []
    while start < len(data):
        rest = min(len(data) - start, large)
        cut = rest
        if rest > small:
            centre, value = min(middle, rest), 0
            # The published code looks at pairs of bytes; an odd end is never tested.
            for at in range(small, rest - rest % 2):
                value = (value << 1) + GEAR[data[start + at]] & WORD
                if not value & (strict if at < centre - centre % 2 else loose):
                    cut = at
                    break
        chunks.append(data[start:start + cut])
        start += cut
    return chunks


def cut(path, level):
    """The six bits of a path's hash that decide, at this level, whether a chunk of a manifest begins here."""
    value = 0xcbf29ce484222325
    for byte in path.encode("utf-8", "surrogateescape"):
        value = (value ^ byte) * 0x100000001b3 & WORD
    value ^= value >> 32
    value = value * 0x9E3779B97F4A7C15 & WORD
    return value >> (58 - 6 * level) & 63


@functools.lru_cache(maxsize=256)
def compress(data, level=3):
    """One zstd frame with content size and checksum."""
    return subprocess.run(["zstd", "-qc", f"-{level}", "--check", f"--stream-size={len(data)}", "--single-thread"],
                          input=data, stdout=subprocess.PIPE, check=True).stdout


def hand_frame(blocks, descriptor, rest):
    """A zstd frame by hand: `blocks` are (type, size field, bytes)."""
    out = [b"\x28\xb5\x2f\xfd", bytes([descriptor]), rest]
    for index, (kind, size, data) in enumerate(blocks):
        out.append(struct.pack("<I", size << 3 | kind << 1 | (index == len(blocks) - 1))[:3] + data)
    return b"".join(out)


def ustar(name, size):
    head = struct.pack("100s8s8s8s12s12s8s1s100s8s", name.encode(), b"0000400\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
                       b"00000000000\0", b" " * 8, b"0", b"", b"ustar\00000").ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def member(data, name=None):
    return ustar(name or sha(data), len(data)) + data + bytes(-len(data) % 512)


def seek_table(frames, count=None):
    body = b"".join(struct.pack("<II", stored, plain) for stored, plain in frames)
    tail = struct.pack("<IBI", len(frames) if count is None else count, 0, 0x8F92EAB1)
    return struct.pack("<II", 0x184D2A5E, len(body) + len(tail)) + body + tail


class Hooks:
    """Where a hostile pack may differ. Each takes and gives back what the format would have there."""
    group = staticmethod(lambda group: group)                 # [(name, data)] of a frame, as the table will have it
    plain = staticmethod(lambda plain: plain)                 # a content frame, uncompressed
    stored = staticmethod(lambda stored, plain: stored)       # a content frame, compressed
    table = staticmethod(lambda lines: lines)                 # the table's lines as objects (or bytes)
    last = staticmethod(lambda stored, plain: stored)         # the last frame, compressed
    seek = staticmethod(lambda frames: seek_table(frames))
    whole = staticmethod(lambda data: data)                   # the pack's bytes
    name = staticmethod(lambda name: name)
    index = staticmethod(lambda lines: lines)                 # this pack's lines in the index


def make_pack(chunks, kind, target, hooks=Hooks):
    """A pack of [(name, data)]: its bytes and its lines for the index."""
    groups, size = [], 0
    for name, data in chunks:
        length = 512 + len(data) + -len(data) % 512
        if not groups or size + length > target:
            groups.append([])
            size = 0
        groups[-1].append((name, data))
        size += length
    out, seek, lines = [], [], [{"lifeboat": "pack", "version": 1, "kind": kind, "frames": len(groups)}]
    for group in groups:
        plain = hooks.plain(b"".join(member(data, name) for name, data in group))
        stored = hooks.stored(compress(plain), plain)
        out.append(stored)
        seek.append((len(stored), len(plain)))
        lines.append({"bytes": len(stored), "chunks": [[name, len(data)] for name, data in hooks.group(group)]})
    lines = hooks.table(lines)
    table = b"".join((line if type(line) is bytes else dump(line)) + b"\n" for line in lines)
    plain = member(table) + bytes(1024)
    stored = hooks.last(compress(plain), plain)
    data = hooks.whole(b"".join(out) + stored + hooks.seek(seek + [(len(stored), len(plain))]))
    head = {"pack": hooks.name(sha(data)), "bytes": len(data), "kind": kind, "frames": len(groups)}
    return data, hooks.index([head] + lines[1:])


class Forge:
    """A repository that is being written."""

    def __init__(self, out, chunking=None, key=None):
        self.out, self.pending, self.stored, self.packs, self.index, self.key = out, {}, set(), [], [], key
        self.hooks = {"content": Hooks, "manifest": Hooks}
        self.frame_target, self.pack_target, self.previous, self.sequence = 2097152, 33554432, None, 0
        self.chunking = chunking or USUAL
        if os.path.exists(os.path.join(out, "repository.json")):
            about = json.loads(load(os.path.join(out, "repository.json")))
            self.id, self.chunking, self.frame_target = about["id"], about["chunking"], about["frame_target"]
            for name in os.listdir(os.path.join(out, "snapshots")):
                if name.endswith(".json"):
                    number = json.loads(load(os.path.join(out, "snapshots", name)))["sequence"]
                    if number > self.sequence:
                        self.sequence, self.previous = number, name[:-5]
        else:
            self.id = secrets.token_hex(16)
            self.put("repository.json", self.about())
            here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "repo")
            for name in ("RECOVER.md", "recover.py"):
                if os.path.exists(os.path.join(here, name)):
                    self.put(name, load(os.path.join(here, name)))
        if key is None and shutil.which("ssh-keygen"):
            self.key = os.path.join(os.path.dirname(os.path.abspath(out)), os.path.basename(out) + ".key")
            if not os.path.exists(self.key):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "forge", "-f", self.key], check=True)
        if self.key:
            public = load(self.key + ".pub")
            self.writer = sha(public)[:16]
            self.put(f"writers/{sha(public)}.pub", public)

    def about(self, **more):
        return dump({"lifeboat": "repository", "version": 1, "id": self.id, "created": rfc3339(), "features": [], "chunking": self.chunking,
                     "frame_target": self.frame_target, "pack_target": self.pack_target, "recipients": [], **more})

    def put(self, path, data):
        """An object, durable before it has its name."""
        path = os.path.join(self.out, path)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.makedirs(os.path.join(self.out, "tmp"), 0o700, exist_ok=True)
        name = os.path.join(self.out, "tmp", secrets.token_hex(8))
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
        os.rename(name, path)

    def chunk(self, data, kind="content", name=None):
        name = name or sha(data)
        if name not in self.stored and data:
            self.stored.add(name)
            self.pending.setdefault(kind, []).append((name, data))
            if sum(len(d) for _, d in self.pending[kind]) >= self.pack_target:
                self.flush(kind)
        return name

    def flush(self, *kinds):
        for kind in kinds:
            chunks = self.pending.pop(kind, [])
            if chunks:
                data, lines = make_pack(chunks, kind, self.frame_target, self.hooks[kind])
                name = self.hooks[kind].name(sha(data))
                self.put(f"packs/{name[:2]}/{name}.tar.zst", data)
                self.packs.append(name)
                self.index += lines

    def stream(self, data):
        parts = [data] if 0 < len(data) <= self.chunking["minimum"] else fastcdc(data, self.chunking)
        return [self.chunk(part) for part in parts]

    def cut_lines(self, lines, level):
        """[(first path, bytes, entries)] into the list of their chunks."""
        groups, size = [], 0
        for path, line, entries in lines:
            if not groups or cut(path, level) == 0 or len(groups[-1]) >= 1024 or size >= 1 << 20:
                groups.append([])
                size = 0
            groups[-1].append((path, line, entries))
            size += len(line)
        return [{"first": g[0][0], "chunk": self.chunk(b"".join(x[1] for x in g), "manifest"), "entries": sum(x[2] for x in g)} for g in groups]

    def manifest(self, entries):
        """`entries` are objects in order, or bytes that are written as they are."""
        lines = [(e.get("path", ""), dump(e) + b"\n", 1) if type(e) is dict else ("", e, 1) for e in entries]
        found, level = self.cut_lines(lines, 0), 0
        while len(found) > 128 and level < 8:
            shorter = self.cut_lines([(x["first"], dump(x) + b"\n", x["entries"]) for x in found], level + 1)
            if len(shorter) >= len(found):
                break
            found, level = shorter, level + 1
        return {"level": level, "entries": len(entries), "chunks": found}

    def sign(self, data, namespace, key=None):
        with tempfile.TemporaryDirectory() as place:
            file = os.path.join(place, "x")
            with open(file, "wb") as plain:
                plain.write(data)
            subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key or self.key, "-n", namespace, file], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return load(file + ".sig")

    def write_index(self, lines=None):
        data = compress(b"".join((x if type(x) is bytes else dump(x)) + b"\n" for x in lines or self.index))
        self.put(f"index/{sha(data)}.jsonl.zst", data)

    def commit(self, roots, edit=lambda document: document, name=None, index=True, signature=None, final=lambda data: data):
        """The rest of a snapshot, in the order of section 9. `roots` are [(path, manifest)]."""
        self.flush("content", "manifest")
        if index and self.index:
            self.write_index()
            self.index = []
        packs, listed = sorted(self.packs), {}
        if len(packs) > 256:
            listed["packs_chunk"] = self.chunk("".join(p + "\n" for p in packs).encode(), "manifest")
            self.flush("manifest")
            self.write_index()
        self.sequence += 1
        session = secrets.token_hex(16)
        document = {"lifeboat": "snapshot", "version": 1, "repository": self.id, "host": "forge", "user": "forge", "tool": "forge.py 1",
                    "sequence": self.sequence, "previous": self.previous, "parent": None, "started": rfc3339(), "finished": rfc3339(),
                    "reason": "a test", "tags": ["forged"], "roots": [{"path": path, "manifest": m} for path, m in roots],
                    **(listed or {"packs": packs}),
                    "statistics": {"files": 0, "directories": 0, "others": 0, "bytes": 0, "new_files": 0, "changed_files": 0,
                                   "unchanged_files": 0, "stored_bytes": 0, "torn": 0, "skipped": 0},
                    "problems": [], "session": session, "logbook": None}
        data = edit(document)
        data = final(data if type(data) is bytes else dump(data))
        self.previous = name or sha(data)
        if self.key and signature is not False:
            self.put(f"snapshots/{self.previous}.sig", signature or self.sign(data, "lifeboat-snapshot"))
        self.put(f"snapshots/{self.previous}.json", data)
        if self.key:
            directory = os.path.join(self.out, "records", self.writer)
            before = sorted(n for n in os.listdir(directory) if n.endswith(".json")) if os.path.isdir(directory) else []
            record = dump({"lifeboat": "record", "version": 1, "repository": self.id, "writer": self.writer, "sequence": len(before) + 1,
                           "previous": before[-1][11:-5] if before else None, "at": rfc3339(), "host": "forge", "user": "forge",
                           "kind": "snapshot", "body": {"snapshot": self.previous}})
            path = f"records/{self.writer}/{len(before) + 1:010d}-{sha(record)}"
            self.put(path + ".sig", self.sign(record, "lifeboat-record"))
            self.put(path + ".json", record)
        return self.previous

    # -- a tree of the file system
    def tree(self, directory):
        """The entries of a directory, in order. Works by descriptors, so a path may have any length."""
        inodes, entries = {}, []

        def visit(parent, name, path):
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
                    stat.S_IFCHR: "char", stat.S_IFBLK: "block"}[stat.S_IFMT(info.st_mode)]
            real = kind in ("file", "dir")
            handle = os.open(name, (os.O_RDONLY if real else os.O_PATH) | os.O_NOFOLLOW, dir_fd=parent)
            where = handle if real else f"/proc/self/fd/{handle}"
            entry = {"path": text(path), "type": kind, "mode": f"{stat.S_IMODE(info.st_mode):o}", "uid": info.st_uid, "gid": info.st_gid}
            if kind in ("file", "symlink"):
                entry["size"] = info.st_size
            entry["mtime"] = list(divmod(info.st_mtime_ns, 10 ** 9))
            entry["ctime"] = list(divmod(info.st_ctime_ns, 10 ** 9))
            entry["inode"] = info.st_ino
            if info.st_nlink > 1 and kind != "dir":
                entry["links"] = info.st_nlink
            for word, find in (("user", lambda: pwd.getpwuid(info.st_uid)[0]), ("group", lambda: grp.getgrgid(info.st_gid)[0])):
                try:
                    entry[word] = find()
                except KeyError:
                    pass
            if kind == "symlink":
                entry["target"] = text(os.readlink(os.fsencode(name), dir_fd=parent))
            if kind in ("char", "block"):
                entry["device"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
            first = inodes.setdefault((info.st_dev, info.st_ino), entry["path"])
            if first != entry["path"]:
                entry["hardlink"] = first
            if real:
                try:
                    value = struct.unpack("L", fcntl.ioctl(handle, 0x80086601, bytes(8)))[0]
                    letters = "".join(letter for letter, bit in FLAGS.items() if value & bit)
                    if letters:
                        entry["flags"] = letters
                except OSError:
                    pass
            names = os.listxattr(where)
            if names:
                entry["xattrs"] = {n: base64.b64encode(os.getxattr(where, n)).decode() for n in sorted(names)}
            if kind == "file":
                holes, data, at = [], [], 0
                while at < info.st_size:
                    try:
                        begin = os.lseek(handle, at, os.SEEK_DATA)
                    except OSError:
                        begin = info.st_size
                    if begin > at:
                        holes.append([at, begin - at])
                    if begin >= info.st_size:
                        break
                    at = os.lseek(handle, begin, os.SEEK_HOLE)
                    data.append(os.pread(handle, at - begin, begin))
                if holes:
                    entry["holes"] = holes
                chunks = self.stream(b"".join(data))
                if chunks:
                    entry["chunks"] = chunks
            entries.append(entry)
            if kind == "dir":
                for below in sorted(map(os.fsencode, os.listdir(handle))):
                    visit(handle, below, below if path == b"." else path + b"/" + below)
            os.close(handle)
        visit(None, os.fsencode(directory), b".")
        return entries


# ---------------------------------------------------------------------------------------------------- hostile repositories
GONE = object()
CASES = {}


class Hostile(Forge):
    """One hostile repository. `good`, `bad`, … become its expect.json."""

    def __init__(self, place, canary, key):
        os.makedirs(place)
        super().__init__(os.path.join(place, "repo"), key=key)
        self.place, self.canary, self.good, self.bad, self.whole, self.status, self.contents = place, canary, [], [], False, "loss", {}
        self.entries = [self.dir("."), self.dir("good"), self.file("good/one"), self.file("good/two", b"2" * 5000),
                        self.dir("zgood"), self.file("zgood/last")]
        self.good = [e["path"] for e in self.entries]

    def entry(self, path, kind, more):
        entry = {"path": path, "type": kind, "mode": "755" if kind == "dir" else "644", "uid": os.getuid(), "gid": os.getgid(),
                 "mtime": [1700000000, 5], "ctime": [1700000000, 5], "inode": 7, **more}
        # in the order of the format (what it does not know goes before the chunks), so that a case has the one fault it is about
        place = {key: index for index, key in enumerate(KEYS)}
        keys = sorted(entry, key=lambda key: place.get(key, len(KEYS) + (key == "chunks")))
        return {k: entry[k] for k in keys if entry[k] is not GONE}

    def dir(self, path, **more):
        return self.entry(path, "dir", more)

    def link(self, path, to, **more):
        return self.entry(path, "symlink", {"size": len(to) if type(to) is str else 1, "target": to, **more})

    def file(self, path, data=None, **more):
        data = f"the file {path}\n".encode("utf-8", "backslashreplace") if data is None else data
        self.contents[path] = sha(data)
        return self.entry(path, "file", {"size": len(data), "chunks": self.stream(data), **more})

    def add(self, *entries, bad=None, good=()):
        """Adds entries in the right place; they are bad unless said otherwise."""
        self.entries += entries
        self.entries.sort(key=lambda e: order(e["path"]))
        self.bad += [e["path"] for e in entries] if bad is None else bad
        self.good += good

    def manifest(self, entries):
        """One chunk, so that a fault does not happen to be the first of one; longer ones are cut as usual."""
        data = b"".join(dump(e) + b"\n" for e in entries)
        if len(data) > 1 << 20:
            return super().manifest(entries)
        return {"level": 0, "entries": len(entries), "chunks": [{"first": entries[0]["path"], "chunk": self.chunk(data, "manifest"), "entries": len(entries)}]}

    def finish(self, **how):
        return self.commit([("/r", self.manifest(self.entries))], **how)

    def lines(self, *extra):
        """The manifest's lines as bytes, with raw ones added before the last two entries."""
        lines = [dump(e) + b"\n" for e in self.entries]
        return lines[:-2] + [x if x.endswith(b"\n") else x + b"\n" for x in extra] + lines[-2:]

    def raw(self, *extra, **how):
        data = b"".join(self.lines(*extra))
        listed = [{"first": ".", "chunk": self.chunk(data, "manifest"), "entries": data.count(b"\n")}]
        return self.commit([("/r", {"level": 0, "entries": data.count(b"\n"), "chunks": listed})], **how)

    def expect(self, case, why):
        if self.whole:
            self.bad, self.good = self.bad + self.good, []
        bad = [b for b in self.bad if b not in self.good]
        with open(os.path.join(self.place, "expect.json"), "w") as file:
            json.dump({"case": case, "why": why, "good": self.good, "bad": bad, "whole": self.whole, "status": self.status,
                       "sha256": {p: self.contents[p] for p in self.good if p in self.contents}}, file, indent=1)


def case(name, why):
    def keep(make):
        assert name not in CASES, name
        CASES[name] = (why, make)
        return make
    return keep


def simple(name, why, build, good=False, choice=False, status=None):
    """A case of one or more extra entries."""
    def make(h):
        made = build(h)
        made = made if isinstance(made, (list, tuple)) else [made]
        paths = [e["path"] for e in made]
        h.add(*made, bad=[] if good or choice else None, good=paths if good else ())
        h.status = status or ("ok" if good else "loss")
        h.finish()
    case(name, why)(make)


def line(name, why, build, bad=("good/x",)):
    """A case of one raw line."""
    def make(h):
        h.bad += bad
        made = build(h)
        h.raw(*(made if isinstance(made, (list, tuple)) else [made]))
    case(name, why)(make)


def faulty(name, why, **more):
    """A file whose one key has a wrong value (GONE: is missing)."""
    simple(name, why, lambda h: h.file("good/x", **{k: v(h) if callable(v) else v for k, v in more.items()}))


# paths
for name, why, path in [
        ("path-dotdot", "a path that leaves the root", "../canary/evil"),
        ("path-dotdot-deep", "a path that leaves the root", "../../../canary/evil"),
        ("path-dotdot-middle", "`..` in the middle", "good/../../../../canary/evil"),
        ("path-dotdot-inside", "`..` that stays inside", "good/../good/evil"),
        ("path-dotdot-end", "`..` at the end", "good/.."),
        ("path-dotdot-only", "`..` alone", ".."),
        ("path-absolute", "an absolute path", None),
        ("path-slash", "the path `/`", "/"),
        ("path-double-slash", "an empty component", "good//evil"),
        ("path-trailing-slash", "an empty last component", "good/evil/"),
        ("path-dot-middle", "`.` in the middle", "good/./evil"),
        ("path-dot-first", "`.` at the beginning", "./evil"),
        ("path-dot-last", "`.` at the end", "good/."),
        ("path-nul", "a NUL by \\u0000", "good/evil\0.txt"),
        ("path-256", "a name of 256 bytes", "good/" + "x" * 256),
        ("path-256-utf8", "a name of 128 characters in 256 bytes", "good/" + "é" * 128),
        ("path-100k", "a path of 100 KiB without its parents", "good" + "/y" * 51200),
        ("path-name-1m", "a name of 1 MiB", "good/" + "z" * (1 << 20)),
        ("path-orphan", "an entry without its parent directory", "missing/evil"),
        ("path-orphan-deep", "two parents are missing", "good/missing/too/evil")]:
    simple(name, why, lambda h, path=path: h.file((h.canary + "/evil") if path is None else path))
for name, why, path in [
        ("name-255", "a name of 255 bytes is allowed", "good/" + "x" * 255),
        ("name-backslash", "backslashes are ordinary bytes", "good/..\\..\\x"),
        ("name-fraction-slash", "U+2215 looks like a slash and is none", "good/..∕..∕x"),
        ("name-overlong", "the bytes C0 AF are no slash", "good/..\udcc0\udcaf..\udcc0\udcafx"),
        ("name-dots", "`...` is a name", "good/..."),
        ("name-newline", "newline, ESC and bidi", "good/a\n\x1b[2J\u202e"),
        ("name-dash", "a leading dash", "good/-rf *")]:
    simple(name, why, lambda h, path=path: h.file(path), good=True)
for name, why, text_ in [
        ("surrogate-slash", "U+DC2F is not the escape of a byte", "good\\udc2fevil"),
        ("surrogate-dots", "U+DC2E is not the escape of a byte", "\\udc2e\\udc2e/evil"),
        ("surrogate-nul", "U+DC00 is not the escape of a byte", "good/evil\\udc00"),
        ("surrogate-high", "a lone high surrogate", "good/evil\\ud800"),
        ("surrogate-swapped", "a pair in the wrong order", "good/evil\\udfff\\ud800")]:
    line(name, why, lambda h, t=text_: dump(h.file("PATH")).replace(b"PATH", t.encode(), 1), bad=["good/evil", "evil"])
line("utf8-raw", "bytes that are not UTF-8 in a line", lambda h: dump(h.file("good/xPATH")).replace(b"xPATH", b"x\xff\xfe", 1), bad=[])
simple("alias-escape", "one name twice: as é and as the escapes of its bytes",
       lambda h: [h.file("good/é"), {**h.file("other", b"other"), "path": "good/\udcc3\udca9"}], choice=True)
simple("deep-4000", "4,000 directories deep is allowed", lambda h: [h.dir("/".join(["d"] * n)) for n in range(1, 4001)] + [h.file("d/" * 4000 + "f")],
       good=True)
simple("path-7k", "a path of 7 KB is allowed", lambda h: [h.dir("/".join(["e" * 250] * n)) for n in range(1, 29)] + [h.file("/".join(["e" * 250] * 28) + "/f")],
       good=True)

# duplicates, order, wrong parents
simple("twice-file", "one path twice", lambda h: [h.file("good/x"), h.file("good/x", b"second")], choice=True)
simple("twice-directory", "one directory twice", lambda h: [h.dir("good/x"), h.dir("good/x", mode="700")], choice=True)
simple("twice-root", "the root twice", lambda h: h.dir("."), choice=True)
simple("twice-symlink-file", "a file over a symlink", lambda h: [h.link("good/x", h.canary + "/file"), h.file("good/x", b"evil")], choice=True)
simple("twice-symlink-directory", "a directory over a symlink: its mode must not go through",
       lambda h: [h.link("good/x", h.canary), h.dir("good/x", mode="777")], choice=True)
simple("twice-directory-symlink", "a directory turned into a symlink, then an entry below",
       lambda h: [h.dir("good/x"), h.link("good/x", h.canary), h.file("good/x/file", b"evil")], choice=True)
simple("twice-file-directory", "a directory over a file", lambda h: [h.file("good/x"), h.dir("good/x"), h.file("good/x/y")], choice=True)
simple("twice-fifo-file", "a file over a fifo", lambda h: [h.entry("good/x", "fifo", {}), h.file("good/x", b"evil")], choice=True)


@case("order-unsorted", "an entry in the wrong place")
def _(h):
    h.entries.append(h.file("good/a"))
    h.bad += ["good/a"]
    h.finish()


@case("order-bytes", "sorted by bytes and not by components: a, a-b, a/b")
def _(h):
    h.entries[1:1] = [h.dir("a"), h.file("a-b"), h.file("a/b")]
    h.bad += ["a/b"]
    h.good += ["a", "a-b"]
    h.finish()


@case("order-child-first", "a file before its directory")
def _(h):
    h.entries[-2:] = reversed(h.entries[-2:])
    h.good = h.good[:-2]
    h.bad += ["zgood/last"]
    h.finish()


@case("order-reversed", "all entries backwards")
def _(h):
    h.entries.reverse()
    h.good = []
    h.finish()


for name, why, build in [
        ("below-symlink-absolute", "an entry below an absolute symlink", lambda h: [h.link("good/x", h.canary), h.file("good/x/file", b"evil")]),
        ("below-symlink-relative", "an entry below a relative symlink", lambda h: [h.link("good/x", "../../../../canary"), h.file("good/x/file", b"evil")]),
        ("below-symlink-relative-2", "the same for a target that is the root", lambda h: [h.link("good/x", "../../../canary"), h.file("good/x/file", b"evil")]),
        ("below-symlink-inside", "an entry below a symlink that stays inside", lambda h: [h.link("good/x", "../good"), h.file("good/x/evil", b"evil")]),
        ("below-symlink-chain", "an entry below a chain of symlinks",
         lambda h: [h.link("good/w", h.canary), h.link("good/x", "w"), h.file("good/x/file", b"evil")]),
        ("below-symlink-deep", "a directory below a symlink", lambda h: [h.link("good/x", h.canary), h.dir("good/x/dir"), h.file("good/x/dir/evil")]),
        ("below-symlink-proc", "a symlink into /proc", lambda h: [h.link("good/x", "/proc/self/root" + h.canary), h.file("good/x/file", b"evil")]),
        ("below-file", "an entry below a file", lambda h: [h.file("good/x"), h.file("good/x/evil")]),
        ("below-fifo", "an entry below a fifo", lambda h: [h.entry("good/x", "fifo", {}), h.file("good/x/evil")]),
        ("below-socket", "an entry below a socket", lambda h: [h.entry("good/x", "socket", {}), h.file("good/x/evil")]),
        ("below-bad", "an entry below a directory that is refused", lambda h: [h.dir("good/x", mode="99"), h.file("good/x/evil")])]:
    def make(h, build=build):
        made = build(h)
        h.add(*made, bad=[made[-1]["path"]])
        h.finish()
    case(name, why)(make)

# hard links
for name, why, first, second in [
        ("hardlink-dotdot", "to outside by `..`", None, {"hardlink": "../../../canary/file"}),
        ("hardlink-absolute", "to an absolute path", None, {"hardlink": lambda h: h.canary + "/file"}),
        ("hardlink-directory", "to a directory", None, {"hardlink": "good"}),
        ("hardlink-root", "to the root", None, {"hardlink": "."}),
        ("hardlink-self", "to itself", None, {"hardlink": "good/x"}),
        ("hardlink-later", "to a later entry", None, {"hardlink": "zgood/last"}),
        ("hardlink-missing", "to nothing", None, {"hardlink": "good/nothing"}),
        ("hardlink-empty", "to the empty path", None, {"hardlink": ""}),
        ("hardlink-number", "to a number", None, {"hardlink": 5}),
        ("hardlink-symlink", "a file that is a link to a symlink that points out", lambda h: h.link("good/a", h.canary + "/file", links=2), {"hardlink": "good/a"}),
        ("hardlink-through-symlink", "through a symlinked directory", lambda h: h.link("good/a", h.canary, links=2), {"hardlink": "good/a/file"}),
        ("hardlink-fifo", "a file that is a link to a fifo", lambda h: h.entry("good/a", "fifo", {"links": 2}), {"hardlink": "good/a"}),
        ("hardlink-other-size", "a link that says another size", lambda h: h.file("good/a", links=2), {"hardlink": "good/a", "size": 1}),
        ("hardlink-other-content", "a link that says other content", lambda h: h.file("good/a", links=2), {"hardlink": "good/a"})]:
    def make(h, first=first, second=second):
        if first:
            h.add(first(h), bad=[])
        h.add(h.file("good/x", b"evil", links=2, **{k: v(h) if callable(v) else v for k, v in second.items()}))
        h.finish()
    case(name, "a hard link " + why if first is None else why)(make)
simple("hardlink-good", "a hard link as it should be",
       lambda h: [h.file("good/a", b"same", links=2), h.file("good/x", b"same", links=2, hardlink="good/a")], good=True)

# what a restore must not make carelessly
simple("device-null", "device nodes", lambda h: [h.entry("good/x", "char", {"device": [1, 3]}), h.entry("good/y", "block", {"device": [7, 0]})], choice=True,
       status="any")
simple("device-missing", "a device without numbers", lambda h: h.entry("good/x", "char", {}))
simple("device-negative", "a device with negative numbers", lambda h: h.entry("good/x", "block", {"device": [-1, -1]}))
simple("device-huge", "a device with numbers of 64 bits", lambda h: h.entry("good/x", "char", {"device": [1 << 63, 1 << 63]}))
simple("device-three", "a device with three numbers", lambda h: h.entry("good/x", "char", {"device": [1, 2, 3]}))
simple("setuid", "set-user-id files of root", lambda h: [h.file("good/x", mode="6755", uid=0, gid=0)], choice=True, status="any")
simple("setuid-directory", "a directory 7777", lambda h: h.dir("good/x", mode="7777"), choice=True, status="any")

# sizes and holes
faulty("size-plus", "one byte more than its chunks", size=20)
faulty("size-minus", "one byte less than its chunks", size=3)
faulty("size-negative", "negative", size=-1)
faulty("size-2-63", "2^63", size=1 << 63)
faulty("size-2-64", "2^64", size=1 << 64)
faulty("size-2-53", "2^53", size=1 << 53)
faulty("size-huge", "2^52 with one chunk", size=1 << 52)
faulty("size-no-chunks", "a size and no chunks", size=1 << 40, chunks=[])
faulty("size-text", "text", size="16")
faulty("size-fraction", "a fraction", size=16.0)
faulty("size-true", "true", size=True)
faulty("size-missing", "missing", size=GONE)
faulty("size-exponent", "a number of 400 digits", size=10 ** 400)
for name, why, size, holes in [
        ("holes-overlap", "overlapping", 4096 * 4 - 100 + 15, [[0, 8192], [4096, 8192]]),
        ("holes-touching", "touching", 8192 + 15, [[0, 4096], [4096, 4096]]),
        ("holes-unordered", "not in order", 8192 + 15, [[6000, 4096], [0, 4096]]),
        ("holes-beyond", "beyond the size", 15 + 4096, [[15, 8192]]),
        ("holes-negative-offset", "a negative offset", 4096 + 15, [[-4096, 4096]]),
        ("holes-negative-length", "a negative length", 15 - 5, [[5, -5]]),
        ("holes-empty", "a length of nothing", 15, [[5, 0]]),
        ("holes-overflow", "offset and length together above 2^64", 15, [[1 << 62, (1 << 64) - (1 << 62)]]),
        ("holes-2-63", "2^63", 15, [[(1 << 63) - 1, (1 << 63) - 1]]),
        ("holes-single", "one number", 4096 + 15, [[4096]]),
        ("holes-text", "text", 4096 + 15, "0,4096"),
        ("holes-object", "an object", 4096 + 15, {"0": 4096}),
        ("holes-all", "nothing but holes, yet with a chunk", 15, [[0, 15]])]:
    simple(name, "holes: " + why, lambda h, size=size, holes=holes: h.file("good/x", b"fifteen bytes!!", size=size, holes=holes))
simple("holes-good", "holes as they should be", lambda h: h.entry("good/x", "file", {"size": 1 << 33, "holes": [[0, 1 << 33]]}), good=True)

# chunks of files
faulty("chunks-more", "one chunk too many", chunks=lambda h: [h.chunk(b"the file good/x\n")] * 2)
faulty("chunks-fewer", "no chunks", chunks=[])
faulty("chunks-none", "no chunks", chunks=GONE)
faulty("chunks-unknown", "a chunk in no pack", chunks=["ab" * 32])
faulty("chunks-upper", "upper case", chunks=lambda h: [h.chunk(b"the file good/x\n").upper()])
faulty("chunks-short", "a short name", chunks=lambda h: [h.chunk(b"the file good/x\n")[:63]])
faulty("chunks-path", "a path for a name", chunks=["../../../canary/file"])
faulty("chunks-text", "text", chunks="ab" * 32)
faulty("chunks-nested", "lists in the list", chunks=[["ab" * 32]])
faulty("chunks-null", "null", chunks=[None])
faulty("chunks-swapped", "another file's chunk of another size", chunks=lambda h: [h.chunk(b"2" * 5000)])

# attributes
for name, why, xattrs in [
        ("xattr-long-name", "a name of 300 bytes", {"user." + "n" * 300: "eA=="}),
        ("xattr-nul", "a NUL in a name", {"user.a\0b": "eA=="}),
        ("xattr-empty-name", "no name", {"": "eA=="}),
        ("xattr-no-namespace", "no name space", {"plain": "eA=="}),
        ("xattr-large", "a value of 1 MiB", {"user.x": base64.b64encode(b"x" * (1 << 20)).decode()}),
        ("xattr-many", "10,000 attributes", {f"user.{n}": "eA==" for n in range(10000)}),
        ("xattr-base64", "no base64", {"user.x": "!!!!"}),
        ("xattr-unpadded", "base64 without padding", {"user.x": "eA"}),
        ("xattr-url", "the alphabet for addresses", {"user.x": "-_-_"}),
        ("xattr-spaces", "base64 with a space", {"user.x": "eA =="}),
        ("xattr-number", "a number for a value", {"user.x": 5}),
        ("xattr-null", "null for a value", {"user.x": None}),
        ("xattr-acl", "an ACL of garbage", {"system.posix_acl_access": "Z2FyYmFnZQ=="}),
        ("xattr-capability", "a capability of garbage", {"security.capability": "Z2FyYmFnZQ=="}),
        ("xattr-list", "a list", ["user.x"]),
        ("xattr-text", "text", "user.x")]:
    simple(name, "xattrs: " + why, lambda h, x=xattrs: h.file("good/x", xattrs=x), choice=True)
line("xattr-twice", "one attribute twice", lambda h: dump(h.file("good/x", xattrs={"user.A": "eA==", "user.B": "eA=="})).replace(b"user.B", b"user.A"), bad=[])
for name, why, mtime in [
        ("time-nanoseconds", "10^9 nanoseconds", [1, 10 ** 9]), ("time-negative-nanoseconds", "-1 nanoseconds", [1, -1]),
        ("time-2-63", "2^63 seconds", [1 << 63, 0]), ("time-minus-2-63", "less than -2^63 seconds", [-(1 << 63) - 1, 0]),
        ("time-fraction", "a fraction", [1.5, 0]), ("time-number", "a number", 1700000000), ("time-one", "one number", [1]),
        ("time-three", "three numbers", [1, 2, 3]), ("time-text", "text", "2026-01-01T00:00:00Z"), ("time-missing", "none", GONE),
        ("time-null", "null", None)]:
    faulty(name, "mtime: " + why, mtime=mtime)
simple("time-old", "times of 1901 and 2400 are allowed", lambda h: [h.file("good/x", mtime=[-2147483648, 1]), h.file("good/y", mtime=[7000000000, 1])], good=True)
for name, why, mode in [("mode-letters", "letters", "rw-r--r--"), ("mode-large", "above 7777", "17777"), ("mode-number", "a number", 420),
                        ("mode-empty", "empty", ""), ("mode-negative", "negative", "-1"), ("mode-prefix", "a prefix", "0o644"), ("mode-eight", "no octal digit", "648"),
                        ("mode-space", "a space", " 644"), ("mode-newline", "a newline", "644\n"), ("mode-digits", "digits of another script", "٦٤٤"),
                        ("mode-missing", "missing", GONE)]:
    faulty(name, "mode: " + why, mode=mode)
for name, why, uid in [("uid-negative", "-1", -1), ("uid-no-change", "2^32-1 means `no change` to chown", (1 << 32) - 1), ("uid-2-32", "2^32", 1 << 32),
                       ("uid-2-64", "2^64", 1 << 64), ("uid-text", "text", "0"), ("uid-missing", "missing", GONE)]:
    faulty(name, "uid: " + why, uid=uid)
faulty("gid-no-change", "gid: 2^32-1 means `no change` to chown", gid=(1 << 32) - 1)
faulty("links-text", "links: text", links="many")
faulty("type-unknown", "an unknown type", type="door")
faulty("type-missing", "no type", type=GONE)
faulty("type-number", "a number for a type", type=5)
faulty("type-case", "a type in upper case", type="FILE")
simple("inode-large", "an inode of 2^64-1 is allowed", lambda h: h.file("good/x", inode=(1 << 64) - 1), good=True)
simple("unknown-key", "unknown keys are ignored", lambda h: h.file("good/x", future={"a": [1, None]}), good=True)
simple("flags-unknown", "an unknown flag", lambda h: h.file("good/x", flags="Z"), choice=True)
simple("target-missing", "a symlink without target", lambda h: h.link("good/x", "t", target=GONE))
simple("target-empty", "a symlink to nothing", lambda h: h.link("good/x", ""))
simple("target-nul", "a NUL in a target", lambda h: h.link("good/x", "a\0b"))
simple("target-long", "a target of 4,096 bytes", lambda h: h.link("good/x", "t" * 4096))
simple("target-number", "a number for a target", lambda h: h.link("good/x", "t", target=5))

# lines
line("path-empty", "an empty path", lambda h: dump(h.file("")), bad=[])
line("line-truncated", "half a line", lambda h: dump(h.file("good/x"))[:60])
line("line-empty", "an empty line", lambda h: b"", bad=[])
line("line-list", "a list", lambda h: b'["good/x"]')
line("line-number", "a number", lambda h: b"5", bad=[])
line("line-two", "two objects in a line", lambda h: dump(h.file("good/x")) * 2)
line("line-nested", "100,000 brackets", lambda h: b'{"path":"good/x","type":' + b"[" * 100000 + b"]" * 100000 + b"}")
line("line-key-twice", "a key twice: which path is meant?",
     lambda h: dump(h.file("good/x")).replace(b'"good/x"', b'"good/x","path":"../../../canary/evil"', 1), bad=["good/x"])
line("line-path-missing", "no path", lambda h: dump(h.file("good/x")).replace(b'"path":"good/x",', b""), bad=[])
line("line-path-number", "a number for a path", lambda h: dump(h.file("good/x")).replace(b'"good/x"', b"5", 1), bad=[])
line("line-path-null", "null for a path", lambda h: dump(h.file("good/x")).replace(b'"good/x"', b"null", 1), bad=[])
line("line-nan", "NaN", lambda h: dump(h.file("good/x")).replace(b'"size":16', b'"size":NaN', 1))
line("line-control", "a raw control character in a string", lambda h: dump(h.file("good/x")).replace(b"good/x", b"good/x\t", 1), bad=["good/x\t"])
line("line-bom", "a byte order mark", lambda h: b"\xef\xbb\xbf" + dump(h.file("good/x")))


@case("line-no-newline", "the last line is cut off")
def _(h):
    data = b"".join(h.lines())[:-30]
    h.good, h.bad = [], ["zgood/last"]
    h.commit([("/r", {"level": 0, "entries": 6, "chunks": [{"first": ".", "chunk": h.chunk(data, "manifest"), "entries": 6}]})])


@case("line-20m", "a line of 20 MiB, so a chunk of more than 16 MiB")
def _(h):
    first = h.chunk(b"".join(h.lines()), "manifest")
    second = h.chunk(dump(h.file("zz", chunks=["ab" * 32] * 320000)) + b"\n", "manifest")
    h.flush("content")
    h.frame_target = 16 << 20
    h.bad.append("zz")
    h.good = []                       # the pack's table breaks the limit, so a reader may refuse the pack
    h.commit([("/r", {"level": 0, "entries": 7, "chunks": [{"first": ".", "chunk": first, "entries": 6}, {"first": "zz", "chunk": second, "entries": 1}]})])


# manifests
def listed(name, why, edit, whole=False, status="loss", keep=False, roots=None):
    """A manifest of two chunks (good, zgood), edited. The first part must come back where `keep`."""
    def make(h):
        lines = [dump(e) + b"\n" for e in h.entries]
        one, two = b"".join(lines[:4]), b"".join(lines[4:])
        manifest = {"level": 0, "entries": 6, "chunks": [{"first": ".", "chunk": h.chunk(one, "manifest"), "entries": 4},
                                                          {"first": "zgood", "chunk": h.chunk(two, "manifest"), "entries": 2}]}
        h.good, h.status, h.whole = h.good[:4] if keep else [], status, whole
        manifest = edit(h, manifest) or manifest
        h.commit(roots(h, manifest) if roots else [("/r", manifest)])
    case(name, why)(make)


def put(*path):
    """An edit that sets the last of `path` at the place of the others."""
    def edit(h, value):
        for step in path[:-2]:
            value = value[step]
        value[path[-2]] = path[-1]
    return edit


listed("manifest-missing", "a manifest's chunk is in no pack", put("chunks", 1, "chunk", "cd" * 32), keep=True)
listed("manifest-level-9", "level 9", put("level", 9), whole=True)
listed("manifest-level-negative", "level -1", put("level", -1), whole=True)
listed("manifest-level-huge", "level 2^63", put("level", 1 << 63), whole=True)
listed("manifest-level-text", "level as text", put("level", "0"), whole=True)
listed("manifest-level-confused", "entries taken for lists", put("level", 1))
listed("manifest-level-lists", "lists taken for entries",
       lambda h, m: {**m, "chunks": [{"first": ".", "chunk": h.chunk(b"".join(dump(x) + b"\n" for x in m["chunks"]), "manifest"), "entries": 6}]})
listed("manifest-first", "a list with a wrong `first`", put("chunks", 1, "first", "yyy"), keep=True)
listed("manifest-first-dotdot", "a list whose `first` leads out", put("chunks", 1, "first", "../x"))
listed("manifest-unsorted", "a list backwards", lambda h, m: m["chunks"].reverse())
listed("manifest-repeated", "a chunk twice in a list", lambda h, m: m["chunks"].append(m["chunks"][1]), keep=True)
listed("manifest-count", "a wrong number of entries", lambda h, m: {**m, "entries": 7})
listed("manifest-empty", "no chunks", put("chunks", []))
listed("manifest-object", "chunks is an object", put("chunks", {}))
listed("manifest-garbage", "a manifest's chunk is no JSON", lambda h, m: put("chunks", 1, "chunk", h.chunk(os.urandom(3000), "manifest"))(h, m), keep=True)
listed("manifest-content", "a manifest's chunk lies among content", lambda h, m: put("chunks", 1, "chunk", h.chunk(b"2" * 5000))(h, m), keep=True)


@case("manifest-cycle", "eight levels of lists that name one chunk 128 times each: 2^56 entries")
def _(h):
    here = {"first": ".", "chunk": h.chunk(b"".join(h.lines()), "manifest"), "entries": 6}
    for level in range(8):
        here = {"first": ".", "chunk": h.chunk((dump(here) + b"\n") * 128, "manifest"), "entries": 128 * here["entries"] % (1 << 50)}
    h.good = []
    h.commit([("/r", {"level": 8, "entries": here["entries"], "chunks": [here] * 128})])


@case("manifest-cycle-shifted", "lists that overlap: each names the rest of the next, so that entries come again and again")
def _(h):
    names = [f"n{x:03d}" for x in range(40)]
    lists = [{"first": n, "chunk": h.chunk(dump(h.file(n)) + b"\n", "manifest"), "entries": 1} for n in names]
    lists.insert(0, {"first": ".", "chunk": h.chunk(dump(h.dir(".")) + b"\n", "manifest"), "entries": 1})
    for level in range(8):
        lists = [{"first": x["first"], "chunk": h.chunk(b"".join(dump(y) + b"\n" for y in lists[i:]), "manifest"), "entries": 1} for i, x in enumerate(lists)]
    h.good = []
    h.commit([("/r", {"level": 8, "entries": 41, "chunks": lists})])


@case("manifest-no-root", "the entry of the root is missing")
def _(h):
    del h.entries[0]
    h.good = []
    h.finish()


@case("root-symlink", "the root is a symlink to outside, with entries below")
def _(h):
    h.entries[0] = h.link(".", h.canary)
    h.add(h.file("evil"))
    h.good = []
    h.finish()


for name, why, path in [("root-relative", "relative", "r"), ("root-dotdot", "with `..`", "/r/../../../canary"), ("root-empty", "empty", ""),
                        ("root-number", "a number", 5), ("root-nul", "with a NUL", "/r\0")]:
    listed(name, "a root's path is " + why, lambda h, m: None, roots=lambda h, m, path=path: [(path, m)])
listed("root-none", "no roots", lambda h, m: None, roots=lambda h, m: [])
listed("root-twice", "one root twice", lambda h, m: None, roots=lambda h, m: [("/r", m), ("/r", m)], status="any")


@case("root-below-symlink", "a root that lies below a symlink of another root")
def _(h):
    h.add(h.link("zz", h.canary), bad=[])
    first = h.manifest(h.entries)
    h.bad.append("zz/file")
    h.commit([("/r", first), ("/r/zz", h.manifest([h.dir("."), h.file("file", b"evil")]))])


# documents
def document(title, why, edit=lambda d: d, whole=True, status="loss", **how):
    def make(h):
        h.whole, h.status = whole, status
        h.finish(edit=edit, **how)
    case(title, why)(make)


document("document-other-repository", "a document of another repository", lambda d: {**d, "repository": "0" * 32})
document("document-name", "its hash is not its name", name="12" * 32)
document("document-kind", "a record for a document", lambda d: {**d, "lifeboat": "record"})
document("document-version", "version 2", lambda d: {**d, "version": 2})
document("document-version-text", "version as text", lambda d: {**d, "version": "1"})
document("document-truncated", "half a document", lambda d: dump(d)[:-40])
document("document-list", "a list", lambda d: b"[1]")
document("document-nested", "1,000,000 brackets", lambda d: b"[" * 1000000)
document("document-utf8", "not UTF-8", lambda d: dump(d).replace(b"a test", b"\xff"))
document("document-large", "65 MiB", lambda d: dump(d) + b" " * (65 << 20))
document("document-key-twice", "a key twice", lambda d: dump(d)[:-1] + b',"roots":[]}')
document("document-no-roots", "no roots", lambda d: {k: v for k, v in d.items() if k != "roots"})
document("document-unsigned", "no signature", whole=False, status="any", signature=False)
document("document-signature-garbage", "a signature of garbage", whole=False, status="any", signature=b"-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n")
document("document-packs", "names a pack that is not there", lambda d: {**d, "packs": ["34" * 32]}, whole=False, status="any")
document("document-sequence", "sequence 0", lambda d: {**d, "sequence": 0}, whole=False, status="any")
document("document-previous", "`previous` names a snapshot that never was", lambda d: {**d, "sequence": 5, "previous": "56" * 32}, whole=False, status="any")
document("document-future", "finished in the year 9999", lambda d: {**d, "finished": "9999-12-31T23:59:59Z"}, whole=False, status="any")
document("document-control", "ESC and bidi in host and tags", lambda d: {**d, "host": "a\x1b[2Jb\u202e", "tags": ["\x07"]}, whole=False, status="ok")


@case("document-sequence-twice", "two snapshots with one number")
def _(h):
    h.status = "any"
    h.finish()
    h.sequence, h.previous = 0, None
    h.finish(edit=lambda d: {**d, "reason": "the other"})


@case("document-chain", "the second snapshot forgets the first")
def _(h):
    h.status = "any"
    h.finish()
    h.finish(edit=lambda d: {**d, "previous": None})


@case("document-other-key", "signed by a key that is no writer")
def _(h):
    h.status = "any"
    if h.key:
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place + "/k"], check=True)
            usual = h.sign
            h.sign = lambda data, space: usual(data, space, place + "/k" if space.endswith("snapshot") else None)
            h.finish()
    else:
        h.finish()


@case("document-other-namespace", "signed as a record")
def _(h):
    h.status = "any"
    if h.key:
        usual = h.sign
        h.sign = lambda data, space: usual(data, "lifeboat-record")
    h.finish()


# repository.json
for name, why, more in [
        ("repository-version-2", "version 2", {"version": 2}), ("repository-version-0", "version 0", {"version": 0}),
        ("repository-version-text", "version as text", {"version": "1"}), ("repository-feature", "an unknown feature", {"features": ["quantum"]}),
        ("repository-features-text", "features as text", {"features": "none"}), ("repository-kind", "not a repository", {"lifeboat": "snapshot"}),
        ("repository-minimum", "a minimum of 1", {"chunking": {**USUAL, "minimum": 1}}), ("repository-maximum", "a maximum of 2^40", {"chunking": {**USUAL, "maximum": 1 << 40}}),
        ("repository-chunking-negative", "negative sizes", {"chunking": {**USUAL, "average": -1}}), ("repository-frame", "frames of 2^40", {"frame_target": 1 << 40})]:
    def make(h, more=more):
        h.whole = True
        h.finish()
        h.put("repository.json", h.about(**more))
    case(name, "repository.json: " + why)(make)
for name, why, data in [("repository-truncated", "half of it", b'{"lifeboat":"repo'), ("repository-large", "2 MiB", b'{"x":"' + b"x" * (2 << 20) + b'"}'),
                        ("repository-empty", "empty", b"")]:
    def make(h, data=data):
        h.whole = True
        h.finish()
        h.put("repository.json", data)
    case(name, "repository.json: " + why)(make)


# packs. `good/x` is in a pack of its own, which has the fault
def pack(title, why, status="loss", choice=False, chunk=b"the victim\n", before=None, after=None, **hooks):
    def make(h):
        h.flush("content")
        h.add(h.file("good/x", chunk), bad=[] if choice or status == "ok" else None, good=["good/x"] if status == "ok" else [])
        h.status = status
        if before:
            before(h)
        h.hooks["content"] = type("Faulty", (Hooks,), {k: staticmethod(v) for k, v in hooks.items()})
        h.flush("content")
        if after:
            after(h)
        h.finish()
    case(title, "a pack: " + why)(make)


def flip(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


def change_line(number, **more):
    return lambda lines: lines[:number] + [{**lines[number], **more}] + lines[number + 1:]


RLE = [(1, 131072, b"\0")] * 76294
pack("pack-bomb", "a frame of 300 KB that gives 10 GB", stored=lambda s, p: hand_frame(RLE, 0x00, b"\x68"))
pack("pack-bomb-declared", "a frame that says 10 GB in its header", stored=lambda s, p: hand_frame(RLE, 0xC0, b"\x68" + struct.pack("<Q", 10 ** 10)))
pack("pack-bomb-last", "the last frame gives 10 GB", choice=False, last=lambda s, p: hand_frame(RLE, 0x00, b"\x68"))
pack("pack-bomb-seek", "a frame of 10 GB that the seek table knows of", stored=lambda s, p: hand_frame(RLE, 0x00, b"\x68"),
     seek=lambda f: seek_table([(f[0][0], (1 << 32) - 1)] + f[1:]))
pack("pack-window", "a window of 2^41 bytes", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x00, bytes([(41 - 10) << 3])))
pack("pack-window-64m", "a window of 64 MiB", choice=True, status="any", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x00, bytes([(26 - 10) << 3])))
pack("pack-size-less", "a frame that says a smaller content size", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x80, b"\x50" + struct.pack("<I", len(p) - 1)))
pack("pack-size-more", "a frame that says a larger content size", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x80, b"\x50" + struct.pack("<I", len(p) + 1)))
pack("pack-no-size", "a frame without content size and checksum", choice=True, status="any", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x00, b"\x50"))
pack("pack-dictionary", "a frame that wants a dictionary", stored=lambda s, p: hand_frame([(0, len(p), p)], 0x01, b"\x50\x07"))
pack("pack-checksum", "a wrong checksum in a frame", stored=lambda s, p: flip(s, len(s) - 1))
pack("pack-concatenated", "two frames where one should be", choice=True, status="any", stored=lambda s, p: compress(p[:512]) + compress(p[512:]))
pack("pack-skippable", "a skippable frame before a frame", choice=True, status="any", stored=lambda s, p: struct.pack("<II", 0x184D2A50, 4) + b"evil" + s)
pack("pack-legacy", "the magic of zstd 0.7", stored=lambda s, p: b"\x27" + s[1:])
pack("pack-gzip", "a gzip member for a frame", stored=lambda s, p: __import__("gzip").compress(p))
pack("pack-empty-frame", "nothing where a frame should be", stored=lambda s, p: b"")
pack("pack-content", "one bit of a chunk altered", plain=lambda p: flip(p, 515))
for offset, why in ((0, "name"), (100, "mode"), (108, "owner"), (124, "size"), (148, "checksum"), (156, "type: a symlink?"), (157, "link target"), (345, "prefix")):
    pack(f"pack-header-{offset}", f"a byte of a header altered ({why})", plain=lambda p, offset=offset: flip(p, offset, 2))
pack("pack-padding", "padding that is not zero", choice=True, status="any", plain=lambda p: flip(p, 1000))
pack("pack-tar-traversal", "a member `../evil` for who unpacks it", plain=lambda p: ustar("../../../canary/evil", 11) + p[512:])
pack("pack-member-name", "a member whose name is not its hash", chunk=b"x",
     before=lambda h: (h.pending.__setitem__("content", [("78" * 32, b"evil")]), h.entries[-3].update(chunks=["78" * 32], size=4)))
pack("pack-table-frames-1e9", "a table that says 10^9 frames", table=change_line(0, frames=10 ** 9))
pack("pack-table-frames-0", "a table that says no frames", table=change_line(0, frames=0))
pack("pack-table-version", "a table of version 2", table=change_line(0, version=2))
pack("pack-table-kind", "a table of an unknown kind", choice=True, status="any", table=change_line(0, kind="other"))
pack("pack-table-bytes", "a table with a wrong frame size", table=change_line(1, bytes=5))
pack("pack-table-bytes-2-63", "a table with a frame of 2^63", table=change_line(1, bytes=1 << 63))
for size in (0, 10, -1, 1 << 24, 1 << 40, 1 << 63, (1 << 64) - 512, 1 << 64, 11.0, "11", None):
    pack(f"pack-table-size-{size}".replace(".", "-"), f"a table with a chunk of {size} bytes",
         table=lambda lines, size=size: [lines[0], {**lines[1], "chunks": [[lines[1]["chunks"][0][0], size]]}])
pack("pack-table-many", "a table with 600,000 chunks in a frame of 1 KiB",
     table=lambda lines: [lines[0], {**lines[1], "chunks": lines[1]["chunks"] + [["ef" * 32, 1]] * 600000}])
pack("pack-table-60m", "a table of 63 MiB of brackets", table=lambda lines: [lines[0], b"[" * (63 << 20)])
pack("pack-table-bomb", "a table of 200 MiB of blanks", table=lambda lines: lines + [b" " * (200 << 20)])
pack("pack-table-name", "a chunk's name is a path", table=lambda lines: [lines[0], {**lines[1], "chunks": [["../" * 21 + "x", 11]]}])
pack("pack-table-order", "a line too many", table=lambda lines: lines + [lines[1]])
pack("pack-table-json", "half a table", table=lambda lines: [lines[0], dump(lines[1])[:-5]])
pack("pack-table-last", "the table is altered, and not its name", last=lambda s, p: compress(flip(p, 530)))
pack("pack-seek-2-27", "a seek table of 2^27 frames", seek=lambda f: seek_table(f, 1 << 27))
pack("pack-seek-2-32", "a seek table of 2^32-1 frames", seek=lambda f: seek_table(f, (1 << 32) - 1))
pack("pack-seek-0", "a seek table of no frames", seek=lambda f: seek_table([]))
pack("pack-seek-beyond", "frames beyond the end of the file", seek=lambda f: seek_table([(1 << 31, f[0][1])] + f[1:]))
pack("pack-seek-wrap", "sizes that overflow 32 bits to the right sum", seek=lambda f: seek_table([((1 << 32) - 1, 1)] * 4 + f))
pack("pack-seek-plain", "a wrong uncompressed size", seek=lambda f: seek_table([(f[0][0], f[0][1] + 1)] + f[1:]))
pack("pack-seek-4g", "an uncompressed size of 4 GiB", seek=lambda f: seek_table([(f[0][0], (1 << 32) - 1)] + f[1:]))
pack("pack-seek-none", "no seek table", seek=lambda f: b"")
pack("pack-seek-65537", "a seek table of 65,537 frames", seek=lambda f: seek_table(f + [(0, 0)] * 65537))
pack("pack-seek-descriptor", "a seek table that says it has checksums", seek=lambda f: flip(seek_table(f), len(seek_table(f)) - 5, 128))
pack("pack-garbage-after", "bytes after the seek table", whole=lambda d: d + b"garbage")
pack("pack-garbage-before", "bytes before the first frame", whole=lambda d: b"garbage" + d)
pack("pack-truncated", "cut off in the middle", whole=lambda d: d[:len(d) // 2])
pack("pack-empty", "an empty file", whole=lambda d: b"")
pack("pack-name", "its hash is not its name", status="any", choice=True, name=lambda n: "9a" * 32)
pack("pack-deleted", "it is gone", after=lambda h: os.unlink(os.path.join(h.out, f"packs/{h.packs[-1][:2]}/{h.packs[-1]}.tar.zst")))


def replaced(make):
    def after(h):
        path = os.path.join(h.out, f"packs/{h.packs[-1][:2]}/{h.packs[-1]}.tar.zst")
        os.unlink(path)
        make(path)
    return after


pack("pack-dev-zero", "a symlink to /dev/zero", after=replaced(lambda path: os.symlink("/dev/zero", path)))
pack("pack-fifo", "a fifo", after=replaced(os.mkfifo))
pack("pack-directory", "a directory", after=replaced(os.mkdir))


# the index is a cache: a reader may say that it is wrong, and may do without; it may not restore anything wrong
def index(name, why, edit):
    def make(h):
        h.status = "any"
        h.finish(index=False)
        edit(h)
    case(name, "an index: " + why)(make)


def frame_line(h, **more):
    h.write_index([{**x, **more} if "chunks" in x else x for x in h.index])


def packs_alike(count, frame):
    """A compressed index of packs that hold the same, made piece by piece."""
    with tempfile.TemporaryFile() as packed:
        encoder = subprocess.Popen(["zstd", "-q", "-3", "-c"], stdin=subprocess.PIPE, stdout=packed)
        with encoder.stdin as text:
            for number in range(count):
                text.write(dump({"pack": f"{number:064x}", "bytes": 99, "kind": "content", "frames": 1}) + b"\n" + frame + b"\n")
        encoder.wait()
        packed.seek(0)
        return packed.read()


index("index-none", "there is none", lambda h: None)
index("index-size", "wrong chunk sizes", lambda h: frame_line(h, chunks=[[c, s + 1] for x in h.index if "chunks" in x for c, s in x["chunks"]]))
index("index-frame", "wrong frame sizes", lambda h: frame_line(h, bytes=7))
index("index-frame-2-63", "frame sizes of 2^63", lambda h: frame_line(h, bytes=1 << 63))
index("index-pack", "a pack that is not there", lambda h: h.write_index([{**x, "pack": "bc" * 32} if "pack" in x else x for x in h.index]))
index("index-pack-path", "a path for a pack", lambda h: h.write_index([{**x, "pack": "../../../canary/file"} if "pack" in x else x for x in h.index]))
index("index-pack-swapped", "content and manifest packs confused",
      lambda h: h.write_index([{**x, "pack": h.packs[-1 - h.packs.index(x["pack"])]} if "pack" in x else x for x in h.index]))
index("index-chunk-swapped", "chunks in another order", lambda h: h.write_index([{**x, "chunks": x["chunks"][::-1]} if "chunks" in x else x for x in h.index]))
index("index-duplicates", "10^6 times the same lines", lambda h: h.write_index([b"\n".join(dump(x) for x in h.index)] * 500000))
index("index-bomb", "10 GB of zeros", lambda h: (lambda d: h.put(f"index/{sha(d)}.jsonl.zst", d))(hand_frame(RLE, 0x00, b"\x68")))
index("index-packs-bomb", "many packs whose lines are alike: 1.3 GB of text", lambda h: (lambda d: h.put(f"index/{sha(d)}.jsonl.zst", d))(
    packs_alike(6000, dump({"bytes": 9, "chunks": [[sha(b"%d" % n), 1] for n in range(3000)]}))))
index("index-line", "a line of 70 MiB", lambda h: h.write_index(h.index + [b'{"pack":"' + b"a" * (70 << 20) + b'"}']))
index("index-garbage", "no zstd", lambda h: h.put(f"index/{sha(b'garbage')}.jsonl.zst", b"garbage"))
index("index-name", "its hash is not its name", lambda h: h.put(f"index/{'de' * 32}.jsonl.zst", compress(b"".join(dump(x) + b"\n" for x in h.index))))
index("index-truncated", "cut off", lambda h: (lambda d: h.put(f"index/{sha(d)}.jsonl.zst", d))(compress(b"".join(dump(x) + b"\n" for x in h.index))[:-20]))
index("index-frames", "frames that say 10^9", lambda h: h.write_index([{**x, "frames": 10 ** 9} if "pack" in x else x for x in h.index]))


def hostile(outdir, wanted=()):
    outdir = os.path.abspath(outdir)
    canary = os.path.join(outdir, "canary")
    os.makedirs(canary)
    os.mkdir(os.path.join(canary, "dir"))
    with open(os.path.join(canary, "file"), "w") as file:
        file.write("canary\n")
    key = None
    if shutil.which("ssh-keygen"):
        key = os.path.join(outdir, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "forge", "-f", key], check=True)
    for name, (why, make) in CASES.items():
        if not wanted or name in wanted:
            h = Hostile(os.path.join(outdir, name), canary, key)
            make(h)
            h.expect(name, why)
    return len(CASES)


def build(directory, out, path=None, chunking=None):
    forge = Forge(out, chunking)
    manifest = forge.manifest(forge.tree(directory))
    return forge.commit([(path or os.path.abspath(directory), manifest)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("build")
    sub.add_argument("directory")
    sub.add_argument("out")
    sub.add_argument("--as", dest="path", help="the root's path in the snapshot, instead of where it is")
    sub.add_argument("--small", action="store_true")
    sub = commands.add_parser("hostile")
    sub.add_argument("outdir")
    sub.add_argument("case", nargs="*")
    arguments = parser.parse_args()
    if arguments.command == "build":
        print(build(arguments.directory, arguments.out, arguments.path, SMALL if arguments.small else None))
    else:
        print(f"{hostile(arguments.outdir, arguments.case)} cases")


if __name__ == "__main__":
    main()
