"""The flag `--company` of every command that is about one of several companies."""

from typing import Annotated, TypeAlias

from cyclopts import Parameter, validators

Company: TypeAlias = Annotated[
    int | None,
    Parameter(
        name="--company",
        validator=validators.Number(gte=1),
        help="Which of several companies: its id in Kounta. KOUNTA_COMPANY_ID is the default.",
    ),
]
