"""Windows tile, the watermark never leads, and times on the command line mean what they say."""

import itertools
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.window import (
    ROWS_A_QUERY,
    WINDOW_MAX,
    WINDOW_MIN,
    Window,
    advance,
    by_density,
    cut,
    first_piece,
    format_duration,
    gaps,
    joined,
    parse_duration,
    parse_instant,
    piece_for,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 5, 4, 12, 30, 15, 123000, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return EPOCH + timedelta(minutes=minutes)


def window(start: int, end: int) -> Window:
    return Window(at(start), at(end))


spans = st.builds(
    lambda start, length: window(start, start + length),
    st.integers(0, 200_000),
    st.integers(1, 200_000),
)
short_spans = st.builds(
    lambda start, length: window(start, start + length), st.integers(0, 50), st.integers(1, 20)
)


@given(spans, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_pieces_tile_their_span(span: Window, piece: timedelta) -> None:
    windows = list(cut(span, piece))

    assert windows[0].start == span.start
    assert windows[-1].end == span.end
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))
    assert all(w.length <= WINDOW_MAX for w in windows)
    assert all(w.length >= WINDOW_MIN for w in windows[:-1])


@given(
    spans,
    st.timedeltas(timedelta(0), timedelta(days=400)),
    st.timedeltas(timedelta(0), timedelta(days=31)),
)
def test_the_first_piece_is_a_start_of_its_span_of_about_that_length(
    span: Window, piece: timedelta, longest: timedelta
) -> None:
    plain = next(cut(span, min(piece, longest)))

    window = first_piece(span, min(piece, longest), longest)

    assert window.start == span.start
    assert window.end <= span.end
    assert window.length <= max(longest, plain.length)
    assert abs(window.length - plain.length) <= plain.length / 4
    if window != plain:
        assert window.end.time() == time()


@given(spans, st.floats(0.001, 100), st.timedeltas(timedelta(hours=1), timedelta(days=31)))
def test_the_windows_of_queries_tile_their_span(
    span: Window, density: float, longest: timedelta
) -> None:
    windows = list(itertools.islice(by_density(span, density, longest), 100))

    assert windows[0].start == span.start
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))
    assert len(windows) == 100 or windows[-1].end == span.end


def test_long_pieces_meet_at_midnight() -> None:
    month = Window(EPOCH, EPOCH + timedelta(days=30))
    piece = timedelta(days=2, hours=20)

    assert first_piece(month, piece, WINDOW_MAX).length == timedelta(days=3)
    assert first_piece(month, piece, piece).length == piece
    assert first_piece(month, timedelta(days=3, hours=5), WINDOW_MAX).length == timedelta(days=3)
    assert first_piece(month, timedelta(hours=9), WINDOW_MAX).length == timedelta(hours=9)


def test_a_quiet_month_is_one_window() -> None:
    month = Window(EPOCH, EPOCH + timedelta(days=30))

    assert list(cut(month, piece_for(None, WINDOW_MAX))) == [month]
    assert list(cut(month, piece_for(0.001, WINDOW_MAX))) == [month]


def test_dense_audits_make_short_windows() -> None:
    assert piece_for(ROWS_A_QUERY / 3600, WINDOW_MAX) == timedelta(hours=1)


@given(spans)
def test_halves_tile_their_window(whole: Window) -> None:
    halves = whole.halves()

    if halves is None:
        assert whole.length < 2 * WINDOW_MIN
    else:
        assert (halves[0].start, halves[1].end) == (whole.start, whole.end)
        assert halves[0].end == halves[1].start


@given(st.integers(0, 80), st.lists(short_spans, max_size=12))
def test_the_watermark_never_leads_the_receipts_and_never_retreats(
    start: int, covered: list[Window]
) -> None:
    reached = advance(at(start), covered)

    minutes = {m for w in covered for m in range(80) if w.start <= at(m) < w.end}
    expected = start
    while expected in minutes:
        expected += 1
    assert reached == at(expected)


@given(st.lists(short_spans, max_size=12), short_spans)
def test_gaps_and_receipts_share_no_instant_and_leave_none_out(
    covered: list[Window], span: Window
) -> None:
    missing = list(gaps(covered, span))

    for minute in range(80):
        if at(minute) in span:
            held = any(at(minute) in w for w in covered)
            assert held != any(at(minute) in gap for gap in missing)
    assert all(gap in span for gap in missing)


@given(st.lists(short_spans, max_size=12))
def test_joined_windows_hold_the_same_time_and_touch_nowhere(windows: list[Window]) -> None:
    merged = joined(windows)

    for minute in range(80):
        assert any(at(minute) in w for w in windows) == any(at(minute) in w for w in merged)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))


def test_a_window_is_half_open() -> None:
    assert at(0) in window(0, 1)
    assert at(1) not in window(0, 1)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (at(1), at(1)),
        (at(2), at(1)),
        (at(0).replace(tzinfo=None), at(1)),
        (at(0).replace(microsecond=1), at(1)),
    ],
)
def test_a_window_is_refused_unless_it_holds_time_in_whole_utc_seconds(
    start: datetime, end: datetime
) -> None:
    with pytest.raises(ValueError, match="a window"):
        Window(start, end)


@given(st.integers(1, 10_000_000))
def test_a_duration_reads_back_as_it_is_written(seconds: int) -> None:
    length = timedelta(seconds=seconds)

    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1y", timedelta(days=365)),
        ("6mo", timedelta(days=180)),
        ("1y6mo 2w", timedelta(days=559)),
        ("1mo1m", timedelta(days=30, minutes=1)),
        ("90M", timedelta(minutes=90)),
    ],
)
def test_months_have_30_days_and_years_365(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "5", "m", "5 parsecs", "1h-", "-1h", "1.5h"])
def test_a_text_that_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="10m, 1h, 3d, 6mo or 1y"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T12:00:00Z", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00+02:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01T12:00:00.999", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("now", datetime(2026, 5, 4, 12, 30, 15, tzinfo=UTC)),
        ("today", datetime(2026, 5, 4, tzinfo=UTC)),
        ("yesterday", datetime(2026, 5, 3, tzinfo=UTC)),
        ("7d", datetime(2026, 4, 27, 12, 30, 15, tzinfo=UTC)),
        ("1d12h", datetime(2026, 5, 3, 0, 30, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_utc(text: str, expected: datetime) -> None:
    assert parse_instant(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "last week", "2026-13-01", "99999999999d"])
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|before the year 1"):
        parse_instant(text, NOW)
