"""Text files: the lines of one, a folder of them whose subfolders are the labels, and detection of their encoding."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.data.readers.data_file import DataFile, Record, Records, changed, empty
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.files import digest_file

_SAMPLE = 1 << 17
#: Words of Western languages mix letters of ASCII and others; those of another script are of others alone.
_WORD, _OTHER_WORD, _OTHER_SCRIPT = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*"), re.compile(rb"[\x80-\xff]{2,}"), 0.8
#: Encodings of one byte a letter, each with the commonest small letters of a language: they make more than half of its texts.
_LETTERS = {
    "cp1251": "оеаинтсрвлк",
    "koi8-r": "оеаинтсрвлк",
    "cp1253": "αοιετσνηυρκπς",
    "cp1255": "יוהלאמרתבש",
    "cp1256": "اليمنورتبعة",
    "cp874": "านรกอเงมยลส่้ทว",
}
#: Common characters of Chinese, in each of its scripts.
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正"
    "业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东"
    "声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山"
    "金指请账单订款货您谢退登录号码服客"
)
_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
    "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正"
    "業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西月話合回特代內信表化老給世位次度門任常先海通教兒原東"
    "請帳單訂款貨您謝退登錄號碼服客"
)
_KANA = re.compile("[\u3040-\u30ff]")
#: The 2,350 syllables of KS X 1001, of two bytes beyond ASCII: those that Microsoft added begin as one accented letter before a plain one.
_HANGUL = re.compile(
    f"[{bytes(byte for lead in range(0xB0, 0xC9) for last in range(0xA1, 0xFF) for byte in (lead, last)).decode('euc_kr')}]"
)
#: Encodings of several bytes a letter, with what their texts are full of, and how much of it there is at least.
_WIDE = (
    ("cp932", _KANA, 0.2),
    ("euc_jp", _KANA, 0.2),
    ("cp949", _HANGUL, 0.8),
    ("gb18030", re.compile(f"[{_SIMPLIFIED}]"), 0.3),
    ("big5", re.compile(f"[{_TRADITIONAL}]"), 0.3),
)
_NARROW_LEAST = 0.5
#: Encodings of Latin letters that are none of the West, with the letters beyond ASCII that a language has, and those without which no text
#: of it is long. All small ones; hardly a letter is another one.
_LATIN = (
    *(
        (codec, letters, needed)
        for letters, needed in (
            ("ąćęłńóśźż", "łę"),
            ("áčďéěíňóřšťúůýž", "řě"),
            ("áäčďéíĺľňóôŕšťúýž", "čľ"),
            ("áéíóöőúüű", "őé"),
            ("čćžšđ", "čš"),
            ("ăâîşţșț", "ăţ"),
        )
        for codec in ("cp1250", "iso8859-2")
    ),
    ("cp1254", "çğıöşüâîû", "ğı"),
    ("cp1257", "ąčęėįšųūž", "ėš"),
    ("cp1257", "āčēģīķļņšūž", "āī"),
)
_LATIN_LEAST, _NEEDED_LEAST = 0.97, 0.02
#: A byte beyond ASCII between two of ASCII: of a Western text nearly all are, of another one few. Different letters that one has at least.
_BEYOND, _LONE, _FEWEST_LETTERS = re.compile(rb"[\x80-\xff]+"), 0.8, 4
#: What hardly stands in a text of any of them: numbers and marks of another script, capitals within a word.
_RARE = re.compile("[\u0e2f\u0e45\u0e4e-\u0e5b\u0e03\u0e05]|(?<=[а-яά-ώ])[А-ЯΆ-Ώ]")


def legacy_encoding(path: Path) -> str | None:
    """The encoding of a text in Cyrillic, Greek, Hebrew, Arabic, Thai, Chinese, Japanese or Korean, or in a language of Central Europe,
    Turkish or Baltic, that is no UTF-8; None where its letters look Western, or like none of these. The whole file decodes."""
    with path.open("rb") as stream:
        sample = stream.read(_SAMPLE)
    runs = _BEYOND.findall(sample)
    lone = sum(len(run) == 1 for run in runs) > _LONE * len(runs)
    likely = (None if lone else _wide(sample) or _narrow(sample)) or _latin(sample)
    return likely if likely and _file_decodes(path, likely) else None


def _latin(sample: bytes) -> str | None:
    """Of Latin letters that are none of the West, as Czech or Turkish has them: nearly all of those in the text are of one language, and
    the ones that it needs are among them."""
    found, beyond = list[tuple[float, str]](), sample.translate(None, bytes(range(128)))
    for name, letters, needed in _LATIN:
        others = [letter for letter in _decoded(beyond, name).casefold() if not letter.isascii() and _is_letter(letter)]
        counts = Counter(others)
        share = sum(counts[letter] for letter in letters) / max(1, len(others))
        enough = sum(counts[letter] > 0 for letter in letters) >= _FEWEST_LETTERS
        if enough and share >= _LATIN_LEAST and all(counts[letter] >= _NEEDED_LEAST * len(others) > 0 for letter in needed):
            found.append((share, name))
    return max(found, key=lambda each: each[0])[1] if found else None


def _is_letter(letter: str) -> bool:
    """What stands beside words in any language says nothing; controls, and what is a letter in another encoding, tell against this one."""
    return letter.isalpha() or "\x80" <= letter <= "\x9f" or letter in "¹²³¼½¾¿±¶"


def _wide(sample: bytes) -> str | None:
    found = list[tuple[float, str]]()
    for name, mark, least in _WIDE:
        text = _decoded(sample, name)
        if (share := _share(text, mark)) >= least and len(set(mark.findall(text))) >= _FEWEST_LETTERS:
            found.append((share / least, name))
    return max(found)[1] if found else None


def _narrow(sample: bytes) -> str | None:
    words = _WORD.findall(sample)
    if sum(_OTHER_WORD.fullmatch(word) is not None for word in words) < _OTHER_SCRIPT * len(words):
        return None
    marks = {name: re.compile(f"[{letters}]") for name, letters in _LETTERS.items()}
    texts = {name: _decoded(sample, name) for name in marks}
    found = {name: _share(text, marks[name]) - _share(text, _RARE) for name, text in texts.items()}
    best = max(found, key=lambda name: found[name])
    enough = len(set(marks[best].findall(texts[best]))) >= _FEWEST_LETTERS
    return best if enough and found[best] >= _NARROW_LEAST else None


def _share(text: str, mark: re.Pattern[str]) -> float:
    """Which part of the letters beyond ASCII ``mark`` finds."""
    others = sum(letter.isalpha() or not letter.isprintable() for letter in text if not letter.isascii())
    return len(mark.findall(text)) / others if others else 0.0


def _decoded(sample: bytes, name: str) -> str:
    """Nothing where the bytes are none of the encoding. The sample may end within a letter."""
    try:
        return codecs.getincrementaldecoder(name)().decode(sample, final=False)
    except UnicodeDecodeError:
        return ""


def _file_decodes(path: Path, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


_BLOCK = 1 << 20

#: Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Control characters that no text has; bytes that Windows-1252 does not use.
_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}
_NOT_CP1252 = frozenset({0x81, 0x8D, 0x8F, 0x90, 0x9D})


def guess_encoding(path: Path) -> str | None:
    """``utf-8``, ``utf-16``, ``utf-32`` (by their mark, or by where zeros stand), that of another script (``legacy_encodings``),
    ``cp1252`` or ``latin-1``; None for binary content.

    Reads the whole file, a block at a time: a letter that is no UTF-8 may stand at its very end.
    """
    with path.open("rb") as stream:
        start = stream.read(4096)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    return marked or _by_zeros(start) or ("utf-8" if _is_utf8(path) else _single_byte(path))


def _by_zeros(start: bytes) -> str | None:
    """UTF-16 without a mark: of most letters of Western languages every second byte is zero."""
    odd, even = start[1::2], start[::2]
    if len(odd) > 1 and odd.count(0) > 0.6 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > 0.6 * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path):
            if 0 in block:
                return False
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _single_byte(path: Path) -> str | None:
    used: set[int] = set()
    for block in _blocks(path):
        used.update(block)
    if used & _CONTROLS:
        return None
    if other := legacy_encoding(path):
        return other
    return "latin-1" if used & _NOT_CP1252 else "cp1252"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


#: A line of more characters than this is no line of a text file; nothing longer is ever in memory.
LONGEST_LINE = 100_000_000


def text_lines(file: DataFile, ends: Literal["", "\n"]) -> Iterator[str]:
    r"""The lines of ``file`` with their ends, without a byte order mark; ``ends`` is ``""`` where ``\r`` ends one too.

    Raises DataInvalid when the file is blank, binary, or not written in its encoding, and for a line that is too long to be one.
    """
    blank, number = True, 0
    try:
        with file.path.open(encoding=_codec(file), newline=ends) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                _check(file, number, line)
                blank = blank and not line.strip(" \t\r\n\ufeff")
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        place = _line_that_is_no_text(file) if file.encoding.lower() == "utf-8" else number + 1
        message = f"{file.name}:{place}: not {file.encoding.upper()}"
        raise DataInvalid(message, _encoding_hint(file), code="file_encoding") from error
    if blank:
        raise empty(file.name)


def _check(file: DataFile, number: int, line: str) -> None:
    if "\0" in line:
        raise DataInvalid(f"{file.name}:{number}: binary content, not text", _encoding_hint(file), code="file_binary")
    if len(line) > LONGEST_LINE:
        message = f"{file.name}:{number}: a line of more than {LONGEST_LINE:,} characters"
        raise DataInvalid(message, "write one record a line; split documents before", code="line_too_long")


def _codec(file: DataFile) -> str:
    try:
        name = codecs.lookup(file.encoding).name
    except LookupError as error:
        message = f"{file.name}: there is no encoding {file.encoding!r}"
        raise DataInvalid(message, "use utf-8, utf-16, cp1252, latin-1, ...", code="file_encoding") from error
    return "utf-8-sig" if name == "utf-8" else name


def _line_that_is_no_text(file: DataFile) -> int:
    """The first line that does not decode: the decoder itself knows only its place in a block."""
    with file.path.open("rb") as stream:
        return next((number for number, line in enumerate(stream, start=1) if not _decodes(line)), 0)


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encoding_hint(file: DataFile) -> str:
    likely = guess_encoding(file.path)
    if likely is None:
        return "this is no text file; save the data as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"
    if likely == "utf-8":
        return "save the file as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"
    return f"save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8'), or set `encoding: {likely}` if that is what it is"


FOLDER = "folder"
SUFFIX = ".txt"
#: What counts as a text file.
SUFFIXES = (SUFFIX, ".md")
#: A file of more bytes than this is no single text.
LARGEST = 16_000_000


@contextmanager
def open_folder(name: str, path: Path) -> Iterator[DataFile]:
    """The folder at ``path``; its digest covers every file's path and bytes. Raises DataInvalid when it holds no text file."""
    files = _files(path)
    if not any(file.suffix.lower() in SUFFIXES for file in files):
        hint = (
            f"put each text into a file of its own, LABEL/NAME{SUFFIX}; other files of a folder are sources of their own, one by one, as "
            "`tailorbird init --from FOLDER` writes them"
        )
        raise DataInvalid(f"{name}: the folder has no {SUFFIX} file", hint, code="file_empty")
    try:
        digests = {str(file.relative_to(path)): digest_file(file) for file in files}
    except OSError as error:
        message = f"{name}: {error.filename} cannot be read: {error.strerror}"
        raise DataInvalid(message, "make every file of the folder readable", code="file_missing") from error
    yield DataFile(name, path, digest_of(digests), FOLDER)


def read_folder(folder: DataFile, _: Collection[str]) -> Records:
    """A record a text file, in the order of their paths: ``text``, and ``label`` for those in a sub-folder.

    Files of other kinds, and those that are no UTF-8, are set aside. Raises DataInvalid when a file changes while it is read.
    """
    read: dict[str, str] = {}
    for path in _files(folder.path):
        inside = path.relative_to(folder.path)
        data = path.read_bytes() if path.stat().st_size <= LARGEST else None
        digest = digest_file(path) if data is None else digest_bytes(data)
        file = DataFile(f"{folder.name.rstrip('/')}/{inside.as_posix()}", path, digest, SUFFIX)
        read[str(inside)] = file.digest
        yield _record(file, inside, data)
    if digest_of(read) != folder.digest:
        raise changed(folder.name)


def _record(file: DataFile, inside: Path, data: bytes | None) -> Record | Quarantined:
    if inside.suffix.lower() not in SUFFIXES:
        return Quarantined(file=file.name, line=1, code="file_kind", reason=f"the file does not end in {' or '.join(SUFFIXES)}")
    if data is None:
        return Quarantined(file=file.name, line=1, code="file_too_large", reason=f"the file has more than {LARGEST:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Quarantined(file=file.name, line=1, code="file_encoding", reason="the file is not UTF-8 text")
    if "\0" in text:
        return Quarantined(file=file.name, line=1, code="file_binary", reason="binary content, not text")
    label = inside.parts[0] if len(inside.parts) > 1 else None
    return Record(1, {"text": text, "label": label}, file)


def _files(folder: Path) -> list[Path]:
    """Every file below ``folder`` that is not hidden; links are not followed out of it."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
