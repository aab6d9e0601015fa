#!/usr/bin/env python3
"""Asserts from a system call log that a snapshot run was durable in the right order.

    strace -f -yy -o LOG -e trace=openat,linkat,link,rename,renameat,renameat2,fsync,fdatasync,syncfs,write,pwrite64,close,mkdir,mkdirat lifeboat snapshot ...
    strace_order.py LOG REPO

For each object that got its name under packs/, index/, snapshots/ or records/ during the run:
 1. fsync(file) had returned before rename or link to its name began, and nothing was written to it after that;
 2. fsync of its directory returned after that, and before any object of a later layer was named (packs < index < snapshot
    signature < snapshot document), or before the end where no such object follows; the same for the parent of a new directory;
 3. it was not written under its final name;
 4. a document comes after all that was stored for it: no pack, index or signature gets its name after the last document;
 5. for a document: its id is not printed before its directory is durable.
A call counts as done where it returned and as begun where it began, whatever other threads did in between. A syncfs of the
repository's file system stands for every fsync before it. Exit status 1 on a violation, 2 if the log shows no object at all.
"""
import argparse
import collections
import os
import re
import sys

LINE = re.compile(r"^(?:\[pid +(\d+)\] |(\d+) +)?(?:[\d:.]+ +)?(.*)$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += +(-?\d+|\?)(.*)$")
TOPS = ("packs", "index", "snapshots", "records")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "\\": "\\", '"': '"'}


def unescape(text):
    def one(match):
        code = match[1]
        return ESCAPES.get(code) or (chr(int(code[1:], 16)) if code[0] == "x" else chr(int(code, 8)) if code.isdigit() else code)
    return re.sub(r"\\(x[0-9a-f]{2}|[0-7]{1,3}|.)", one, text)


def arguments(text):
    """Splits the arguments of a call at commas outside strings and annotations."""
    parts, depth, quoted, current, i = [], 0, False, "", 0
    while i < len(text):
        c = text[i]
        if quoted:
            if c == "\\":
                current += c
                i += 1
                c = text[i] if i < len(text) else ""
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c in "<{[":
            depth += 1
        elif c in ">}]":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(current.strip())
            current, i = "", i + 1
            continue
        current += c
        i += 1
    return parts + [current.strip()]


def annotated(argument):
    """The path in `5</path>`; None without one."""
    match = re.match(r"^[-\w]+<(.*)>$", argument, re.S)
    return unescape(match[1]).removesuffix(" (deleted)") if match else None


def string(argument):
    match = re.match(r'^"(.*)"(\.\.\.)?$', argument, re.S)
    return unescape(match[1]) if match else None


def calls(lines):
    """Yields (begun, done, name, arguments, result, rest) in the order of the ends; numbers are lines of the log."""
    waiting = {}
    for number, line in enumerate(lines, 1):
        match = LINE.match(line.rstrip("\n"))
        pid, text = match[1] or match[2], match[3]
        begun = number
        if text.endswith("<unfinished ...>"):
            waiting[pid] = (number, text.removesuffix("<unfinished ...>").rstrip())
            continue
        resumed = RESUMED.match(text)
        if resumed:
            begun, start = waiting.pop(pid, (number, resumed[1] + "("))
            text = start + resumed[2]
        call = CALL.match(text)
        if call:
            yield begun, number, call[1], arguments(call[2]), call[3], call[4]
    # What never returned (a kill) is not known to have happened, and is left out.


class Object:
    def __init__(self, path, begun, done, layer):
        self.path, self.begun, self.done, self.layer = path, begun, done, layer


class Order:
    def __init__(self, repo, cwd):
        self.repo, self.cwd = os.path.realpath(repo), cwd
        self.device = os.stat(repo).st_dev
        self.synced = {}  # path -> (begun, done) of its last successful fsync
        self.written = collections.defaultdict(int)  # path -> line of the last write
        self.created, self.directories = {}, {}
        self.directory_syncs = collections.defaultdict(list)  # path -> [(begun, done)]
        self.all_syncs = []  # syncfs
        self.objects, self.printed, self.violations = [], [], []
        self.descriptors = {}

    def violate(self, line, text):
        self.violations.append(f"line {line}: {text}")

    def inside(self, path):
        """The path below the repository, or None."""
        return path[len(self.repo) + 1:] if path and path.startswith(self.repo + "/") else None

    def layer(self, path):
        """0 packs, 1 index, 2 signatures, 3 documents; None for records, whose order among the layers does not matter."""
        top = path.split("/")[0]
        return {"packs": 0, "index": 1, "snapshots": 2 if ".sig" in path else 3}.get(top)

    def resolve(self, directory, name):
        """The absolute path of a (descriptor, name) pair, following /proc/self/fd/N."""
        if name is None:
            return None
        match = re.match(r"^/proc/(?:self|thread-self|\d+)/fd/(\d+)$", name)
        if match:
            return self.descriptors.get(match[1])
        base = annotated(directory) if directory else None
        return os.path.normpath(os.path.join(base or self.cwd, name)) if name else base

    def on_file_system(self, path):
        try:
            return os.stat(path).st_dev == self.device
        except (OSError, TypeError):
            return self.inside(path) is not None

    def named(self, old, new, begun, done):
        path = self.inside(new)
        if path is None or path.split("/")[0] not in TOPS or "/" not in path:
            return
        source = self.inside(old)
        if source and source.split("/")[0] in TOPS and any(o.path == source for o in self.objects):
            return self.violate(begun, f"{source} was renamed to {path} after it had its name")
        self.objects.append(Object(path, begun, done, self.layer(path)))
        sync = self.synced.get(old)
        by_all = any(self.written[old] < start and end < begun for start, end in self.all_syncs)
        if not by_all:
            if sync is None:
                self.violate(begun, f"{path} got its name without an fsync of the file")
            elif sync[1] >= begun:
                self.violate(begun, f"{path} got its name before the fsync of the file had returned (line {sync[1]})")
            elif self.written[old] > sync[0]:
                self.violate(begun, f"{path} was written (line {self.written[old]}) after its fsync (line {sync[0]})")
        self.created.pop(old, None)

    def read(self, lines):
        for begun, done, name, args, result, rest in calls(lines):
            good = result != "?" and not result.startswith("-")
            if not good:
                if name in ("fsync", "fdatasync", "syncfs") and "EINVAL" not in rest:
                    self.violate(begun, f"{name}({args[0]}) failed:{rest}")
                continue
            if name == "openat":
                path = re.match(r"^<(.*)>$", rest.strip(), re.S)
                path = unescape(path[1]).removesuffix(" (deleted)") if path else self.resolve(args[0], string(args[1]))
                self.descriptors[result] = path
                inside = self.inside(path)
                if len(args) > 2 and "O_CREAT" in args[2] and inside and inside.split("/")[0] in TOPS:
                    self.created[path] = begun
            elif name == "close":
                self.descriptors.pop(args[0].split("<")[0], None)
            elif name in ("write", "pwrite64"):
                path = annotated(args[0])
                if args[0].split("<")[0] == "1":
                    self.printed.append((begun, string(args[1]) or ""))
                if path:
                    self.written[path] = done
            elif name in ("fsync", "fdatasync"):
                path = annotated(args[0]) or self.descriptors.get(args[0])
                self.synced[path] = (begun, done)
                self.directory_syncs[path].append((begun, done))
            elif name == "syncfs":
                if self.on_file_system(annotated(args[0])):
                    self.all_syncs.append((begun, done))
            elif name in ("mkdir", "mkdirat"):
                path = self.resolve(None, string(args[0])) if name == "mkdir" else self.resolve(args[0], string(args[1]))
                inside = self.inside(path)
                if inside and inside.split("/")[0] in TOPS:
                    self.directories[path] = (begun, done)
            elif name in ("rename", "link"):
                self.named(self.resolve(None, string(args[0])), self.resolve(None, string(args[1])), begun, done)
            elif name in ("renameat", "renameat2", "linkat"):
                self.named(self.resolve(args[0], string(args[1])), self.resolve(args[2], string(args[3])), begun, done)

    def durable(self, directory, since, before):
        """Whether a directory was fsynced between two lines (or the whole file system was)."""
        return any(since < start and end < before for start, end in self.directory_syncs[directory] + self.all_syncs)

    def judge(self):
        ordered = sorted((o for o in self.objects if o.layer is not None), key=lambda o: o.begun)
        last = max((o.begun for o in ordered if o.layer == 3), default=None)
        for one in ordered:
            if last is not None and one.begun > last:
                self.violate(one.begun, f"{one.path} got its name after the snapshot document (line {last})")
        for one in self.objects:
            directory = os.path.dirname(os.path.join(self.repo, one.path))
            later = next((o for o in ordered if one.layer is not None and o.begun > one.begun and o.layer > one.layer), None)
            before = later.begun if later else float("inf")
            what = f"{later.path} got its name" if later else "the end"
            if not self.durable(directory, one.done, before):
                self.violate(one.begun, f"no fsync of the directory of {one.path} before {what}")
            made = self.directories.get(directory)
            if made and not self.durable(os.path.dirname(directory), made[1], before):
                self.violate(made[0], f"no fsync of the parent of the new directory of {one.path} before {what}")
            if one.layer == 3:
                identity = os.path.basename(one.path).split(".")[0]
                for line, text in self.printed:
                    # strace shows the first 32 characters of what is written unless told otherwise.
                    if len(text) >= 16 and text.strip()[:32] == identity[:32] and not self.durable(directory, one.done, line):
                        self.violate(line, f"the id of {one.path} was printed before its directory was durable")
        for path, line in self.created.items():
            if os.path.lexists(path):
                self.violate(line, f"{self.inside(path)} was written under its final name")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log")
    parser.add_argument("repo")
    parser.add_argument("--cwd", default=os.getcwd(), help="the directory the traced program ran in, for relative names")
    args = parser.parse_args()
    order = Order(args.repo, args.cwd)
    with open(args.log, errors="replace") as log:
        order.read(log)
    order.judge()
    counts = collections.Counter(one.path.split("/")[0] for one in order.objects)
    for violation in order.violations:
        print(violation)
    print(f"{len(order.objects)} objects checked ({', '.join(f'{counts[top]} in {top}/' for top in TOPS)}), {len(order.violations)} violations")
    return 1 if order.violations else 0 if order.objects else 2


if __name__ == "__main__":
    sys.exit(main())
