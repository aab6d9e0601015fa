#!/usr/bin/env python3
"""Checks the test tools themselves: that they agree on what is the same and notice everything that is not.

    selfcheck.py --work DIR [trees damage campaigns strace]

DIR decides the file system it runs on. As root it checks more.
"""
import argparse
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
failures = 0


def tool(name, *args, **kwargs):
    return subprocess.run([sys.executable, os.path.join(HERE, name), *args], capture_output=True, **kwargs)


def check(good, what, detail=b""):
    global failures
    if not good:
        failures += 1
    print(f"{'ok  ' if good else 'FAIL'} {what}" + (f"\n{detail.decode(errors='replace')[:2000]}" if not good else ""))


def set_flag(path, flag, on):
    fd = os.open(path, os.O_RDONLY)
    value = struct.unpack("i", fcntl.ioctl(fd, 0x80086601, struct.pack("i", 0)))[0]
    fcntl.ioctl(fd, 0x40086602, struct.pack("i", value | flag if on else value & ~flag))
    os.close(fd)


def keeping_time(path, change):
    """Does the change and puts the mtimes back, so that only the change itself can be noticed."""
    parent = os.path.dirname(path)
    before = os.lstat(path), os.lstat(parent)
    change()
    for where, was in ((path, before[0]), (parent, before[1])):
        os.utime(where, ns=(was.st_atime_ns, was.st_mtime_ns), follow_symlinks=False)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def replace_link(path, target):
    os.unlink(path)
    os.symlink(target, path)


def relink(path, source):
    os.unlink(path)
    os.link(source, path, follow_symlinks=False)


def punch(path, offset, size):
    subprocess.run(["fallocate", "--punch-hole", "--offset", str(offset), "--length", str(size), path], check=True)


def fill(path, offset, size):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\0" * size)


def remake_device(path, kind, device):
    os.unlink(path)
    os.mknod(path, kind | 0o640, device)


def trees(work):
    a, b = os.path.join(work, "a"), os.path.join(work, "b")
    for tree in (a, b):
        done = tool("maketree.py", tree)
        check(done.returncode == 0, f"maketree makes {tree}", done.stderr)
    print("     " + "\n     ".join(done.stderr.decode().splitlines()))
    root = os.geteuid() == 0
    done = tool("comparetrees.py", a, b, *([] if root else ["--ignore", "unreadable"]))
    check(done.returncode == 0 and done.stdout.startswith(b"identical: "), "two trees of one seed are identical", done.stdout)

    at = lambda name: os.path.join(b, name)
    changes = [  # (what must be named, where, how)
        ("content differs at byte 2000000", "contents/random-several-mib", lambda p: flip(p, 2_000_000)),
        ("content differs at byte 0", "contents/random-1", lambda p: flip(p, 0)),
        ("content differs at byte 4194304", "sparse/data at the end", lambda p: flip(p, 4 << 20)),
        ("size: 4097 and 4096", "contents/random-4097", lambda p: os.truncate(p, 4096)),
        ("mode: 0644 and 0645", "contents/random-2", lambda p: os.chmod(p, 0o645)),
        ("mode: 4711 and 0711", "modes/file 4711", lambda p: os.chmod(p, 0o711)),
        ("target: file and files", "symlinks/relative", lambda p: replace_link(p, "files")),
        ("xattr user.binary: ", "xattrs/user file", lambda p: os.setxattr(p, "user.binary", b"other")),
        ("xattr user.empty: \"\" and absent", "xattrs/user dir", lambda p: os.removexattr(p, "user.empty")),
        ("xattr system.posix_acl_access: ", "acls/access", lambda p: os.removexattr(p, "system.posix_acl_access")),
        ("xattr system.posix_acl_default: ", "acls/both", lambda p: os.removexattr(p, "system.posix_acl_default")),
        ("holes: 2 and 1", "sparse/hole in the middle", lambda p: fill(p, 65536, (2 << 20) - 65536)),
        ("holes: 1 and 0", "sparse/real zeros", lambda p: punch(p, 0, 4 << 20)),
        ("holes: 1 and 2", "sparse/zeros in the middle", lambda p: punch(p, 65536, 1 << 20)),
        ("links: with 4 others", "links/far/file", lambda p: (shutil.copy2(p, p + "~"), os.rename(p + "~", p))),
        ("links: with 0 others", "links/far/same", lambda p: relink(p, at("links/near/same, but not linked"))),
        ("links: with 1 others", "links/far/symlink", lambda p: replace_link(p, "file")),
        ("type: fifo and file", "specials/fifo", lambda p: (os.unlink(p), open(p, "x").close())),
        ("only in B (file)", "empty directories/empty 1/new", lambda p: open(p, "x").close()),
        ("only in A (file)", "names/-rf", os.unlink),
        ("flags: none and nodump", "contents/empty", lambda p: set_flag(p, 0x40, True)),
    ]
    if root:
        changes += [
            ("uid: 12345 and 12346", "owners/file 12345-54321", lambda p: os.chown(p, 12346, -1)),
            ("gid: 54321 and 7", "owners/link 12345-54321", lambda p: os.lchown(p, -1, 7)),
            ("xattr security.capability: ", "capabilities/v2", lambda p: os.removexattr(p, "security.capability")),
            ("xattr trusted.link: ", "xattrs/trusted link", lambda p: os.removexattr(p, "trusted.link", follow_symlinks=False)),
            ("xattr security.fifo: ", "xattrs/security fifo", lambda p: os.removexattr(p, "security.fifo", follow_symlinks=False)),
            ("rdev: 8:300 and 8:44", "specials/block 8-300", lambda p: remake_device(p, 0o060000, os.makedev(8, 44))),
            ("flags: none and immutable", "contents/random-511", lambda p: set_flag(p, 0x10, True)),
            ("flags: none and append", "contents/small", lambda p: set_flag(p, 0x20, True)),
        ]
    for text, name, change in changes:
        if not os.path.lexists(at(name)) and not text.startswith("only in B"):
            print(f"     not made here: {name}")
            continue
        if text.startswith(("flags", "type", "only")) or "chown" in str(change):
            change(at(name))
        elif "links" in text or text.startswith("target") or text.startswith("rdev"):
            was = os.lstat(at(name))
            change(at(name))
            os.utime(at(name), ns=(was.st_atime_ns, was.st_mtime_ns), follow_symlinks=False)
        else:
            keeping_time(at(name), lambda: change(at(name)))
        done = tool("comparetrees.py", a, b)
        lines = [line for line in done.stdout.decode().splitlines() if line.startswith(name + ":") or name in line]
        check(done.returncode == 1 and any(text in line for line in lines), f"notices {name}: {text}", done.stdout)
    for time_of in ("times/file zero", "times/dir zero", "times/link zero"):
        os.utime(at(time_of), ns=(0, 1), follow_symlinks=False)
        done = tool("comparetrees.py", a, b)
        check(f"{time_of}: mtime: 0 and 1".encode() in done.stdout, f"notices 1 ns on {time_of}", done.stdout)
    # The very bottom of the deep path, reached by steps.
    fd = os.open(at("deep"), os.O_RDONLY)
    while True:
        below = [name for name in os.listdir(fd) if name[:2].isdigit()]
        if not below:
            break
        fd, old = os.open(below[0], os.O_RDONLY, dir_fd=fd), fd
        os.close(old)
    os.chmod("bottom", 0o641, dir_fd=fd)
    os.close(fd)
    done = tool("comparetrees.py", a, b)
    check(any(line.endswith(b"/bottom: mode: 0640 and 0641") and len(line) > 7000 for line in done.stdout.splitlines()), "notices a mode under 7,000 bytes of path")
    done = tool("comparetrees.py", a, b, "--ignore", "mode,owner,size,content,mtime,target,rdev,xattr,links,holes,flags,unreadable")
    kinds = {line.split(b": ")[-1].split(b" ")[0] for line in done.stdout.splitlines()[:-1]}
    check(all(b": only in" in line or b": type: " in line for line in done.stdout.splitlines()[:-1]), f"--ignore of everything leaves types and names {kinds}", done.stdout)
    for path, flag in ((at("contents/random-511"), 0x10), (at("contents/small"), 0x20)):
        set_flag(path, flag, False)

    many = [os.path.join(work, name) for name in ("many a", "many b")]
    for tree in many:
        done = tool("maketree.py", tree, "--kinds", "none", "--entries", "200000")
        check(done.returncode == 0, "maketree makes 200,000 entries", done.stderr)
    start = time.monotonic()
    done = tool("comparetrees.py", *many)
    took = time.monotonic() - start
    check(done.stdout == b"identical: 200002 entries\n" and took < 20, f"compares 200,000 entries in {took:.1f} s", done.stdout)
    for tree in many:
        shutil.rmtree(tree)

    flagged = os.path.join(work, "flagged")
    done = tool("maketree.py", flagged, "--kinds", "portable", "--flags")
    check(done.returncode == 0, "maketree --flags --kinds portable", done.stderr)
    print("     " + "\n     ".join(done.stderr.decode().splitlines()))
    subprocess.run(["chattr", "-R", "-i", "-a", os.path.join(flagged, "flags")], check=root, stderr=subprocess.DEVNULL)


def tree_state(top):
    state = {}
    for where, dirs, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                state[os.path.relpath(path, top)] = (file.read(), os.stat(path).st_mode, os.stat(path).st_mtime_ns)
    return state


def damage(work):
    repo, older = os.path.join(work, "repo"), os.path.join(work, "older")
    for top, version in ((older, 1), (repo, 2)):
        for name, data in (("repository.json", b"{}%d" % version), ("RECOVER.md", b"text" * 3000), ("packs/ab/one", os.urandom(20000)), ("packs/cd/two", os.urandom(9000)),
                           ("packs/cd/zeros", bytes(5000)), ("index/a", b"index\n"), ("snapshots/empty", b""), ("snapshots/\udcff", b"s")):
            path = os.path.join(top, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o444)
    lines = tool("damage.py", "list", repo, "--older", older).stdout.splitlines()
    before, seen, wrong = tree_state(repo), {}, []
    for line in lines:
        one = json.loads(line)
        seen[one["kind"]] = seen.get(one["kind"], 0) + 1
        done = tool("damage.py", "apply", repo, line)
        after = tree_state(repo)
        changed = {path for path in before if before[path] != after.get(path)}
        expected = {one["path"]} | ({one["with"]} if one["kind"] == "swap" else set())
        stat_kept = all(before[path][1:] == after[path][1:] for path in after)
        if done.returncode or changed != expected or not stat_kept:
            wrong.append(line + done.stderr)
        done = tool("damage.py", "undo", repo, line)
        if done.returncode or tree_state(repo) != before:
            wrong.append(b"undo " + line + done.stderr)
    check(not wrong, f"each of {len(lines)} damages changes just its file, and undo takes it back: {seen}", b"\n".join(wrong))
    check(len(seen) == 11, "every kind of damage is made")
    check(not os.path.exists(repo + ".undo"), "nothing is left of the side directory")


def stand_in(work):
    """The stand-in program as one executable."""
    path = os.path.join(work, "toy")
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {sys.executable} -S -E {os.path.join(HERE, "toy.py")} "$@"\n')
    os.chmod(path, 0o755)
    return path


def bug(name):
    return {**os.environ, "TOY_BUG": name}


def campaigns(work):
    """Each campaign passes the right stand-in and fails each wrong one for its own reason."""
    program = stand_in(work)
    arguments = ["--lifeboat", program, "--work", work]
    for name, column in (("", None), ("blind-verify", "silent"), ("blind-records", "silent"), ("unchecked-read", "wrong"), ("exit-0", "silent"), ("wrong-names", "misnamed")):
        done = tool("campaign_damage.py", *arguments, "--flips", "0", "--strict", *(["--kinds", "delete,flip"] if name else []), env=bug(name))
        total = next((line for line in done.stdout.decode().splitlines() if line.startswith("| **all**")), "")
        cells = dict(zip(("damages", "detected", "silent", "wrong", "crash", "misnamed", "collateral", "healed"), [cell.strip(" *") for cell in total.split("|")[3:]]))
        good = done.returncode == 0 if column is None else done.returncode == 1 and cells.get(column, "0") != "0"
        check(good, f"damage campaign, bug '{name}': {cells}", done.stdout[-3000:] + done.stderr)
    for name, words in (("", "passed"), ("early-document", "does not restore"), ("needs-unlock", "next snapshot exits"), ("greedy-prune", "does not restore"), ("litter", "files in tmp/")):
        done = tool("campaign_kill.py", *arguments, "--kills", "20", "--files", "300", env=bug(name))
        good = (done.returncode == 0) == (not name) and words in done.stdout.decode()
        check(good, f"kill campaign, bug '{name}'", done.stdout[-3000:] + done.stderr)


TRACE = "openat,linkat,link,rename,renameat,renameat2,fsync,fdatasync,syncfs,write,pwrite64,close,mkdir,mkdirat"


def strace(work):
    program, log = stand_in(work), os.path.join(work, "log")
    source = os.path.join(work, "source")
    os.mkdir(source)
    with open(os.path.join(source, "file"), "wb") as file:
        file.write(os.urandom(3_000_000))
    for name, words in (("", " 0 violations"), ("no-file-sync", "without an fsync of the file"), ("no-dir-sync", "no fsync of the directory"), ("write-after-sync", "after its fsync"),
                        ("in-place", "under its final name"), ("early-document", "after the snapshot document")):
        repo = os.path.join(work, "repo" + name)
        subprocess.run([program, "init", "-q", "-r", repo], check=True)
        subprocess.run(["strace", "-f", "-yy", "-o", log, "-e", "trace=" + TRACE, program, "snapshot", "-q", "-r", repo, source], env=bug(name), check=True, stdout=subprocess.DEVNULL)
        done = tool("strace_order.py", log, repo)
        check((done.returncode == 0) == (not name) and words in done.stdout.decode(), f"strace order, bug '{name}': {done.stdout.decode().splitlines()[-1]}", done.stdout + done.stderr)
    # Threads, syncfs, O_TMPFILE and a call that began too early, as a log written by hand.
    packs = os.path.join(repo, "packs")
    lines = [
        f'7 openat(AT_FDCWD</>, "{packs}", O_RDWR|O_TMPFILE, 0600) = 5<{packs}/#12 (deleted)>',
        f'7 write(5<{packs}/#12 (deleted)>, "a, \\"b\\"", 6) = 6',
        f'7 fsync(5<{packs}/#12 (deleted)> <unfinished ...>',
        f'8 mkdir("{packs}/zz", 0700)   = 0',
        '7 <... fsync resumed>)             = 0',
        f'7 linkat(AT_FDCWD</>, "/proc/self/fd/5", AT_FDCWD</>, "{packs}/zz/one", AT_SYMLINK_FOLLOW) = 0',
        f'7 rename("{repo}/tmp/x", "{repo}/snapshots/abc.json") = 0',
    ]
    for what, extra, code, words in (("no syncfs", {}, 1, "parent of the new directory"), ("a syncfs", {6: f"8 syncfs(3<{repo}>) = 0", 99: f"7 syncfs(3<{repo}>) = 0"}, 0, " 0 violations"),
                                     ("a syncfs too late", {98: f"8 syncfs(3<{repo}>) = 0"}, 1, "no fsync of the directory of packs/zz/one")):
        text = []
        for number, line in enumerate(lines):
            text += [extra[number]] if number in extra else []
            text.append(line)
        text += [extra[number] for number in sorted(extra) if number >= len(lines)]
        with open(log, "w") as file:
            file.write("\n".join(text) + "\n")
        done = tool("strace_order.py", log, repo)
        check(done.returncode == code and words in done.stdout.decode(), f"strace order, log with {what}", done.stdout + done.stderr)


PARTS = {"trees": trees, "damage": damage, "campaigns": campaigns, "strace": strace}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made and removed below it")
    parser.add_argument("parts", nargs="*", help=f"some of: {' '.join(PARTS)}")
    args = parser.parse_args()
    for part in args.parts or PARTS:
        work = tempfile.mkdtemp(prefix="selfcheck-", dir=args.work)
        try:
            PARTS[part](work)
        finally:
            # Directories without permissions stop an ordinary user's removal; open them first.
            subprocess.run(["chmod", "-R", "u+rwX", work], stderr=subprocess.DEVNULL)
            subprocess.run(["rm", "-rf", work])
    print("all good" if not failures else f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
