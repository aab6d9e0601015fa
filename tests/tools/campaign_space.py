#!/usr/bin/env python3
"""Lets the disk of the repository become full, or go away, while the program writes, and looks whether anything is lost.

Each round makes an ext4 image of another size, mounts it, and puts a repository with one snapshot on it. Then the tree grows by
more than the disk has, and `snapshot` runs; with `--unplug`, the disk is large enough, but at a random instant every read and write
of it fails (the file system is shut down, and its journal is not written out), and it is mounted again, as after a pulled cable. After that: nothing that was acknowledged is
lost (restored and compared), `verify --deep` is clean, the program said that it failed unless the snapshot is there; and when
there is space again, by `forget` and `prune` or by a ballast file that goes, the next snapshot succeeds and restores.
Needs root. Counts on standard output; exit status 1 on any loss.
"""
import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time


def run(*args, check=True, **more):
    return subprocess.run([str(a) for a in args], check=check, capture_output=True, stdin=subprocess.DEVNULL, **more)


def digest(top):
    lines = []
    for where, _, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                lines.append(f"{os.path.relpath(path, top)} {hashlib.sha256(file.read()).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


class Disk:
    """An ext4 image on a loop device, mounted."""

    def __init__(self, work, megabytes):
        self.image, self.mount = os.path.join(work, "image"), os.path.join(work, "disk")
        os.makedirs(self.mount, exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        run("mount", "-o", "loop", self.image, self.mount)

    def unplug(self):
        # what is not on the disk yet never will be: neither the files nor the journal are written out
        run("xfs_io", "-x", "-c", "shutdown", self.mount)

    def plug(self):
        for _ in range(100):
            if run("umount", self.mount, check=False).returncode == 0:
                break
            time.sleep(0.1)
        run("mount", "-o", "loop", self.image, self.mount)

    def close(self):
        run("umount", self.mount, check=False)
        os.unlink(self.image)


class Campaign:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        self.program = os.path.abspath(args.lifeboat)
        self.work = tempfile.mkdtemp(prefix="space-", dir=os.path.abspath(args.work))
        self.counts = dict.fromkeys(["rounds", "failed as they should", "fitted", "lost", "wrong", "errors"], 0)

    def fail(self, what, text):
        self.counts[what] += 1
        print(f"{what}: round {self.counts['rounds']}: {text}", flush=True)

    def lifeboat(self, *args):
        home = os.path.join(self.work, "home")
        keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
        environment = {**keep, "HOME": home, "LIFEBOAT_STATE_DIR": home + "/state", "LIFEBOAT_WRITER_KEY": home + "/key",
                       "LIFEBOAT_REPOSITORY": os.path.join(self.work, "disk/repo")}
        try:
            done = run(self.program, *args, check=False, env=environment, timeout=300)
        except subprocess.TimeoutExpired:
            self.fail("errors", f"{args[0]} hangs")
            return None, "", ""
        if done.returncode in (101, -6, -11):
            self.fail("errors", f"{args[0]} panics: {done.stderr[-300:]!r}")
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def restores(self, identity, expected, why):
        target = os.path.join(self.work, "target")
        code, _, err = self.lifeboat("restore", "-q", identity, "--target", target)
        if code != 0:
            self.fail("lost", f"{why}: restore exits {code}: {err[-300:]}")
        elif digest(target + self.source) != expected:
            self.fail("wrong", f"{why} restores to something else")
        shutil.rmtree(target, ignore_errors=True)

    def grow(self, name, megabytes):
        for number in range(megabytes * 4):
            path = os.path.join(self.source, name, f"{number:04d}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(self.rng.randbytes(256 << 10))

    def round(self, megabytes):
        self.counts["rounds"] += 1
        self.source = os.path.join(self.work, "source")
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.rmtree(os.path.join(self.work, "home"), ignore_errors=True)
        disk = Disk(self.work, megabytes)
        ballast = os.path.join(disk.mount, "ballast")
        try:
            self.grow("first", 3)
            first = digest(self.source)
            self.lifeboat("init", "-q")
            old = self.lifeboat("snapshot", "-q", self.source)[1].strip()
            if not old:
                sys.exit("campaign: not even the first snapshot works")
            if not self.args.unplug:
                run("fallocate", "-l", "2M", ballast)
            self.grow("second", self.args.unplug and 12 or megabytes)
            second = digest(self.source)
            code, out, err = self.unplugged(disk) if self.args.unplug else self.lifeboat("snapshot", "-q", self.source)
            if self.args.unplug:
                disk.plug()
            acknowledged = code == 0 and out.strip()
            self.counts["fitted" if acknowledged else "failed as they should"] += 1
            if not acknowledged and not self.args.unplug and "No space" not in err and "no space" not in err:
                self.fail("errors", f"exit {code} without a word of the space: {err[-300:]}")
            self.restores(old, first, "the snapshot before")
            if acknowledged:
                self.restores(out.strip(), second, "the snapshot that was acknowledged")
            # space again: a file that goes, and a tree that fits
            if os.path.exists(ballast):
                os.unlink(ballast)
            code, out, err = self.lifeboat("verify", "--deep", "-q")
            if code != 0:
                self.fail("errors", f"verify --deep exits {code}: {(out + err)[-400:]}")
            shutil.rmtree(os.path.join(self.source, "second"))
            with open(os.path.join(self.source, "small"), "w") as file:
                file.write("small")
            third = digest(self.source)
            code, out, err = self.lifeboat("snapshot", "-q", self.source)
            if code != 0:
                # what the failed one left goes by a prune
                self.lifeboat("prune", "-q")
                code, out, err = self.lifeboat("snapshot", "-q", self.source)
            if code != 0:
                self.fail("errors", f"the next snapshot exits {code}: {err[-300:]}")
            else:
                self.restores(out.strip(), third, "the next snapshot")
            code, out, err = self.lifeboat("prune", "-q")
            if code != 0:
                self.fail("errors", f"prune exits {code}: {err[-300:]}")
            self.restores(old, first, "the first snapshot, after the prune")
        finally:
            disk.close()

    def unplugged(self, disk):
        home = os.path.join(self.work, "home")
        environment = {**os.environ, "HOME": home, "LIFEBOAT_STATE_DIR": home + "/state", "LIFEBOAT_WRITER_KEY": home + "/key",
                       "LIFEBOAT_REPOSITORY": os.path.join(self.work, "disk/repo")}
        process = subprocess.Popen([self.program, "snapshot", "-q", self.source], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(self.rng.uniform(0, self.args.seconds))
        disk.unplug()
        out, err = process.communicate(timeout=300)
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def main(self):
        smallest, largest = 12, 61
        for number in range(self.args.rounds):
            megabytes = 64 if self.args.unplug else smallest + (largest - smallest) * number // max(1, self.args.rounds - 1)
            self.round(megabytes)
        for name, count in self.counts.items():
            print(f"{name}: {count}")
        bad = self.counts["lost"] + self.counts["wrong"] + self.counts["errors"]
        print("FAILED" if bad else "passed")
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, metavar="BIN")
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made below it")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unplug", action="store_true", help="the disk goes away instead of becoming full")
    parser.add_argument("--seconds", type=float, default=0.6, help="the disk goes away within so long")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("campaign: needs root, for loop devices")
    campaign = Campaign(args)
    try:
        return campaign.main()
    finally:
        subprocess.run(["rm", "-rf", campaign.work])


if __name__ == "__main__":
    sys.exit(main())
