#!/usr/bin/env python3
"""Drills in a row, some of them killed: nothing of any may be left over.

The sample application runs as production on its port. Its snapshot is drilled again and again; every tenth drill gets SIGKILL, its
own process alone, at a random instant. After each kill `gc` runs. At the end, compared with the beginning: no process, mount,
namespace, network interface, cgroup, listening port or directory of a drill is there that was not there before, production
answered all the time, and every drill that was not killed passed. Counts on standard output; exit status 1 if anything is left.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request


def log(text):
    print(text, file=sys.stderr, flush=True)


def processes():
    """Every process by number, with its start time, so that a number that is used again counts as new."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rsplit(b")", 1)[1].split()
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    found[(int(name), fields[19])] = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                pass
    return found


def namespaces():
    found = set()
    for (pid, _) in processes():
        for kind in ("mnt", "net", "pid", "ipc", "user", "uts", "cgroup"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                pass
    return found


def mounts():
    with open("/proc/self/mountinfo") as file:
        return sorted(" ".join(line.split()[3:]) for line in file)


def ports():
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            found |= {line.split()[1] for line in list(file)[1:] if line.split()[3] == "0A"}
    return found


def cgroups():
    return {where for where, _, _ in os.walk("/sys/fs/cgroup") if "lifeboat" in where}


def scratch(directory):
    return {name for name in os.listdir(directory) if "lifeboat" in name}


class Production:
    """Asks production again and again; counts what did not answer well."""

    def __init__(self, port):
        self.url, self.asked, self.bad, self.ends = f"http://127.0.0.1:{port}/health", 0, 0, False
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self):
        while not self.ends:
            try:
                with urllib.request.urlopen(self.url, timeout=20) as answer:
                    good = json.load(answer)["status"] == "healthy"
            except (OSError, ValueError):
                good = False
            self.asked, self.bad = self.asked + 1, self.bad + (not good)
            time.sleep(0.1)

    def end(self):
        self.ends = True
        self.thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True)
    parser.add_argument("--work", default="/var/tmp", help="a directory on a disk")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--kill-every", type=int, default=10)
    parser.add_argument("--port", type=int, default=18733)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    program = os.path.abspath(args.lifeboat)
    work = tempfile.mkdtemp(prefix="drills-", dir=args.work)
    app, temporary = os.path.join(work, "app"), os.path.join(work, "tmp")
    for directory in (temporary, os.path.join(work, "home")):
        os.mkdir(directory)
    env = {name: value for name, value in os.environ.items() if not name.startswith("LIFEBOAT_")}
    env |= {"HOME": os.path.join(work, "home"), "TMPDIR": temporary, "LIFEBOAT_REPOSITORY": os.path.join(work, "repo"),
            "LIFEBOAT_STATE_DIR": os.path.join(work, "state"), "LIFEBOAT_WRITER_KEY": os.path.join(work, "key")}
    install = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../fixtures/aura/install.sh")
    subprocess.run([install, "--port", str(args.port), app], check=True, stdout=subprocess.DEVNULL)

    def run(*words):
        return subprocess.run([program, *words], cwd=app, env=env, capture_output=True, text=True, errors="replace")

    subprocess.run(["./start_aura.sh"], cwd=app, env=env, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    wrong = []
    try:
        for words in (["init", "-q"], ["snapshot", "-q"]):
            done = run(*words)
            assert done.returncode == 0, done.stderr
        production = Production(args.port)
        before = {"namespaces": namespaces(), "mounts": mounts(), "ports": ports(), "cgroups": cgroups(), "directories": scratch(temporary)}
        known, began, lengths, killed = processes(), time.time(), [], 0
        for number in range(1, args.count + 1):
            start = time.time()
            child = subprocess.Popen([program, "drill", "--json", "--in", temporary], cwd=app, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if number % args.kill_every == 0:
                usual = sorted(lengths)[len(lengths) // 2] if lengths else 1.0
                time.sleep(rng.uniform(0, usual))
                child.kill()
                killed += 1
                child.communicate()
                done = run("gc", "--in", temporary)
                if done.returncode != 0:
                    wrong.append(f"gc after kill {number}: {done.returncode} {done.stderr}")
                continue
            out, err = child.communicate()
            lengths.append(time.time() - start)
            if child.returncode != 0:
                wrong.append(f"drill {number} ended with {child.returncode}: {out[-400:]!r} {err[-400:]!r}")
            log(f"{number} of {args.count}")
        # what is just ending may end
        deadline = time.time() + 10
        while True:
            left = {what: set(now()) - set(before[what]) for what, now in
                    (("namespaces", namespaces), ("mounts", mounts), ("ports", ports), ("cgroups", cgroups), ("directories", lambda: scratch(temporary)))}
            ours = re.compile(re.escape(work))
            left["processes"] = {text for key, text in processes().items() if key not in known and ours.search(text)}
            if not any(left.values()) or time.time() > deadline:
                break
            time.sleep(0.2)
        wrong += [f"{what} left: {sorted(things)}" for what, things in left.items() if things]
        production.end()
        if production.bad:
            wrong.append(f"production did not answer well {production.bad} of {production.asked} times")
        done = run("log", "verify")
        if done.returncode != 0:
            wrong.append(f"log verify: {done.stdout}{done.stderr}")
        lengths.sort()
        print(f"{args.count} drills, {killed} killed, seed {args.seed}, {time.time() - began:.0f} s; median {lengths[len(lengths) // 2]:.2f} s; "
              f"production asked {production.asked} times, {production.bad} bad; left over: {sum(map(len, left.values()))}")
    finally:
        subprocess.run(["./stop_aura.sh"], cwd=app, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for text in wrong:
        print(f"WRONG: {text}")
    if not wrong:
        subprocess.run(["rm", "-rf", work])
    return 1 if wrong else 0


sys.exit(main())
