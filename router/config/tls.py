"""How TLS is spoken to a target, as routes.yaml says it."""

from __future__ import annotations

import time

from router.config.document import MapNode, Node, Problems, ScalarNode
from router.config.kinds import Boolean, ScalarKind, Text
from router.config.reader import Fault, Reader, Schema
from router.config.section import Key, Section
from router.config.variables import is_placeholder
from router.model.secret import Secret
from router.net.tls import USUAL, BadCertificate, Tls, day

#: From how long before its end a certificate is warned about, in seconds: a month.
SOON_FOR_TARGETS = 30 * 24 * 3600.0

_NAME = Text("a host's name", pattern=r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", longest=253)


class Pem(ScalarKind[Secret]):
    """A text in PEM, which is a file of the secrets directory. It is in no problem."""

    def __init__(self, what: str, mark: str) -> None:
        self.what = f"{what} in PEM"
        self._mark = mark

    def value(self, text: str, node: ScalarNode) -> Secret:
        if is_placeholder(text):
            return _NOTHING
        if self._mark not in text:
            raise Fault(f"{self.what} is meant, as ${{file:NAME}} from the secrets directory")
        return Secret(text)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"\$\{"}


_CERTIFICATE, _KEY = "-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----"
_NOTHING = Secret("")


class TlsSection(Section):
    ca = Key(
        Pem("a certificate", _CERTIFICATE),
        "Who may vouch for the target, instead of whom the system trusts: ${file:NAME}.",
        default=_NOTHING,
    )
    cert = Key(
        Pem("a certificate", _CERTIFICATE),
        "The certificate that is shown to a target that asks for one, and those that vouch for "
        "it: ${file:NAME}.",
        default=_NOTHING,
    )
    key = Key(Pem("a key", _KEY), "The key of cert, without a password: ${file:NAME}.",
              default=_NOTHING)  # fmt: skip
    server_name = Key(
        _NAME, "The name that the target's certificate has to have, where that is not the URL's "
        "host.", default="",
    )  # fmt: skip
    insecure_skip_verify = Key(
        Boolean(),
        "The target's certificate is not looked at: whoever is on the way can read and answer.",
        default=False,
    )


class TlsKind:
    """A `tls` section, checked as a whole."""

    def read(self, node: Node, path: str, reader: Reader) -> Tls:
        section = TlsSection.read(node, path, reader)
        given = {name for name in ("cert", "key") if name in section.nodes}
        if len(given) == 1:
            raise Fault("cert and key go together: one of them is missing")
        try:
            return Tls.of(
                section.ca.reveal(),
                section.cert.reveal(),
                section.key,
                section.server_name,
                verify=not section.insecure_skip_verify,
            )
        except BadCertificate as error:
            at = str(error).partition(" ")[0]  # each begins with the text that it is about
            reader.problems.add(section.nodes[at], f"{path}.{at}", str(error))
            return USUAL

    def schema(self) -> Schema:
        return {**TlsSection.schema(), "dependencies": {"cert": ["key"], "key": ["cert"]}}


def check_tls(target: Section, url: str, reader: Reader) -> None:
    """Report a target that is told how to speak TLS, and then does not."""
    if "tls" in target.nodes and url.startswith("http:"):
        message = "says nothing to a target that is called by http://"
        reader.problems.add(target.nodes["tls"], f"{target.path}.tls", message)


def warn_tls(target: Section, tls: Tls, problems: Problems) -> None:
    """Report a target that anybody could pose as, and certificates that end soon."""
    section = target.nodes.get("tls")
    nodes = {k.text: v for k, v in section.entries} if isinstance(section, MapNode) else {}

    def warn(key: str, message: str) -> None:
        problems.add(nodes[key], f"{target.path}.tls.{key}", message)

    if not tls.verify:
        message = "its certificate is not verified: whoever is on the way can read and answer"
        warn("insecure_skip_verify", message)
    if tls.vouches_for_itself and tls.ca_ends > time.time():
        message = "a certificate in it is no authority's: another that it signed is refused"
        warn("ca", message)
    for key, ends in (("ca", tls.ca_ends), ("cert", tls.cert_ends)):
        left = ends - time.time()
        if ends and left < SOON_FOR_TARGETS:
            how = "expires" if left > 0 else "has expired"
            warn(key, f"a certificate {how} on {day(ends)}")
