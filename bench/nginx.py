"""nginx as a peer and as the targets, with the configurations in bench/peers/nginx/."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "peers" / "nginx"
_MODULES = "/usr/lib/nginx/modules"

#: The headers of a request to a target.
_HEADERS = "\n            proxy_set_header X-Request-Id $request_id;"
_HEADERS += "\n            proxy_set_header Webhook-Id $request_id;"


def nginx(template: str, folder: Path, port: int, target_ports: Sequence[int]) -> list[str]:
    """Fill the template in a folder, and return the command that runs it."""
    words = {
        "DIR": str(folder),
        "HERE": str(_TEMPLATES),
        "MODULES": _MODULES,
        "PORT": str(port),
        "PORTS": ", ".join(map(str, target_ports)),
        "ROUTES": str(folder / "routes.json"),
        "LISTEN": "\n".join(f"        listen 127.0.0.1:{p} backlog=4096;" for p in target_ports),
        "UPSTREAMS": "\n".join(map(_upstream, target_ports)),
        "LOCATIONS": "\n".join(map(_location, target_ports)),
    }
    path = folder / template
    path.write_text(string.Template((_TEMPLATES / template).read_text()).safe_substitute(words))
    return ["nginx", "-p", str(folder), "-c", str(path)]


def _upstream(port: int) -> str:
    server = f"server 127.0.0.1:{port}; keepalive 256; keepalive_requests 100000000;"
    return f"    upstream to_{port} {{ {server} }}"


def _location(port: int) -> str:
    return f"""        location = /to/{port} {{
            internal;
            access_log off;
            proxy_pass http://to_{port}/callback;
            proxy_http_version 1.1;
            proxy_pass_request_headers off;
            proxy_set_header Connection "";
            proxy_set_header Content-Type application/json;{_HEADERS}
            proxy_read_timeout 5s;
        }}"""
