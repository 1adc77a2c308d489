"""The EBaaS callback router."""

from __future__ import annotations

from pathlib import Path

#: The release that this is, or the next one with `.dev0`. The build reads this line.
__version__ = "0.4.0.dev0"


def _commit(folder: Path) -> str:
    """Return the commit that a checkout at `folder` is at, or `""` if there is no checkout.

    Read from git's own files: a start runs no other program.
    """
    try:
        git = folder / ".git"
        if git.is_file():  # a worktree's says where it is
            git = folder / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / "commondir"
        shared = git / common.read_text().strip() if common.is_file() else git
        if (shared / name).is_file():
            return (shared / name).read_text().strip()
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except (OSError, UnicodeDecodeError):
        return ""


if __version__.endswith(".dev0") and (_at := _commit(Path(__file__).parent.parent)):
    __version__ = f"{__version__}+g{_at[:9]}"
