"""The network: addresses, listeners, TLS, who may call, and where events may go."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.net.access import AUTHORIZATION, SHORT, Access, Denial, Tokens
    from router.net.batching import COMPANY, Batching, batching_of
    from router.net.calling import call_back, tell_fault
    from router.net.certificates import BadCertificate, day
    from router.net.client_tls import USUAL, Tls, certificates_in
    from router.net.egress import ANYWHERE, Egress, is_public, never
    from router.net.gone import Gone
    from router.net.inherited import Inherited, take_inherited
    from router.net.listening import BACKLOG, bar, listen, url_of, waiting
    from router.net.networks import (
        Network,
        Networks,
        NotANetwork,
        address_of,
        is_loopback,
        network_of,
    )
    from router.net.reader import Reader
    from router.net.resolver import SocketAddress, look_up
    from router.net.resources import (
        OPS,
        Callers,
        files_allowed,
        memory_limit,
        memory_note,
        share_out,
    )
    from router.net.server_tls import listener_tls, listener_warnings, pair_of
    from router.net.timer import TICK, Timer, happens

__getattr__ = on_demand(__name__)
