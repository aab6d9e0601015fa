#!/usr/bin/env python3
"""Runs a command on a terminal and types for somebody: terminal.py ANSWERS COMMAND...

ANSWERS is a JSON list of pairs: a text that is waited for, and what is then typed; "^C" is the key. Prints all that the
terminal showed and ends as the command does.
"""

import json
import os
import pty
import select
import sys
import time


def main():
    """Waits, types, shows."""
    answers = json.loads(sys.argv[1])
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    shown, seen, end = "", 0, time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece.decode(errors="replace")
        if answers and answers[0][0] in shown[seen:]:
            seen = len(shown)
            text = answers.pop(0)[1]
            os.write(terminal, b"\x03" if text == "^C" else text.encode() + b"\n")
    else:
        os.kill(pid, 9)
        print("it hangs")
    sys.stdout.write(shown)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
