"""Small plots of the last day, as paths of SVG. Pure: samples in, numbers and text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

DAY: Final = timedelta(days=1)
WIDTH: Final = 480
HEIGHT: Final = 72
_PARTS: Final = 240
"""Six minutes each; of each the highest value is shown: what lasted a minute is seen."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A line over the last day, in a box of WIDTH and HEIGHT."""

    line: str
    """The `d` of a path; "" when there is nothing to show."""
    area: str
    """The same, closed at the bottom."""
    highest: float
    highest_at: datetime | None
    newest: float | None


def plot_of(points: Sequence[tuple[datetime, float]], now: datetime) -> Plot:
    """Draw the values of the last day up to `now`; where none was taken for a while, the line breaks."""
    begin = now - DAY
    parts: dict[int, float] = {}
    for at, value in points:
        if begin <= at <= now:
            part = min(int((at - begin) / DAY * _PARTS), _PARTS - 1)
            parts[part] = max(parts.get(part, 0.0), value)
    if not parts:
        return Plot("", "", 0.0, None, None)
    within = [(at, value) for at, value in points if begin <= at <= now]
    highest_at, highest = max(within, key=lambda point: point[1])
    top = max(highest, 1.0)
    lines, areas = [], []
    for run in _runs(sorted(parts)):
        corners = [(_x(part), _y(parts[part], top)) for part in run]
        if len(corners) == 1:
            corners.append((corners[0][0] + WIDTH / _PARTS, corners[0][1]))
        line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
        lines.append(line)
        areas.append(f"{line}L{corners[-1][0]:.1f} {HEIGHT}L{corners[0][0]:.1f} {HEIGHT}Z")
    return Plot("".join(lines), "".join(areas), highest, highest_at, within[-1][1])


def _runs(parts: Sequence[int]) -> list[list[int]]:
    """Split where parts are missing; one alone may be late."""
    runs: list[list[int]] = []
    for part in parts:
        if runs and part - runs[-1][-1] <= 2:  # noqa: PLR2004 - this one and one between
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _x(part: int) -> float:
    return part * WIDTH / _PARTS


def _y(value: float, top: float) -> float:
    return HEIGHT - 2 - (HEIGHT - 4) * value / top
