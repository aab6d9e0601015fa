#!/usr/bin/env python3
"""What the sample application (fixtures/aura) is for, shown by really doing it, without Lifeboat.

    sample.py fault      the fault of the operations document: a broken copy, restored elsewhere, passes its own
                         tests, because the scripts go to the absolute path of production; put at that path, it fails
    sample.py sabotage   whatever is done to the installed application, some check of it goes red
"""

import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "fixtures" / "aura"


def run(*command, cwd=None):
    """Exit status and output of a command."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def free_port():
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install(directory, port, *options):
    """The application, installed and whole."""
    status, output = run(SOURCE / "install.sh", "--port", port, *options, directory)
    assert status == 0, output


def health(port):
    """What /health says; `None` if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        return json.load(error)["status"]
    except (OSError, ValueError, KeyError):
        return None


class Server:
    """The server of the tree at `directory`, stopped at the end."""

    def __init__(self, directory):
        self.process = subprocess.Popen([sys.executable, "-B", "backend/server.py"], cwd=directory,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait(self, port):
        """The health, as soon as there is one; `None` if the server ends or never answers."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return None
            if found := health(port):
                return found
            time.sleep(0.05)
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.process.stderr.close()


def fault(room):
    """The document's two false passes, and that the original path tells the truth."""
    port, live, copy = free_port(), room / "live", room / "restored"
    install(live, port)
    shutil.copytree(live, copy, symlinks=True)
    (copy / "backend" / "aura_glm.py").unlink()

    status, output = run("./run_tests.sh", cwd=copy)
    assert status == 0 and "9/9 passed" in output, output
    assert f"tested tree: {live}" in output, output
    status, output = run("./validate_integration.py", cwd=copy)
    assert status == 0, output
    print("a copy without backend/aura_glm.py, restored elsewhere: 9/9 passed, of production")

    with Server(live) as production:
        assert production.wait(port) == "healthy"
        with Server(copy) as broken:
            assert broken.process.wait(20) != 0, "the broken server runs"
            assert "aura_glm" in broken.process.stderr.read()
            assert health(port) == "healthy"
    print("its server died at once, and curl was answered: healthy, by production")

    live.rename(room / "aside")
    copy.rename(live)
    status, output = run("./run_tests.sh", cwd=live)
    assert status == 1 and "missing: ['backend/aura_glm.py']" in output, output
    status, output = run("./validate_integration.py", cwd=live)
    assert status == 1 and "backend/aura_glm.py is missing" in output, output
    print("the same copy at its original path: fails, as it should")


def plan_says(directory):
    """The first of the plan's checks of kind sql or json that is red; `None` if all are green."""
    plan = tomllib.loads((directory / "lifeboat.toml").read_text())
    for check in plan["check"]:
        if "json" in check:
            value = json.loads((directory / check["json"]).read_text())[check["pointer"].lstrip("/")]
            red = value != check["equals"]
        elif "sql" in check:
            with sqlite3.connect(f"file:{directory / check['sql']}?mode=ro", uri=True) as database:
                (value,) = database.execute(check["query"]).fetchone()
            database.close()
            red = value is None or not check.get("min", value) <= value <= check.get("max", value)
        else:
            continue
        if red:
            return f"check {check['name']!r}: {value}"
    return None


def noticed(directory, port):
    """What goes red first in the application at `directory`; `None` if everything is green."""
    for script in ("run_tests.sh", "validate_integration.py"):
        try:
            status, output = run(directory / script, cwd=directory)
        except OSError as error:
            return f"{script}: {error}"
        if status:
            return f"{script}: {output.strip().splitlines()[-1] if output.strip() else status}"
    if found := plan_says(directory):
        return found
    with Server(directory) as server:
        found = server.wait(port)
        return None if found == "healthy" else f"server: {found}"


def flip(file, at, count=1):
    """Turns over all bits of some bytes, and leaves size and time as they were."""
    times = os.stat(file)
    with open(file, "r+b") as opened:
        opened.seek(at)
        old = opened.read(count)
        opened.seek(at)
        opened.write(bytes(byte ^ 0xFF for byte in old))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def empty_tables(directory):
    """Removes every row; the schema stays."""
    database = sqlite3.connect(directory / "data/aura.db")
    with database:
        for table in ("sessions", "readings", "knowledge"):
            database.execute(f"DELETE FROM {table}")
    database.close()


def set_config(directory, **values):
    """Changes settings."""
    file = directory / "config/aura.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def truncate(file, share):
    """Cuts a file down to a share of its size."""
    os.truncate(file, int(file.stat().st_size * share))


def sabotages(pristine, port):
    """Names of ways to break the copy, and how."""
    generator = random.Random(7)
    files = sorted(file.relative_to(pristine) for file in pristine.rglob("*") if file.is_file())
    for name in files:
        yield f"{name} is missing", lambda d, n=name: (d / n).unlink()
        size = (pristine / name).stat().st_size
        # the plan is the operator's and may change; an empty file has nothing to flip
        if size and name.suffix != ".db" and name.name != "lifeboat.toml":
            at = generator.randrange(size)
            yield f"byte {at} of {name} is flipped", lambda d, n=name, at=at: flip(d / n, at)
    database = Path("data/aura.db")
    size = (pristine / database).stat().st_size
    for at in [0, 40] + [generator.randrange(4096, size - 64) for _ in range(40)]:
        yield f"64 bytes of the database at {at} are flipped", lambda d, at=at: flip(d / database, at, 64)
    for share in (0, 0.1, 0.5, 0.99):
        yield f"the database is cut to {share:.0%}", lambda d, share=share: truncate(d / database, share)
    yield "the tables are empty", empty_tables
    yield "the port is another", lambda d: set_config(d, port=port + 1)
    yield "the name of the database is another", lambda d: set_config(d, database="data/other.db")
    yield "a setting is out of range", lambda d: set_config(d, answer_limit=0)
    yield "a setting is another", lambda d: set_config(d, history_days=30)


def sabotage(room):
    """Every one of them is noticed, and the untouched application is not."""
    port, pristine, live = free_port(), room / "pristine", room / "aura"
    install(live, port)
    assert noticed(live, port) is None, noticed(live, port)
    shutil.rmtree(live / "run", ignore_errors=True)
    # what the plan leaves out of a snapshot is no target
    for log in (live / "logs").glob("*.log*"):
        log.unlink()
    live.rename(pristine)
    unnoticed, count = [], 0
    for name, spoil in sabotages(pristine, port):
        shutil.rmtree(live, ignore_errors=True)
        shutil.copytree(pristine, live, symlinks=True)
        spoil(live)
        count += 1
        if noticed(live, port) is None:
            unnoticed.append(name)
    shutil.rmtree(live)
    install(live, port, "--until", "2026-01-31T12:00:00Z")
    found = noticed(live, port)
    count += 1
    if not found or "newest row" not in found:
        unnoticed.append("old data")
    assert not unnoticed, f"{len(unnoticed)} of {count} went unnoticed: {unnoticed}"
    print(f"{count} of {count} sabotages were noticed")


def main():
    """Runs one of them in a directory that is gone afterwards."""
    parts = {"fault": fault, "sabotage": sabotage}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="aura-") as room:
        parts[sys.argv[1]](Path(room).resolve())


if __name__ == "__main__":
    main()
