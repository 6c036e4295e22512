"""An index by which the deliveries of one customer are found.

Goes before the new code.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index(
        "_delivery_verdicts_by_customer", "delivery_verdicts", ["company_id", "customer_id", "delivery_id"]
    )
