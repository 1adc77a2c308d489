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
from router.cli.printing import Progress, counted, few, note, say, say_as
from router.cli.remote import Remote, RemoteProblem, here, opened, read_archive, read_url
from router.cli.trace import add_search
from router.model.errors import SettingInvalid
from router.store.admin import STEP, Step, Verb

ARCHIVE = Help(
    about="""Works on the archive of a router. `list` and `replay` ask the router that runs on this
    machine, or the one at --url; `export` reads the archive's files here.""",
    verbs={
        "list": "Shows from when to when the archive reaches, and what it has.",
        "export": """Prints events as they came, one a line, each once and the oldest first, as
        `diff --events` reads them; `send -` takes one of the lines.""",
        "replay": """Queues past events for one target, under the same webhook-id: for a team that
        has restored its database, or, with --backfill, for one that joins late. A running router
        sends them within its limits. If it is stopped and run again within a day, it continues. The
        target may get events again that it has.""",
    },
    examples="""
        ebaas-router archive list
        ebaas-router archive export --match 'a.gs.*' --since 3h >events.jsonl
        ebaas-router archive replay --target ledger --match 'a.gs.*' --since 3h --rate 20/s
        ebaas-router archive replay --target new-team --backfill --since 2d --yes""",
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
    **dict.fromkeys(("match", "since", "until", "target"), ("export", "replay")),
    **dict.fromkeys(("code", "failed", "limit"), ("export",)),
    **dict.fromkeys(("rate", "backfill", "anew", "dry_run", "yes", "who"), ("replay",)),
}


def configure_archive(parser: Parser) -> None:
    parser.add_verb(_ONLY)
    which = parser.group("which events (export, replay)")
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
        heed_ctrl_c()
        with opened(args, needs="both") as router:
            return _replay(router, args)
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
        if event.body is None:
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


def _replay(router: Remote, args: argparse.Namespace) -> int:
    if not args.target or len(args.target) != 1:
        raise SettingInvalid("replay to which target? One of them: --target NAME")
    if args.match is None and args.since is None:
        raise SettingInvalid("replay which events? --since TIME, or --match '*' for all")
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
    if not work.do(_steps(router, target, preview["token"], args.rate or RATE)):
        return Exit.BAD
    action = {**preview["action"], **preview["left_out"]}
    work.report(action, _left_alone(work, args), "to go on")
    if preview["damage"]:
        note(f"{preview['damage']}: there may be more events than these")
    return Exit.BAD if work.trouble or preview["damage"] else Exit.GOOD


def _body(target: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the selected events in the form of the API."""
    body: dict[str, Any] = {"target": target}
    if args.match:
        body["match"] = [keys.pattern for keys in args.match]
    for name in ("since", "until"):
        if (moment := getattr(args, name)) is not None:
            body[name] = moment.words
    return {**body, **{name: True for name in ("backfill", "anew") if getattr(args, name)}}


def _preview(target: str, is_backfill: bool, preview: Any) -> Iterator[str]:
    span, left_out = "", preview["left_out"]
    if preview["number"]:
        span = f", from {preview['first']} to {preview['last']}"
    which = "that it was in no plan of" if is_backfill else "that it was in the plan of"
    yield f"{counted(preview['number'], 'event')} for {target} {which}{span}"
    if number := left_out["without_body"]:
        yield f"{counted(number, 'event')} without a body, left out"
    if number := left_out["targets_cut"]:
        yield f"{counted(number, 'event')} whose line has not all targets, left out"
    if number := left_out["no_event"]:
        yield f"{counted(number, 'line')} that the router can't have written, left out"


def _steps(router: Remote, target: str, token: str, rate: float) -> Iterator[Step]:
    """Queue events step by step, so many a second."""
    body = {"token": token, "most": max(1, min(STEP, int(rate)))}
    due, has_more = time.monotonic(), True
    while has_more:
        time.sleep(max(0.0, due - time.monotonic()))
        done = _step(router, target, body)
        has_more = done["more"]
        due = max(due, time.monotonic()) + done["taken"] / rate
        yield Step(done["taken"], done["changed"])


def _step(router: Remote, target: str, body: dict[str, Any]) -> Any:
    """Queue at least one event. If the target's share of the store is full, wait for room."""
    for waited in range(int(_PATIENCE / _AGAIN)):
        done = router.post("/archive/replay", body, _LOOK_THROUGH)
        if done["taken"] or not done["is_full"]:
            return done
        if waited == 0:
            note(f"waiting: {target}'s share of the store is full")
        time.sleep(_AGAIN)
    raise RemoteProblem(f"{target}'s share of the store is full")


def _left_alone(work: Work, args: argparse.Namespace) -> Iterator[str]:
    if args.dry_run and work.number:
        yield "at most: deliveries that EBaaS or the queue is still retrying are left alone"
    if left := work.taken - work.changed:
        yield f"{left:,} left alone: still being retried, or already replayed by this command"
