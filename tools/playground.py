"""Fetch what the docs' playground runs on: Python for the browser, and the wheels that it reads.

    python tools/playground.py            # into docs/playground/runtime, which git ignores
    python tools/playground.py --if-npm   # and without npm leave the page as it is: it then says so itself

Pyodide comes from npm at a fixed version, which npm checks against its hash; obverse is built from this checkout;
lazy_loader and einops, which are plain Python, come from where pip is set up to look.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from base64 import b64encode
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNTIME = ROOT / "docs/playground/runtime"

PYODIDE = "314.0.7"
INTEGRITY = "sha512-0YvXxEhfEdpLfb/XkM2BFAeMROq0iMUX2bzzH9pOttyMcWkwq+HbE5uyuGD82LN7y2q+SNvi/6V5JEsOlD2R1A=="
WANTED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
LIBRARIES = ("lazy_loader", "einops")


def fetch() -> None:
    """Put the runtime in its place, or what is missing of it, and build our wheel anew."""
    RUNTIME.mkdir(parents=True, exist_ok=True)
    manifest = RUNTIME / "wheels.json"
    known = json.loads(manifest.read_text()) if manifest.is_file() else {}
    if known.get("pyodide") != PYODIDE or not all((RUNTIME / name).is_file() for name in WANTED):
        fetch_pyodide()
    for old in RUNTIME.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", RUNTIME, ROOT, *LIBRARIES], check=True)
    wheels = sorted(path.name for path in RUNTIME.glob("*.whl"))
    manifest.write_text(json.dumps({"pyodide": PYODIDE, "wheels": wheels}, indent=2) + "\n")


def fetch_pyodide() -> None:
    """Pyodide without what only developers of it need."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"pyodide@{PYODIDE}"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        (archive,) = Path(folder).glob("*.tgz")
        found = "sha512-" + b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            sys.exit(f"pyodide {PYODIDE} is not what it was: {found} instead of {INTEGRITY}.")
        with tarfile.open(archive) as packed:
            for name in WANTED:
                member = packed.extractfile(f"package/{name}")
                assert member is not None
                with (RUNTIME / name).open("wb") as out:
                    shutil.copyfileobj(member, out)


def main() -> None:
    """Fetch, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--if-npm", action="store_true", help="do nothing where there is no npm")
    if parser.parse_args().if_npm and shutil.which("npm") is None:
        print("There is no npm: the docs are built without the playground's runtime.")
        return
    fetch()


if __name__ == "__main__":
    main()
