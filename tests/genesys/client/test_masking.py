"""A secret that an answer quotes is cut out of it, however it was written there."""

import html
import json
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.genesys.client.masking import LENGTH_MAX, SHORT, mask
from tests.support.commands import audit_etl, environment
from tests.support.configurations import CREDENTIALS, refused

ODD = 'p/w "x"\\ +%é☎😀'
long_secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORT, max_size=40)


@pytest.mark.parametrize(
    "written",
    [
        ODD,
        quote(ODD),
        quote(ODD, safe=""),
        quote(ODD, safe="").lower(),
        quote_plus(ODD),
        json.dumps(ODD)[1:-1],
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        json.dumps(ODD)[1:-1].replace("/", "\\/"),
        "".join(f"%{byte:02X}" for byte in ODD.encode()),
        "".join(f"\\u{ord(c):04X}" for c in ODD[:-1]) + "\\uD83D\\uDE00",
    ],
)
def test_each_form_of_a_secret_is_masked(written: str) -> None:
    assert mask(f"<{written}>", ODD) == "<***>"


TOKEN = "hunter2-Zq81~x/y?z"
BASE64 = b64encode(TOKEN.encode()).decode()


@pytest.mark.parametrize(
    "written",
    [
        BASE64,
        BASE64.rstrip("="),
        urlsafe_b64encode(TOKEN.encode()).decode(),
        f"{BASE64[:7]}\r\n {BASE64[7:]}",
        quote(BASE64, safe=""),
        TOKEN.encode().hex(),
        TOKEN.encode().hex().upper(),
        "".join(f"&#{ord(c)};" for c in TOKEN),
        "".join(f"&#x{ord(c):X};" for c in TOKEN),
        "hunter2-Zq81~x&sol;y&quest;z",
        html.escape(html.escape("".join(f"&#{ord(c)}" for c in TOKEN))),
        quote(quote(TOKEN, safe=""), safe=""),
        quote(quote(quote(TOKEN, safe=""), safe=""), safe=""),
        json.dumps(json.dumps("".join(f"\\u{ord(c):04x}" for c in TOKEN))[1:-1])[1:-1],
        "".join(f"\\x{ord(c):02x}" for c in TOKEN),
        TOKEN.upper(),
        "\u200b".join(TOKEN),
        "\n".join(TOKEN),
        "hunter2-Zq81 ~x/\t\u2060y?z",
        "hunter2-Zq81~x%0A/y?%20z",
    ],
)
def test_each_other_spelling_of_a_secret_is_masked(written: str) -> None:
    assert mask(f"<{written}>", TOKEN) == "<***>"


@pytest.mark.parametrize("before", ["", "i", "id", "id:"])
@pytest.mark.parametrize("after", ["", "!", "!!"])
def test_a_secret_in_the_midst_of_base64_is_masked(before: str, after: str) -> None:
    masked = mask(b64encode(f"{before}{TOKEN}{after}".encode()).decode(), TOKEN)

    assert "***" in masked
    assert len(masked) <= 11


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = "a %41 &amp; \\u0041 \u200b b"

    assert mask(text, TOKEN) == text
    assert mask(f"{text}{TOKEN}{text}{TOKEN}", TOKEN) == f"{text}***{text}***"


def test_a_text_without_end_is_masked_soon() -> None:
    for part in ("%25", "\\u0041", "&amp;", " ", "\\", "a", TOKEN[:-1]):
        assert len(mask(part * (1 << 20), TOKEN)) <= LENGTH_MAX


@given(long_secrets, st.text(), st.text())
def test_no_form_of_any_secret_is_left(secret: str, before: str, after: str) -> None:
    for written in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        assert secret not in mask(before + written + after, secret)


def test_a_short_secret_is_masked_as_a_word_alone() -> None:
    assert mask("an abc in abcdef, abc.", "abc") == "an *** in abcdef, ***."
    assert mask("nothing", "") == "nothing"


def test_check_refuses_a_secret_that_is_too_short_to_be_one(tmp_path: Path) -> None:
    variables = CREDENTIALS | {"GENESYSCLOUD_OAUTHCLIENT_SECRET": "short-7"}

    done = audit_etl("check", env=environment(**variables), cwd=tmp_path)

    assert done.returncode != 0
    assert "has fewer than 8 characters" in done.stdout
    assert "short-7" not in done.stdout + done.stderr


def test_a_secret_that_is_not_utf_8_is_a_wrong_setting(tmp_path: Path) -> None:
    odd = b"not-utf-8-\xff".decode(errors="surrogateescape")

    done = audit_etl(
        "check",
        env=environment(**CREDENTIALS | {"GENESYSCLOUD_OAUTHCLIENT_SECRET": odd}),
        cwd=tmp_path,
    )

    assert (done.returncode, done.stdout) == (78, "")
    assert "GENESYSCLOUD_OAUTHCLIENT_SECRET: is not UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    "rest", ["u:p@ss/w0rd@h/d", "u:p@ss@h/d", "u:p@h/d?options=x@y", "u@t:p@ss@h/d"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_password_that_cannot_be_told_from_its_host_is_refused(scheme: str, rest: str) -> None:
    [line] = refused(environment={"AUDIT_ETL_DESTINATION": f"{scheme}://{rest}"})

    assert "cannot be read; in a password write @ as %40" in line
    assert "w0rd" not in line
