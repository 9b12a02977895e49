"""Where a webhook may go: nowhere in a private network, whatever the name answers the second time."""

import contextlib
import http.client
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from service.outbound import DestinationRefused, check_address, check_url, post, resolve

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1",
    "::1", "::", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2001:0:7f00:1::", "2002:c0a8:101::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_of_a_private_network_may_be_connected_to(address):
    with pytest.raises(DestinationRefused, match="not a public address"):
        check_address(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses_may_be_connected_to(address):
    check_address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.org/x", "must be https"),
        ("ftp://hooks.example.org/x", "must be https"),
        ("https://127.0.0.1/x", "not a public address"),
        ("https://[::1]/x", "not a public address"),
        ("https://[::ffff:10.0.0.1]/x", "not a public address"),
        ("https://2130706433/x", "private network"),
        ("https://localhost/x", "private network"),
        ("https://localhost./x", "private network"),
        ("https://db.internal/x", "private network"),
        ("https://metadata/x", "private network"),
        ("https://me:secret@hooks.example.org/x", "credentials"),
        ("https://hooks.example.org/x#part", "fragment"),
        ("https://hooks.example.org:port/x", "cannot be read"),
        ("https://hooks.example.org/" + "x" * 500, "at most 500"),
        ("https://hooks.example.org/a b", "ASCII"),
        ("https:///x", "give https"),
    ],
)
def test_a_url_that_may_not_be_connected_to_is_refused_with_its_reason(url, why):
    with pytest.raises(DestinationRefused, match=why):
        check_url(url)


def test_an_operator_may_allow_a_host_by_name_and_only_that_one():
    assert check_url("http://receiver:8080/x", allowed_hosts=["receiver:8080"]).port == 8080
    with pytest.raises(DestinationRefused):
        check_url("http://receiver:8081/x", allowed_hosts=["receiver:8080"])


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]])
def test_one_private_address_among_a_names_answers_refuses_it(monkeypatch, answers):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in answers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(DestinationRefused, match="not a public address"):
        resolve(check_url("https://hooks.example.org/x"))


def test_the_connection_goes_to_the_address_that_was_checked_not_to_a_second_answer(monkeypatch):
    """A name that is public when it is checked and private when it is connected to gains nothing."""
    asked, reached = [], []
    public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))
    private = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))

    def rebinding(host, *_, **__):
        asked.append(host)
        return [public] if len(asked) == 1 else [private]

    def connect(address, *_):
        reached.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ConnectionRefusedError):
        post(check_url("https://hooks.example.org/x"), body=b"{}", headers={})
    assert reached == [("93.184.215.14", 443)]
    assert asked == ["hooks.example.org"]


@pytest.fixture
def dripping() -> Iterator[int]:
    """Yield the port of a receiver that sends one byte of its answer after another, for ever."""
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with contextlib.suppress(OSError):
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while True:
                    peer.sendall(b"x")
                    time.sleep(0.02)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.close()
    thread.join(5)


def test_a_receiver_that_drips_its_answer_is_left_after_the_time_that_it_has(dripping):
    destination = check_url(f"http://127.0.0.1:{dripping}/x", allowed_hosts=["127.0.0.1"])
    started = time.monotonic()
    with pytest.raises((OSError, http.client.HTTPException)):
        post(destination, body=b"{}", headers={}, total=0.3)
    assert time.monotonic() - started < 60
