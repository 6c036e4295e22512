"""The example of the client in README.md runs as it stands there, against the local Kounta."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from sync.sandbox import Sandbox, serving


@pytest.fixture
def example(pytestconfig: pytest.Config) -> str:
    blocks = re.findall(r"```python\n(.*?)```", (pytestconfig.rootpath / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if "sync.kounta" in block]
    return str(block)


def test_it_has_ten_lines(example: str) -> None:
    assert len([line for line in example.splitlines() if line]) == 10


async def test_it_lists_finds_creates_and_updates(example: str, tmp_path: Path) -> None:
    sandbox = Sandbox(seed=7, customers=20)
    before = [customer.first_name for customer in sandbox.company.customers]
    for run in ("creates", "finds"):
        async with serving(sandbox) as url:
            written = '"CLIENT_ID", "CLIENT_SECRET")'
            assert written in example
            program = example.replace(written, f'"sandbox-client", "sandbox-secret"), api_url="{url}"')
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-c", program),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, complaint = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, complaint.decode()) == (0, "")
        listed, updated = out.decode().splitlines()
        assert listed == str(before + (["Jamie"] if run == "finds" else []))
        assert "'Sydney'" in updated
    [jamie] = [one for one in sandbox.company.customers if one.email == "jamie@example.com"]
    assert (jamie.tags, jamie.primary_address) == (("vip",), {"city": "Sydney", "country": "AU"})
    assert jamie.reference_ids == {"sandbox-client": "42"}
