"""Virtual environments for what the product must not depend on: peers, and the plotter."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests import TOP

HOME: Final = TOP / ".venv-bench"
PINS: Final = Path(__file__).parent / "requirements"


def python_of(name: str) -> str:
    """The interpreter of environment `name`, made if it is absent or its pins are others now."""
    pins, folder = (PINS / f"{name}.txt").read_text(), HOME / name
    python, stamp = folder / "bin" / "python", folder / "pins.txt"
    if not stamp.exists() or stamp.read_text() != pins:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", "-r", str(PINS / f"{name}.txt")], check=True)
        stamp.write_text(pins)
    return str(python)
