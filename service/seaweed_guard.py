"""Close the inner doors of the embedded object store, so that only its S3 endpoint answers.

`weed mini` opens a master, a volume server and a filer beside S3. Without keys they let every
program on the machine, and every web page in a browser on it, read, change and delete objects.
Here they get keys and a certificate of their own:

- filer and volume server take only requests that are signed with keys of this instance;
- the master's HTTP port, where one unsigned GET would delete a bucket, speaks TLS and asks for
  the certificate; so do all gRPC ports.

The keys go to the process in its environment, never on its command line.
"""

import datetime as dt
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.private_files import keep_secret

_SIGNING_KEYS = (
    "JWT_SIGNING_KEY",
    "JWT_SIGNING_READ_KEY",
    "JWT_FILER_SIGNING_KEY",
    "JWT_FILER_SIGNING_READ_KEY",
)
_GRPC_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "MQ", "CLIENT")
_VALID_DAYS = 36_500
"""The certificate is trusted by one process only, so that its end would protect nobody."""


def guard_environment(folder: Path) -> dict[str, str]:
    """Return the variables that close the doors; keys and certificate are made at first use.

    Args: folder: where they are kept, files of mode 0600.
    """
    certificate = folder / "objects.pem"
    keep_secret(certificate, _make_certificate)
    guard = {
        f"WEED_{name}": keep_secret(folder / f"objects_{name.lower()}", secrets.token_urlsafe)
        for name in _SIGNING_KEYS
    }
    # One file is key, certificate and authority: it signed itself.
    guard["WEED_GRPC_CA"] = guard["WEED_HTTPS_MASTER_CA"] = str(certificate)
    for part in ("HTTPS_MASTER", *(f"GRPC_{part}" for part in _GRPC_PARTS)):
        guard[f"WEED_{part}_CERT"] = guard[f"WEED_{part}_KEY"] = str(certificate)
    return guard


def _make_certificate() -> str:
    """Make a key and the certificate that it signed itself, as one PEM text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kaima-objects")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (secret + certificate.public_bytes(pem)).decode("ascii")
