"""The raw figures as tables, the ratios first. Imports nothing but the standard library."""

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any, Final

Round = dict[str, dict[str, float]]

#: What each program is, for who reads a table.
TITLES: Final = {
    "floor": "the floor: download and decode",
    "parquet": "audit-etl → Parquet",
    "sqlite": "audit-etl → SQLite",
    "postgresql": "audit-etl → PostgreSQL",
    "mariadb": "audit-etl → MariaDB",
    "bare-sqlite": "bare `executemany` → SQLite",
    "bare-postgresql": "bare `COPY` → PostgreSQL",
    "bare-mariadb": "bare `executemany` → MariaDB",
    "sdk": "vendor's SDK, loop → SQLite",
    "dlt-parquet": "dlt → Parquet, appended",
    "dlt-duckdb": "dlt → DuckDB",
    "dlt-postgresql": "dlt → PostgreSQL",
}
#: A program, what it is held against, and the least that the ratio of their speeds should be.
RATIOS: Final = (
    ("parquet", "floor", 0.6),
    ("postgresql", "bare-postgresql", 0.5),
    ("sqlite", "bare-sqlite", 0.4),
    ("mariadb", "bare-mariadb", 0.7),
    ("sqlite", "sdk", 10),
    ("parquet", "dlt-parquet", 5),
    ("parquet", "dlt-duckdb", None),
    ("postgresql", "dlt-postgresql", 5),
)
#: What should be flat between the two largest sizes, and by how much it may grow at most.
FLAT: Final = (
    ("parquet", "peak memory", 1.10),
    ("postgresql", "peak memory", 1.10),
    ("sqlite", "peak memory", 1.10),
    ("parquet", "CPU seconds a row", 1.15),
    ("postgresql", "CPU seconds a row", 1.15),
)
#: The least share of its first speed that a load keeps in tables with a long history, and the most
#: bytes an audit.
HISTORY: Final = {
    "sqlite": (0.8, 3_300),
    "postgresql": (0.9, 3_300),
    "mariadb": (0.9, 4_000),
    "lake": (None, 300),
}
#: What is done to a lake with one large partition.
LAKE: Final = {
    "tick": "a tick of 1,200 audits into it",
    "query": "`query` for every column of all of it",
}


def speed(taken: dict[str, float]) -> float:
    """Rows a second."""
    return taken["rows"] / taken["seconds"]


def middle(rounds: list[Round], name: str, figure: str) -> float:
    """The median of one figure of one program."""
    return median(one[name][figure] for one in rounds)


def ratio(rounds: list[Round], name: str, other: str) -> float | None:
    """How many times as fast `name` is as `other`, the median of the rounds; None if not run."""
    if not rounds or not {name, other} <= rounds[0].keys():
        return None
    return median(speed(one[name]) / speed(one[other]) for one in rounds)


def report(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    found = results["machine"]
    lines = [
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, "
        f"{found['system']}, Python {found['python']}. The simulated organisation and the database "
        "servers ran on the same machine. Medians of rounds in which the programs took turns.",
    ]
    lines += _ratios(results["speed"]) if results["speed"] else []
    lines += _growth(results["speed"]) if len(results["speed"]) > 1 else []
    for size, rounds in results["speed"].items():
        lines += _speeds(int(size), rounds, results["peer_max"])
    lines += _lake(results["lake"]) if "lake" in results else []
    lines += _history(results["history"]) if "history" in results else []
    lines += _paced(results["paced"]) if "paced" in results else []
    return "\n".join(lines) + "\n"


def _ratios(sizes: dict[str, list[Round]]) -> Iterator[str]:
    yield "\nRows a second of one program divided by those of another:\n"
    yield "| of | to | " + " | ".join(f"{int(size):,}" for size in sizes) + " | target |"
    yield "|---|---|" + "---|" * len(sizes) + "---|"
    for name, other, least in RATIOS:
        found = [ratio(rounds, name, other) for rounds in sizes.values()]
        shown = " | ".join("" if value is None else f"{value:.2f}" for value in found)
        yield f"| {TITLES[name]} | {TITLES[other]} | {shown} | {least or ''} |"


def _growth(sizes: dict[str, list[Round]]) -> Iterator[str]:
    small, large = sorted(sizes, key=int)[-2:]
    yield f"\nFigures at {int(large):,} audits divided by those at {int(small):,}:\n"
    yield "| program | of | growth | target |"
    yield "|---|---|---|---|"
    for name, figure, most in FLAT:
        if name in sizes[small][0] and name in sizes[large][0]:
            of = _peak if figure == "peak memory" else _cpu
            growth = of(sizes[large], name) / of(sizes[small], name)
            yield f"| {TITLES[name]} | {figure} | {growth:.2f} | at most {most:.2f} |"


def _peak(rounds: list[Round], name: str) -> float:
    return middle(rounds, name, "mib")


def _cpu(rounds: list[Round], name: str) -> float:
    """CPU seconds that 100,000 rows take."""
    return median(one[name]["cpu"] / one[name]["rows"] * 100_000 for one in rounds)


def _speeds(size: int, rounds: list[Round], peer_max: int) -> Iterator[str]:
    left_out = (
        f"; peers, MariaDB and the bare loads ran up to {peer_max:,} only"
        if size > peer_max
        else ""
    )
    yield f"\n{size:,} audits, {_rounds(rounds)}{left_out}:\n"
    yield "| program | of the floor | rows/s | CPU s per 100k rows | peak MiB | requests |"
    yield "|---|---|---|---|---|---|"
    for name in sorted(rounds[0], key=lambda name: list(TITLES).index(name)):
        rows = median(speed(one[name]) for one in rounds)
        requests = _whole(middle(rounds, name, "requests"))
        yield (
            f"| {TITLES[name]} | {ratio(rounds, name, 'floor'):.2f} | {rows:,.0f} "
            f"| {_cpu(rounds, name):.1f} | {_peak(rounds, name):.0f} | {requests} |"
        )


def _rounds(rounds: list[Round]) -> str:
    return f"{len(rounds)} round" if len(rounds) == 1 else f"{len(rounds)} rounds"


def _whole(number: float) -> str:
    return f"{number:.0f}" if number else ""


def _lake(found: dict[str, dict[int, int]]) -> Iterator[str]:
    yield "\nPeak MiB of one process on a lake with one large partition:\n"
    sizes = list(found["tick"])
    yield (
        "| what | " + " | ".join(f"{int(size):,} audits" for size in sizes) + " | growth | target |"
    )
    yield "|---|" + "---|" * len(sizes) + "---|---|"
    for what, title in LAKE.items():
        peaks = list(found[what].values())
        shown = " | ".join(map(str, peaks))
        yield f"| {title} | {shown} | {peaks[-1] / peaks[0]:.2f} | at most 1.15, and 250 MiB |"


def _history(found: dict[str, Any]) -> Iterator[str]:
    yield "\nA day of 33,000 audits, loaded into tables that hold a history already:\n"
    sizes = list(found["sqlite"]["speeds"])
    held = " | ".join(f"with {int(size):,}" for size in sizes[1:])
    yield f"| destination | rows/s into empty tables | {held} | target | bytes an audit | target |"
    yield "|---|---|" + "---|" * len(sizes[1:]) + "---|---|---|"
    for kind, (least, most) in HISTORY.items():
        if kind in found:
            speeds = [fmean(of_size) for of_size in found[kind].get("speeds", {}).values()]
            shown = [f"{speed / speeds[0]:.2f}" for speed in speeds[1:]]
            first = [f"{speeds[0]:,.0f}"] if speeds else []
            cells = " | ".join([*first, *shown] or [""] * len(sizes))
            size = found[kind]["bytes"]
            yield f"| {kind} | {cells} | {least or ''} | {size:,.0f} | at most {most:,} |"


def _paced(found: dict[str, Any]) -> Iterator[str]:
    budget, far = found["budget"], found["latency"]
    yield "\nUnder a budget, and far away:\n"
    yield "| what | figure | target |"
    yield "|---|---|---|"
    yield (
        f"| {budget['allowed']} requests a minute, for {budget['seconds']:.0f} s: share of it used "
        f"| {budget['share']:.1%} | 95 % |"
    )
    yield (
        f"| of these, seconds that requests were held back for it: with none, it was this machine "
        f"that was at its limit | {budget['held_back']:.0f} | |"
    )
    yield f"| 429 answers meanwhile | {budget['refused']} | at most 1 |"
    yield (
        f"| {far['latency']:.1f} s latency a request: requests a second, of what it and the "
        f"budget allow | {far['share']:.1%} | 90 % |"
    )
    yield f"| requests in flight there, most and mean | {far['most']}, {far['mean']:.1f} | |"
    yield f"| requests/s and rows/s there | {far['requests']:.1f}, {far['rows']:,.0f} | |"
