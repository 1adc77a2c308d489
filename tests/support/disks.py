"""File systems for tests, which only root may mount, and a power cut."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

#: FS_IOC_SHUTDOWN with NOLOGFLUSH: the file system stops, and everything not synced is lost.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Return a folder in memory, if possible: a slow disk would delay commits."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


class Disks:
    """Mounts below one folder. If they are impossible on this machine, the test is skipped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted = ExitStack()
        self._image = folder / "disk.img"

    def tmpfs(self, megabytes: int) -> Path:
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"]
        return self._mount(self._place("memory"), options)

    def ext4(self, megabytes: int) -> Path:
        """Mount an ext4 file system, at most one for each Disks."""
        with self._image.open("wb") as file:
            file.truncate(megabytes << 20)
        self._need("mkfs.ext4", "-q", "-F", str(self._image))
        return self._mount(self._place("disk"), ["-o", "loop", str(self._image)])

    def cut_power(self, place: Path) -> None:
        """Stop the ext4 file system, and lose everything not synced."""
        folder = os.open(place, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as error:
            pytest.skip(f"a file system can't be shut down here: {error.strerror}")
        finally:
            os.close(folder)

    def restore_power(self, place: Path) -> None:
        """Mount the content of the disk again.

        It is a copy, because the kernel would reuse the dead file system if it were still open.
        """
        _unmount(place)
        dead = self._image.replace(self._image.with_suffix(".cut"))
        shutil.copyfile(dead, self._image)
        subprocess.run(["mount", "-o", "loop", self._image, place], check=True)

    def close(self) -> None:
        self._mounted.close()

    def _place(self, name: str) -> Path:
        place = self._folder / name
        place.mkdir()
        return place

    def _mount(self, place: Path, options: list[str]) -> Path:
        self._need("mount", *options, str(place))
        self._mounted.callback(_unmount, place)
        return place

    def _need(self, *command: str) -> None:
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]} on this machine")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be made here: {done.stderr.strip()}")


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Take every byte that the folder's disk has left, while the block runs."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        filler.unlink()


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "-l", place], check=True)
