"""Who is told to warm what: a few at a time, again after silence and absence, and never for ever."""

from broker.core.errands import Errand, Errands, ErrandSettings
from broker.core.preheat_events import AskWarm
from broker.core.preheat_records import SEED_HOST

SETTINGS = ErrandSettings(per_peer=2, grace_s=10.0, silence_s=5.0, tellings=2)


def errand(task: str, peer: str = "a", host: str = "", keep_s: float = 0.0) -> Errand:
    return Errand(task=task, host=host or peer, peer=peer, job=1, keep_s=keep_s)


def told(task: str, peer: str = "a", keep_s: float = 0.0) -> AskWarm:
    return AskWarm(peer=peer, task=task, job=1, keep_s=keep_s)


def with_peer(peer: str = "a") -> Errands:
    made = Errands(SETTINGS)
    assert made.peer_here(peer, 0.0) == []
    return made


def test_a_peer_is_told_of_a_few_at_a_time() -> None:
    made = with_peer()
    assert [made.ask(errand(task), 0.0) for task in "xyz"] == [[told("x")], [told("y")], []]
    made.validate()
    assert made.end("a", "x", 1.0) == [told("z")]
    assert made.end("a", "nothing", 1.0) == []
    assert len(made) == 2
    made.validate()


def test_the_seed_is_told_of_all() -> None:
    made = with_peer("s")
    assert [len(made.ask(errand(task, "s", SEED_HOST), 0.0)) for task in "xyz"] == [1, 1, 1]
    made.validate()


def test_asked_again_only_more_time_is_told() -> None:
    made = with_peer()
    made.ask(errand("x", keep_s=5.0), 0.0)
    assert made.ask(errand("x", keep_s=1.0), 0.0) == []
    assert made.ask(errand("x", keep_s=9.0), 0.0) == [told("x", keep_s=9.0)]
    made.ask(errand("y"), 0.0)
    made.ask(errand("z", keep_s=1.0), 0.0)
    assert made.ask(errand("z", keep_s=2.0), 0.0) == [], "it waits for its turn"
    assert made.end("a", "y", 0.0) == [told("z", keep_s=2.0)]


def test_another_seed_takes_the_former_ones_place() -> None:
    made = with_peer("s")
    made.peer_here("t", 0.0)
    made.ask(errand("x", "s", SEED_HOST), 0.0)
    assert made.ask(errand("x", "t", SEED_HOST), 0.0) == [told("x", "t")]
    assert made.heard("s", "x", 0.0) is None
    made.validate()


def test_who_is_away_is_told_when_it_comes_and_lost_when_it_does_not() -> None:
    made = Errands(SETTINGS)
    assert made.ask(errand("x"), 0.0) == []
    assert made.tick(9.9) == ([], [])
    assert made.peer_here("a", 9.9) == [told("x")]
    made.peer_gone("a", 20.0)
    made.validate()
    assert made.tick(29.9) == ([], [])
    asked, ((lost, why),) = made.tick(30.0)
    assert (asked, lost.task) == ([], "x")
    assert "did not come back within 10 s" in why


def test_hello_again_means_that_it_was_not_told() -> None:
    made = with_peer()
    made.ask(errand("x"), 0.0)
    assert made.peer_here("a", 1.0) == [told("x")]


def test_silence() -> None:
    made = with_peer()
    made.ask(errand("x"), 0.0)
    assert made.heard("a", "x", 4.0) is not None
    assert made.tick(8.9) == ([], [])
    assert made.tick(9.0) == ([told("x")], [])
    asked, ((lost, why),) = made.tick(14.0)
    assert (asked, lost.host) == ([], "a")
    assert "has said nothing of it for 10 s" in why


def test_cancel_is_told_only_to_who_was_told() -> None:
    made = with_peer()
    for task in "xyz":
        made.ask(errand(task), 0.0)
    assert made.end("a", "z", 1.0, cancel=True) == []
    cancelled = AskWarm(peer="a", task="x", job=1, keep_s=0.0, cancel=True)
    assert made.end("a", "x", 1.0, cancel=True) == [cancelled]
    assert made.find("a", "y") is not None
    assert made.find("a", "x") is None
    made.end("a", "y", 1.0)
    assert len(made) == 0
    made.validate()
