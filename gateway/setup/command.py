"""`dfdaemon setup docker|containerd|podman [--undo]`: look, show, ask, write, tell the daemon, verify. In that order.

Wires what is pure (gateway.core.setup) to files, daemons and the terminal. Nothing is written before it was shown.
"""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

from gateway.app import home_of
from gateway.config import ConfigError, GatewayConfig
from gateway.core.setup.docker import CONFIG_FILE, without_mirrors
from gateway.core.setup.journal import Fate, Journal, State
from gateway.core.setup.plan import Gateway, Mode, Plan, Refused, Runtime, Wish
from gateway.core.setup.show import difference
from gateway.finding import Finding, Grade, as_text, note, ok, wrong
from gateway.setup.carry_out import Judged, Place, carry_out, finish, judge, take_back, write_between
from gateway.setup.files import RootFiles
from gateway.setup.planning import gateway_from, plan_for
from gateway.setup.record import Record, copy_name
from gateway.setup.runtimes import Dockerd, dockerd_of, facts_of, restart_commands, run_commands
from gateway.setup.verify import Asked, verify


class SetupExit(IntEnum):
    """What `dfdaemon setup` ends with."""

    DONE = 0
    """All is as asked, or was already."""
    REFUSED = 1
    """Nothing was changed; the text says why."""
    NOT_CONFIRMED = 3
    """Shown only: nobody said yes."""
    NOT_VERIFIED = 4
    """Written, but something is missing before it works; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    wish: Wish
    undo: bool = False
    yes: bool = False
    restart: bool = False
    keep_edited: bool = False
    root: Path = Path("/")
    socket: str = ""
    pid_file: str = ""
    runtime_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where it is said, and who is asked."""

    say: Callable[[str], None] = print
    ask: Callable[[str], str] | None = None
    """None: nobody is there to answer."""


def terminal() -> Terminal:
    """This process's own."""
    return Terminal(ask=input if sys.stdin.isatty() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What files alone do not do."""

    commands: tuple[tuple[str, ...], ...] = ()
    reloads: bool = False
    restarts: str = ""


class Setup:
    """One run of the command."""

    def __init__(self, options: Options, config: GatewayConfig, out: Terminal) -> None:
        self._options = options
        self._config = config
        self._out = out
        self._wish = options.wish
        self._runtime = options.wish.runtime
        root = options.root.resolve()
        self._record = Record(home_of(config), self._runtime, root)
        self._place = Place(files=RootFiles(root), record=self._record)
        self._dockerd: Dockerd = dockerd_of(root, options.socket, options.pid_file)

    def run(self) -> SetupExit:
        """Raises Refused, ConfigError, OSError."""
        if not self._options.root.is_dir():
            raise Refused(f"--root {self._options.root} is no folder")
        return self._undo() if self._options.undo else self._set_up()

    # Setting up.

    def _set_up(self) -> SetupExit:
        old = self._record.load()
        if old is not None and old.state is not State.DONE:
            raise Refused(f"an earlier setup or undo was ended in the middle: finish it first: {self._words('--undo')}")
        facts = facts_of(self._runtime, self._place.files.root, self._dockerd, self._options.runtime_version)
        gateway = gateway_from(self._config, self._wish, old.urls if old is not None else ())
        plan = plan_for(self._wish, gateway, facts, self._place.files)
        for reason in plan.reasons:
            self._out.say(f"- {reason}")
        for text in plan.notes:
            self._out.say(f"- note: {text}")
        if not plan.writes:
            self._out.say(f"\nnothing to change: {self._runtime.value} is set up for {gateway.url} already")
            return max(self._in_use(gateway, plan), self._verified(gateway, plan))
        for write in plan.writes:
            self._out.say("\n" + difference(write.path, self._place.files.read(write.path), write.content))
        self._out.say("")
        then = Consequences(commands=plan.commands, reloads=plan.reloads, restarts=plan.restarts)
        self._say_consequences(then)
        if (said := self._confirmed()) is not None:
            return said
        with self._record.locked():
            if self._record.load() != old or plan_for(self._wish, gateway, facts, self._place.files) != plan:
                raise Refused("the files have changed since they were shown: run this again; nothing was changed")
            try:
                journal = carry_out(plan, self._wish, gateway.url, facts, self._place, old)
            except OSError as error:
                self._roll_back(old, error)
            self._out.say(f"written: {', '.join(write.path for write in plan.writes)}")
            self._out.say(f"what was there before is kept in {self._record.folder}; back to it: {self._words('--undo')}")
            told = self._tell(then, gateway.url, wanted=True)
            # Only now: a setup that was killed before it told the runtime is not one.
            finish(journal, self._place)
        return max(told, self._verified(gateway, plan))

    def _in_use(self, gateway: Gateway, plan: Plan) -> SetupExit:
        """Whether a running dockerd goes by what is written already."""
        if self._runtime is not Runtime.DOCKER or self._dockerd.uses(gateway.url, plan.mode) is not False:
            return SetupExit.DONE
        step = "systemctl reload docker" if plan.mode is Mode.MIRROR else "systemctl restart docker, when it suits"
        self._out.say(as_text([wrong("docker", "dockerd does not go by it yet", step)]))
        return SetupExit.NOT_VERIFIED

    def _roll_back(self, old: Journal | None, error: OSError) -> NoReturn:
        """Leave nothing half done where that can still be had. Raises Refused."""
        who = "; run it as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        why = f"{error.filename or 'a file'} cannot be written: {error.strerror}{who}"
        begun = self._record.load()
        if old is None and begun is not None:
            try:
                take_back(begun, judge(begun, self._place), self._place)
            except (OSError, Refused):
                raise Refused(f"{why}; what was done of it is taken back by {self._words('--undo')}") from None
        if old is None:
            self._record.forget()
            raise Refused(f"{why}; nothing was changed")
        raise Refused(f"{why}; what was done of it is taken back by {self._words('--undo')}")

    def _verified(self, gateway: Gateway, plan: Plan) -> SetupExit:
        asked = Asked(runtime=self._runtime, mode=plan.mode, registries=plan.registries)
        found = verify(self._config, gateway, asked, self._place.files)
        self._out.say(as_text(found))
        return _exit(found)

    # Undoing.

    def _undo(self) -> SetupExit:
        journal = self._record.load()
        if journal is None:
            self._out.say(f"nothing to undo: no setup of {self._runtime.value} is remembered in {self._record.folder}")
            return SetupExit.DONE
        judged = judge(journal, self._place)
        edited = [each for each in judged if each.fate is Fate.EDITED]
        if edited and not self._options.keep_edited:
            raise Refused(self._about_edited(edited))
        ours = [each for each in judged if each.fate is Fate.OURS]
        for each in ours:
            self._out.say(difference(each.entry.path, each.now, each.before) + "\n")
        for each in edited:
            self._out.say(f"{each.entry.path} stays as it is (--keep-edited)")
        # An undo that was killed may have come as far as the files, and not to what follows.
        counts = bool(ours) or journal.state is not State.DONE
        then = Consequences(
            commands=journal.commands if counts else (),
            reloads=journal.reloads and counts,
            restarts=journal.restarts if counts else "",
        )
        self._say_consequences(then)
        if (said := self._confirmed()) is not None:
            return said
        with self._record.locked():
            if self._record.load() != journal or judge(journal, self._place) != judged:
                raise Refused("the files have changed since they were shown: run this again; nothing was changed")
            found: list[Finding] = []
            if then.reloads and self._dockerd.pid is not None:
                journal, found = self._let_go(journal, ours)
                then = replace(then, reloads=not found)
            left = take_back(journal, judged, self._place)
            for folder in left:
                self._out.say(f"{folder} was made by setup and stays: something else is in it")
            self._out.say(f"undone: {', '.join(each.entry.path for each in ours) or 'nothing was left of it'}")
            told = self._tell(then, journal.urls[-1], wanted=False, found=found)
            if edited:
                self._out.say(f"what was there before setup is kept in {self._record.retire()}")
            else:
                self._record.forget()
        return told

    def _let_go(self, journal: Journal, ours: list[Judged]) -> tuple[Journal, list[Finding]]:
        """Have a running dockerd forget a mirror that its file will not name any more. No finding: it needs no help."""
        path = journal.wish.config_file or CONFIG_FILE
        for each in ours:
            if each.entry.path == path and (between := without_mirrors(each.before, path)) is not None:
                journal = write_between(journal, each, between, self._place)
                return journal, [self._reloaded(journal.urls[-1], wanted=False)]
        return journal, []

    def _about_edited(self, edited: list[Judged]) -> str:
        lines = ["not undone, and nothing was changed: what somebody has changed since setup would be lost."]
        for each in edited:
            path = each.entry.path
            then = self._record.kept(copy_name(path), when="after")
            lines.append(f"\n{path}, since setup:\n{difference(path, then, each.now) or '(its mode or owner)'}")
            lines.append(f"to be taken out by hand:\n{difference(path, then, each.before)}")
        lines.append(
            f"\neither put these files back to what setup wrote (copies: {self._record.folder / 'after'}) and undo again, "
            f"or take the lines out by hand and run: {self._words('--undo --keep-edited')}"
        )
        return "\n".join(lines)

    # Both.

    def _say_consequences(self, then: Consequences) -> None:
        for command in then.commands:
            self._out.say(f"then run: {' '.join(command)}")
        if then.reloads:
            self._out.say("then dockerd reads its settings again (SIGHUP): no restart, no container stops")
        if then.restarts:
            will = "it is restarted (--restart)" if self._options.restart else "restart it yourself, or say --restart"
            self._out.say(f"{then.restarts} must be restarted before this counts: {will}")
        if then == Consequences():
            self._out.say("read at each pull: nothing is reloaded or restarted")

    def _confirmed(self) -> SetupExit | None:
        """None: go on."""
        if self._options.yes:
            return None
        if self._out.ask is None:
            self._out.say("nothing was changed: nobody is there to be asked; --yes does it without asking")
            return SetupExit.NOT_CONFIRMED
        try:
            answer = self._out.ask("do it? [y/N] (--yes: without asking) ")
        except (EOFError, KeyboardInterrupt):
            answer = ""
        if answer.strip().lower() in ("y", "yes"):
            return None
        self._out.say("nothing was changed")
        return SetupExit.NOT_CONFIRMED

    def _tell(self, then: Consequences, url: str, *, wanted: bool, found: Iterable[Finding] = ()) -> SetupExit:
        """Make the runtime take it over, and see that it has. `found`: what was told it before."""
        found = list(found)
        root = self._place.files.root
        here = root == Path("/")
        if here:
            found += [wrong("command", text, "run it by hand") for text in run_commands(then.commands)]
        elif then.commands:
            words = "; ".join(" ".join(command) for command in then.commands)
            found.append(note("command", f"not run in {root}", f"run it there: {words}"))
        waits = False
        if then.restarts and self._options.restart and here:
            failed = run_commands(restart_commands(then.restarts))
            step = f"see journalctl -u {then.restarts}; back to before: {self._words('--undo')}"
            found += [wrong("restart", text, step) for text in failed] or [ok("restart", f"{then.restarts} was restarted")]
        else:
            if then.reloads:
                found.append(self._reloaded(url, wanted=wanted))
            if then.restarts:
                waits = True
                step = f"systemctl restart {then.restarts}, when it suits"
                found.append(note("restart", f"{then.restarts} goes by its old settings until it is restarted", step))
        if found:
            self._out.say(as_text(found))
        return SetupExit.NOT_VERIFIED if waits and wanted else _exit(found)

    def _reloaded(self, url: str, *, wanted: bool) -> Finding:
        """Only mirrors are taken over by a reload."""
        try:
            if not self._dockerd.reload():
                return note("reload", "no dockerd runs here: it reads its settings when it starts", "nothing to do")
        except OSError as error:
            return wrong("reload", f"dockerd cannot be told: {error.strerror}", "systemctl reload docker")
        match self._dockerd.has_taken_over(url, Mode.MIRROR, wanted=wanted):
            case True:
                return ok("reload", f"dockerd {'uses' if wanted else 'uses no longer'} {url}")
            case False:
                return wrong(
                    "reload",
                    f"dockerd has not taken it over ({url})",
                    f"its reason: journalctl -u docker; back: {self._words('--undo')}",
                )
            case None:
                return note("reload", "dockerd was told; its API does not say whether it has", "docker info shows its mirrors")

    def _words(self, more: str) -> str:
        root = "" if self._place.files.root == Path("/") else f" --root {self._place.files.root}"
        home = f" --workHome {self._config.work_home}" if self._config.work_home else ""
        return f"dfdaemon setup {self._runtime.value}{root}{home} {more}"


def _exit(found: list[Finding]) -> SetupExit:
    is_wrong = any(each.grade is Grade.WRONG for each in found)
    return SetupExit.NOT_VERIFIED if is_wrong else SetupExit.DONE


def run(options: Options, config: GatewayConfig, out: Terminal) -> SetupExit:
    """The whole command, its refusals said. Never raises for what a user can put right."""
    try:
        return Setup(options, config, out).run()
    except Refused as error:
        out.say(f"dfdaemon setup: {error}")
    except OSError as error:
        out.say(f"dfdaemon setup: {error}; run it again when that is put right")
    except ConfigError as error:
        out.say(f"dfdaemon: {error}")
    return SetupExit.REFUSED
