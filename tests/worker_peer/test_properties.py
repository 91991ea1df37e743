"""1.x's configuration files: what they set, and what is said about one that is wrong."""

from pathlib import Path

import pytest

from worker_peer.host.values import Node
from worker_peer.properties import Properties, PropertiesError, load_properties


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert load_properties((tmp_path / "dfget.yml", tmp_path / "dragonfly.conf")) == Properties()
    assert load_properties((tmp_path,)) == Properties()


def test_yaml_sets_every_key(tmp_path: Path) -> None:
    text = """
    nodes: [10.0.0.10, "10.0.0.11:8102=2"]
    localLimit: 20M
    minRate: 64K
    totalLimit: 1048576
    linkRate: 100mbit
    clientQueueSize: 6
    logConfig: {maxSize: 7, maxBackups: 2}
    workHome: /var/lib/dragonfly
    """
    assert load_properties((write(tmp_path / "dfget.yml", text),)) == Properties(
        nodes=(Node(host="10.0.0.10"), Node(host="10.0.0.11", port=8102, weight=2)),
        local_limit=20 << 20,
        min_rate=64 << 10,
        total_limit=1 << 20,
        link_rate="100mbit",
        work_home=Path("/var/lib/dragonfly"),
        log_rotate_bytes=7 << 20,
        log_rotated_files=2,
        warnings=("clientQueueSize has no meaning here: pieces are written as they come",),
    )


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "dfget.yml", "localLimit: 1M\ntotalLimit: 2M\nnodes: [a]\n")
    environment = {"DFGET_LOCALLIMIT": "3M", "DFGET_NODE": "b:1=2,c:1=4", "DFGET_HOME": "/h"}
    found = load_properties((path,), environment)
    assert (found.local_limit, found.total_limit, found.work_home) == (3 << 20, 2 << 20, Path("/h"))
    assert found.nodes == (Node(host="b", port=1, weight=1), Node(host="c", port=1, weight=2))
    other = write(tmp_path / "other.yml", "localLimit: 4M")
    assert load_properties((path,), {"DFGET_CONFIG": str(other)}) == Properties(local_limit=4 << 20)
    with pytest.raises(PropertiesError, match="cannot read the configuration"):
        load_properties((path,), {"DFGET_CONFIG": str(tmp_path / "none.yml")})
    with pytest.raises(PropertiesError, match=r"^localLimit: 'fast' is no rate"):
        load_properties((path,), {"DFGET_LOCALLIMIT": "fast"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "nodes:\n", "nodes: []\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load_properties((write(tmp_path / "dfget.yml", text),)) == Properties()


def test_the_first_file_that_is_there_is_the_one(tmp_path: Path) -> None:
    yml = write(tmp_path / "dfget.yml", "localLimit: 1M")
    conf = write(tmp_path / "dragonfly.conf", "[node]\naddress=10.0.0.1,10.0.0.2\n")
    assert load_properties((yml, conf)) == Properties(local_limit=1 << 20)
    assert load_properties((tmp_path / "missing", conf)).nodes == (Node(host="10.0.0.1"), Node(host="10.0.0.2"))


@pytest.mark.parametrize("text", ["", "[other]\nkey=1\n", "[node]\nport=1\n"])
def test_an_ini_without_nodes_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load_properties((write(tmp_path / "dragonfly.conf", text),)) == Properties()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("dfget.yml", "nodes: [a", "is no YAML"),
        ("dfget.yml", "- a\n- b", "must be a map of keys"),
        ("dfget.yml", "locallimit: 5M", "unknown key 'locallimit': did you mean 'localLimit'?"),
        ("dfget.yml", "colour: red", "unknown key 'colour': known keys: cacheQuota, clientQueueSize, linkRate"),
        ("dfget.yml", "nodes: {a: 1}", "nodes: must be a list"),
        ("dfget.yml", "logConfig: {maxsize: 1}", "unknown key 'logConfig.maxsize': did you mean 'maxSize'?"),
        ("dfget.yml", "logConfig: {maxSize: 0}", "maxSize must be 1"),
        ("dfget.yml", "nodes: ['10.0.0.1:0']", "nodes: '10.0.0.1:0' is no node"),
        ("dfget.yml", "localLimit: fast", "localLimit: 'fast' is no rate"),
        ("dfget.yml", "totalLimit: -1", "totalLimit: '-1' is no rate"),
        ("dfget.yml", "totalLimit: true", "totalLimit: True is no rate"),
        ("dragonfly.conf", "address=1", "no section headers"),
        ("dragonfly.conf", "[node]\naddress=10.0.0.1=x\n", "is no node"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(PropertiesError) as caught:
        load_properties((path,))
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
