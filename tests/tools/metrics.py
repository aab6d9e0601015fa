#!/usr/bin/env python3
"""Writes a large file of measurements: metrics.py FILE [--lines N] [--broken N] [--days N]

Lines of JSON as the sample application writes them, evenly over the last DAYS days, the values a daily wave with a
slow growth of memory and disk. Every N-th line is broken, in turns: cut, no JSON, no time, no object, binary.
"""

import argparse
import json
import math
import random
import sys
import time
from datetime import datetime, timezone

BROKEN = [b'{"timestamp": "2026-', b"not json at all", b'{"cpu_percent": 3}', b"[1, 2, 3]", b"\xff\xfe\x00\x01"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--broken", type=int, default=1000, help="one of so many lines is broken; 0: none")
    parser.add_argument("--days", type=float, default=120)
    args = parser.parse_args()
    random.seed(1)
    noise = [random.gauss(0, 4) for _ in range(4096)]
    end = time.time()
    start, span = end - args.days * 86400, args.days * 86400
    broken = 0
    with open(args.file, "wb", buffering=1 << 20) as out:
        for number in range(args.lines):
            if args.broken and number % args.broken == args.broken - 1:
                out.write(BROKEN[broken % len(BROKEN)] + b"\n")
                broken += 1
                continue
            share = number / args.lines
            at = start + share * span
            wave = math.sin(at / 86400 * 2 * math.pi)
            jitter = noise[number * 7919 % 4096]
            line = (
                f'{{"timestamp": "{datetime.fromtimestamp(at, timezone.utc).isoformat()}", '
                f'"cpu_percent": {35 + 20 * wave + jitter:.2f}, '
                f'"memory_percent": {50 + 10 * share + 3 * wave + jitter / 4:.2f}, '
                f'"disk_usage_percent": {40 + 20 * share:.2f}}}\n'
            )
            out.write(line.encode())
    json.dump({"lines": args.lines, "broken": broken}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
