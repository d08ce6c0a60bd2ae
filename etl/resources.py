"""Files that travel with the program: the migrations and the example configuration.

In a checkout they lie at its top, in an installed wheel inside the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def resource_path(name: str) -> Path:
    """The folder `name`, `migrations` or `config`, wherever the program was installed from.

    Raises:
        FileNotFoundError: the installation is broken.
    """
    for folder in (_PACKAGE / "_bundled" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{name} is missing next to {_PACKAGE}: install audit-etl again")
