"""How a call says no."""

from __future__ import annotations


class RefusedError(Exception):
    """A call that upstream refuses, with the status, a short code and a sentence for the caller."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
