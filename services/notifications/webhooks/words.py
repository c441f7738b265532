"""Words that stop messages, and words that ask for them again, in English, Hindi and Hinglish. Pure.

Only the whole message counts: "We have got to STOP this bill" is no stop (Spoke, issue 1016). Case, spaces,
punctuation, emoji and the form of Unicode do not matter.
"""

from __future__ import annotations

import unicodedata
from enum import Enum
from typing import Final

from services.shared.text import clean

LONGEST: Final = 80
"""Characters of the longest message that can be such a word."""


class Wish(Enum):
    STOP = "stop"
    START = "start"


_STOP: Final = """
stop | stopall | stop all | stop it | stop now | stop please | please stop | pls stop | stop pls | plz stop
stop sms | stop msg | stop msgs | stop message | stop messages | stop messaging | stop messaging me
stop texting | stop texting me | stop whatsapp | unsubscribe | unsub | unsubscribe me | cancel | end | quit
opt out | optout | opt me out | remove | remove me | remove my number | dnd | do not disturb
do not message | do not message me | dont message | dont message me | no more messages | no more sms

band karo | band kro | band kr do | band kar do | band kardo | band kare | band karen | band karein
band kijiye | band karo please | please band karo | bandh karo | bandh kar do | bandh kardo | band
sms band karo | msg band karo | message band karo | messages band karo | sandesh band karo
roko | rok do | rokdo | rokein | rokiye | mat bhejo | mat bhejiye | mat bhejna | mat bheje
sms mat bhejo | msg mat bhejo | message mat bhejo | messages mat bhejo | message na bhejo | msg na bhejo
mujhe message mat bhejo | mujhe msg mat bhejo | nahi chahiye | nahin chahiye | nhi chahiye
message nahi chahiye | msg nahi chahiye | hatao | hata do | mujhe hatao | mujhe hata do | mera number hatao
mera number hata do

रोकें | रोको | रोकिए | रोकिये | रोक दो | रोक दें | बंद | बंद करो | बंद करें | बंद करे
बंद कर दो | बंद कर दें | बंद कीजिए | बंद कीजिये | बन्द | बन्द करो | बन्द करें | बन्द कर दो | बन्द कीजिए
संदेश बंद करो | संदेश बंद करें | सन्देश बन्द करें | मैसेज बंद करो | मैसेज बंद करें | एसएमएस बंद करो
एसएमएस बंद करें | मत भेजो | मत भेजें | मत भेजिए | मत भेजिये | संदेश मत भेजो | संदेश न भेजें | मैसेज मत भेजो
मैसेज मत भेजें | मैसेज न भेजें | मुझे मैसेज मत भेजो | मुझे संदेश मत भेजो | नहीं चाहिए | नहीं चाहिये
संदेश नहीं चाहिए | मैसेज नहीं चाहिए | हटाओ | हटाएं | हटा दो | मुझे हटाओ | मुझे हटा दो | मेरा नंबर हटाओ
मेरा नंबर हटा दो | स्टॉप | स्टाप | स्टौप | अनसब्सक्राइब | कैंसल | कैंसिल
"""

_START: Final = """
start | start again | restart | unstop | un stop | resume | subscribe | resubscribe | opt in | optin
start sms | start messages | start message
chalu karo | chalu kar do | chalu kare | chalu karen | chalu | chaalu karo | shuru karo | shuru kar do
shuru kare | shuru karen | shuru | phir se bhejo | fir se bhejo
चालू | चालू करो | चालू करें | चालू कर दो | चालू कीजिए | शुरू | शुरू करो | शुरू करें | शुरू कर दो | शुरू कीजिए
शुरु | शुरु करो | शुरु करें | फिर से भेजो | फिर से भेजें | स्टार्ट
"""


def plain(text: str) -> str:
    """The letters, marks and digits of a text in one form and one case, with single spaces between words."""
    folded = clean(unicodedata.normalize("NFKC", text)).casefold().replace("'", "").replace("\u2019", "")
    kept = (
        char if unicodedata.category(char)[0] in "LMN" else " "
        for char in unicodedata.normalize("NFC", folded)
    )
    return " ".join("".join(kept).split())


def _table(words: str) -> frozenset[str]:
    return frozenset(plain(word) for line in words.splitlines() for word in line.split("|") if word.strip())


STOPS: Final = _table(_STOP)
STARTS: Final = _table(_START)


def wish_of(text: str | None) -> Wish | None:
    """The wish that a whole message expresses, None for any other message."""
    if text is None or len(text) > LONGEST:
        return None
    said = plain(text)
    if said in STOPS:
        return Wish.STOP
    return Wish.START if said in STARTS else None
