"""Signs models with an Ed25519 key: `thimble pack --sign KEY.pem`; the extra `sign` brings `cryptography`.

`openssl genpkey -algorithm ed25519 -out KEY.pem` makes a key. A device is given the public part, 32 bytes:
`openssl pkey -in KEY.pem -pubout -outform DER | tail -c 32 > model.thimble.key`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from model_packager.container_write import Signer
from model_packager.errors import UsageError


def load_signer(path: str | Path) -> Signer:
    """What signs a file's bytes before the trailer: an Ed25519 signature of their SHA-256 (docs/FORMAT.md).

    Raises:
        UsageError: `cryptography` is not installed, or the file holds no Ed25519 key without a password.
        OSError: the file cannot be read.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise UsageError("signing needs the extra `sign`: pip install 'thimble-runtime[sign]'") from error
    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no PEM file with an Ed25519 private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} holds a private key, but not an Ed25519 one")
    private = key
    return lambda before_trailer: private.sign(hashlib.sha256(before_trailer).digest())
