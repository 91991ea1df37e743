"""Whether what setup wrote still holds: the files, dfdaemon's address and CA as they are now, the daemon that runs.

For `dfdaemon doctor`: looks, and changes nothing.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from gateway.config import ConfigError, GatewayConfig
from gateway.core.setup.journal import Fate, Journal, State, fate
from gateway.core.setup.plan import Facts, Mode, Refused, Runtime, Write
from gateway.finding import Finding, note, ok, wrong
from gateway.setup.files import RootFiles
from gateway.setup.planning import gateway_from, plan_for
from gateway.setup.record import all_of, load
from gateway.setup.runtimes import dockerd_of


def drift(config: GatewayConfig, home: Path) -> Iterator[Finding]:
    """A finding for each setup of this home."""
    for folder in all_of(home):
        try:
            journal = load(folder)
        except Refused as error:
            yield wrong("setup", str(error), f"compare by hand, then remove {folder}")
            continue
        if journal is not None:
            yield from _drift_of(config, journal)


def uses_mirrors_only(home: Path) -> bool:
    """Whether runtimes are set up here, and none of them is ever shown a certificate of the CA."""
    modes = set()
    for folder in all_of(home):
        try:
            journal = load(folder)
        except Refused:
            return False
        if journal is not None:
            modes.add(journal.mode)
    return modes == {Mode.MIRROR}


def _drift_of(config: GatewayConfig, journal: Journal) -> Iterator[Finding]:
    root = Path(journal.root)
    words = f"dfdaemon setup {journal.wish.runtime.value}{'' if root == Path('/') else f' --root {root}'}"
    check = words.removeprefix("dfdaemon ")
    if journal.state is not State.DONE:
        yield wrong(check, "was ended in the middle", f"{words} --undo")
        return
    if not root.is_dir():
        yield note(check, f"{root} is gone", "nothing to do")
        return
    files = RootFiles(root)
    try:
        wish = dataclasses.replace(journal.wish, mode=journal.mode if journal.wish.runtime is Runtime.DOCKER else None)
        # What it was then: dockerd may not run just now.
        facts = Facts(version=journal.version, has_systemd=True, user_home=journal.user_home)
        gateway = gateway_from(config, wish, journal.urls)
        plan = plan_for(wish, gateway, facts, files)
        edited = [each.path for each in journal.entries if fate(each, files.seen(each.path)) is Fate.EDITED]
    except (Refused, ConfigError) as error:
        yield wrong(check, str(error), f"put it right, then {words}")
        return
    if plan.writes:
        for write in plan.writes:
            yield wrong(check, _why(write, files, gateway.url), words)
    elif edited:
        step = f"it works; {words} --undo will say what stands in its way"
        yield note(check, f"changed since setup: {', '.join(edited)}", step)
    elif journal.wish.runtime is Runtime.DOCKER and dockerd_of(root, "", "").uses(gateway.url, plan.mode) is False:
        step = "systemctl reload docker" if plan.mode is Mode.MIRROR else "systemctl restart docker, when it suits"
        yield wrong(
            check, f"{', '.join(each.path for each in journal.entries)} is right, but dockerd does not go by it yet", step
        )
    else:
        yield ok(check, f"as setup wrote it, for {gateway.url}")


def _why(write: Write, files: RootFiles, url: str) -> str:
    now = files.read(write.path)
    if now is None:
        return f"{write.path} is gone"
    if b"-----BEGIN CERTIFICATE" in write.content:
        return f"{write.path} is another CA than dfdaemon's: it has changed since setup"
    return f"{write.path} does not name {url} first any more: one of the two has changed since setup"
