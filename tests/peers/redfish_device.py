"""A device that speaks enough Redfish over HTTPS for Debian's fence_redfish, with its own log as ground truth."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_SYSTEM = "/redfish/v1/Systems/1"


def certificate(where: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 with its key and return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path = where / "bmc.pem"
    path.write_bytes(pem)
    return path


class RedfishDevice:
    """One running device: user ``admin``, password ``pw``, one system."""

    def __init__(self, pem: Path) -> None:
        self.power = "on"
        self.commands: list[str] = []
        self._login = "Basic " + base64.b64encode(b"admin:pw").decode()
        device = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the server's protocol
                device.answer(self)

            def do_POST(self) -> None:
                device.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length") or 0)
        body = json.loads(request.rfile.read(length) or b"{}")
        code, reply = self._reply(request, body)
        text = json.dumps(reply).encode()
        request.send_response(code)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _reply(self, request: http.server.BaseHTTPRequestHandler, body: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if request.headers.get("authorization") != self._login:
            return 401, {"error": {"code": "Base.1.0.GeneralError", "message": "unauthorized"}}
        reset = f"{_SYSTEM}/Actions/ComputerSystem.Reset"
        if request.command == "POST" and request.path == reset:
            self.power = {"On": "on", "ForceOff": "off"}[body["ResetType"]]
            self.commands.append(self.power)
            return 204, {}
        resources: dict[str, dict[str, Any]] = {
            "/redfish/v1": {"Systems": {"@odata.id": "/redfish/v1/Systems"}},
            "/redfish/v1/Systems": {"Members": [{"@odata.id": _SYSTEM}]},
            _SYSTEM: {"PowerState": self.power.capitalize(), "Actions": {"#ComputerSystem.Reset": {"target": reset}}},
        }
        return (200, resources[request.path]) if request.path in resources else (404, {})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextlib.contextmanager
def redfish_devices(count: int, where: Path) -> Iterator[list[RedfishDevice]]:
    """Run *count* devices, powered on."""
    pem = certificate(where)
    devices = [RedfishDevice(pem) for _ in range(count)]
    try:
        yield devices
    finally:
        for device in devices:
            device.stop()
