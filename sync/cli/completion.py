"""The command `completion`."""

import sys
from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print what lets a shell complete this program's commands and flags.

    For bash: kounta-mirror completion bash > ~/.local/share/bash-completion/completions/kounta-mirror

    Parameters
    ----------
    shell
        Which shell it is for.
    """
    from sync.cli import app

    sys.stdout.write(app.generate_completion(shell=shell))
