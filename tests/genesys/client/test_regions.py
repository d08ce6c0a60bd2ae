"""What a user may write as a region."""

import pytest

from etl.errors import ConfigurationError
from etl.genesys.client.regions import REGIONS, Endpoints, endpoints


def test_a_region_s_name_gives_its_two_hosts() -> None:
    assert endpoints("eu-central-1") == Endpoints(
        "https://login.mypurecloud.de", "https://api.mypurecloud.de"
    )


def test_all_regions_of_the_vendor_s_newest_sdk_are_known() -> None:
    from PureCloudPlatformClientV2.purecloud_region_hosts import PureCloudRegionHosts

    theirs = {region.value for region in PureCloudRegionHosts}

    assert {endpoints(region).api for region in REGIONS} == theirs
    assert len(theirs) == 18


@pytest.mark.parametrize(
    "region",
    [
        "mypurecloud.de",
        " MyPureCloud.de ",
        "api.mypurecloud.de",
        "https://apps.mypurecloud.de",
        "https://login.mypurecloud.de/",
    ],
)
def test_a_domain_may_be_written_as_it_is_found(region: str) -> None:
    assert endpoints(region) == endpoints("eu-central-1")


def test_a_domain_that_is_not_known_yet_is_taken() -> None:
    assert endpoints("xyz9.pure.cloud").login == "https://login.xyz9.pure.cloud"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9", "https://sim.lan:8"]
)
def test_a_base_url_serves_both(url: str) -> None:
    assert endpoints(f"{url}/") == Endpoints(url, url)


@pytest.mark.parametrize("url", ["http://sim.lan:8080", "http://127.0.0.1.example.org"])
def test_plain_http_is_for_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        endpoints(url)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("eu-centrl-1", "eu-central-1"), ("us_east_1", "us-east-1"), ("us-west-1", "us-west-2")],
)
def test_a_region_that_is_none_names_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"organizations.a.region .*did you mean {meant}"):
        endpoints(typed, "organizations.a.region")


@pytest.mark.parametrize(
    "region",
    ["", "localhost:8080", "a b.de", "mypurecloud.de/x", "ftp://x.de", "http://", "https://h:0",
     "https://h:x", "de\n.mypurecloud.de"],
)  # fmt: skip
def test_what_is_no_address_is_refused(region: str) -> None:
    with pytest.raises(ConfigurationError):
        endpoints(region)


def test_a_password_in_a_base_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        endpoints("https://user:hunter2@sim.lan")

    assert "hunter2" not in str(caught.value)
