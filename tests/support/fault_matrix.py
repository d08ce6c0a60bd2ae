"""The faults that an export is tried with, each with what it has to come to.

`make docs` writes the table of them into docs/faults.md.
"""

from dataclasses import dataclass, field
from random import Random

from etl.simulator import Faults

HEAD = "| what goes wrong | `--fault` | exit | lost | doubled | false successes |"
DOWNLOADS = {"AUDIT_ETL_ALLOW_REDIRECT": "true"}
#: Faults that take too long, or whose answers nobody could tell from right ones among others.
ALONE = ("stall", "other_time", "shrink")
SERVICES = {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "ContactCenter,Directory"}

#: Some of what a page is in place of itself; all of it meets the client in `test_pages.py`.
NO_PAGES = {
    "only its head": "bare",
    "an error": "error",
    "another query's": "other",
    "not UTF-8": "latin",
}


@dataclass(frozen=True)
class Cell:
    """One fault, or several at once.

    Attributes:
        name: what goes wrong.
        faults: as `simulate --fault` takes them, with blanks between.
        status: the exit status of a run while it goes wrong.
        settings: what the program is told beside the usual.
    """

    name: str
    faults: str
    status: int = 0
    settings: dict[str, str] = field(default_factory=dict)

    def parsed(self) -> Faults:
        return Faults.parse(self.faults.split())


CELLS = [
    Cell("tokens die between two pages", "token_dies_after=5"),
    Cell("429 with `Retry-After`", "too_many_requests_every=3 retry_after=7"),
    Cell("429 with its text only", "too_many_requests_every=3 retry_after=7 retry_after_unsaid"),
    Cell("429 to everything for 20 seconds", "quota=9 retry_after=20"),
    Cell("429 to everything for two hours", "quota=9 retry_after=7200", 75),
    Cell("429 for two minutes, told as one second", "quota=9 retry_after=120 retry_after_told=1"),
    Cell(
        "429 for ten minutes, told as one second", "quota=9 retry_after=600 retry_after_told=1", 75
    ),
    Cell("a minute that ends in 28 years", "rate_limit=10 reset_told=900000000"),
    Cell("ten requests a minute", "rate_limit=10"),
    Cell("500 now and then", "server_error_every=7 server_error_status=500"),
    Cell("502 now and then", "server_error_every=3 server_error_status=502"),
    Cell("503 now and then", "server_error_every=3"),
    Cell("504 now and then", "server_error_every=3 server_error_status=504"),
    Cell("503 to everything", "server_error_every=1", 69),
    Cell("HTML with 502", "html_error_every=3"),
    Cell("HTML with 200", "html_page_every=7"),
    Cell("truncated JSON", "truncate_every=7"),
    Cell("answers broken off", "break_off_every=3"),
    Cell("connections reset", "reset_every=3"),
    Cell("silence of five minutes", "stall_every=5"),
    Cell("answers drop by drop", "drip_every=5 drip_seconds=400"),
    Cell("a permission is missing", "deny_permission", 77),
    Cell("a service is forbidden", "forbidden_service=Directory", 0, SERVICES),
    Cell("a service appears tomorrow", "new_service=Directory"),
    Cell("no interval over a day", "interval_days=1", 0, {"AUDIT_ETL_MAX_WINDOW": "30d"}),
    Cell("an interval includes its end", "include_interval_end"),
    Cell(
        "an interval lacks its start and includes its end",
        "include_interval_end exclude_interval_start",
    ),
    Cell("queries end Failed", "fail_query_every=2"),
    Cell("all queries end Failed", "fail_query_every=1", 69),
    Cell("queries end Cancelled", "cancel_query_every=2"),
    Cell("queries stay Running", "stuck_query_every=2"),
    Cell("queries vanish after two pages", "vanish_query_after_page=2"),
    Cell("cursors expire", "expire_cursor_every=2"),
    Cell("answers about the day before", "other_time_every=2"),
    Cell("a shorter answer the second time", "shrink_again"),
    Cell("queries of one minute end Failed", "bad_minute=600", 69),
    Cell("queries of one minute are refused", "bad_minute=600 bad_minute_does=refuse", 65),
    Cell("pages of one minute are none", "bad_minute=600 bad_minute_does=misshape", 65),
    Cell("pages of one minute get 500", "bad_minute=600 bad_minute_does=break", 69),
    Cell("intervals older than a day are refused", "refuse_days=1", 65),
    Cell("an empty page with a cursor", "empty_page_with_cursor=2"),
    Cell("a last page with a cursor", "last_page_with_cursor"),
    Cell("a cursor that repeats", "repeat_cursor=2", 65),
    Cell("new cursors that lead to one page", "repeat_page=2", 65),
    Cell("empty pages without end", "empty_pages_from=2", 65),
    Cell("an error in a 200, now and then", "no_page_every=3 no_page_is=error"),
    *(
        Cell(f"a third page that is {what}", f"no_page=3 no_page_is={kind}", 65)
        for what, kind in NO_PAGES.items()
    ),
    Cell("pages that overlap", "overlap=7"),
    Cell("rows in no order", "shuffle"),
    Cell("pages too large for the server", "too_large_over=15"),
    Cell("pages too large for a gateway: 504", "gateway_over=15"),
    Cell("pages too large for a gateway: 500", "gateway_over=15 gateway_status=500"),
    Cell("pages too large for a gateway: 413", "gateway_over=15 gateway_status=413"),
    Cell("pages of two too large for a gateway", "gateway_over=1 gateway_status=502"),
    Cell("results by download", "redirect_over=30 download_rows=60", 0, DOWNLOADS),
    Cell(
        "URLs of downloads have expired",
        "redirect_over=30 download_rows=60 expire_download_every=3",
        0,
        DOWNLOADS,
    ),
    Cell("arrivals up to two days late", "late_every=5 late_hours=48"),
    Cell("all is forgotten after a day", "forget_days=1"),
    Cell("a clock four minutes ahead", "clock_ahead=240"),
    Cell("a clock four minutes behind", "clock_ahead=-240"),
    Cell("an id twice, with different content", "twin_every=3"),
    Cell("records of a megabyte", "huge_every=80"),
    Cell("NUL, lone surrogates, bidi", "odd_text_every=3"),
    Cell("members absent", "absent_every=2"),
    Cell("members null", "null_every=2"),
    Cell("members of another type", "odd_type_every=2"),
    Cell("unknown members and values", "unknown_every=2"),
    Cell("records without id or time", "unusable_every=5"),
]


def mixture(seed: int) -> Cell:
    """Some of the faults that an export survives, at once, by chance."""
    rng = Random(seed)
    survived = [c for c in CELLS if c.status == 0 and not c.faults.startswith(ALONE)]
    chosen = rng.sample(survived, 5)
    faults = " ".join([f"seed={seed}", *(cell.faults for cell in chosen)])
    settings = {name: value for cell in chosen for name, value in cell.settings.items()}
    return Cell(f"mixture {seed}: {faults}", faults, 0, settings)


def table() -> str:
    """The matrix, as Markdown."""
    rows = [f"| {cell.name} | `{cell.faults}` | {cell.status} | 0 | 0 | 0 |" for cell in CELLS]
    return "\n".join([HEAD, "|---|---|---|---|---|---|", *rows])
