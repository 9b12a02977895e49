"""Connect to a host that somebody else named, without letting it be a host of our own network.

A name is resolved once, every address it stands for must be public, and the connection goes to the
address that was checked: a name that answers otherwise the second time (DNS rebinding) gains
nothing. Hosts that an operator allows by name are exempt.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECT_SECONDS, TOTAL_SECONDS = 5.0, 10.0
MOST_ANSWER_BYTES = 64 * 1024
URL_LIMIT = 500
_OWN_NAMES = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""NAT64: an IPv4 address in an IPv6 one, which a gateway would unwrap."""
_SHARED = ipaddress.ip_network("100.64.0.0/10")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class DestinationRefused(Exception):
    """A URL must not be connected to; the text is a sentence for whoever gave it."""


@dataclass(frozen=True)
class Destination:
    """A URL that may be connected to, taken apart."""

    scheme: str
    host: str
    port: int
    target: str
    is_allowed_by_name: bool


def check_url(url: str, *, allowed_hosts: Collection[str] = ()) -> Destination:
    """Return a URL taken apart; nothing is resolved yet.

    Raises: DestinationRefused for a scheme other than https, credentials, an address or name of a
    private network. A host in `allowed_hosts` ("name" or "name:port") may be any of these.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DestinationRefused("The URL was refused: it cannot be read.") from error
    host = (parts.hostname or "").rstrip(".").lower()
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if len(url) > URL_LIMIT or not is_plain or not host:
        raise DestinationRefused(
            f"The URL was refused: give https://host/path in at most {URL_LIMIT} ASCII characters."
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise DestinationRefused(
            "The URL was refused: it holds credentials or a fragment. Leave them out; messages are "
            "signed."
        )
    if parts.scheme not in {"https", "http"}:
        raise DestinationRefused("The URL was refused: its scheme must be https.")
    port = port or (443 if parts.scheme == "https" else 80)
    is_allowed = bool({host, f"{host}:{port}"} & {name.lower() for name in allowed_hosts})
    if not is_allowed:
        _check_public_name(parts.scheme, host)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(parts.scheme, host, port, target, is_allowed)


def check_address(address: Address) -> None:
    """Refuse an address that is not one of the public internet's.  Raises: DestinationRefused."""
    for inner in _unwrapped(address):
        if (
            not inner.is_global
            or inner.is_multicast
            or inner.is_reserved
            or inner.is_unspecified
            or (inner.version == 4 and inner in _SHARED)
            or (inner.version == 6 and inner.is_site_local)
        ):
            raise DestinationRefused(
                f"The URL was refused: its host stands for {address}, which is not a public address. "
                "An operator may allow a host by name (KAIMA_WEBHOOK_ALLOWED_HOSTS)."
            )


def resolve(destination: Destination) -> str:
    """Return one address of the host, after all of them were checked.

    Raises: DestinationRefused if any is not public; OSError if the name cannot be resolved.
    """
    found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    addresses = [str(item[4][0]) for item in found]
    if not addresses:
        raise OSError("the name stands for no address")
    if not destination.is_allowed_by_name:
        for address in addresses:
            check_address(ipaddress.ip_address(address.partition("%")[0]))
    return addresses[0]


def post(
    destination: Destination,
    *,
    body: bytes,
    headers: Mapping[str, str],
    total: float = TOTAL_SECONDS,
) -> int:
    """Send a POST and return the status of the answer; a redirect is an answer like any other.

    Its body is not read beyond `MOST_ANSWER_BYTES`, and everything ends after `total` seconds.
    Raises: DestinationRefused, OSError, http.client.HTTPException.
    """
    address = resolve(destination)
    connection = _connection(destination, address)
    with _ended_after(total, connection):
        connection.request(
            "POST",
            destination.target,
            body=body,
            headers={"Connection": "close", **headers},
        )
        answer = connection.getresponse()
        answer.read(MOST_ANSWER_BYTES)
        return answer.status


def _connection(destination: Destination, address: str) -> http.client.HTTPConnection:
    if destination.scheme == "http":
        return _Plain(destination, address)
    return _Secure(destination, address)


class _Plain(http.client.HTTPConnection):
    """HTTP to an address that was checked, under the host's name."""

    def __init__(self, destination: Destination, address: str) -> None:
        super().__init__(destination.host, destination.port, timeout=CONNECT_SECONDS)
        self._address = address

    def connect(self) -> None:
        """Connect to the address instead of resolving the name again."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


class _Secure(http.client.HTTPSConnection):
    """HTTPS to an address that was checked; the certificate must be of the host's name."""

    def __init__(self, destination: Destination, address: str) -> None:
        self._address, self._tls = address, ssl.create_default_context()
        super().__init__(
            destination.host, destination.port, timeout=CONNECT_SECONDS, context=self._tls
        )

    def connect(self) -> None:
        """Connect to the address instead of resolving the name again."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


@contextlib.contextmanager
def _ended_after(seconds: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """Close the connection when the time is over: a receiver may drip bytes for ever."""
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        connection.close()
    if is_over.is_set():  # half a head that ends reads like a whole one
        raise TimeoutError(f"no whole answer within {seconds} seconds")


def _check_public_name(scheme: str, host: str) -> None:
    if scheme != "https":
        raise DestinationRefused("The URL was refused: its scheme must be https.")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        if host in _OWN_NAMES or host.endswith(_OWN_NAMES) or "." not in host:
            raise DestinationRefused(
                f"The URL was refused: {host} is a name of a private network. An operator may allow "
                "a host by name (KAIMA_WEBHOOK_ALLOWED_HOSTS)."
            ) from None
        return
    check_address(literal)


def _unwrapped(address: Address) -> list[Address]:
    """Return an address and every IPv4 address that is hidden in it."""
    found: list[Address] = [address]
    if address.version == 6:
        hidden: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
        if address.teredo is not None:
            hidden += list(address.teredo)
        if any(address in network for network in _TRANSLATED):
            hidden.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        found += [item for item in hidden if item is not None]
    return found
