#!/usr/bin/env python3
"""Makes a fidelity tree: a directory that holds every kind of entry a Linux file system can hold.

What the current user or the file system cannot make is left out and named on stderr (`skipped: ...`). The same seed gives
the same tree, times included, so two runs can be compared with each other. Everything is made through directory
descriptors, because one path in it is longer than PATH_MAX. Independent of the code under test, standard library only.
"""
import argparse
import errno
import fcntl
import os
import pwd
import random
import stat
import struct
import sys

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FLAGS = {"nodump": 0x40, "immutable": 0x10, "append": 0x20}
SECOND = 1_000_000_000
MIB = 1 << 20
TIMES = {  # name -> nanoseconds since 1970
    "1901": -2_147_483_648 * SECOND,
    "minus_1.5s": -1_500_000_000,
    "minus_1ns": -1,
    "zero": 0,
    "one_ns": 1,
    "2038": 2_147_483_648 * SECOND + 123_456_789,
    "2040": 2_208_988_800 * SECOND + 1,
    "2106": 4_294_967_296 * SECOND + 999_999_999,
    "2400": 13_569_465_600 * SECOND + 400_000_001,
}


def escape(name):
    """A name as printable ASCII, whatever bytes it holds."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else "\\\\" if b == 92 else f"\\x{b:02x}" for b in os.fsencode(name))


def skipped(what, why):
    print(f"skipped: {what}: {why}", file=sys.stderr)


def acl(*entries):
    """The binary value of system.posix_acl_*: a version, then (tag, permissions, id) each, sorted as the kernel wants."""
    tags = {"u": 0x01, "U": 0x02, "g": 0x04, "G": 0x08, "m": 0x10, "o": 0x20}
    packed = [(tags[tag], perm, who) for tag, perm, who in entries]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in packed)


NOBODY = 0xFFFFFFFF  # the id field of entries that name no one
ACL_ACCESS = acl(("u", 7, NOBODY), ("U", 5, 12345), ("U", 6, 65534), ("g", 5, NOBODY), ("G", 7, 54321), ("m", 7, NOBODY), ("o", 1, NOBODY))
ACL_MASKED = acl(("u", 6, NOBODY), ("U", 7, 3_000_000_000), ("g", 4, NOBODY), ("m", 4, NOBODY), ("o", 0, NOBODY))
ACL_DEFAULT = acl(("u", 7, NOBODY), ("U", 7, 12345), ("g", 5, NOBODY), ("G", 5, 54321), ("m", 7, NOBODY), ("o", 0, NOBODY))
CAP_NET_RAW, CAP_NET_BIND = 1 << 13, 1 << 10
CAP_V2 = struct.pack("<IIIII", 0x02000001, CAP_NET_RAW | CAP_NET_BIND, 0, 0, 0)
CAP_V3 = struct.pack("<IIIIII", 0x03000001, CAP_NET_RAW, 0, 0, 0, 100000)  # bound to the root of a user namespace


class Dir:
    """A directory held open; its own mode, owner and time are set at the very end, deepest first."""

    made = []

    def __init__(self, fd, label, rng):
        self.fd, self.label, self.rng = fd, label, rng
        self.mode, self.owner, self.flag, self.xattrs = 0o755, None, None, {}
        self.time = random_time(rng)
        Dir.made.append(self)

    def sub(self, name, mode=0o755):
        """Makes a directory below; raises OSError if that is impossible."""
        name = os.fsencode(name)
        os.mkdir(name, 0o700, dir_fd=self.fd)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.fd)
        made = Dir(fd, f"{self.label}/{escape(name)}", self.rng)
        made.mode = mode
        return made

    def named(self, name):
        """A short path for calls that take no directory descriptor (extended attributes)."""
        return b"/proc/self/fd/%d/%s" % (self.fd, os.fsencode(name))

    def finish(self):
        what = self.label
        for key, value in self.xattrs.items():
            attempt(f"{what} xattr {escape(key)}", os.setxattr, self.fd, key, value)
        if self.owner:
            attempt(f"{what} owner {self.owner}", os.chown, self.fd, *self.owner)
        attempt(f"{what} mode {self.mode:o}", os.chmod, self.fd, self.mode)
        if os.stat(self.fd).st_mode & 0o7777 != self.mode:
            skipped(f"{what} mode {self.mode:o}", "the kernel took a bit away")
        set_time(what, self.time, self.fd)
        if self.flag:
            attempt(f"{what} flag {self.flag}", set_flag, self.fd, self.flag)
        os.close(self.fd)


def attempt(what, call, *args, **kwargs):
    """Runs one call; what fails is skipped and said. Gives True on success."""
    try:
        call(*args, **kwargs)
        return True
    except OSError as error:
        skipped(what, error.strerror)
        return False


def random_time(rng):
    return rng.randrange(946_684_800 * SECOND, 1_700_000_000 * SECOND)


def set_time(what, time, target, **how):
    """Sets the mtime (and an atime of its own), and says so when the file system kept another."""
    if not attempt(f"{what} time {time}", os.utime, target, ns=(1_600_000_000 * SECOND, time), **how):
        return
    kept = os.stat(target, **how).st_mtime_ns
    if kept != time:
        skipped(f"{what} time {time}", f"the file system keeps {kept}")


def set_flag(fd, flag):
    value = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", value | FLAGS[flag]))


def put(where, name, data=b"", mode=0o644, time=None, owner=None, xattrs=(), writes=None, size=None):
    """Makes a regular file. `writes` is a list of (offset, bytes) and `size` the length, for sparse ones."""
    what = f"{where.label}/{escape(name)}"
    name = os.fsencode(name)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=where.fd)
    except OSError as error:
        skipped(what, error.strerror)
        return False
    try:
        if size is not None and not attempt(f"{what} of {size} bytes", os.ftruncate, fd, size):
            os.unlink(name, dir_fd=where.fd)
            return False
        for offset, piece in writes if writes is not None else [(0, data)]:
            done = 0
            while done < len(piece):
                done += os.pwrite(fd, piece[done:], offset + done)
        if owner:
            attempt(f"{what} owner {owner}", os.chown, fd, *owner)
        # user. attributes need a writable mode; an ACL must come after the mode, because chmod changes its mask.
        for before_mode in (True, False):
            if not before_mode:
                attempt(f"{what} mode {mode:o}", os.chmod, fd, mode)
            for key, value in xattrs:
                if os.fsencode(key).startswith(b"user.") == before_mode:
                    attempt(f"{what} xattr {escape(key)}", os.setxattr, fd, key, value)
        set_time(what, random_time(where.rng) if time is None else time, fd)
    finally:
        os.close(fd)
    return True


def symlink(where, name, target, time=None):
    what = f"{where.label}/{escape(name)}"
    if attempt(what, os.symlink, os.fsencode(target), os.fsencode(name), dir_fd=where.fd):
        time = random_time(where.rng) if time is None else time
        set_time(what, time, os.fsencode(name), dir_fd=where.fd, follow_symlinks=False)
        return True
    return False


def special(where, name, mode, device=0, time=None):
    """A fifo, socket or device."""
    what = f"{where.label}/{escape(name)}"
    name = os.fsencode(name)
    if attempt(what, os.mknod, name, mode, device, dir_fd=where.fd):
        attempt(f"{what} mode", os.chmod, name, stat.S_IMODE(mode), dir_fd=where.fd)
        set_time(what, random_time(where.rng) if time is None else time, name, dir_fd=where.fd, follow_symlinks=False)
        return True
    return False


def hard_link(source, name, where, other):
    attempt(f"{where.label}/{escape(other)}", os.link, os.fsencode(name), os.fsencode(other),
            src_dir_fd=source.fd, dst_dir_fd=where.fd, follow_symlinks=False)


def compressible(rng, size):
    words = [b"snapshot", b"restore", b"drill", b"verify", b"rollback", b"%d" % rng.randrange(10**9), b"\n"]
    line = b" ".join(rng.choice(words) for _ in range(4000))
    return (line * (size // len(line) + 1))[:size]


# ---- the parts of the tree ------------------------------------------------------------------------------------------

def names(root, _):
    d = root.sub("names")
    odd = [
        b"n" * 255, "é".encode() * 127 + b"x", b"\xff\xfe not utf-8", b"latin-1 \xe9t\xe9", b"half a rune \xe2\x82", b"\x80",
        b"surrogate \xed\xa0\x80", b"overlong \xc0\xaf", b"new\nline", b"\n", b"carriage\rreturn", b"tab\there", b"bell\x07", b"\x7f",
        b"escape \x1b[31mred\x1b]0;title\x07", b"c1 \xc2\x9b31m", b"-rf", b"--", b"-", b" leading space", b"trailing space ", b" ", b"trailing dot.",
        b"...", b".. ", b"..\\x", b"back\\slash", b"\\", b"\\x41", b"\\n", b'double"quote', b"single'quote", b"back`tick`", b"$(touch owned)", b"$HOME",
        b"a;b", b"a|b", b"a&b", b"*", b"?", b"[a-z]", b"{a,b}", b"!bang", b"#hash", b"~", b"~root", b"%s%n", b"%2e%2e", b"a:b", b"C:", b"@latest", b"CON", b"nul.txt",
        "bidi \u202egnp.exe".encode(), "isolate \u2066x\u2069".encode(), "zero\u200bwidth".encode(), "line\u2028separator".encode(), "\ufeffbom".encode(),
        "emoji \U0001f6df".encode(), "日本語".encode(), b"<script>alert(1)<script>", b"<img src=x onerror=alert(1)>", b"&amp;", b"NFC-\xc3\xa9", b"NFD-e\xcc\x81",
        "twin-\u00e9".encode(), "twin-e\u0301".encode(), "twin-\u212b".encode(), "twin-\u00c5".encode(), b"case", b"Case", b"CASE",
        "stra\u00dfe".encode(), "STRASSE".encode(), b".hidden", b"sort", b"sort.d", b"sort-d", b"sort d", b"sort0", b"sort\x01", b"\x01",
    ]
    for number, name in enumerate(odd):
        put(d, name, b"%d\n" % number)
    every = d.sub("every byte")
    for byte in range(1, 256):
        if byte != 0x2F:
            put(every, b"b" + bytes([byte]))
    for name in (b"dir \xff", b"dir\n", b"-dir", b"dir ", b"d" * 255, "répertoire".encode(), b"\x1b[2J"):
        try:
            put(d.sub(name), b"inside " + name[:200], b"in")
        except OSError as error:
            skipped(f"{d.label}/{escape(name)}", error.strerror)
    # A directory's name sorts differently with and without the slash; these catch a walk that mixes the two orders.
    order = d.sub("order")
    for name in ("a", "a b", "a-b", "ab"):
        put(order.sub(name), "x", b"x")
    for name in ("a!", "a.txt", "a0"):
        put(order, name, b"x")


def deep(root, _):
    d = first = root.sub("deep")
    length = 0
    try:
        for level in range(34):
            name = f"{level:02d}-".encode() + b"p" * 215
            d = d.sub(name)
            length += len(name) + 1
            if level % 8 == 0:
                put(d, "on the way", b"level %d" % level)
    except OSError as error:
        skipped("deep path", error.strerror)
        return
    assert length > 7000
    d.xattrs["user.deep"] = b"bottom"
    put(d, "bottom", b"the bottom of a path of more than 7,000 bytes\n", 0o640, xattrs=[("user.deep", b"file")])
    put(d, "sparse", writes=[(0, b"a" * 4096), (MIB, b"z" * 4096)], size=2 * MIB)
    symlink(d, "up", "../../../on the way")
    special(d, "fifo", stat.S_IFIFO | 0o600)
    hard_link(d, "bottom", first, "linked to the bottom")
    d.sub("empty directory")


def contents(root, rng):
    d = root.sub("contents")
    put(d, "empty")
    for size in (1, 2, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 262143, 262144, 262145, MIB - 1, MIB, MIB + 1):
        put(d, f"random-{size}", rng.randbytes(size))
    put(d, "random-several-mib", rng.randbytes(5 * MIB + 12345))
    put(d, "compressible-several-mib", compressible(rng, 6 * MIB + 77))
    put(d, "newlines", b"\n" * 100_000)
    put(d, "looks like a tar", b"ustar\x00" * 512 + b"\0" * 10240)
    put(d, "looks like zstd", b"\x28\xb5\x2f\xfd" + rng.randbytes(1000))
    twin = rng.randbytes(3 * MIB)
    for number in range(3):
        put(d, f"twin-{number}", twin)
    put(d, "twin shifted by one", b"x" + twin)
    put(d, "twin with one byte changed", twin[:MIB] + bytes([twin[MIB] ^ 1]) + twin[MIB + 1:])
    small = d.sub("small")
    for number in range(2000):
        put(small, f"{number:04d}.txt", b"%d " % number * (number % 97))


def times(root, _):
    d = root.sub("times")
    for name, time in TIMES.items():
        put(d, f"file {name}", name.encode(), time=time)
        d.sub(f"dir {name}").time = time
        symlink(d, f"link {name}", "nowhere", time=time)
    special(d, "fifo 2040", stat.S_IFIFO | 0o644, time=TIMES["2040"])
    special(d, "fifo minus_1.5s", stat.S_IFIFO | 0o644, time=TIMES["minus_1.5s"])


def modes(root, _):
    d = root.sub("modes")
    for mode in (0o000, 0o001, 0o111, 0o200, 0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o1644, 0o2755, 0o2644, 0o4755, 0o4711, 0o6755, 0o7777):
        put(d, f"file {mode:04o}", f"{mode:o}".encode(), mode)
    for mode in (0o000, 0o300, 0o500, 0o555, 0o700, 0o711, 0o1777, 0o2775, 0o4755, 0o3770, 0o7777):
        inside = d.sub(f"dir {mode:04o}", mode)
        put(inside, "content", b"content")
        put(inside.sub("below"), "content", b"content")
    for mode in (0o000, 0o622, 0o777):
        special(d, f"fifo {mode:04o}", stat.S_IFIFO | mode)


def owners(root, _):
    d = root.sub("owners")
    if os.geteuid() != 0:
        skipped("owners", "only root gives files away")
        return
    ids = [(12345, 54321), (54321, 0), (2**31 - 1, 2**31), (2**31 + 7, 2**31 + 9), (3_000_000_000, 100), (2**32 - 2, 2**32 - 2), (65534, 65534)]
    known = sorted(pwd.getpwall(), key=lambda entry: entry.pw_uid)[:4] + [e for e in pwd.getpwall() if e.pw_name in ("nobody", "www-data", "postgres")]
    ids += sorted((entry.pw_uid, entry.pw_gid) for entry in known)
    for uid, gid in dict.fromkeys(ids):
        put(d, f"file {uid}-{gid}", b"owned", 0o640, owner=(uid, gid))
        put(d, f"suid {uid}-{gid}", b"owned", 0o6755, owner=(uid, gid))
        sub = d.sub(f"dir {uid}-{gid}", 0o2750)
        sub.owner = (uid, gid)
        for name, make in (("link", lambda n: symlink(d, n, "x")), ("fifo", lambda n: special(d, n, stat.S_IFIFO | 0o640))):
            name = f"{name} {uid}-{gid}"
            if make(name):
                attempt(f"{d.label}/{name} owner", os.chown, name, uid, gid, dir_fd=d.fd, follow_symlinks=False)


def largest(label, target, key, rng, **how):
    """Sets the largest value that the file system takes."""
    for size in (65536, 65535, 60000, 32768, 16000, 8192, 4000, 3900, 3000, 2000, 1000):
        try:
            os.setxattr(target, key, rng.randbytes(size), **how)
            if size < 65536:
                skipped(f"{label} xattr {key} of more than {size} bytes", "the file system takes no more")
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EDQUOT, errno.ENAMETOOLONG):
                skipped(f"{label} xattr {key}", error.strerror)
                return
    skipped(f"{label} xattr {key}", "every size is refused")


def xattrs(root, rng):
    d = root.sub("xattrs")
    spaces = ["user", "trusted", "security"] if os.geteuid() == 0 else ["user"]
    if len(spaces) == 1:
        skipped("xattrs trusted. and security.", "only root sets them")
    for space in spaces:
        values = [(f"{space}.empty", b""), (f"{space}.text", b"value"), (f"{space}.binary", bytes(range(256))), (f"{space}.nul", b"\0"),
                  (f"{space}.new\nline = \"x\"", b"a\nb"), (os.fsencode(f"{space}.") + b"\xff\xfe", b"name is not UTF-8"),
                  (f"{space}." + "n" * (254 - len(space)), b"a name of 255 bytes")]
        put(d, f"{space} file", b"x", xattrs=values)
        put(d, f"{space} empty file", xattrs=values[:3])
        put(d, f"{space} read-only file", mode=0o400, xattrs=values[:3])
        put(d, f"{space} big", b"x")
        largest(f"{d.label}/{space} big", d.named(f"{space} big"), f"{space}.big", rng)
        set_time(f"{d.label}/{space} big", random_time(rng), f"{space} big", dir_fd=d.fd, follow_symlinks=False)
        d.sub(f"{space} dir").xattrs = dict(values)
        many = [(f"{space}.many{number:03d}", b"%d" % number) for number in range(40)]
        put(d, f"{space} many", xattrs=many)
    for space in spaces[1:]:  # user. is for files and directories only
        if symlink(d, f"{space} link", "nowhere"):
            for key, value in ((f"{space}.link", b"on the link itself"), (f"{space}.empty", b"")):
                attempt(f"{d.label}/{space} link xattr", os.setxattr, d.named(f"{space} link"), key, value, follow_symlinks=False)
        if special(d, f"{space} fifo", stat.S_IFIFO | 0o600):
            attempt(f"{d.label}/{space} fifo xattr", os.setxattr, d.named(f"{space} fifo"), f"{space}.fifo", b"v", follow_symlinks=False)


def acls(root, _):
    d = root.sub("acls")
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    put(d, "access", b"x", 0o751, xattrs=[(access, ACL_ACCESS)])
    put(d, "masked", b"x", 0o640, xattrs=[(access, ACL_MASKED)])
    put(d, "acl and attribute", b"x", 0o640, xattrs=[(access, ACL_MASKED), ("user.too", b"1")])
    for name, values in (("default", {default: ACL_DEFAULT}), ("both", {access: ACL_ACCESS, default: ACL_DEFAULT}), ("access dir", {access: ACL_ACCESS})):
        sub = d.sub(name)
        sub.xattrs = values
        # The access ACL decides the group bits, so give the directory the mode that the ACL implies.
        sub.mode = 0o771 if access in values else 0o750
    inherit = d.sub("inherited")  # a default ACL set first: what is made below gets it from the kernel
    if attempt(f"{inherit.label} default acl", os.setxattr, inherit.fd, default, ACL_DEFAULT):
        put(inherit, "file", b"x", 0o660)
        inherit.sub("dir", 0o770)


def capabilities(root, _):
    d = root.sub("capabilities")
    if os.geteuid() != 0:
        skipped("capabilities", "only root sets them")
        return
    # The owner comes first: chown would take the capability away again.
    put(d, "v2", b"\x7fELF binary", 0o755, owner=(12345, 54321), xattrs=[("security.capability", CAP_V2)])
    put(d, "v2 of root", b"\x7fELF binary", 0o755, xattrs=[("security.capability", CAP_V2)])
    put(d, "v3", b"\x7fELF binary", 0o755, owner=(12345, 0), xattrs=[("security.capability", CAP_V3)])
    put(d, "with setuid", b"\x7fELF binary", 0o6755, owner=(12345, 54321), xattrs=[("security.capability", CAP_V2)])


def hard_links(root, rng):
    d = root.sub("links")
    near, far = d.sub("near"), d.sub("far")
    put(near, "file", rng.randbytes(100_000), 0o640, xattrs=[("user.linked", b"1")])
    for where, name in ((near, "file again"), (far, "file"), (d, "\udcff file"), (root, "file linked from links")):
        hard_link(near, "file", where, name)
    put(near, "empty")
    hard_link(near, "empty", far, "empty")
    put(near, "same, but not linked", b"same")
    put(far, "same", b"same")
    if symlink(near, "symlink", "file"):
        hard_link(near, "symlink", far, "symlink")
    if special(near, "fifo", stat.S_IFIFO | 0o600):
        hard_link(near, "fifo", far, "fifo")
    put(near, "suid", b"s", 0o4755)
    hard_link(near, "suid", far, "suid")
    put(near, "many", b"many")
    many = d.sub("many")
    for number in range(300):
        hard_link(near, "many", many, f"{number:03d}")
    put(near, "sparse", writes=[(MIB, b"x")], size=3 * MIB)
    hard_link(near, "sparse", far, "sparse")


def sparse(root, rng):
    d = root.sub("sparse")
    block = rng.randbytes(64 * 1024)
    put(d, "hole in the middle", writes=[(0, block), (2 * MIB, block)], size=2 * MIB + len(block))
    put(d, "all hole", writes=[], size=4 * MIB)
    put(d, "all hole, odd size", writes=[], size=4 * MIB + 17)
    put(d, "all hole, smaller than a block", writes=[], size=100)
    put(d, "tail hole", writes=[(0, block)], size=3 * MIB)
    put(d, "tail hole, odd size", writes=[(0, block)], size=3 * MIB + 1)
    put(d, "data at the end", writes=[(4 * MIB, block)], size=4 * MIB + len(block))
    put(d, "last byte only", writes=[(4 * MIB, b"x")], size=4 * MIB + 1)
    put(d, "many holes", writes=[(number * 256 * 1024, block[:65536]) for number in range(20)], size=20 * 256 * 1024)
    put(d, "hole, zeros, hole", writes=[(MIB, b"\0" * MIB)], size=3 * MIB)
    put(d, "real zeros", b"\0" * (4 * MIB))
    put(d, "real zeros, then data", b"\0" * MIB + block)
    put(d, "real zeros, small", b"\0" * 100)
    put(d, "zeros in the middle", block + b"\0" * MIB + block)


def symlinks(root, _):
    d = root.sub("symlinks")
    put(d, "file", b"x")
    put(d.sub("dir"), "inside", b"x")
    targets = {
        "relative": "file", "to dir": "dir", "to dir with slash": "dir/", "absolute": "/etc/passwd", "dangling": "no such file", "loop": "loop", "loop a": "loop b",
        "loop b": "loop a", "self dir": ".", "parent": "..", "far up": "../" * 60 + "etc", "root": "/", "proc": "/proc/self/root", "double slash": "//etc///passwd",
        "not utf-8": b"\xff\xfe", "newline": "a\nb", "escape": "\x1b[31m", "space at end": "file ", "backslash": "a\\b", "1 byte": "a", "255 bytes": "t" * 255, "1023 bytes": "u" * 1023,
    }
    for name, target in targets.items():
        symlink(d, name, target)
    symlink(d, b"name not utf-8 \xff", "file")
    symlink(d, "4095 bytes", "/".join(["v" * 200] * 21)[:4095])


def specials(root, _):
    d = root.sub("specials")
    special(d, "fifo", stat.S_IFIFO | 0o644)
    special(d, b"fifo \xff\n", stat.S_IFIFO | 0o600)
    special(d, "socket", stat.S_IFSOCK | 0o755)
    devices(d)


def devices(d):
    if os.geteuid() != 0:
        skipped("devices", "only root makes them")
        return
    for name, kind, major, minor in (("char null", stat.S_IFCHR, 1, 3), ("char 0-0", stat.S_IFCHR, 0, 0), ("char large", stat.S_IFCHR, 4095, 1_048_575),
                                     ("char large for xfs", stat.S_IFCHR, 511, 262_143),
                                     ("char minor 256", stat.S_IFCHR, 10, 256), ("block large", stat.S_IFBLK, 259, 1_048_575), ("block 8-300", stat.S_IFBLK, 8, 300)):
        special(d, name, kind | 0o640, os.makedev(major, minor))
    special(d, "char linked", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    hard_link(d, "char linked", d, "char linked again")


def empty_directories(root, _):
    d = root.sub("empty directories")
    for number in range(5):
        d.sub(f"empty {number}", 0o700 + number)
    below = d
    for number in range(10):
        below = below.sub(f"nested {number}")


def flags(root, _):
    d = root.sub("flags")
    for flag in FLAGS:
        if flag != "nodump" and os.geteuid() != 0:
            skipped(f"flag {flag}", "only root sets it")
            continue
        if put(d, flag, b"flagged"):
            fd = os.open(flag, os.O_RDONLY, dir_fd=d.fd)
            attempt(f"{d.label}/{flag}", set_flag, fd, flag)
            os.close(fd)
        sub = d.sub(f"dir {flag}")
        put(sub, "content", b"x")
        sub.flag = flag


def fifo_only(root, _):
    special(root.sub("specials"), "fifo", stat.S_IFIFO | 0o644)


def big(root, rng):
    d = root.sub("big")
    put(d, "random 200 MiB", writes=[(number * MIB, rng.randbytes(MIB)) for number in range(200)])
    put(d, "data beyond 4 GiB", writes=[(0, b"start"), (5 << 30, b"end")], size=(5 << 30) + 3)
    put(d, "120 GiB sparse", writes=[(60 << 30, rng.randbytes(MIB))], size=120 << 30)


def entries(root, count):
    """One directory of many files, nearly all of them empty. Plain calls: this one has to be quick."""
    d = root.sub("entries")
    fd = d.fd
    for number in range(count):
        name = b"%07d" % number
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
        if number % 100 == 0:
            os.write(file, name)
        os.utime(file, ns=(0, 1_500_000_000 * SECOND + number))
        os.close(file)


PORTABLE = [names, deep, contents, times, modes, hard_links, sparse, symlinks, fifo_only, empty_directories]
ALL = [names, deep, contents, times, modes, owners, xattrs, acls, capabilities, hard_links, sparse, symlinks, specials, empty_directories]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", help="where to make it; absent or empty")
    parser.add_argument("--kinds", choices=["all", "portable", "none"], default="all",
                        help="portable: without owners, devices, sockets, attributes, ACLs and capabilities; none: only what the other options ask for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--big", action="store_true", help="also 200 MiB of random bytes and sparse files of 5 GiB and 120 GiB")
    parser.add_argument("--flags", action="store_true", help="also nodump, immutable and append-only entries (`chattr -R -i -a DIR` before deleting)")
    parser.add_argument("--entries", type=int, default=0, metavar="N", help="also one directory of N files")
    args = parser.parse_args()

    os.umask(0o022)
    os.makedirs(args.dir, exist_ok=True)
    if os.listdir(args.dir):
        sys.exit(f"maketree: {args.dir} is not empty")
    root = Dir(os.open(args.dir, os.O_RDONLY | os.O_DIRECTORY), ".", random.Random(args.seed))
    root.mode = 0o751
    if args.kinds == "all":
        root.xattrs["user.root"] = b"the root's own attribute"
    parts = {"all": ALL, "portable": PORTABLE, "none": []}[args.kinds] + ([big] if args.big else []) + ([flags] if args.flags else [])
    for part in parts:
        # Each part has its own generator, so what one part skips does not change the others.
        rng = random.Random(f"{args.seed} {part.__name__}")
        root.rng = rng
        part(root, rng)
    root.rng = random.Random(args.seed)
    if args.entries:
        entries(root, args.entries)
    for made in reversed(Dir.made):
        made.finish()


if __name__ == "__main__":
    main()
