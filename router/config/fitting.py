"""Decides for each file alone whether its new text takes effect.

The set in force has one text of each file. After an edit, `fit` finds the changes that take effect;
removing a file is a change too. `check`, a start and a reload all call it:

1. A file that is wrong by itself, or cannot be read, keeps its text in force. If that is
   routes.yaml, nothing changes: its settings are everybody's.
2. The other changes are applied together. A change with a fault is undone, and the changes related
   to it are judged again, until no change has a fault. So changes that need each other (a target
   gets another name, and a route uses it) take effect together, whatever is wrong elsewhere.
3. The undone changes are tried again, one after the other, then from step 2 together, until nothing
   more fits.

Each fault has one change to blame, so that no team pays for another one's edit:

- A route uses a target that does not exist or that it may not use: the change that brought the use.
  If the use is in force, the change that removed the target, gave it to another owner or ended its
  `share`.
- Two files have one name: the file that does not have it in force; of two new ones the later.
- An address that `egress` excludes: the change that brought it; if it is in force, routes.yaml.

Files are in a fixed order, routes.yaml first, so equal texts give equal results. A change is
compared only with the files that share names with it, and its file is parsed once, and once more
in its old text if the whole does not fit: the work is linear in the files that changed, as long as
few of them need a second round.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from router.config.checks import EVERYBODY
from router.config.document import Problems, Steps, did_you_mean, shown
from router.config.files import Link, Part, named
from router.model.errors import Problem
from router.net.egress import ANYWHERE


class Blame(NamedTuple):
    """A fault that a change is to blame for; its place is as for `Part.report`."""

    path: Steps
    message: str
    at: Steps = ()
    key: bool = False


class FileRefusal(NamedTuple):
    """A file whose text on disk is not in force. Without a problem it waits for routes.yaml."""

    owner: str
    problems: tuple[Problem, ...]


def fit(
    before: Mapping[str, Part], after: Mapping[str, Part]
) -> tuple[Collection[Part], dict[str, FileRefusal]]:
    """Apply the changes from the files in force to those on disk, as far as they fit. Return the
    files that are in force then, and the refused ones by name.

    The files are by name, and an unchanged file is the same Part in both. With nothing in force, a
    file that is wrong by itself stands for its text in force: no other file is blamed for it.
    """
    wrong = {name for name, part in after.items() if part.problems}
    is_stuck = any(after[name].is_common for name in wrong)
    changes = _Changes(before or {name: after[name] for name in wrong}, after)
    pending = [] if is_stuck else [name for name in changes.names if name not in wrong]
    while pending:
        taken = changes.together(pending)
        taken = taken or {name for name in pending if changes.together([name])}
        if not taken:
            break
        pending = [name for name in pending if name not in taken]
    refused = sorted(wrong.union(changes.names if is_stuck else pending))
    if not refused:
        return changes.parts.values(), {}
    on_disk = _Changes(before, after)
    on_disk.explains = changes.explains = True
    for name in on_disk.names:
        part = after.get(name)
        on_disk.put(name, before.get(name, part) if part and part.hides_targets else part)
    problems = {name: changes.explain(name, on_disk, is_stuck=is_stuck) for name in refused}
    return changes.parts.values(), problems


def fits(parts: Collection[Part]) -> bool:
    """Return whether a set has no problem, if every file is new."""
    whole = _Changes({}, {part.name: part for part in parts})
    for part in parts:
        whole.put(part.name, part)
    return not any(part.problems or any(whole.faults(part.name)) for part in parts)


class _Changes:
    """The changes between two sets of files, and the set that is made of both."""

    def __init__(self, before: Mapping[str, Part], after: Mapping[str, Part]) -> None:
        self._before = dict(before)
        self._after = after
        #: The set. At first it is the one in force.
        self.parts: dict[str, Part] = {}
        self._common: Part | None = None
        self._by_link: defaultdict[Link, dict[str, Part]] = defaultdict(dict)
        self._targets = 0
        #: The targets that an owner may use, for guesses: others' names are none of their business.
        self._known: dict[tuple[str, bool], set[str]] = {}
        #: Files whose targets are unknown: any target might be in one of them.
        self._hiding: set[str] = set()
        #: True while refused files are explained; and then perhaps all files on disk.
        self.explains = False
        self._on_disk: _Changes | None = None
        for name, part in before.items():
            self.put(name, part)
        changed = (name for name in {*before, *after} if before.get(name) is not after.get(name))
        #: The names of the changed files, in order.
        self.names = sorted(changed, key=lambda name: (after.get(name) or before[name]).order)
        self._place = {name: place for place, name in enumerate(self.names)}
        #: The changed files by what either of their texts names.
        self._naming: defaultdict[str, set[str]] = defaultdict(set)
        for name in self.names:
            for bare in self._names_in(name):
                self._naming[bare].add(name)

    def _names_in(self, file: str) -> set[str]:
        texts = (self._before.get(file), self._after.get(file))
        return {bare for part in texts for _, bare in _links_of(part)}

    def put(self, name: str, part: Part | None) -> None:
        """Replace a file of the set; None removes it."""
        old = self.parts.pop(name, None)
        self._known = {}
        self._hiding.discard(name)
        for link in _links_of(old):
            del self._by_link[link][name]
            self._targets -= link[0] == "target"
        if part is not None:
            self.parts[name] = part
            for link in part.links:
                self._by_link[link][name] = part
                self._targets += link[0] == "target"
            if part.hides_targets:
                self._hiding.add(name)
        if any(one is not None and one.is_common for one in (old, part)):
            self._common = part

    def together(self, pending: Sequence[str]) -> set[str]:
        """Apply these changes, and undo those with faults. Return the rest, now in force."""
        taken = {*pending}
        for name in pending:
            self.put(name, self._after.get(name))
        queue = deque(pending)
        while queue:
            name = queue.popleft()
            if name in taken and any(self.faults(name)):
                taken.remove(name)
                self.put(name, self._before.get(name))
                queue += sorted(taken & self._related(name), key=self._place.__getitem__)
        self._before.update({name: self.parts[name] for name in taken if name in self.parts})
        return taken

    def _related(self, undone: str) -> set[str]:
        """Return the changes that may have another fault once this one is undone. `share` and
        `egress` of routes.yaml are about all files."""
        texts = (self._before.get(undone), self._after.get(undone))
        if not self._targets or any(part is not None and part.is_common for part in texts):
            return {*self.names}
        related = {name for bare in self._names_in(undone) for name in self._naming[bare]}
        return {*related, self.names[0]}  # routes.yaml, if it is changed

    def explain(self, name: str, on_disk: _Changes, *, is_stuck: bool) -> FileRefusal:
        """Explain a refused file by its faults among the files on disk. If it has none there, it
        depends on another refused change, and has faults in the set."""
        part, faults = self._after.get(name), [*on_disk.faults(name)]
        if not (faults or is_stuck or (part and part.problems)):
            self._on_disk = on_disk
            self.put(name, part)
            faults = [*self.faults(name)]
            self.put(name, self._before.get(name))
        problems, before = part.problems if part else Problems(name), self._before.get(name)
        if before is not None and (part is None or part.tree is None):
            problems.owner = before.owner
        for fault in faults:
            if part is not None:
                part.report(fault.path, fault.message, at=fault.at, key=fault.key)
            else:
                problems.add(fault.message)
        return FileRefusal(problems.owner, problems.in_order())

    # Faults.

    def faults(self, name: str) -> Iterator[Blame]:
        """Iterate over the faults for which the change of this file is to blame."""
        old, new = self._before.get(name), self.parts.get(name)
        if old is new:
            return
        if not (self._targets or self._hiding) and _had_targets(old, new):
            yield Blame((), "no file has a target")
        if new is not None:
            yield from self._claims(new)
            yield from self._uses(new, old)
            yield from self._addresses(new, old)
        if old is not None:
            yield from self._withdrawn(old, new)

    def _claims(self, new: Part) -> Iterator[Blame]:
        """Find targets and routes whose name another file has with more right."""
        for name in new.values.get("targets") or ():
            if (other := self._rightful(("target", name), new)) is not None:
                message = f"{other.name} has a target of this name already"
                yield Blame(("targets", name), message, key=True)
        for at, route in new.routes():
            name = route.get("name")
            if name and (other := self._rightful(("route", name), new)) is not None:
                position = next(at for at, one in other.routes() if one.get("name") == name)
                place = f"{other.name}:{other.line('routes', position, 'name')}"
                message = f"the route in {place} has this name already"
                yield Blame(("routes", at, "name"), message)

    def _rightful(self, link: Link, new: Part) -> Part | None:
        """Return another file that has this name in force, or is earlier if neither has it."""

        def rank(part: Part) -> tuple[bool, tuple[bool, Path]]:
            return link not in _links_of(self._before.get(part.name)), part.order

        others = (part for part in self._by_link[link].values() if part is not new)
        return next((part for part in others if rank(part) < rank(new)), None)

    def _uses(self, new: Part, old: Part | None) -> Iterator[Blame]:
        """Find uses of targets that the file may not use, unless the use is in force."""
        for at, route in new.routes():
            seen = set()
            for key, position, target in named(route):
                is_new = target not in seen and not _is_used(target, old, new)
                seen.add(target)
                if is_new and not self._may_use(new, target):
                    path = ("routes", at, key)
                    message = self._describe_use(new, target, (*path, position))
                    yield Blame(path, message, at=(position,))

    def _may_use(self, user: Part, target: str) -> bool:
        owners = {part.owner for part in self._by_link[("target", target)].values()}
        if not owners:
            return bool(self._hiding)
        share = _share_of(self._common).get(target) or ()
        return (
            user.is_common
            or not owners.isdisjoint({"", user.owner})
            or not {user.owner, EVERYBODY}.isdisjoint(share)
        )

    def _describe_use(self, user: Part, target: str, path: Steps) -> str:
        if not self.explains:
            return ""  # guesses take time
        written = shown(user.text(*path))
        for holder in self._by_link[("target", target)].values():
            who = shown(user.owner) if user.owner else "a file without an owner"
            common = self._common.name if self._common else "routes.yaml"
            return (
                f"{written} is the target of {shown(holder.owner)}: "
                f"`share` in {common} can let {who} use it"
            )
        if self._on_disk and (having := self._on_disk.having(target)):
            return f"no target {written} is in force: it is in {having}, which is refused"
        about = user.owner, user.is_common
        if about not in self._known:
            names = [
                name for (kind, name), parts in self._by_link.items() if kind == "target" and parts
            ]
            self._known[about] = {name for name in names if self._may_use(user, name)}
        return f"no target {written}{did_you_mean(user.reader.likely(target, self._known[about]))}"

    def having(self, target: str) -> str:
        """Return the file that has a target, or might; `""` for none."""
        return min(self._by_link[("target", target)] or self._hiding, default="")

    def _addresses(self, new: Part, old: Part | None) -> Iterator[Blame]:
        """Find addresses that `egress` excludes, unless they are in force."""
        for target, host, why in self._excluded(new):
            if new.is_common or not _has_address(target, old, new):
                message = f"{host} is {why}, and egress allows no other"
                yield Blame(("targets", target, "url"), message)

    def _excluded(self, part: Part) -> Iterator[tuple[str, str, str]]:
        egress = self._common.egress if self._common else ANYWHERE
        for target, (_, host, address) in part.addresses.items():
            if why := egress.refusal(str(address)):
                yield target, host, why

    def _withdrawn(self, old: Part, new: Part | None) -> Iterator[Blame]:
        """Find uses and addresses in force in other files that the change rules out."""
        gone = {name for kind, name in old.links if kind == "target"}
        if new is not None and new.owner == old.owner:
            gone -= {name for kind, name in new.links if kind == "target"}
        if old.is_common and new is not None:
            before, after = _share_of(old), _share_of(new)
            gone |= {name for name in before if before[name] != after.get(name)}
            yield from self._excluded_elsewhere(old, new)
        for target in sorted(gone):
            for user in [*self._by_link[("use", target)].values()]:
                in_force = self._before.get(user.name)
                if (
                    user.name != old.name
                    and _is_used(target, in_force, user)
                    and not self._may_use(user, target)
                ):
                    yield Blame((), _still_used(target, user))

    def _excluded_elsewhere(self, old: Part, new: Part) -> Iterator[Blame]:
        for part in self.parts.values() if old.egress != new.egress else ():
            for target, host, _ in self._excluded(part):
                if part is not new and _has_address(target, self._before.get(part.name), part):
                    where = f"the address of {shown(target)} in {part.name}"
                    yield Blame((), f"egress excludes {host}, {where}")


def _links_of(part: Part | None) -> Collection[Link]:
    return part.links if part is not None else ()


def _had_targets(old: Part | None, new: Part | None) -> bool:
    """Return whether a change may have removed the last target, or brings a first routes.yaml."""
    if old is None:
        return new is not None and new.is_common
    return any(kind == "target" for kind, _ in old.links)


def _is_used(target: str, before: Part | None, after: Part) -> bool:
    """Return whether a use of another file's target is in force already, by the same owner."""
    if before is None or before.owner != after.owner or ("target", target) in before.links:
        return False
    return ("use", target) in before.links


def _has_address(target: str, before: Part | None, after: Part) -> bool:
    """Return whether a target's address is in force already."""
    known = before.addresses.get(target) if before is not None else None
    return known == after.addresses[target]


def _share_of(common: Part | None) -> Mapping[str, Collection[str | None]]:
    return (common.values.get("share") if common is not None else None) or {}


def _still_used(target: str, user: Part) -> str:
    at = next(at for at, route in user.routes() if any(name == target for *_, name in named(route)))
    owner = f" ({user.owner})" if user.owner else ""
    where = f"{user.name}:{user.line('routes', at)}"
    return f"the route in {where}{owner} still uses the target {shown(target)}"
