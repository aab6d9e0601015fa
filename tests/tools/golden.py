#!/usr/bin/env python3
"""Golden repositories: what a released version wrote must be readable for ever.

  golden.py make OUT --lifeboat BIN     OUT/repo with two snapshots, and OUT/expect.json that says what is in them
  golden.py check EXPECT NAME TREE      whether TREE is what EXPECT says of the snapshot NAME; differences on stdout, status 1

`make` is for a new version of the format only: what is committed stays as it is. The private key that signs is thrown away; its
public part lies in the repository. `check` reads nothing but the tree. Run by root it looks at owners too.
"""
import argparse
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile

SOURCE = "/srv/golden"


def noise(name, size):
    return hashlib.shake_256(name.encode()).digest(size)


def make_tree(top):
    """Every kind of entry that an ordinary user can make."""
    at = lambda *names: os.path.join(os.fsencode(top), *(os.fsencode(n) for n in names))

    def write(path, data):
        with open(path, "wb") as file:
            file.write(data)

    for name in ("docs", "docs/deeper", "empty directory", "names", "shared", "private"):
        os.makedirs(at(name))
    write(at("docs", "read me.txt"), b"A golden file.\n" * 20)
    write(at("docs", "deeper", "noise"), noise("noise", 300_000))
    write(at("docs", "empty"), b"")
    write(at("zeros"), bytes(200_000))
    for name in (b"not UTF-8 \xff\xfe", b"new\nline and \x1b[31m", b"-dash", "ä é 漢字".encode(), b"trailing ", b"n" * 255, b"back\\slash \"quoted\""):
        write(os.path.join(at("names"), name), b"the file " + name)
    for number in range(60):
        write(at("docs", "deeper", f"small {number:02d}"), b"small file %d\n" % number * number)
    with open(at("sparse"), "wb") as file:
        file.seek(1 << 20)
        file.write(b"after a hole")
        file.truncate(3 << 20)
    os.link(at("zeros"), at("shared", "zeros again"))
    os.symlink("docs/read me.txt", at("relative link"))
    os.symlink("/nonexistent/absolute", at("dangling link"))
    os.symlink(b"loop \xff", at(b"loop \xff"))
    os.link(at("relative link"), at("shared", "link again"), follow_symlinks=False)
    os.mkfifo(at("fifo"), 0o640)
    os.setxattr(at("docs", "read me.txt"), "user.origin", b"binary \x00\xff")
    os.setxattr(at("docs"), "user.directory", b"")
    for name, mode in (("docs/empty", 0o4755), ("docs/read me.txt", 0o400), ("shared", 0o1777), ("private", 0o700), ("zeros", 0o2710)):
        os.chmod(at(name), mode)
    for name, when in (("zeros", -1), ("sparse", 7_258_118_400_123_456_789), ("dangling link", 1_000_000_000_987_654_321), ("docs/deeper", 0), ("docs", 1_234_567_890_000_000_001)):
        os.utime(at(name), ns=(0, when), follow_symlinks=False)


def change_tree(top):
    os.unlink(os.path.join(top, "zeros"))
    with open(os.path.join(top, "docs/deeper/noise"), "r+b") as file:
        file.seek(150_000)
        file.write(b"changed in the middle")
    os.rename(os.path.join(top, "fifo"), os.path.join(top, "empty directory/fifo moved"))
    os.mkdir(os.path.join(top, "new"))


def describe(top):
    """What must come back of each entry, by its path with escapes."""
    found, first = {}, {}
    top = os.fsencode(top)
    places = [b"."] + [os.path.relpath(os.path.join(where, name), top) for where, dirs, names in os.walk(top) for name in dirs + names]
    for path in sorted(places):
        place = os.path.join(top, path)
        info = os.lstat(place)
        about = {"mode": f"{info.st_mode:o}", "owner": [info.st_uid, info.st_gid], "mtime": info.st_mtime_ns}
        if stat.S_ISREG(info.st_mode):
            with open(place, "rb") as file:
                about["size"], about["sha256"] = info.st_size, hashlib.sha256(file.read()).hexdigest()
            about["sparse"] = info.st_blocks * 512 < info.st_size // 2
        elif stat.S_ISLNK(info.st_mode):
            about["target"] = ascii(os.readlink(place))
        else:
            about["device"] = info.st_rdev
        about["xattrs"] = {name: os.getxattr(place, name, follow_symlinks=False).hex() for name in os.listxattr(place, follow_symlinks=False)}
        if not stat.S_ISDIR(info.st_mode):
            about["first name"] = first.setdefault(info.st_ino, ascii(path))
        found[ascii(path)] = about
    return found


def make(out, program):
    program = os.path.abspath(program)
    with tempfile.TemporaryDirectory() as home:
        # the paths and owners that the repository keeps for ever are of no machine
        keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
        environment = {**keep, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "LIFEBOAT_REPOSITORY": os.path.abspath(os.path.join(out, "repo")),
                       "LIFEBOAT_WRITER_KEY": home + "/key"}

        def run(*words):
            return subprocess.run([program, *words], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

        if os.path.lexists(SOURCE):
            sys.exit(f"golden: {SOURCE} is there already")
        expect = {"source": SOURCE, "snapshots": {}}
        run("init", "-q")
        try:
            os.makedirs(SOURCE)
            os.chmod(SOURCE, 0o755)
            make_tree(SOURCE)
            for change in (None, change_tree):
                if change:
                    change(SOURCE)
                expected = describe(SOURCE)
                identity = run("snapshot", "-q", "--host", "golden", "--tag", "golden", "--reason", "to be readable for ever", SOURCE)[-1]
                expect["snapshots"][identity] = expected
        finally:
            shutil.rmtree(SOURCE)
        run("verify", "--deep", "-q")
    with open(os.path.join(out, "expect.json"), "w") as file:
        json.dump(expect, file, indent=0, sort_keys=True)
        file.write("\n")


def check(expect, name, tree):
    with open(expect) as file:
        wanted = json.load(file)["snapshots"][name]
    found, bad = describe(tree), 0
    for path in sorted(set(wanted) | set(found)):
        one, other = dict(wanted.get(path, {})), dict(found.get(path, {}))
        if os.geteuid() != 0:
            one.pop("owner", None), other.pop("owner", None)
        if one != other:
            bad += 1
            print(f"{path}: should be {one}, is {other}")
    print(f"{len(wanted)} entries, {bad} differences")
    return 1 if bad or not wanted else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("make")
    sub.add_argument("out")
    sub.add_argument("--lifeboat", required=True)
    sub = commands.add_parser("check")
    sub.add_argument("expect")
    sub.add_argument("name")
    sub.add_argument("tree")
    args = parser.parse_args()
    return make(args.out, args.lifeboat) if args.command == "make" else check(args.expect, args.name, args.tree)


if __name__ == "__main__":
    sys.exit(main())
