"""Bytes become text: the encoding is found from the bytes themselves, and decoding streams."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import webencodings

from bimo.core.errors import RecipeError

SAMPLE = 1 << 20  # bytes that are looked at to find an encoding
CUT = 1 << 17  # samples of this size or more may end within a character
_BOMS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_MAGIC = (
    (b"%PDF", "a PDF; save its text first"), (b"\x89PNG", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"), (b"PK\x03\x04", "a zip archive or an office document without the ending .zip"),
    (b"\xd0\xcf\x11\xe0", "an office document; save its text first"), (b"\x7fELF", "a program"), (b"MZ\x90", "a program"),
    (b"\x1f\x8b", "gzip data without the ending .gz"), (b"\x28\xb5\x2f\xfd", "zstd data without the ending .zst"),
    (b"BZh", "bzip2 data; unpack it first"), (b"\xfd7zXZ", "xz data; unpack it first"), (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"SQLite format 3", "a database"), (b"PAR1", "Parquet data without the ending .parquet"), (b"GGUF", "a model"),
)  # fmt: skip
_CONTROL = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
# The most frequent Chinese characters, simplified and traditional: a wrong decoding hits them by chance only.
_COMMON = frozenset(
    "，。、；：？！《》“”‘’（）—…　"
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让认算论百吃义科怎元社术结六功指思非流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞观争究包组造落视济喜离虽坐集编宝谈府拉黑且随格尽剑讲布杀微怕母调局根曾准团段终乐切级克精哪官示冲竟乎男举客证苦照注费足尔招群热推晚响称兴待约阳哥惊吗整支古汉突号绝选吧参刊亚复伤类备欢另港势刻星断陈掌农夜般念价脑规底故省妈刚句显消衣陆器确破具居批送泽紧帮线存愿奇害增杨料州节左装易著急久低岁需酒河初游严铁族除份敢胡血企仍投闻斗纪脚右苏标饭云病医阿答土况境软考娘村刀击仅查引朝育续独罗买户护喝朋供责项背余希卫列图室乱刘爷龙咱章席错兄暗创排春须承案忙呼树仁"
    "這來國個們為時會過學對麼後還發經頭開長從動兩樣現將與實點種聲話間電東機給幾業關並內軍產萬體處總場師書員華報馬張難應親務題風戰幹許覺請愛讓認論義術結連遠資隊帶條變聯權領傳紅決達辦運區眾輕語滿識極黃臉錢黨設雙歷單據導影網專觀爭組視濟雖編寶談盡劍講調準團終樂級舉證費爾熱響稱興約陽驚嗎漢號絕選亞復傷類備歡勢斷陳農夜價腦規剛顯陸確緊幫線願"
)


_WIDER = {"gbk": "gb18030"}  # browsers decode it so: Python's codec of this name knows fewer characters


_NO_CHARSET = ("punycode", "idna", "unicode_escape", "raw_unicode_escape")  # Python's codecs of ASCII that stands for other text


class Unreadable(Exception):  # a finding, not a fault: it becomes a line of the report
    """Why a file, or what follows in it, cannot be read."""


@dataclass
class Found:
    """The encoding of a file, filled while it is decoded."""

    encoding: str = "utf-8"
    replaced: int = 0  # sequences that are no text in this encoding and became U+FFFD


def decode_blocks(chunks: Iterable[bytes], found: Found, declared: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """Text of successive byte chunks; binary data raises `Unreadable`.

    encoding: what the user states (a label that `codec_of` knows), obeyed whatever the bytes are. declared: what the file
    states of itself: evidence only. Without `encoding` a byte-order mark decides; ASCII is passed on as it is until the first
    other byte, and there up to a megabyte is looked at. Bytes that do not fit become U+FFFD and are counted in `found.replaced`.

    >>> found = Found()
    >>> "".join(decode_blocks([b"abc ", "今天天气很好".encode("gb18030")], found)), found.encoding
    ('abc 今天天气很好', 'gb18030')
    """
    source = iter(chunks)
    head = _lookahead(source, b"")
    if not head:
        return
    if encoding is not None:
        codec = refuse_unknown_encoding(encoding) or ""
        # A mark of the same family is no text, and decides the byte order of "utf-16".
        mark, encoding = next(((m, e) for m, e in _BOMS if head.startswith(m) and e[:6] == codec[:6]), (b"", codec))
    else:
        mark, encoding = next(((m, e) for m, e in _BOMS if head.startswith(m)), (b"", ""))
    if not mark and not encoding:
        encoding = _wide_without_mark(head)
        refuse_binary(head) if not encoding else None
    data = head[len(mark) :]
    if not encoding:
        while data.isascii():
            yield data.decode("ascii")
            data = next(source, b"")
            if not data:
                return
        data = _lookahead(source, data)
        encoding = detect(data, declared)
    found.encoding = encoding
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while data:
        yield _counted(decoder.decode(data), data, found)
        data = next(source, b"")
    rest = decoder.decode(b"", final=True)
    if rest:
        yield _counted(rest, b"", found)


def codec_of(label: str) -> str | None:
    """The Python codec that a label of an encoding means, as browsers read labels; None where it names no text encoding.

    >>> codec_of("ISO-8859-1"), codec_of("gb2312"), codec_of("utf-16"), codec_of("cp437"), codec_of("base64")
    ('cp1252', 'gb18030', 'utf-16-le', 'cp437', None)
    """
    try:
        known = webencodings.lookup(label) or webencodings.lookup(codecs.lookup(label).name)
        codec = codecs.lookup(label).name if known is None or known.name == "replacement" else _WIDER.get(known.name, known.codec_info.name)
        "A".encode(codec)  # refuses "undefined", and what is no text encoding, such as base64
    except (LookupError, ValueError):
        return None
    return None if codec in _NO_CHARSET else codec


def refuse_unknown_encoding(label: str | None) -> str | None:
    """The codec of a label that the user states; one that names no text encoding is a `RecipeError`."""
    codec = None if label is None else codec_of(label)
    if label is not None and codec is None:
        known = ("utf-8", "utf-16", "gb18030", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "windows-1251", "windows-1252", "latin-1")
        near = difflib.get_close_matches(label.lower(), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"encoding: unknown name {label!r}; {hint}Examples: {', '.join(known)}")
    return codec


def _counted(text: str, data: bytes, found: Found) -> str:
    if "\ufffd" in text:
        own = data.count("\ufffd".encode(found.encoding))  # U+FFFD that the file itself holds
        found.replaced += max(0, text.count("\ufffd") - own)
    return text


def _lookahead(source: Iterator[bytes], data: bytes) -> bytes:
    parts, size = [data], len(data)
    while size < SAMPLE:
        more = next(source, b"")
        if not more:
            break
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def refuse_binary(head: bytes) -> None:
    """Raise `Unreadable` where the first bytes of a file are no text."""
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise Unreadable(f"binary: {what}")
    sample = head[:65536]
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    if controls * 20 > len(sample):
        raise Unreadable(f"binary: {controls / len(sample):.0%} of its first bytes are control characters")


def _wide_without_mark(head: bytes) -> str:
    """UTF-16 without a mark shows as NUL at every other byte; "" where it does not."""
    sample = head[:4096]
    sample = sample[: len(sample) // 2 * 2]
    if len(sample) < 8:
        return ""
    even, odd = sample[::2].count(0) * 2 / len(sample), sample[1::2].count(0) * 2 / len(sample)
    if odd > 0.3 and even < 0.02:
        return "utf-16-le"
    return "utf-16-be" if even > 0.3 and odd < 0.02 else ""


def detect(sample: bytes, declared: str | None = None) -> str:
    """The encoding of bytes without a byte-order mark: UTF-8 where that is possible, else the likeliest.

    >>> detect("naïve café".encode("utf-8")), detect("繁體中文的書".encode("big5")), detect("café".encode("latin-1"))
    ('utf-8', 'big5hkscs', 'cp1252')
    """
    text = _decoded(sample, "utf-8")
    if text is not None:
        return "utf-8"
    lenient = sample.decode("utf-8", "replace")
    wrong = lenient.count("\ufffd")
    if wrong * 20 <= len(re.sub("[\x00-\x7f\ufffd]", "", lenient)):
        return "utf-8"  # damaged here and there
    if declared and _decoded(sample, declared) is not None:
        return declared
    score, likely = max(((_commonness(sample, e), e) for e in ("gb18030", "big5hkscs", "euc_jp", "cp932")), key=lambda pair: pair[0])
    if score > 0.25:
        return likely
    guess = _guess(sample)
    if guess:
        return guess
    return "cp1252" if _decoded(sample, "cp1252") is not None else "latin-1"


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The sample in this encoding, whose last character may be cut where it is long; None where it does not fit."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample, final=len(sample) < CUT)
    except (UnicodeDecodeError, LookupError):
        return None


def _commonness(sample: bytes, encoding: str) -> float:
    """The share of frequent characters among all that are not ASCII (0 where the encoding does not fit)."""
    text = _decoded(sample[:CUT], encoding)
    if text is None:
        return 0.0
    wide = re.sub("[\x00-\x7f]", "", text)
    kana = len(re.findall("[\u3041-\u30f6]", wide)) if encoding in ("euc_jp", "cp932") else 0
    return (kana + sum(c in _COMMON for c in wide)) / len(wide) if wide else 0.0


def _guess(sample: bytes) -> str | None:
    """What charset-normalizer makes of the lines that are not ASCII."""
    from charset_normalizer import from_bytes

    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    best = from_bytes(b"\n".join(lines)[: 1 << 14]).best()
    if best is None or best.encoding.startswith(("ascii", "utf")):
        return None
    western = _decoded(sample, "cp1252")
    if western is not None and best.encoding.startswith(("cp", "latin", "iso8859", "mac", "hp")):
        # Single-byte guesses are weak on little text: where Windows-1252 reads as Western words, take that.
        letters = re.findall("[^\x00-\x7f]", western)
        if sum(c in "àâäáãåæçèéêëìíîïñòóôöõøœùúûüýÿßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØŒÙÚÛÜÝ’‘“”–—…«»°§·€£©®" for c in letters) >= 0.9 * len(
            letters
        ) and any(re.search("[A-Za-z]", word) for word in western.split() if not word.isascii()):
            return "cp1252"
    return best.encoding
