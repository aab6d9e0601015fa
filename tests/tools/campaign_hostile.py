#!/usr/bin/env python3
"""Lets the program restore and verify the hostile repositories of forge.py, and looks what it did to the world around.

For each case: `restore` of the newest snapshot into a target beside a canary, then `verify --deep`. What must hold:

    canary     nothing outside the target is changed: bytes, modes, owners, times, attributes, names
    status     restore exits 0 only where the case says that all is well; no signal, no panic, no status that is unknown
    good       every entry that has no fault is restored, files with their content
    bad        no entry with a fault is there
    verify     `verify --deep` does not exit 0 where a restore may not
    terminal   no control bytes in what either prints, but newlines
    memory     at most --memory MiB, measured by the kernel
    time       at most --seconds for each (the deep trees: ten times that)

Standard output is a Markdown table of statuses and findings. Exit status 1 if anything of this does not hold.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import forge
import test_recover

# done, failed, usage, partial, no repository, key, damage
STATUSES = (0, 1, 2, 3, 10, 12, 40)
DEEP = ("deep-4000", "path-7k", "path-100k")
# Faults that the program rightly has no need to notice in a restore, or gives a harmless meaning to. All else must hold for them too.
HARMLESS = {
    "root-symlink": "the root's directory is made for what lies in it; the link is restored beside, and nothing goes through it",
    "root-below-symlink": "the link of the one root is not made where the directory of the other is",
    "root-relative": "a relative root is put below the target like an absolute one",
    "root-none": "an empty snapshot; a restore says that there is nothing",
    "xattr-no-namespace": "the kernel refuses such an attribute, and the restore says so",
    "xattr-large": "the same",
    "xattr-many": "the same",
    "xattr-acl": "the same",
    "xattr-capability": "the same",
    "flags-unknown": "the kernel is asked for none that Lifeboat does not know",
    "line-control": "JSON that is too lenient; the name is escaped where it is shown",
    "hardlink-directory": "an entry that says it is a second name of something else comes back as what it is itself",
    "hardlink-root": "the same",
    "hardlink-missing": "the same",
    "hardlink-symlink": "the same",
    "hardlink-through-symlink": "the same",
    "hardlink-fifo": "the same",
    "hardlink-other-content": "the same",
    "uid-no-change": "the owner is not changed, which is what the number means",
    "gid-no-change": "the same",
}
# Not noticed by a restore, and not harmless: what it says of itself is believed. `verify` finds each.
KNOWN = {
    "manifest-unsorted": "the order of a list of manifest chunks",
    "manifest-count": "the number of entries in a list of manifest chunks",
    "manifest-no-root": "that a root has an entry of its own",
}


def harmless(name, what):
    """Whether a finding of this kind says nothing of the program."""
    # the index says where chunks lie, and each is compared with its hash: a pack's own tables are for verify and stock tools
    if name.startswith("pack-"):
        return what in ("status", "bad")
    # an index that lies, under the right name, hides what is good too; no wrong byte comes of it
    if name.startswith("index-"):
        return what == "good"
    if name in KNOWN:
        return what == "status"
    return name in HARMLESS and what in ("status", "bad", "verify")


CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


class Ran:
    """How one command ended, and what it took."""

    def __init__(self, command, environment, limit):
        started = time.monotonic()
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            signal.signal(signal.SIGALRM, lambda *_: child.kill())
            signal.alarm(int(limit) + 1)
            _, status, usage = os.wait4(child.pid, 0)
            signal.alarm(0)
            child.returncode = self.status = os.waitstatus_to_exitcode(status)
            output.seek(0)
            self.output = output.read().decode("utf-8", "replace")
        self.seconds, self.memory = time.monotonic() - started, usage.ru_maxrss / 1024


def entries(target):
    """The places of what was restored below the root `/r`, by path."""
    top = os.fsencode(os.path.join(target, "r"))
    if not os.path.isdir(top) or os.path.islink(top):
        return {}
    found = {b"": top}
    for where, dirs, names in os.walk(top):
        found.update((os.path.relpath(os.path.join(where, name), top), os.path.join(where, name)) for name in dirs + names)
    return found


def content(place):
    """The hash of a regular file; None for anything else."""
    if not stat.S_ISREG(os.lstat(place).st_mode):
        return None
    with open(place, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def encoded(path):
    """A path's bytes; None where no bytes have that name."""
    try:
        return b"" if path == "." else path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


def judge_entries(expect, found):
    """What is there and should not be, and the other way round."""
    for path in expect["good"]:
        place = encoded(path)
        if place not in found:
            yield "good", f"{path!a} is not restored"
        elif path in expect["sha256"] and content(found[place]) != expect["sha256"][path]:
            yield "good", f"{path!a} has other content"
    for path in expect["bad"]:
        if encoded(path) in found:
            yield "bad", f"{path!a} is there"


def judge(args, environment, home, name, canary):
    """The findings of one case, and how restore and verify ended."""
    place = os.path.join(home, name)
    with open(os.path.join(place, "expect.json")) as file:
        expect = json.load(file)
    repo, target = os.path.join(place, "repo"), os.path.join(place, "target")
    newest = max(glob.glob(repo + "/snapshots/*.json"), key=os.path.getmtime)
    limit = args.seconds * (10 if name in DEEP else 1)
    restored = Ran([args.lifeboat, "restore", "-r", repo, os.path.basename(newest)[:-5], "--target", target], environment, limit)
    verified = Ran([args.lifeboat, "verify", "-r", repo, "--deep"], environment, limit)
    findings = []
    if test_recover.tree(os.path.join(home, "canary")) != canary:
        findings.append(("canary", "something outside the target was changed"))
    if set(os.listdir(place)) - {"expect.json", "repo", "target"}:
        findings.append(("canary", f"something beside the target: {sorted(os.listdir(place))}"))
    for word, ran in (("restore", restored), ("verify", verified)):
        if ran.status not in STATUSES or "panicked" in ran.output:
            findings.append(("status", f"{word} exits {ran.status}: {ran.output[-200:]!a}"))
        if CONTROL.search(ran.output):
            findings.append(("terminal", f"{word} prints a control character: {ran.output[-200:]!a}"))
        if ran.memory > args.memory:
            findings.append(("memory", f"{word} takes {ran.memory:.0f} MiB"))
        if ran.seconds > limit:
            findings.append(("time", f"{word} takes {ran.seconds:.1f} s"))
    if expect["status"] != "any" and not harmless(name, "status") and (restored.status == 0) != (expect["status"] == "ok"):
        findings.append(("status", f"restore exits {restored.status}, though the case is `{expect['status']}`: {restored.output[-200:]!a}"))
    if expect["status"] == "loss" and not harmless(name, "verify") and verified.status == 0:
        findings.append(("verify", "verify --deep exits 0"))
    if expect["whole"] and os.path.isdir(target) and os.listdir(target):
        findings.append(("bad", "something of a snapshot that must be refused is restored"))
    if name not in DEEP:
        judged = judge_entries(expect, entries(target))
        findings += [(kind, text) for kind, text in judged if not harmless(name, kind)]
    if os.path.isdir(target):
        test_recover.clear(target)
    return findings, restored, verified


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, metavar="BIN")
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made below it")
    parser.add_argument("--memory", type=float, default=256, help="MiB at most")
    parser.add_argument("--seconds", type=float, default=5, help="for each command at most")
    parser.add_argument("case", nargs="*", help="all without any; a word that ends in `*` stands for all that begin so")
    args = parser.parse_args()
    args.lifeboat = os.path.abspath(args.lifeboat)
    wanted = [name for name in forge.CASES if not args.case or any(name == c or c.endswith("*") and name.startswith(c[:-1]) for c in args.case)]
    table, statuses, failed, memory, slowest = collections.Counter(), collections.Counter(), [], 0, 0
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=os.path.abspath(args.work)) as work:
        home, user = os.path.join(work, "cases"), os.path.join(work, "home")
        os.makedirs(user)
        # by a process of its own: the peak memory of a child is never less than its parent's was
        subprocess.run([sys.executable, os.path.join(HERE, "forge.py"), "hostile", home, *wanted], check=True, stdout=subprocess.DEVNULL)
        keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
        environment = {**keep, "HOME": user, "XDG_CONFIG_HOME": user + "/.config", "XDG_CACHE_HOME": user + "/.cache", "LIFEBOAT_CACHE_DIR": user + "/cache", "LIFEBOAT_STATE_DIR": user + "/state"}
        canary = test_recover.tree(os.path.join(home, "canary"))
        for name in wanted:
            findings, restored, verified = judge(args, environment, home, name, canary)
            statuses["restore", restored.status] += 1
            statuses["verify --deep", verified.status] += 1
            memory = max(memory, restored.memory, verified.memory)
            if name not in DEEP:
                slowest = max(slowest, restored.seconds, verified.seconds)
            table.update(kind for kind, _ in findings)
            failed += [(name, forge.CASES[name][0], kind, text) for kind, text in findings]
            subprocess.run(["rm", "-rf", os.path.join(home, name)], check=True)
    print("| command | exit status | cases |\n|---|---:|---:|")
    for (command, status), count in sorted(statuses.items()):
        print(f"| {command} | {status} | {count} |")
    print(f"\n{len(wanted)} cases; at most {memory:.0f} MiB and {slowest:.1f} s for a command (deep trees apart).")
    for kind in ("canary", "status", "good", "bad", "verify", "terminal", "memory", "time"):
        print(f"* {kind}: {table[kind]} findings")
    for name, why, kind, text in failed:
        print(f"  * {name} ({why}): {kind}: {text}")
    print("FAILED" if failed or not wanted else "passed")
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
