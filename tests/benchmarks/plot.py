"""The raw figures as pictures, written beside them: `python -m ... RESULTS.JSON`.

Runs in an environment of its own, which has Matplotlib.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.benchmarks.report import RATIOS, TITLES, Round, middle, ratio, speed

OURS: Final = ("parquet", "sqlite", "postgresql", "mariadb")
INK: Final = "#333333"
COLOURS: Final = {"floor": "#9aa5b1", "bare": "#c5ccd3", "ours": "#1f6f8b", "peer": "#d98e4a"}


def main() -> None:
    """Draw the programs at one size, and ours as the audits grow."""
    raw = Path(sys.argv[1])
    results = json.loads(raw.read_text())
    mpl.rcParams.update({"svg.hashsalt": "audit-etl", "font.size": 9, "text.color": INK})
    _drawn(raw.with_name("programs"), lambda figure: _programs(figure, results))
    if len(results["speed"]) > 1:
        _drawn(raw.with_name("growth"), lambda figure: _growth(figure, results["speed"]))


def _drawn(path: Path, draw: Any) -> None:
    figure = plt.figure(figsize=(9, 4.4), layout="constrained")
    draw(figure)
    for kind in ("png", "svg"):
        undated = {"Date": None} if kind == "svg" else {}
        figure.savefig(path.with_suffix(f".{kind}"), dpi=150, metadata=undated)
    plt.close(figure)


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


def _growth(figure: Any, sizes: dict[str, list[Round]]) -> None:
    """Rows a second and peak memory of ours, by size."""
    numbers = [int(size) for size in sizes]
    left, right = figure.subplots(1, 2)
    for name in ("floor", *OURS):
        if not all(name in rounds[0] for rounds in sizes.values()):
            continue
        style = {"marker": "o", "color": None if name in OURS else COLOURS["floor"]}
        speeds = [_median_speed(rounds, name) for rounds in sizes.values()]
        peaks = [middle(rounds, name, "mib") for rounds in sizes.values()]
        left.plot(numbers, speeds, label=TITLES[name], **style)
        right.plot(numbers, peaks, **style)
    for axes, what in ((left, "rows a second"), (right, "peak memory, MiB")):
        axes.set(xscale="log", ylim=(0, None), xlabel="audits", ylabel=what)
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axes.minorticks_off()
        _plain(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)


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
