"""Text typed in a Hindi font from before Unicode: Kruti Dev, DevLys, Chanakya and their kin. Pure.

Such a font draws Devanagari for Latin letters, so the file holds `Jherh vk'kk nsoh` where the screen shows
श्रीमती आशा देवी. That is no encoding, and no detector of encodings knows it; read as it stands, it would
be stored as the person's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# Kruti Dev 010 and DevLys 010: half letters are punctuation that a `k` (the bar of aa) completes.
_KRUTI_PAIR: Final = re.compile(
    r"""[\[{?"<]k|'kk|(?<!\S)'k|'k(?!\S)|/kk|(?<!\S)[HF]k|[A-Za-z];[a-z]|(?<!\S);[a-z]|[a-z]~[a-z]"""
)
_COMMON: Final = """
nsoh dqekj dqekjh flag flUgk jke ;kno izlkn pkS/kjh feJ feJk ik.Ms; mik/;k; frokjh 'kekZ oekZ xqIrk Jherh Jh
ikloku eka>h lkg lkgq lkuh iVsy egrks [kkrwu valkjh vyh vgen eksgEen csxe iklh jfonkl jtd Bkdqj lquhrk lathr
jkts'k jes'k lqjs'k egs'k fnus'k eqds'k lat; fot; v'kksd eatq lhrk xhrk jhrk vfurk lfjrk jktsUnz lqjsUnz
ujsUnz fou; pUnz yky nkl eksgu jkgqy
jk; eaMy vkye vuhrk eatw eukst fdj.k lquhy iwue js.kq vt; vfuy laxhrk ehuk lguh yfyrk bUnq eerk jhuk mfeZyk
jatq cchrk uhye izeksn f'ko fouksn lq'khyk fnyhi fueZyk iafMr v#.k lhek :ch fiadh eqUuh ftrsanz misUnz ekyrh
vCnqy egsUnz ljkst lqfe=kk vatq vjfoUn jatu lksuh lfork jathr fjadq izoh.k cSBk jkuh jkepUnz ehjk uhrw vkjk
gqlSu dfUr fcjsUnz dapu izfeyk /kesZUnz pank xk;=kh jfoUnz lquSuk tk; iadt ';ke oh.kk jktdqekj fjadh jktq
ykyckcw latho lqeu jgeku esgrk vkjrh nhid xksiky lkfo=kh csch ikBd lkgw ukxsUnz iqtk jktho lq/khj latw dqUrh
vpZuk jkf/kdk izse ohjsUnz fpUrk ekyk iznhi vfer ckuks eqewZ e/kq bUnzk jkes'oj uhjt fcUnq jkekuan pUnu
vatuh vthr VaVh foHkk vkuan lq'khy dfork foey vejsanz ghjk izfrek ykyrh nsosUnz lqcks/k iIiq euksjek izseyrk
jkS'ku xkSjh jkenso foeyk mn; fxjh nwcs ukjk;.k izHkk jkeukFk dkes'oj lhrkjke gjsUnz uwru jatuk dYiuk
"""
_KRUTI_WORDS: Final = frozenset(_COMMON.split())
_HIGH: Final = re.compile(
    "[\u00a1-\u00ff\u0152\u0153\u0160\u0161\u0178\u0192\u02c6\u02dc\u2013-\u203a\u2122]"
)
_WORD: Final = re.compile(r"\S+")
_ENOUGH: Final = 0.1
_FEWEST: Final = 2
"""Share and number of a column's cells in a legacy font from which the whole file is refused: of names in
such a font only some are recognised, and of others none."""


def is_legacy(text: str) -> bool:
    """Whether a name was typed in such a font."""
    words = _WORD.findall(text)
    if any(word in _KRUTI_WORDS for word in words) or _KRUTI_PAIR.search(text):
        return True
    return len(_HIGH.findall(text)) * 10 > len(text.replace(" ", "")) * 6  # Chanakya, Shusha, APS


def mostly_legacy(names: Iterable[str]) -> bool:
    """Whether a column of names was."""
    filled = [name for name in names if name.strip()]
    found = sum(map(is_legacy, filled))
    return found >= _FEWEST and found >= _ENOUGH * len(filled)
