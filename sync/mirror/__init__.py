"""The replica: the only part of `sync` that knows SQL.

`open_mirror` and what it gives are for programs that only read; they are imported when they are first named.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiver.errors import MirrorError
    from sync.mirror.customers import Customer
    from sync.mirror.feed import Change
    from sync.mirror.opened import OpenMirror, Status, open_mirror

    __all__ = ["Change", "Customer", "MirrorError", "OpenMirror", "Status", "open_mirror"]
else:
    _PLACES = {
        "Change": "sync.mirror.feed",
        "Customer": "sync.mirror.customers",
        "MirrorError": "receiver.errors",
        "OpenMirror": "sync.mirror.opened",
        "Status": "sync.mirror.opened",
        "open_mirror": "sync.mirror.opened",
    }
    __all__ = tuple(_PLACES)

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
