"""The platform's contract, both ways: callbacks read, replies made, waits, signatures."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.contract.replies import (
        ACKNOWLEDGED,
        BUSY,
        ENCODED,
        FAILED,
        FORBIDDEN,
        LOOPING,
        NO_TOKEN,
        NOT_FOUND,
        NOT_OPEN,
        TOO_LARGE,
        TOO_SLOW,
        WRONG_METHOD,
        Reply,
        body_of,
        is_sane,
        lines_and_body,
        refusal,
        reply_to_refused,
        request_id_from,
        response_of,
    )
    from router.contract.schedule import (
        PLATFORM,
        Schedule,
        Terms,
        parse_age,
        parse_duration,
        parse_time,
    )
    from router.contract.signing import KEY_PREFIX, LEAST_KEY, Signer, key_of
    from router.contract.strictjson import (
        ANSWER,
        CALLBACK,
        REQUEST,
        ROUTER,
        Unreadable,
        parse_json,
    )
    from router.contract.words import Words, harmless, masked, why_failed, words_in, words_of

__getattr__ = on_demand(__name__)
