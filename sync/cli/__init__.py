"""The commands: `kounta-mirror …`, or `python -m sync …`."""

import sys
from typing import Final

from cyclopts import App, CycloptsError
from rich.console import Console

from receiver.errors import MirrorError
from sync.cli.deliveries import deliveries
from sync.cli.demo import demo
from sync.cli.migrate import migrate
from sync.cli.receiver import receiver
from sync.cli.reconcile import reconcile
from sync.cli.sandbox import sandbox
from sync.cli.status import status
from sync.cli.worker import worker
from sync.kounta import KountaError

FAILED: Final = 1
WRONG_USAGE: Final = 2

app = App(
    name="kounta-mirror",
    help="A local, queryable replica of a Kounta company's customers.",
    error_console=Console(stderr=True),
)
for command in (receiver, worker, status, reconcile, migrate, sandbox, demo):
    app.command(command)
app.command(deliveries)


def main() -> None:
    """Run one command. A failure is one sentence on stderr and its exit code, never a traceback."""
    try:
        result = app(exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _fail(str(error), WRONG_USAGE)
    except MirrorError as error:
        _fail(str(error), error.exit_code)
    except KountaError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _fail("Interrupted.", FAILED)
    sys.exit(result if isinstance(result, int) else 0)


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(sentence.strip() + "\n")
    sys.exit(code)
