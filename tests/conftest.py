"""How thoroughly the laws are tried: quickly at a desk, thoroughly and the same each time in CI, at length at night."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
PLAYGROUND = ROOT / "docs/playground"

# no deadline: the first forward of a process takes a second, and other sessions share the machine
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=125, deadline=None, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=1_200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built docs: those that `make test` has just built, or built anew."""
    built = ROOT / "site"
    files = [path.relative_to(PLAYGROUND) for path in PLAYGROUND.rglob("*") if path.is_file() and path.suffix != ".md"]
    here = built / "playground"
    fresh = (here / "index.html").is_file() and all(
        (here / file).is_file() and (here / file).read_bytes() == (PLAYGROUND / file).read_bytes() for file in files
    )
    pages = [ROOT / "mkdocs.yml", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    if not fresh or (here / "index.html").stat().st_mtime < max(page.stat().st_mtime for page in pages):
        built = tmp_path_factory.mktemp("site")
        command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--site-dir", built]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return built
