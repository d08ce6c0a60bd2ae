"""The tests, in folders as the package has them; `support` holds what several of them use."""

from pathlib import Path
from typing import Final

#: The checkout.
TOP: Final = Path(__file__).parent.parent
