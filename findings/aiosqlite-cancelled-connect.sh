#!/usr/bin/env bash
# aiosqlite 0.22.1: a connect() that is cancelled while it waits leaves the sqlite3 connection open. stop() is called,
# and closes what it knows: but the connection that its thread made meanwhile was never handed over, so that it stays
# open until its last reference goes. Seen with Python 3.11 and later: the file stays open after the cancellation.
# From Python 3.13 on a ResourceWarning ("unclosed database") says so, at any later time.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check aiosqlite==0.22.1
cat >"$place/cancelled.py" <<'PYTHON'
import asyncio
import sqlite3
import sys
import threading

import aiosqlite

made = []
began, go_on = threading.Event(), threading.Event()


class Connection(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        made.append(self)
        began.set()
        go_on.wait(10)  # the file is slow to open


async def main():
    connecting = asyncio.create_task(connect())
    await asyncio.to_thread(began.wait, 10)
    connecting.cancel()
    await asyncio.wait([connecting])
    go_on.set()
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            thread.join(10)


async def connect():
    await aiosqlite.connect(sys.argv[1], factory=Connection, check_same_thread=False)


asyncio.run(main())
(connection,) = made
try:
    connection.execute("SELECT 1")
    print("open")
    connection.close()
except sqlite3.ProgrammingError:
    print("closed")
PYTHON
state=$("$place/venv/bin/python" "$place/cancelled.py" "$place/file.db")
echo "after a cancelled connect() of aiosqlite 0.22.1 its sqlite3 connection is: $state"
[ "$state" = open ]
