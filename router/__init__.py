"""The EBaaS callback router."""

from __future__ import annotations

from pathlib import Path

#: The release that this is, or the next one with `.dev0`. The build reads this line.
__version__ = "0.4.0.dev0"


def _commit(folder: Path) -> str:
    """Return the commit that a checkout at `folder` is at, or `""` if there is no checkout.

    Read from git's log of HEAD: a start runs no other program.
    """
    try:
        git = folder / ".git"
        if git.is_file():  # a worktree's names its folder
            git = folder / git.read_text().removeprefix("gitdir:").strip()
        return (git / "logs" / "HEAD").read_text().splitlines()[-1].split()[1]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""


if __version__.endswith(".dev0") and (_at := _commit(Path(__file__).parent.parent)):
    __version__ = f"{__version__}+g{_at[:9]}"
