#!/usr/bin/env python3
"""Databases for the tests, made and judged by another SQLite than the program's.

    sqlite_writer.py write FILE [log|journal|persist|closing]
                                     changes FILE for ever, in transactions after each of which its numbers agree: with a
                                     write-ahead log, with a rollback journal, with one that is not removed, or with a log
                                     and closed after each
    sqlite_writer.py judge FILE...   exits with 1 and names each FILE that is torn
    sqlite_writer.py rows FILE       prints how many rows it has
"""
import sqlite3
import sys


def connect(path, way):
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.execute(f"PRAGMA journal_mode={ {'journal': 'DELETE', 'persist': 'PERSIST'}.get(way, 'WAL') }")
    # a small log: what is committed goes over into the file all the time
    db.execute("PRAGMA wal_autocheckpoint=20")
    return db


def write(path, way="log"):
    db = connect(path, way)
    db.execute("CREATE TABLE IF NOT EXISTS entry(id INTEGER PRIMARY KEY, account INTEGER, amount INTEGER, note TEXT)")
    db.execute("CREATE INDEX IF NOT EXISTS by_account ON entry(account)")
    db.execute("CREATE TABLE IF NOT EXISTS total(entries INTEGER, amount INTEGER)")
    if db.execute("SELECT count(*) FROM total").fetchone()[0] == 0:
        db.execute("INSERT INTO total VALUES (0, 0)")
    number = 0
    while True:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            number += 1
            note = str(number) * 40
            db.execute("INSERT INTO entry(account, amount, note) VALUES (?, ?, ?)", (number % 97, number % 13, note))
        db.execute("DELETE FROM entry WHERE id <= (SELECT max(id) FROM entry) - 4000")
        db.execute("UPDATE total SET entries = (SELECT count(*) FROM entry), amount = (SELECT sum(amount) FROM entry)")
        db.execute("COMMIT")
        if number == 20:
            print("ready", flush=True)
        if way == "closing":
            db.close()
            db = connect(path, way)


def judge(path):
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    # one state for all questions: it may be written to meanwhile
    db.execute("BEGIN")
    found = db.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        return found
    have = db.execute("SELECT count(*), coalesce(sum(amount), 0) FROM entry").fetchone()
    said = db.execute("SELECT entries, amount FROM total").fetchone()
    return None if have == said else f"it has {have} and says {said}"


def main(command, *paths):
    if command == "write":
        write(*paths)
    elif command == "rows":
        print(sqlite3.connect(paths[0]).execute("SELECT count(*) FROM entry").fetchone()[0])
    else:
        bad = 0
        for path in paths:
            try:
                why = judge(path)
            except sqlite3.Error as error:
                why = str(error)
            if why:
                bad += 1
                print(f"{path}: {why}")
        print(f"{bad} of {len(paths)} are torn")
        sys.exit(1 if bad else 0)


main(*sys.argv[1:])
