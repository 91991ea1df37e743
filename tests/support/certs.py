"""Throw-away certificates, made by openssl as a user would make them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


def self_signed(directory: Path, name: str, *more: str) -> KeyPair:
    """A self-signed server certificate for the host `name` (and `more`), as private registries have them."""
    names = ",".join(f"DNS:{each}" for each in (name, *more))
    pair = KeyPair(certificate=directory / f"{name}.crt", key=directory / f"{name}.key")
    made = ["-keyout", str(pair.key), "-out", str(pair.certificate), "-days", "30", "-subj", f"/CN={name}"]
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *made, "-addext", f"subjectAltName={names}")
    return pair


def seed_recipe(directory: Path) -> KeyPair:
    """df.crt and df.key by the recipe of the user's document (a subject is given, so that openssl asks nothing).

    What comes out is no certificate authority, so it is shown as it is for every host.
    """
    protected, key = directory / "df.pass.key", directory / "df.key"
    request, certificate = directory / "df.csr", directory / "df.crt"
    _openssl("genrsa", "-des3", "-passout", "pass:x", "-out", str(protected), "2048")
    _openssl("rsa", "-passin", "pass:x", "-in", str(protected), "-out", str(key))
    protected.unlink()
    _openssl("req", "-new", "-key", str(key), "-out", str(request), "-subj", "/CN=dragonfly")
    signing = ["-signkey", str(key), "-out", str(certificate)]
    _openssl("x509", "-req", "-sha256", "-days", "365", "-in", str(request), *signing)
    request.unlink()
    return KeyPair(certificate=certificate, key=key)


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {words[0]}: {done.stderr}"
