#!/usr/bin/env python3
"""Kills the program at random moments and looks whether anything that was acknowledged is lost.

A tree of a few thousand files changes again and again; `snapshot`, or `forget` and `prune`, run on it and their process group
gets SIGKILL at a random instant. After each kill: `verify` exits 0; a snapshot with nobody killing works at once; a random
acknowledged snapshot (its id was printed and the exit status was 0) that nobody asked to forget restores bit for bit, and so do
all of them every 20 kills; every snapshot that is listed, acknowledged or not, is what the tree was. At the end all but one are
forgotten, and prune must leave no garbage. Counts on standard output; exit status 1 on any loss.
"""
import argparse
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time


def log(text):
    print(text, file=sys.stderr, flush=True)


def digest(top):
    """One hash over everything below a directory that a snapshot keeps of this tree."""
    lines = []
    for where, dirs, names in os.walk(top):
        for name in dirs + names:
            path = os.path.join(where, name)
            info = os.lstat(path)
            line = [os.path.relpath(path, top), stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_mtime_ns, info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0]
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    line.append(hashlib.sha256(file.read()).hexdigest())
            elif stat.S_ISLNK(info.st_mode):
                line.append(os.readlink(path))
            lines.append(repr(line))
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def usage(top):
    """Bytes and names of the files below a directory."""
    found = {}
    for where, _, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            found[os.path.relpath(path, top)] = os.lstat(path).st_size
    return found


class Campaign:
    def __init__(self, args):
        self.args, self.program, self.rng = args, os.path.abspath(args.lifeboat), random.Random(args.seed)
        self.work = tempfile.mkdtemp(prefix="kill-", dir=os.path.abspath(args.work))
        self.source, self.repo = os.path.join(self.work, "source"), os.path.join(self.work, "repo")
        home = os.path.join(self.work, "home")
        os.makedirs(home)
        keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
        self.environment = {**keep, "HOME": home, "XDG_CONFIG_HOME": home + "/.config", "XDG_CACHE_HOME": home + "/.cache",
                            "LIFEBOAT_CACHE_DIR": home + "/cache", "LIFEBOAT_STATE_DIR": home + "/state", "LIFEBOAT_REPOSITORY": self.repo}
        self.acknowledged = {}  # id -> digest
        self.digests = {}  # tag -> digest of the tree at that time
        self.forgotten = set()  # asked to forget; may be there or not
        self.took = {"snapshot": 1.0, "prune": 1.0}  # how long each takes when nobody kills it
        self.counts = dict.fromkeys(["kills", "snapshots killed", "prunes killed", "finished before the kill", "acknowledged", "restores", "verifications", "lost", "wrong", "errors"], 0)
        self.round = 0

    def fail(self, what, text):
        self.counts[what] += 1
        print(f"{what}: kill {self.counts['kills']}: {text}", flush=True)

    def run(self, *args, repo=None):
        environment = {**self.environment, "LIFEBOAT_REPOSITORY": repo} if repo else self.environment
        try:
            done = subprocess.run([self.program, *args], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.args.timeout)
            return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            return None, "", f"took more than {self.args.timeout} s"

    def run_and_kill(self, commands, expected):
        """Runs commands one after the other in a process group of their own until a random instant. Gives what is known of each."""
        deadline = time.monotonic() + self.rng.uniform(0, expected * 1.1)
        results, killed = [], False
        for command in commands:
            with tempfile.TemporaryFile() as out:
                process = subprocess.Popen([self.program, *command], env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
                try:
                    process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    killed = True
                if killed or process.poll() is not None:
                    try:
                        os.killpg(process.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                code = process.wait()
                out.seek(0)
                results.append((code, out.read().decode(errors="replace")))
            if killed:
                break
        return results, killed

    # -- the tree --

    def mutate(self, first=False):
        rng = self.rng
        if first:
            for number in range(self.args.files):
                path = os.path.join(self.source, f"{number % 40:02d}", f"{number:05d}")
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(rng.randbytes(rng.randrange(0, 4000)))
            os.symlink("00/00000", os.path.join(self.source, "link"))
        names = [os.path.join(where, name) for where, _, found in os.walk(self.source) for name in found if name != "link"]
        for path in rng.sample(names, min(len(names), 60)):
            kind = rng.randrange(6)
            if kind <= 2:
                with open(path, "wb") as file:
                    file.write(rng.randbytes(rng.randrange(0, 30_000)))
            elif kind == 3:
                os.unlink(path)
            elif kind == 4:
                os.rename(path, path + "r")
            else:
                os.chmod(path, rng.choice([0o600, 0o644, 0o755]))
        for _ in range(20):
            path = os.path.join(self.source, f"{rng.randrange(40):02d}", f"new-{rng.getrandbits(40):x}")
            with open(path, "wb") as file:
                file.write(rng.randbytes(rng.randrange(0, 20_000)))
        with open(os.path.join(self.source, "large"), "ab") as file:
            file.write(rng.randbytes(200_000))
        if os.path.getsize(os.path.join(self.source, "large")) > 8_000_000:
            os.truncate(os.path.join(self.source, "large"), 1_000_000)

    def tag(self):
        self.round += 1
        tag = f"round-{self.round}"
        self.digests[tag] = self.now
        return tag

    # -- the checks --

    def restore(self, identity, expected, why):
        target = os.path.join(self.work, "target")
        code, _, err = self.run("restore", identity, "--target", target)
        self.counts["restores"] += 1
        if code != 0:
            self.fail("lost", f"{why} {identity[:12]} does not restore: exit {code}: {err[-300:]}")
        elif digest(target + self.source) != expected:
            self.fail("wrong", f"{why} {identity[:12]} restores to something else")
        subprocess.run(["rm", "-rf", target], check=True)

    def snapshot(self):
        """A snapshot that nobody kills: it must work."""
        start = time.monotonic()
        code, out, err = self.run("snapshot", "-q", "--tag", self.tag(), self.source)
        if code != 0 or not out.split():
            self.fail("errors", f"the next snapshot exits {code}: {err[-300:]}")
            return
        self.took["snapshot"] = 0.5 * self.took["snapshot"] + 0.5 * (time.monotonic() - start)
        self.acknowledge(out)

    def acknowledge(self, out):
        self.acknowledged[out.split()[-1]] = self.now
        self.counts["acknowledged"] += 1

    def check(self):
        code, out, err = self.run("verify")
        self.counts["verifications"] += 1
        if code != 0:
            self.fail("errors", f"verify exits {code}: {(out + err)[-3000:]}")
        self.snapshot()
        code, out, err = self.run("snapshots", "--json")
        try:
            listed = {s["id"]: s["tags"] for s in json.loads(out)["snapshots"]}
        except (ValueError, KeyError):
            self.fail("errors", f"snapshots --json exits {code}: {err[-300:]}")
            return
        for identity in set(self.acknowledged) - set(listed):
            self.fail("lost", f"acknowledged {identity[:12]} is not listed")
        every = self.counts["kills"] % 20 == 0
        wanted = list(self.acknowledged.items())
        for identity, expected in wanted if every else self.rng.sample(wanted, min(1, len(wanted))):
            self.restore(identity, expected, "acknowledged")
        # What is listed without having been acknowledged (killed after its commit) has to be whole as well.
        others = sorted(set(listed) - set(self.acknowledged) - self.forgotten)
        for identity in others if every else others[-1:]:
            expected = [self.digests[tag] for tag in listed[identity] if tag in self.digests]
            self.restore(identity, expected[0] if expected else None, "listed")
            self.acknowledged.setdefault(identity, expected[0] if expected else None)

    # -- the campaign --

    def kill_snapshot(self):
        (result, *_), killed = self.run_and_kill([["snapshot", "-q", "--tag", self.tag(), self.source]], self.took["snapshot"])
        self.counts["snapshots killed"] += killed
        if result[0] == 0 and result[1].split():
            self.acknowledge(result[1])
        return killed

    def kill_prune(self):
        chosen = self.rng.sample(sorted(self.acknowledged), len(self.acknowledged) - 3)
        for identity in chosen:
            del self.acknowledged[identity]
        self.forgotten.update(chosen)
        start = time.monotonic()
        results, killed = self.run_and_kill([["forget", *chosen], ["prune", *self.args.prune_args.split()]], self.took["prune"])
        self.counts["prunes killed"] += killed
        if not killed:
            self.took["prune"] = 0.5 * self.took["prune"] + 0.5 * (time.monotonic() - start)
            for (code, _), name in zip(results, ("forget", "prune")):
                if code != 0:
                    self.fail("errors", f"{name} exits {code} without being killed")
        else:
            self.took["prune"] *= 1.02  # it was longer than that
        return killed

    def garbage(self):
        """Forgets all but the newest, prunes, and compares with a repository that never held anything else."""
        self.mutate()
        self.now = digest(self.source)
        self.snapshot()
        keep = list(self.acknowledged)[-1]
        code, out, _ = self.run("snapshots", "--json")
        old = [s["id"] for s in json.loads(out)["snapshots"] if s["id"] != keep]
        for command in ["forget", *old], ["prune", *self.args.prune_args.split()], ["verify", "--deep"]:
            code, out, err = self.run(*command)
            if code != 0:
                self.fail("errors", f"at the end {command[0]} exits {code}: {(out + err)[-300:]}")
        self.restore(keep, self.acknowledged[keep], "the last")
        fresh = os.path.join(self.work, "fresh")
        for command in ["init", "-q"], ["snapshot", "-q", self.source]:
            if self.run(*command, repo=fresh)[0] != 0:
                self.fail("errors", f"{command[0]} of a fresh repository does not work")
        mine, other = usage(self.repo), usage(fresh)
        packs = [sum(size for name, size in files.items() if name.startswith("packs/")) for files in (mine, other)]
        print(f"after the last prune: {packs[0]} bytes in packs/, a fresh repository has {packs[1]}")
        if packs[0] > packs[1] * 1.25 + 1_000_000:
            self.fail("errors", "prune leaves garbage in packs/")
        for top in ("tmp/", "sessions/", "trash/"):
            left = [name for name in mine if name.startswith(top)]
            before = [name for name in other if name.startswith(top)]
            if len(left) > len(before):
                self.fail("errors", f"prune leaves {len(left)} files in {top}, e.g. {left[0]}")
        documents = [sum(name.startswith("snapshots/") for name in files) for files in (mine, other)]
        if documents[0] > documents[1]:
            self.fail("errors", f"prune leaves {documents[0]} files in snapshots/, a fresh repository has {documents[1]}")

    def main(self):
        start = time.monotonic()
        if self.run("init", "-q")[0] != 0:
            sys.exit("campaign: init does not work")
        self.mutate(first=True)
        self.now = digest(self.source)
        self.snapshot()
        if not self.acknowledged:
            sys.exit("campaign: not even the first snapshot works")
        tries = 0
        while self.counts["kills"] < self.args.kills and tries < 20 * self.args.kills + 100:
            tries += 1
            self.mutate()
            self.now = digest(self.source)
            prune = len(self.acknowledged) >= 5 and (self.rng.random() < 0.35 or len(self.acknowledged) > 12)
            killed = self.kill_prune() if prune else self.kill_snapshot()
            if not killed:
                self.counts["finished before the kill"] += 1
                continue
            self.counts["kills"] += 1
            self.check()
            if self.counts["kills"] % 20 == 0:
                log(f"{self.counts['kills']} kills, {time.monotonic() - start:.0f} s, {self.counts['lost']} lost, {self.counts['wrong']} wrong, {self.counts['errors']} errors")
        self.garbage()
        for name, count in self.counts.items():
            print(f"{name}: {count}")
        bad = self.counts["lost"] + self.counts["wrong"] + self.counts["errors"]
        if self.counts["kills"] < self.args.kills:
            print("too few kills: the commands finish too quickly")
            bad += 1
        print("FAILED" if bad else "passed")
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, metavar="BIN")
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made below it")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the tree and of the instants (which a machine repeats only roughly)")
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--prune-args", default="", help="more arguments for prune")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--keep", action="store_true", help="leave the working directory")
    args = parser.parse_args()
    campaign = Campaign(args)
    try:
        return campaign.main()
    finally:
        if not args.keep:
            subprocess.run(["rm", "-rf", campaign.work])


if __name__ == "__main__":
    sys.exit(main())
