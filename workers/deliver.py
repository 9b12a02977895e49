"""Send the outbox from the reconciling process, in a thread of its own.

A receiver that answers slowly must not hold up the jobs that are looked after meanwhile.
"""

import http.client
import smtplib
import threading

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from service import mail
from service.config import Settings
from service.domain.errors import DomainError
from service.domain.notifications import Channel
from service.operations.delivering import NotDelivered, Parcel, Sender, deliver_due
from service.operations.webhooks import allowed_hosts
from service.outbound import DestinationRefused, check_url, post
from service.wiring import Application
from workers.logs import describe_error, logger


def senders(settings: Settings) -> dict[Channel, Sender]:
    """Return what sends on each channel that an operator has configured."""
    found: dict[Channel, Sender] = {Channel.WEBHOOK: lambda parcel: send_webhook(settings, parcel)}
    if mail.is_configured(settings):
        found[Channel.EMAIL] = lambda parcel: send_email(settings, parcel)
    return found


def send_email(settings: Settings, parcel: Parcel) -> None:
    """Hand one message to the mail server.  Raises: NotDelivered."""
    body = parcel.body
    try:
        message = mail.compose(
            settings,
            to=parcel.target,
            subject=body["subject"],
            text=body.get("text", ""),
            link=body.get("link", ""),
        )
        mail.send(settings, message)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise NotDelivered(
            f"the mail server refused the recipient ({codes})",
            for_good=all(500 <= code < 600 for code in codes),
        ) from error
    except (ValueError, UnicodeError) as error:
        raise NotDelivered("the address cannot be used", for_good=True) from error
    except (mail.MailRefused, smtplib.SMTPException, OSError) as error:
        raise NotDelivered(f"the mail server did not take it ({type(error).__name__})") from error


def send_webhook(settings: Settings, parcel: Parcel) -> None:
    """Post one signed message.  Raises: NotDelivered unless the answer is 2xx."""
    allowed = allowed_hosts(settings.webhook_allowed_hosts)
    try:
        destination = check_url(parcel.target, allowed_hosts=allowed)
        status = post(destination, body=parcel.content, headers=parcel.headers or {})
    except DestinationRefused as error:
        raise NotDelivered(str(error)) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise NotDelivered(f"the receiver did not answer ({type(error).__name__})") from error
    if status == 410:
        raise NotDelivered("the receiver answered 410 Gone", for_good=True)
    if not 200 <= status < 300:
        raise NotDelivered(f"the receiver answered {status}; only 2xx means received")


def deliver(application: Application) -> None:
    """Try what is due once; log what went wrong. Whatever fails is tried again the next time."""
    try:
        with application.uow() as uow:
            tried = deliver_due(uow, senders(application.settings))
    except (SQLAlchemyError, BotoCoreError, ClientError, DomainError, OSError) as error:
        logger.warning("Delivering failed; it is tried again", **describe_error(error))
        return
    if tried:
        logger.info("Messages were sent", tried=tried)


def deliver_until(stopping: threading.Event, application: Application, *, interval: float) -> None:
    """Deliver until told to stop."""
    while not stopping.is_set():
        deliver(application)
        stopping.wait(interval)
