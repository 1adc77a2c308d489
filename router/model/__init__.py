"""The nouns: an event, an attempt to deliver it, a secret, and what goes wrong."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.model.build import COMPILED
    from router.model.errors import (
        ConfigInvalid,
        Problem,
        Refused,
        RouterError,
        SettingInvalid,
        StartFailed,
    )
    from router.model.event import (
        FIELDS,
        MAX_CHANGES,
        OWN_DOING,
        OWN_KEYS,
        OWN_SOURCE,
        SUCCESS,
        Attempt,
        Event,
        Letter,
        Reason,
        new_id,
    )
    from router.model.files import closed, may, there, why_not
    from router.model.secret import MASK, Secret, is_exposed
    from router.model.value import Value

__getattr__ = on_demand(__name__)
