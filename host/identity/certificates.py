"""X.509 certificates and revocation lists as the broker and its clients need them (RFC 5280).

Keys are EC P-256 and signatures ECDSA with SHA-256: the pair that every TLS stack of gateways and devices takes (Mbed
TLS and BearSSL have no Ed25519 certificates). There is no state here: the authority and the registry keep it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SKEW = timedelta(days=1)
"""Certificates and lists are valid from so long before they are made: clocks differ."""

Reason = Literal["unspecified", "key_compromise", "superseded", "cessation_of_operation"]
REASONS: tuple[Reason, ...] = ("unspecified", "key_compromise", "superseded", "cessation_of_operation")


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for.

    Attributes:
        kind: broker, gateway, worker or device; name: of it, checked by `names.check_name`.
        chip: unique id of a device's chip, at most 64 characters; stands in the subject's serialNumber (X.520).
        hosts: of a broker: DNS names and IP addresses under which clients reach it.
    """

    kind: str
    name: str
    chip: str | None = None
    hosts: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """The common name, which the broker takes for the user name."""
        return f"{self.kind}:{self.name}"

    def distinguished(self) -> x509.Name:
        chip = [] if self.chip is None else [x509.NameAttribute(NameOID.SERIAL_NUMBER, self.chip)]
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.identity), *chip])

    def alternatives(self) -> list[x509.GeneralName]:
        """A broker's addresses, which clients compare with the one they call; for others the identity as a URI."""
        if self.kind != "broker":
            return [x509.UniformResourceIdentifier(f"urn:intaglio:{self.identity}")]
        return [_address(host) for host in self.hosts]


def _address(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def serial(self) -> str:
        return serial_of(self.certificate)

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """PKCS #8 without a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def serial_of(certificate: x509.Certificate) -> str:
    """A serial number as 40 hexadecimal digits."""
    return f"{certificate.serial_number:040x}"


def now() -> datetime:
    """The time in whole seconds, as certificates hold it."""
    return datetime.now(UTC).replace(microsecond=0)


def make_root(name: str, life: timedelta, at: datetime) -> Issued:
    """A self-signed root that signs end-entity certificates and revocation lists, and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(subject, subject, key.public_key(), at - SKEW, at + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
    )
    return Issued(builder.sign(key, hashes.SHA256()), key)


def make_certificate(
    root: Issued, subject: Subject, life: timedelta, at: datetime, key: ec.EllipticCurvePrivateKey | None = None
) -> Issued:
    """An end-entity certificate with a key; arguments as for `certify`.

    Args:
        key: of an earlier certificate, to go on with; a new one is made when None.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    return Issued(certify(root, subject, life, at, key.public_key()), key)


def certify(
    root: Issued, subject: Subject, life: timedelta, at: datetime, public: ec.EllipticCurvePublicKey
) -> x509.Certificate:
    """An end-entity certificate for a public key: serverAuth for a broker, clientAuth for everybody else.

    Args:
        life: from `at` on; cut off where the root ends.
    """
    usage = ExtendedKeyUsageOID.SERVER_AUTH if subject.kind == "broker" else ExtendedKeyUsageOID.CLIENT_AUTH
    signer = root.certificate
    until = min(at + life, signer.not_valid_after_utc)
    builder = (
        _builder(subject.distinguished(), signer.subject, public, at - SKEW, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(subject.alternatives()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority(signer), critical=False)
    )
    return builder.sign(root.key, hashes.SHA256())


@dataclass(frozen=True)
class Revoked:
    """An entry of a revocation list; serial in hexadecimal, time in seconds since 1970-01-01 UTC."""

    serial: str
    time: int
    reason: Reason


def make_crl(
    root: Issued, revoked: Iterable[Revoked], number: int, made: datetime, life: timedelta
) -> x509.CertificateRevocationList:
    """A revocation list.

    Args:
        number: grows with every list (RFC 5280, section 5.2.3).
        made: its thisUpdate: later than that of every list before, since OpenSSL keeps the one with the later date.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(made)
        .next_update(made + life)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority(root.certificate), critical=False)
    )
    for one in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(int(one.serial, 16))
            .revocation_date(datetime.fromtimestamp(one.time, UTC))
        )
        if one.reason != "unspecified":  # RFC 5280, section 5.3.1: absent rather than unspecified
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags[one.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(root.key, hashes.SHA256())


def common_name(certificate: x509.Certificate) -> str:
    """The first common name of the subject; empty when there is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses of a broker's certificate, in its order."""
    names: Sequence[x509.GeneralName] = list(
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    )
    return tuple(str(name.value) for name in names)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    # random_serial_number: positive, at most 20 bytes, 159 random bits (RFC 5280, section 4.1.2.2).
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(signer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
