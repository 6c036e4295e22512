"""Canned queries: questions that many reports ask, in SQL that can be pasted into any tool. Pure.

One text serves both databases wherever that is possible. Parameters are written `:name`, as psql, sqlite3 and
Datasette have them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and how to ask it."""

    name: str
    title: str
    description: str
    """In Markdown; what the answer means and what it leaves out."""
    on_sqlite: str
    on_postgresql: str
    parameters: tuple[tuple[str, str], ...] = ()
    """Name and meaning of each parameter."""

    @property
    def is_one_text(self) -> bool:
        """Whether both databases take the same."""
        return self.on_sqlite == self.on_postgresql


def _both(name: str, title: str, description: str, text: str, *parameters: tuple[str, str]) -> Query:
    return Query(name, title, description, text.strip(), text.strip(), parameters)


_LAST_DAYS: Final = """\
  SELECT company_id, day, begins_at, ends_at
  FROM company_days
  WHERE day IN (
    SELECT DISTINCT day FROM company_days
    WHERE begins_at <= (SELECT max(changed_at) FROM all_customers)
    ORDER BY day DESC LIMIT 14
  )"""

_CHANGES: Final = """
WITH days AS (
{days}
)
SELECT days.day, {attribute} AS attribute, count(*) AS changes
FROM days
JOIN customer_changes ON customer_changes.company_id = days.company_id
  AND customer_changes.applied_at >= days.begins_at
  AND customer_changes.applied_at < days.ends_at
CROSS JOIN {attributes}
WHERE customer_changes.kind = 'updated'
GROUP BY days.day, {attribute}
ORDER BY days.day DESC, changes DESC, attribute
"""

QUERIES: Final = (
    _both(
        "customers_by_city",
        "Customers by city",
        "Live customers by the city of their primary address, most first. NULL: none is known.",
        """
SELECT primary_city AS city, count(*) AS customers
FROM customers
GROUP BY primary_city
ORDER BY customers DESC, city
LIMIT 100
""",
    ),
    _both(
        "newly_met_by_day",
        "Newly met customers by local day",
        "Customers that the mirror met for the first time, by the company's own days, the newest 90. Those "
        "of the backfill were there before: they are no new customers. Who was deleted since counts.",
        """
SELECT company_id, day, (
    SELECT count(*) FROM all_customers
    WHERE all_customers.company_id = company_days.company_id
      AND all_customers.first_seen_by <> 'backfill'
      AND all_customers.first_seen_at >= company_days.begins_at
      AND all_customers.first_seen_at < company_days.ends_at
  ) AS customers
FROM company_days
WHERE begins_at <= (SELECT max(changed_at) FROM all_customers)
ORDER BY day DESC, company_id
LIMIT 90
""",
    ),
    Query(
        "changes_by_attribute",
        "Changes by attribute and local day",
        "How often each attribute of known customers changed on each of the newest 14 days. A change of "
        "several attributes counts for each.",
        _CHANGES.format(
            days=_LAST_DAYS,
            attribute="changed.value",
            attributes="json_each(customer_changes.attributes) AS changed",
        ).strip(),
        _CHANGES.format(
            days=_LAST_DAYS,
            attribute="changed.value",
            attributes="jsonb_array_elements_text(customer_changes.attributes) AS changed (value)",
        ).strip(),
    ),
    _both(
        "unconfirmed",
        "Customers that are not confirmed",
        "Live customers that no read has confirmed since they last changed, those that wait longest first, "
        "at most 1,000. `partial` is 1 where only what the list carries is known yet.",
        """
SELECT companies.name AS company, customers.id, customers.first_name, customers.last_name, customers.email,
  customers.changed_at, customers.partial
FROM companies
JOIN customers ON customers.company_id = companies.company_id
WHERE customers.verified_at IS NULL
ORDER BY customers.changed_at
LIMIT 1000
""",
    ),
    _both(
        "duplicate_emails",
        "Duplicate e-mail addresses",
        "Addresses, in whatever case, that more than one live customer of a company has, at most 100. "
        "`|| ''` and `max` keep SQLite from going by other indexes, for which it would read every row.",
        """
SELECT company_id, lower(email || '') AS email, count(*) AS customers
FROM customers
GROUP BY lower(email || ''), company_id
HAVING count(*) > 1 AND max(email) <> ''
ORDER BY customers DESC, 2
LIMIT 100
""",
    ),
    _both(
        "tags",
        "Tags",
        "How many live customers have each tag.",
        """
SELECT tag, count(*) AS customers
FROM customer_tags
GROUP BY tag
ORDER BY customers DESC, tag
LIMIT 100
""",
    ),
    _both(
        "deleted_customers",
        "Deleted customers that old orders name",
        "Whom Kounta no longer has, newest first, at most 1,000. Join orders with `all_customers`, so that "
        "each keeps its customer.",
        """
SELECT company_id, id, first_name, last_name, email, first_seen_at, deleted_at
FROM all_customers
WHERE deleted_at IS NOT NULL
ORDER BY deleted_at DESC
LIMIT 1000
""",
    ),
    _both(
        "customer_at",
        "A customer at a time",
        "What the mirror held of a customer at a moment; no row: it did not know it, or it was deleted.",
        """
SELECT *
FROM customer_versions
WHERE customer_id = :customer_id
  AND valid_from <= :at
  AND (valid_to > :at OR valid_to IS NULL)
ORDER BY seq DESC
LIMIT 1
""",
        ("customer_id", "the customer's id in Kounta"),
        ("at", "a moment in UTC, `2026-11-24T12:00:00.000Z`"),
    ),
    _both(
        "share_confirmed",
        "Share confirmed over time",
        "How many live customers there were, and the percentage that reads had confirmed: a sample a minute "
        "of the last two days, and one an hour of the 400 days before.",
        """
SELECT at, company_id, live, verified, 100.0 * verified / nullif(live, 0) AS percent_confirmed
FROM mirror_samples
WHERE live IS NOT NULL
ORDER BY at
""",
    ),
    _both(
        "deliveries_by_verdict",
        "Deliveries by verdict and local day",
        "What became of the deliveries that came on each of the newest 14 days.",
        """
WITH days AS (
  -- days --
), verdicts (verdict) AS (
  VALUES ('applied'), ('unchanged'), ('stale'), ('tombstoned'), ('contradicted'), ('quarantined'), ('failed')
)
SELECT days.company_id, days.day, verdicts.verdict, (
    SELECT count(*) FROM delivery_verdicts
    WHERE delivery_verdicts.company_id = days.company_id
      AND delivery_verdicts.verdict = verdicts.verdict
      AND delivery_verdicts.received_at >= days.begins_at
      AND delivery_verdicts.received_at < days.ends_at
  ) AS deliveries
FROM days CROSS JOIN verdicts
ORDER BY days.day DESC, days.company_id, deliveries DESC, verdicts.verdict
""".replace("  -- days --", _LAST_DAYS),
    ),
)
"""All of them, in the order in which the reference has them."""
