"""`archive`: lists, exports and replays events that were handled."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from router.cli.deliveries import Work, add_acting, add_match, note_removed, require_targets
from router.cli.options import (
    URL_VARIABLE,
    Exit,
    Help,
    Parser,
    check_times,
    heed_ctrl_c,
    matching,
    require_target,
)
from router.cli.printing import Progress, columns, counted, few, note, say, say_as, when
from router.cli.remote import Remote, RemoteProblem, here, opened, read_archive, read_url
from router.cli.trace import add_search, format_fault
from router.config.document import shown
from router.model.errors import SettingInvalid
from router.store.admin import STEP, Step, Verb

ARCHIVE = Help(
    about="""Works on the archive of a router. `list` and `replay` ask the router that runs on this
    machine, or the one at --url; `export` reads the archive's files here.""",
    verbs={
        "list": """Shows the period that the archive covers, and its counts. With --refused it shows
        callbacks that were answered 400, or 500 since no route matched, by fault and key.""",
        "export": """Prints events as they came, one a line, each once and the oldest first, as
        `diff --events` reads them; `send -` takes one of the lines.""",
        "replay": """Queues past events for one target, under the same webhook-id: for a team that
        has restored its database, or, with --backfill, for one that joins late. A running router
        sends them within its limits. If it is stopped and run again within a day, it continues. The
        target may get events that it has already. With --refused it queues refused callbacks that
        the schema and the routes accept by now, for all of their targets, each at most once.""",
    },
    examples="""
        ebaas-router archive list
        ebaas-router archive export --match 'a.gs.*' --since 3h >events.jsonl
        ebaas-router archive replay --target ledger --match 'a.gs.*' --since 3h --rate 20/s
        ebaas-router archive replay --target new-team --backfill --since 2d --yes
        ebaas-router archive list --refused
        ebaas-router archive replay --refused --match 'a.gs.*'""",
    good="done, or there was nothing to do",
    bad="the answer was no, it stopped half-way, or the archive is damaged",
    not_started="the archive, the store or the router is missing or can't be used",
    interrupted="Ctrl-C ended it; what is done stays done",
)

#: How many events a second are replayed by default.
RATE = 20.0

#: Events per second.
parse_rate = matching(
    r"(?!0+(\.0+)?/)[0-9]{1,6}(\.[0-9]{1,3})?/s",
    "a rate (like 20/s, 0.5/s)",
    lambda text: float(text.removesuffix("/s")),
)

#: The longest search of the router in its archive, in seconds.
_LOOK_THROUGH = 600.0

#: How long a replay waits for room in the store, and between two tries, in seconds.
_PATIENCE, _AGAIN = 60.0, 1.0

#: The options that only some verbs have.
_ONLY = {
    **dict.fromkeys(("url", "token_file", "ca"), ("list", "replay")),
    **dict.fromkeys(("match", "since", "until"), ("list", "export", "replay")),
    **dict.fromkeys(("target",), ("export", "replay")),
    **dict.fromkeys(("code", "failed", "limit"), ("export",)),
    **dict.fromkeys(("refused",), ("list", "replay")),
    **dict.fromkeys(("rate", "backfill", "anew", "dry_run", "yes", "who"), ("replay",)),
}


def configure_archive(parser: Parser) -> None:
    parser.add_verb(_ONLY)
    which = parser.group("which events")
    which.switch("--refused", "callbacks that were refused, or that no route matched")
    add_match(which)
    add_search(which, "export: ")
    acting = parser.group("acting (replay)")
    acting.option("--rate", "RATE", f"so many events (default {RATE:g}/s)", parse_rate)
    acting.switch("--backfill", "events not for the target")
    acting.switch("--anew", "don't continue a stopped replay")
    add_acting(acting)
    parser.archive()
    parser.router()


def run_archive(args: argparse.Namespace) -> int:
    check_times(args)
    if not all((*(args.target or ()), *(args.code or ()))):
        raise SettingInvalid("an argument is empty")
    if args.verb == "export":
        return _export(args)
    if args.verb == "replay":
        _check_replay(args)
        heed_ctrl_c()
        with opened(args, needs="both") as router:
            return _replay_refused(router, args) if args.refused else _replay(router, args)
    if args.refused:
        with opened(args, needs="archive") as router:
            return _list_refused(router, args)
    if any(given is not None for given in (args.match, args.since, args.until)):
        raise SettingInvalid("--match, --since and --until are for export, replay and --refused")
    with opened(args, needs="archive") as router:
        inventory = router.get("/archive")
    say_as(args.format, [inventory], _format_inventory(inventory))
    if inventory["damage"]:
        note(f"{inventory['damage']}: there is more than this")
    return Exit.BAD if inventory["damage"] else Exit.GOOD


def _format_inventory(inventory: Any) -> Iterator[str]:
    """Yield the members of the JSON, a line each."""
    if inventory["first"] is None:
        yield "the archive is empty"
        return
    for name in ("first", "last", "requests", "bodies", "size", "text", "segments"):
        number = inventory[name]
        yield f"{name:<10}{number if isinstance(number, str) else f'{number:,}'}"
    for name in ("codes", "targets", "later"):
        counts = sorted(inventory[name].items(), key=itemgetter(1), reverse=True)
        yield f"{name:<10}" + few([f"{of or 'gone'} {count:,}" for of, count in counts if count])


# Export: the files of this machine.


def _export(args: argparse.Namespace) -> int:
    from router.archive.reading import Question, Sources
    from router.archive.trace.replay import events

    if args.archive is None and read_url(args) is not None:
        raise SettingInvalid(
            f"{URL_VARIABLE} names a router, and export works on an archive of this machine: "
            "unset it, or name the archive by --archive"
        )
    with here(args, "archive") as router:
        require_targets(router, args.target or ())
    folder = read_archive(args)
    assert folder is not None
    question = Question(
        keys=tuple(args.match or ()),
        since=args.since,
        until=args.until,
        targets=tuple(args.target or ()),
        codes=tuple(args.code or ()),
        failed=args.failed,
    )
    left, without = args.limit or sys.maxsize, 0
    sources = Sources(folder, Progress("looked through"), note)
    for event in events(sources, question):
        if event.body is None or event.clipped:
            without += 1
            continue
        if left == 0:
            break
        left -= 1
        # Line breaks stand between a body's members; within its texts they are escaped.
        say(event.body.replace("\r", " ").replace("\n", " "))
    if without:
        note(f"{counted(without, 'event')} left out: without a body")
    if sources.damage:
        note(f"{sources.damage}: there may be more events than these")
    return Exit.BAD if sources.damage else Exit.GOOD


# Replay: counted, confirmed, and queued step by step at a rate.


def _check_replay(args: argparse.Namespace) -> None:
    """Raises SettingInvalid."""
    if args.refused and (args.target or args.backfill or args.anew):
        raise SettingInvalid("--refused goes to all targets of the routes, each at most once")
    if not args.refused and (not args.target or len(args.target) != 1):
        raise SettingInvalid("replay to which target? One of them: --target NAME")
    if not args.refused and args.match is None and args.since is None:
        raise SettingInvalid("replay which events? --since TIME, or --match '*' for all")


def _replay(router: Remote, args: argparse.Namespace) -> int:
    target = args.target[0]
    if args.backfill:
        # Anything queued for another target would become a dead letter.
        require_target(target, router.targets() or (), router.routes)
    require_targets(router, [target])
    note_removed(router, [target])
    body = {**_body(target, args), "dry_run": True}
    preview = router.post("/archive/replay", body, _LOOK_THROUGH)
    if preview["before"]:
        note(preview["before"])
    work = Work(Verb.REPLAY, preview["number"], args)
    if args.format == "text":
        say(*_preview(target, args.backfill, preview))
    if not work.do(_steps(router, "/archive/replay", preview["token"], args.rate or RATE)):
        return Exit.BAD
    action = {**preview["action"], **preview["left_out"]}
    work.report(action, _left_alone(work, args), "to go on")
    if preview["damage"]:
        note(f"{preview['damage']}: there may be more events than these")
    return Exit.BAD if work.trouble or preview["damage"] else Exit.GOOD


def _body(target: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the selected events in the form of the API."""
    flags = {name: True for name in ("backfill", "anew") if getattr(args, name)}
    return {"target": target, **_which(args), **flags}


def _which(args: argparse.Namespace) -> dict[str, Any]:
    """Return the selection by keys and times in the form of the API."""
    body: dict[str, Any] = {}
    if args.match:
        body["match"] = [keys.pattern for keys in args.match]
    for name in ("since", "until"):
        if (moment := getattr(args, name)) is not None:
            body[name] = moment.words
    return body


def _preview(target: str, is_backfill: bool, preview: Any) -> Iterator[str]:
    span, left_out = "", preview["left_out"]
    if preview["number"]:
        span = f", from {preview['first']} to {preview['last']}"
    planned = "not planned" if is_backfill else "planned"
    yield f"{counted(preview['number'], 'event')} {planned} for {target}{span}"
    if number := left_out["without_body"]:
        yield f"{counted(number, 'event')} without a body, left out"
    if number := left_out["targets_cut"]:
        yield f"{counted(number, 'event')} whose line has not all targets, left out"
    if number := left_out["no_event"]:
        yield f"{counted(number, 'line')} that the router can't have written, left out"


def _steps(router: Remote, path: str, token: str, rate: float) -> Iterator[Step]:
    """Queue events step by step, so many a second."""
    body = {"token": token, "most": max(1, min(STEP, int(rate)))}
    due, has_more = time.monotonic(), True
    while has_more:
        time.sleep(max(0.0, due - time.monotonic()))
        done = _step(router, path, body)
        has_more = done["more"]
        due = max(due, time.monotonic()) + done["taken"] / rate
        yield Step(done["taken"], done["changed"])


def _step(router: Remote, path: str, body: dict[str, Any]) -> Any:
    """Queue at least one event. If the target's share of the store is full, wait for room."""
    for waited in range(int(_PATIENCE / _AGAIN)):
        done = router.post(path, body, _LOOK_THROUGH)
        if done["taken"] or not done["is_full"]:
            return done
        if waited == 0:
            note("waiting: the target's share of the store is full")
        time.sleep(_AGAIN)
    raise RemoteProblem("the target's share of the store is full")


def _left_alone(work: Work, args: argparse.Namespace) -> Iterator[str]:
    if args.dry_run and work.number:
        yield "at most: deliveries that EBaaS or the queue is still retrying are left alone"
    if left := work.taken - work.changed:
        yield f"{left:,} left alone: still being retried, or already replayed by this command"


# Refused callbacks.


def _list_refused(router: Remote, args: argparse.Namespace) -> int:
    which = _which(args)
    matches = [("match", pattern) for pattern in which.pop("match", ())]
    view = router.get("/refused", [*matches, *which.items()])
    now = router.now()
    faults = [_FAULTS, *(_fault(fault, now) for fault in view["faults"])]
    texts = columns(faults) if view["faults"] else ["no refused callbacks"]
    say_as(args.format, [view], [*texts, *_others(view)])
    return _end_refused(view)


def _others(view: Any) -> Iterator[str]:
    if view["accepted"]:
        yield f"left out, accepted since by EBaaS's own retry: {view['accepted']:,}"
    if view["unknown"]:
        yield f"left out, perhaps accepted before the archive begins: {view['unknown']:,}"


def _end_refused(view: Any) -> int:
    if view["more"]:
        note("there are more: choose fewer by --match, --since and --until")
    if view["damage"]:
        note(f"{view['damage']}: there may be more callbacks than these")
    return Exit.BAD if view["damage"] else Exit.GOOD


_FAULTS = ("callbacks", "requests", "first", "last", "code", "key", "fault, and EBaaS's retries")


def _fault(fault: Any, now: float) -> tuple[str, ...]:
    until = fault["retried_until"]
    retries = "" if until is None else f"; EBaaS retries until {until} ({when(until, now)})"
    return (
        f"{fault['callbacks']:>9,}",
        f"{fault['requests']:>8,}",
        fault["first"],
        fault["last"],
        fault["code"],
        shown(fault["event_key"]),
        format_fault(fault["why"]) + retries,
    )


def _replay_refused(router: Remote, args: argparse.Namespace) -> int:
    body = {**_which(args), "dry_run": True}
    preview = router.post("/refused/replay", body, _LOOK_THROUGH)
    work = Work(Verb.REPLAY, preview["number"], args, "callback", unasked=0)
    if args.format == "text":
        say(*_preview_refused(preview))
    steps = _steps(router, "/refused/replay", preview["token"], args.rate or RATE)
    if not work.do(steps):
        return Exit.BAD
    left = work.taken - work.changed
    lines = [f"{left:,} left alone: delivered or refused meanwhile"] if left else []
    work.report({**preview["action"], "faults": preview["faults"]}, lines, "to go on")
    code = _end_refused(preview)
    return Exit.BAD if work.trouble else code


def _preview_refused(preview: Any) -> Iterator[str]:
    """Yield what would become of the callbacks, by their faults now and by key."""
    rows = [
        (
            f"{fault['callbacks']:>6,}",
            f"still refused: {format_fault(fault['now'])}" if fault["now"] else "deliverable now",
            shown(fault["event_key"]),
            f"was {format_fault(fault['why'])}",
        )
        for fault in sorted(preview["faults"], key=lambda fault: bool(fault["now"]))
    ]
    yield from columns(rows)
    left = preview["callbacks"] - preview["number"]
    yield f"{preview['number']:,} would be delivered now, {left:,} still refused"
    if preview["replayed"]:
        yield f"left out, replayed before: {preview['replayed']:,}"
    yield from _others(preview)
