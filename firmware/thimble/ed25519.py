"""Verifies an Ed25519 signature (RFC 8032) of a SHA-256: what thimble.slots asks when a key is provisioned.

Only public numbers go through here, so that nothing has to take the same time for all of them. MicroPython's
own integers do the arithmetic modulo p.
"""

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)  # of -1
_WORD = 2**64 - 1


def _fraction(prime, degree):
    """The first 64 bits behind the point of a prime's square root (2) or cube root (3)."""
    target = prime << 64 * degree
    root = 0
    for bit in range(72, -1, -1):
        if (root | 1 << bit) ** degree <= target:
            root |= 1 << bit
    return root & _WORD


def _primes(count):
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _rotate(x, bits):
    return (x >> bits | x << 64 - bits) & _WORD


def _sha512(message):
    """SHA-512 (FIPS 180-4) of at most 111 bytes, which is one block; as a little-endian integer."""
    padding = b"\x80" + bytes(119 - len(message))
    block = message + padding + (8 * len(message)).to_bytes(8, "big")
    w = [int.from_bytes(block[at : at + 8], "big") for at in range(0, 128, 8)]
    primes = _primes(80)
    start = [_fraction(prime, 2) for prime in primes[:8]]
    a, b, c, d, e, f, g, h = start
    for index, prime in enumerate(primes):
        if index > 15:
            x, y = w[index - 15], w[index - 2]
            x = _rotate(x, 1) ^ _rotate(x, 8) ^ x >> 7
            y = _rotate(y, 19) ^ _rotate(y, 61) ^ y >> 6
            w.append(w[index - 16] + x + w[index - 7] + y & _WORD)
        t = h + (_rotate(e, 14) ^ _rotate(e, 18) ^ _rotate(e, 41)) + (e & f ^ ~e & g)
        t += _fraction(prime, 3) + w[index]
        u = (_rotate(a, 28) ^ _rotate(a, 34) ^ _rotate(a, 39)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = t + u & _WORD, a, b, c, d + t & _WORD, e, f, g
    digest = b"".join((x + y & _WORD).to_bytes(8, "big") for x, y in zip(start, (a, b, c, d, e, f, g, h)))
    return int.from_bytes(digest, "little")


def _add(p, q):
    """The sum of two points in extended coordinates (RFC 8032, section 5.1.4)."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _point(encoded):
    """The point that 32 bytes stand for (section 5.1.3); None if they stand for none."""
    y = int.from_bytes(encoded, "little")
    sign = y >> 255
    y &= 2**255 - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def verify(key, message, signature):
    """Whether `signature` (64 bytes) is that of `message` (at most 47 bytes) by the public `key` (32)."""
    point = _point(key) if len(key) == 32 and len(signature) == 64 else None
    s = int.from_bytes(signature[32:], "little")
    if point is None or s >= _ORDER:
        return False
    k = _sha512(signature[:32] + key + message) % _ORDER
    base = _point((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))
    negative = (_P - point[0], point[1], 1, _P - point[3])
    both = _add(base, negative)
    total = (0, 1, 1, 0)
    for bit in range(252, -1, -1):  # s * base - k * point, by Shamir's trick
        total = _add(total, total)
        which = (s >> bit & 1) + 2 * (k >> bit & 1)
        if which:
            total = _add(total, (base, negative, both)[which - 1])
    inverse = pow(total[2], _P - 2, _P)
    x, y = total[0] * inverse % _P, total[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]
