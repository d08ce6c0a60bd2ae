"""Draw the raw figures as programs.svg in their folder: `python -m ... RESULTS.JSON`.

Runs in an environment of its own, which has Matplotlib.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.benchmarks.report import RATIOS, TITLES, Round, ratio, speed

INK: Final = "#333333"
COLOURS: Final = {"floor": "#9aa5b1", "bare": "#c5ccd3", "ours": "#1f6f8b", "peer": "#d98e4a"}


def main() -> None:
    """Draw the programs at one size."""
    raw = Path(sys.argv[1])
    mpl.rcParams.update({"svg.hashsalt": "audit-etl", "font.size": 9, "text.color": INK})
    figure = plt.figure(figsize=(9, 4.4), layout="constrained")
    _programs(figure, json.loads(raw.read_text()))
    figure.savefig(raw.with_name("programs.svg"), metadata={"Date": None})


def _programs(figure: Any, results: dict[str, Any]) -> None:
    """Bars of rows a second at the largest size that peers ran at, and what is compared."""
    size = max(
        (int(s) for s, rounds in results["speed"].items() if "sdk" in rounds[0]),
        default=max(map(int, results["speed"])),
    )
    rounds: list[Round] = results["speed"][str(size)]
    names = [name for name in TITLES if name in rounds[0]]
    speeds = [_median_speed(rounds, name) for name in names]
    axes = figure.subplots()
    bars = axes.barh(
        [TITLES[n].replace("`", "") for n in names], speeds, color=[_colour(n) for n in names]
    )
    labels = [_label(rounds, n, s) for n, s in zip(names, speeds, strict=True)]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, max(speeds) * 1.45)
    axes.set_xlabel(f"rows a second, {size:,} audits")
    _plain(axes)


def _median_speed(rounds: list[Round], name: str) -> float:
    return median(speed(one[name]) for one in rounds)


def _label(rounds: list[Round], name: str, rows: float) -> str:
    """The speed, and of what it is which share."""
    shares = []
    for ours, other, _ in RATIOS:
        found = ratio(rounds, ours, other)
        if found is None:
            continue
        if name == ours and other.startswith(("bare", "floor")):
            shares.append(f"{found:.2f} of {'the floor' if other == 'floor' else 'the bare load'}")
        if name == other and _is_peer(other):
            shares.append(f"audit-etl → {TITLES[ours].split()[-1]} is {found:.1f} times as fast")
    return "  ".join([f"{rows:,.0f}", *shares])


def _colour(name: str) -> str:
    kind = "floor" if name == "floor" else "bare" if name.startswith("bare") else "ours"
    return COLOURS["peer" if _is_peer(name) else kind]


def _is_peer(name: str) -> bool:
    return name.startswith(("sdk", "dlt"))


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


if __name__ == "__main__":
    main()
