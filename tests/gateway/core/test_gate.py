"""Who may use the proxy, and for which upstreams."""

import base64
import re

import pytest

from gateway.core.gate import Gate, WhiteHost
from gateway.core.rules import Authority

_GATE = Gate(username="user", password="p:w")


def _says(text: str, scheme: str = "Basic") -> tuple[tuple[str, str], ...]:
    return (("proxy-authorization", f"{scheme} {base64.b64encode(text.encode()).decode()}"),)


def test_without_a_user_name_nobody_is_asked() -> None:
    assert Gate().refuses_client("/v2/", ()) is None


@pytest.mark.parametrize("headers", [_says("user:p:w"), _says("user:p:w", "bASIC")])
def test_the_right_words_open(headers: tuple[tuple[str, str], ...]) -> None:
    assert _GATE.refuses_client("http://a/", headers) is None


@pytest.mark.parametrize(
    "headers",
    [(), _says("user:x"), _says("user:"), _says("other:p:w"), _says("user:p:w", "Bearer"), (("Proxy-Authorization", "Basic %%"),),
     (("Authorization", _says("user:p:w")[0][1]),)],
)  # fmt: skip
def test_all_others_are_challenged_and_no_secret_is_repeated(headers: tuple[tuple[str, str], ...]) -> None:
    refusal = _GATE.refuses_client("http://a/", headers)
    assert refusal is not None
    assert (refusal.status, refusal.headers[0][0]) == (407, "Proxy-Authenticate")
    assert "p:w" not in refusal.text + repr(_GATE)
    assert _GATE.refuses_client("/_ping", headers) is None


def test_the_white_list_names_hosts_and_ports() -> None:
    gate = Gate(white_list=(WhiteHost(host="A.test", ports=frozenset({443})), WhiteHost(pattern=re.compile(r"\.b\.test$"))))
    assert gate.refuses_upstream(Authority("a.test", 443)) is None
    assert gate.refuses_upstream(Authority("x.b.test", 1)) is None
    for host, port in (("a.test", 80), ("b.test", 443), ("x.a.test", 443)):
        refusal = gate.refuses_upstream(Authority(host, port))
        assert refusal is not None
        assert refusal.status == 401
    assert Gate().refuses_upstream(Authority("any.test", 1)) is None
