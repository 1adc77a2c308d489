"""The secrets that attempts are signed with, as routes.yaml has them."""

from __future__ import annotations

from router.config.document import ScalarNode
from router.config.kinds import VARIABLE, SecretText
from router.config.reader import Fault, Schema
from router.contract.signing import KEY_PREFIX, key_of
from router.model.secret import Secret


class SigningSecret(SecretText):
    """A secret that a key can be made of."""

    def __init__(self) -> None:
        super().__init__("a secret", longest=8192)

    def value(self, text: str, node: ScalarNode) -> Secret:
        secret = super().value(text, node)
        try:
            key_of(secret)
        except ValueError as error:
            raise Fault(str(error)) from None
        return secret

    def schema(self) -> Schema:
        base64 = {"pattern": f"^{KEY_PREFIX}[A-Za-z0-9+/]+={{0,2}}$"}
        return {"type": "string", "anyOf": [{"pattern": f"^(?!{KEY_PREFIX})."}, base64, VARIABLE]}
