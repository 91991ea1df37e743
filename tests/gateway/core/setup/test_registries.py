"""Which registry a pattern of hijack_https.hosts stands for."""

import pytest

from gateway.core.rules import Authority
from gateway.core.setup.registries import authority_of_registry, named_by


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("registry.example:443", "registry.example"),
        (r"^registry\.example$", "registry.example"),
        ("registry[.]example:5000", "registry.example:5000"),
        (r"^10\.0\.0\.1:5000$", "10.0.0.1:5000"),
        ("registry-1.docker.io", "docker.io"),
        ("auth.docker.io", "docker.io"),
        ("production.cloudflare.docker.com", "docker.io"),
        (".*", None),
        ("(a|b).example", None),
        (r"\.example", None),
        (r"r\d.example", None),
        ("r.example:port", None),
        ("", None),
    ],
)
def test_a_plain_pattern_names_one(pattern: str, name: str | None) -> None:
    assert named_by(pattern) == name


def test_where_a_registry_is() -> None:
    assert authority_of_registry("docker.io") == Authority("registry-1.docker.io", 443)
    assert authority_of_registry("r.example") == Authority("r.example", 443)
    assert authority_of_registry("r.example:5000") == Authority("r.example", 5000)
