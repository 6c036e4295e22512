"""The documentation as a site: it is built without a warning, so every link in it leads somewhere."""

import asyncio
import sys
from pathlib import Path

import pytest


async def test_the_site_is_built_and_every_link_in_it_leads_somewhere(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    built = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")),
        cwd=pytestconfig.rootpath,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await asyncio.wait_for(built.communicate(), 120)
    assert built.returncode == 0, complaint.decode()
    assert (tmp_path / "site/how-to/run.html").is_file()
