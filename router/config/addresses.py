"""What a target's URL may be, as far as the text alone can tell. Nothing is looked up."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

from router.config.kinds import VARIABLE, ScalarKind
from router.config.reader import Fault, Schema
from router.document import Node, ScalarNode, shown
from router.egress import is_public, never

#: The names of what is refused by its address, whatever they are looked up as.
_METADATA_NAMES = {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}

_PATTERN = r"^https?://[^/?@#\s]+([/?][^#\s]*)?$"
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")

#: Names that don't leave the house, by their last labels.
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa")


class Url(ScalarKind[str]):
    """An http(s) URL to POST to. It may hold a secret: a problem repeats its host at most."""

    what = "a URL like https://host/path"

    def value(self, text: str, node: ScalarNode) -> str:
        if len(text) > 2000 or not _URL.fullmatch(text):
            raise Fault("a URL has only ASCII and no blanks: write %20, and a host as xn--…")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise Fault("is not a URL: its host or port can't be read") from None
        if parts.scheme not in ("http", "https"):
            raise Fault("a URL has to begin with http:// or https://")
        if "@" in parts.netloc:
            raise Fault("a URL can't carry a user or password: put it in headers, as ${file:NAME}")
        if "#" in text:
            raise Fault("a URL to POST to has no fragment: take out the # and what follows")
        if not parts.hostname:
            raise Fault("the URL has no host")
        if port == 0:
            raise Fault("0 is no port to call")
        check_host(parts)
        return text

    def schema(self) -> Schema:
        message = "A URL that begins with http:// or https://."
        url = {"type": "string", "pattern": _PATTERN, "patternErrorMessage": message}
        return {"anyOf": [url, VARIABLE]}


def check_host(parts: SplitResult) -> None:
    """Raises Fault for a host that can't be, or must never be called."""
    host = (parts.hostname or "").rstrip(".")
    address = literal(host)
    if address is None:
        named = "[" not in parts.netloc and all(map(_LABEL.fullmatch, host.split(".")))
        if not named or len(host) > 253:
            raise Fault(f"{shown(host)} is no host's name or address")
        if host in _METADATA_NAMES:
            raise Fault(f"{host} is a cloud's metadata service, which must never be called")
        return
    if what := never(address):
        raise Fault(f"{host} is {what}, which must never be called")
    if isinstance(address, IPv4Address) and str(address) != host:
        raise Fault(f"{host} is an odd way to write {address}: write that")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` is, in any of the notations that connecting understands."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 0x7f.1, 2130706433, 0177.0.0.1
    except (OSError, ValueError):
        return None


def is_local(host: str) -> bool:
    """Whether a host is the machine or in the house, where plain http is no surprise."""
    host = host.rstrip(".")
    address = literal(host)
    if address is not None:
        return not is_public(address)
    return "." not in host or host.endswith(_LOCAL_NAMES)


def redacted(url: str, node: Node) -> str:
    """The URL that was read from `node`, as it may be printed.

    A query may be a secret, and so may a path that the file does not spell out: a variable's value
    has a part in it. Host and port are shown: whom the router calls is no secret.
    """
    assert isinstance(node, ScalarNode)
    parts = urlsplit(url)
    path = parts.path if parts.path in node.text else "/***"
    return f"{parts.scheme}://{parts.netloc}{path}{'?***' if parts.query else ''}"
