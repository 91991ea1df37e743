"""A client's request as the peer's."""

from gateway.core.request_key import DownloadDefaults, download_request
from gateway.core.rules import Decision, Trust, Verdict

_HEX = "ab" * 32


def _decision(url: str, trust: Trust | None = None) -> Decision:
    return Decision(verdict=Verdict.P2P, url=url, trust=trust or Trust(), reason="test")


def test_the_whole_content_is_asked_for_whatever_the_client_wants_of_it() -> None:
    fields = (("Host", "r"), ("Range", "bytes=5-"), ("Authorization", "Bearer t"), ("User-Agent", "docker"))
    made = download_request(
        _decision(f"https://r/v2/a/blobs/sha256:{_HEX}"), fields, DownloadDefaults(rate=5, supernodes=("s:8002",))
    )
    assert made.headers == (("Authorization", "Bearer t"), ("User-Agent", "docker"))
    assert made.byte_range is None
    assert made.wanted_digest == f"sha256:{_HEX}"
    assert (made.rate, made.supernodes, made.caller) == (5, ("s:8002",), "dfdaemon")


def test_a_signed_url_is_the_same_task_every_time() -> None:
    defaults = DownloadDefaults(filters=("Expires", "Signature"))
    one, two = (download_request(_decision(f"http://s3/object?a=1&Expires={n}&Signature={n}"), (), defaults).task for n in (1, 2))
    assert one == two
    assert one != download_request(_decision("http://s3/object?a=2"), (), defaults).task


def test_the_operators_fields_never_replace_the_clients() -> None:
    defaults = DownloadDefaults(headers=(("authorization", "Basic operator"), ("X-Team", "one"), ("Range", "bytes=0-1")))
    made = download_request(_decision("http://r/x"), (("Authorization", "Bearer client"),), defaults)
    assert made.headers == (("Authorization", "Bearer client"), ("X-Team", "one"))


def test_a_source_is_verified_as_its_rule_says_before_what_dfget_flags_say() -> None:
    defaults = DownloadDefaults(trust=Trust(insecure=True))
    assert download_request(_decision("https://r/x"), (), defaults).insecure
    made = download_request(_decision("https://r/x", Trust(certificates=(b"pem",))), (), defaults)
    assert (made.insecure, made.certificates) == (False, (b"pem",))
