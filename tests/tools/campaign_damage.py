#!/usr/bin/env python3
"""Damages each object of a repository in every way and looks whether anything goes wrong in silence.

A repository of about 10 MB with three snapshots is made; what each snapshot restores to while the repository is whole is the
truth. Then, for each damage (see damage.py), on a fresh copy: `verify --deep --json`, and `restore` of every snapshot, compared
with the truth byte for byte. Standard output is a Markdown report, progress is on stderr. Columns:

    damages    how many were done
    detected   verify exited non-zero
    silent     verify exited 0 although a byte of the repository is wrong, or a restore exited 0 with something missing or different
    wrong      files that were handed out with bytes (or a link target, or a type) that were never theirs, whatever the exit status
    crash      a command was killed by a signal, panicked (101) or ran for more than --timeout seconds
    misnamed   damages where verify did not name exactly the snapshots and paths that could not be restored; a path in a stretch of a
               manifest that verify named by its ends is named
    collateral damages that cost more than they hit: files whose content lies in other, whole packs, snapshots whose document was
               not hit, or anything at all when an index, a record, a key or a page was hit
    healed     restore gave everything back all the same

Exit status 1 if anything is silent, wrong or crashed; with --strict also if anything is misnamed or collateral.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import damage as damaging

COLUMNS = ["damages", "detected", "silent", "wrong", "crash", "misnamed", "collateral", "healed"]


def log(text):
    print(text, file=sys.stderr, flush=True)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def make_versions(source, rng):
    """Yields after each of three states of the source tree; together about 10 MB that do not compress."""
    at = lambda name: os.path.join(source, name)
    for number in range(120):
        write(at(f"small/{number:03d}"), rng.randbytes(rng.randrange(1, 12_000)))
    for number in range(40):
        write(at(f"text/{number:03d}.log"), b"".join(b"line %d of %d\n" % (line, number) for line in range(rng.randrange(2000))))
    write(at("large/one"), rng.randbytes(2_500_000))
    write(at("large/two"), rng.randbytes(1_500_000))
    write(at("large/two again"), open(at("large/two"), "rb").read())
    write(at("empty"), b"")
    write(at("name \udcff\n"), b"not UTF-8")
    os.makedirs(at("empty directory"))
    os.symlink("large/one", at("link"))
    os.link(at("large/one"), at("hard link"))
    yield
    for number in range(0, 120, 7):
        write(at(f"small/{number:03d}"), rng.randbytes(5000))
    for number in range(1, 120, 20):
        os.unlink(at(f"small/{number:03d}"))
    write(at("large/only from the second on"), rng.randbytes(1_800_000))
    with open(at("large/one"), "r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed in the middle")
    yield
    os.unlink(at("large/only from the second on"))
    os.unlink(at("large/two"))
    for number in range(30):
        write(at(f"third/{number:03d}"), rng.randbytes(60_000))
    yield


def digest(top):
    """Each path below a directory -> (type, content, and what else must be right)."""
    found = {}
    for where, dirs, names in os.walk(top):
        for name in dirs + names:
            path = os.path.join(where, name)
            info = os.lstat(path)
            kind, content = stat.S_IFMT(info.st_mode), None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            rest = (stat.S_IMODE(info.st_mode), info.st_mtime_ns, info.st_uid, info.st_gid)
            found[os.path.relpath(path, top)] = (kind, content, rest)
    return found


def place(path):
    """By this a manifest is in order."""
    return [] if path == "." else os.fsencode(path).split(b"/")


def within(path, first, until):
    """Whether a path lies in a stretch that begins with `first` and ends before `until`, or with the tree."""
    return place(first) <= place(path) and (until is None or place(path) < place(until))


class Copy:
    """A working copy of the repository that is brought back to the original by copying only what was touched."""

    def __init__(self, original, copy):
        self.original, self.copy, self.states = original, copy, {}
        shutil.copytree(original, copy)
        self.directories = {os.path.relpath(where, original) for where, _, _ in os.walk(original)}
        self.remember(damaging.files(copy))

    def state(self, name):
        info = os.lstat(os.path.join(self.copy, name))
        return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns

    def remember(self, names):
        for name in names:
            self.states[name] = self.state(name)

    def reset(self):
        for where, dirs, names in os.walk(self.copy, topdown=False):
            for name in names:
                path = os.path.join(where, name)
                if os.path.relpath(path, self.copy) not in self.states:
                    os.unlink(path)
            if os.path.relpath(where, self.copy) not in self.directories:
                os.rmdir(where)
        for name in self.directories:
            os.makedirs(os.path.join(self.copy, name), exist_ok=True)
        for name in self.states:
            path = os.path.join(self.copy, name)
            if not os.path.lexists(path) or self.state(name) != self.states[name]:
                if os.path.lexists(path):
                    os.unlink(path)
                shutil.copy2(os.path.join(self.original, name), path)
                self.remember([name])


class Campaign:
    def __init__(self, args):
        self.args, self.program = args, os.path.abspath(args.lifeboat)
        self.work = tempfile.mkdtemp(prefix="damage-", dir=args.work)
        self.source = os.path.join(self.work, "source")
        self.repo, self.older = os.path.join(self.work, "repo"), os.path.join(self.work, "older")
        self.home = os.path.join(self.work, "home")
        self.table = collections.defaultdict(collections.Counter)
        self.findings, self.lock = [], threading.Lock()

    def environment(self, home):
        keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
        return {**keep, "HOME": home, "XDG_CONFIG_HOME": home + "/.config", "XDG_CACHE_HOME": home + "/.cache", "LIFEBOAT_CACHE_DIR": home + "/cache", "LIFEBOAT_STATE_DIR": home + "/state"}

    def run(self, home, repo, *args):
        """Exit status (None if it hung), standard output and error."""
        try:
            done = subprocess.run([self.program, args[0], "-r", repo, *args[1:]], env=self.environment(home), stdin=subprocess.DEVNULL, capture_output=True, timeout=self.args.timeout)
            return done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            return None, b"", b"timeout"

    def must(self, *args):
        code, out, err = self.run(self.home, self.repo, *args)
        if code != 0:
            sys.exit(f"campaign: before any damage, {' '.join(args)} exits {code}\n{err.decode(errors='replace')}")
        return out.decode().strip().splitlines()

    # -- the undamaged repository and the truth --

    def prepare(self):
        os.makedirs(self.home)
        self.must("init", "-q")
        self.snapshots, self.truth = [], {}
        # one that is forgotten and pruned, so that there are a plan and the records of both
        gone = os.path.join(self.work, "gone")
        os.makedirs(gone)
        with open(os.path.join(gone, "file"), "wb") as file:
            file.write(random.Random(self.args.seed + 1).randbytes(100_000))
        pruned = self.must("snapshot", "-q", gone)[-1]
        for number, _ in enumerate(make_versions(self.source, random.Random(self.args.seed))):
            if number == 2:
                shutil.copytree(self.repo, self.older)
            identity = self.must("snapshot", "-q", "--tag", f"v{number + 1}", self.source)[-1]
            self.snapshots.append(identity)
            target = os.path.join(self.work, f"truth-{number}")
            self.must("restore", identity, "--target", target)
            self.truth[identity] = digest(target + self.source)
            if self.truth[identity] != digest(self.source):
                sys.exit(f"campaign: snapshot {number + 1} of the undamaged repository does not restore to its source")
            shutil.rmtree(target)
        self.must("forget", "-q", pruned)
        self.must("prune", "-q")
        # and one that is forgotten only: there is its tombstone, and it restores as before
        self.must("forget", "-q", self.snapshots[0])
        self.must("verify", "--deep", "--json")
        self.members = self.pack_members()

    def pack_members(self):
        """For each pack the names of its members, which are hashes of content; read with stock tools. Empty if that is impossible."""
        members = {}
        for path in damaging.files(self.repo):
            if path.startswith("packs/"):
                unpack = subprocess.run(["sh", "-c", 'zstd -q -dc "$1" | tar -t', "sh", os.path.join(self.repo, path)], capture_output=True)
                if unpack.returncode:
                    log(f"campaign: {path} is no tar.zst: collateral damage to other packs is not judged")
                    return {}
                members[path] = set(unpack.stdout.decode(errors="replace").split())
        return members

    def choose(self):
        chosen = list(damaging.damages(self.repo, self.args.kinds.split(","), self.older))
        flips = [d for d in chosen if d["kind"] == "flip"]
        limit = self.args.flips if self.args.flips is not None else 60 if self.args.quick else 2000
        if len(flips) > limit:
            # The first of each object always, then a sample.
            rng = random.Random(self.args.seed)
            first = list({d["path"]: d for d in reversed(flips)}.values())
            rest = [d for d in flips if d not in first]
            flips = first + rng.sample(rest, max(0, min(len(rest), limit - len(first))))
        return [d for d in chosen if d["kind"] != "flip"] + flips

    # -- one damage --

    def expected_whole(self, damage, snapshot):
        """The paths that this damage has no excuse to lose, judged from the names of the objects alone."""
        top = damage["object"].split("/")[0]
        truth = self.truth[snapshot]
        if top == "repository.json":
            return set()
        if top == "snapshots":
            return set() if any(snapshot in path for path in damaging.touched(damage)) else set(truth)
        if top != "packs":
            return set(truth)
        hit = set().union(*(self.members.get(path, set()) for path in damaging.touched(damage)))
        elsewhere = set().union(*(m for path, m in self.members.items() if path not in damaging.touched(damage)))
        contents = {content for kind, content, _ in truth.values() if kind == stat.S_IFREG}
        every = {c for t in self.truth.values() for kind, c, _ in t.values() if kind == stat.S_IFREG}
        if not self.members or not hit & every:
            return set()  # pieces of large files or of manifests only: no telling which
        whole = (contents & elsewhere) - hit
        return {path for path, (kind, content, _) in truth.items() if content in whole}

    def is_last_record(self, damage):
        """Whether this takes away the newest record of a writer's chain."""
        paths = damaging.touched(damage)
        if damage["kind"] != "delete" or damage["object"] != "records/*.json" or len(paths) != 1:
            return False
        (path,) = paths
        return os.path.basename(path) == max(n for n in os.listdir(os.path.join(self.repo, os.path.dirname(path))) if n.endswith(".json"))

    def judge(self, damage, copy, home, scratch):
        """What one damage did: the counts for the table, and remarks."""
        counts, remarks = collections.Counter(damages=1), []
        damaging.apply(copy.copy, damage)

        def count(column, remark):
            counts[column] += 1
            remarks.append(f"{column}: {remark}")

        code, out, err = self.run(home, copy.copy, "verify", "--deep", "--json")
        if code is None or code < 0 or code == 101:
            count("crash", f"verify exits {code}: {err.decode(errors='replace')[-200:]}")
        if code == 0 and self.is_last_record(damage) and b"record-unfinished" in out:
            # a signature without its record is what a writer leaves that died between the two: a notice, and no more can be known
            counts["detected"] += 1
        elif code == 0:
            count("silent", "verify exits 0")
        else:
            counts["detected"] += 1
        named_snapshots, named_paths, stretches = set(), collections.defaultdict(set), collections.defaultdict(list)
        for line in out.decode(errors="replace").splitlines():
            try:
                problem = json.loads(line)
            except ValueError:
                continue
            if problem.get("message_type") == "problem":
                named_snapshots.update(problem.get("snapshots") or [])
                for item in problem.get("paths") or []:
                    named_snapshots.add(item["snapshot"])
                    if item["and_following"]:
                        until = item["until"] and self.relative(item["until"])
                        stretches[item["snapshot"]].append((self.relative(item["path"]), until))
                    else:
                        named_paths[item["snapshot"]].add(self.relative(item["path"]))
        lost_snapshots, complete = set(), True
        for snapshot in self.snapshots:
            truth, target = self.truth[snapshot], os.path.join(scratch, "target")
            code, out, err = self.run(home, copy.copy, "restore", snapshot, "--target", target)
            if code is None or code < 0 or code == 101:
                count("crash", f"restore exits {code}: {err.decode(errors='replace')[-200:]}")
            given = digest(target + self.source) if os.path.isdir(target + self.source) else {}
            subprocess.run(["rm", "-rf", target], check=True)
            missing = set(truth) - set(given)
            for path, (kind, content, rest) in given.items():
                if path not in truth:
                    count("wrong", f"restore hands out {path!a}, which was never there")
                elif (kind, content) != truth[path][:2]:
                    count("wrong", f"restore (exit {code}) hands out {path!a} with other content")
                elif rest != truth[path][2] and code == 0:
                    count("silent", f"restore exits 0, but the metadata of {path!a} are {rest}, not {truth[path][2]}")
            if missing:
                complete = False
                lost_snapshots.add(snapshot)
                if code == 0:
                    count("silent", f"restore exits 0 with {len(missing)} of {len(truth)} entries missing")
                if missing & self.expected_whole(damage, snapshot):
                    count("collateral", f"{len(missing & self.expected_whole(damage, snapshot))} entries that were not hit are lost, e.g. {min(missing)!a}")
            elif code != 0:
                complete = False
                lost_snapshots.add(snapshot)
            named = named_paths.get(snapshot, set()) | {path for path in truth if any(within(path, *ends) for ends in stretches[snapshot])}
            # a directory whose entry is lost is there all the same if something in it is
            named -= {path for path in named - missing - named_paths[snapshot] if stat.S_ISDIR(truth[path][0])}
            if missing != named and not (len(missing) == len(truth) and snapshot in named_snapshots and not named):
                count("misnamed", f"verify names {len(named)} paths, {len(missing)} are lost ({len(missing - named)} not named, {len(named - missing)} named in vain)")
        if named_snapshots != lost_snapshots:
            count("misnamed", f"verify names {len(named_snapshots)} snapshots, {len(lost_snapshots)} are hit")
        if damage["object"] == "repository.json":  # without it nothing can be opened, so there is nothing to name but the file itself
            counts["misnamed"] = 0
            remarks = [remark for remark in remarks if not remark.startswith("misnamed")]
        for column in ("misnamed", "collateral", "crash"):
            counts[column] = min(counts[column], 1)
        counts["healed"] = int(complete)
        return counts, remarks

    def relative(self, path):
        prefix = self.source + "/"
        return path[len(prefix):] if path.startswith(prefix) else "." if path == self.source else path

    def worker(self, number, queue, total):
        scratch = os.path.join(self.work, f"worker-{number}")
        os.makedirs(scratch)
        copy, home = Copy(self.repo, os.path.join(scratch, "repo")), os.path.join(scratch, "home")
        while True:
            with self.lock:
                if not queue or time.monotonic() - self.start > self.args.minutes * 60:
                    return
                index, damage = queue.popleft()
            # Every other damage meets a host that has seen the repository before, the rest one that has not.
            subprocess.run(["rm", "-rf", home], check=True)
            shutil.copytree(self.home, home, symlinks=True)
            if index % 2:
                subprocess.run(["rm", "-rf", home + "/cache", home + "/.cache", home + "/state"], check=True)
            counts, remarks = self.judge(damage, copy, home, scratch)
            copy.reset()
            with self.lock:
                self.table[damage["object"], damage["kind"]].update(counts)
                if remarks:
                    self.findings.append((damage, remarks))
                if index % 50 == 0:
                    log(f"{index} of {total} damages, {time.monotonic() - self.start:.0f} s")

    def main(self):
        self.start = time.monotonic()
        self.prepare()
        chosen = self.choose()
        queue = collections.deque(enumerate(chosen))
        threads = [threading.Thread(target=self.worker, args=(n, queue, len(chosen))) for n in range(self.args.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        judged = sum(row["damages"] for row in self.table.values())
        self.left = len(queue)
        if judged + self.left != len(chosen):
            sys.exit(f"campaign: only {judged} of {len(chosen)} damages were judged")
        return self.report()

    def report(self):
        total = collections.Counter()
        paths = damaging.files(self.repo)
        size = sum(os.path.getsize(os.path.join(self.repo, path)) for path in paths)
        print(f"## Damage campaign\n\nA repository of {size / 1e6:.1f} MB in {len(paths)} objects with {len(self.snapshots)} snapshots, seed {self.args.seed}.\n")
        if self.left:
            print(f"The time was up: {self.left} damages were NOT tried.\n")
        print("| object | damage | " + " | ".join(COLUMNS) + " |")
        print("|---|---|" + "---:|" * len(COLUMNS))
        for (group, kind), row in sorted(self.table.items(), key=lambda item: (item[0][0], damaging.KINDS.index(item[0][1]))):
            print(f"| `{group}` | {kind} | " + " | ".join(str(row[column]) for column in COLUMNS) + " |")
            total.update(row)
        print("| **all** | | " + " | ".join(f"**{total[column]}**" for column in COLUMNS) + " |\n")
        graves = ("silent", "wrong", "crash") + (("misnamed", "collateral") if self.args.strict else ())
        bad = sum(total[column] for column in graves)
        print(f"{total['detected']} of {total['damages']} damages detected, {total['silent']} silent errors, {total['wrong']} files with wrong bytes, {total['crash']} crashes: **{'FAILED' if bad else 'passed'}**.")
        worst = sorted(self.findings, key=lambda finding: not any(r.startswith(graves) for r in finding[1]))
        if worst:
            print(f"\n### Findings ({len(worst)}{', the first 40' if len(worst) > 40 else ''})\n")
        for damage, remarks in worst[:40]:
            print(f"* `{json.dumps(damage)}`")
            for remark in remarks[:4]:
                print(f"  * {remark}")
            if len(remarks) > 4:
                print(f"  * and {len(remarks) - 4} more")
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, metavar="BIN")
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made below it")
    parser.add_argument("--quick", action="store_true", help="60 flips instead of 2,000")
    parser.add_argument("--kinds", default=",".join(damaging.KINDS), help="only these damages, separated by commas")
    parser.add_argument("--flips", type=int, help="how many flips at most; every object gets one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--minutes", type=float, default=1e9, help="try no more damages after so long; the report says how many are left")
    parser.add_argument("--strict", action="store_true", help="fail also on misnamed and collateral damage")
    parser.add_argument("--keep", action="store_true", help="leave the working directory")
    args = parser.parse_args()
    args.work = os.path.abspath(args.work)
    campaign = Campaign(args)
    try:
        return campaign.main()
    finally:
        if not args.keep:
            subprocess.run(["rm", "-rf", campaign.work])


if __name__ == "__main__":
    sys.exit(main())
