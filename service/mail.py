"""Send one e-mail by SMTP. What it says is that something waits; whoever wants to know more signs in."""

import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from service.config import Settings

TIMEOUT_SECONDS = 15.0
SECURITIES = ("starttls", "tls", "none")


class MailRefused(Exception):
    """The settings of the mail server cannot be used; the text says what to change."""


def is_configured(settings: Settings) -> bool:
    """Tell whether an operator has named a mail server."""
    return bool(settings.smtp_host and settings.smtp_from)


def compose(settings: Settings, *, to: str, subject: str, text: str, link: str) -> EmailMessage:
    """Return a message; line breaks cannot enter its head.  Raises: ValueError for a bad address."""
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.smtp_from
    message["To"] = to
    message["Subject"] = " ".join(subject.split())
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=settings.smtp_from.rpartition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    footer = f"This is a notice of {settings.publisher}. Choose on your account page what you get."
    message.set_content(f"{text}\n\n{link}\n\n--\n{footer}\n")
    return message


def send(settings: Settings, message: EmailMessage) -> None:
    """Hand a message to the mail server.  Raises: MailRefused, smtplib.SMTPException, OSError."""
    if settings.smtp_security not in SECURITIES:
        raise MailRefused(
            f"KAIMA_SMTP_SECURITY was refused: {settings.smtp_security!r}. Choose from: "
            f"{', '.join(SECURITIES)}."
        )
    with _connect(settings) as server:
        if settings.smtp_security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.smtp_user:
            server.login(settings.smtp_user, _password(settings))
        server.send_message(message)


def _connect(settings: Settings) -> smtplib.SMTP:
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(
            settings.smtp_host,
            settings.smtp_port,
            timeout=TIMEOUT_SECONDS,
            context=ssl.create_default_context(),
        )
    return smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS)


def _password(settings: Settings) -> str:
    path = settings.smtp_password_file
    if path is None:
        raise MailRefused("KAIMA_SMTP_USER was refused without KAIMA_SMTP_PASSWORD_FILE.")
    if path.stat().st_mode & 0o077:
        raise MailRefused(f"{path} was refused: others may read it. Run: chmod 600 {path}")
    if settings.smtp_security == "none":
        raise MailRefused(
            "A password over an open connection was refused. Set KAIMA_SMTP_SECURITY to starttls or "
            "tls."
        )
    return path.read_text(encoding="utf-8").strip()
