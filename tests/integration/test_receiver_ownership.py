import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.errors import MirrorError
from receiver.ownership import OwnedElsewhere, Ownership

OWNER = """
import sys
from pathlib import Path
from receiver.ownership import Ownership
owned = Ownership.take(Path(sys.argv[1]), "inbox", "the receiver")
print("owned", flush=True)
sys.stdin.read()
"""


def test_a_second_owner_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    with Ownership.take(tmp_path, "inbox", "the receiver"):
        with pytest.raises(OwnedElsewhere, match=rf"the receiver, process {os.getpid()}, since 20\d\d-"):
            Ownership.take(tmp_path, "inbox", "another receiver")
        Ownership.take(tmp_path, "mirror", "the worker").close()
    Ownership.take(tmp_path, "inbox", "another receiver").close()


def test_a_killed_owner_owns_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - a text of this test, by this Python
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"owned\n"
        with pytest.raises(OwnedElsewhere, match=f"process {process.pid}"):
            Ownership.take(tmp_path, "inbox", "another receiver")
        process.send_signal(signal.SIGKILL)
    Ownership.take(tmp_path, "inbox", "another receiver").close()


def test_a_missing_directory_is_made_for_user_and_group_alone(tmp_path: Path) -> None:
    Ownership.take(tmp_path / "deep" / "data", "inbox", "the receiver").close()
    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o750


def test_a_file_in_place_of_the_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    for directory in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(MirrorError, match=r"not a directory.*MIRROR_DATA_DIR"):
            Ownership.take(directory, "inbox", "the receiver")


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Root may write anywhere but where the kernel itself refuses."""
    directory = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "data"
    if os.geteuid() != 0:
        directory.mkdir(mode=0o500)
    with pytest.raises(MirrorError, match=r"not writable|cannot be opened for writing"):
        Ownership.take(directory, "inbox", "the receiver")
