"""The commands: `kounta-mirror …`, or `python -m sync …`."""

import os
import sys
import traceback
from pathlib import Path
from typing import Final

from cyclopts import App, CycloptsError
from rich.console import Console

from receiver.errors import MirrorError
from sync.cli.exactness import EXACT

FAILED: Final = 1
WRONG_USAGE: Final = 2


def _version() -> str:
    """Return the version of the installed package; cyclopts would look for one that is called `sync`."""
    from importlib.metadata import version

    return version("kounta-mirror")


app = App(
    name="kounta-mirror",
    version=_version,
    help="A local, queryable replica of a Kounta company's customers.",
    error_console=Console(stderr=True),
    suppress_keyboard_interrupt=False,
    default_parameter=EXACT,
)
COMMANDS: Final = (
    "init",
    "login",
    "receiver",
    "worker",
    "status",
    "doctor",
    "reconcile",
    "explain",
    "history",
    "changes",
    "export",
    "backup",
    "rebuild",
    "erase",
    "migrate",
    "sandbox",
    "demo",
    "completion",
    "customers",
    "deliveries",
    "webhooks",
)
for name in COMMANDS:
    # imported once it is asked for: each command is there at once, whatever another one stands on
    app.command(f"sync.cli.{name}:{name}", name=name)


def main() -> None:
    """Run one command. A failure is one sentence on stderr and its exit code, never a traceback."""
    try:
        if sys.argv[1:2] in ([], ["--help"], ["-h"]):
            for name in COMMANDS:
                app[name]  # imported: its help is in its docstring
        result = app(exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere at the end
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        sentence, code = explained(error)
        sentence = sentence.strip()
        sys.stderr.write(f"{sentence[:1].upper()}{sentence[1:]}\n")
        sys.exit(code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(FAILED)
    sys.exit(result if isinstance(result, int) else 0)


def explained(error: Exception) -> tuple[str, int]:
    """Give the sentence and the exit code for what ended a command."""
    from receiver.database import is_unavailable, unusable
    from sync.kounta import KountaError, KountaRefused
    from sync.reconcile.sweep import ForeignListError

    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CycloptsError):
        return str(error), WRONG_USAGE
    if isinstance(error, MirrorError):
        return str(error), error.exit_code
    if isinstance(error, KountaRefused):
        return str(error), WRONG_USAGE
    if isinstance(error, KountaError | ForeignListError):
        return str(error), FAILED
    if is_unavailable(error):
        return unusable(error), FAILED
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"A fault of this program, at {where}: {type(error).__name__}: {error}", FAILED
