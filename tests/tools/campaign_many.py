#!/usr/bin/env python3
"""How long, and how much memory, a tree of very many files takes; and whether twice as many take more than twice as long.

Makes a tree of half as many files, then of all, each file with a content of its own, and for both: first snapshot, unchanged snapshot,
`verify --deep`, restore. A table on standard output: seconds of processor time (all threads), seconds by the clock, peak memory. Exit
status 1 if a step fails, needs more than 500 MiB, or takes more than 2.3 times the processor time for twice the entries.

Before each step everything is written to the disk and some seconds pass, so that no step pays for what was made or removed before
it. Use a file system that was made for the run: making a name costs several times more on one that was filled and emptied again and
again.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

MOST_MIB, MOST_TIMES = 500, 2.3
SETTLE = 6


def make(top, first, last, per_directory):
    for number in range(first, last):
        if number % per_directory == 0:
            os.makedirs(os.path.join(top, f"{number // per_directory:05d}"), exist_ok=True)
        with open(os.path.join(top, f"{number // per_directory:05d}", f"{number:07d}"), "w") as file:
            file.write(f"{number}\n")


def measured(program, environment, *args):
    os.sync()
    time.sleep(SETTLE)
    start = time.monotonic()
    pid = os.spawnve(os.P_NOWAIT, program, [program, *args], environment)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"campaign: {args[0]} ends with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, metavar="BIN")
    parser.add_argument("--work", required=True, metavar="DIR", help="an existing directory; a temporary one is made below it")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--per-directory", type=int, default=1000, help="as many as there are: one directory with all of them")
    args = parser.parse_args()
    work = tempfile.mkdtemp(prefix="many-", dir=os.path.abspath(args.work))
    try:
        return campaign(args, os.path.abspath(args.lifeboat), work)
    finally:
        subprocess.run(["rm", "-rf", work])


def campaign(args, program, work):
    tree, target = os.path.join(work, "tree"), os.path.join(work, "target")
    keep = {key: value for key, value in os.environ.items() if not key.startswith("LIFEBOAT_")}
    rows, bad = {}, []
    half = args.entries // 2
    for first, last in ((0, half), (half, args.entries)):
        make(tree, first, last, args.per_directory)
        home = os.path.join(work, f"home-{last}")
        os.makedirs(home)
        environment = {**keep, "HOME": home, "LIFEBOAT_STATE_DIR": home + "/state", "LIFEBOAT_WRITER_KEY": home + "/key", "LIFEBOAT_REPOSITORY": home + "/repo"}
        measured(program, environment, "init", "-q")
        for name, command in {
            "first snapshot": ["snapshot", "-q", tree],
            "unchanged snapshot": ["snapshot", "-q", tree],
            "verify --deep": ["verify", "--deep", "-q"],
            "restore": ["restore", "-q", f"latest:{tree}", "--target", target],
        }.items():
            rows.setdefault(name, []).append(measured(program, environment, *command))
        count = sum(len(names) for _, _, names in os.walk(target))
        if count != last:
            bad.append(f"{count} of {last} files were restored")
        shutil.rmtree(target)
        shutil.rmtree(home)
    print(f"| step | {half:,} files: CPU s, wall s, MiB | {args.entries:,} files: CPU s, wall s, MiB | CPU ratio |\n|---|---:|---:|---:|")
    for name, (small, large) in rows.items():
        ratio = large[0] / max(small[0], 0.01)
        print(f"| {name} | " + " | ".join(f"{cpu:.1f}, {wall:.1f}, {memory:.0f}" for cpu, wall, memory in (small, large)) + f" | {ratio:.2f} |")
        if large[2] > MOST_MIB:
            bad.append(f"{name} takes {large[2]:.0f} MiB")
        if ratio > MOST_TIMES and large[0] > 1:
            bad.append(f"{name} takes {ratio:.2f} times the time for twice the entries")
    print("\n".join(bad) or "passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
