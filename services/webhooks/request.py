"""One attempt to send a webhook message: a POST to an address that has been checked.

Whoever registers a URL may own the receiver and its name server, so neither is trusted: the name is
looked up once, every address is checked, and the connection goes to one of these; redirects are not
followed, no proxy is used; the whole attempt has one deadline; of the response only the status is
read.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore

from services.webhooks.address import Network, WebhookTarget, is_allowed_address, parse_webhook_url
from services.webhooks.signature import sign_message
from shared import VERSION
from shared.errors import InvalidRequest
from shared.jobs.webhooks import DueDelivery

TOTAL_TIMEOUT_S = 10.0
MAX_ADDRESSES = 4  # of one name, tried one after the other
# one message: two would tell which names exist in the network of the service
NO_ADDRESS = "the name was not found, or leads to an address that is not public"
MAX_LOOKUPS = 16  # names that are looked up at the same time; a look-up cannot be interrupted

LookUp = Callable[[str, int], Sequence[str]]


class DeliveryError(Exception):
    """The message was not delivered. The text is for the webhook's owner: it says nothing about the
    network of the service."""


class MessageSender:
    """Sends messages, from any number of threads.

    Args:
        allowed: networks that may be sent to although they are not public.
        tls: verifies receivers.
        total_timeout_s: for one attempt, from the look-up to the status.
        look_up: the addresses of a name.
    """

    def __init__(
        self,
        allowed: Sequence[Network],
        tls: ssl.SSLContext,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
        look_up: LookUp | None = None,
    ) -> None:
        self._allowed, self._tls, self._total_timeout_s = allowed, tls, total_timeout_s
        self._look_up = look_up or look_up_addresses
        self._lookup_slots = threading.BoundedSemaphore(MAX_LOOKUPS)

    def send(self, due: DueDelivery) -> int:
        """Send one message; returns the receiver's status, a 2xx.

        Raises:
            DeliveryError: it was not delivered, or the receiver did not say so.
        """
        deadline = time.monotonic() + self._total_timeout_s
        try:
            target = parse_webhook_url(due.url, self._allowed)
        except InvalidRequest as error:  # the setting has changed since
            raise DeliveryError(error.message) from None
        try:
            status = self._post(target, due, self._resolve(target, deadline), deadline)
        except (httpcore.TimeoutException, TimeoutError):
            raise DeliveryError(f"no answer within {self._total_timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise DeliveryError(f"TLS failed: {error.reason or 'error'}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ssl.SSLError):
                cause = cause.__cause__ or cause.__context__
            if isinstance(cause, ssl.SSLError):
                raise DeliveryError(f"TLS failed: {cause.reason or 'error'}") from None
            raise DeliveryError(
                "the connection failed"
                if isinstance(error, httpcore.NetworkError | OSError)
                else "the receiver does not speak HTTP"
            ) from None
        if 300 <= status < 400:
            raise DeliveryError(f"HTTP {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise DeliveryError(f"HTTP {status}")
        return status

    def _resolve(self, target: WebhookTarget, deadline: float) -> list[str]:
        """The addresses of the target, all of which may be connected to."""
        addresses = self._look_up_in_time(target, deadline)
        if not addresses:
            raise DeliveryError(NO_ADDRESS)
        if not all(is_allowed_address(ip_address(a), self._allowed) for a in addresses):
            raise DeliveryError(NO_ADDRESS)
        return list(dict.fromkeys(addresses))[:MAX_ADDRESSES]

    def _look_up_in_time(self, target: WebhookTarget, deadline: float) -> Sequence[str]:
        answer: list[Sequence[str] | Exception] = []
        if not self._lookup_slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeliveryError("too many names are being looked up")

        def look_up() -> None:
            try:
                answer.append(self._look_up(target.host, target.port))
            except (OSError, UnicodeError) as error:
                answer.append(error)
            finally:
                self._lookup_slots.release()

        thread = threading.Thread(target=look_up, name="look-up", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
        if not answer:
            raise DeliveryError(f"the name was not found within {self._total_timeout_s:g} s")
        if isinstance(answer[0], Exception):
            raise DeliveryError(NO_ADDRESS)
        return answer[0]

    def _post(
        self, target: WebhookTarget, due: DueDelivery, addresses: list[str], deadline: float
    ) -> int:
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"palimpsest/{VERSION}",
            "webhook-id": due.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign_message(due.secret, due.id, timestamp, due.body),
            "connection": "close",
        }
        backend = _PinnedBackend(addresses, deadline)
        with (
            httpcore.ConnectionPool(
                ssl_context=self._tls, max_connections=1, network_backend=backend
            ) as pool,
            pool.stream(
                "POST", target.url, headers=list(headers.items()), content=due.body.encode()
            ) as response,
        ):
            return response.status


def look_up_addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, by the machine's resolver."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in infos]


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to given addresses, whatever the name would lead to by now. Names and certificates
    stay those of the URL."""

    def __init__(self, addresses: Sequence[str], deadline: float) -> None:
        self._addresses, self._deadline = addresses, deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        *others, last = self._addresses
        for address in others:
            # the first ones must leave the others time
            left_s = _compute_time_left(self._deadline) / 2
            try:
                stream = self._backend.connect_tcp(address, port, left_s, None, socket_options)
                return _DeadlineStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        left_s = _compute_time_left(self._deadline)
        stream = self._backend.connect_tcp(last, port, left_s, None, socket_options)
        return _DeadlineStream(stream, self._deadline)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection all of whose operations end by one deadline, however little each one takes."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _compute_time_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _compute_time_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left_s = _compute_time_left(self._deadline)
        stream = self._stream.start_tls(ssl_context, server_hostname, left_s)
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _compute_time_left(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: it has passed.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
