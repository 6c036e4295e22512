#!/usr/bin/env bash
# pytest 9.2.0 with pytest-xdist 3.8.0: tests marked xdist_group("one") are not kept together by --dist loadgroup.
# Documented: "sends tests marked with 'xdist_group' to the same worker". Seen: they run on every worker, without a
# warning. The mark's name is written to the private attribute Item._nodeid, which pytest 9.2 no longer reads
# (`nodeid` comes from a NodeId object). With pytest 8.4.2 the same tests run on one worker.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat >"$place/test_marked.py" <<'PYTHON'
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_marked(number, worker_id):
    time.sleep(0.2)
    with open("workers", "a") as workers:
        workers.write(worker_id + "\n")
PYTHON
workers_with() {
  python3 -m venv "$place/$1"
  "$place/$1/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
  (cd "$place" && rm -f workers && "$1/bin/python" -m pytest -q -n 2 --dist loadgroup >/dev/null)
  sort -u "$place/workers" | wc -l
}
before=$(workers_with 8.4.2)
now=$(workers_with 9.2.0)
echo "workers that ran the group: pytest 8.4.2: $before, pytest 9.2.0: $now"
[ "$before" -eq 1 ] && [ "$now" -eq 2 ]
