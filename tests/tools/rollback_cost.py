#!/usr/bin/env python3
"""What a rollback costs against a whole restore of the same snapshot, on file systems of its own.

    rollback_cost.py --lifeboat PROGRAM --corpus TREE [--mutate PROGRAM] [--runs 5] [--size 6G] [--scratch DIR] xfs btrfs btrfs-subvolume ext4

For each file system an image is made and mounted and the corpus copied there, to a directory or to a subvolume. In each run a snapshot is taken, the tree is
changed, and brought back by `lifeboat rollback`, once with and once without the safety snapshot; then the snapshot is restored to an empty
directory, and compared. 1 % of the files are changed, in place, at the end or in the middle, by turns; or what MUTATE does, if it is given
(told the tree, and --seed N). Before each command everything is synced. Prints the medians of wall and CPU time as a table,
and the ratio to the restore. Needs root and loop devices; unmounts and removes what it made.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BTRFS = ["mkfs.btrfs", "-q"]
MKFS = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": BTRFS, "btrfs-subvolume": BTRFS, "ext4": ["mkfs.ext4", "-q", "-F"]}


class Bench:
    def __init__(self, options, kind, place):
        self.lifeboat = options.lifeboat
        self.options = options
        self.mount = os.path.join(place, "mnt")
        image = os.path.join(place, "image")
        os.mkdir(self.mount)
        with open(image, "wb") as file:
            file.truncate(size(options.size))
        run([*MKFS[kind], image])
        run(["mount", "-o", "loop", image, self.mount])
        self.app = os.path.join(self.mount, "app")
        if kind == "btrfs-subvolume":
            run(["btrfs", "subvolume", "create", self.app])
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LIFEBOAT_")},
            "HOME": place,
            "LIFEBOAT_REPOSITORY": os.path.join(place, "repo"),
            "LIFEBOAT_STATE_DIR": os.path.join(place, "state"),
            "LIFEBOAT_WRITER_KEY": os.path.join(place, "key"),
            "LIFEBOAT_CACHE_DIR": os.path.join(place, "cache"),
        }

    def call(self, *args):
        """Runs lifeboat; what it printed, wall and CPU seconds."""
        os.sync()
        before, began = os.times(), time.monotonic()
        done = subprocess.run([self.lifeboat, *args], env=self.env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True)
        wall, after = time.monotonic() - began, os.times()
        if done.returncode != 0:
            sys.exit(f"lifeboat {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        return done.stdout, wall, cpu

    def measure(self):
        run(["cp", "-aT", self.options.corpus, self.app])
        with open(os.path.join(self.app, "lifeboat.toml"), "w") as plan:
            plan.write('[app]\nname = "corpus"\n')
        self.call("init", "-q")
        plan = ["-c", os.path.join(self.app, "lifeboat.toml")]
        found = {"rollback": [], "rollback --no-safety": [], "restore": []}
        for number in range(self.options.runs):
            for name, more in (("rollback", []), ("rollback --no-safety", ["--no-safety"])):
                # what was put aside before goes first: that changes the times of the files that both trees have
                self.call("undo", "--drop", *plan)
                # a file that changed within the last moments is read again by the next snapshot
                time.sleep(3)
                snapshot = self.call("snapshot", "-q", *plan)[0].split()[-1]
                self.change(100 + number)
                text, wall, cpu = self.call("rollback", snapshot, "--yes", "--json", *more, *plan)
                if json.loads(text.splitlines()[-1])["ended"]["verdict"] != "done":
                    sys.exit(text)
                found[name].append((wall, cpu))
            target = os.path.join(self.mount, "whole")
            _, wall, cpu = self.call("restore", f"{snapshot}:{self.app}", "-t", target, "-q")
            found["restore"].append((wall, cpu))
            run(["diff", "-r", "--no-dereference", target, self.app])
            shutil.rmtree(target)
        return {name: [statistics.median(column) for column in zip(*all)] for name, all in found.items()}

    def change(self, seed):
        if self.options.mutate:
            return run([sys.executable, self.options.mutate, self.app, "--seed", str(seed)])
        chance, files = random.Random(seed), []
        for base, directories, names in os.walk(self.app):
            directories.sort()
            paths = (os.path.join(base, name) for name in sorted(names))
            files.extend(path for path in paths if not os.path.islink(path) and os.path.getsize(path) > 64)
        for turn, path in enumerate(chance.sample(files, len(files) // 100)):
            with open(path, "r+b") as file:
                content, at = file.read(), chance.randrange(os.path.getsize(path) - 32)
                file.seek(0)
                more = chance.randbytes(32)
                parts = [(content[:at], more, content[at + 32:]), (content, more), (content[:at], more, content[at:])][turn % 3]
                file.writelines(parts)

    def close(self):
        subprocess.run(["umount", self.mount], check=False)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def size(text):
    return int(text[:-1]) << {"M": 20, "G": 30}[text[-1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, type=os.path.abspath)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--mutate")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", default="6G")
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("kinds", nargs="+", choices=MKFS)
    options = parser.parse_args()
    print("| file system | command | wall s | of a restore | CPU s | of a restore |\n|---|---|---:|---:|---:|---:|")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory(dir=options.scratch) as place:
            bench = Bench(options, kind, place)
            try:
                found = bench.measure()
            finally:
                bench.close()
        whole = found["restore"]
        for name, (wall, cpu) in found.items():
            print(f"| {kind} | {name} | {wall:.2f} | {wall / whole[0]:.2f} | {cpu:.2f} | {cpu / whole[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
