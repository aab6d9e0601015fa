#!/usr/bin/env python3
"""Damages a repository on purpose, one file at a time, and takes the damage back.

    damage.py list REPO [--kinds delete,flip,...] [--older DIR]    one JSON line for each damage that is possible
    damage.py apply REPO JSON                                      does it; the original bytes go to REPO.undo/
    damage.py undo REPO JSON                                       takes it back, byte for byte

It knows nothing of the format but this: files below one top directory with one extension are of one kind, a file at the
top is a kind of its own. The modification time of a damaged file stays as it was, as with a failing disk. Kinds:

    delete, truncate-0, truncate-half, truncate-1   the file, or its end, is gone
    append-1                                        one byte more
    zero-4k                                         4 KiB in the middle are zeros
    flip                                            one bit is flipped; one damage for each 4 KiB of each file
    swap                                            exchanges the file with the next of its kind
    other-version                                   the file holds what another of its kind holds
    other-kind                                      the file holds what a file of another kind holds
    older                                           the file as it was in an older copy of the repository (--older)
"""
import argparse
import hashlib
import json
import os
import shutil
import stat
import sys

KINDS = ["delete", "truncate-0", "truncate-half", "truncate-1", "append-1", "zero-4k", "flip", "swap", "other-version", "other-kind", "older"]
BLOCK = 4096


def files(repo):
    """Every regular file of a repository, by its path below it, sorted."""
    found = []
    for where, dirs, names in os.walk(repo):
        dirs.sort()
        for name in names:
            path = os.path.join(where, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                found.append(os.path.relpath(path, repo))
    return sorted(found)


def object_kind(path):
    """`packs/*.tar.zst` for packs/ab/cd....tar.zst, `repository.json` for a file at the top."""
    top, slash, rest = path.partition("/")
    if not slash:
        return top
    _, dot, extension = os.path.basename(rest).partition(".")
    return f"{top}/*{dot}{extension}"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def flip_place(path, block, size):
    """The byte and the bit to flip in one block: scattered, but the same on every run."""
    start = block * BLOCK
    number = int.from_bytes(hashlib.sha256(f"{path} {block}".encode(errors="surrogateescape")).digest()[:8], "big")
    return start + number % (min(size, start + BLOCK) - start), 1 << (number >> 40) % 8


def zero_place(data):
    """A stretch of at most 4 KiB, as near to the middle as possible, that is not all zeros already."""
    blocks = range((len(data) + BLOCK - 1) // BLOCK)
    for block in sorted(blocks, key=lambda b: abs(b - len(data) // 2 // BLOCK)):
        if data[block * BLOCK:(block + 1) * BLOCK].strip(b"\0"):
            return block * BLOCK
    return None


def damages(repo, kinds=None, older=None):
    """Yields every damage that changes something, as a dictionary that JSON can hold."""
    kinds = kinds or KINDS
    paths = files(repo)
    hashes = {path: hashlib.sha256(read(os.path.join(repo, path))).digest() for path in paths}
    groups = {}
    for path in paths:
        groups.setdefault(object_kind(path), []).append(path)
    order = sorted(groups)
    for path in paths:
        data = read(os.path.join(repo, path))
        size, group = len(data), object_kind(path)

        def one(kind, **more):
            return {"kind": kind, "object": group, "path": path, **more}

        peers = groups[group]
        peer = next((p for p in peers[peers.index(path) + 1:] + peers[:peers.index(path)] if hashes[p] != hashes[path]), None)
        other_group = order[(order.index(group) + 1) % len(order)]
        other = next((p for p in groups[other_group] if hashes[p] != hashes[path]), None)
        for kind in kinds:
            if kind == "delete":
                yield one(kind)
            elif kind == "truncate-0" and size:
                yield one(kind, size=0)
            elif kind == "truncate-half" and size > 1:
                yield one(kind, size=size // 2)
            elif kind == "truncate-1" and size > 2:
                yield one(kind, size=size - 1)
            elif kind == "append-1":
                yield one(kind)
            elif kind == "zero-4k" and zero_place(data) is not None:
                yield one(kind, offset=zero_place(data))
            elif kind == "flip":
                for block in range((size + BLOCK - 1) // BLOCK):
                    offset, mask = flip_place(path, block, size)
                    yield one(kind, offset=offset, mask=mask)
            elif kind in ("swap", "other-version") and peer:
                yield one(kind, **{"with": peer})
            elif kind == "other-kind" and other and other_group != group:
                yield one(kind, **{"with": other})
            elif kind == "older" and older:
                before = os.path.join(older, path)
                if os.path.isfile(before) and read(before) != data:
                    yield one(kind, older=os.path.abspath(older))


def touched(damage):
    """The files that a damage changes."""
    return [damage["path"]] + ([damage["with"]] if damage["kind"] == "swap" else [])


def overwrite(path, data):
    """Other bytes in the same file, which keeps its mode and its time."""
    was = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data)
    os.chmod(path, stat.S_IMODE(was.st_mode))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def apply(repo, damage):
    """Does the damage and keeps nothing; see `apply_with_undo`."""
    kind, path = damage["kind"], os.path.join(repo, damage["path"])
    if kind == "delete":
        os.unlink(path)
        return
    data = read(path)
    if kind.startswith("truncate"):
        changed = data[:damage["size"]]
    elif kind == "append-1":
        changed = data + b"\n"
    elif kind == "zero-4k":
        at = damage["offset"]
        changed = data[:at] + b"\0" * len(data[at:at + BLOCK]) + data[at + BLOCK:]
    elif kind == "flip":
        at = damage["offset"]
        changed = data[:at] + bytes([data[at] ^ damage["mask"]]) + data[at + 1:]
    elif kind in ("swap", "other-version", "other-kind"):
        changed = read(os.path.join(repo, damage["with"]))
        if kind == "swap":
            overwrite(os.path.join(repo, damage["with"]), data)
    elif kind == "older":
        changed = read(os.path.join(damage["older"], damage["path"]))
    else:
        raise ValueError(f"no such damage: {kind}")
    overwrite(path, changed)


def side_directory(repo, damage):
    name = hashlib.sha256(json.dumps(damage, sort_keys=True).encode()).hexdigest()[:16]
    return os.path.join(os.path.abspath(repo) + ".undo", name)


def apply_with_undo(repo, damage):
    side = side_directory(repo, damage)
    os.makedirs(side)  # fails if this damage is already there
    for number, path in enumerate(touched(damage)):
        shutil.copy2(os.path.join(repo, path), os.path.join(side, str(number)))
    apply(repo, damage)


def undo(repo, damage):
    side = side_directory(repo, damage)
    for number, path in enumerate(touched(damage)):
        kept, path = os.path.join(side, str(number)), os.path.join(repo, path)
        if os.path.exists(path):
            overwrite(path, read(kept))
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(kept, path)
        shutil.copystat(kept, path)
    shutil.rmtree(side)
    if not os.listdir(os.path.dirname(side)):
        os.rmdir(os.path.dirname(side))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all damages, one JSON line each")
    listing.add_argument("repo")
    listing.add_argument("--kinds", default=",".join(KINDS), help="only these, separated by commas")
    listing.add_argument("--older", metavar="DIR", help="an older copy of the same repository")
    for name in ("apply", "undo"):
        command = commands.add_parser(name)
        command.add_argument("repo")
        command.add_argument("damage", help="one line of `list`")
    args = parser.parse_args()
    if args.command == "list":
        kinds = args.kinds.split(",")
        unknown = set(kinds) - set(KINDS)
        if unknown:
            parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        for damage in damages(args.repo, kinds, args.older):
            print(json.dumps(damage))
    else:
        {"apply": apply_with_undo, "undo": undo}[args.command](args.repo, json.loads(args.damage))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"damage: {error}")
