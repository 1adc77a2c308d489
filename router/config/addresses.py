"""What a target's URL may be, as far as the text alone can tell. Nothing is looked up."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from router.config.document import Node, ScalarNode, shown
from router.config.kinds import VARIABLE, ScalarKind
from router.config.reader import Fault, Schema
from router.config.variables import is_placeholder
from router.net.egress import is_public, never

#: The names of what is refused by its address, whatever they are looked up as.
_METADATA_NAMES = {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}

_PATTERN = r"^https?://[^/?@#\s]+([/?][^#\s]*)?$"
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
#: The one reading of where a URL leads to. What somebody might read another host or port out of
#: does not fit, and is refused.
_PLACE = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+]|[A-Za-z0-9._-]+)(?::(0|[1-9][0-9]{0,4}))?(?=[/?]|$)"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*")

#: Names that don't leave the house, by their last labels.
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa")


class Url(ScalarKind[str]):
    """An http(s) URL to POST to. It may hold a secret: a problem repeats its host at most."""

    what = "a URL like https://host/path"

    def value(self, text: str, node: ScalarNode) -> str:
        if is_placeholder(text):
            return f"https://{text}.invalid/"
        if len(text) > 2000 or not _URL.fullmatch(text):
            raise Fault("a URL has only ASCII and no blanks: write %20, and a host as xn--…")
        if not text.startswith(("http://", "https://")):
            raise Fault("a URL has to begin with http:// or https://")
        place = re.split("[/?#]", text.partition("://")[2], maxsplit=1)[0]
        if "@" in place:
            raise Fault("a URL can't carry a user or password: put it in headers, as ${file:NAME}")
        if "#" in text:
            raise Fault("a URL to POST to has no fragment: take out the # and what follows")
        if not place:
            raise Fault("the URL has no host")
        if _BAD_ESCAPE.search(text):
            raise Fault("a % has two hex digits behind it: write %25 for a % itself")
        match = _PLACE.match(text)
        port = int(match[2] or 80) if match else 0
        if match is None or port > 65535:
            raise Fault("is not a URL: its host or port can't be read")
        if port == 0:
            raise Fault("0 is no port to call")
        check_host(match[1])
        return text

    def schema(self) -> Schema:
        message = "A URL that begins with http:// or https://."
        url = {"type": "string", "pattern": _PATTERN, "patternErrorMessage": message}
        return {"anyOf": [url, VARIABLE]}


def check_host(written: str) -> None:
    """Raises Fault for a host that can't be, or must never be called; an IPv6 one has brackets."""
    host = written.strip("[]").removesuffix(".").lower()
    address = literal(host)
    if address is None:
        labels = host.split(".")
        # Whoever takes a last number for an address' end does not look such a name up.
        named = all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])
        if not named or len(host) > 253:
            raise Fault(f"{shown(host)} is no host's name or address")
        if host in _METADATA_NAMES:
            raise Fault(f"{host} is a cloud's metadata service, which must never be called")
        return
    if what := never(address):
        raise Fault(f"{host} is {what}, which must never be called")
    if isinstance(address, IPv4Address) and str(address) != written:
        raise Fault(f"{written} is an odd way to write {address}: write that")


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
