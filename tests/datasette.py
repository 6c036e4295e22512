"""Datasette on a mirror, started by the command of docs/how-to/datasette.md."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

END_SECONDS = 20


def command(root: Path) -> list[str]:
    """Give the words of the page's command behind its first, with a free port."""
    page = (root / "docs/how-to/datasette.md").read_text()
    (typed,) = re.findall(r"```sh\n(datasette .*?)```", page, re.DOTALL)
    _, *words = shlex.split(typed.replace("\\\n", ""))
    words[words.index("--port") + 1] = "0"
    return words


@contextmanager
def serving(root: Path, data: Path, desk: Path) -> Iterator[str]:
    """Run it in `desk`, where `data` and the docs lie as in an installation; give its URL."""
    for name, to in (("data", data), ("docs", root / "docs")):
        (desk / name).symlink_to(to)
    process = subprocess.Popen(  # noqa: S603 - the server of the page
        [sys.executable, "-m", "datasette", *command(root)],
        cwd=desk,
        env={"PATH": os.environ["PATH"], "HOME": str(desk)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    heard = []
    try:
        for line in process.stderr:
            heard.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                yield found[1]
                return
        raise AssertionError("".join(heard))
    finally:
        process.terminate()
        process.communicate(timeout=END_SECONDS)
