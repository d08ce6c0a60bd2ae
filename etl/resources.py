"""Files that travel with the program, and how it is installed.

In a checkout the migrations and the example configuration lie at its top, in an installed wheel
inside the package.
"""

from pathlib import Path

from etl import __version__

_PACKAGE = Path(__file__).parent


def how_to_install(extra: str) -> str:
    """What to run for a driver that is missing: with the wheel, or in a checkout."""
    wheel = f"audit_etl-{__version__}-py3-none-any.whl"
    return f"pip install '{wheel}[{extra}]', or in a checkout pip install '.[{extra}]'"


def resource_path(name: str) -> Path:
    """The folder `name`, `migrations` or `config`, wherever the program was installed from.

    Raises:
        FileNotFoundError: the installation is broken.
    """
    for folder in (_PACKAGE / "_bundled" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{name} is missing next to {_PACKAGE}: install audit-etl again")
