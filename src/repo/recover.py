#!/usr/bin/env python3
"""Get files back from this Lifeboat repository, without Lifeboat.

Needs Python 3.8 or newer on Linux and the program `zstd`. Nothing else; nothing in the repository is ever changed.

  python3 recover.py list [REPO]                 which snapshots are there
  python3 recover.py restore ID TARGET           bring one back below TARGET, a new or empty directory
  python3 recover.py check [REPO]                is every stored byte still what it was

ID is the beginning of a snapshot's name, as `list` shows it. REPO is the directory that this script lies in, unless
given. `restore --path /srv/app/data` brings back only that, and what is below it; `--names` gives files to the user
and group of the same name here instead of the same number. Run it as root to get owners and devices back.

Everything is compared with its SHA-256 before it is used. What is damaged is named and left out, and the rest
restored. Exit status: 0 all well; 1 nothing could be done; 2 wrong use; 3 something was left out or is damaged.
"""
import argparse, base64, collections, fcntl, glob, grp, hashlib, json, os, pwd, re, shutil, stat, struct, subprocess, sys, tempfile

MIB = 1 << 20
FLAGS = {"i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80, "C": 0x800000}
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
WRONG = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError)


class Damage(ValueError):
    """Something is not what the format says."""


def need(condition, why):
    if not condition:
        raise Damage(why)


def number(value, what, below=1 << 53, least=0):
    need(type(value) is int and least <= value < below, f"its {what} is out of range")
    return value


def raw(text):
    """The bytes of a name: JSON's lone surrogates U+DC80 to U+DCFF stand for single bytes."""
    data = text.encode("utf-8", "surrogateescape")
    need(b"\0" not in data, "a NUL in a name")
    return data


def key(path):
    """A path as a tuple of names. Tuples compare in the manifest's order. Nothing that leads elsewhere gets through."""
    names = () if path == b"." else tuple(path.split(b"/"))
    need(all(0 < len(n) <= 255 and n not in (b".", b"..") for n in names), "its path is not allowed")
    return names


def shown(names):
    text = (b"/".join(names) or b".").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else "".join(f"\\x{b:02x}" for b in raw(c)) for c in text)


def reason(error):
    text = error.strerror if isinstance(error, OSError) else str(error)
    return shown([ascii(text)[1:-1].encode()]) if isinstance(error, (Damage, OSError)) else f"malformed ({type(error).__name__})"


def once(pairs):
    need(len(dict(pairs)) == len(pairs), "a JSON key twice")
    return dict(pairs)


def parse(data):
    value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    need(type(value) is dict, "not a JSON object")
    return value


def read(path, most, offset=0, length=None):
    """Bytes of one ordinary file, never more than `most`."""
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        info = os.fstat(file.fileno())
        length = info.st_size - offset if length is None else length
        need(stat.S_ISREG(info.st_mode) and 0 <= length <= most and offset >= 0, "not an ordinary file of a sound size")
        file.seek(offset)
        data = file.read(length)
    need(len(data) == length, "the file is too short")
    return data


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sha256_of(path):
    digest, offset, size = hashlib.sha256(), 0, os.path.getsize(path)
    while offset < size:
        digest.update(read(path, MIB, offset, min(MIB, size - offset)))
        offset += MIB
    return digest.hexdigest()


def decode(stored, size):
    """One zstd frame, which must give exactly `size` bytes. No more than that is ever read from zstd."""
    need(stored[:4] == b"\x28\xb5\x2f\xfd", "not a zstd frame")
    with tempfile.TemporaryFile() as spool:
        spool.write(stored)
        spool.seek(0)
        command = ["zstd", "-dcq", "--memory=8MiB"]
        with subprocess.Popen(command, stdin=spool, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            data = child.stdout.read(size + 1)
    need(child.returncode == 0 and len(data) == size, "a frame does not decode")
    return data


def header(name, size):
    """The 512 bytes before a chunk in a pack: a plain tar header."""
    block = bytearray(512)
    block[0:64], block[100:124], block[124:136] = name.encode(), b"0000400\0" + b"0000000\0" * 2, b"%011o\0" % size
    block[136:148], block[148:157], block[257:265] = b"00000000000\0", b" " * 8 + b"0", b"ustar\00000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class Repository:
    def __init__(self, root):
        self.root, self.id, self.frames, self.where, self.cache = root, None, [], {}, collections.OrderedDict()
        self.problems = 0
        file = os.path.join(root, "repository.json")
        if not os.path.lexists(file):
            need(os.path.isdir(os.path.join(root, "snapshots")), f"{root} is not a repository")
            return self.complain("repository.json", "missing; going on without it")
        try:
            about = parse(read(file, MIB))
            need(about["lifeboat"] == "repository" and number(about["version"], "version") == 1, "not a repository of version 1")
            need(about["features"] == [] and about["recipients"] == [], "encrypted, or of a kind that this script does not know")
            cut = about["chunking"]
            need(64 <= cut["minimum"] <= cut["average"] <= cut["maximum"] <= 16 * MIB, "impossible chunk sizes")
            need(about["frame_target"] <= 32 * MIB, "impossible frame size")
            self.id = about["id"]
        except WRONG as error:
            raise Damage(f"repository.json: {reason(error)}. If it is only damaged, move it away and try again")

    def complain(self, what, why):
        self.problems += 1
        print(f"{what}: {why}", file=sys.stderr)

    def objects(self, pattern):
        return sorted(glob.glob(os.path.join(glob.escape(self.root), pattern)))

    def snapshots(self):
        """Every good snapshot document: {name: document}."""
        found = {}
        for path in self.objects("snapshots/*.json"):
            name = os.path.basename(path)[:-5]
            try:
                data = read(path, 64 * MIB)
                need(sha256(data) == name, "damaged: its hash is not its name")
                document = parse(data)
                need(document["lifeboat"] == "snapshot" and number(document["version"], "version") == 1, "not a snapshot of version 1")
                need(self.id in (None, document["repository"]), "it belongs to another repository")
                found[name] = document
            except WRONG as error:
                self.complain(f"snapshots/{shown([os.fsencode(name)])}.json", reason(error))
        return found

    def scan(self):
        """Learn from the packs' own tables where every chunk is. Packs in trash/ and quarantine/ serve where others fail."""
        for place in ("", "trash/", "quarantine/"):
            for path in self.objects(place + "packs/??/*.tar.zst"):
                try:
                    self.table(path)
                except WRONG as error:
                    what = shown([os.fsencode(os.path.relpath(path, self.root))])
                    if place:                         # it was put aside because of that; what it lacks may be elsewhere
                        print(f"{what}: pack not used: {reason(error)}", file=sys.stderr)
                    else:
                        self.complain(what, f"pack not used: {reason(error)}")

    def table(self, path):
        size = os.path.getsize(path)
        count, descriptor, magic = struct.unpack("<IBI", read(path, 9, size - 9, 9))
        need(magic == 0x8F92EAB1 and descriptor == 0 and 1 <= count <= 65536, "no good seek table")
        block = read(path, MIB, size - 8 * count - 17, 8 * count + 17)
        need(block[:8] == struct.pack("<II", 0x184D2A5E, 8 * count + 9), "no good seek table")
        frames, offset = [], 0
        for stored, plain in struct.iter_unpack("<II", block[8:-9]):
            need(plain <= 64 * MIB and stored <= 65 * MIB, "a frame is too large")
            frames.append((path, offset, stored, plain))
            offset += stored
        need(offset + len(block) == size, "the seek table does not fit the file")
        need(frames[-1][3] <= 4096 + sum(200 + plain // 1024 * 96 for _, _, _, plain in frames[:-1]), "its table is too large")
        last = decode(read(path, 65 * MIB, frames[-1][1], frames[-1][2]), frames[-1][3])
        text = last[512:-1024].rstrip(b"\0")
        need(last == header(sha256(text), len(text)) + text + bytes(-len(text) % 512 + 1024), "its table is damaged")
        lines = text.split(b"\n")
        need(lines.pop() == b"" and len(lines) == count, "its table is damaged")
        first = parse(lines[0])
        need(first["lifeboat"] == "pack" and number(first["version"], "version") == 1 and first["frames"] == count - 1, "its table is damaged")
        chunks = {}
        for index, (line, (_, _, stored, plain)) in enumerate(zip(lines[1:], frames), len(self.frames)):
            need(len(line) <= 200 + plain // 1024 * 96, "its table is damaged")
            line, at = parse(line), 0
            for name, length in line["chunks"]:
                need(re.fullmatch("[0-9a-f]{64}", name), "its table is damaged")
                chunks.setdefault(name, (index, at, number(length, "chunk size", 16 * MIB + 1, 1)))
                at += 512 + length + -length % 512
            need(line["bytes"] == stored and at == plain, "its table is damaged")
        for name, place in chunks.items():
            self.where.setdefault(name, []).append(place)
        self.frames += frames[:-1]

    def frame(self, index):
        if index not in self.cache:
            path, offset, stored, plain = self.frames[index]
            while self.cache and sum(map(len, self.cache.values())) + plain > 32 * MIB:
                self.cache.popitem(last=False)
            self.cache[index] = decode(read(path, 65 * MIB, offset, stored), plain)
        self.cache.move_to_end(index)
        return self.cache[index]

    def member(self, name, place):
        index, at, length = place
        data = self.frame(index)[at:at + 512 + length]
        need(data[:512] == header(name, length) and sha256(data[512:]) == name, f"chunk {name} is damaged")
        return data[512:]

    def chunk(self, name):
        need(self.where.get(name), f"chunk {name} is in no pack" if type(name) is str else "malformed chunk name")
        for place in self.where[name][:-1]:
            try:
                return self.member(name, place)
            except WRONG:
                continue
        return self.member(name, self.where[name][-1])

    def lines(self, listing, level, lost, wanted=(), upper=None):
        """The lines of a manifest, in order. `lost` hears of those that cannot be read."""
        good = []
        for line in listing:
            try:
                good.append((key(raw(line["first"])), line))
            except WRONG as error:
                lost((), f"a part of the list: {reason(error)}")
        for (first, line), after in zip(good, [first for first, _ in good[1:]] + [upper]):
            if (after is not None and after <= wanted) or first[:len(wanted)] > wanted:
                continue                              # nothing of what was asked for is in there
            try:
                need(all(end is None or first < end for end in (after, upper)), "a list is not in order")
                data = self.chunk(line["chunk"])
                found = data.split(b"\n")
                need(found.pop() == b"" and found, "the last line is cut off")
                below = [parse(x) for x in found] if level else [{"first": parse(found[0])["path"]}]
                need(key(raw(below[0]["first"])) == first, "a list names a wrong first path")
            except WRONG as error:
                lost(first, f"all entries from here to {shown(after) if after else 'the end'} are lost: {reason(error)}")
                continue
            yield from (self.lines(below, level - 1, lost, wanted, after) if level else found)


class Restore:
    def __init__(self, repository, target, by_name):
        self.repository, self.by_name, self.lost, self.lacking, self.done = repository, by_name, 0, collections.Counter(), 0
        self.users, self.groups = {u.pw_name: u.pw_uid for u in pwd.getpwall()}, {g.gr_name: g.gr_gid for g in grp.getgrall()}
        self.made, self.later = {}, []                # names of hard-linked inodes; directories and flags that must wait
        if os.path.lexists(target):
            need(not os.listdir(target), f"{target} is not empty")
        else:
            os.mkdir(target, 0o700)
        self.stack = [[None, os.open(target, os.O_RDONLY | os.O_DIRECTORY), None]]     # [name, descriptor, entry]
        need("system.posix_acl_default" not in os.listxattr(target), f"{target} has a default ACL, which what lies below would inherit: setfacl -k")

    def report(self, names, why):
        self.lost += 1
        print(f"NOT RESTORED {shown(names)}: {why}", file=sys.stderr)

    # -- directories: always opened from the target down, name by name, never through a link, whatever length a path has
    def path(self):
        return tuple(level[0] for level in self.stack[1:])

    def walk(self, names):
        here = os.dup(self.stack[0][1])
        for name in names:
            here, before = os.open(name, DIRECTORY, dir_fd=here), here
            os.close(before)
        return here

    def top(self):
        """A descriptor of the open directory; only the deepest 100 are kept."""
        if self.stack[-1][1] is None:
            first = max(1, len(self.stack) - 100)
            here = self.walk(self.path()[:first])
            self.stack[first][1] = here
            for level in self.stack[first + 1:]:
                level[1] = here = os.open(level[0], DIRECTORY, dir_fd=here)
        return self.stack[-1][1]

    def enter(self, name, entry):
        try:
            os.mkdir(name, 0o700, dir_fd=self.top())
        except FileExistsError:
            pass                                      # two roots may share it; what is no directory fails below
        self.stack.append([name, os.open(name, DIRECTORY, dir_fd=self.top()), entry])
        if len(self.stack) > 200 and self.stack[-200][1] is not None:
            os.close(self.stack[-200][1])
            self.stack[-200][1] = None

    def leave(self):
        """A directory gets its attributes when everything in it is there; one that would lock us out, at the very end."""
        names, here, (_, _, entry) = self.path(), self.top(), self.stack.pop()
        if entry and (int(entry["mode"], 8) & 0o700 != 0o700 or entry.get("flags")):
            self.later.append((names, entry))
        elif entry:
            self.attributes(here, entry)
        os.close(here)

    # -- one root
    def root(self, root, wanted):
        path = raw(root["path"])
        absolute = path[:1] == b"/"
        need(absolute or root.get("command"), "a root's path is not absolute")
        start = key(path[absolute:] or b".")
        if wanted is not None and wanted[:len(start)] != start[:len(wanted)]:
            return
        self.last, self.gap, manifest, count = None, wanted is not None, root["manifest"], 0
        below = wanted[len(start):] if wanted else ()

        def lost(first, why):
            self.gap = True                           # from here on a parent or a first hard link may be missing
            self.report(start + first, why)
        for line in self.repository.lines(manifest["chunks"], number(manifest["level"], "level", 9), lost, below):
            count, names = count + 1, ()
            try:
                need(len(line) <= 16 * MIB, "a line is too long")
                entry = parse(line)
                names = key(raw(entry["path"]))
                need(self.last is None or names > self.last, "it stands twice or in the wrong order")
                need(names == () or self.last is not None or self.gap, "it stands before its root")
                self.last = names
                if names[:len(below)] == below:
                    self.entry(start + names, len(start), entry)
                    self.done += 1
            except WRONG as error:
                self.report(start + names if names else start + (line[:60],), reason(error))
        need(self.gap or count == manifest["entries"], f"the manifest of {shown(start)} has {count} entries and should have another number")

    def entry(self, names, depth, entry):
        kind, mode, links = entry["type"], entry["mode"], entry.get("links", 1)
        need(kind in ("file", "dir", "symlink", "fifo", "socket", "char", "block"), "its type is unknown")
        need(type(mode) is str and re.fullmatch("[0-7]{1,4}", mode), "its mode is malformed")
        for seconds, nanoseconds in (entry["mtime"], entry.get("ctime", entry["mtime"])):
            number(seconds, "time", least=-(1 << 53))
            number(nanoseconds, "time", 10 ** 9)
        number(entry["uid"], "owner", (1 << 32) - 1), number(entry["gid"], "group", (1 << 32) - 1), number(links, "link count")
        need(type(entry.get("xattrs", {})) is dict and type(entry.get("flags", "")) is str, "its attributes are malformed")
        while self.path() != names[:len(self.stack) - 1]:
            self.leave()
        for level in range(len(self.stack) - 1, len(names) - 1):
            need(level < depth or self.gap, "its directory is not an entry before it")
            self.enter(names[level], None)
        need(len(self.stack) - 1 == max(0, len(names) - 1) or kind == "dir", "there is a directory already")
        if kind == "dir":
            return self.enter(names[-1], entry) if names else self.stack[0].__setitem__(2, entry)
        need(names, "the root of all is not a directory")
        if kind == "socket":
            return print(f"not made (a socket): {shown(names)}", file=sys.stderr)
        same = hash(repr([entry.get(k) for k in ("type", "size", "target", "device", "holes", "chunks")]))
        first = names[:depth] + key(raw(entry["hardlink"])) if "hardlink" in entry else names
        if "hardlink" in entry and not self.gap:
            need(first in self.made and first != names, "its first hard link is not an entry before it")
        if "hardlink" in entry and self.made.get(first):
            source, inode, kinship = self.made[first]
            need(kinship == same, "it differs from its first hard link")
            here = self.walk(source[:-1])
            try:
                os.link(source[-1], names[-1], src_dir_fd=here, dst_dir_fd=self.top(), follow_symlinks=False)
            finally:
                os.close(here)
            info = os.stat(names[-1], dir_fd=self.top(), follow_symlinks=False)
            if (info.st_dev, info.st_ino) != inode:
                os.unlink(names[-1], dir_fd=self.top())
                raise Damage("somebody changed its first hard link")
            return
        if links > 1 or first != names:
            self.made[first] = None
        inode = self.make(names[-1], kind, entry)
        if links > 1 or first != names:
            self.made[first] = (names, inode, same)
        if entry.get("flags"):
            self.later.append((names, entry))

    def make(self, name, kind, entry):
        top, handle = self.top(), None
        if kind == "symlink":
            target = raw(entry["target"])
            need(target, "its target is empty")
            os.symlink(target, name, dir_fd=top)
        elif kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=top)
        elif kind != "file":
            major, minor = (number(n, "device", 1 << 32) for n in entry["device"])
            os.mknod(name, 0o600 | (stat.S_IFCHR if kind == "char" else stat.S_IFBLK), os.makedev(major, minor), dir_fd=top)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL if kind == "file" else os.O_PATH
        handle = os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=top)
        try:
            if kind == "file":
                self.content(handle, entry)
            self.attributes(handle if kind == "file" else f"/proc/self/fd/{handle}", entry)
            info = os.fstat(handle)
            return info.st_dev, info.st_ino
        except BaseException:
            os.unlink(name, dir_fd=top)               # nothing half or wrong is left behind
            raise
        finally:
            os.close(handle)

    def content(self, handle, entry):
        size, position, end, pieces = number(entry["size"], "size"), 0, -1, []
        for offset, length in entry.get("holes", []):
            need(number(offset, "hole") > end and number(length, "hole", least=1) <= size - offset, "its holes are impossible")
            pieces.append((max(end, 0), offset))
            end = offset + length
        pieces = [list(piece) for piece in pieces + [(max(end, 0), size)] if piece[0] < piece[1]]
        chunks = entry.get("chunks", [])
        need(type(chunks) is list, "its chunks are malformed")
        for name in chunks:
            need(name in self.repository.where, f"chunk {name} is in no pack")
        for name in chunks:
            data = memoryview(self.repository.chunk(name))
            while data:
                need(pieces, "it has more content than its size says")
                written = os.pwrite(handle, data[:pieces[0][1] - pieces[0][0]], pieces[0][0])
                data, pieces[0][0] = data[written:], pieces[0][0] + written
                if pieces[0][0] == pieces[0][1]:
                    pieces.pop(0)
        need(not pieces, "it has less content than its size says")
        os.ftruncate(handle, size)

    def attributes(self, where, entry):
        """`where` is a descriptor, or a name in /proc of one, which is never followed any further."""
        mode, uid, gid = int(entry["mode"], 8), entry["uid"], entry["gid"]
        if self.by_name:
            uid, gid = self.users.get(entry.get("user"), uid), self.groups.get(entry.get("group"), gid)
        try:
            os.chown(where, uid, gid)
        except OSError:
            self.lacking["owner or group not set"] += 1
            if mode & 0o6000 and entry["type"] != "dir":
                mode &= 0o1777                        # never set-user-id for somebody else
                self.lacking["set-user-id or set-group-id left off, as the owner is another"] += 1
        if entry["type"] != "symlink":
            os.chmod(where, mode)
        for name, value in sorted(entry.get("xattrs", {}).items(), key=lambda item: item[0] == "security.capability"):
            try:
                os.setxattr(where, raw(name), base64.b64decode(value, validate=True))
            except WRONG as error:
                self.lacking[f"attribute {shown([ascii(name)[1:-1].encode()])} not set: {reason(error)}"] += 1
        seconds, nanoseconds = entry["mtime"]
        try:
            os.utime(where, ns=(seconds * 10 ** 9 + nanoseconds,) * 2)
        except WRONG:
            self.lacking["time not set"] += 1

    def finish(self):
        while len(self.stack) > 1:
            self.leave()
        if self.stack[0][2]:
            self.attributes(self.stack[0][1], self.stack[0][2])
        for names, entry in reversed(self.later):
            try:
                here = self.walk(names[:-1])
                handle = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
                if entry["type"] == "dir":
                    self.attributes(handle, entry)
                if entry.get("flags"):
                    value = struct.unpack("L", fcntl.ioctl(handle, 0x80086601, bytes(8)))[0]
                    fcntl.ioctl(handle, 0x40086602, struct.pack("L", value | sum(FLAGS[f] for f in set(entry["flags"]))))
                os.close(handle)
                os.close(here)
            except WRONG as error:
                self.lacking[f"flags or mode not set: {reason(error)}"] += 1
        os.sync()
        for what, count in self.lacking.items():
            print(f"{what}: {count} times", file=sys.stderr)
        print(f"{self.done} entries restored, {self.lost} problems")
        return 3 if self.lost or self.lacking else 0


def choose(repository, prefix):
    found = {n: d for n, d in repository.snapshots().items() if n.startswith(prefix)}
    need(len(found) == 1, f"{len(found)} good snapshots begin with {prefix!r}: see `list`")
    return found.popitem()[1]


def restore(repository, arguments):
    document = choose(repository, arguments.snapshot)
    need(type(document["roots"]) is list and document["roots"], "the snapshot holds nothing")
    wanted = None if arguments.path is None else key(os.fsencode(arguments.path).strip(b"/") or b".")
    repository.scan()
    work = Restore(repository, arguments.target, arguments.names)
    for root in document["roots"]:
        while len(work.stack) > 1:
            work.leave()
        try:
            work.root(root, wanted)
        except WRONG as error:
            path = root.get("path") if type(root) is dict else root
            work.report((ascii(path)[1:61].encode(),), f"this root: {reason(error)}")
    status = work.finish()
    if document.get("problems"):
        print(f"The snapshot itself says that {len(document['problems'])} things could not be read when it was taken.")
    if not work.done and not status:
        print(f"nothing found at {arguments.path}", file=sys.stderr)
    return 3 if status or repository.problems else int(not work.done)


def listing(repository, arguments):
    documents = repository.snapshots()
    for name, d in sorted(documents.items(), key=lambda item: (str(item[1].get("host")), str(item[1].get("sequence")).zfill(20))):
        forgotten = " (forgotten)" if os.path.exists(os.path.join(repository.root, "tombstones", name + ".json")) else ""
        roots = d["roots"] if type(d.get("roots")) is list else []
        words = [d.get("host"), d.get("sequence"), d.get("started"), *(r.get("path") for r in roots if type(r) is dict)]
        print(name[:16], *(shown([str(w).encode("utf-8", "replace")]) for w in words), forgotten)
    places = collections.Counter((str(d.get("host")), str(d.get("sequence"))) for d in documents.values())
    for (host, sequence), count in places.items():
        if count > 1:
            repository.complain(ascii(host)[1:-1], f"{count} snapshots have the number {ascii(sequence)[1:-1]}")
    return 3 if repository.problems else 0


def signatures(repository):
    """Does each signature that is there belong to its file? (Whose it is, RECOVER.md says.)"""
    if not shutil.which("ssh-keygen"):
        return print("ssh-keygen is not installed: signatures are not checked", file=sys.stderr)
    with tempfile.NamedTemporaryFile("w") as allowed:
        for path in repository.objects("writers/*.pub"):
            with open(path, errors="replace") as line:
                print("writer", line.readline().strip(), file=allowed, flush=True)
        for pattern, what in (("snapshots/*.sig", "lifeboat-snapshot"), ("records/*/*.sig", "lifeboat-record")):
            for path in repository.objects(pattern):
                command = ["ssh-keygen", "-Y", "verify", "-f", allowed.name, "-I", "writer", "-n", what, "-s", path]
                try:
                    with open(path[:-4] + ".json", "rb") as signed:
                        good = subprocess.run(command, stdin=signed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
                    need(good, "damaged, or of a key that is not in writers/")
                except FileNotFoundError:
                    continue                          # what it signed is named elsewhere, or not written yet
                except WRONG as error:
                    repository.complain(shown([os.fsencode(os.path.relpath(path, repository.root))]), reason(error))


def check(repository, arguments):
    repository.scan()
    documents = repository.snapshots()
    signatures(repository)
    for pattern in ("packs/??/*.tar.zst", "index/*.jsonl.zst", "writers/*.pub", "records/*/*.json"):
        for path in repository.objects(pattern):
            try:
                need(sha256_of(path) == os.path.basename(path).split(".")[0].split("-")[-1], "damaged: its hash is not its name")
            except WRONG as error:
                repository.complain(shown([os.fsencode(os.path.relpath(path, repository.root))]), reason(error))
    for name, places in sorted(repository.where.items(), key=lambda item: item[1][0]):
        for place in places:
            try:
                repository.member(name, place)
            except WRONG as error:
                if len(places) > 1 and not os.path.relpath(repository.frames[place[0]][0], repository.root).startswith("packs"):
                    continue                          # of a pack that was put aside, and there is another
                repository.complain(f"chunk {name} in {shown([os.fsencode(os.path.basename(repository.frames[place[0]][0]))])}", reason(error))
    for name, document in documents.items():          # is everything there that the snapshot speaks of?
        try:
            for root in document["roots"]:
                manifest = root["manifest"]
                for line in repository.lines(manifest["chunks"], number(manifest["level"], "level", 9), lambda first, why: need(False, why)):
                    for chunk in parse(line).get("chunks", []):
                        need(chunk in repository.where, f"chunk {chunk} is in no pack")
        except WRONG as error:
            repository.complain(f"snapshot {name}", reason(error))
    print(f"{len(documents)} snapshots, {len(repository.where)} chunks, {repository.problems} problems")
    return 3 if repository.problems else 0


def main():
    sys.stdout.reconfigure(errors="backslashreplace"), sys.stderr.reconfigure(errors="backslashreplace")
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("list", listing), ("check", check)):
        sub = commands.add_parser(name)
        sub.add_argument("repo", nargs="?", default=here)
        sub.set_defaults(run=what)
    sub = commands.add_parser("restore")
    sub.add_argument("snapshot")
    sub.add_argument("target")
    sub.add_argument("--path", help="only this path, as it was on the source, and what is below it")
    sub.add_argument("--names", action="store_true", help="owners by name instead of by number")
    sub.add_argument("--repo", default=here)
    sub.set_defaults(run=restore)
    arguments = parser.parse_args()
    try:
        return arguments.run(Repository(arguments.repo), arguments)
    except WRONG as error:
        print(f"recover.py: {reason(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
