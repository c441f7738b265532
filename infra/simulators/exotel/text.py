"""SMS parts, as a network counts them.

Source: 3GPP TS 23.038 (GSM 7-bit alphabet and its extension table): 160 septets in one part and 153 in each
of several; UCS-2: 70 and 67 code units; neither an extension pair nor a surrogate pair is split.
"""

from __future__ import annotations

from typing import Final

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")


def is_plain(text: str) -> bool:
    """Whether the GSM 7-bit alphabet has every character."""
    return all(each in _BASIC or each in _EXTENSION for each in text)


def units(text: str) -> int:
    """Number of parts of a text; 1 for an empty one."""
    if is_plain(text):
        widths, single, several = [2 if each in _EXTENSION else 1 for each in text], 160, 153
    else:
        widths, single, several = [2 if ord(each) > 0xFFFF else 1 for each in text], 70, 67
    if sum(widths) <= single:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > several:
            parts, used = parts + 1, 0
        used += width
    return parts
