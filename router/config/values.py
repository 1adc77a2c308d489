"""Parsers for the values of routes.yaml: a function for each x-kind of the schema."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from router.config.document import Node, Scalar, did_you_mean, is_plain, shown, what
from router.config.variables import is_placeholder
from router.contract.schedule import parse_duration
from router.contract.signing import key_of
from router.model.secret import MASK, Secret
from router.net.egress import Network, NotANetwork, is_public, network_of, never
from router.routing.index import Glob, GlobInvalid

#: A fragment of JSON Schema.
Schema = dict[str, Any]

#: Takes a value's text with its variables replaced, the scalar as it was written, and its schema.
#: Problems may repeat the scalar alone.
Parser = Callable[[str, Scalar, Schema], Any]


class Fault(Exception):
    """A scalar that cannot be used; the text is a problem's message.

    If `word` is not one of a few `words`, a near one is suggested. With `once`, only the first
    place with this message is reported.
    """

    def __init__(
        self, message: str, word: str = "", words: Collection[str] = (), *, once: bool = False
    ) -> None:
        super().__init__(message)
        self.word = word
        self.words = words
        self.once = once


def mismatch(node: Node, expected: str) -> Fault:
    """Return the fault of a node of another sort."""
    if what(node) == "nothing" or (isinstance(node, Scalar) and not node.value):
        return Fault(f"is empty: {expected} is meant, or the key can be left out")
    return Fault(f"{expected} is meant, not {what(node)}")


def expected(schema: Schema) -> str:
    """Describe the scalar that a schema expects."""
    if "x-what" in schema:
        return str(schema["x-what"])
    first = schema["anyOf"][0]
    if schema["x-kind"] == "integer":
        return f"a whole number from {first['minimum']} to {first['maximum']}"
    return " or ".join(first["enum"])


def _text(text: str, node: Scalar, schema: Schema) -> str:
    """A string on one line."""
    secret = schema.get("x-secret")
    if what(node) != "a string":
        quoted = "" if secret else f': "{shown(node.value)[1:-1]}"'
        raise Fault(f"YAML reads this as {what(node)}, put it in quotes{quoted}")
    if len(text) > schema["maxLength"]:
        raise Fault(f"is longer than {schema['maxLength']} characters")
    if not text.isprintable():
        raise Fault("has a line end, or a character that can't be seen, in it")
    if "pattern" in schema and not re.search(schema["pattern"], text):
        says = schema.get("x-says", {}).get("pattern", f"is not {expected(schema)}")
        raise Fault(f"{'this' if secret else shown(node.value)} {says}")
    return text


def _secret(text: str, node: Scalar, schema: Schema) -> Secret:
    """A string on one line that is never printed, not even by problems."""
    if text == MASK:
        raise Fault(f"{MASK} stands for a secret that was not printed")
    return Secret(_text(text, node, schema))


def _signing_secret(text: str, node: Scalar, schema: Schema) -> Secret:
    secret = _secret(text, node, schema)
    try:
        key_of(secret)
    except ValueError as error:
        raise Fault(str(error)) from None
    return secret


def _pem(mark: str) -> Parser:
    """A text in PEM, from a file of the secrets directory."""

    def parse(text: str, node: Scalar, schema: Schema) -> Secret:
        if is_placeholder(text):
            return Secret("")
        if mark not in text:
            message = f"{expected(schema)} is meant, as ${{file:NAME}} from the secrets directory"
            raise Fault(message)
        return Secret(text)

    return parse


def _check_unquoted(text: str, node: Scalar, expected: str) -> None:
    if not is_plain(node) and text == node.value:
        raise Fault(f"{expected} is meant: take off the quotes")


def _number(text: str, node: Scalar, schema: Schema) -> float:
    """A number within bounds, in plain digits."""
    _check_unquoted(text, node, "a number")
    form = "0|[1-9][0-9]{0,8}" + ("" if schema["x-kind"] == "integer" else r"|[0-9]+\.[0-9]{1,3}")
    number, bounds = float(text) if re.fullmatch(form, text) else -1, schema["anyOf"][0]
    if not bounds["minimum"] <= number <= bounds["maximum"]:
        raise Fault(f"{shown(node.value)} is not {expected(schema)}")
    return number


def _boolean(text: str, node: Scalar, schema: Schema) -> bool:
    """`true` or `false`, and none of YAML's other words for them."""
    _choice(text, node, schema)
    _check_unquoted(text, node, expected(schema))
    return text == "true"


def _choice(text: str, node: Scalar, schema: Schema) -> str:
    words = schema["anyOf"][0].get("enum", ["true", "false"])
    if text not in words:
        raise Fault(f"{shown(node.value)} is not {expected(schema)}", node.value, words)
    return text


#: Parses the bounds of the schema, which are few.
_seconds = lru_cache(64)(parse_duration)


def _duration(text: str, node: Scalar, schema: Schema) -> float:
    """A time span with its unit; the value is in seconds."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        # People who omit the unit mean milliseconds by four digits and more.
        unit = "ms" if float(text) >= 1000 else "s"
        likely = shown(f"{node.value}{unit}")
        raise Fault(f"{shown(node.value)} has no unit, did you mean {likely}?")
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise Fault(f"{shown(node.value)} is not {expected(schema)}") from None
    least, most = schema["x-from"], schema["x-to"]
    if not _seconds(least) <= seconds <= _seconds(most):
        raise Fault(f"{shown(node.value)} is not within {least} to {most}")
    return seconds


def _share(text: str, node: Scalar, schema: Schema) -> float:
    """A share in per cent; the value is from 0 to 1."""
    match = re.fullmatch(r"([0-9]{1,3})(%?)", text)
    if match is None or not 1 <= int(match[1]) <= 100:
        raise Fault(f"{shown(node.value)} is not {expected(schema)}")
    if not match[2]:
        likely = shown(node.value + "%")
        raise Fault(f"{shown(node.value)} has no unit, did you mean {likely}?")
    return int(match[1]) / 100


def _header_name(text: str, node: Scalar, schema: Schema) -> str:
    """The name of a header, in lower case; the schema's pattern excludes some."""
    if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise Fault(f"{shown(node.value)} is not {expected(schema)}")
    return _text(text, node, schema).lower()


def _pattern(text: str, node: Scalar, schema: Schema) -> str:
    """A glob over a whole value."""
    pattern = _text(text, node, schema)
    try:
        Glob(pattern)
    except GlobInvalid as error:
        # The error quotes the pattern, which a variable may be part of.
        raise Fault(str(error) if text == node.value else "a set in it is not right") from None
    return pattern


NO_REGEX = "a pattern is a glob for the whole value, not a regular expression"


def anchored(text: str) -> Fault | None:
    """Return the fault of a pattern whose $ ends a regular expression, and begins no variable."""
    if not re.search(r"(?<!\$)\$$", text):
        return None
    likely = did_you_mean(as_glob(text))
    return Fault(f"{NO_REGEX}{likely}")


def as_glob(expression: str) -> str:
    """Return the glob that a simple regular expression stands for."""
    glob = expression.replace("[^", "[!").removeprefix("^").removesuffix("$")
    return re.sub(r"\\(.)|\.\*", lambda at: at[1] or "*", glob) if "\\" in glob else glob


# Networks, and where events may go.


def _network(text: str, node: Scalar, schema: Schema) -> Network:
    """IPv4 or IPv6, or a single address."""
    try:
        return network_of(text)
    except NotANetwork as error:
        # The value of a variable is not repeated.
        likely = error.likely if text == node.value else ""
        raise Fault(f"{shown(node.value)} {error}{did_you_mean(likely)}") from None


def _destination(text: str, node: Scalar, schema: Schema) -> Network | Literal["public"]:
    if text == "public":
        return "public"
    if text.isalpha():
        message = f"{shown(node.value)} is neither public nor a network like 10.0.0.0/8"
        raise Fault(message, node.value, ["public"])
    return _network(text, node, schema)


# URLs, as far as the text alone can tell. Nothing is looked up.

#: The names of services whose addresses are refused.
_METADATA_NAMES = {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}

#: The only form of a URL's scheme, host and port. Forms that another program might read differently
#: do not fit, and are refused.
_PLACE = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+]|[A-Za-z0-9._-]+)(?::(0|[1-9][0-9]{0,4}))?(?=[/?]|$)"
)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_DIGITS = re.compile("[0-9]+|0x[0-9a-f]*")

#: The last labels of names within the local network.
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa")


def _url(text: str, node: Scalar, schema: Schema) -> str:
    """An http(s) URL to POST to. It may hold a secret: problems repeat its host at most."""
    if is_placeholder(text):
        return f"https://{text}.invalid/"
    if len(text) > 2000 or not re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", text):
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
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise Fault("a % has two hex digits behind it: write %25 for a % itself")
    match = _PLACE.match(text)
    port = int(match[2] or 80) if match else 0
    if match is None or port > 65535:
        raise Fault("is not a URL: its host or port can't be read")
    if port == 0:
        raise Fault("0 is not a port to call")
    _check_host(match[1])
    return text


def _check_host(written: str) -> None:
    """Raises Fault for an invalid host, and for one that must never be called. An IPv6 address has
    brackets."""
    host = written.strip("[]").removesuffix(".").lower()
    address = literal(host)
    if address is None:
        labels = host.split(".")
        # Programs that take a last number for the end of an address do not look such a name up.
        named = all(map(_LABEL.fullmatch, labels)) and not _DIGITS.fullmatch(labels[-1])
        if not named or len(host) > 253:
            raise Fault(f"{shown(host)} is not a host's name or address")
        if host in _METADATA_NAMES:
            raise Fault(f"{host} is a cloud's metadata service, which must never be called")
        return
    if refused := never(address):
        raise Fault(f"{host} is {refused}, which must never be called")
    if isinstance(address, IPv4Address) and str(address) != written:
        raise Fault(f"{written} is an odd way to write {address}: write that")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `host` is, in any notation that `connect` understands."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 0x7f.1, 2130706433, 0177.0.0.1
    except (OSError, ValueError):
        return None


def is_local(host: str) -> bool:
    """True if a host is this machine or in the local network, where plain http is usual."""
    host = host.rstrip(".")
    address = literal(host)
    if address is not None:
        return not is_public(address)
    return "." not in host or host.endswith(_LOCAL_NAMES)


def redacted(url: str, written: str) -> str:
    """Return a URL as it may be printed; `written` is its text in the file.

    A query may be a secret, and so may a path that a variable has a part in. Host and port are
    shown: the router's targets are not secret.
    """
    parts = urlsplit(url)
    path = parts.path if parts.path in written else "/***"
    return f"{parts.scheme}://{parts.netloc}{path}{'?***' if parts.query else ''}"


#: By x-kind.
PARSERS: dict[str, Parser] = {
    "boolean": _boolean,
    "certificate": _pem("-----BEGIN CERTIFICATE-----"),
    "choice": _choice,
    "destination": _destination,
    "duration": _duration,
    "header_name": _header_name,
    "integer": lambda text, node, schema: int(_number(text, node, schema)),
    "network": _network,
    "number": _number,
    "owner": _text,
    "pattern": _pattern,
    "private_key": _pem("PRIVATE KEY-----"),
    "secret": _secret,
    "share": _share,
    "signing_secret": _signing_secret,
    "text": _text,
    "url": _url,
}
