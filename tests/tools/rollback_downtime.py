#!/usr/bin/env python3
"""How long the sample application is gone during a rollback, beyond its own stop and start.

    rollback_downtime.py --lifeboat PROGRAM --port N [--runs 10]

Installs the sample in a directory of its own. In each run its scripts stop and start it, which is timed; then it is changed and brought
back by `lifeboat rollback`, while /health is asked every 10 ms. Gone is from the last good answer before the first bad one to the first good
one after the last. Prints each run and the medians.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
INSTALL = os.path.join(HERE, "../../fixtures/aura/install.sh")


class Poll(threading.Thread):
    """Asks every 10 ms until it is told to end."""

    def __init__(self, url):
        super().__init__()
        self.url, self.ended, self.answers = url, threading.Event(), []

    def run(self):
        while not self.ended.wait(0.01):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=1) as answer:
                    well = answer.status == 200
            except OSError:
                well = False
            self.answers.append((began, well))

    def gone(self):
        self.ended.set()
        self.join()
        bad = [at for at, (_, well) in enumerate(self.answers) if not well]
        if not bad:
            return 0.0
        first, last = bad[0], bad[-1]
        return self.answers[last + 1][0] - self.answers[first - 1][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifeboat", required=True, type=os.path.abspath)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        app = os.path.join(place, "aura")
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIFEBOAT_")}
        env |= {"HOME": place, "LIFEBOAT_REPOSITORY": os.path.join(place, "repo"), "LIFEBOAT_STATE_DIR": os.path.join(place, "state"),
                "LIFEBOAT_WRITER_KEY": os.path.join(place, "key")}

        def call(*command):
            began = time.monotonic()
            done = subprocess.run(command, env=env, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
            return time.monotonic() - began

        call(INSTALL, "--port", str(options.port), app)
        start, stop, plan = os.path.join(app, "start_aura.sh"), os.path.join(app, "stop_aura.sh"), os.path.join(app, "lifeboat.toml")
        call(options.lifeboat, "init", "-q")
        call(start)
        rows = []
        try:
            for number in range(options.runs):
                own = call(stop) + call(start)
                call(options.lifeboat, "snapshot", "-q", "-c", plan)
                with open(os.path.join(app, "frontend/new.txt"), "w") as file:
                    file.write(str(number))
                poll = Poll(f"http://127.0.0.1:{options.port}/health")
                poll.start()
                time.sleep(0.3)
                whole = call(options.lifeboat, "rollback", "--newest", "--yes", "-q", "-c", plan)
                time.sleep(0.3)
                gone = poll.gone()
                rows.append((own, gone, gone - own, whole))
                print("own stop and start %.2f s, gone %.2f s, beyond %.2f s; the rollback %.2f s" % rows[-1], flush=True)
        finally:
            call(stop)
        names = ("own stop and start", "gone", "beyond", "the rollback")
        print("median of %d: %s; most beyond %.2f s" % (len(rows), ", ".join(f"{name} {statistics.median(column):.2f} s" for name, column in zip(names, zip(*rows))), max(row[2] for row in rows)))


if __name__ == "__main__":
    main()
