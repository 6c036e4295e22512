"""Every parameter of every command takes what was meant, or refuses it: `erase 389506.6` erases no one."""

from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import pytest
from cyclopts import App, CycloptsError

from receiver.errors import MirrorError
from sync.cli import app, explained
from sync.numbers import BIGGEST, whole_number

NOT_EXACT: Final = (
    *("389506.6", "42.0", "42.", ".5", "1e3", "0x2a", "0b11", "0o17", "1_000", "1,000", "+42", "-42", "--42"),
    *(
        " 42",
        "42 ",
        "",
        "null",
        "None",
        "NONE",
        "nan",
        "inf",
        "true",
        "\u0664\u0662",
        "\uff14\uff12",
        "4\u00b2",
    ),
    *(str(BIGGEST + 1), "9" * 30, "1" * 5000),
)


class Typed(NamedTuple):
    """A parameter of a command: how the command is typed, the parameter's name, its types."""

    command: str
    name: str
    positional: bool
    types: tuple[Any, ...]

    @property
    def integers(self) -> bool:
        choices = [one for kind in self.types if get_origin(kind) is Literal for one in get_args(kind)]
        return int in self.types or any(type(choice) is int for choice in choices)

    def tokens(self, value: str) -> list[str]:
        """Return the command line that gives this value, and something right to what else is required."""
        line = self.command.split()
        others = [name for name in REQUIRED.get(self.command, ()) if name != self.name]
        if self.positional:
            return [*line, "--", value, *others] if value.startswith("-") else [*line, value, *others]
        return [*line, *("7" for _ in others), f"{self.name}={value}"]


def commands(of: App = app, way: str = "") -> Iterator[tuple[str, App]]:
    for name in of:
        if name.startswith("-"):
            continue
        found = of[name]
        inner = list(commands(found, f"{way}{name} "))
        yield from inner or [(f"{way}{name}", found)]


def members(hint: Any) -> Iterator[Any]:
    """Walk through unions and containers to the types that a value is made of."""
    inner = get_args(hint)
    if get_origin(hint) is Literal or not inner:
        yield hint
    elif hasattr(hint, "__metadata__"):
        yield from members(inner[0])
    else:
        for one in inner:
            yield from members(one)


def parameters() -> Iterator[Typed]:
    for command, found in commands():
        for argument in found.assemble_argument_collection():
            if argument.children:  # a dataclass: its fields are parameters of their own
                continue
            types = tuple(members(argument.hint))
            yield Typed(command, argument.names[0], argument.field_info.is_positional_only, types)


PARAMETERS: Final = tuple(parameters())
REQUIRED: Final = {
    command: [one.name for one in PARAMETERS if one.command == command and one.positional]
    for command in {one.command for one in PARAMETERS}
}
INTEGERS: Final = [one for one in PARAMETERS if one.integers]
ELSE: Final = [one for one in PARAMETERS if one.command != "sandbox" or one.name == "--read-lag-seconds"]
"""Those of the local Kounta are many, and alike."""


def named(one: Typed) -> str:
    return f"{one.command} {one.name}"


def parsed(tokens: list[str]) -> dict[str, Any]:
    """Parse a command line, without running the command, to the arguments of its function."""
    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    return dict(bound.arguments)


def test_the_walk_finds_what_can_do_harm() -> None:
    found = {named(one) for one in INTEGERS}
    harmful = {
        *("erase CUSTOMER_ID", "explain CUSTOMER_ID", "history CUSTOMER_ID", "customers update CUSTOMER_ID"),
        *("reconcile --customer", "reconcile --allow-deletes", "erase --company", "changes --since"),
        *("webhooks ensure --adopt", "deliveries list --limit", "deliveries list --customer"),
        *("customers list --limit", "customers get CUSTOMER_ID", "sandbox --page-size", "sandbox --gone"),
    }
    assert harmful <= found
    assert len(found) > 40


@pytest.mark.parametrize("one", INTEGERS, ids=named)
def test_an_integer_is_digits_and_nothing_else(one: Typed) -> None:
    taken = []
    for value in ("389506.6", "42.0", "0x2a", "1_000", "null"):
        try:
            taken.append((value, parsed(one.tokens(value))))
        except (CycloptsError, MirrorError) as error:
            _, code = explained(error)
            assert code == 2, value
    assert taken == []


@pytest.mark.parametrize("one", INTEGERS, ids=named)
def test_the_digits_that_were_typed_are_the_number(one: Typed) -> None:
    choices = [get_args(kind) for kind in one.types if get_origin(kind) is Literal]
    wanted = choices[0][0] if choices else 42
    given = parsed(one.tokens(str(wanted)))
    assert wanted in [*given.values(), *(vars(value).get(attribute(one), None) for value in objects(given))]


@pytest.mark.parametrize("value", ["null", "None"])
@pytest.mark.parametrize("one", [one for one in ELSE if not one.integers], ids=named)
def test_the_word_for_none_is_a_value_or_refused(one: Typed, value: str) -> None:
    """Text may be `null`; `deliveries replay --verdict null` does not mean the deliveries of all verdicts."""
    given: dict[str, Any] = {}
    with suppress(CycloptsError, MirrorError):
        given = parsed(one.tokens(value))
    texts = {str(found) for found in given.values()}
    texts |= {str(vars(found).get(attribute(one))) for found in objects(given)}
    assert not given or texts & {value, f"({value!r},)"}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("one", [one for one in ELSE if float in one.types], ids=named)
def test_a_number_is_finite(one: Typed, value: str) -> None:
    with pytest.raises(CycloptsError):
        parsed(one.tokens(value))


def test_the_sentence_says_what_was_expected() -> None:
    with pytest.raises(CycloptsError, match=r"digits and nothing else, not '389506\.6'"):
        parsed(["erase", "389506.6", "--yes"])


@pytest.mark.parametrize("text", NOT_EXACT)
def test_the_converter_takes_ascii_digits_alone(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits and nothing else|must be at most"):
        whole_number(text)


@pytest.mark.parametrize("command", ["export", "backup"])
def test_a_mode_is_octal_and_lets_its_owner_read_and_write(command: str) -> None:
    for text, mode in (("0640", 0o640), ("600", 0o600), ("0666", 0o666)):
        assert parsed([command, "file.csv", "--mode", text])["mode"] == mode
    for text in ("640.0", "0o640", "1640", "0440", "0700", "rw-r-----", "null", "0", "0888", ""):
        with pytest.raises(CycloptsError):
            parsed([command, "file.csv", f"--mode={text}"])


def test_leading_zeros_change_nothing() -> None:
    assert whole_number("0" * 5000 + "42") == 42
    assert whole_number("000") == 0
    assert whole_number(str(BIGGEST)) == BIGGEST


def attribute(one: Typed) -> str:
    return reduce(lambda name, sign: name.replace(*sign), (("--", ""), ("-", "_")), one.name)


def objects(given: dict[str, Any]) -> list[Any]:
    return [value for value in given.values() if hasattr(value, "__dataclass_fields__")]
