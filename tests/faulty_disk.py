"""A disk that fails at a chosen operation: a VFS of SQLite that stands before the one of this system.

It is registered in the SQLite library that Python's own `sqlite3` is linked with, so what fails is the very
code that the product runs. The operations are numbered: opening a file for writing, writing, truncating,
syncing, deleting, and enlarging the index of a log; reading too, on request. Nothing else is touched.

It also keeps what has reached the disk: the content at the last sync, and each write since.
`FaultyDisk.image` is what a power cut leaves.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

OK: Final = 0
IO_ERROR: Final = 10
FULL: Final = 13
CODES: Final = {
    "read": IO_ERROR | 1 << 8,
    "write": IO_ERROR | 3 << 8,
    "sync": IO_ERROR | 4 << 8,
    "truncate": IO_ERROR | 6 << 8,
    "delete": IO_ERROR | 10 << 8,
    "index": IO_ERROR | 19 << 8,
    "open": 14,
}
"""What SQLite's own VFS answers when an operation fails."""
FOR_WRITING: Final = 0x2 | 0x4
"""Flags of an opening: read-write, create."""

_I, _L, _P, _S = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p, ctypes.c_char_p


def _function(*arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(_I, *arguments)


OPEN, DELETE = _function(_P, _P, _P, _I, _P), _function(_P, _P, _I)
CLOSE, READ = _function(_P), _function(_P, _P, _I, _L)
TRUNCATE, SYNC, MAP = _function(_P, _L), _function(_P, _I), _function(_P, _I, _I, _I, _P)


class Vfs(ctypes.Structure):
    """`sqlite3_vfs`; what is not called here is passed on as it is."""

    _fields_ = (
        *(("version", _I), ("file_size", _I), ("longest_path", _I)),
        *(("next", _P), ("name", _S), ("data", _P)),
        *(("open", OPEN), ("delete", DELETE)),
        ("others", _P * 14),
    )


class Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", _I),
        *(("close", CLOSE), ("read", READ), ("write", READ), ("truncate", TRUNCATE), ("sync", SYNC)),
        ("some", _P * 7),
        ("map", MAP),
        ("others", _P * 5),
    )


Kind = Literal["error", "short", "full", "power"]


class Fault(NamedTuple):
    """What fails, and when."""

    kind: Kind
    """An I/O error; half of a write before the error; a full disk; or the power, which takes everything."""
    at: int
    """The operation that fails; they are counted from 1."""
    persistent: bool = False
    """Whether all later operations of the kind fail, too; after a power cut all do."""


@dataclass
class Content:
    """What of a file is on the disk for certain, and what was done since."""

    synced: bytes | None = None
    """None: the file is not there."""
    since: list[tuple[int, bytes] | int | None] = field(default_factory=list)
    """In order: a write, a new length, None for a deletion."""

    def sync(self) -> None:
        self.synced, self.since = self.after(self.since), []

    def sync_deletion(self) -> None:
        """Let the last deletion reach the disk, with what came before it."""
        if None in self.since:
            last = len(self.since) - self.since[::-1].index(None)
            self.synced, self.since = None, self.since[last:]

    def after(self, steps: list[tuple[int, bytes] | int | None]) -> bytes | None:
        """Give the content once these steps have reached the disk."""
        content = None if self.synced is None else bytearray(self.synced)
        for step in steps:
            if step is None:
                content = None
                continue
            content = bytearray() if content is None else content
            if isinstance(step, int):
                del content[step:]
                content.extend(bytes(step - len(content)))
            else:
                offset, data = step
                content.extend(bytes(max(0, offset + len(data) - len(content))))
                content[offset : offset + len(data)] = data
        return None if content is None else bytes(content)


class FaultyDisk:
    """The disk under all connections that are opened while `in_use` lasts."""

    def __init__(self) -> None:
        # the module finds what it is linked with, too; one that is built in is found in the interpreter
        self._library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        if not hasattr(self._library, "sqlite3_vfs_find"):
            raise RuntimeError(
                "This Python hides the functions of its SQLite: no VFS can be registered in it."
            )
        find = self._library.sqlite3_vfs_find
        find.restype = ctypes.POINTER(Vfs)
        self._real = find(None)
        self._vfs = Vfs.from_buffer_copy(self._real.contents)
        self._vfs.name = b"faulty"
        self._vfs.open = self._kept(OPEN, self._open)
        self._vfs.delete = self._kept(DELETE, self._delete)
        self._methods: dict[int, tuple[Any, Methods]] = {}
        """Address of the system's methods -> those, and ours."""
        self._of_file: dict[int, tuple[str, Any]] = {}
        """Address of an open file -> its path, and the system's methods."""
        self._new: set[int] = set()
        """Addresses of logs and journals that were opened and not synced since."""
        self._contents: dict[str, Content] = {}
        self._name = ""
        self._fault: Fault | None = None
        self._counts_reads = False
        self._cut = False
        self.operations: list[str] = []
        """All that were counted since `arm`."""
        self.hit: str | None = None
        """The operation that failed first; None: there were fewer."""

    def _kept(self, kind: Any, function: Callable[..., int]) -> Any:
        made = kind(function)
        self.__dict__.setdefault("_callbacks", []).append(made)  # SQLite does not keep it alive
        return made

    @contextmanager
    def in_use(self) -> Iterator[FaultyDisk]:
        """Let new connections of this process use this disk."""
        register = self._library.sqlite3_vfs_register
        assert register(ctypes.byref(self._vfs), 1) == OK
        try:
            yield self
        finally:
            self.heal()
            register(self._real, 1)
            self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def arm(self, file: Path, fault: Fault | None, *, reads: bool = False) -> None:
        """Count the operations on a database from now on, with its log and journal, and let one fail."""
        self._name, self._fault, self._counts_reads, self._cut = str(file.resolve()), fault, reads, False
        self.operations, self.hit = [], None
        self._contents = {
            str(one.resolve()): Content(one.read_bytes())
            for one in file.parent.glob(f"{file.name}*")
            if not one.name.endswith(("-shm", ".lock"))
        }

    @property
    def is_cut(self) -> bool:
        """Whether the power is gone."""
        return self._cut

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._fault, self._cut = None, False

    def image(self, directory: Path, chance: Random | None = None) -> None:
        """Write what a power cut leaves: what was synced, and with `chance` some of what was not."""
        for path, content in self._contents.items():
            steps = [] if chance is None else [one for one in content.since if chance.random() < 0.5]
            if chance is not None and steps and isinstance(steps[-1], tuple):
                offset, data = steps[-1]
                steps[-1] = offset, data[: chance.randrange(len(data) + 1)]
            left = content.after(steps)
            if left is not None:
                (directory / Path(path).name).write_bytes(left)

    def _fails(self, what: str, path: str) -> bool:
        """Count an operation; say whether it fails."""
        if not path.startswith(self._name) or (what == "read" and not self._counts_reads):
            return self._cut and path.startswith(self._name)
        if self._cut:
            return True
        self.operations.append(what)
        fault, number = self._fault, len(self.operations)
        if fault is None or number < fault.at or (number > fault.at and not fault.persistent):
            return False
        if number == fault.at:
            self.hit = what
        if fault.kind == "power":
            self._cut = True
        return fault.kind != "full" or what in {"write", "truncate", "index", "open", "sync"}

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        path = "" if name is None else ctypes.string_at(name).decode()  # the pointer is kept by the file
        if flags & FOR_WRITING and self._fails("open", path):
            ctypes.cast(file, ctypes.POINTER(_P))[0] = None
            return CODES["open"]
        code: int = self._real.contents.open(ctypes.addressof(self._real.contents), name, file, flags, out)
        methods = ctypes.cast(file, ctypes.POINTER(_P))
        if code == OK and methods[0]:
            real, ours = self._wrapped(methods[0])
            self._of_file[file] = path, real
            if path.endswith(("-wal", "-journal")):
                self._new.add(file)
            methods[0] = ctypes.addressof(ours)
        return code

    def _wrapped(self, address: int) -> tuple[Any, Methods]:
        if address not in self._methods:
            real = Methods.from_address(address)
            ours = Methods.from_buffer_copy(real)
            ours.close = self._kept(CLOSE, self._close)
            ours.read = self._kept(READ, self._read)
            ours.write = self._kept(READ, self._write)
            ours.truncate = self._kept(TRUNCATE, self._truncate)
            ours.sync = self._kept(SYNC, self._sync)
            if real.map:
                ours.map = self._kept(MAP, self._map)
            self._methods[address] = real, ours
        return self._methods[address]

    def _delete(self, _vfs: int, name: int, sync_directory: int) -> int:
        path = ctypes.string_at(name).decode()
        if self._fails("delete", path):
            return CODES["delete"]
        code: int = self._real.contents.delete(ctypes.addressof(self._real.contents), name, sync_directory)
        if code == OK:
            self._note(path, None)
            if sync_directory:
                self._contents[path] = Content(None)
        return code

    def _close(self, file: int) -> int:
        _, real = self._of_file.pop(file)
        self._new.discard(file)
        code: int = real.close(file)
        return code

    def _read(self, file: int, into: int, amount: int, offset: int) -> int:
        path, real = self._of_file[file]
        if self._fails("read", path):
            return CODES["read"]
        code: int = real.read(file, into, amount, offset)
        return code

    def _write(self, file: int, data: int, amount: int, offset: int) -> int:
        path, real = self._of_file[file]
        if self._fails("write", path):
            fault = self._fault
            if (
                fault is not None
                and fault.kind == "short"
                and real.write(file, data, amount // 2, offset) == OK
            ):
                self._note(path, (offset, ctypes.string_at(data, amount // 2)))
            return FULL if fault is not None and fault.kind in {"full", "short"} else CODES["write"]
        code: int = real.write(file, data, amount, offset)
        if code == OK:
            self._note(path, (offset, ctypes.string_at(data, amount)))
        return code

    def _truncate(self, file: int, size: int) -> int:
        path, real = self._of_file[file]
        if self._fails("truncate", path):
            return CODES["truncate"]
        code: int = real.truncate(file, size)
        if code == OK:
            self._note(path, size)
        return code

    def _sync(self, file: int, flags: int) -> int:
        path, real = self._of_file[file]
        if self._fails("sync", path):
            return CODES["sync"]
        if path not in self._contents:
            code: int = real.sync(file, flags)
            return code
        self._contents[path].sync()  # what has reached the disk is known here alone
        if file in self._new:  # SQLite's own VFS syncs the directory then, and with it earlier deletions
            self._new.discard(file)
            for content in self._contents.values():
                content.sync_deletion()
        return OK

    def _map(self, file: int, page: int, size: int, extend: int, out: int) -> int:
        path, real = self._of_file[file]
        if extend and self._fails("index", path):
            return CODES["index"]
        code: int = real.map(file, page, size, extend, out)
        return code

    def _note(self, path: str, step: tuple[int, bytes] | int | None) -> None:
        if path.startswith(self._name):
            self._contents.setdefault(path, Content()).since.append(step)
