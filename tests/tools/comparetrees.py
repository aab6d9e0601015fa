#!/usr/bin/env python3
"""Compares two directory trees entry by entry: everything that Linux keeps of them.

Type, mode, owner, size, content, mtime, link target, device number, every extended attribute (ACLs and capabilities
included), hard-link groups, holes, and the flags nodump, immutable and append-only. Each difference is one line with
escaped names and the exit status is 1; otherwise `identical: N entries` and 0. Both trees are walked by directory
descriptors, so paths may be longer than PATH_MAX. Nothing is written, not even access times where that can be avoided.

--ignore takes a comma-separated list of: mode, owner (or uid, gid), size, content, mtime (or mtime:dir, mtime:link, ...),
target, rdev, xattr (or xattr:user, xattr:trusted, xattr:security, xattr:system.posix_acl_access, ...), links, holes, flags,
unreadable (what neither side lets us read; otherwise that counts as a difference).
"""
import argparse
import errno
import fcntl
import os
import resource
import stat
import struct
import sys

FS_IOC_GETFLAGS = 0x80086601
FLAGS = {0x10: "immutable", 0x20: "append", 0x40: "nodump"}
FLAG_MASK = 0x70
TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}
PIECE = 1 << 20
FIELDS = {"mode", "owner", "uid", "gid", "size", "content", "mtime", "target", "rdev", "xattr", "links", "holes", "flags", "unreadable"}
BYTES_TO_TEXT = [chr(b) if 32 <= b < 127 and b != 92 else "\\\\" if b == 92 else f"\\x{b:02x}" for b in range(256)]
flag_buffer = struct.pack("i", 0)


def escape(name):
    return "".join(BYTES_TO_TEXT[b] for b in os.fsencode(name))


def short(value):
    """A long value, cut for the report."""
    return escape(value[:48]) + (f"... ({len(value)} bytes)" if len(value) > 48 else "")


class Compare:
    def __init__(self, ignore, exclude_sockets, out, limit=None):
        self.ignore, self.exclude_sockets, self.out, self.limit = ignore, exclude_sockets, out, limit
        self.entries = self.differences = 0
        self.groups = ({}, {})  # for each tree: (device, inode) -> paths
        self.want_xattr, self.want_flags = "xattr" not in ignore, "flags" not in ignore
        self.ignored_xattrs = tuple(i[6:] for i in ignore if i.startswith("xattr:"))
        self.noatime = os.O_NOATIME

    def differ(self, path, text):
        self.differences += 1
        if self.limit is None or self.differences <= self.limit:
            self.out.write(f"{escape(path) or '.'}: {text}\n")

    # -- reading one side --

    def open(self, name, directory, dir_fd):
        """Opens a file or a directory for reading; None if we may not."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | self.noatime | (os.O_DIRECTORY if directory else 0)
        try:
            return os.open(name, flags, dir_fd=dir_fd)
        except PermissionError:
            if flags & os.O_NOATIME:  # allowed for the owner only
                try:
                    return os.open(name, flags & ~os.O_NOATIME, dir_fd=dir_fd)
                except PermissionError:
                    pass
            return None

    def xattrs(self, target):
        """All extended attributes of a descriptor, or of a path without following it."""
        follow = isinstance(target, int)
        try:
            keys = os.listxattr(target, follow_symlinks=follow)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
                return {}
            raise
        if not keys:
            return {}
        values = {}
        for key in keys:
            if not self.skip_xattr(key):
                try:
                    values[key] = os.getxattr(target, key, follow_symlinks=follow)
                except OSError as error:  # as bytes, so that it differs from any value of the other side
                    values[key] = b"?" + os.fsencode(error.strerror or "")
        return values

    def skip_xattr(self, key):
        return any(key == i or key.startswith(i + ".") for i in self.ignored_xattrs)

    @staticmethod
    def flags(fd):
        try:
            return struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, flag_buffer))[0] & FLAG_MASK
        except OSError:
            return 0  # a file system without flags

    @staticmethod
    def segments(fd, size):
        """The parts of a file that hold data, as (start, end); the rest is holes."""
        found, at = [], 0
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # only a hole is left
                return [(0, size)]  # a file system without holes
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            if start < size:
                found.append((start, at))
        return found

    # -- comparing --

    def content(self, path, a, b, size):
        segments = self.segments(a, size), self.segments(b, size)
        if segments[0] != segments[1] and "holes" not in self.ignore:
            # Named by the first place where the maps part, which is what one wants to look at.
            first = next((pair for pair in zip(*segments) if pair[0] != pair[1]), (segments[0][-1:], segments[1][-1:]))
            self.differ(path, f"holes: {len(segments[0])} and {len(segments[1])} data segments, first difference {first[0]} and {first[1]}")
        if "content" in self.ignore:
            return
        # Read what is data on either side; where both have a hole, both read as zeros.
        done = 0
        for start, end in sorted(segments[0] + segments[1]) if segments[0] != segments[1] else segments[0]:
            start = max(start, done)
            while start < end:
                want = min(PIECE, end - start)
                left, right = os.pread(a, want, start), os.pread(b, want, start)
                if left != right:
                    at = next((i for i, (x, y) in enumerate(zip(left, right)) if x != y), min(len(left), len(right)))
                    self.differ(path, f"content differs at byte {start + at}")
                    return
                if not left:
                    self.differ(path, "content ends early: it changes while it is read")
                    return
                start += len(left)
            done = max(done, end)

    def entry(self, path, name, stats, fds):
        """Compares one entry that both sides have. Gives the descriptors of the two directories if it is one."""
        a, b = stats
        self.entries += 1
        ignore = self.ignore
        kind = stat.S_IFMT(a.st_mode)
        if kind != stat.S_IFMT(b.st_mode):
            self.differ(path, f"type: {TYPES[kind]} and {TYPES[stat.S_IFMT(b.st_mode)]}")
            return None
        if a.st_mode != b.st_mode and "mode" not in ignore and kind != stat.S_IFLNK:
            self.differ(path, f"mode: {stat.S_IMODE(a.st_mode):04o} and {stat.S_IMODE(b.st_mode):04o}")
        if a.st_uid != b.st_uid and "uid" not in ignore:
            self.differ(path, f"uid: {a.st_uid} and {b.st_uid}")
        if a.st_gid != b.st_gid and "gid" not in ignore:
            self.differ(path, f"gid: {a.st_gid} and {b.st_gid}")
        if a.st_mtime_ns != b.st_mtime_ns and "mtime" not in ignore and f"mtime:{TYPES[kind]}" not in ignore:
            self.differ(path, f"mtime: {a.st_mtime_ns} and {b.st_mtime_ns}")
        if a.st_rdev != b.st_rdev and kind in (stat.S_IFCHR, stat.S_IFBLK) and "rdev" not in ignore:
            self.differ(path, "rdev: " + " and ".join(f"{os.major(s.st_rdev)}:{os.minor(s.st_rdev)}" for s in stats))
        if kind != stat.S_IFDIR and (a.st_nlink > 1 or b.st_nlink > 1):
            for group, s in zip(self.groups, stats):
                group.setdefault((s.st_dev, s.st_ino), []).append(path)

        if kind == stat.S_IFLNK and "target" not in ignore:
            left, right = (os.readlink(name, dir_fd=fd) for fd in fds)
            if left != right:
                self.differ(path, f"target: {short(os.fsencode(left))} and {short(os.fsencode(right))}")

        opened = [None, None]
        if kind == stat.S_IFREG or kind == stat.S_IFDIR:
            opened = [self.open(name, kind == stat.S_IFDIR, fd) for fd in fds]
            if None in opened and "unreadable" not in ignore:
                self.differ(path, "may not be read" + (" in A" if opened[1] is not None else " in B" if opened[0] is not None else "") + ", so it was not compared")
        if self.want_xattr:
            left, right = (self.xattrs(o if o is not None else f"/proc/self/fd/{fd}/{name}") for o, fd in zip(opened, fds))
            if left != right:
                for key in sorted(left.keys() | right.keys()):
                    if left.get(key) != right.get(key):
                        self.differ(path, f"xattr {escape(key)}: " + " and ".join("absent" if s.get(key) is None else f'"{short(s[key])}"' for s in (left, right)))
        if None not in opened and self.want_flags:
            left, right = map(self.flags, opened)
            if left != right:
                self.differ(path, "flags: " + " and ".join(",".join(n for bit, n in FLAGS.items() if f & bit) or "none" for f in (left, right)))
        if kind == stat.S_IFREG:
            if a.st_size != b.st_size:
                if "size" not in ignore:
                    self.differ(path, f"size: {a.st_size} and {b.st_size}")
            elif a.st_size and None not in opened:
                self.content(path, *opened, a.st_size)
        if kind == stat.S_IFDIR and None not in opened:
            return opened
        for fd in opened:
            if fd is not None:
                os.close(fd)
        return None

    def lone(self, path, name, fd, which):
        kind = stat.S_IFMT(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        if not (self.exclude_sockets and kind == stat.S_IFSOCK):
            self.differ(path, f"only in {which} ({TYPES[kind]})")

    def walk(self, fds, root_entry):
        """The whole walk, without recursion: trees may be thousands of levels deep."""
        stats = [os.stat(fd) for fd in fds]
        if root_entry:
            again = self.entry("", ".", stats, fds)
            for fd in again or ():
                os.close(fd)
        stack = [("", fds)]
        while stack:
            path, fds = stack.pop()
            a, b = fds
            # From a descriptor Python gives text with surrogates for bytes that are no UTF-8: exact both ways.
            left, right = set(os.listdir(a)), set(os.listdir(b))
            prefix = path + "/" if path else ""
            below = []
            for name in sorted(left | right):
                full = prefix + name
                if name not in right:
                    self.lone(full, name, a, "A")
                elif name not in left:
                    self.lone(full, name, b, "B")
                else:
                    stats = os.stat(name, dir_fd=a, follow_symlinks=False), os.stat(name, dir_fd=b, follow_symlinks=False)
                    if self.exclude_sockets and all(stat.S_ISSOCK(s.st_mode) for s in stats):
                        continue
                    deeper = self.entry(full, name, stats, fds)
                    if deeper:
                        below.append((full, deeper))
            for fd in fds:
                os.close(fd)
            stack.extend(reversed(below))
        if "links" not in self.ignore:
            self.links()

    def links(self):
        """The two trees must put the same paths together into inodes."""
        mine, other = ({path: group for group in groups.values() for path in group} for groups in self.groups)
        told = set()
        for path, group in mine.items():
            if path not in told and set(group) != set(other[path]):
                told.update(group, other[path])
                self.differ(path, f"links: with {len(group) - 1} others ({self.some(group, path)}) and with {len(other[path]) - 1} others ({self.some(other[path], path)})")

    @staticmethod
    def some(group, path):
        others = [escape(p) for p in group if p != path]
        return ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--ignore", default="", metavar="LIST", help="what not to compare, see above")
    parser.add_argument("--no-root-entry", action="store_true", help="do not compare the two top directories themselves")
    parser.add_argument("--exclude-sockets", action="store_true", help="as if neither side had sockets")
    args = parser.parse_args()

    ignore = {word for word in args.ignore.split(",") if word}
    unknown = [word for word in ignore if word.split(":")[0] not in FIELDS]
    if unknown:
        parser.error(f"--ignore does not know {', '.join(unknown)}")
    if "owner" in ignore:
        ignore |= {"uid", "gid"}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    compare = Compare(ignore, args.exclude_sockets, sys.stdout)
    compare.walk([os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (args.a, args.b)], not args.no_root_entry)
    if compare.differences:
        print(f"different: {compare.differences} differences in {compare.entries} entries")
        return 1
    print(f"identical: {compare.entries} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
